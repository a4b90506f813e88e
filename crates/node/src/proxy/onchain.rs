//! The proxy and its chain: state commits, what the contract's transactions tell, charges, refunds, payouts
//! (protocol.md 5.4–5.6, contracts.md 14.4–14.6).

use cocoon_ledger::session::{StateCommit, Verdict};
use cocoon_ledger::settle::{
    self, Activity, ClientAccountView, CommissionView, ContractStatus, WorkerAccountView,
};
use cocoon_ledger::{AdjustedTokens, NanoTon};
use cocoon_ton::abi::message::{ProxyMessage, SaveState};
use cocoon_ton::abi::{ClientLedger, ClientRequestPayload, ProxyState, SignedOp};
use cocoon_ton::{AccountState, Address, Cell, TxInfo};

use super::accounts::{Holdings, Pending};
use super::core::{Phase, ProxyCore};
use super::links::{ClientPhase, LinkState};
use super::old::OldContract;
use super::types::ProxyEffect;
use crate::payment;
use crate::settlement::ChainMode;

/// Coins of a state commit: enough to be a message, too little to buy gas (contracts.md 2.3).
const COMMIT_VALUE: u64 = 1;
/// How long the contract may take to report after the wallet has sent our message.
const NOTICE_WAIT_MS: u64 = 60_000;
/// Pause after the wallet refused a state commit: nothing can be signed before one is seen, so it must come soon.
const COMMIT_RETRY_MS: u64 = 5_000;

impl ProxyCore {
    // ---- state commits ------------------------------------------------------------------------

    /// Wants a commit when something saved is not committed yet and the last one is old enough.
    pub(super) fn maybe_commit(&mut self) {
        if let Some((commit, p)) = &self.commit
            && p.until_ms.is_some_and(|t| self.now >= t)
        {
            // Refused or lost: the same one again, which is harmless if both arrive.
            let commit = *commit;
            self.send_commit(commit);
        }
        if self.commit_wanted || self.books.commits.awaits_commit() {
            return;
        }
        let due =
            self.now.saturating_sub(self.last_commit_ms) >= self.cfg.settings.commit_interval_ms;
        let news = self
            .books
            .clients
            .values()
            .any(|a| a.tracker.needs_commit())
            || self
                .books
                .workers
                .values()
                .any(|a| a.tracker.needs_commit());
        // What is left of an old contract is signed once, and everybody waits for it.
        if (due && news) || self.old_needs_commit() {
            self.commit_wanted = true;
            self.touch_meta();
        }
    }

    pub(super) fn send_commit(&mut self, commit: StateCommit) {
        if self.cfg.contracts == ChainMode::Assumed {
            return self.on_commit_seen(commit);
        }
        let message = ProxyMessage::SaveState(SaveState {
            query_id: self.draw_u64(),
            seqno: commit.save_no as i32,
            session_hash: commit.session,
        });
        match message.encode() {
            Ok(body) => {
                let to = self.sc;
                let ticket = self.transact(to, COMMIT_VALUE, None, Some(body));
                let pending = Pending {
                    ticket,
                    expected: AdjustedTokens::ZERO,
                    until_ms: None,
                };
                self.commit = Some((commit, pending));
            }
            Err(e) => self.halt(format!("a state commit cannot be written: {e}")),
        }
    }

    pub(super) fn transact(
        &mut self,
        to: Address,
        value: u64,
        init: Option<Cell>,
        body: Option<Cell>,
    ) -> u64 {
        let ticket = self.ticket();
        self.fx.push(ProxyEffect::Transact {
            ticket,
            to,
            value,
            init,
            body,
        });
        ticket
    }

    // ---- what the contract's transactions tell ------------------------------------------------

    pub(super) fn on_transactions(&mut self, txs: Vec<TxInfo>) {
        for tx in txs {
            if self.phase == Phase::Stopped {
                return;
            }
            let sc = tx.account;
            if self.keep_for_founding(&tx) {
                continue;
            }
            if !self.advance_cursor(sc, tx.lt) {
                continue;
            }
            // Notices carry no gas, so they count whether or not the transaction succeeded (contracts.md 14.1).
            let Some(msg) = tx.in_msg.filter(|m| !m.bounced) else {
                continue;
            };
            let (Some(src), Ok(message)) = (msg.src, ProxyMessage::decode(&msg.body)) else {
                continue;
            };
            // A request that the contract refused bounces, and its sender takes back what it had assumed: what the
            // message says of the sender's ledger is no longer true.
            if tx.aborted && tx.compute_exit_code.is_some() {
                continue;
            }
            self.note_closing(sc, tx.lt, &message, tx.aborted);
            match message {
                ProxyMessage::SaveState(s) if src == self.cfg.wallet => {
                    self.on_commit_seen(StateCommit {
                        save_no: s.seqno as u32,
                        session: s.session_hash,
                    });
                }
                ProxyMessage::ClientRequest {
                    owner,
                    ledger,
                    payload,
                    ..
                } => self.on_client_notice(sc, src, owner, &ledger, payload),
                ProxyMessage::WorkerRequest {
                    owner,
                    status,
                    tokens,
                    ..
                } => {
                    self.on_worker_notice(
                        sc,
                        src,
                        owner,
                        status == cocoon_ton::abi::ContractStatus::Closed,
                        tokens,
                    );
                }
                _ => {}
            }
        }
    }

