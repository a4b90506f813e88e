//! Message bodies, signed payloads and wallet messages of the vectors: encoded from their fields, and decoded back.

mod common;

use cocoon_ton::abi::*;
use cocoon_ton::wallet::{
    External, InternalMessage, Outgoing, SignedTransfer, Transfer, batch_size, mode_for,
};
use cocoon_ton::{Address, Cell};
use common::*;
use ed25519_dalek::SigningKey;
use serde_json::Value;

macro_rules! check {
    ($expected:expr, $ty:ty, $value:expr) => {{
        let (expected, value): (Cell, $ty) = ($expected, $value);
        let what = format!("{value:?}");
        assert_eq!(
            hash(&value.encode().unwrap()),
            hash(&expected),
            "encode {what}"
        );
        assert_eq!(<$ty>::decode(&expected).unwrap(), value, "decode {what}");
        assert_eq!(value.op(), expected.as_slice().unwrap().get_u32(0).unwrap());
    }};
}

fn root_message(v: &Vectors, name: &str, f: &Value) -> RootMessage {
    use RootMessage::*;
    let query_id = u64_of(&f["query_id"]);
    let hash = || bytes(&f["hash"]);
    let net = || NetAddress::new(f["address"].as_str().unwrap()).unwrap();
    match name {
        "add_worker_type" => AddWorkerHash {
            query_id,
            hash: hash(),
        },
        "del_worker_type" => DeleteWorkerHash {
            query_id,
            hash: hash(),
        },
        "add_model_type" => AddModelHash {
            query_id,
            hash: hash(),
        },
        "del_model_type" => DeleteModelHash {
            query_id,
            hash: hash(),
        },
        "add_proxy_type" => AddProxyHash {
            query_id,
            hash: hash(),
        },
        "del_proxy_type" => DeleteProxyHash {
            query_id,
            hash: hash(),
        },
        "register_proxy" => RegisterProxy {
            query_id,
            address: net(),
        },
        "unregister_proxy" => UnregisterProxy {
            query_id,
            seqno: u32_of(&f["seqno"]),
        },
        "update_proxy" => UpdateProxy {
            query_id,
            seqno: u32_of(&f["seqno"]),
            address: net(),
        },
        "change_price" => ChangePrice {
            query_id,
            price_per_token: number(&f["price_per_token"]),
            worker_fee_per_token: number(&f["worker_fee_per_token"]),
        },
        "change_params" => ChangeParams {
            query_id,
            price_per_token: number(&f["price"]),
            worker_fee_per_token: number(&f["fee"]),
            proxy_delay: u32_of(&f["proxy_delay"]),
            client_delay: u32_of(&f["client_delay"]),
            min_proxy_stake: number(&f["min_proxy_stake"]),
            min_client_stake: number(&f["min_client_stake"]),
        },
        "upgrade_contracts" => ReplaceContractCodes {
            query_id,
            proxy: v.cell(&f["proxy"]),
            worker: v.cell(&f["worker"]),
            client: v.cell(&f["client"]),
        },
        "upgrade" => ReplaceCode {
            query_id,
            code: v.cell(&f["code"]),
        },
        "upgrade_full" => ReplaceDataAndCode {
            query_id,
            data: v.cell(&f["data"]),
            code: v.cell(&f["code"]),
        },
        "reset" => Reset { query_id },
        "change_owner" => ChangeOwner {
            query_id,
            owner: addr(&f["owner"]),
        },
        "v4.add_public_key" => AddPublicKey {
            query_id,
            key: bytes(&f["key"]),
            key_type: number(&f["type"]) as u8,
            expire_at: u32_of(&f["expire_at"]),
        },
        "v4.change_key_manager" => ChangeKeyManager {
            query_id,
            key: bytes(&f["key"]),
            address: net(),
        },
        "v4.add_public_key_signed" => {
            // The payload is named by hash only; it registers the key of the unsigned op.
            let payload = KeyPayload {
                query_id,
                key: v.key("proxy"),
                key_type: 1,
                expire_at: 1_770_086_400,
            };
            let payload_hash = f["payload"]
                .as_str()
                .unwrap()
                .strip_prefix("cell:")
                .unwrap();
            assert_eq!(hash_of(&payload), payload_hash);
            let envelope = Envelope::sign(payload, &key(3), excess(f)).unwrap();
            envelope.verify(&v.key("wallet")).unwrap();
            AddPublicKeySigned(envelope)
        }
        other => panic!("a root message without a test: {other}"),
    }
}

