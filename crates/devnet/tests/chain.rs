//! The running chain: blocks, latency, refusals, restarts, kill -9, damaged stores.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cocoon_devnet::{ClockMode, Devnet, DevnetConfig, DevnetError, SendError};
use cocoon_ton::{AccountStatus, Chain, ChainError};

use common::*;

fn wallets() -> DevnetConfig {
    config(vec![
        contract(1, 1000 * TON, open_wallet()),
        contract(2, 1000 * TON, open_wallet()),
        contract(3, 10 * TON, thrower()),
    ])
}

#[tokio::test]
async fn a_transfer_goes_through_in_one_block_and_fast() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Devnet::open(directory.path(), wallets()).unwrap();
    let mut heads = chain.subscribe();
    let started = Instant::now();
    let hash = chain
        .send(transfer(1, account(2), 5 * TON, 1, 0))
        .await
        .unwrap();
    let received = wait_transactions(&chain, &account(2), 1).await;
    let latency = started.elapsed();
    assert!(latency < Duration::from_secs(2), "{latency:?}");
    assert!(heads.has_changed().unwrap());
    let sent = wait_transactions(&chain, &account(1), 1).await;
    assert_eq!(sent[0].in_msg.as_ref().unwrap().hash, hash);
    assert_eq!(
        sent[0].out_msgs[0].hash,
        received[0].in_msg.as_ref().unwrap().hash
    );
    assert!(received[0].lt > sent[0].out_msgs[0].created_lt);
    let block = chain.block(*heads.borrow_and_update()).unwrap().unwrap();
    assert_eq!(block.transactions.len(), 2, "both in the same block");

    let state = chain.account(&account(2)).await.unwrap();
    assert_eq!(state.status, AccountStatus::Active);
    assert_eq!(state.last_hash, received[0].hash);
    assert_eq!(state.balance + received[0].total_fees, 1005 * TON);
    let info = chain.network().await.unwrap();
    assert_eq!((info.seqno, info.utime), (block.seqno, START));
    assert_conserved(&chain);
    assert!(chain.total_coins().burned_fees > 0);
}