    fn on_commit_seen(&mut self, commit: StateCommit) {
        match self.books.commits.observed(commit) {
            Verdict::Ours { save_no } => {
                if commit.session != *self.books.commits.session() {
                    return;
                }
                self.commit.take_if(|(c, _)| c.save_no <= save_no);
                self.old_committed(save_no);
                for a in self.books.clients.values_mut() {
                    a.tracker.observed_commit(save_no);
                    if self.cfg.contracts == ChainMode::Assumed {
                        // Nobody is charged, so the stake would cover the first TON and no more (9.4): what is
                        // committed counts as charged instead.
                        a.record.sc_used = a.record.sc_used.max(a.tracker.signed().0);
                    }
                }
                for a in self.books.workers.values_mut() {
                    a.tracker.observed_commit(save_no);
                }
                if self.phase == Phase::Starting {
                    self.phase = Phase::Open;
                    self.fx.push(ProxyEffect::Ready);
                }
            }
            Verdict::Foreign => self.halt(
                "the chain shows a state commit of a session this store never had: another proxy runs with the same wallet, or the store is an old copy. Nothing was signed; find the newest store",
            ),
            Verdict::Unknown => self.halt("the chain shows a newer state commit than this store knows: the store was rolled back. Nothing was signed; restore the newest copy"),
        }
    }

    fn on_client_notice(
        &mut self,
        sc: Address,
        src: Address,
        owner: Address,
        ledger: &ClientLedger,
        payload: Option<ClientRequestPayload>,
    ) {
        if self.is_over(sc) {
            return;
        }
        let key = self.cfg.key.verifying_key().to_bytes();
        let expected = match self.client_at(sc, owner) {
            Some(a) => a.sc,
            None => match self.view_of(sc).client_contract(sc, key, owner) {
                Ok(init) => init.address,
                Err(_) => return,
            },
        };
        if expected != src || self.ensure_client_at(sc, owner).is_err() {
            return;
        }
        if matches!(payload, Some(ClientRequestPayload::TopUp { .. })) {
            self.note_top_up(sc, owner);
        }
        let Some(a) = self.client_at(sc, owner) else {
            return;
        };
        let known = a.tracker.max().0;
        if ledger.tokens_used > known {
            return self.halt(format!(
                "the chain has charged client {owner} for {} tokens, the books know {known}: the store was rolled back",
                ledger.tokens_used
            ));
        }
        if ledger.tokens_used >= a.record.sc_used {
            a.record.status = ledger.status as u8;
            a.record.balance = ledger.balance;
            a.record.stake = ledger.stake;
            a.record.sc_used = ledger.tokens_used;
            a.record.secret_hash = hex::encode(ledger.secret_hash);
            if a.pending
                .as_ref()
                .is_some_and(|p| ledger.tokens_used >= p.expected.0)
            {
                a.pending = None;
            }
        }
        self.touch_client_at(sc, owner);
        if let Some(ClientRequestPayload::Register { nonce }) = payload {
            self.on_registered(owner, nonce);
        }
    }

    /// The chain showed a nonce: whoever holds it is the owner (protocol.md 3.5).
    fn on_registered(&mut self, owner: Address, nonce: u64) {
        let found = self.links.iter_mut().find_map(|(link, state)| match state {
            LinkState::Client(c) => match &mut c.phase {
                ClientPhase::Auth {
                    owner: o,
                    nonce: n,
                    waiting,
                    registered,
                } if *o == owner && *n == nonce => {
                    *registered = true;
                    Some((*link, *waiting))
                }
                _ => None,
            },
            LinkState::Worker(_) => None,
        });
        if let Some((link, Some(query))) = found {
            self.authorized(link, owner, Some(query));
        }
    }

