//! Reads declarations such as `tcp.query id:long data:bytes = tcp.Packet` and works on bytes by them alone.

use std::collections::BTreeMap;

use cocoon_tl::{Reader, write_bytes};
use cocoon_wire::msg::catalogue::CONSTRUCTORS;
use serde_json::Value;

use super::Random;

pub struct Field {
    pub name: String,
    pub kind: String,
    pub bit: Option<u32>,
}

pub struct Declaration {
    pub name: String,
    pub id: u32,
    pub fields: Vec<Field>,
    pub result: String,
}

pub struct Scheme {
    pub by_name: BTreeMap<String, Declaration>,
}

impl Scheme {
    pub fn new() -> Self {
        let declarations = CONSTRUCTORS.iter().map(|entry| {
            let declaration = Declaration::parse(entry.declaration, entry.id);
            (declaration.name.clone(), declaration)
        });
        Self {
            by_name: declarations.collect(),
        }
    }

    fn by_id(&self, id: u32) -> Option<&Declaration> {
        self.by_name
            .values()
            .find(|declaration| declaration.id == id)
    }

    /// The constructor of a bare type: the same name with a lower-case first letter.
    fn bare(&self, kind: &str) -> Option<&Declaration> {
        self.by_name.get(kind)
    }

    /// Reads a boxed object and compares it with its expected decoding.
    pub fn check_boxed(&self, reader: &mut Reader<'_>, expected: &Value) -> Result<(), String> {
        let id = reader.u32().map_err(|e| e.to_string())?;
        let declaration = self.by_id(id).ok_or(format!("unknown id {id:08x}"))?;
        if expected["@type"] != declaration.name.as_str() {
            return Err(format!("{} is not {}", declaration.name, expected["@type"]));
        }
        self.check_fields(declaration, reader, expected)
    }

    fn check_fields(
        &self,
        declaration: &Declaration,
        reader: &mut Reader<'_>,
        expected: &Value,
    ) -> Result<(), String> {
        let object = expected.as_object().ok_or("expected no object")?;
        let mut seen = 0;
        let mut flags = 0;
        for field in &declaration.fields {
            if field.bit.is_some_and(|bit| flags & (1 << bit) == 0) {
                if object.contains_key(&field.name) {
                    return Err(format!("{} should be absent", field.name));
                }
                continue;
            }
            let value = object
                .get(&field.name)
                .ok_or_else(|| format!("{} is not expected", field.name))?;
            seen += 1;
            if field.kind == "#" {
                flags = reader.clone().u32().map_err(|e| e.to_string())?;
            }
            self.check_value(&field.kind, reader, value)
                .map_err(|error| format!("{}: {error}", field.name))?;
        }
        let wanted = object.keys().filter(|key| !key.starts_with(['@', '$']));
        match wanted.count() == seen {
            true => Ok(()),
            false => Err("more fields are expected".into()),
        }
    }

    pub fn check_value(
        &self,
        kind: &str,
        reader: &mut Reader<'_>,
        expected: &Value,
    ) -> Result<(), String> {
        let fail = |error: cocoon_tl::TlError| error.to_string();
        let same = match kind {
            "int" => {
                let value = i32::from_le_bytes(reader.array().map_err(fail)?);
                expected.as_i64() == Some(value.into())
            }
            "#" => expected.as_u64() == Some(reader.nat().map_err(fail)?.into()),
            "long" => {
                let value = i64::from_le_bytes(reader.array().map_err(fail)?);
                expected.as_i64() == Some(value)
            }
            "double" => {
                let value = f64::from_le_bytes(reader.array().map_err(fail)?);
                expected.as_f64().is_some_and(|e| (e - value).abs() <= 1e-6)
            }
            "Bool" => {
                let id = reader.u32().map_err(fail)?;
                expected.as_bool() == Some(id == 0x9972_75b5)
            }
            "int256" => self.same_bytes(reader.take(32).map_err(fail)?, expected)?,
            "string" | "bytes" => self.same_bytes(reader.bytes().map_err(fail)?, expected)?,
            _ => return self.check_compound(kind, reader, expected),
        };
        match same {
            true => Ok(()),
            false => Err(format!("is not {expected}")),
        }
    }

