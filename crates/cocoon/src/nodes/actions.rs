//! The operator's actions of protocol.md 8.1. Each is a POST with the token; the answer says what was done, or why not.

use std::collections::HashMap;

use cocoon_node::api_error::ApiError;
use cocoon_node::operate::{Done, NotDone};
use cocoon_node::{client, proxy};
use cocoon_ton::Address;
use serde_json::{Value, json};

use super::life::Node;

/// An action and its parameter.
pub struct Action {
    /// Last part of its path.
    pub name: &'static str,
    /// Its query parameter, with an example.
    pub parameter: Option<(&'static str, &'static str)>,
    /// What it does.
    pub help: &'static str,
}

const fn action(
    name: &'static str,
    parameter: Option<(&'static str, &'static str)>,
    help: &'static str,
) -> Action {
    Action {
        name,
        parameter,
        help,
    }
}

const PROXY: Option<(&str, &str)> = Some(("proxy", "ADDRESS of the proxy's contract"));

const LEAVE: Action = action(
    "leave",
    None,
    "settle everything, get out of the contracts, take no more work; also through restarts",
);
const RETURN: Action = action("return", None, "work again after leaving");

const CLIENT: [Action; 6] = [
    action("charge", PROXY, "present the newest signed charge"),
    action("topup", PROXY, "raise the deposit by the stake's amount"),
    action("withdraw", PROXY, "take out what exceeds the stake"),
    action("close", PROXY, "ask for the refund of the deposit"),
    LEAVE,
    RETURN,
];

const OF_PROXY: [Action; 4] = [
    action(
        "charge",
        Some(("client", "ADDRESS of the client")),
        "charge a client for all that is signed",
    ),
    action(
        "payout",
        Some(("worker", "ADDRESS of the worker's owner")),
        "pay a worker all that is signed",
    ),
    action("withdraw", None, "withdraw the commission"),
    LEAVE,
];

const WORKER: [Action; 6] = [
    action("payout", PROXY, "fetch the pay of a proxy"),
    action("enable", None, "take requests"),
    action("disable", None, "take no requests"),
    action(
        "change_coefficient",
        Some(("coefficient", "1.5")),
        "change the price factor",
    ),
    LEAVE,
    RETURN,
];

/// The actions of a role.
pub fn of_role(role: &str) -> &'static [Action] {
    match role {
        "client" => &CLIENT,
        "proxy" => &OF_PROXY,
        "worker" => &WORKER,
        _ => &[],
    }
}

/// Does it.
pub async fn act(
    node: &Node,
    name: &str,
    query: &HashMap<String, String>,
) -> Result<Value, ApiError> {
    if matches!(name, "leave" | "return") {
        let leaves = name == "leave";
        if node.set_closed(leaves).await {
            return Ok(
                json!({"done": format!("the operator's wish to {name} is on its way"), "left": leaves}),
            );
        }
    }
    let done = match (node, name) {
        (Node::Client(client), _) => {
            let wish = match name {
                "charge" => client::Wish::Charge,
                "topup" => client::Wish::TopUp,
                "withdraw" => client::Wish::Withdraw,
                "close" => client::Wish::Close,
                _ => return Err(unknown("client", name)),
            };
            client.operate(wish, address(query, "proxy")?).await
        }
        (Node::Proxy(proxy), _) => {
            let wish = match name {
                "charge" => proxy::Wish::Charge(address(query, "client")?),
                "payout" => proxy::Wish::Payout(address(query, "worker")?),
                "withdraw" => proxy::Wish::Withdraw,
                _ => return Err(unknown("proxy", name)),
            };
            proxy.operate(wish).await
        }
        (Node::Worker(worker), "payout") => worker.payout(address(query, "proxy")?).await,
        (Node::Worker(worker), "enable" | "disable") => {
            let enabled = name == "enable";
            worker.set_enabled(enabled).await;
            return Ok(json!({"done": format!("the worker is {name}d"), "enabled": enabled}));
        }
        (Node::Worker(worker), "change_coefficient") => {
            let given = query.get("coefficient").map(String::as_str);
            let value = given.and_then(thousandths).ok_or_else(|| {
                wrong("coefficient", "coefficient must be a decimal number from 0 to 999999.999 with at most three places, such as coefficient=1.5")
            })?;
            worker.set_coefficient(value).await;
            return Ok(json!({"done": "the price factor is changed", "coefficient": value}));
        }
        (Node::Worker(_), _) => return Err(unknown("worker", name)),
    };
    answer(done)
}

fn answer(done: Done) -> Result<Value, ApiError> {
    match done {
        Ok(text) => Ok(json!({"done": text})),
        Err(NotDone::Unknown(text)) => Err(ApiError::new(
            404,
            "invalid_request_error",
            "not_found",
            text,
        )),
        Err(NotDone::Impossible(text)) => Err(ApiError::new(
            409,
            "invalid_request_error",
            "not_possible_now",
            text,
        )),
    }
}

fn unknown(role: &str, name: &str) -> ApiError {
    let names: Vec<&str> = of_role(role).iter().map(|a| a.name).collect();
    ApiError::new(
        404,
        "invalid_request_error",
        "unknown_action",
        format!(
            "a {role} has no action {:?}; there are: {}",
            name.chars().take(40).collect::<String>(),
            names.join(", ")
        ),
    )
}

fn wrong(parameter: &str, text: &str) -> ApiError {
    ApiError::invalid("invalid_parameter", text).with_param(parameter)
}

fn address(query: &HashMap<String, String>, name: &str) -> Result<Address, ApiError> {
    let text = query.get(name).map(String::as_str).unwrap_or_default();
    Address::parse(text)
        .map(|parsed| parsed.address)
        .map_err(|e| wrong(name, &format!("{name} must be an address: {e}")))
}

/// A factor such as `1.25` in thousandths, without rounding.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    let value = whole.checked_mul(1000)?.checked_add(part)?;
    (value <= cocoon_ledger::units::MAX_COEFFICIENT).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact() {
        for (text, value) in [
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            ("0.001", Some(1)),
            ("999999.999", Some(999_999_999)),
            ("1000000", None),
            ("1.2345", None),
            ("-1", None),
            ("", None),
            ("1e3", None),
            ("NaN", None),
            (".5", None),
            ("4294968", None),
        ] {
            assert_eq!(thousandths(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_not_possible_says_why() {
        let error = answer(Err(NotDone::Impossible("busy".into()))).unwrap_err();
        assert_eq!((error.status, error.message.as_str()), (409, "busy"));
        let error = answer(Err(NotDone::Unknown("who".into()))).unwrap_err();
        assert_eq!(error.status, 404);
        let error = address(&HashMap::new(), "proxy").unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some("proxy")));
        assert!(
            unknown("worker", "x")
                .message
                .contains("change_coefficient")
        );
    }
}
