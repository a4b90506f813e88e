//! The wallet's state machine: events in, effects out, time as an argument.
//!
//! One call to the chain runs at a time. Order of a batch: look at the account, ask for the chain's time, sign,
//! send, look at the account until its last transaction is newer, read the transactions in between, settle.

use std::collections::VecDeque;
use std::time::Duration;

use cocoon_ton::abi::WalletState;
use cocoon_ton::wallet::{self, FEE_RESERVE, InternalMessage, MIN_BALANCE, RESEND_SECONDS};
use cocoon_ton::{AccountState, AccountStatus, Address, ChainError, NetworkInfo, TxInfo};

use super::flight::{Flight, Match, Ticket, exit};
use super::{CLOSE_GRACE, Condition, MAX_QUEUE, Sent, WalletConfig, WalletError, WalletStatus};
use crate::watch::{Backoff, check_page};

/// The same bytes are sent again after this time.
pub(super) const RESEND: Duration = Duration::from_secs(RESEND_SECONDS as u64);
/// First pause after a failure of the chain.
const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// Transactions of the wallet read at once.
pub(super) const PAGE: usize = 32;
/// Rejections for an unknown reason, in a row, before a batch is given up. With the back-off that is some
/// minutes, in which a source that lags or restarts comes back.
pub(super) const MAX_REJECTIONS: u32 = 10;

/// What happens to the wallet.
#[derive(Debug)]
pub(super) enum Event {
    /// A message to send.
    Submit { id: u64, message: InternalMessage },
    /// The running call returned.
    Answer(Answer),
    /// Time passed.
    Tick,
    /// No more messages.
    Close,
}

/// What the chain said.
#[derive(Debug)]
pub(super) enum Answer {
    Account(Result<AccountState, ChainError>),
    Network(Result<NetworkInfo, ChainError>),
    Transactions(Result<Vec<TxInfo>, ChainError>),
    Sent(Result<(), ChainError>),
}

/// A question to the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Account,
    Network,
    Transactions { after_lt: u64 },
    Send(Vec<u8>),
}

/// What the driver has to do.
#[derive(Debug)]
pub(super) enum Effect {
    Call(Call),
    Done {
        id: u64,
        result: Result<Sent, WalletError>,
    },
}

/// The wallet contract as last read.
#[derive(Clone, Copy, Debug)]
struct View {
    seqno: u32,
    balance: u128,
    last_lt: u64,
}

/// The wallet's state machine.
pub(super) struct Core {
    cfg: WalletConfig,
    public_key: [u8; 32],
    queue: VecDeque<Ticket>,
    flight: Option<Flight>,
    view: Option<View>,
    /// The view was read after everything that we know to have changed it.
    fresh: bool,
    /// The newest transaction seen; an older account state comes from a source that lags.
    known_lt: u64,
    condition: Condition,
    /// A call runs.
    busy: bool,
    read_at: Duration,
    scan_at: Duration,
    sign_at: Duration,
    reading: Backoff,
    sending: Backoff,
    /// Closing, at the latest at this time.
    closing: Option<Duration>,
    effects: Vec<Effect>,
}

impl Core {
    pub(super) fn new(cfg: WalletConfig, seed: u64) -> Self {
        Self {
            public_key: cfg.key.verifying_key().to_bytes(),
            queue: VecDeque::new(),
            flight: None,
            view: None,
            fresh: false,
            known_lt: 0,
            condition: Condition::Starting,
            busy: false,
            read_at: Duration::ZERO,
            scan_at: Duration::ZERO,
            sign_at: Duration::ZERO,
            reading: Backoff::new(BACKOFF_BASE, RESEND, seed),
            sending: Backoff::new(BACKOFF_BASE, RESEND, !seed),
            closing: None,
            effects: Vec::new(),
            cfg,
        }
    }