    fn on_worker_notice(
        &mut self,
        sc: Address,
        src: Address,
        owner: Address,
        closed: bool,
        tokens: u64,
    ) {
        let Some(a) = self.worker_at(sc, owner) else {
            return;
        };
        if a.sc != src {
            return;
        }
        let known = a.tracker.max().0;
        if tokens > known {
            return self.halt(format!("the chain has paid worker {owner} for {tokens} tokens, the books know {known}: the store was rolled back"));
        }
        a.sc_tokens = a.sc_tokens.max(tokens);
        a.closed |= closed;
        if a.pending.as_ref().is_some_and(|p| tokens >= p.expected.0) {
            a.pending = None;
        }
        self.touch_worker_at(sc, owner);
    }

    pub(super) fn on_contract(&mut self, state: &AccountState) {
        let Some(Ok(contract)) = state.data.as_ref().map(ProxyState::decode) else {
            return;
        };
        self.revenue = contract.balance;
        self.holds = Holdings {
            coins: state.balance,
            stake: contract.stake,
            last_lt: state.last_lt,
        };
        if contract.status != cocoon_ton::abi::ContractStatus::Normal {
            self.close_contract("the proxy contract is closing on chain");
        }
    }

    // ---- signing ------------------------------------------------------------------------------

    /// BOC of the newest charge that may be shown to a client.
    pub(super) fn client_payment(&mut self, sc: Address, owner: Address) -> Option<Vec<u8>> {
        let query_id = self.draw_u64();
        let (key, wallet) = (self.cfg.key.clone(), self.cfg.wallet);
        let a = self.client_at(sc, owner)?;
        let tokens = a.tracker.signed().0;
        if a.payment.as_ref().is_none_or(|(t, _)| *t != tokens) {
            let boc =
                payment::sign(&key, SignedOp::ClientCharge, a.sc, tokens, query_id, wallet).ok()?;
            a.payment = Some((tokens, boc));
        }
        a.payment.as_ref().map(|(_, boc)| boc.clone())
    }

    /// BOC of the newest payout that may be shown to a worker.
    pub(super) fn worker_payment(&mut self, sc: Address, owner: Address) -> Option<Vec<u8>> {
        let query_id = self.draw_u64();
        let (key, wallet) = (self.cfg.key.clone(), self.cfg.wallet);
        let a = self.worker_at(sc, owner)?;
        let tokens = a.tracker.signed().0;
        if a.payment.as_ref().is_none_or(|(t, _)| *t != tokens) {
            let boc =
                payment::sign(&key, SignedOp::WorkerPayout, a.sc, tokens, query_id, wallet).ok()?;
            a.payment = Some((tokens, boc));
        }
        a.payment.as_ref().map(|(_, boc)| boc.clone())
    }

    // ---- going to the chain -------------------------------------------------------------------

    /// Charges, refunds, payouts and the commission, each when it is worth its fee.
    pub(super) fn review_contracts(&mut self) {
        if self.cfg.contracts == ChainMode::Assumed {
            return;
        }
        let now = self.now;
        let price = self.root.price();
        let fee = self.root.worker_fee();
        let quiet = |last: u64, running: u32| {
            Activity::QuietFor(if running > 0 {
                0
            } else {
                now.saturating_sub(last) / 1000
            })
        };
        let overdue = |p: &Option<Pending>| {
            p.as_ref()
                .is_some_and(|p| p.until_ms.is_some_and(|t| now >= t))
        };
        let mut jobs: Vec<(bool, Address, SignedOp, AdjustedTokens)> = Vec::new();
        let s = &self.cfg.settings.settle;
        for (owner, a) in &mut self.books.clients {
            if overdue(&a.pending) {
                a.pending = None;
            }
            let view = ClientAccountView {
                status: ContractStatus::from_number(a.record.status),
                claims: a.tracker.claims(),
                expected_on_chain: AdjustedTokens(a.record.sc_used),
                price,
                running: u64::from(a.running),
                message_pending: a.pending.is_some(),
                activity: quiet(a.last_active_ms, a.running),
            };
            if let Some(total) = settle::refund_client(&view) {
                jobs.push((true, *owner, SignedOp::ClientGrantRefund, total));
            } else if let Ok(Some(total)) = settle::charge_client(s, &view) {
                jobs.push((true, *owner, SignedOp::ClientCharge, total));
            }
        }
        for (owner, a) in &mut self.books.workers {
            if overdue(&a.pending) {
                a.pending = None;
            }
            let view = WorkerAccountView {
                closed: a.closed,
                claims: a.tracker.claims(),
                expected_on_chain: AdjustedTokens(a.sc_tokens),
                fee,
                message_pending: a.pending.is_some(),
                activity: quiet(a.last_active_ms, 0),
            };
            if let Ok(Some(total)) = settle::pay_worker(s, &view) {
                jobs.push((false, *owner, SignedOp::WorkerPayout, total));
            }
        }
        let withdraw =
            self.may_withdraw(s.withdraw.0) && (self.withdraw.is_none() || overdue(&self.withdraw));
        for (is_client, owner, op, total) in jobs {
            self.submit(is_client, owner, op, total);
        }
        if withdraw {
            self.send_withdrawal();
        }
    }

