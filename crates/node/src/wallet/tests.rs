//! The wallet on a scripted chain: loss, copies, races for the seqno, poverty, refusals, lag, restarts.

mod fake;

use std::time::Duration;

use cocoon_ton::abi::{StateInit, wallet_init};
use cocoon_ton::wallet::MIN_BALANCE;
use cocoon_ton::{AccountState, AccountStatus, Address, Cell, CellBuilder, NetworkInfo};
use ed25519_dalek::SigningKey;
use tokio::time::{Instant, sleep, timeout};

use self::fake::{FakeChain, Fate};
use super::core::{Answer, Call, Core, Effect, Event, RESEND};
use super::*;

const TON: u128 = 1_000_000_000;
const POLL: Duration = Duration::from_secs(5);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn init() -> StateInit {
    let public = key().verifying_key().to_bytes();
    wallet_init(Cell::default(), public, Address::basechain([9; 32])).unwrap()
}

fn config() -> WalletConfig {
    WalletConfig {
        key: key(),
        init: init(),
        min_balance: MIN_BALANCE,
        poll: POLL,
    }
}

fn note(number: u32) -> Outgoing {
    let mut body = CellBuilder::new();
    body.store_u32(number).unwrap();
    Outgoing {
        to: Address::basechain([1; 32]),
        value: TON / 10,
        bounce: true,
        init: None,
        body: Some(body.build().unwrap()),
    }
}

/// Sends notes at the same time, in order; all of them must have an answer within two hours of fake time.
async fn send_all(wallet: &WalletHandle, count: u32) -> Vec<Result<Sent, WalletError>> {
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let wallet = wallet.clone();
            tokio::spawn(async move { wallet.send(note(number)).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        let result = timeout(Duration::from_secs(7200), task).await;
        results.push(result.expect("no answer for two hours").unwrap());
    }
    results
}

#[tokio::test(start_paused = true)]
async fn ten_messages_go_in_order_in_three_batches() {
    let chain = FakeChain::new(50 * TON);
    let wallet = chain.spawn();
    let started = Instant::now();
    let results = send_all(&wallet, 10).await;
    assert!(started.elapsed() < 4 * POLL, "{:?}", started.elapsed());
    assert_eq!(chain.left(), (0..10).collect::<Vec<_>>());
    let seen = chain.get().seen.clone();
    let sizes: Vec<_> = seen.iter().map(|s| (s.1, s.2, s.4)).collect();
    assert_eq!(sizes, [(0, 4, true), (1, 4, false), (2, 2, false)]);
    assert!(seen.iter().all(|s| s.3 == 1_003_600));
    let first = results[0].as_ref().unwrap();
    assert_eq!((first.tx_lt, first.value), (10, TON / 10 - TON / 1000));
    assert_eq!(results[9].as_ref().unwrap().tx_lt, 30);
    sleep(POLL * 2).await;
    let status = wallet.status();
    assert_eq!((status.seqno, status.queued, status.in_flight), (3, 0, 0));
    assert_eq!(status.balance, 49 * TON);
    assert_eq!(status.condition, Condition::Ready);
    wallet.close().await;
    assert_eq!(wallet.send(note(1)).await, Err(WalletError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_lost_external_is_sent_again_with_the_same_bytes() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Lost, Fate::Lost]);
    let started = Instant::now();
    send_all(&chain.spawn(), 2).await[1].as_ref().unwrap();
    assert!(started.elapsed() >= RESEND * 2);
    assert_eq!(chain.left(), [0, 1]);
    let seen = chain.get().seen.clone();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|s| s.0 == seen[0].0));
}