    fn check_compound(
        &self,
        kind: &str,
        reader: &mut Reader<'_>,
        expected: &Value,
    ) -> Result<(), String> {
        if let Some(element) = kind.strip_prefix("vector ") {
            let count = reader.u32().map_err(|e| e.to_string())?;
            let expected = expected.as_array().ok_or("expected no vector")?;
            if expected.len() != count as usize {
                return Err(format!("{count} elements instead of {}", expected.len()));
            }
            return expected
                .iter()
                .try_for_each(|expected| self.check_value(element, reader, expected));
        }
        match self.bare(kind) {
            Some(declaration) => self.check_fields(declaration, reader, expected),
            None => self.check_boxed(reader, expected),
        }
    }

    /// Bytes are given as text, as `$hex`, or as the object that they contain.
    fn same_bytes(&self, data: &[u8], expected: &Value) -> Result<bool, String> {
        if let Some(text) = expected.as_str() {
            return Ok(text.as_bytes() == data);
        }
        if let Some(hex) = expected["$hex"].as_str() {
            return Ok(hex == hex::encode(data));
        }
        let mut reader = Reader::new(data);
        self.check_boxed(&mut reader, expected)?;
        reader.finish().map_err(|e| e.to_string())?;
        Ok(true)
    }

    /// A random object in boxed form.
    pub fn random_boxed(&self, name: &str, random: &mut Random, out: &mut Vec<u8>) {
        let declaration = &self.by_name[name];
        out.extend_from_slice(&declaration.id.to_le_bytes());
        self.random_fields(declaration, random, out);
    }

    fn random_fields(&self, declaration: &Declaration, random: &mut Random, out: &mut Vec<u8>) {
        let mut flags = 0;
        for field in &declaration.fields {
            if field.bit.is_some_and(|bit| flags & (1 << bit) == 0) {
                continue;
            }
            if field.kind == "#" {
                flags = random.next() as u32 & 0x7fff_ffff;
                out.extend_from_slice(&flags.to_le_bytes());
            } else {
                self.random_value(&field.kind, random, out);
            }
        }
    }

    fn random_value(&self, kind: &str, random: &mut Random, out: &mut Vec<u8>) {
        match kind {
            "int" => out.extend_from_slice(&random.next().to_le_bytes()[..4]),
            "long" | "double" => out.extend_from_slice(&random.next().to_le_bytes()),
            "int256" => (0..4).for_each(|_| out.extend_from_slice(&random.next().to_le_bytes())),
            "Bool" => {
                let ids = [0x9972_75b5_u32, 0xbc79_9737];
                out.extend_from_slice(&ids[random.below(2) as usize].to_le_bytes());
            }
            // Letters only: a `string` must be UTF-8.
            "string" | "bytes" => {
                let len = [0, 1, 3, 4, 253, 254, 300][random.below(7) as usize];
                let data: Vec<u8> = (0..len).map(|_| b'a' + random.below(26) as u8).collect();
                write_bytes(&data, out);
            }
            _ => {
                if let Some(element) = kind.strip_prefix("vector ") {
                    let count = random.below(4) as u32;
                    out.extend_from_slice(&count.to_le_bytes());
                    (0..count).for_each(|_| self.random_value(element, random, out));
                } else if let Some(declaration) = self.bare(kind) {
                    self.random_fields(declaration, random, out);
                } else {
                    let of_type = |d: &&Declaration| d.result == kind;
                    let all: Vec<_> = self.by_name.values().filter(of_type).collect();
                    let one = all[random.below(all.len() as u64) as usize];
                    self.random_boxed(&one.name, random, out);
                }
            }
        }
    }
}

impl Declaration {
    fn parse(text: &str, id: u32) -> Self {
        let (head, result) = text.split_once(" = ").unwrap();
        let mut words = head.split(' ');
        let name = words.next().unwrap().split('#').next().unwrap().to_owned();
        let mut fields: Vec<Field> = Vec::new();
        for word in words {
            let Some((field, kind)) = word.split_once(':') else {
                // The element type of `vector T`.
                let vector = fields.last_mut().unwrap();
                vector.kind = format!("{} {word}", vector.kind);
                continue;
            };
            let (bit, kind) = match kind.strip_prefix("flags.") {
                Some(conditional) => {
                    let (bit, kind) = conditional.split_once('?').unwrap();
                    (Some(bit.parse().unwrap()), kind)
                }
                None => (None, kind),
            };
            fields.push(Field {
                name: field.to_owned(),
                kind: kind.to_owned(),
                bit,
            });
        }
        Self {
            name,
            id,
            fields,
            result: result.to_owned(),
        }
    }
}
