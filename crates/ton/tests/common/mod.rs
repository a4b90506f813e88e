//! Access to the contract vectors: values as they are written there, and cells by their hash.
#![allow(dead_code)] // Every test binary uses its own part.

use std::collections::HashMap;

use cocoon_ton::abi::Params;
use cocoon_ton::{Address, Cell, boc};
use serde_json::Value;

pub struct Vectors {
    pub json: Value,
    by_hash: HashMap<String, Cell>,
}

impl Vectors {
    pub fn load() -> Self {
        let json: Value = serde_json::from_str(include_str!("../vectors/contracts.json")).unwrap();
        let mut by_hash = HashMap::new();
        collect(&json, &mut by_hash);
        Self { json, by_hash }
    }

    pub fn section(&self, name: &str) -> &Vec<Value> {
        self.json[name].as_array().unwrap()
    }

    /// A cell named `cell:<hash>`, or the name of an entry in `cells`.
    pub fn cell(&self, value: &Value) -> Cell {
        let name = value.as_str().unwrap();
        if let Some(hash) = name.strip_prefix("cell:") {
            return self.by_hash[hash].clone();
        }
        let entry = self.section("cells").iter().find(|c| c["name"] == name);
        cell(entry.unwrap())
    }

    pub fn code(&self, contract: &str) -> Cell {
        cell(&self.json["constants"]["placeholder_code"][contract])
    }

    pub fn key(&self, name: &str) -> [u8; 32] {
        bytes(&self.json["constants"]["keys"][name]["public_key"])
    }

    pub fn address(&self, name: &str) -> Address {
        addr(&self.json["constants"]["addresses"][name])
    }

    pub fn params(&self, name: &str) -> Params {
        Params::decode(&self.cell(&Value::from(name))).unwrap()
    }
}

fn collect(value: &Value, into: &mut HashMap<String, Cell>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(map) => {
            if map.contains_key("boc_hex") && map.contains_key("hash") {
                into.insert(map["hash"].as_str().unwrap().to_owned(), cell(value));
            }
            map.values().for_each(|item| collect(item, into));
        }
        _ => {}
    }
}

/// The cell of an entry, with its hash and depth checked.
pub fn cell(entry: &Value) -> Cell {
    let bytes = hex::decode(entry["boc_hex"].as_str().unwrap()).unwrap();
    let cell = boc::decode(&bytes, boc::STATE).unwrap();
    // The order of cells in a bag is free; what counts is that our form reads back to the same cell.
    assert_eq!(boc::decode(&boc::encode(&cell), boc::STATE).unwrap(), cell);
    assert_eq!(hash(&cell), entry["hash"].as_str().unwrap());
    assert_eq!(
        u64::from(cell.repr_depth()),
        entry["depth"].as_u64().unwrap()
    );
    cell
}

pub fn hash(cell: &Cell) -> String {
    hex::encode(cell.repr_hash().0)
}

pub fn addr(value: &Value) -> Address {
    value.as_str().unwrap().parse().unwrap()
}

/// A number written as a number, a decimal text or a hexadecimal text; 0 if absent.
pub fn number(value: &Value) -> u128 {
    match value {
        Value::Null => 0,
        Value::Number(n) => n.as_u64().unwrap().into(),
        Value::String(s) => match s.strip_prefix("0x") {
            Some(digits) => u128::from_str_radix(digits, 16).unwrap(),
            None => s.parse().unwrap(),
        },
        other => panic!("not a number: {other}"),
    }
}

pub fn u64_of(value: &Value) -> u64 {
    number(value).try_into().unwrap()
}

pub fn u32_of(value: &Value) -> u32 {
    number(value).try_into().unwrap()
}

/// Bytes as a hex text or a JavaScript Buffer.
pub fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    if let Some(text) = value.as_str() {
        return hex::decode(text).unwrap().try_into().unwrap();
    }
    let data = value["data"].as_array().unwrap();
    let data: Vec<u8> = data.iter().map(|b| b.as_u64().unwrap() as u8).collect();
    data.try_into().unwrap()
}

/// A 256-bit number as 32 bytes.
pub fn u256(value: &Value) -> [u8; 32] {
    let mut out = [0; 32];
    out[16..].copy_from_slice(&number(value).to_be_bytes());
    out
}
