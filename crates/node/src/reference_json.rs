//! JSON as the reference's configuration files have it (protocol.md 9.1).
//!
//! A member may be missing; numbers may be decimal strings; 32-byte values are base64. Members that nobody read are
//! handed back by name, because the reference ignores them silently and a misspelt one is then a riddle.
//!
//! Errors name the member and say what kind of value was found, never the value of a text: it may be a key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

/// Members of one object; the reference's largest type has 24.
const MAX_MEMBERS: usize = 256;
/// Elements of one list. Real registries have dozens.
const MAX_ELEMENTS: usize = 10_000;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: expected {expected}, found {found}")]
pub struct FieldError {
    /// The member, such as `registered_proxies[1].address`.
    pub place: String,
    /// What should have been there.
    pub expected: String,
    /// What was there; for texts only their kind and length.
    pub found: String,
}

/// A JSON object whose members are taken one after the other.
#[derive(Debug)]
pub struct Object {
    place: String,
    members: Vec<(String, Value)>,
}

struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if pairs.len() >= MAX_MEMBERS {
                        return Err(A::Error::custom("more than 256 members"));
                    }
                    if pairs.iter().any(|(known, _)| *known == name) {
                        let name = name.escape_debug();
                        return Err(A::Error::custom(format!(
                            "the member \"{name}\" stands twice"
                        )));
                    }
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        input.deserialize_map(Members)
    }
}

impl Object {
    /// Reads a whole file.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let members = serde_json::from_str::<Pairs>(text).map_err(|e| FieldError {
            place: format!("line {}, column {}", e.line(), e.column()),
            expected: "one JSON object".to_owned(),
            found: describe(&e),
        })?;
        Ok(Object {
            place: String::new(),
            members: members.0,
        })
    }

    fn of(place: String, value: Value) -> Result<Self, FieldError> {
        match value {
            Value::Object(map) => Ok(Object {
                place,
                members: map.into_iter().collect(),
            }),
            other => Err(wrong(&place, "an object", &other)),
        }
    }

    fn at(&self, name: &str) -> String {
        match self.place.as_str() {
            "" => name.to_owned(),
            place => format!("{place}.{name}"),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.members.iter().position(|(n, _)| n == name)?;
        Some(self.members.swap_remove(index).1)
    }

    /// An error about a member that was read but cannot be used.
    pub fn refuse(
        &self,
        name: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> FieldError {
        FieldError {
            place: self.at(name),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// A number of 64 bits, or its decimal text.
    pub fn long(&mut self, name: &str) -> Result<Option<i64>, FieldError> {
        let place = self.at(name);
        self.take(name)
            .map(|value| integer(&place, &value))
            .transpose()
    }

    /// A number of 32 bits, or its decimal text.
    pub fn int(&mut self, name: &str) -> Result<Option<i32>, FieldError> {
        let Some(value) = self.long(name)? else {
            return Ok(None);
        };
        i32::try_from(value).map(Some).map_err(|_| {
            self.refuse(
                name,
                "a number from -2147483648 to 2147483647",
                value.to_string(),
            )
        })
    }

    /// A number from 0 to `max`.
    pub fn unsigned(&mut self, name: &str, max: u32) -> Result<Option<u32>, FieldError> {
        let Some(value) = self.long(name)? else {
            return Ok(None);
        };
        match u32::try_from(value) {
            Ok(value) if value <= max => Ok(Some(value)),
            _ => Err(self.refuse(name, format!("a number from 0 to {max}"), value.to_string())),
        }
    }

    /// true or false, or a number: anything but 0 is true.
    pub fn bool(&mut self, name: &str) -> Result<Option<bool>, FieldError> {
        let place = self.at(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(value) => match integer(&place, &value) {
                Ok(number) => Ok(Some(number != 0)),
                Err(_) => Err(wrong(&place, "true or false", &value)),
            },
        }
    }

    /// A member of our own, as it is.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.take(name)
    }

    /// A text.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        let place = self.at(name);
        self.take(name)
            .map(|value| string(&place, value))
            .transpose()
    }

    /// 32 bytes in base64 with the standard alphabet.
    pub fn int256(&mut self, name: &str) -> Result<Option<[u8; 32]>, FieldError> {
        let place = self.at(name);
        self.take(name)
            .map(|value| int256(&place, value))
            .transpose()
    }

    /// A list of 32-byte values; empty if missing.
    pub fn int256_list(&mut self, name: &str) -> Result<Vec<[u8; 32]>, FieldError> {
        self.list(name, int256)
    }

    /// A list of texts; empty if missing.
    pub fn string_list(&mut self, name: &str) -> Result<Vec<String>, FieldError> {
        self.list(name, string)
    }

    /// A list of objects; empty if missing.
    pub fn object_list(&mut self, name: &str) -> Result<Vec<Object>, FieldError> {
        self.list(name, |place, value| Object::of(place.to_owned(), value))
    }

    fn list<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str, Value) -> Result<T, FieldError>,
    ) -> Result<Vec<T>, FieldError> {
        let place = self.at(name);
        let items = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(wrong(&place, "a list", &other)),
        };
        if items.len() > MAX_ELEMENTS {
            let found = format!("{} of them", items.len());
            return Err(self.refuse(name, format!("at most {MAX_ELEMENTS} elements"), found));
        }
        items
            .into_iter()
            .enumerate()
            .map(|(i, value)| read(&format!("{place}[{i}]"), value))
            .collect()
    }

    /// Names of the members that were not taken, sorted. `@type` says nothing and is left out.
    pub fn unread(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .members
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| name != "@type")
            .collect();
        names.sort();
        names
    }
}