#[tokio::test(start_paused = true)]
async fn an_unheard_success_is_not_sent_twice() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::GoodUnheard]);
    let results = send_all(&chain.spawn(), 3).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(chain.left(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn unreachable_sources_are_tried_again() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Unreachable; 5]);
    chain.get().account_failures = 3;
    let wallet = chain.spawn();
    sleep(Duration::from_millis(1)).await;
    assert!(matches!(
        wallet.status().condition,
        Condition::SourceTrouble(_)
    ));
    assert!(send_all(&wallet, 1).await[0].is_ok());
    assert_eq!(chain.left(), [0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_the_seqno_makes_us_sign_anew() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Overtaken, Fate::Overtaken]);
    let results = send_all(&chain.spawn(), 6).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(chain.left(), [0, 1, 2, 3, 4, 5]);
    let seqnos: Vec<_> = chain.get().seen.iter().map(|s| s.1).collect();
    assert_eq!(seqnos, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_lagging_or_gappy_source_never_makes_us_pay_twice() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Good]);
    {
        let mut fake = chain.get();
        fake.tx_lag = 2;
        fake.gaps = 3;
    }
    let wallet = chain.spawn();
    let first = tokio::spawn({
        let wallet = wallet.clone();
        async move { wallet.send(note(0)).await }
    });
    sleep(Duration::from_millis(10)).await;
    // Our transaction and a stranger's behind it: the gap hides ours for a while, then an old state is shown.
    assert_eq!(chain.left(), [0]);
    chain.get().transaction(Cell::default(), Vec::new(), false);
    sleep(POLL * 2 + Duration::from_millis(100)).await;
    assert_eq!(chain.get().tx_lag, 0, "nothing was hidden");
    assert!(chain.get().gaps < 3, "the gaps were not met");
    chain.get().account_lag = 1;
    assert!(first.await.unwrap().is_ok());
    assert!(wallet.send(note(1)).await.is_ok());
    assert_eq!(chain.left(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn poverty_waits_and_says_so() {
    let chain = FakeChain::new(2 * TON);
    let wallet = chain.spawn();
    let task = tokio::spawn({
        let wallet = wallet.clone();
        async move { wallet.send(note(5)).await }
    });
    sleep(Duration::from_secs(3600)).await;
    assert!(!task.is_finished());
    assert!(chain.get().seen.is_empty(), "nothing was sent");
    let status = wallet.status();
    assert_eq!(status.queued, 1);
    assert_eq!(
        status.condition,
        Condition::LowBalance {
            needed: MIN_BALANCE
        }
    );
    assert!(status.is_low());
    assert!(status.condition.to_string().contains("2.100000000 TON"));
    chain.get().balance = 3 * TON;
    assert!(task.await.unwrap().is_ok());
    wallet.ready().await.unwrap();
    // A message that is larger than what is there waits, too.
    let large = Outgoing {
        value: 3 * TON,
        ..note(6)
    };
    let task = tokio::spawn({
        let wallet = wallet.clone();
        async move { wallet.send(large).await }
    });
    sleep(Duration::from_secs(60)).await;
    let needed = 3 * TON + TON / 10;
    assert_eq!(wallet.status().condition, Condition::LowBalance { needed });
    chain.get().balance = 4 * TON;
    assert!(task.await.unwrap().is_ok());
    assert_eq!(chain.left(), [5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_poverty_or_age_is_cured() {
    let chain = FakeChain::new(50 * TON).fates(&[
        Fate::Refused(Some(1035)),
        Fate::Refused(Some(1030)),
        Fate::Good,
    ]);
    let wallet = chain.spawn();
    let task = tokio::spawn({
        let wallet = wallet.clone();
        async move { wallet.send(note(0)).await }
    });
    sleep(Duration::from_millis(100)).await;
    chain.get().utime += 100;
    assert!(task.await.unwrap().is_ok());
    let seen = chain.get().seen.clone();
    assert_eq!(seen[0].0, seen[1].0, "1035 waits with the same bytes");
    assert_ne!(seen[1].0, seen[2].0, "1030 signs anew");
    assert_eq!(seen[2].3, 1_003_700);
    assert_eq!(chain.left(), [0]);
}

#[tokio::test(start_paused = true)]
async fn an_external_that_nobody_carries_is_renewed_after_its_hour() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Lost; 125]);
    let wallet = chain.spawn();
    let task = tokio::spawn(async move { wallet.send(note(0)).await });
    sleep(Duration::from_secs(3599)).await;
    assert_eq!(chain.get().seen.len(), 120);
    chain.get().utime += 3599;
    assert!(task.await.unwrap().is_ok());
    let seen = chain.get().seen.clone();
    assert!(seen[..120].iter().all(|s| s.0 == seen[0].0));
    assert_ne!(seen[125].0, seen[0].0);
    assert_eq!((seen[125].1, seen[125].3), (0, 1_007_199));
    assert_eq!(chain.left(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_wallet_and_a_wrong_key_fail_with_advice() {
    let address = init().address;
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Refused(Some(1031))]);
    let results = send_all(&chain.spawn(), 2).await;
    assert!(
        results.contains(&Err(WalletError::Blocked { address })),
        "{results:?}"
    );
    chain.get().deployed = true;
    chain.get().blocked = true;
    let wallet = chain.spawn();
    let error = wallet.send(note(3)).await.unwrap_err();
    assert_eq!(error, WalletError::Blocked { address });
    assert!(error.to_string().contains("unblock it"));
    assert_eq!(wallet.status().condition, Condition::Blocked);
    chain.get().blocked = false;
    assert!(wallet.send(note(4)).await.is_ok(), "it works again at once");
    chain.get().key = Some([1; 32]);
    let error = wallet.send(note(5)).await.unwrap_err();
    assert_eq!(error, WalletError::WrongKey { address });

    let chain = FakeChain::new(50 * TON).fates(&[Fate::Refused(Some(1034))]);
    let results = send_all(&chain.spawn(), 1).await;
    assert_eq!(results[0], Err(WalletError::WrongKey { address }));
}

#[tokio::test(start_paused = true)]
async fn a_refused_copy_does_not_hide_the_accepted_one() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::GoodThenBlocked]);
    let results = send_all(&chain.spawn(), 1).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert_eq!(chain.left(), [0]);
}

