//! A scripted chain with one wallet account on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use cocoon_ton::abi::WalletState;
use cocoon_ton::wallet::{External, InternalMessage, SignedTransfer};
use cocoon_ton::{
    AccountState, AccountStatus, Address, Cell, Chain, ChainError, GetResult, MsgInfo, NetworkInfo,
    StackValue, TxInfo,
};

use super::{TON, WalletHandle, config, init, key};

/// What happens to the next external.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Carried out.
    Good,
    /// Taken over, and never seen again.
    Lost,
    /// Carried out, but the answer does not come back.
    GoodUnheard,
    /// Never reached the network.
    Unreachable,
    /// Refused with this exit code.
    Refused(Option<i32>),
    /// Somebody else with the key is faster.
    Overtaken,
    /// The message at this place is left out.
    LeavesOut(usize),
    /// The transaction fails, the seqno stays.
    Aborts,
    /// Carried out, and blocked right afterwards; the answer does not come back.
    GoodThenBlocked,
}

#[derive(Default)]
pub(super) struct Fake {
    pub(super) seqno: u32,
    pub(super) balance: u128,
    pub(super) utime: u32,
    pub(super) deployed: bool,
    pub(super) blocked: bool,
    pub(super) key: Option<[u8; 32]>,
    pub(super) txs: Vec<TxInfo>,
    pub(super) fates: VecDeque<Fate>,
    /// Externals that came in: body hash, seqno, number of messages, valid until, with StateInit.
    pub(super) seen: Vec<([u8; 32], u32, usize, u32, bool)>,
    /// Bodies of the messages that left.
    pub(super) left: Vec<Cell>,
    pub(super) account_failures: u32,
    /// Account answers that are this many transactions behind.
    pub(super) account_lag: usize,
    /// Transaction answers that hide the newest ones.
    pub(super) tx_lag: usize,
    /// Answers that leave out the first transaction.
    pub(super) gaps: u32,
}

#[derive(Clone, Default)]
pub(super) struct FakeChain(Arc<Mutex<Fake>>);

impl FakeChain {
    pub(super) fn new(balance: u128) -> Self {
        let chain = Self::default();
        chain.get().balance = balance;
        chain.get().utime = 1_000_000;
        chain
    }

    pub(super) fn get(&self) -> MutexGuard<'_, Fake> {
        self.0.lock().unwrap()
    }

    pub(super) fn fates(self, fates: &[Fate]) -> Self {
        self.get().fates.extend(fates);
        self
    }

    pub(super) fn spawn(&self) -> WalletHandle {
        WalletHandle::spawn(Arc::new(self.clone()), config())
    }

    /// Numbers of the notes that left, in order.
    pub(super) fn left(&self) -> Vec<u32> {
        let fake = self.get();
        fake.left
            .iter()
            .map(|body| body.as_slice().unwrap().load_u32().unwrap())
            .collect()
    }
}

impl Fake {
    pub(super) fn transaction(&mut self, body: Cell, out_msgs: Vec<MsgInfo>, aborted: bool) {
        let (prev_lt, prev_hash) = self.txs.last().map_or((0, [0; 32]), |tx| (tx.lt, tx.hash));
        let lt = prev_lt + 10;
        self.txs.push(TxInfo {
            account: init().address,
            lt,
            hash: [lt as u8; 32],
            prev_lt,
            prev_hash,
            utime: self.utime,
            total_fees: 0,
            aborted,
            compute_exit_code: Some(0),
            action_result_code: Some(if aborted { 37 } else { 0 }),
            in_msg: Some(MsgInfo {
                src: None,
                dst: Some(init().address),
                body,
                ..message(0)
            }),
            out_msgs,
            boc: Cell::default(),
        });
        self.deployed = true;
    }

    fn accept(&mut self, external: &External, fate: Fate) {
        let transfer = SignedTransfer::decode(&external.body).unwrap().transfer;
        if matches!(fate, Fate::Aborts) {
            return self.transaction(external.body.clone(), Vec::new(), true);
        }
        let mut out = Vec::new();
        for (place, outgoing) in transfer.messages.iter().enumerate() {
            if matches!(fate, Fate::LeavesOut(left_out) if left_out == place) {
                continue;
            }
            let m = InternalMessage::decode(&outgoing.message).unwrap();
            self.balance -= m.value;
            self.left.push(m.body.clone().unwrap());
            out.push(MsgInfo {
                src: Some(init().address),
                dst: Some(m.to),
                value: m.value - m.value / 100,
                bounce: m.bounce,
                body: m.body.unwrap(),
                hash: [place as u8; 32],
                ..message(0)
            });
        }
        self.seqno += 1;
        self.transaction(external.body.clone(), out, false);
    }