fn integer(place: &str, value: &Value) -> Result<i64, FieldError> {
    let number = match value {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => s.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| wrong(place, "a whole number of at most 64 bits", value))
}

fn string(place: &str, value: Value) -> Result<String, FieldError> {
    match value {
        Value::String(s) => Ok(s),
        other => Err(wrong(place, "a text in quotes", &other)),
    }
}

fn int256(place: &str, value: Value) -> Result<[u8; 32], FieldError> {
    const EXPECTED: &str = "32 bytes in base64 (44 characters)";
    let Value::String(text) = &value else {
        return Err(wrong(place, EXPECTED, &value));
    };
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| wrong(place, EXPECTED, &value))?;
    let found = bytes.len();
    bytes.try_into().map_err(|_| FieldError {
        place: place.to_owned(),
        expected: EXPECTED.to_owned(),
        found: format!("base64 of {found} bytes"),
    })
}

fn wrong(place: &str, expected: &str, value: &Value) -> FieldError {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        // Long ones are cut: the file is not ours.
        Value::Number(n) => format!("the number {n:.40}"),
        Value::String(s) => format!("a text of {} characters", s.chars().count()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    FieldError {
        place: place.to_owned(),
        expected: expected.to_owned(),
        found,
    }
}

/// What the parser says, without the values it quotes.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match text.split_once("invalid type: ") {
        Some((_, rest)) => match rest.split(['"', '`', ' ']).next() {
            Some(kind) if !kind.is_empty() => format!("a {kind}"),
            _ => "something else".to_owned(),
        },
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> Object {
        Object::parse(text).unwrap()
    }

    #[test]
    fn values_in_all_their_forms() {
        let key = STANDARD.encode([7u8; 32]);
        let text = format!(
            r#"{{"a": 5, "b": "-6", "c": true, "d": "1", "e": 0, "f": "x", "g": "{key}", "h": ["{key}"], "@type": "t", "z": [], "y": 1}}"#
        );
        let mut o = object(&text);
        assert_eq!(o.int("a").unwrap(), Some(5));
        assert_eq!(o.long("b").unwrap(), Some(-6));
        assert_eq!(o.bool("c").unwrap(), Some(true));
        assert_eq!(o.bool("d").unwrap(), Some(true));
        assert_eq!(o.bool("e").unwrap(), Some(false));
        assert_eq!(o.string("f").unwrap().as_deref(), Some("x"));
        assert_eq!(o.int256("g").unwrap(), Some([7; 32]));
        assert_eq!(o.int256_list("h").unwrap(), [[7; 32]]);
        assert_eq!(o.int("missing").unwrap(), None);
        assert!(o.object_list("missing").unwrap().is_empty());
        assert_eq!(o.unread(), ["y", "z"]);
    }

    #[test]
    fn errors_name_the_member_and_keep_texts_to_themselves() {
        let secret = "hunter2hunter2";
        let text = format!(
            r#"{{"int": "{secret}", "bool": "{secret}", "key": "{secret}", "big": 4294967296, "text": 5, "list": ["{secret}"], "null": null}}"#
        );
        let mut o = object(&text);
        let errors = [
            o.int("int").unwrap_err(),
            o.bool("bool").unwrap_err(),
            o.int256("key").unwrap_err(),
            o.int("big").unwrap_err(),
            o.string("text").unwrap_err(),
            o.int256_list("list").unwrap_err(),
            o.string("null").unwrap_err(),
        ];
        let places = ["int", "bool", "key", "big", "text", "list[0]", "null"];
        for (error, place) in errors.iter().zip(places) {
            assert_eq!(error.place, place);
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
        assert!(errors[3].to_string().contains("4294967296"));
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        for (text, part) in [
            ("", "line 1"),
            ("[1]", "object"),
            ("\"hunter2\"", "object"),
            ("{\"a\": 1,\n \"a\": 2}", "\"a\" stands twice"),
            ("{\"a\": 1,", "line 1"),
            ("{} {}", "line 1"),
        ] {
            let error = Object::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter"), "{error}");
        }
        assert!(Object::parse(&"[".repeat(100_000)).is_err());
        let many: Vec<String> = (0..=MAX_MEMBERS).map(|i| format!("\"m{i}\":0")).collect();
        assert!(Object::parse(&format!("{{{}}}", many.join(","))).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}", name in "[a-c]") {
            if let Ok(mut o) = Object::parse(&text) {
                let _ = o.int(&name);
            }
        }

        #[test]
        fn arbitrary_values_never_panic(n in any::<i128>(), f in any::<f64>(), s in ".{0,60}") {
            for value in [n.to_string(), serde_json::json!(f).to_string(), serde_json::json!(s).to_string()] {
                let text = format!("{{\"v\": {value}}}");
                for read in 0..6 {
                    let mut o = object(&text);
                    let _ = match read {
                        0 => o.int("v").map(drop),
                        1 => o.long("v").map(drop),
                        2 => o.bool("v").map(drop),
                        3 => o.int256("v").map(drop),
                        4 => o.unsigned("v", 10).map(drop),
                        _ => o.object_list("v").map(drop),
                    };
                }
            }
        }
    }
}
