//! Every operation of section 3, contract by contract.

pub mod client;
pub mod proxy;
pub mod root;
pub mod wallet;
pub mod worker;

use cocoon_ton::CellBuilder;
use cocoon_ton::abi::{ProxyMessage, TextCommand};

pub use super::call::{Body, Call, External, Request, Signed, State};
pub use super::cells::flipped;
pub use super::checks::*;
pub use super::parties::{NOW, Net, QUERY_ID, SEED, TOKENS, TON, public_key};

fn signed(n: &Net, op: u32, target: cocoon_ton::Address, tokens: Option<u64>) -> Signed {
    Signed {
        op,
        inner_op: op,
        inner_query_id: QUERY_ID,
        tokens,
        target,
        receiver: n.receiver,
        seed: SEED,
        extra_bits: 0,
    }
}

fn sweep() -> Body {
    let mut b = CellBuilder::new();
    b.store_u32(SWEEP).unwrap();
    b.store_u64(QUERY_ID).unwrap();
    Body::Plain(b.build().unwrap())
}

fn text(character: u8) -> Body {
    let message = ProxyMessage::Text(TextCommand { character });
    Body::Plain(message.encode().unwrap())
}

/// All operations.
pub fn all() -> impl Iterator<Item = &'static Row> {
    [
        client::ROWS,
        worker::ROWS,
        proxy::ROWS,
        root::ROWS,
        wallet::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// The good call of one operation.
pub fn named(name: &str, net: &Net) -> Call {
    let row = all()
        .find(|row| row.name == name)
        .unwrap_or_else(|| panic!("there is no row {name}"));
    (row.call)(net)
}