    /// Whether commission of at least `least` nanoTON can be taken out and everything else stays covered.
    pub(super) fn may_withdraw(&self, least: u128) -> bool {
        let owed = self
            .books
            .clients
            .values()
            .fold(0u128, |sum, a| sum.saturating_add(a.record.balance));
        let settings = settle::ProxySettings {
            withdraw: NanoTon(least),
            ..self.cfg.settings.settle
        };
        let commission = CommissionView {
            ready: NanoTon(self.revenue),
            coins: NanoTon(self.holds.coins),
            stake: NanoTon(self.holds.stake),
            owed_to_clients: NanoTon(owed),
            message_pending: false,
        };
        // The books must have taken in every transaction that the contract's state shows, or they do not fit it.
        self.cursor_lt >= self.holds.last_lt && settle::withdraw_commission(&settings, &commission)
    }

    pub(super) fn send_withdrawal(&mut self) {
        let body = ProxyMessage::PayRevenue {
            query_id: self.draw_u64(),
            excess_to: self.cfg.wallet,
        }
        .encode();
        if let Ok(body) = body {
            let (to, value) = (self.sc, self.cfg.settings.withdraw_value);
            let ticket = self.transact(to, value, None, Some(body));
            self.withdraw = Some(Pending {
                ticket,
                expected: AdjustedTokens::ZERO,
                until_ms: None,
            });
        }
    }

    /// Sends a signed total to the contract of a client or worker.
    pub(super) fn submit(
        &mut self,
        is_client: bool,
        owner: Address,
        op: SignedOp,
        total: AdjustedTokens,
    ) {
        let to = if is_client {
            self.books.clients.get(&owner).map(|a| a.sc)
        } else {
            self.books.workers.get(&owner).map(|a| a.sc)
        };
        if let Some(to) = to {
            self.submit_to(self.sc, is_client, owner, to, op, total, None);
        }
    }

    /// Sends a signed total to the contract `to` of a client or worker of our contract `sc`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn submit_to(
        &mut self,
        sc: Address,
        is_client: bool,
        owner: Address,
        to: Address,
        op: SignedOp,
        total: AdjustedTokens,
        init: Option<Cell>,
    ) {
        let query_id = self.draw_u64();
        let signed = payment::sign(&self.cfg.key, op, to, total.0, query_id, self.cfg.wallet)
            .and_then(|boc| payment::readdressed(&boc, self.cfg.wallet));
        let Ok(body) = signed else { return };
        let value = self.cfg.settings.message_value;
        let ticket = self.transact(to, value, init, Some(body));
        let pending = Some(Pending {
            ticket,
            expected: total,
            until_ms: None,
        });
        if is_client {
            if let Some(a) = self.client_at(sc, owner) {
                a.pending = pending;
            }
        } else if let Some(a) = self.worker_at(sc, owner) {
            a.pending = pending;
        }
    }

    /// The wallet sent a message, or could not. Success at the target shows in the contract's own notice.
    pub(super) fn on_transacted(&mut self, ticket: u64, ok: bool) {
        let until = self.now + NOTICE_WAIT_MS;
        if let Some((_, p)) = &mut self.commit
            && p.ticket == ticket
        {
            p.until_ms = Some(if ok {
                until
            } else {
                self.now + COMMIT_RETRY_MS
            });
            return;
        }
        let slots = self
            .books
            .clients
            .values_mut()
            .map(|a| &mut a.pending)
            .chain(self.books.workers.values_mut().map(|a| &mut a.pending))
            .chain(self.old.values_mut().flat_map(OldContract::slots))
            .chain(self.founding.iter_mut().map(|f| &mut f.pending))
            .chain(std::iter::once(&mut self.withdraw));
        for slot in slots {
            if let Some(p) = slot
                && p.ticket == ticket
            {
                if ok {
                    p.until_ms = Some(until)
                } else {
                    *slot = None
                }
                return;
            }
        }
    }
}
