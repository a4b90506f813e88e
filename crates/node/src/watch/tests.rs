//! Watchers on a scripted chain: nothing skipped, nothing repeated, pauses and recovery.

use std::sync::MutexGuard;

use cocoon_ton::{Cell, GetResult, NetworkInfo, StackValue};

use super::*;

const EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Fake {
    state: Option<AccountState>,
    txs: Vec<TxInfo>,
    failures: u32,
    calls: u32,
    gap: bool,
}

#[derive(Clone, Default)]
struct FakeChain(Arc<Mutex<Fake>>);

impl FakeChain {
    fn get(&self) -> MutexGuard<'_, Fake> {
        self.0.lock().unwrap()
    }

    fn grow(&self, count: u64) {
        let mut fake = self.get();
        for _ in 0..count {
            let prev_lt = fake.txs.last().map_or(0, |tx| tx.lt);
            fake.txs.push(transaction(prev_lt, prev_lt + 7));
        }
        let last_lt = fake.txs.last().map_or(0, |tx| tx.lt);
        fake.state = Some(AccountState {
            last_lt,
            ..AccountState::NONEXISTENT
        });
    }

    fn arc(&self) -> Arc<dyn Chain> {
        Arc::new(self.clone())
    }
}

fn address() -> Address {
    Address::basechain([3; 32])
}

fn transaction(prev_lt: u64, lt: u64) -> TxInfo {
    TxInfo {
        account: address(),
        lt,
        hash: [0; 32],
        prev_lt,
        prev_hash: [0; 32],
        utime: 0,
        total_fees: 0,
        aborted: false,
        compute_exit_code: None,
        action_result_code: None,
        in_msg: None,
        out_msgs: Vec::new(),
        boc: Cell::default(),
    }
}

#[async_trait::async_trait]
impl Chain for FakeChain {
    async fn network(&self) -> Result<NetworkInfo, ChainError> {
        Err(ChainError::BadRequest("not scripted".to_owned()))
    }

    async fn account(&self, _: &Address) -> Result<AccountState, ChainError> {
        let mut fake = self.get();
        fake.calls += 1;
        if fake.failures > 0 {
            fake.failures -= 1;
            return Err(ChainError::Unavailable("scripted".to_owned()));
        }
        Ok(fake.state.clone().unwrap_or(AccountState::NONEXISTENT))
    }

    async fn transactions(
        &self,
        _: &Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TxInfo>, ChainError> {
        let mut fake = self.get();
        fake.calls += 1;
        if fake.failures > 0 {
            fake.failures -= 1;
            return Err(ChainError::Timeout("scripted".to_owned()));
        }
        let newer = fake.txs.iter().filter(|tx| tx.lt > after_lt);
        let mut page: Vec<_> = newer.take(limit).cloned().collect();
        if std::mem::take(&mut fake.gap) && page.len() > 1 {
            page.remove(1);
        }
        Ok(page)
    }

    async fn run_get_method(
        &self,
        _: &Address,
        _: &str,
        _: Vec<StackValue>,
    ) -> Result<GetResult, ChainError> {
        Err(ChainError::BadRequest("not scripted".to_owned()))
    }

    async fn send(&self, _: Vec<u8>) -> Result<[u8; 32], ChainError> {
        Err(ChainError::BadRequest("not scripted".to_owned()))
    }
}

#[tokio::test(start_paused = true)]
async fn transactions_come_once_each_and_in_order() {
    let chain = FakeChain::default();
    chain.grow(150);
    chain.get().failures = 2;
    chain.get().gap = true;
    // Between two transactions: the first one is the next above it.
    let mut receiver = watch_transactions(chain.arc(), address(), 16, EVERY);
    let mut seen = Vec::new();
    while seen.len() < 148 {
        let batch = receiver.recv().await.unwrap();
        assert!(!batch.is_empty() && batch.len() <= BATCH);
        seen.extend(batch.iter().map(|tx| tx.lt));
    }
    chain.grow(2);
    let batch = receiver.recv().await.unwrap();
    seen.extend(batch.iter().map(|tx| tx.lt));
    let expected: Vec<_> = (3..=152).map(|n| n * 7).collect();
    assert_eq!(seen, expected);
    let nothing = tokio::time::timeout(EVERY * 10, receiver.recv()).await;
    assert!(nothing.is_err(), "nothing new: {nothing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_holds_the_reading_back() {
    let chain = FakeChain::default();
    chain.grow(5 * BATCH as u64);
    let mut receiver = watch_transactions(chain.arc(), address(), 0, EVERY);
    sleep(EVERY * 100).await;
    assert_eq!(chain.get().calls, 1, "one batch waits, none is read ahead");
    for _ in 0..5 {
        assert_eq!(receiver.recv().await.unwrap().len(), BATCH);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_end_with_their_receivers() {
    let chain = FakeChain::default();
    let receiver = watch_transactions(chain.arc(), address(), 0, EVERY);
    let accounts = watch_account(chain.arc(), address(), EVERY);
    sleep(EVERY * 3).await;
    drop((receiver, accounts));
    sleep(EVERY * 2).await;
    assert_eq!(
        Arc::strong_count(&chain.0),
        1,
        "a task still holds the chain"
    );
}

#[tokio::test(start_paused = true)]
async fn an_account_is_shown_at_the_start_and_when_it_changes() {
    let chain = FakeChain::default();
    let (mut receiver, staleness) = watch_account_tracked(chain.arc(), address(), EVERY);
    assert_eq!(receiver.recv().await.unwrap().last_lt, 0);
    chain.grow(1);
    assert_eq!(receiver.recv().await.unwrap().last_lt, 7);
    let old = chain.get().state.clone();
    chain.grow(1);
    assert_eq!(receiver.recv().await.unwrap().last_lt, 14);
    assert!(staleness.trouble().is_none() && staleness.age() <= EVERY);
    // A server that lags, then one that fails.
    chain.get().state = old;
    let nothing = tokio::time::timeout(EVERY * 20, receiver.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert!(staleness.trouble().unwrap().contains("older state"));
    chain.get().failures = 3;
    chain.grow(1);
    assert_eq!(receiver.recv().await.unwrap().last_lt, 21);
    assert!(staleness.trouble().is_none() && staleness.age() < EVERY);
}

#[tokio::test(start_paused = true)]
async fn outages_slow_the_polling_down() {
    let chain = FakeChain::default();
    chain.get().failures = u32::MAX;
    let every = Duration::from_millis(200);
    let (_receiver, staleness) = watch_account_tracked(chain.arc(), address(), every);
    sleep(Duration::from_secs(3600)).await;
    let calls = chain.get().calls;
    assert!((48..100).contains(&calls), "{calls} calls in an hour");
    assert!(staleness.age() >= Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn a_missing_root_says_what_to_check() {
    let chain = FakeChain::default();
    let error = read_root(&chain, &address()).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("check the address"), "{error}");
    chain.get().state = Some(AccountState {
        status: AccountStatus::Active,
        data: Some(Cell::default()),
        ..AccountState::NONEXISTENT
    });
    let error = read_root(&chain, &address()).await.unwrap_err();
    assert!(matches!(error, WatchError::NotRoot { .. }), "{error}");
    chain.get().failures = 1;
    assert!(
        read_root(&chain, &address())
            .await
            .unwrap_err()
            .is_retryable()
    );
}