    fn send(&mut self, boc: &[u8]) -> Result<[u8; 32], ChainError> {
        let external = External::from_boc(boc).unwrap();
        let signed = SignedTransfer::decode(&external.body).unwrap();
        signed.verify(&key().verifying_key().to_bytes()).unwrap();
        let transfer = &signed.transfer;
        self.seen.push((
            external.body_hash(),
            transfer.seqno,
            transfer.messages.len(),
            transfer.valid_until,
            external.init.is_some(),
        ));
        let refused = |code| {
            Err(ChainError::Rejected {
                reason: "external message was not accepted".to_owned(),
                exit_code: code,
            })
        };
        let fate = self.fates.pop_front().unwrap_or(Fate::Good);
        match fate {
            Fate::Unreachable => return Err(ChainError::Unavailable("scripted".to_owned())),
            Fate::Refused(code) => return refused(code),
            Fate::Overtaken => {
                self.seqno += 1;
                self.transaction(Cell::default(), Vec::new(), false);
            }
            _ => {}
        }
        if transfer.valid_until <= self.utime {
            return refused(Some(1030));
        }
        if self.blocked {
            return refused(Some(1031));
        }
        if transfer.seqno != self.seqno {
            return refused(Some(1032));
        }
        if self.balance < 2 * TON {
            return refused(Some(1035));
        }
        if !matches!(fate, Fate::Lost) {
            self.accept(&external, fate);
        }
        match fate {
            Fate::GoodThenBlocked => self.blocked = true,
            Fate::GoodUnheard => {}
            _ => return Ok(external.cell.repr_hash().0),
        }
        Err(ChainError::Timeout("scripted".to_owned()))
    }
}

fn message(value: u128) -> MsgInfo {
    MsgInfo {
        src: None,
        dst: None,
        value,
        bounce: false,
        bounced: false,
        fwd_fee: 0,
        ihr_fee: 0,
        created_lt: 0,
        body: Cell::default(),
        hash: [0; 32],
        init: false,
    }
}

#[async_trait::async_trait]
impl Chain for FakeChain {
    async fn network(&self) -> Result<NetworkInfo, ChainError> {
        Ok(NetworkInfo {
            global_id: -217,
            seqno: 1,
            utime: self.get().utime,
        })
    }

    async fn account(&self, address: &Address) -> Result<AccountState, ChainError> {
        assert_eq!(*address, init().address);
        let mut fake = self.get();
        if fake.account_failures > 0 {
            fake.account_failures -= 1;
            return Err(ChainError::RateLimited("scripted".to_owned()));
        }
        let seen = fake.txs.len().saturating_sub(fake.account_lag);
        let hidden = (fake.txs.len() - seen) as u32;
        fake.account_lag = 0;
        let last = fake.txs[..seen].last();
        let public = key().verifying_key().to_bytes();
        let data = WalletState {
            seqno: fake.seqno.saturating_sub(hidden),
            subwallet: 0,
            public_key: fake.key.unwrap_or(public),
            status: fake.blocked.into(),
            owner: Address::basechain([9; 32]),
        };
        Ok(AccountState {
            status: if fake.deployed {
                AccountStatus::Active
            } else {
                AccountStatus::Uninit
            },
            balance: fake.balance,
            code: None,
            data: fake.deployed.then(|| data.encode().unwrap()),
            last_lt: last.map_or(0, |tx| tx.lt),
            last_hash: last.map_or([0; 32], |tx| tx.hash),
        })
    }

    async fn transactions(
        &self,
        _: &Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TxInfo>, ChainError> {
        let mut fake = self.get();
        let seen = fake.txs.len().saturating_sub(fake.tx_lag);
        fake.tx_lag = 0;
        let mut page: Vec<_> = fake.txs[..seen]
            .iter()
            .filter(|tx| tx.lt > after_lt)
            .take(limit)
            .cloned()
            .collect();
        if fake.gaps > 0 && page.len() > 1 {
            fake.gaps -= 1;
            page.remove(0);
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

    async fn send(&self, boc: Vec<u8>) -> Result<[u8; 32], ChainError> {
        self.get().send(&boc)
    }
}