fn hash_of(payload: &impl Payload) -> String {
    hash(&payload.encode().unwrap())
}

fn key(seed: u8) -> SigningKey {
    let mut bytes = [0; 32];
    bytes[31] = seed;
    SigningKey::from_bytes(&bytes)
}

fn excess(f: &Value) -> Address {
    addr(&f["send_excesses_to"])
}

fn text(f: &Value) -> TextCommand {
    TextCommand {
        character: f["text"].as_str().unwrap().as_bytes()[0],
    }
}

fn proxy_message(name: &str, f: &Value) -> ProxyMessage {
    let query_id = u64_of(&f["query_id"]);
    let coins = number(&f["coins"]);
    let client = |payload| ProxyMessage::ClientRequest {
        query_id,
        owner: addr(&f["owner"]),
        ledger: ClientLedger {
            status: ContractStatus::Normal,
            balance: number(&f["state_data"]["balance"]),
            stake: number(&f["state_data"]["stake"]),
            tokens_used: u64_of(&f["state_data"]["tokens"]),
            secret_hash: u256(&f["state_data"]["secret_hash"]),
        },
        payload,
    };
    let worker = |payload| ProxyMessage::WorkerRequest {
        query_id,
        owner: addr(&f["owner"]),
        status: ContractStatus::Normal,
        tokens: u64_of(&f["tokens"]),
        payload,
    };
    use ClientRequestPayload::*;
    match name {
        "payout_request" => ProxyMessage::PayRevenue {
            query_id,
            excess_to: excess(f),
        },
        "increase_stake" => ProxyMessage::IncreaseStake {
            query_id,
            coins,
            excess_to: excess(f),
        },
        "owner_close" => ProxyMessage::Close {
            query_id,
            excess_to: excess(f),
        },
        "text_c" | "text_w" => ProxyMessage::Text(text(f)),
        "save_state" => ProxyMessage::SaveState(SaveState {
            query_id,
            seqno: u32_of(&f["seqno"]) as i32,
            session_hash: bytes(&f["session_hash"]),
        }),
        "worker_request.notify" => worker(None),
        "worker_request.payout" => worker(Some(WorkerRequestPayload::Payout {
            worker_part: number(&f["worker_part"]),
            proxy_part: number(&f["proxy_part"]),
            excess_to: excess(f),
        })),
        "client_request.notify" => client(None),
        "client_request.register" => client(Some(Register {
            nonce: u64_of(&f["nonce"]),
        })),
        "client_request.top_up" => client(Some(TopUp {
            coins,
            excess_to: excess(f),
        })),
        "client_request.refund_granted" => client(Some(RefundGranted {
            coins,
            excess_to: excess(f),
        })),
        "client_request.refund_force" => client(Some(RefundForced {
            coins,
            excess_to: excess(f),
        })),
        other => panic!("a proxy message without a test: {other}"),
    }
}

fn client_message(name: &str, f: &Value) -> ClientMessage {
    use ClientMessage::*;
    let (query_id, excess_to, coins) = (u64_of(&f["query_id"]), excess(f), number(&f["coins"]));
    let secret_hash = u256(&f["secret_hash"]);
    match name {
        "top_up" => TopUp {
            query_id,
            coins,
            excess_to,
        },
        "change_secret_hash_and_top_up" => ChangeSecretHashAndTopUp {
            query_id,
            coins,
            secret_hash,
            excess_to,
        },
        "register" => Register {
            query_id,
            nonce: u64_of(&f["nonce"]),
            excess_to,
        },
        "change_secret_hash" => ChangeSecretHash {
            query_id,
            secret_hash,
            excess_to,
        },
        "increase_stake" => IncreaseStake {
            query_id,
            new_stake: number(&f["new_stake"]),
            excess_to,
        },
        "withdraw" => Withdraw {
            query_id,
            excess_to,
        },
        "request_refund" => RequestRefund {
            query_id,
            excess_to,
        },
        other => panic!("a client message without a test: {other}"),
    }
}

