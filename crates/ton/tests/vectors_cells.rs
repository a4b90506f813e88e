//! Storage cells and addresses of the vectors: encoded from their fields, and decoded back.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ton::abi::{
    ClientState, ContractStatus, KeyEntry, KeyRegistry, NetAddress, Params, ProxyState, RootState,
    StateInit, WalletState, WorkerState, address_from_hashes, client_init, proxy_init, wallet_init,
    worker_init,
};
use common::*;
use serde_json::Value;

fn status(value: &Value) -> ContractStatus {
    match number(value) {
        0 => ContractStatus::Normal,
        1 => ContractStatus::Closing,
        2 => ContractStatus::Closed,
        other => panic!("state {other}"),
    }
}

fn params(v: &Vectors, f: &Value) -> Params {
    let version = f["struct_version"].as_u64().unwrap() as u8;
    // Old layouts do not carry all multipliers; what they lack reads as 1.
    let mult = |name: &str, since: u8| {
        if version >= since {
            u32_of(&f[name])
        } else {
            10_000
        }
    };
    let code = |name: &str| f.get(name).map(|code| v.cell(code));
    Params {
        struct_version: version,
        params_version: u32_of(&f["params_version"]),
        unique_id: u32_of(&f["unique_id"]),
        is_test: f["is_test"].as_bool().unwrap(),
        price_per_token: number(&f["price_per_token"]),
        worker_fee_per_token: number(&f["worker_fee_per_token"]),
        prompt_multiplier: mult("prompt_mult", 3),
        cached_multiplier: mult("cached_mult", 2),
        completion_multiplier: mult("completion_mult", 3),
        reasoning_multiplier: mult("reasoning_mult", 2),
        proxy_delay: u32_of(&f["proxy_delay"]),
        client_delay: u32_of(&f["client_delay"]),
        min_proxy_stake: number(&f["min_proxy_stake"]),
        min_client_stake: number(&f["min_client_stake"]),
        proxy_code: code("proxy_code"),
        worker_code: code("worker_code"),
        client_code: code("client_code"),
    }
}

fn root(v: &Vectors, f: &Value) -> RootState {
    let hashes = |name: &str| -> BTreeSet<[u8; 32]> {
        let list = f.get(name).and_then(Value::as_array);
        list.into_iter().flatten().map(bytes).collect()
    };
    let proxies = f.get("proxies").and_then(Value::as_object);
    let keys = f.get("public_keys").and_then(Value::as_array);
    let mut params = v.params("params.v3.all_codes");
    if keys.is_some() {
        params.struct_version = 4;
    }
    RootState {
        owner: addr(&f["owner"]),
        version: u32_of(&f["version"]),
        proxy_hashes: hashes("proxy_hashes"),
        proxies: proxies
            .into_iter()
            .flatten()
            .map(|(seqno, text)| (seqno.parse().unwrap(), net(text)))
            .collect(),
        unreadable_proxies: BTreeSet::new(),
        last_proxy_seqno: u32_of(&f["last_seqno"]),
        worker_hashes: hashes("worker_hashes"),
        model_hashes: hashes("model_hashes"),
        params,
        keys: keys.map(|keys| KeyRegistry {
            keys: keys
                .iter()
                .map(|k| {
                    let entry = KeyEntry {
                        key_type: number(&k["type"]) as u8,
                        expire_at: u32_of(&k["expire_at"]),
                    };
                    (bytes(&k["key"]), entry)
                })
                .collect::<BTreeMap<_, _>>(),
            manager_public_key: bytes(&f["key_manager_public_key"]),
            manager_address: net(&f["key_manager_net_addr"]),
        }),
    }
}

fn net(text: &Value) -> NetAddress {
    NetAddress::new(text.as_str().unwrap()).unwrap()
}

/// Encodes the value of the fields, decodes the cell of the vector, and compares both ways.
macro_rules! check {
    ($entry:expr, $ty:ty, $value:expr) => {{
        let (expected, value): (_, $ty) = (cell($entry), $value);
        let name = &$entry["name"];
        assert_eq!(
            hash(&value.encode().unwrap()),
            hash(&expected),
            "encode {name}"
        );
        assert_eq!(<$ty>::decode(&expected).unwrap(), value, "decode {name}");
    }};
}

#[test]
fn every_cell_encodes_and_decodes() {
    let v = Vectors::load();
    assert_eq!(v.section("cells").len(), 18);
    let or = |f: &Value, name: &str, default: [u8; 32]| f.get(name).map_or(default, bytes);
    for entry in v.section("cells") {
        let (name, f) = (entry["name"].as_str().unwrap(), &entry["fields"]);
        match name.split('.').collect::<Vec<_>>()[..] {
            ["params", ..] => check!(entry, Params, params(&v, f)),
            ["root", "storage", ..] => check!(entry, RootState, root(&v, f)),
            ["proxy", "storage", _] => check!(
                entry,
                ProxyState,
                ProxyState {
                    owner: addr(&f["owner"]),
                    public_key: or(f, "proxy_public_key", v.key("proxy")),
                    root: v.address("root"),
                    status: status(&f["state"]),
                    balance: number(&f["balance"]),
                    stake: number(&f["stake"]),
                    unlock_time: u32_of(&f["unlock_ts"]),
                    params: v.params("params.v3.worker_and_client_code"),
                }
            ),
            ["worker", "storage", _] => check!(
                entry,
                WorkerState,
                WorkerState {
                    owner: addr(&f["owner"]),
                    proxy: v.address("proxy"),
                    public_key: or(f, "proxy_public_key", v.key("proxy")),
                    status: status(&f["state"]),
                    tokens_paid: u64_of(&f["tokens"]),
                    params: v.params("params.v3.bare"),
                }
            ),
            ["client", "storage", _] => check!(entry, ClientState, client(&v, f)),
            ["client", "const_data"] => {
                let constant = client(&v, f).encode_constant().unwrap();
                assert_eq!(hash(&constant), hash(&cell(entry)));
            }
            ["wallet", "storage", _] => check!(
                entry,
                WalletState,
                WalletState {
                    seqno: u32_of(&f["seqno"]),
                    subwallet: u32_of(&f["subwallet"]),
                    public_key: or(f, "public_key", v.key("wallet")),
                    status: u32_of(&f["status"]),
                    owner: addr(&f["owner"]),
                }
            ),
            _ => panic!("a cell without a test: {name}"),
        }
    }
}

