//! What a caller says about the worker: the member `provider` of the body, and headers (docs/market.md).

use axum::http::HeaderMap;
use cocoon_ledger::rank::Sort;
use serde_json::{Map, Value};

use crate::api_error::ApiError;
use crate::wishes::{self, MAX_RETRIES, Wishes};

/// Headers that say the same as the members; a member wins.
const SORT: &str = "x-cocoon-sort";
const ALLOW: &str = "x-cocoon-allow";
const EXCLUDE: &str = "x-cocoon-exclude";
const RETRIES: &str = "x-cocoon-retries";
const MAX_COEFFICIENT: &str = "x-cocoon-max-coefficient";
/// Headers of these names end at this client.
pub const OWN_HEADERS: &str = "x-cocoon-";

/// Members that were given, so that headers do not replace them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// What is wanted.
    pub wishes: Wishes,
    sort: bool,
    allow: bool,
    exclude: bool,
}

/// Takes `provider` out of a body.
pub fn take(map: &mut Map<String, Value>) -> Result<Given, ApiError> {
    let mut given = Given::default();
    let members = match map.remove("provider") {
        None | Some(Value::Null) => return Ok(given),
        Some(Value::Object(members)) => members,
        Some(_) => {
            let text = "\"provider\" must be an object, for example {\"sort\": \"price\"}";
            return Err(ApiError::invalid("invalid_type", text).with_param("provider"));
        }
    };
    for (name, value) in members {
        let param = format!("provider.{name}");
        let wrong = |text: String| ApiError::invalid("invalid_value", text).with_param(&param);
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("sort", Value::String(s)) => {
                given.wishes.sort = sort(&s).map_err(wrong)?;
                given.sort = true;
            }
            // The names that other routers have for the same.
            ("allow" | "only", Value::Array(list)) => {
                given.wishes.allow = owners(&param, &list).map_err(wrong)?;
                given.allow = true;
            }
            ("exclude" | "ignore", Value::Array(list)) => {
                given.wishes.exclude = owners(&param, &list).map_err(wrong)?;
                given.exclude = true;
            }
            ("retries", v) => {
                let n = v.as_u64().filter(|n| *n <= u64::from(MAX_RETRIES));
                let n = n.ok_or_else(|| wrong(retries_text(&param)))?;
                given.wishes.retries = Some(n as u32);
            }
            ("sort", _) => return Err(wrong(sort_text())),
            ("allow" | "only" | "exclude" | "ignore", _) => {
                return Err(wrong(format!(
                    "\"{param}\" must be a list of owner addresses of workers"
                )));
            }
            _ => {
                return Err(wrong(format!(
                    "\"{param}\" is not known; there are sort, allow, exclude and retries"
                )));
            }
        }
    }
    Ok(given)
}

/// Adds what headers say and the body did not. Returns the price limit of a header, if there is one.
pub fn take_headers(given: &mut Given, headers: &HeaderMap) -> Result<Option<u32>, ApiError> {
    let text = |name: &str| -> Result<Option<String>, ApiError> {
        headers
            .get(name)
            .map(|v| v.to_str().map(|s| s.trim().to_owned()))
            .transpose()
            .map_err(|_| wrong_header(name, "must be plain text".to_owned()))
    };
    if let Some(s) = text(SORT)?
        && !given.sort
    {
        given.wishes.sort = sort(&s).map_err(|e| wrong_header(SORT, e))?;
    }
    for (name, is_given, list) in [
        (ALLOW, given.allow, &mut given.wishes.allow),
        (EXCLUDE, given.exclude, &mut given.wishes.exclude),
    ] {
        if let Some(s) = text(name)?
            && !is_given
        {
            let parts: Vec<&str> = s
                .split(',')
                .map(str::trim)
                .filter(|p| !p.is_empty())
                .collect();
            *list = wishes::addresses(name, &parts).map_err(|e| wrong_header(name, e))?;
        }
    }
    if let Some(s) = text(RETRIES)?
        && given.wishes.retries.is_none()
    {
        let n = s.parse().ok().filter(|n| *n <= MAX_RETRIES);
        let n = n.ok_or_else(|| wrong_header(RETRIES, retries_text(RETRIES)))?;
        given.wishes.retries = Some(n);
    }
    let Some(s) = text(MAX_COEFFICIENT)? else {
        return Ok(None);
    };
    let limit = super::request::MAX_COEFFICIENT;
    let n = s.parse::<u32>().ok().filter(|n| u64::from(*n) <= limit);
    n.map(Some).ok_or_else(|| {
        let text = format!("\"{MAX_COEFFICIENT}\" must be a whole number from 0 to {limit}");
        wrong_header(MAX_COEFFICIENT, text)
    })
}