#[tokio::test]
async fn refused_messages_leave_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Devnet::open(directory.path(), wallets()).unwrap();
    let error = chain
        .send(transfer(3, account(2), TON, 1, 0))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::Rejected {
                exit_code: Some(42),
                ..
            }
        ),
        "{error}"
    );
    let error = chain
        .send(transfer(77, account(2), TON, 1, 0))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::Rejected {
                exit_code: None,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        chain.send(vec![1, 2, 3]).await,
        Err(ChainError::BadRequest(_))
    ));
    assert!(matches!(
        chain.send_external(&vec![0; 70_000]),
        Err(SendError::Malformed(_))
    ));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        chain.network().await.unwrap().seqno,
        0,
        "no message, no block"
    );
    assert!(
        chain
            .transactions(&account(3), 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_bounce_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Devnet::open(directory.path(), wallets()).unwrap();
    chain
        .send(transfer(1, account(3), TON, 1, 0))
        .await
        .unwrap();
    let mine = wait_transactions(&chain, &account(1), 2).await;
    let back = mine[1].in_msg.as_ref().unwrap();
    assert!(back.bounced && back.src == Some(account(3)));
    assert!(back.value > TON * 99 / 100);
    assert_eq!(
        (mine[1].prev_lt, mine[1].prev_hash),
        (mine[0].lt, mine[0].hash)
    );
    let theirs = chain.transactions(&account(3), 0, 10).await.unwrap();
    assert_eq!(theirs[0].compute_exit_code, Some(42));
    assert!(theirs[0].aborted);
    assert_conserved(&chain);
}

#[tokio::test]
async fn time_passes_and_rent_is_burned() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Devnet::open(directory.path(), wallets()).unwrap();
    let mut heads = chain.subscribe();
    chain.advance(86_400);
    heads.changed().await.unwrap();
    assert_eq!(chain.network().await.unwrap().utime, START + 86_400);
    chain
        .send(transfer(1, account(2), TON, 1, 0))
        .await
        .unwrap();
    let received = wait_transactions(&chain, &account(2), 1).await;
    assert_eq!(received[0].utime, START + 86_400);
    assert_conserved(&chain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_senders_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let senders: Vec<u8> = (10..30).collect();
    let genesis = senders
        .iter()
        .map(|byte| contract(*byte, 100 * TON, open_wallet()))
        .collect();
    let chain = Devnet::open(directory.path(), config(genesis)).unwrap();
    let mut tasks = Vec::new();
    for from in senders.clone() {
        let chain = chain.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..10u64 {
                let to = account(10 + (from - 10 + 1) % 20);
                chain.send(transfer(from, to, TON, 1, round)).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for byte in senders {
        wait_transactions(&chain, &account(byte), 20).await;
    }
    assert_conserved(&chain);
    // The chain of blocks is linked by hashes.
    let head = chain.network().await.unwrap().seqno;
    let mut previous = chain.block(0).unwrap().unwrap();
    for seqno in 1..=head {
        let block = chain.block(seqno).unwrap().unwrap();
        assert_eq!(block.prev_hash, previous.hash());
        assert!(block.start_lt > previous.end_lt && block.utime >= previous.utime);
        previous = block;
    }
}

#[tokio::test]
async fn goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let chain = Devnet::open(directory.path(), wallets()).unwrap();
    chain
        .send(transfer(1, account(2), TON, 1, 0))
        .await
        .unwrap();
    let before = wait_transactions(&chain, &account(1), 1).await;
    let balance = chain.account(&account(2)).await.unwrap();
    let head = chain.head();
    chain.shutdown();
    assert!(matches!(
        chain.send(transfer(1, account(2), TON, 1, 1)).await,
        Err(ChainError::Unavailable(_))
    ));
    drop(chain);

    // The genesis of the configuration is not looked at again.
    let chain = Devnet::open(directory.path(), config(Vec::new())).unwrap();
    assert_eq!(chain.head(), head);
    assert_eq!(chain.account(&account(2)).await.unwrap(), balance);
    chain
        .send(transfer(1, account(2), TON, 1, 1))
        .await
        .unwrap();
    let after = wait_transactions(&chain, &account(1), 2).await;
    assert_eq!(after[0], before[0]);
    assert_eq!(after[1].prev_hash, before[0].hash);
    // Time never runs backwards, even if the clock does.
    drop(chain);
    let early = DevnetConfig {
        clock: ClockMode::Manual(START - 1000),
        ..config(Vec::new())
    };
    let chain = Devnet::open(directory.path(), early).unwrap();
    chain
        .send(transfer(1, account(2), TON, 1, 2))
        .await
        .unwrap();
    let late = wait_transactions(&chain, &account(1), 3).await;
    assert_eq!(late[2].utime, START);
    assert_conserved(&chain);
}

const CHILD_DIRECTORY: &str = "COCOON_DEVNET_TEST_CHILD";

/// Not a test of its own: the process that `survives_kill_9` kills.
#[test]
fn child_that_sends_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let chain = Devnet::open(Path::new(&directory), wallets()).unwrap();
        let started = chain.network().await.unwrap().seqno;
        let mut heads = chain.subscribe();
        for round in 0u64.. {
            let unique = u64::from(started) << 32 | round;
            // To the thrower, so that messages, bounces and balances change in every block.
            let _ = chain.send(transfer(1, account(3), TON, 1, unique)).await;
            heads.changed().await.unwrap();
            let seqno = *heads.borrow_and_update();
            let hash = chain.block(seqno).unwrap().unwrap().hash();
            println!("block {seqno} {}", hex::encode(hash));
            std::io::stdout().flush().unwrap();
        }
    });
}

