//! What several tests need: the vector files and an interpreter of scheme declarations that is independent of
//! the generated Rust code.
#![allow(dead_code)]

pub mod scheme;

use serde_json::Value;

/// One entry of `protocol.json`.
pub struct Vector {
    pub name: String,
    pub bytes: Vec<u8>,
    pub decoded: Value,
}

pub fn vectors() -> Vec<Vector> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../vectors/protocol.json")).unwrap();
    all.iter()
        .map(|entry| Vector {
            name: text(&entry["name"]).to_owned(),
            bytes: hex::decode(text(&entry["hex"])).unwrap(),
            decoded: entry["decoded"].clone(),
        })
        .collect()
}

pub fn sessions() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../vectors/recorded-sessions.json")).unwrap();
    file["sessions"].as_array().unwrap().clone()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Name, id and whether the id is explicit, of every constructor of the specification.
pub fn specified_ids() -> Vec<(&'static str, u32, bool)> {
    include_str!("../vectors/constructor-ids.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let id = u32::from_str_radix(words[1], 16).unwrap();
            (words[0], id, words.get(2) == Some(&"explicit"))
        })
        .collect()
}

/// A small deterministic generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
