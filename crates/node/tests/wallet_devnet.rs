//! The wallet on the embedded chain with the compiled wallet contract: everything arrives once, no coin is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cocoon_devnet::{Devnet, DevnetConfig, GenesisAccount};
use cocoon_node::wallet::{Condition, Outgoing, WalletConfig, WalletError, WalletHandle};
use cocoon_node::watch::watch_transactions;
use cocoon_ton::abi::{StateInit, wallet_init};
use cocoon_ton::wallet::MIN_BALANCE;
use cocoon_ton::{Address, Cell, CellBuilder, Chain, boc};
use ed25519_dalek::SigningKey;
use tokio::time::timeout;

const TON: u128 = 1_000_000_000;
const WALLET_CODE: &[u8] = include_bytes!("../../../contracts/build/CocoonWallet.boc");
const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[21; 32])
}

fn init(key: &SigningKey) -> StateInit {
    let code = boc::decode(WALLET_CODE, boc::STATE).unwrap();
    let owner = Address::basechain([9; 32]);
    wallet_init(code, key.verifying_key().to_bytes(), owner).unwrap()
}

fn receiver() -> Address {
    Address::basechain([5; 32])
}

fn body(number: u32) -> Cell {
    let mut body = CellBuilder::new();
    body.store_u32(number).unwrap();
    body.build().unwrap()
}

fn note(number: u32) -> Outgoing {
    Outgoing {
        to: receiver(),
        value: TON / 2,
        bounce: false,
        init: None,
        body: Some(body(number)),
    }
}

fn devnet(directory: &std::path::Path, balance: u128) -> Devnet {
    let config = DevnetConfig {
        genesis: vec![
            GenesisAccount {
                address: init(&key()).address,
                balance,
                state_init: None,
            },
            GenesisAccount {
                address: receiver(),
                balance: TON,
                state_init: None,
            },
        ],
        block_interval: Duration::from_millis(20),
        ..DevnetConfig::default()
    };
    Devnet::open(directory, config).unwrap()
}

fn wallet(chain: &Devnet) -> WalletHandle {
    let key = key();
    let config = WalletConfig {
        init: init(&key),
        key,
        min_balance: MIN_BALANCE,
        poll: POLL,
    };
    WalletHandle::spawn(Arc::new(chain.clone()), config)
}

fn assert_conserved(chain: &Devnet) {
    let supply = chain.total_coins();
    assert_eq!(
        supply.accounts + supply.in_queues + supply.burned_fees,
        supply.genesis
    );
}

#[tokio::test]
async fn ten_messages_arrive_exactly_once() {
    let directory = tempfile::tempdir().unwrap();
    let chain = devnet(directory.path(), 50 * TON);
    let wallet = wallet(&chain);
    let watched: Arc<dyn Chain> = Arc::new(chain.clone());
    let mut arrivals = watch_transactions(watched, receiver(), 0, POLL);

    let tasks: Vec<_> = (0..10)
        .map(|number| {
            let wallet = wallet.clone();
            tokio::spawn(async move { wallet.send(note(number)).await })
        })
        .collect();
    let mut sent = HashMap::new();
    for (number, task) in tasks.into_iter().enumerate() {
        let result = timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
        assert!(result.value < TON / 2 && result.value > TON * 49 / 100);
        sent.insert(result.message_hash, number as u32);
    }
    assert_eq!(sent.len(), 10);

    let mut arrived = Vec::new();
    while arrived.len() < 10 {
        let batch = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
        for tx in batch {
            let message = tx.in_msg.unwrap();
            let number = message.body.as_slice().unwrap().load_u32().unwrap();
            assert_eq!(sent.get(&message.hash), Some(&number), "not as reported");
            arrived.push(number);
        }
    }
    arrived.sort_unstable();
    assert_eq!(arrived, (0..10).collect::<Vec<_>>());

    // Nothing comes afterwards, and the seqno says how many externals there were.
    let more = timeout(Duration::from_millis(500), arrivals.recv()).await;
    assert!(more.is_err(), "{more:?}");
    wallet.ready().await.unwrap();
    let status = wallet.status();
    assert!(status.seqno >= 3, "{status:?}");
    assert!(status.balance < 45 * TON && status.balance > 44 * TON);
    assert_conserved(&chain);
    wallet.close().await;
    chain.shutdown();
}

#[tokio::test]
async fn a_restarted_wallet_goes_on_from_the_chain() {
    let directory = tempfile::tempdir().unwrap();
    let chain = devnet(directory.path(), 20 * TON);
    let first = wallet(&chain);
    timeout(PATIENCE, first.send(note(1)))
        .await
        .unwrap()
        .unwrap();
    drop(first);
    let second = wallet(&chain);
    timeout(PATIENCE, second.send(note(2)))
        .await
        .unwrap()
        .unwrap();
    // Two wallets with one key race for the seqno; both get everything through.
    let third = wallet(&chain);
    let (a, b) = tokio::join!(second.send(note(3)), third.send(note(4)));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a.tx_lt, b.tx_lt);
    let all = chain.transactions(&receiver(), 0, 100).await.unwrap();
    let bodies: Vec<_> = all
        .iter()
        .map(|tx| &tx.in_msg.as_ref().unwrap().body)
        .collect();
    for number in 1..=4 {
        let count = bodies.iter().filter(|b| ***b == body(number)).count();
        assert_eq!(count, 1, "message {number}");
    }
    assert_conserved(&chain);
}

#[tokio::test]
async fn a_message_the_contract_skips_fails_and_the_rest_goes() {
    let directory = tempfile::tempdir().unwrap();
    let chain = devnet(directory.path(), 20 * TON);
    let wallet = wallet(&chain);
    // The action phase refuses a message to a workchain that does not exist.
    let nowhere = Outgoing {
        to: Address {
            workchain: 42,
            hash: [1; 32],
        },
        ..note(1)
    };
    let (bad, good) = tokio::join!(wallet.send(nowhere), wallet.send(note(2)));
    assert!(matches!(bad, Err(WalletError::LeftOut { .. })), "{bad:?}");
    good.unwrap();
    assert_conserved(&chain);
}

#[tokio::test]
async fn a_poor_wallet_waits() {
    let directory = tempfile::tempdir().unwrap();
    let chain = devnet(directory.path(), TON);
    let wallet = wallet(&chain);
    let waiting = timeout(Duration::from_millis(500), wallet.send(note(1))).await;
    assert!(waiting.is_err(), "{waiting:?}");
    let status = wallet.status();
    assert!(matches!(status.condition, Condition::LowBalance { .. }));
    assert_eq!((status.balance, status.queued), (TON, 1));
    wallet.close().await;
}