    /// Takes an event and returns what is to be done.
    pub(super) fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Submit { id, message } => self.submit(now, Ticket { id, message }),
            Event::Answer(answer) => {
                self.busy = false;
                match answer {
                    Answer::Account(result) => self.on_account(now, result),
                    Answer::Network(result) => self.on_network(now, result),
                    Answer::Transactions(result) => self.on_transactions(now, result),
                    Answer::Sent(result) => self.on_sent(now, result),
                }
            }
            Event::Tick => {}
            Event::Close => {
                self.closing.get_or_insert(now + CLOSE_GRACE);
            }
        }
        self.settle_closing(now);
        self.drive(now);
        std::mem::take(&mut self.effects)
    }

    /// When the next [`Event::Tick`] is due; not before the running call has returned, unless closing.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        if self.busy {
            return self.closing;
        }
        let mut at = self.read_at;
        if let Some(flight) = &self.flight {
            at = at.min(flight.send_at);
            if self.view.is_some_and(|v| v.last_lt > flight.scanned_lt) {
                at = at.min(self.scan_at);
            }
        } else if !self.queue.is_empty() && self.fresh {
            at = at.min(self.sign_at);
        }
        Some(self.closing.map_or(at, |closing| at.min(closing)))
    }

    /// Closed, and everybody has an answer.
    pub(super) fn is_finished(&self) -> bool {
        self.closing.is_some() && self.flight.is_none() && self.queue.is_empty()
    }

    pub(super) fn address(&self) -> Address {
        self.cfg.init.address
    }

    pub(super) fn status(&self) -> WalletStatus {
        WalletStatus {
            balance: self.view.map_or(0, |view| view.balance),
            seqno: self.view.map_or(0, |view| view.seqno),
            queued: self.queue.len(),
            in_flight: self.flight.as_ref().map_or(0, |f| f.tickets.len()),
            condition: self.condition.clone(),
        }
    }

    fn submit(&mut self, now: Duration, ticket: Ticket) {
        if self.closing.is_some() {
            return self.done(ticket.id, Err(WalletError::Closed));
        }
        if self.queue.len() >= MAX_QUEUE {
            return self.done(ticket.id, Err(WalletError::QueueFull));
        }
        if self.queue.is_empty() && self.flight.is_none() {
            // The last look may be a whole poll ago. While the source fails, its pause holds.
            self.fresh = false;
            if !matches!(self.condition, Condition::SourceTrouble(_)) {
                self.read_at = now;
            }
        }
        self.queue.push_back(ticket);
    }

    fn settle_closing(&mut self, now: Duration) {
        let Some(deadline) = self.closing else { return };
        for ticket in std::mem::take(&mut self.queue) {
            self.done(ticket.id, Err(WalletError::Closed));
        }
        if now >= deadline
            && let Some(flight) = self.flight.take()
        {
            self.fail(flight.tickets, &WalletError::Unconfirmed);
        }
    }

    /// Starts the next call, if one is due.
    fn drive(&mut self, now: Duration) {
        if self.busy || self.is_finished() {
            return;
        }
        if let Some(call) = self.next_call(now) {
            self.busy = true;
            self.effects.push(Effect::Call(call));
        }
    }

    fn next_call(&mut self, now: Duration) -> Option<Call> {
        let view = self.view;
        if let (Some(flight), Some(view)) = (&self.flight, view)
            && view.last_lt > flight.scanned_lt
            && now >= self.scan_at
        {
            return Some(Call::Transactions {
                after_lt: flight.scanned_lt,
            });
        }
        if now >= self.read_at {
            return Some(Call::Account);
        }
        if let Some(flight) = &mut self.flight {
            if flight.verdict.is_some() {
                // Nothing more to send; wake_at must not come back to it before the account was read.
                flight.send_at = self.read_at;
                return None;
            }
            if now < flight.send_at {
                return None;
            }
            flight.needs_sign |= now >= flight.expires_at;
            return Some(if flight.needs_sign {
                Call::Network
            } else {
                Call::Send(flight.boc.clone())
            });
        }
        if self.queue.is_empty() || !self.fresh || now < self.sign_at {
            return None;
        }
        if self.sendable(view?) == 0 {
            // Only another look at the account can change this.
            self.fresh = false;
            return None;
        }
        Some(Call::Network)
    }

    /// How many messages of the queue the balance allows; sets the condition.
    fn sendable(&mut self, view: View) -> usize {
        let count = if view.balance < self.cfg.min_balance {
            0
        } else {
            let values = self.queue.iter().map(|ticket| ticket.message.value);
            wallet::batch_size(values, view.balance)
        };
        let first = self.queue.front().map_or(0, |t| t.message.value);
        self.condition = if count > 0 {
            Condition::Ready
        } else {
            self.low_balance(first)
        };
        count
    }

    fn low_balance(&self, first: u128) -> Condition {
        Condition::LowBalance {
            needed: self
                .cfg
                .min_balance
                .max(MIN_BALANCE)
                .max(first.saturating_add(FEE_RESERVE)),
        }
    }

    fn on_account(&mut self, now: Duration, result: Result<AccountState, ChainError>) {
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                self.read_at = now + self.reading.next();
                return self.trouble(&error);
            }
        };
        self.reading.reset();
        self.read_at = now + self.cfg.poll;
        if state.last_lt < self.known_lt {
            // A server that lags behind another one. Its figures would have us sign for a used seqno.
            self.condition = Condition::SourceTrouble(format!(
                "the TON source shows the wallet as of logical time {}, but {} was there already",
                state.last_lt, self.known_lt
            ));
            return;
        }
        self.known_lt = state.last_lt;
        let balance = state.balance;
        self.condition = match self.check(&state) {
            Ok(()) if balance < self.cfg.min_balance.max(MIN_BALANCE) => self.low_balance(0),
            Ok(()) => Condition::Ready,
            Err((condition, error)) => {
                if let Some(error) = error {
                    // A flight is settled by its transaction or by the contract's rejection.
                    let waiting = std::mem::take(&mut self.queue);
                    self.fail(waiting, &error);
                }
                condition
            }
        };
        self.view = seqno(&state).map(|seqno| View {
            seqno,
            balance,
            last_lt: state.last_lt,
        });
        self.fresh = self.view.is_some();
        self.decide(now);
    }

    /// Whether this wallet can work; if not, what is wrong and how messages fail, if they do.
    fn check(&self, state: &AccountState) -> Result<(), (Condition, Option<WalletError>)> {
        let address = self.cfg.init.address;
        let not_a_wallet = |reason: String| {
            let error = WalletError::NotAWallet {
                address,
                reason: reason.clone(),
            };
            (Condition::NotAWallet(reason), Some(error))
        };
        match state.status {
            AccountStatus::Nonexistent | AccountStatus::Uninit => return Ok(()),
            // Coins and patience may cure this.
            AccountStatus::Frozen => return Err((Condition::Frozen, None)),
            AccountStatus::Active => {}
        }
        let data = state
            .data
            .as_ref()
            .ok_or_else(|| not_a_wallet("it has no data".to_owned()))?;
        let wallet = WalletState::decode(data).map_err(|e| not_a_wallet(e.to_string()))?;
        if wallet.public_key != self.public_key || wallet.subwallet != wallet::SUBWALLET {
            return Err((Condition::WrongKey, Some(WalletError::WrongKey { address })));
        }
        if wallet.is_blocked() {
            return Err((Condition::Blocked, Some(WalletError::Blocked { address })));
        }
        Ok(())
    }

    /// With every transaction up to the view looked at: is the flight over?
    fn decide(&mut self, now: Duration) {
        let (Some(flight), Some(view)) = (&mut self.flight, self.view) else {
            return;
        };
        if flight.scanned_lt < view.last_lt {
            return;
        }
        if view.seqno > flight.seqno {
            // The seqno was used by an external that is not ours: none of ours can be accepted any more.
            let cancelled = flight.cancelled.clone();
            if let Some(flight) = self.flight.take() {
                match cancelled {
                    Some(error) => self.fail(flight.tickets, &error),
                    None => {
                        for ticket in flight.tickets.into_iter().rev() {
                            self.queue.push_front(ticket);
                        }
                    }
                }
            }
            self.sign_at = now;
        } else if self.fresh
            && let Some(error) = flight.verdict.take()
            && let Some(flight) = self.flight.take()
        {
            self.fail(flight.tickets, &error);
        }
    }

    fn on_network(&mut self, now: Duration, result: Result<NetworkInfo, ChainError>) {
        let info = match result {
            Ok(info) => info,
            Err(error) => {
                let at = now + self.sending.next();
                self.sign_at = at;
                if let Some(flight) = &mut self.flight {
                    flight.send_at = at;
                }
                return self.trouble(&error);
            }
        };
        if self.flight.is_none() {
            let Some(view) = self.view.filter(|_| self.fresh) else {
                return;
            };
            let count = self.sendable(view);
            if count == 0 || self.closing.is_some() {
                return;
            }
            let tickets = self.queue.drain(..count).collect();
            self.flight = Some(Flight::new(view.seqno, tickets, view.last_lt));
            self.sending.reset();
        }
        let Some(flight) = &mut self.flight else {
            return;
        };
        if !flight.needs_sign {
            return;
        }
        if let Err(error) = flight.sign(now, info.utime, &self.cfg.key, &self.cfg.init)
            && let Some(flight) = self.flight.take()
        {
            // Messages are checked before they are queued, so this says that the limits do not fit together.
            for ticket in flight.tickets {
                let error = WalletError::InvalidMessage {
                    to: ticket.message.to,
                    reason: error.to_string(),
                };
                self.done(ticket.id, Err(error));
            }
        }
    }

    fn on_transactions(&mut self, now: Duration, result: Result<Vec<TxInfo>, ChainError>) {
        let Some(scanned_lt) = self.flight.as_ref().map(|f| f.scanned_lt) else {
            return;
        };
        let page = result.and_then(|page| {
            // A gap could hide our transaction, and the batch would be paid twice.
            check_page(&page, &self.cfg.init.address, scanned_lt)?;
            Ok(page)
        });
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                self.scan_at = now + self.reading.next();
                return self.trouble(&error);
            }
        };
        self.reading.reset();
        // An empty page comes from a source that has the account's state before its transactions.
        self.scan_at = if page.is_empty() {
            now + self.cfg.poll
        } else {
            now
        };
        for tx in &page {
            self.known_lt = self.known_lt.max(tx.lt);
            let Some(flight) = &mut self.flight else {
                continue;
            };
            flight.scanned_lt = tx.lt;
            let found = flight.matches(tx);
            if found != Match::Foreign {
                self.settle(now, tx, found);
            }
        }
        if self.view.is_some_and(|view| view.last_lt < self.known_lt) {
            self.fresh = false;
            self.read_at = now;
        }
        self.decide(now);
    }

    /// Our external caused this transaction.
    fn settle(&mut self, now: Duration, tx: &TxInfo, found: Match) {
        let Some(mut flight) = self.flight.take() else {
            return;
        };
        if tx.aborted {
            // Nothing left and the seqno still stands (contracts.md, W5; not with our own contract).
            flight.cancelled.get_or_insert(WalletError::Aborted {
                tx_hash: tx.hash,
                exit_code: tx.compute_exit_code,
                action_code: tx.action_result_code,
            });
            flight.needs_sign = true;
            flight.send_at = now + self.sending.next();
            self.flight = Some(flight);
            return;
        }
        self.sign_at = now;
        self.sending.reset();
        if let (Match::Empty, Some(error)) = (found, &flight.cancelled) {
            let error = error.clone();
            return self.fail(flight.tickets, &error);
        }
        let carried = flight.carried(&tx.out_msgs);
        for (ticket, out) in flight.tickets.iter().zip(carried) {
            let result = out
                .map(|out| Sent {
                    tx_lt: tx.lt,
                    tx_hash: tx.hash,
                    utime: tx.utime,
                    message_hash: out.hash,
                    value: out.value,
                })
                .ok_or(WalletError::LeftOut { tx_hash: tx.hash });
            self.done(ticket.id, result);
        }
    }

    fn on_sent(&mut self, now: Duration, result: Result<(), ChainError>) {
        let address = self.cfg.init.address;
        let Some(flight) = &mut self.flight else {
            return;
        };
        let error = match result {
            Ok(()) => {
                flight.rejections = 0;
                flight.send_at = now + RESEND;
                self.sending.reset();
                self.read_at = self.read_at.min(now + self.cfg.poll);
                return;
            }
            Err(error) => error,
        };
        flight.send_at = now + self.sending.next();
        let (reason, exit_code) = match error {
            ChainError::Rejected { reason, exit_code } => (reason, exit_code),
            // It will be refused next time as well.
            ChainError::BadRequest(reason) => {
                flight.rejections = MAX_REJECTIONS;
                (reason, None)
            }
            error => return self.trouble(&error),
        };
        match exit_code {
            Some(exit::EXPIRED) => {
                flight.needs_sign = true;
                return;
            }
            Some(exit::POOR) => {
                self.condition = self.low_balance(0);
                return;
            }
            // Somebody used the seqno, perhaps an earlier copy of this very message: the account tells.
            Some(exit::SEQNO) => {}
            Some(exit::BLOCKED) => flight.verdict = Some(WalletError::Blocked { address }),
            Some(exit::KEY | exit::SUBWALLET) => {
                flight.verdict = Some(WalletError::WrongKey { address });
            }
            _ => {
                flight.rejections += 1;
                if flight.rejections >= MAX_REJECTIONS {
                    flight.verdict = Some(WalletError::Rejected { reason, exit_code });
                }
            }
        }
        self.fresh = false;
        self.read_at = now;
    }

    fn trouble(&mut self, error: &ChainError) {
        self.condition = Condition::SourceTrouble(error.to_string());
    }

    fn done(&mut self, id: u64, result: Result<Sent, WalletError>) {
        self.effects.push(Effect::Done { id, result });
    }

    fn fail(&mut self, tickets: impl IntoIterator<Item = Ticket>, error: &WalletError) {
        for ticket in tickets {
            self.done(ticket.id, Err(error.clone()));
        }
    }
}

/// The wallet's seqno, if there is a wallet or room for one.
fn seqno(state: &AccountState) -> Option<u32> {
    match state.status {
        AccountStatus::Nonexistent | AccountStatus::Uninit => Some(0),
        AccountStatus::Frozen => None,
        AccountStatus::Active => {
            let wallet = WalletState::decode(state.data.as_ref()?).ok()?;
            Some(wallet.seqno)
        }
    }
}
