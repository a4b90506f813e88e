//! The get-methods of all contracts tell what the model knows (contracts.md, 6.4, 7.4, 8.5, 9.4 and 10.3).

use cocoon_ton::abi::Params;
use cocoon_ton::{Address, Cell, StackValue};

use crate::model::State;
use crate::sim::Sim;

/// One value of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u128),
    Hash([u8; 32]),
    Address(Address),
    /// -1 or 0.
    Truth(bool),
}

impl Value {
    /// Whether a stack value says this.
    fn is(&self, found: &StackValue) -> bool {
        match self {
            Self::Number(number) => found.as_u128() == Some(*number),
            Self::Hash(hash) => found.as_u256() == Some(*hash),
            Self::Address(address) => found.as_address() == Some(*address),
            Self::Truth(truth) => found.as_i64() == Some(if *truth { -1 } else { 0 }),
        }
    }
}

fn number(value: impl Into<u128>) -> Value {
    Value::Number(value.into())
}

fn hash_of(code: &Option<Cell>) -> Value {
    Value::Hash(code.as_ref().map_or([0; 32], |code| code.repr_hash().0))
}

/// Asks every contract that exists.
pub fn tell_the_state(sim: &Sim) -> Result<(), String> {
    for address in sim.contracts() {
        if sim.world.data(&address).is_none() {
            continue;
        }
        let state = sim.checker.state(&address).ok_or("an unknown contract")?;
        for (method, arguments, expected) in answers(state) {
            let result = sim.world.get(&address, method, &arguments);
            let right = result.exit_code == 0
                && result.stack.len() == expected.len()
                && expected.iter().zip(&result.stack).all(|(e, f)| e.is(f));
            if !right {
                return Err(format!(
                    "{} {method}{arguments:?}: exit {}, {:?}, expected {expected:?}",
                    sim.name(&address),
                    result.exit_code,
                    result.stack
                ));
            }
        }
    }
    Ok(())
}

type Answer = (&'static str, Vec<StackValue>, Vec<Value>);

fn answers(state: &State) -> Vec<Answer> {
    match state {
        State::Proxy(p) => vec![(
            "get_cocoon_proxy_data",
            vec![],
            vec![
                Value::Address(p.owner),
                Value::Hash(p.public_key),
                Value::Address(p.root),
                number(p.status as u8),
                number(p.balance),
                number(p.stake),
                number(p.unlock_time),
                number(p.params.price_per_token),
                number(p.params.worker_fee_per_token),
                number(p.params.min_proxy_stake),
                number(p.params.min_client_stake),
                number(p.params.params_version),
            ],
        )],
        State::Client(c) => vec![(
            "get_cocoon_client_data",
            vec![],
            vec![
                Value::Address(c.owner),
                Value::Address(c.proxy),
                Value::Hash(c.public_key),
                number(c.status as u8),
                number(c.balance),
                number(c.stake),
                number(c.tokens_used),
                number(c.unlock_time),
                Value::Hash(c.secret_hash),
            ],
        )],
        State::Worker(w) => vec![(
            "get_cocoon_worker_data",
            vec![],
            vec![
                Value::Address(w.owner),
                Value::Address(w.proxy),
                Value::Hash(w.public_key),
                number(w.status as u8),
                number(w.tokens_paid),
            ],
        )],
        State::Wallet(w) => vec![
            ("seqno", vec![], vec![number(w.seqno)]),
            ("get_public_key", vec![], vec![Value::Hash(w.public_key)]),
            ("get_owner_address", vec![], vec![Value::Address(w.owner)]),
        ],
        State::Root(r) => {
            let p = &r.params;
            let mut all = vec![
                (
                    "get_cocoon_data",
                    vec![],
                    vec![
                        number(r.version),
                        number(r.last_proxy_seqno),
                        number(p.params_version),
                        number(p.unique_id),
                        number(u8::from(p.is_test)),
                        number(p.price_per_token),
                        number(p.worker_fee_per_token),
                        number(p.min_proxy_stake),
                        number(p.min_client_stake),
                        Value::Address(r.owner),
                    ],
                ),
                ("get_cur_params", vec![], current_params(p)),
                ("last_proxy_seqno", vec![], vec![number(r.last_proxy_seqno)]),
            ];
            // Hashes that the lives add and delete, and one that nobody does.
            for byte in [0, 1, 2, 3, 4, 0x7f] {
                let hash = [byte; 32];
                for (method, set) in [
                    ("proxy_hash_is_valid", &r.proxy_hashes),
                    ("worker_hash_is_valid", &r.worker_hashes),
                    ("model_hash_is_valid", &r.model_hashes),
                ] {
                    let listed = set.contains(&hash);
                    all.push((
                        method,
                        vec![StackValue::u256(&hash)],
                        vec![Value::Truth(listed)],
                    ));
                }
            }
            all
        }
    }
}

fn current_params(p: &Params) -> Vec<Value> {
    vec![
        number(p.params_version),
        number(p.unique_id),
        number(u8::from(p.is_test)),
        number(p.price_per_token),
        number(p.worker_fee_per_token),
        number(p.cached_multiplier),
        number(p.reasoning_multiplier),
        number(p.proxy_delay),
        number(p.client_delay),
        number(p.min_proxy_stake),
        number(p.min_client_stake),
        hash_of(&p.proxy_code),
        hash_of(&p.worker_code),
        hash_of(&p.client_code),
    ]
}
