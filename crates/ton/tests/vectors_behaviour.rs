//! The cells of the 129 behaviour cases: what contracts stored and sent is what we read and write.

mod common;

use cocoon_ton::abi::*;
use cocoon_ton::wallet::SignedTransfer;
use cocoon_ton::{Cell, boc};
use common::*;
use serde_json::Value;

fn cell_of(value: &Value) -> Option<Cell> {
    use base64::Engine as _;
    let text = value.as_str().filter(|text| *text != "unchanged")?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    Some(boc::decode(&bytes, boc::STATE).unwrap())
}

/// Reads the storage of a contract and writes it back.
fn rebuild_state(contract: &str, cell: &Cell) -> Result<Cell, AbiError> {
    match contract {
        "root" => RootState::decode(cell)?.encode(),
        "proxy" => ProxyState::decode(cell)?.encode(),
        "client" => ClientState::decode(cell)?.encode(),
        "worker" => WorkerState::decode(cell)?.encode(),
        "wallet" => WalletState::decode(cell)?.encode(),
        other => panic!("a contract without a test: {other}"),
    }
}

/// Reads a message that a contract received and writes it back.
fn rebuild_message(contract: &str, body: &Cell) -> Result<Cell, AbiError> {
    match contract {
        "root" => RootMessage::decode(body)?.encode(),
        "proxy" => ProxyMessage::decode(body)?.encode(),
        "client" => ClientMessage::decode(body)?.encode(),
        "worker" => WorkerMessage::decode(body)?.encode(),
        "wallet" => WalletMessage::decode(body)?.encode(),
        _ => OwnerMessage::decode(body)?.encode(),
    }
}

#[test]
fn stored_cells_are_read_and_written_alike() {
    let v = Vectors::load();
    let mut states = 0;
    for case in v.section("behaviour") {
        let contract = case["contract"].as_str().unwrap();
        for data in [&case["account"]["data"], &case["expect"]["data_after"]] {
            let Some(data) = cell_of(data) else { continue };
            let rebuilt = rebuild_state(contract, &data);
            let rebuilt = rebuilt.unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
            assert_eq!(rebuilt, data, "{}", case["name"]);
            states += 1;
        }
    }
    assert_eq!(states, 181);
}

#[test]
fn messages_are_read_and_written_alike() {
    let v = Vectors::load();
    let (mut read, mut unread) = (0, Vec::new());
    for case in v.section("behaviour") {
        let name = case["name"].as_str().unwrap();
        let contract = case["contract"].as_str().unwrap();
        let Some(body) = cell_of(&case["in"]["body"]) else {
            continue;
        };
        let rebuilt = if case["in"]["kind"] == "external" {
            SignedTransfer::decode(&body).and_then(|transfer| transfer.encode())
        } else {
            rebuild_message(contract, &body)
        };
        match rebuilt {
            Ok(rebuilt) => {
                assert_eq!(rebuilt, body, "{name}");
                read += 1;
            }
            Err(_) => unread.push(name),
        }
        if contract == "wallet" {
            // It sends what its owner wants.
            continue;
        }
        for out in case["expect"]["out"].as_array().into_iter().flatten() {
            let Some(body) = cell_of(&out["body"]) else {
                continue;
            };
            if body.as_slice().unwrap().get_u32(0) == Ok(u32::MAX) {
                // A bounce: the network writes 32 ones before the beginning of the body.
                continue;
            }
            let rebuilt = ["proxy", "owner", "wallet"]
                .into_iter()
                .find_map(|receiver| rebuild_message(receiver, &body).ok());
            assert_eq!(rebuilt, Some(body), "{name}: a message that was sent");
        }
    }
    // All else is in the vectors because contracts must cope with what is not in the ABI.
    let not_in_the_abi = [
        "root.register_proxy.type1",
        "root.empty_body",
        "root.do_not_process",
        "root.bounced",
        "worker.empty_body",
        "worker.do_not_process",
        "wallet.excesses",
        "wallet.payout",
        "wallet.unknown_op_owner",
    ];
    assert_eq!(unread, not_in_the_abi);
    assert_eq!(read, 120);
}