#[tokio::test(start_paused = true)]
async fn unknown_refusals_end_after_a_while() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Refused(None); 9]);
    assert!(send_all(&chain.spawn(), 1).await[0].is_ok());
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Refused(Some(9)); 10]);
    let results = send_all(&chain.spawn(), 1).await;
    assert!(
        matches!(
            results[0],
            Err(WalletError::Rejected {
                exit_code: Some(9),
                ..
            })
        ),
        "{results:?}"
    );
    assert!(chain.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_left_out_fails_alone() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Good, Fate::LeavesOut(1)]);
    let wallet = chain.spawn();
    wallet.send(note(9)).await.unwrap();
    let results = send_all(&wallet, 4).await;
    let failed: Vec<_> = results.iter().map(Result::is_err).collect();
    assert_eq!(failed.iter().filter(|f| **f).count(), 1, "{results:?}");
    assert!(failed[1]);
    assert!(matches!(results[1], Err(WalletError::LeftOut { .. })));
    assert_eq!(chain.left(), [9, 0, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_batch_fails_only_after_its_seqno_is_used_up() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Aborts, Fate::Lost]);
    let results = send_all(&chain.spawn(), 1).await;
    assert!(
        matches!(
            results[0],
            Err(WalletError::Aborted {
                action_code: Some(37),
                ..
            })
        ),
        "{results:?}"
    );
    let seen = chain.get().seen.clone();
    let sizes: Vec<_> = seen.iter().map(|s| (s.1, s.2)).collect();
    assert_eq!(sizes, [(0, 1), (0, 0), (0, 0)]);
    assert_eq!(chain.get().seqno, 1, "the messages cannot be replayed");
    assert!(chain.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_flight_leaves_at_most_one_external_per_seqno() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Lost]);
    let wallet = chain.spawn();
    let task = tokio::spawn(async move { wallet.send(note(0)).await });
    sleep(Duration::from_millis(10)).await;
    // The process dies; the next one looks at the chain, does not find the message and sends it again.
    task.abort();
    chain.get().utime += 5;
    let wallet = chain.spawn();
    assert!(wallet.send(note(0)).await.is_ok());
    // The old bytes show up now: the seqno is used.
    let seen = chain.get().seen.clone();
    assert_eq!((seen[0].1, seen[1].1), (0, 0));
    assert_ne!(seen[0].0, seen[1].0);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(chain.left(), [0]);
}