#[test]
fn every_message_encodes_and_decodes() {
    let v = Vectors::load();
    assert_eq!(v.section("messages").len(), 46);
    for entry in v.section("messages") {
        let f = &entry["fields"];
        let query_id = u64_of(&f["query_id"]);
        let (receiver, name) = entry["name"].as_str().unwrap().split_once('.').unwrap();
        let expected = cell(entry);
        match (receiver, name) {
            ("root", name) => check!(expected, RootMessage, root_message(&v, name, f)),
            ("proxy", name) => check!(expected, ProxyMessage, proxy_message(name, f)),
            ("client", name) => check!(expected, ClientMessage, client_message(name, f)),
            ("worker", "register") => {
                let excess_to = excess(f);
                check!(
                    expected,
                    WorkerMessage,
                    WorkerMessage::Register {
                        query_id,
                        excess_to
                    }
                );
            }
            ("common", "excesses") => {
                check!(expected, OwnerMessage, OwnerMessage::Excesses { query_id });
            }
            ("common", "payout") => {
                check!(expected, OwnerMessage, OwnerMessage::Payout { query_id })
            }
            ("wallet", "owner_send_message") => {
                let (mode, message) = (
                    number(&f["mode"]) as u8,
                    v.cell_in(&expected, &f["message"]),
                );
                check!(
                    expected,
                    WalletMessage,
                    WalletMessage::Send {
                        query_id,
                        mode,
                        message
                    }
                );
            }
            ("wallet", "text_w" | "text_b" | "text_u") => {
                check!(expected, WalletMessage, WalletMessage::Text(text(f)));
            }
            other => panic!("a message without a test: {other:?}"),
        }
    }
}

impl Vectors {
    /// A cell that is named by hash and stands nowhere but inside the message.
    fn cell_in(&self, message: &Cell, name: &Value) -> Cell {
        let inner = message.reference_cloned(0).unwrap();
        assert_eq!(format!("cell:{}", hash(&inner)), name.as_str().unwrap());
        inner
    }
}

#[test]
fn every_signed_payload_signs_verifies_and_travels() {
    let v = Vectors::load();
    assert_eq!(v.section("signed").len(), 6);
    for entry in v.section("signed") {
        let f = &entry["fields"];
        let name = entry["name"].as_str().unwrap();
        let op = match name {
            "worker.payout" => SignedOp::WorkerPayout,
            "worker.last_payout" => SignedOp::WorkerLastPayout,
            "client.charge" => SignedOp::ClientCharge,
            "client.grant_refund" => SignedOp::ClientGrantRefund,
            "proxy.close_request" => SignedOp::ProxyClose,
            "proxy.close_complete" => SignedOp::ProxyCloseComplete,
            other => panic!("a payload without a test: {other}"),
        };
        let payload = SignedPayload {
            op,
            query_id: u64_of(&f["query_id"]),
            tokens: u64_of(&f["tokens"]),
            target: addr(&f["expected_address"]),
        };
        assert_eq!(hash_of(&payload), entry["signed_hash"], "{name}");
        assert_eq!(
            SignedPayload::decode(&cell(&entry["payload"])).unwrap(),
            payload
        );
        let envelope = Envelope::sign(payload, &key(1), excess(f)).unwrap();
        assert_eq!(
            hex::encode(envelope.signature),
            entry["signature"].as_str().unwrap()
        );
        let body = cell(&entry["envelope"]);
        assert_eq!(hash(&envelope.encode().unwrap()), hash(&body), "{name}");
        assert_eq!(Envelope::decode(&body).unwrap(), envelope);
        assert_eq!(
            Envelope::from_boc(&envelope.to_boc().unwrap()).unwrap(),
            envelope
        );
        envelope.verify(&bytes(&entry["public_key"])).unwrap();
        assert!(envelope.verify(&v.key("wrong")).is_err());

        let moved = envelope.with_receiver(v.address("stranger"));
        moved.verify(&v.key("proxy")).unwrap();
        assert_ne!(hash(&moved.encode().unwrap()), hash(&body));
        match op {
            SignedOp::WorkerPayout | SignedOp::WorkerLastPayout => {
                check!(body, WorkerMessage, WorkerMessage::Signed(envelope));
            }
            SignedOp::ClientCharge | SignedOp::ClientGrantRefund => {
                check!(body, ClientMessage, ClientMessage::Signed(envelope));
            }
            SignedOp::ProxyClose | SignedOp::ProxyCloseComplete => {
                check!(body, ProxyMessage, ProxyMessage::Signed(envelope));
            }
        }
    }
}

