//! The small types of which policy files are made: bytes in hexadecimal, lists of allowed values, masks.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Verdict;

/// Longest list in a policy: more than any network has images, small enough to compare at every handshake.
pub const MAX_LIST_LEN: usize = 4_096;

/// A fixed number of bytes, written as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes<const N: usize>(pub [u8; N]);

impl<const N: usize> Bytes<N> {
    /// All zero.
    pub const ZERO: Self = Bytes([0; N]);

    /// Whether every byte is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; N]
    }
}

impl<const N: usize> fmt::Display for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut out = [0; N];
        match hex::decode_to_slice(&text, &mut out) {
            Ok(()) => Ok(Bytes(out)),
            Err(_) => {
                let found: String = text.chars().take(200).collect();
                let expected = format!("{} hexadecimal digits", N * 2);
                Err(D::Error::invalid_value(
                    Unexpected::Str(&found),
                    &expected.as_str(),
                ))
            }
        }
    }
}

/// Which values are allowed. In a file the key is left out to allow any; an empty list is refused, because one reader
/// takes it for "any" and the next for "none".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowList<T> {
    /// Not looked at.
    #[default]
    Any,
    /// One of these; never empty.
    Only(Vec<T>),
}

impl<T: PartialEq + fmt::Display> AllowList<T> {
    /// Whether nothing is demanded; such a key is left out of a file.
    #[must_use]
    pub fn is_any(&self) -> bool {
        matches!(self, AllowList::Any)
    }

    /// Whether `found` is allowed.
    #[must_use]
    pub fn allows(&self, found: &T) -> bool {
        match self {
            AllowList::Any => true,
            AllowList::Only(list) => list.contains(found),
        }
    }

    /// Adds the comparison with `found` to a verdict; a field that nobody restricts is shown and passes.
    pub fn check(&self, verdict: &mut Verdict, field: &'static str, found: &T) {
        verdict.check(field, self.allows(found), self, found);
    }
}

impl<T: fmt::Display> fmt::Display for AllowList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowList::Any => f.write_str("any"),
            AllowList::Only(list) => write_one_of(f, list),
        }
    }
}

/// At most three values are written out: an error has to stay readable.
fn write_one_of<T: fmt::Display>(f: &mut fmt::Formatter<'_>, list: &[T]) -> fmt::Result {
    match list {
        [] => f.write_str("nothing"),
        [one] => fmt::Display::fmt(one, f),
        [first, rest @ ..] => {
            write!(f, "one of {first}")?;
            for value in rest.iter().take(2) {
                write!(f, ", {value}")?;
            }
            match rest.len().saturating_sub(2) {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        }
    }
}

impl<T: Serialize> Serialize for AllowList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            AllowList::Any => serializer.serialize_none(),
            AllowList::Only(list) => list.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + PartialEq> Deserialize<'de> for AllowList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = distinct(deserializer)?;
        if list.is_empty() {
            return Err(D::Error::custom(
                "an empty list allows nothing: leave the key out to allow any value",
            ));
        }
        Ok(AllowList::Only(list))
    }
}

/// Reads a list of at most [`MAX_LIST_LEN`] values, none of them twice.
pub fn distinct<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de> + PartialEq,
    D: Deserializer<'de>,
{
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + PartialEq> Visitor<'de> for List<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut out: Vec<T> = Vec::new();
            while let Some(value) = seq.next_element()? {
                if out.len() == MAX_LIST_LEN {
                    return Err(A::Error::custom(format!(
                        "the list has more than {MAX_LIST_LEN} values"
                    )));
                }
                if out.contains(&value) {
                    let place = out.len() + 1;
                    return Err(A::Error::custom(format!(
                        "value {place} of the list occurs twice"
                    )));
                }
                out.push(value);
            }
            Ok(out)
        }
    }
    deserializer.deserialize_seq(List(PhantomData))
}

/// 64 bits as `0x…`, for attribute masks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mask(pub u64);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_prefix("0x")
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Mask)
            .ok_or_else(|| {
                let found: String = text.chars().take(40).collect();
                D::Error::invalid_value(Unexpected::Str(&found), &"a mask like \"0x10000000\"")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> Result<AllowList<Bytes<2>>, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn lists_are_read_strictly() {
        let two = list(r#"["0102","ffFF"]"#).unwrap();
        assert_eq!(two, AllowList::Only(vec![Bytes([1, 2]), Bytes([255; 2])]));
        assert!(two.allows(&Bytes([1, 2])) && !two.allows(&Bytes([1, 3])));
        for (json, expected) in [
            ("[]", "leave the key out"),
            ("null", "a list"),
            ("\"0102\"", "a list"),
            (r#"["0102","0102"]"#, "twice"),
            (r#"["01"]"#, "4 hexadecimal digits"),
            (r#"["0x0102"]"#, "4 hexadecimal digits"),
            ("[5]", "a string"),
        ] {
            let error = list(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let many: Vec<String> = (0..=MAX_LIST_LEN as u16)
            .map(|i| format!("\"{i:04x}\""))
            .collect();
        let error = list(&format!("[{}]", many.join(","))).unwrap_err();
        assert!(error.contains("more than"), "{error}");
    }

    #[test]
    fn masks_are_read_strictly() {
        let read = |json: &str| serde_json::from_str::<Mask>(json).map_err(|e| e.to_string());
        assert_eq!(read("\"0x10000000\"").unwrap(), Mask(1 << 28));
        for json in [
            "\"10\"",
            "\"0x\"",
            "\"0x+1\"",
            "\"0x11111111111111111\"",
            "16",
            "\"0X1\"",
        ] {
            read(json).unwrap_err();
        }
    }
}