#[test]
fn survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut reported: Vec<(u32, String)> = Vec::new();
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_sends_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let blocks = lines
            .map_while(Result::ok)
            .filter_map(|line| {
                // The first line follows the text of the test harness.
                let line = line.split("block ").nth(1)?.to_owned();
                let (seqno, hash) = line.split_once(' ')?;
                Some((seqno.parse().ok()?, hash.to_owned()))
            })
            .take(5 + round * 3);
        reported.extend(blocks);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(reported.len(), 5 + 8 + 11 + 14);
    let chain = Devnet::open(directory.path(), config(Vec::new())).unwrap();
    assert_conserved(&chain);
    for (seqno, hash) in reported {
        let block = chain
            .block(seqno)
            .unwrap()
            .expect("a visible block is durable");
        assert_eq!(hex::encode(block.hash()), hash);
    }
}

fn open_error(directory: &Path, config: DevnetConfig) -> DevnetError {
    Devnet::open(directory, config).map(|_| ()).unwrap_err()
}

#[test]
fn refuses_what_it_does_not_understand_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chain.redb");

    std::fs::write(&file, b"this is not a database, whatever it is").unwrap();
    let error = open_error(directory.path(), wallets());
    assert!(matches!(error, DevnetError::Foreign { .. }), "{error}");
    assert_eq!(
        std::fs::read(&file).unwrap(),
        b"this is not a database, whatever it is"
    );
    std::fs::remove_file(&file).unwrap();

    // Another program's redb database.
    {
        let database = redb::Database::create(&file).unwrap();
        let write = database.begin_write().unwrap();
        let table = redb::TableDefinition::<u64, u64>::new("other");
        write.open_table(table).unwrap().insert(1, 1).unwrap();
        write.commit().unwrap();
    }
    let error = open_error(directory.path(), wallets());
    assert!(matches!(error, DevnetError::Foreign { .. }), "{error}");
    std::fs::remove_file(&file).unwrap();

    // A good store, another network.
    drop(Devnet::open(directory.path(), wallets()).unwrap());
    let other = DevnetConfig {
        global_id: -3,
        ..wallets()
    };
    let error = open_error(directory.path(), other);
    assert!(
        matches!(
            error,
            DevnetError::Network {
                found: -217,
                expected: -3,
                ..
            }
        ),
        "{error}"
    );

    // In use.
    let chain = Devnet::open(directory.path(), wallets()).unwrap();
    let error = open_error(directory.path(), wallets());
    assert!(matches!(error, DevnetError::InUse { .. }), "{error}");
    drop(chain);

    // Another format version.
    let meta = redb::TableDefinition::<&str, &[u8]>::new("cocoon_devnet_meta");
    {
        let database = redb::Database::open(&file).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(meta)
            .unwrap()
            .insert("format", 99u32.to_be_bytes().as_slice())
            .unwrap();
        write.commit().unwrap();
    }
    let error = open_error(directory.path(), wallets());
    assert!(
        matches!(
            error,
            DevnetError::Version {
                found: 99,
                expected: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("nothing was changed"));
}

#[test]
fn damage_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chain.redb");
    drop(Devnet::open(directory.path(), wallets()).unwrap());

    // An account that vanished: the coins do not add up any more.
    let accounts = redb::TableDefinition::<&[u8], &[u8]>::new("accounts");
    {
        let database = redb::Database::open(&file).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(accounts).unwrap().pop_first().unwrap();
        write.commit().unwrap();
    }
    let error = open_error(directory.path(), wallets());
    assert!(matches!(error, DevnetError::Corrupted { .. }), "{error}");
    assert!(error.to_string().contains("nanoTON"), "{error}");

    // Overwritten in the middle, cut off, and emptied headers: an error, never a panic or a new chain.
    std::fs::remove_file(&file).unwrap();
    drop(Devnet::open(directory.path(), wallets()).unwrap());
    let good = std::fs::read(&file).unwrap();
    for (from, to) in [(0, 64), (64, 320), (4096, 16_384), (0, good.len())] {
        let mut bad = good.clone();
        let to = to.min(bad.len());
        bad[from..to].fill(0xa5);
        std::fs::write(&file, &bad).unwrap();
        if let Ok(chain) = Devnet::open(directory.path(), wallets()) {
            // Damage in pages that are not in use changes nothing.
            assert_conserved(&chain);
            assert_eq!(chain.total_coins().genesis, 2010 * TON, "{from}..{to}");
        }
    }
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    let _ = open_error(directory.path(), wallets());
}
