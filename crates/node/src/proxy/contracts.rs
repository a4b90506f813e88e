//! Accounts of all contracts, in use and old ones, and what the chain's transactions change in them.

use cocoon_ledger::CommitTracker;
use cocoon_ton::Address;
use cocoon_ton::abi::{ProxyMessage, SignedOp};

use super::accounts::{ClientAccount, ClientRecord, WorkerAccount, WorkerRecord};
use super::core::ProxyCore;
use super::old::{OLD_CLIENT, OLD_WORKER};
use super::types::ProxyEffect;
use crate::root::RootView;

impl ProxyCore {
    /// The account of a client at one of our contracts.
    pub(super) fn client_at(&mut self, sc: Address, owner: Address) -> Option<&mut ClientAccount> {
        match self.old.get_mut(&sc) {
            Some(old) => old.clients.get_mut(&owner),
            None if sc == self.sc => self.books.clients.get_mut(&owner),
            None => None,
        }
    }

    /// The account of a worker at one of our contracts.
    pub(super) fn worker_at(&mut self, sc: Address, owner: Address) -> Option<&mut WorkerAccount> {
        match self.old.get_mut(&sc) {
            Some(old) => old.workers.get_mut(&owner),
            None if sc == self.sc => self.books.workers.get_mut(&owner),
            None => None,
        }
    }

    /// The contracts with books, and the last transaction of each that is in them.
    pub(super) fn cursors(&self) -> Vec<(Address, u64)> {
        let old = self.old.iter().map(|(sc, o)| (*sc, o.cursor_lt));
        let current = (!self.old.contains_key(&self.sc)).then_some((self.sc, self.cursor_lt));
        old.chain(current).collect()
    }

    /// The contract was closed, everybody has what is his, and no other follows yet. Its books were put away, so nothing
    /// that a client's contract says can be compared with them.
    pub(super) fn is_over(&self, sc: Address) -> bool {
        sc == self.sc && self.closed_for.is_some() && !self.old.contains_key(&sc)
    }

    /// The root configuration that one of our contracts was made from.
    pub(super) fn view_of(&self, sc: Address) -> &RootView {
        self.old.get(&sc).map_or(&self.root, |old| &old.root)
    }

    /// Notes that a transaction is in the books; false if it was before.
    pub(super) fn advance_cursor(&mut self, sc: Address, lt: u64) -> bool {
        let cursor = match self.old.get_mut(&sc) {
            Some(old) => &mut old.cursor_lt,
            None if sc == self.sc => &mut self.cursor_lt,
            None => return false,
        };
        if lt <= *cursor {
            return false;
        }
        *cursor = lt;
        if self.old.contains_key(&sc) {
            self.touch_old(sc);
        }
        self.touch_meta();
        true
    }

    /// A contract that begins to close, whoever closed it: from here on top-ups are paid back at once (W22).
    pub(super) fn note_closing(
        &mut self,
        sc: Address,
        lt: u64,
        message: &ProxyMessage,
        aborted: bool,
    ) {
        let closes = match message {
            ProxyMessage::Close { .. } => true,
            ProxyMessage::Signed(e) => e.payload.op == SignedOp::ProxyClose,
            ProxyMessage::Text(t) => t.character == b'c',
            _ => false,
        };
        if !closes || aborted {
            return;
        }
        if sc == self.sc && !self.old.contains_key(&sc) {
            self.close_contract("the proxy contract is closing on chain");
        }
        if let Some(old) = self.old.get_mut(&sc) {
            old.closing_lt.get_or_insert(lt);
            self.touch_old(sc);
        }
    }

    /// A deposit at a closing contract: it was sent back, and must not be refunded once more.
    pub(super) fn note_top_up(&mut self, sc: Address, owner: Address) {
        let Some(old) = self.old.get_mut(&sc) else {
            return;
        };
        if old.closing_lt.is_none() {
            return;
        }
        if let Some(a) = old.clients.get_mut(&owner)
            && !a.record.paid_back
        {
            a.record.paid_back = true;
            self.touch_client_at(sc, owner);
            self.fx.push(ProxyEffect::Alarm(format!(
                "client {owner} has topped up at the closing contract {sc}, which paid the coins back at once; it gets no refund from us"
            )));
        }
    }

    /// A state commit was seen, on whichever of our contracts.
    pub(super) fn old_committed(&mut self, save_no: u32) {
        for old in self.old.values_mut() {
            for a in old.clients.values_mut() {
                a.tracker.observed_commit(save_no);
            }
            for a in old.workers.values_mut() {
                a.tracker.observed_commit(save_no);
            }
        }
    }

    /// Totals of a drained contract that are saved and not yet committed.
    pub(super) fn old_needs_commit(&self) -> bool {
        self.old.iter().any(|(sc, old)| {
            let open = |t: &CommitTracker| t.needs_commit();
            let news = old.clients.values().any(|a| open(&a.tracker))
                || old.workers.values().any(|a| open(&a.tracker));
            news && self.running_at(*sc) == 0
        })
    }

    /// The record of a client, wherever its account is.
    pub(super) fn client_change(
        &mut self,
        sc: Address,
        owner: Address,
    ) -> Option<(String, Vec<u8>)> {
        let old = self.old.contains_key(&sc);
        let a = self.client_at(sc, owner)?;
        let record = ClientRecord {
            used: a.tracker.max().0,
            ..a.record.clone()
        };
        let name = if old {
            format!("{OLD_CLIENT}{sc}-{owner}")
        } else {
            format!("client_{owner}")
        };
        Some((name, super::core::to_json(&record)))
    }

    /// The same of a worker.
    pub(super) fn worker_change(
        &mut self,
        sc: Address,
        owner: Address,
    ) -> Option<(String, Vec<u8>)> {
        let old = self.old.contains_key(&sc);
        let a = self.worker_at(sc, owner)?;
        let record = WorkerRecord {
            sc_tokens: a.sc_tokens,
            tokens: a.tracker.max().0,
            closed: a.closed,
        };
        let name = if old {
            format!("{OLD_WORKER}{sc}-{owner}")
        } else {
            format!("worker_{owner}")
        };
        Some((name, super::core::to_json(&record)))
    }
}