fn client(v: &Vectors, f: &Value) -> ClientState {
    let tokens = f.get("tokens").unwrap_or(&f["tokens_used"]);
    ClientState {
        owner: addr(&f["owner"]),
        proxy: addr(&f["proxy"]),
        public_key: v.key("proxy"),
        status: status(&f["state"]),
        balance: number(&f["balance"]),
        stake: number(&f["stake"]),
        tokens_used: u64_of(tokens),
        unlock_time: u32_of(&f["unlock_ts"]),
        secret_hash: u256(&f["secret_hash"]),
        params: v.params("params.v3.bare"),
    }
}

/// StateInit of a contract from the constants; `proxy` is the address that client and worker name.
fn init(v: &Vectors, contract: &str, proxy: cocoon_ton::Address) -> StateInit {
    let params = v.params("params.v3.all_codes");
    let key = v.key("proxy");
    match contract {
        "proxy" => proxy_init(&params, v.address("proxy_owner"), key, v.address("root")),
        "worker" => worker_init(&params, proxy, key, v.address("worker_owner")),
        "client" => client_init(&params, proxy, key, v.address("client_owner")),
        "wallet" => wallet_init(v.code("wallet"), v.key("wallet"), v.address("proxy_owner")),
        other => panic!("a contract without a test: {other}"),
    }
    .unwrap()
}

#[test]
fn every_address_follows_from_its_parts() {
    let v = Vectors::load();
    assert_eq!(v.section("addresses").len(), 8);
    let official_proxy = v.section("addresses")[4]["address"].clone();
    for entry in v.section("addresses") {
        let name = entry["name"].as_str().unwrap();
        let (contract, kind) = name.split_once('.').unwrap();
        let expected = addr(&entry["address"]);
        let depth = |name: &str| entry[name].as_u64().unwrap() as u16;
        let from_hashes = address_from_hashes(
            &bytes(&entry["code_hash"]),
            depth("code_depth"),
            &bytes(&entry["data_hash"]),
            depth("data_depth"),
        );
        assert_eq!(from_hashes, expected, "{name}");
        match kind {
            "placeholder_code" => {
                let built = init(&v, contract, v.address("proxy"));
                assert_eq!(built.address, expected, "{name}");
                assert_eq!(hash(&built.cell), hash(&cell(&entry["state_init"])));
                assert_eq!(StateInit::decode(&built.cell).unwrap(), built);
            }
            // The proxy's data holds codes that are known by hash only; the others have all their data.
            "official_func_code" if contract == "proxy" => {}
            "official_func_code" => {
                let built = init(&v, contract, addr(&official_proxy));
                assert_eq!(hash(&built.data), entry["data_hash"], "{name}");
            }
            other => panic!("an address without a test: {other}"),
        }
    }
}

#[test]
fn proxy_entries_name_endpoints() {
    let v = Vectors::load();
    let entry = &v.section("cells")[6];
    let state = RootState::decode(&cell(entry)).unwrap();
    let two = state.proxies[&1].endpoints().unwrap();
    assert_eq!(two.for_workers.to_string(), "203.0.113.5:9002");
    assert_eq!(two.for_clients.to_string(), "203.0.113.5:9003");
    let one = state.proxies[&4].endpoints().unwrap();
    assert_eq!(one.for_workers, one.for_clients);
    assert_eq!(NetAddress::from_endpoints(&one), state.proxies[&4]);
    for bad in [
        "",
        "host:1",
        "1.2.3.4",
        "1.2.3.4:0",
        "[::1]:5",
        "1.2.3.4:1 1.2.3.4:2 1.2.3.4:3",
    ] {
        assert!(
            NetAddress::new(bad).unwrap().endpoints().is_err(),
            "{bad:?}"
        );
    }
    assert!(NetAddress::new(&"a".repeat(115)).is_err());
}

#[test]
fn params_of_version_0_have_default_stakes() {
    let v = Vectors::load();
    let old = Params {
        struct_version: 0,
        ..v.params("params.v1.bare")
    };
    let read = Params::decode(&old.encode().unwrap()).unwrap();
    assert_eq!(read.min_proxy_stake, 1_000_000_000);
    assert_eq!(read.min_client_stake, 1_000_000_000);
    assert_eq!(read.prompt_multiplier, 10_000);
    let unknown = Params {
        struct_version: 5,
        ..old
    };
    assert!(unknown.encode().is_err());
}
