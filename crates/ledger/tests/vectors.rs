//! The billing and validation vectors of the specification.

use cocoon_ledger::usage::{Mode, Multipliers, Prices, TokensUsed, UsageCounter};
use cocoon_ledger::validate::{Rules, validate};
use cocoon_ledger::{AdjustedTokens, Coefficient, ModelTokens, Multiplier, NanoTon, adjust};
use serde_json::Value;

fn vectors(prefix: &str) -> Vec<(String, Value)> {
    let all: Value = serde_json::from_str(include_str!("vectors/protocol.json")).unwrap();
    let list = all
        .as_array()
        .or_else(|| all["vectors"].as_array())
        .expect("a list of vectors");
    list.iter()
        .filter_map(|vector| {
            Some((
                vector["name"].as_str()?.to_owned(),
                vector["decoded"].clone(),
            ))
        })
        .filter(|(name, _)| name.starts_with(prefix))
        .collect()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("not a count: {value}"))
}

fn prices(vector: &Value) -> Prices {
    let multiplier = |name: &str| Multiplier(number(&vector["multipliers"][name]) as u32);
    Prices {
        multipliers: Multipliers {
            prompt: multiplier("prompt"),
            cached: multiplier("cached"),
            completion: multiplier("completion"),
            reasoning: multiplier("reasoning"),
        },
        price_per_token: NanoTon(number(&vector["price_per_token"]).into()),
        coefficient: Coefficient::new(number(&vector["coefficient"]) as u32).unwrap(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn pieces(vector: &Value) -> impl Iterator<Item = &str> {
    vector["input_chunks"].as_array().unwrap().iter().map(text)
}

#[test]
fn adjusting() {
    let found = vectors("billing_adjust_tokens");
    assert_eq!(found.len(), 1);
    let cases = found[0].1["cases"].as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let coefficient = Coefficient::new(number(&case["coefficient"]) as u32).unwrap();
        let multiplier = Multiplier(number(&case["multiplier"]) as u32);
        let adjusted = adjust(
            ModelTokens(number(&case["tokens"])),
            coefficient,
            multiplier,
        );
        assert_eq!(
            adjusted,
            AdjustedTokens(number(&case["adjusted"])),
            "{case}"
        );
    }
}

#[test]
fn reference_counter() {
    let found = vectors("billing_counter_");
    assert_eq!(found.len(), 7);
    for (name, vector) in found {
        let mut counter = UsageCounter::new(Mode::Reference, prices(&vector));
        let expected = vector["output_per_chunk"].as_array().unwrap();
        for (piece, expected) in pieces(&vector).zip(expected) {
            let out = counter.push(piece.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), text(expected), "{name}");
        }
        let rest = String::from_utf8(counter.finish()).unwrap();
        assert_eq!(rest, text(&vector["output_finalize"]), "{name}");
        let usage: TokensUsed = serde_json::from_value(vector["usage"].clone()).unwrap();
        assert_eq!(counter.usage(), usage, "{name}");
    }
}

/// The streaming counter bills what the reference bills, and event streams as well.
#[test]
fn streaming_counter_bills_the_same() {
    for (name, vector) in vectors("billing_counter_") {
        let mut counter = UsageCounter::new(Mode::Streaming, prices(&vector));
        let mut out = Vec::new();
        for piece in pieces(&vector) {
            out.extend(counter.push(piece.as_bytes()));
        }
        out.extend(counter.finish());
        let expected: TokensUsed = if name == "billing_counter_sse" {
            TokensUsed {
                prompt: 5,
                completion: 7,
                total: 12,
                ..Default::default()
            }
        } else {
            serde_json::from_value(vector["usage"].clone()).unwrap()
        };
        assert_eq!(counter.usage(), expected, "{name}");
        if name == "billing_counter_json" || name == "billing_counter_multipliers" {
            let ours: Value = serde_json::from_slice(&out).unwrap();
            let reference: Value =
                serde_json::from_str(text(&vector["output_per_chunk"][0])).unwrap();
            assert_eq!(ours, reference, "{name}");
        }
    }
}

#[test]
fn validation() {
    let found = vectors("validate_");
    assert_eq!(found.len(), 9);
    for (name, vector) in found {
        let (url, body) = (text(&vector["url"]), text(&vector["body"]));
        let result = validate(url, body.as_bytes(), "m", Rules::Reference, None);
        if vector["ok"] == true {
            let request = result.unwrap();
            assert_eq!(request.model, text(&vector["model"]), "{name}");
            assert_eq!(
                String::from_utf8(request.body).unwrap(),
                text(&vector["new_body"]),
                "{name}"
            );
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.to_string(), text(&vector["error"]), "{name}");
            assert_eq!(
                i64::from(error.code()),
                vector["code"].as_i64().unwrap(),
                "{name}"
            );
        }
    }
}
