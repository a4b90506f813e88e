//! What a proxy asks of clients before it believes who they are, and what it remembers of them (protocol.md 11 #1, #9
//! and #16).

#[allow(dead_code)]
mod sim;

use std::collections::BTreeSet;

use cocoon_node::link::{LinkEffect, LinkEvent, LinkId};
use cocoon_node::payment;
use cocoon_node::proxy::Port;
use cocoon_tl::{Flags, from_boxed, to_boxed};
use cocoon_ton::{Address, Cell, MsgInfo, TxInfo};
use cocoon_wire::msg::client;
use cocoon_wire::msg::common::VersionRange;
use sim::node::{Core, Input, Output, Role};
use sim::setup;

/// A proxy that reads its chain, open for service, with these records on its disk.
fn on_chain(records: Vec<(String, Vec<u8>)>) -> Core {
    let root = setup::root();
    let mut core = setup::start(Role::Proxy, 0, 1, root, records, [1; 32], 0).unwrap();
    let mut outputs = core.first();
    let mut ready = false;
    for now in 1..9 {
        let mut next = Vec::new();
        for output in outputs {
            let input = match output {
                Output::Save { number, .. } => Input::Saved(number),
                Output::Transact { to, body, .. } => Input::Transactions(vec![seen(to, body, now)]),
                Output::Ready => {
                    ready = true;
                    continue;
                }
                _ => continue,
            };
            next.extend(core.handle(now, input));
        }
        outputs = next;
    }
    assert!(ready, "the proxy opens");
    core
}

/// A message of the proxy's wallet as a transaction of its contract.
fn seen(to: Address, body: Option<Cell>, lt: u64) -> TxInfo {
    TxInfo {
        account: to,
        lt,
        hash: [0; 32],
        prev_lt: lt - 1,
        prev_hash: [0; 32],
        utime: 0,
        total_fees: 0,
        aborted: true,
        compute_exit_code: None,
        action_result_code: None,
        in_msg: Some(MsgInfo {
            src: Some(setup::wallet(Role::Proxy, 0)),
            dst: Some(to),
            value: 1,
            bounce: true,
            bounced: false,
            fwd_fee: 0,
            ihr_fee: 0,
            created_lt: 0,
            body: body.unwrap_or_default(),
            hash: [0; 32],
            init: false,
        }),
        out_msgs: Vec::new(),
        boc: Cell::default(),
    }
}

/// A client's record with this secret on chain and 5 TON of stake.
fn record(secret: &[u8]) -> (String, Vec<u8>) {
    let record = serde_json::json!({
        "status": 0, "balance": 7_000_000_000u64, "stake": 5_000_000_000u64, "sc_used": 3, "used": 4,
        "secret_hash": hex::encode(payment::secret_hash(secret)),
    });
    let owner = setup::address(0x55, 0);
    (format!("client_{owner}"), record.to_string().into_bytes())
}

/// Connects as that client; what the proxy offers, and what it says to a secret.
fn connect(core: &mut Core, link: u64, secret: &[u8]) -> (client::ProxyConnectionAuth, bool) {
    let link = LinkId(link);
    let peer = Default::default();
    core.handle(
        20,
        Input::Accepted(Port::Clients, LinkEvent::Up { link, peer }),
    );
    let mut query = |data: Vec<u8>| {
        let outputs = core.handle(21, Input::Link(LinkEvent::Query { link, id: 1, data }));
        let reply = outputs.into_iter().find_map(|o| match o {
            Output::Link(LinkEffect::Reply { result, .. }) => Some(result),
            _ => None,
        });
        reply.expect("an answer")
    };
    let hello = client::ConnectToProxy {
        params: client::Params {
            flags: Flags::NONE,
            client_owner_address: setup::address(0x55, 0).to_text(false, true),
            is_test: Some(true),
            versions: Some(VersionRange {
                min_proto_version: 1,
                max_proto_version: 2,
            }),
        },
        min_config_version: 1,
    };
    let connected = query(to_boxed(&hello)).unwrap();
    let connected = from_boxed::<client::ConnectedToProxy>(&connected).unwrap();
    let data = secret.to_vec();
    let short = query(to_boxed(&client::AuthorizeWithProxyShort { data }));
    (connected.auth, short.is_ok())
}

/// 11 #1: the hash of the empty text is on chain for everybody to see, so knowing it proves nothing.
#[test]
fn the_hash_of_nothing_is_no_secret() {
    let mut core = on_chain(vec![record(b"")]);
    let (auth, accepted) = connect(&mut core, 1, b"");
    assert!(matches!(auth, client::ProxyConnectionAuth::Long(_)));
    assert!(!accepted);
    let mut core = on_chain(vec![record(b"a real secret")]);
    assert!(!connect(&mut core, 1, b"").1);
    assert!(!connect(&mut core, 2, b"another one").1);
    let (auth, accepted) = connect(&mut core, 3, b"a real secret");
    assert!(matches!(auth, client::ProxyConnectionAuth::Short(_)));
    assert!(accepted);
}

/// 11 #9: after a restart the stake was 1 TON, whatever the contract had.
#[test]
fn the_stake_survives_a_restart() {
    let Core::Proxy(core) = on_chain(vec![record(b"x")]) else {
        unreachable!()
    };
    let a = &core.books().clients[&setup::address(0x55, 0)];
    assert_eq!(
        (a.record.stake, a.record.balance),
        (5_000_000_000, 7_000_000_000)
    );
    assert_eq!((a.record.sc_used, a.tracker.max().0), (3, 4));
}

/// 11 #16: every connection gets a number of its own, and another process gives others.
#[test]
fn nonces_are_never_given_twice() {
    let mut core = on_chain(Vec::new());
    let mut nonces = BTreeSet::new();
    for link in 1..60 {
        let (auth, _) = connect(&mut core, link, b"");
        let client::ProxyConnectionAuth::Long(auth) = auth else {
            panic!("an unknown client takes the long way")
        };
        assert!(nonces.insert(auth.nonce));
    }
}
