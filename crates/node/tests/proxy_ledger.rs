//! What the proxy learns from its contract's transactions, and what it must not (contracts.md 14.1 and 14.4).

use std::collections::BTreeSet;

use cocoon_node::proxy::{ProxyConfig, ProxyCore, ProxyEvent, ProxySettings};
use cocoon_node::root::RootView;
use cocoon_ton::abi::message::ProxyMessage;
use cocoon_ton::abi::{ClientLedger, ClientRequestPayload, ContractStatus, Params};
use cocoon_ton::{Address, Cell, MsgInfo, TxInfo};
use ed25519_dalek::SigningKey;

const TON: u128 = 1_000_000_000;

fn address(n: u8) -> Address {
    Address::basechain([n; 32])
}

fn root() -> RootView {
    RootView {
        owner: None,
        last_proxy_seqno: 1,
        address: address(1),
        version: 1,
        params: Params {
            struct_version: 3,
            params_version: 1,
            unique_id: 17,
            is_test: true,
            price_per_token: 20,
            worker_fee_per_token: 19,
            prompt_multiplier: 10_000,
            cached_multiplier: 10_000,
            completion_multiplier: 10_000,
            reasoning_multiplier: 10_000,
            proxy_delay: 600,
            client_delay: 300,
            min_proxy_stake: TON,
            min_client_stake: TON,
            proxy_code: Some(Cell::default()),
            worker_code: Some(Cell::default()),
            client_code: Some(Cell::default()),
        },
        proxy_hashes: BTreeSet::new(),
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        proxies: Vec::new(),
    }
}

fn proxy(key: &SigningKey) -> ProxyCore {
    let cfg = ProxyConfig {
        key: key.clone(),
        owner: address(2),
        wallet: address(3),
        contracts: cocoon_node::ChainMode::Live,
        is_test: true,
        testnet: true,
        check_hashes: false,
        entropy: [7; 32],
        settings: ProxySettings::default(),
    };
    ProxyCore::new(cfg, root(), Vec::new(), 0).unwrap()
}

/// A message of a client contract to the proxy contract, and how its transaction ended.
fn notice(
    core: &ProxyCore,
    key: &SigningKey,
    lt: u64,
    balance: u128,
    status: ContractStatus,
    exit: Option<i32>,
) -> TxInfo {
    let owner = address(9);
    let key = key.verifying_key().to_bytes();
    let client = root().client_contract(core.contract(), key, owner).unwrap();
    let body = ProxyMessage::ClientRequest {
        query_id: lt,
        owner,
        ledger: ClientLedger {
            status,
            balance,
            stake: TON,
            tokens_used: 0,
            secret_hash: [0; 32],
        },
        payload: Some(ClientRequestPayload::RefundGranted {
            coins: TON,
            excess_to: owner,
        }),
    };
    TxInfo {
        account: core.contract(),
        lt,
        hash: [0; 32],
        prev_lt: lt - 1,
        prev_hash: [0; 32],
        utime: 0,
        total_fees: 0,
        aborted: exit != Some(0),
        compute_exit_code: exit,
        action_result_code: None,
        in_msg: Some(MsgInfo {
            src: Some(client.address),
            dst: Some(core.contract()),
            value: TON,
            bounce: true,
            bounced: false,
            body: body.encode().unwrap(),
            fwd_fee: 0,
            ihr_fee: 0,
            created_lt: lt,
            hash: [0; 32],
            init: false,
        }),
        out_msgs: Vec::new(),
        boc: Cell::default(),
    }
}

fn ledger_of(core: &ProxyCore) -> (u8, u128) {
    let record = &core.books().clients[&address(9)].record;
    (record.status, record.balance)
}

#[test]
fn a_request_that_failed_says_nothing() {
    let key = SigningKey::from_bytes(&[5; 32]);
    let mut core = proxy(&key);
    let seen = notice(&core, &key, 10, 5 * TON, ContractStatus::Normal, Some(0));
    core.handle(1, ProxyEvent::Transactions(vec![seen]));
    assert_eq!(ledger_of(&core), (0, 5 * TON));
    // The contract could not pay this refund (exit 5): the client takes it back when it bounces.
    let failed = notice(&core, &key, 20, 0, ContractStatus::Closed, Some(5));
    core.handle(2, ProxyEvent::Transactions(vec![failed]));
    assert_eq!(ledger_of(&core), (0, 5 * TON));
    assert_eq!(core.cursor_lt(), 20);
    // A notice of 1 nanoTON has no gas, is aborted, and counts.
    let skipped = notice(&core, &key, 30, 4 * TON, ContractStatus::Closing, None);
    core.handle(3, ProxyEvent::Transactions(vec![skipped]));
    assert_eq!(ledger_of(&core), (1, 4 * TON));
}
