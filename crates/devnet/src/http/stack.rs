//! Values on the stack of a get-method in the JSON of toncenter v2: `["num", "0x1f"]`, `["cell", {...}]` and so on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_ton::{BigInt, Cell, StackValue};
use serde_json::{Value, json};
use tycho_types::boc::Boc;

/// Nesting of tuples in arguments.
const MAX_DEPTH: usize = 16;
/// Digits of a number in an argument: 257 bits have 78 decimal digits.
const MAX_DIGITS: usize = 80;

pub(super) fn parse(value: &Value) -> Result<StackValue, String> {
    parse_nested(value, 0)
}

fn parse_nested(value: &Value, depth: usize) -> Result<StackValue, String> {
    if depth > MAX_DEPTH {
        return Err("stack values are nested too deeply".to_owned());
    }
    let (kind, content) = match value.as_array().map(Vec::as_slice) {
        Some([kind, content]) => (kind.as_str().unwrap_or_default(), content),
        Some([kind]) => (kind.as_str().unwrap_or_default(), &Value::Null),
        _ => return Err(format!("a stack value must be [type, value], not {value}")),
    };
    match kind {
        "null" => Ok(StackValue::Null),
        "num" | "number" | "int" => parse_number(content).map(StackValue::Int),
        "cell" | "tvm.Cell" => parse_cell(content).map(StackValue::Cell),
        "slice" | "tvm.Slice" => parse_cell(content).map(StackValue::Slice),
        "builder" | "tvm.Builder" => parse_cell(content).map(StackValue::Builder),
        "tuple" | "tvm.Tuple" => content
            .as_array()
            .ok_or_else(|| "a tuple must be a list of values".to_owned())?
            .iter()
            .map(|item| parse_nested(item, depth + 1))
            .collect::<Result<_, _>>()
            .map(StackValue::Tuple),
        other => Err(format!(
            "unknown stack type {other:?}; known are num, cell, slice, builder, tuple and null"
        )),
    }
}

fn parse_number(value: &Value) -> Result<BigInt, String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        other => return Err(format!("not a number: {other}")),
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let (radix, digits) = match digits.strip_prefix("0x") {
        Some(rest) => (16, rest),
        None => (10, digits),
    };
    if digits.is_empty() || digits.len() > MAX_DIGITS {
        return Err(format!(
            "not a number of at most {MAX_DIGITS} digits: {text:?}"
        ));
    }
    let number = BigInt::parse_bytes(digits.as_bytes(), radix)
        .ok_or_else(|| format!("not a number: {text:?}"))?;
    Ok(if negative { -number } else { number })
}

/// Base64 directly, or in an object under `bytes` or `b64`.
fn parse_cell(value: &Value) -> Result<Cell, String> {
    let text = value
        .as_str()
        .or_else(|| value["bytes"].as_str())
        .or_else(|| value["b64"].as_str())
        .ok_or_else(|| format!("a cell must be base64, not {value}"))?;
    let bytes = STANDARD
        .decode(text)
        .map_err(|e| format!("a cell is not base64: {e}"))?;
    Boc::decode(bytes).map_err(|e| format!("a cell is not a BOC: {e}"))
}

pub(super) fn render(value: &StackValue) -> Value {
    match value {
        StackValue::Null => json!(["null"]),
        StackValue::Nan => json!(["num", "NaN"]),
        StackValue::Int(number) => json!(["num", hexadecimal(number)]),
        StackValue::Cell(cell) => json!(["cell", {"bytes": Boc::encode_base64(cell)}]),
        StackValue::Slice(cell) => json!(["slice", {"bytes": Boc::encode_base64(cell)}]),
        StackValue::Builder(cell) => json!(["builder", {"bytes": Boc::encode_base64(cell)}]),
        StackValue::Tuple(items) => json!([
            "tuple",
            {
                "@type": "tvm.tuple",
                "elements": items.iter().map(render_element).collect::<Vec<_>>(),
            }
        ]),
    }
}

/// Inside tuples toncenter passes the types of tonlib on.
fn render_element(value: &StackValue) -> Value {
    match value {
        StackValue::Null => json!({"@type": "tvm.stackEntryNull"}),
        StackValue::Nan => json!({
            "@type": "tvm.stackEntryNumber",
            "number": {"@type": "tvm.numberDecimal", "number": "NaN"},
        }),
        StackValue::Int(number) => json!({
            "@type": "tvm.stackEntryNumber",
            "number": {"@type": "tvm.numberDecimal", "number": number.to_string()},
        }),
        StackValue::Cell(cell) => json!({
            "@type": "tvm.stackEntryCell",
            "cell": {"@type": "tvm.cell", "bytes": Boc::encode_base64(cell)},
        }),
        StackValue::Slice(cell) => json!({
            "@type": "tvm.stackEntrySlice",
            "slice": {"@type": "tvm.slice", "bytes": Boc::encode_base64(cell)},
        }),
        StackValue::Builder(cell) => json!({
            "@type": "tvm.stackEntryBuilder",
            "builder": {"@type": "tvm.builder", "bytes": Boc::encode_base64(cell)},
        }),
        StackValue::Tuple(items) => json!({
            "@type": "tvm.stackEntryTuple",
            "tuple": {
                "@type": "tvm.tuple",
                "elements": items.iter().map(render_element).collect::<Vec<_>>(),
            },
        }),
    }
}

fn hexadecimal(number: &BigInt) -> String {
    let digits = number.magnitude().to_str_radix(16);
    if number < &BigInt::from(0) {
        format!("-0x{digits}")
    } else {
        format!("0x{digits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_directions() {
        for (input, output) in [
            (json!(["num", "0x1f"]), json!(["num", "0x1f"])),
            (json!(["num", "-17"]), json!(["num", "-0x11"])),
            (json!(["num", 5]), json!(["num", "0x5"])),
        ] {
            assert_eq!(render(&parse(&input).unwrap()), output);
        }
    }

    #[test]
    fn cells_and_tuples() {
        let boc = Boc::encode_base64(Cell::default());
        let parsed = parse(&json!(["tuple", [["tvm.Cell", boc], ["null"]]])).unwrap();
        assert_eq!(
            parsed,
            StackValue::Tuple(vec![StackValue::Cell(Cell::default()), StackValue::Null])
        );
        assert_eq!(
            render(&parsed)[1]["elements"][0]["@type"],
            "tvm.stackEntryCell"
        );
    }

    #[test]
    fn wrong_values_are_explained() {
        for wrong in [
            json!(5),
            json!(["num"]),
            json!(["num", "0x"]),
            json!(["num", "9".repeat(81)]),
            json!(["cell", "!"]),
            json!(["tuple", 1]),
            json!(["cont", ""]),
        ] {
            assert!(!parse(&wrong).unwrap_err().is_empty(), "{wrong}");
        }
        let mut deep = json!(["null"]);
        for _ in 0..100 {
            deep = json!(["tuple", [deep]]);
        }
        assert!(parse(&deep).is_err());
    }
}
