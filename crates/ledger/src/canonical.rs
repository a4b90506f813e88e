//! JSON in one canonical form: compact, keys sorted bytewise.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

/// Writes a value compactly with object keys sorted bytewise, whatever order serde_json's map keeps.
///
/// Sorting is done here because another crate of the build may turn on serde_json's `preserve_order`.
#[must_use]
pub fn to_canonical_json(value: &Value) -> Vec<u8> {
    // Writing a `Value` into memory cannot fail: keys are strings and there are no foreign Serialize impls.
    serde_json::to_vec(&Sorted(value)).unwrap_or_default()
}

struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(&Sorted(item))?;
                }
                seq.end()
            }
            Value::Object(members) => {
                let mut entries: Vec<_> = members.iter().collect();
                entries.sort_unstable_by_key(|entry| entry.0);
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, item) in entries {
                    map.serialize_entry(key, &Sorted(item))?;
                }
                map.end()
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_level() {
        let value: Value = serde_json::from_str(r#"{"b":[{"z":1,"a":"ä\n"}],"a":null}"#).unwrap();
        assert_eq!(
            to_canonical_json(&value),
            r#"{"a":null,"b":[{"a":"ä\n","z":1}]}"#.as_bytes()
        );
    }
}