fn wrong_header(name: &str, text: String) -> ApiError {
    ApiError::invalid("invalid_header", text).with_param(name)
}

fn sort(name: &str) -> Result<Sort, String> {
    Sort::from_name(name).ok_or_else(sort_text)
}

fn sort_text() -> String {
    let names: Vec<&str> = Sort::NAMES.iter().map(|(n, _)| *n).collect();
    format!("the order of workers must be one of {}", names.join(", "))
}

fn retries_text(param: &str) -> String {
    format!("\"{param}\" must be a whole number from 0 to {MAX_RETRIES}")
}

fn owners(param: &str, list: &[Value]) -> Result<Vec<cocoon_ton::Address>, String> {
    let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    let texts = texts.ok_or_else(|| format!("\"{param}\" must be a list of texts"))?;
    wishes::addresses(param, &texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_ton::Address;
    use serde_json::json;

    fn read(provider: Value) -> Result<Given, ApiError> {
        let mut map = Map::from_iter([("provider".to_owned(), provider)]);
        let given = take(&mut map);
        assert!(map.is_empty(), "nothing of it travels to the engine");
        given
    }

    #[test]
    fn members_are_read() {
        let (a, b) = (Address::basechain([1; 32]), Address::basechain([2; 32]));
        let given = read(json!({
            "sort": "latency", "allow": [a.to_text(false, true)], "ignore": [b.to_string()], "retries": 1
        }))
        .unwrap();
        let expected = Wishes {
            sort: Sort::Latency,
            allow: vec![a],
            exclude: vec![b],
            retries: Some(1),
        };
        assert_eq!(given.wishes, expected);
        assert!(read(json!(null)).unwrap().wishes.is_default());
    }

    #[test]
    fn wrong_members_are_named() {
        for (value, param) in [
            (json!("price"), "provider"),
            (json!({"sort": "cheap"}), "provider.sort"),
            (json!({"sort": 1}), "provider.sort"),
            (json!({"allow": "x"}), "provider.allow"),
            (json!({"allow": ["x"]}), "provider.allow"),
            (json!({"exclude": [1]}), "provider.exclude"),
            (json!({"retries": -1}), "provider.retries"),
            (json!({"retries": 99}), "provider.retries"),
            (json!({"order": []}), "provider.order"),
        ] {
            let e = read(value.clone()).unwrap_err();
            assert_eq!(
                (e.status, e.param.as_deref()),
                (400, Some(param)),
                "{value}"
            );
        }
    }

    #[test]
    fn headers_say_what_the_body_does_not() {
        let mut headers = HeaderMap::new();
        let a = Address::basechain([1; 32]);
        headers.insert(SORT, "throughput".parse().unwrap());
        headers.insert(ALLOW, format!("{a}, ").parse().unwrap());
        headers.insert(RETRIES, "0".parse().unwrap());
        headers.insert(MAX_COEFFICIENT, "1500".parse().unwrap());
        let mut given = read(json!({"sort": "price"})).unwrap();
        assert_eq!(take_headers(&mut given, &headers).unwrap(), Some(1500));
        let w = given.wishes;
        assert_eq!(
            (w.sort, w.allow, w.retries),
            (Sort::Price, vec![a], Some(0))
        );
        for (name, value) in [
            (SORT, "x"),
            (ALLOW, "x"),
            (RETRIES, "6"),
            (MAX_COEFFICIENT, "-1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let e = take_headers(&mut Given::default(), &headers).unwrap_err();
            assert_eq!((e.status, e.param.as_deref()), (400, Some(name)));
        }
    }
}