#[test]
fn every_external_signs_and_decodes() {
    let v = Vectors::load();
    assert_eq!(v.section("externals").len(), 5);
    for entry in v.section("externals") {
        let f = &entry["fields"];
        let name = entry["name"].as_str().unwrap();
        let body = cell(&entry["body"]);
        if name == "wallet.inner_deploy_message" {
            let owner = v.address("worker_owner");
            let params = v.params("params.v3.all_codes");
            let init = worker_init(&params, v.address("proxy"), v.key("proxy"), owner).unwrap();
            let message = InternalMessage::deploy(&init, number(&f["value"]));
            assert_eq!(message.to, addr(&f["to"]));
            assert_eq!(hash(&message.encode().unwrap()), hash(&body));
            assert_eq!(InternalMessage::decode(&body).unwrap(), message);
            continue;
        }
        let messages = f["messages"].as_array().unwrap().iter().map(|m| {
            let outgoing = Outgoing {
                mode: number(&m["mode"]) as u8,
                message: cell(m),
            };
            let message = InternalMessage::decode(&outgoing.message).unwrap();
            assert_eq!(
                Outgoing::new(&message).unwrap(),
                outgoing,
                "mode rule and encoding"
            );
            assert!(matches!(
                ProxyMessage::decode(&message.body.unwrap()).unwrap(),
                ProxyMessage::SaveState(_)
            ));
            outgoing
        });
        let transfer = Transfer {
            subwallet: u32_of(&f["subwallet"]),
            valid_until: u32_of(&f["valid_until"]),
            seqno: u32_of(&f["seqno"]),
            messages: messages.collect(),
        };
        let part = transfer.signed_part().unwrap();
        assert_eq!(hash(&part), hash(&cell(&entry["signed_part"])), "{name}");
        let signed = transfer.sign(&key(3)).unwrap();
        assert_eq!(
            hex::encode(signed.signature),
            entry["signature"].as_str().unwrap()
        );
        assert_eq!(hash(&signed.encode().unwrap()), hash(&body), "{name}");
        assert_eq!(SignedTransfer::decode(&body).unwrap(), signed);
        signed.verify(&v.key("wallet")).unwrap();
        assert!(signed.verify(&v.key("proxy")).is_err());

        let init =
            wallet_init(v.code("wallet"), v.key("wallet"), v.address("proxy_owner")).unwrap();
        for init in [None, Some(&init)] {
            let external = signed.external(v.address("wallet"), init).unwrap();
            assert_eq!(External::from_boc(&external.to_boc()).unwrap(), external);
            assert_eq!(external.body_hash(), body.repr_hash().0);
            let seen = cocoon_ton::transaction::parse_message(&external.cell).unwrap();
            assert_eq!((seen.src, seen.dst), (None, Some(v.address("wallet"))));
            assert_eq!((hash(&seen.body), seen.init), (hash(&body), init.is_some()));
        }
    }
    assert_eq!((mode_for(0), mode_for(1), mode_for(2)), (1, 1, 0));
}

#[test]
fn five_messages_do_not_fit() {
    let outgoing = Outgoing {
        mode: 1,
        message: Cell::default(),
    };
    let transfer = Transfer {
        subwallet: 0,
        valid_until: 1,
        seqno: 1,
        messages: vec![outgoing; 5],
    };
    assert!(matches!(
        transfer.signed_part(),
        Err(AbiError::TooManyEntries { limit: 4, .. })
    ));
}

#[test]
fn batches_respect_count_balance_and_reserve() {
    const TON: u128 = 1_000_000_000;
    assert_eq!(batch_size([1; 9], 3 * TON), 4);
    assert_eq!(batch_size([], 3 * TON), 0);
    assert_eq!(batch_size([1], 2 * TON), 0, "below 2.1 TON nothing is sent");
    assert_eq!(
        batch_size([2 * TON, TON, 1], 3 * TON),
        1,
        "0.1 TON stays for fees"
    );
    assert_eq!(batch_size([2 * TON, TON - TON / 10, 1], 3 * TON), 2);
    assert_eq!(
        batch_size([600 * TON, 600 * TON], 5000 * TON),
        1,
        "1000 TON at most"
    );
    assert_eq!(batch_size([u128::MAX], 5000 * TON), 0);
}