#[tokio::test(start_paused = true)]
async fn closing_gives_everybody_an_answer() {
    let chain = FakeChain::new(50 * TON).fates(&[Fate::Lost; 10]);
    let wallet = chain.spawn();
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let wallet = wallet.clone();
            tokio::spawn(async move { wallet.send(note(n)).await })
        })
        .collect();
    sleep(Duration::from_millis(10)).await;
    let started = Instant::now();
    wallet.close().await;
    assert!(started.elapsed() <= CLOSE_GRACE + POLL);
    let mut errors = Vec::new();
    for task in tasks {
        errors.push(task.await.unwrap().unwrap_err());
    }
    let unconfirmed = errors.iter().filter(|e| e.may_still_arrive()).count();
    assert_eq!(unconfirmed, chain.get().seen[0].2);
    assert!(
        errors
            .iter()
            .all(|e| matches!(e, WalletError::Unconfirmed | WalletError::Closed))
    );
    wallet.close().await;
}

#[tokio::test(start_paused = true)]
async fn impossible_messages_are_refused_before_they_wait() {
    let chain = FakeChain::new(50 * TON);
    let wallet = chain.spawn();
    let rich = Outgoing {
        value: 1001 * TON,
        ..note(0)
    };
    let error = wallet.send(rich).await.unwrap_err();
    assert!(error.to_string().contains("1001 TON"), "{error}");
    let mut deep = Cell::default();
    for _ in 0..MAX_MESSAGE_DEPTH + 1 {
        let mut b = CellBuilder::new();
        b.store_reference(deep).unwrap();
        deep = b.build().unwrap();
    }
    let deep = Outgoing {
        body: Some(deep),
        ..note(0)
    };
    assert!(matches!(
        wallet.send(deep).await,
        Err(WalletError::InvalidMessage { .. })
    ));
    assert!(chain.get().seen.is_empty());
}

#[test]
fn the_core_asks_one_thing_at_a_time() {
    let mut core = Core::new(config(), 1);
    let at = Duration::from_secs;
    let call = |effects: Vec<Effect>| match effects.as_slice() {
        [Effect::Call(call)] => call.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(call(core.handle(at(0), Event::Tick)), Call::Account);
    let message = checked(note(0)).unwrap();
    let submit = |id| Event::Submit {
        id,
        message: message.clone(),
    };
    assert!(core.handle(at(0), submit(1)).is_empty());
    assert_eq!(core.wake_at(), None, "a call runs");
    let funded = AccountState {
        status: AccountStatus::Uninit,
        balance: 10 * TON,
        ..AccountState::NONEXISTENT
    };
    let account = |state| Event::Answer(Answer::Account(Ok(state)));
    assert_eq!(call(core.handle(at(1), account(funded))), Call::Network);
    let network = Event::Answer(Answer::Network(Ok(NetworkInfo {
        global_id: -217,
        seqno: 1,
        utime: 100,
    })));
    let Call::Send(first) = call(core.handle(at(1), network)) else {
        panic!("not sent");
    };
    let sent = || Event::Answer(Answer::Sent(Ok(())));
    assert!(core.handle(at(2), sent()).is_empty());
    assert_eq!(core.status().in_flight, 1);
    assert_eq!(core.wake_at(), Some(at(1) + POLL));
    let quiet = AccountState {
        status: AccountStatus::Uninit,
        balance: 10 * TON,
        ..AccountState::NONEXISTENT
    };
    let mut now = core.wake_at().unwrap();
    while now < at(2) + RESEND {
        assert_eq!(call(core.handle(now, Event::Tick)), Call::Account);
        assert!(core.handle(now, account(quiet.clone())).is_empty());
        now = core.wake_at().unwrap();
    }
    let again = core.handle(at(2) + RESEND, Event::Tick);
    assert!(
        matches!(call(again), Call::Send(boc) if boc == first),
        "the same bytes after 30 s"
    );
}

#[test]
fn the_key_stays_out_of_debug_output() {
    let text = format!("{:?}", config());
    assert!(text.contains("(secret)"));
    let secret = hex::encode([7u8; 32]);
    assert!(
        !text.contains(&secret) && !text.contains("7, 7, 7"),
        "{text}"
    );
}
