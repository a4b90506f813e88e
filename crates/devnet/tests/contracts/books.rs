//! What everybody is owed, counted from what was brought and signed, independently of the model of the contracts.

use std::collections::BTreeMap;

use cocoon_ton::Address;
use cocoon_ton::abi::{
    ClientRequestPayload, ClientState, ContractStatus, Params, ProxyMessage, ProxyState,
    WorkerRequestPayload, WorkerState, op,
};

use crate::model::SWEEP;
use crate::net::Net;
use crate::sim::Party;
use crate::world::{Tx, World};

/// One client's account, as seen from the proxy contract and from its own.
#[derive(Clone, Debug, Default)]
pub struct ClientBook {
    owner: Address,
    /// Deposits that reached the proxy contract and stayed there.
    deposited: u128,
    /// Deposits that a closing or closed proxy contract sent back to the owner: the ledger counts them all the
    /// same, which the ABI demands (found by these tests, see contracts/README.md).
    returned: u128,
    /// Paid to the owner as refunds.
    refunded: u128,
    /// Taken off the ledger by charges.
    charged: u128,
    /// Asked for by forced refunds beyond the proxy's stake (W3).
    forfeited: u128,
    /// Totals of tokens, to see that they only grow.
    tokens: u64,
}

/// One worker's account.
#[derive(Clone, Debug, Default)]
pub struct WorkerBook {
    owner: Address,
    /// Paid to the owner.
    paid: u128,
    /// Booked as revenue for its tokens.
    revenue: u128,
    tokens: u64,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Books {
    params: Params,
    proxy: Address,
    proxy_owner: Address,
    clients: BTreeMap<Address, ClientBook>,
    workers: BTreeMap<Address, WorkerBook>,
    /// Revenue paid to the proxy's owner.
    revenue_paid: u128,
    /// Paid by forced refunds, out of the stake.
    forced: u128,
    stake_added: u128,
    rent: u128,
    completed: bool,
}

impl Books {
    /// Empty books of a network.
    pub fn new(net: &Net, clients: &[Party], workers: &[Party]) -> Self {
        Self {
            params: net.params.bare_form(),
            proxy: net.proxy.address,
            proxy_owner: net.proxy_owner,
            clients: clients
                .iter()
                .map(|party| {
                    let owner = party.owner;
                    (
                        party.init.address,
                        ClientBook {
                            owner,
                            ..Default::default()
                        },
                    )
                })
                .collect(),
            workers: workers
                .iter()
                .map(|party| {
                    let owner = party.owner;
                    (
                        party.init.address,
                        WorkerBook {
                            owner,
                            ..Default::default()
                        },
                    )
                })
                .collect(),
            revenue_paid: 0,
            forced: 0,
            stake_added: 0,
            rent: 0,
            completed: false,
        }
    }

    /// Enters a transaction.
    pub fn note(&mut self, tx: &Tx) -> Result<(), String> {
        if tx.account == self.proxy {
            self.rent += tx.storage_fees;
            return self.note_proxy(tx);
        }
        // A contract's own coins are its owner's: they leave only by the sweep of a closed one. (W4)
        let known =
            self.clients.contains_key(&tx.account) || self.workers.contains_key(&tx.account);
        let swept = tx.op == Some(SWEEP) && tx.succeeded();
        if known && !swept && tx.after.balance + tx.storage_fees < tx.before.balance {
            return Err(format!(
                "own coins left a contract: {} before, {} after",
                tx.before.balance, tx.after.balance
            ));
        }
        let data = |tx: &Tx| tx.before.data.clone().zip(tx.after.data.clone());
        if let Some(book) = self.clients.get_mut(&tx.account)
            && let Some((before, after)) = data(tx)
        {
            let before = ClientState::decode(&before).map_err(|e| e.to_string())?;
            let after = ClientState::decode(&after).map_err(|e| e.to_string())?;
            if after.tokens_used < before.tokens_used {
                return Err("a client's total fell".to_owned());
            }
            let fresh = u128::from(after.tokens_used - before.tokens_used);
            book.charged += before.balance.min(fresh * self.params.price_per_token);
            book.tokens = after.tokens_used;
            // A charge that took from a deposit on its way takes nothing if the deposit comes back.
            if tx.message.bounced && tx.message.src == Some(self.proxy) {
                let came_back = bounced_top_up(&tx.message.body).unwrap_or(0);
                book.charged -= came_back.saturating_sub(before.balance).min(book.charged);
            }
            if before.status == ContractStatus::Closed
                && after.status != ContractStatus::Closed
                && !tx.message.bounced
            {
                return Err("a closed client was opened".to_owned());
            }
        }
        if let Some(book) = self.workers.get_mut(&tx.account)
            && let Some((before, after)) = data(tx)
        {
            let before = WorkerState::decode(&before).map_err(|e| e.to_string())?;
            let after = WorkerState::decode(&after).map_err(|e| e.to_string())?;
            if after.tokens_paid < before.tokens_paid && !tx.message.bounced {
                return Err("a worker's total fell without a bounce".to_owned());
            }
            book.tokens = after.tokens_paid;
        }
        Ok(())
    }

    fn note_proxy(&mut self, tx: &Tx) -> Result<(), String> {
        if !tx.succeeded() {
            return Ok(());
        }
        let paid: u128 = tx
            .out
            .iter()
            .filter(|m| !m.bounced && crate::world::op(&m.body) == Some(op::PAYOUT))
            .map(|m| m.value)
            .sum();
        let payee = |to: Address| {
            let right = tx
                .out
                .iter()
                .all(|m| crate::world::op(&m.body) != Some(op::PAYOUT) || m.dst == Some(to));
            if right {
                Ok(())
            } else {
                Err("paid to somebody else than the owner".to_owned())
            }
        };
        let before = decode_proxy(tx.before.data.as_ref());
        let after = decode_proxy(tx.after.data.as_ref());
        let closed = |p: &Option<ProxyState>| {
            p.as_ref()
                .is_some_and(|p| p.status == ContractStatus::Closed)
        };
        let completed = closed(&after) && !closed(&before);
        if !completed && tx.after.balance + tx.storage_fees + paid < tx.before.balance {
            return Err("coins left the proxy contract without being paid to anybody".to_owned());
        }
        let from = tx.message.src.unwrap_or_default();
        // Who the sender is follows from its address, which the tests know; not from what the body says.
        match ProxyMessage::decode(&tx.message.body) {
            Ok(ProxyMessage::ClientRequest {
                payload: Some(payload),
                ..
            }) => {
                let Some(book) = self.clients.get_mut(&from) else {
                    return if paid == 0 {
                        Ok(())
                    } else {
                        Err("paid on the word of a stranger".to_owned())
                    };
                };
                payee(book.owner)?;
                match payload {
                    ClientRequestPayload::TopUp { coins, .. } => {
                        if before.is_some_and(|p| p.status == ContractStatus::Normal) {
                            book.deposited += coins;
                        } else {
                            book.returned += coins;
                        }
                    }
                    ClientRequestPayload::RefundGranted { coins, .. } => {
                        book.refunded += paid;
                        if paid != coins {
                            return Err(format!("a refund of {coins} was paid with {paid}"));
                        }
                    }
                    ClientRequestPayload::RefundForced { coins, .. } => {
                        book.refunded += paid;
                        book.forfeited += coins.checked_sub(paid).ok_or("too large a refund")?;
                        self.forced += paid;
                    }
                    _ => {}
                }
            }
            Ok(ProxyMessage::WorkerRequest {
                payload: Some(payload),
                ..
            }) => {
                let Some(book) = self.workers.get_mut(&from) else {
                    return if paid == 0 {
                        Ok(())
                    } else {
                        Err("paid on the word of a stranger".to_owned())
                    };
                };
                payee(book.owner)?;
                if let WorkerRequestPayload::Payout { proxy_part, .. } = payload {
                    book.paid += paid;
                    book.revenue += proxy_part;
                }
            }
            Ok(ProxyMessage::IncreaseStake { coins, .. }) => self.stake_added += coins,
            _ => {
                if paid > 0 {
                    payee(self.proxy_owner)?;
                }
                if completed {
                    self.completed = true;
                    return Ok(());
                }
                if let Some(before) = before
                    && paid > 0
                {
                    // Text "w" sends the rest of the message along; pay revenue is exact.
                    self.revenue_paid += before.balance;
                    if paid > before.balance + tx.message.value {
                        return Err("more than the revenue was paid".to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing is on its way: every ledger must be exactly what was brought, less what was paid and charged.
    pub fn balance(&self, world: &World) -> Result<(), String> {
        let (mut ledgers, mut returned, mut charged, mut forfeited) = (0, 0, 0, 0);
        for (address, book) in &self.clients {
            let Some(data) = world.data(address) else {
                continue;
            };
            let state = ClientState::decode(data).map_err(|e| e.to_string())?;
            let gone = book.refunded + book.charged + book.forfeited;
            let owed = (book.deposited + book.returned)
                .checked_sub(gone)
                .ok_or_else(|| format!("a client got more than it brought: {book:?}"))?;
            if state.balance != owed {
                return Err(format!(
                    "a client's ledger says {}, the proxy owes {owed}: {book:?}",
                    state.balance
                ));
            }
            ledgers += state.balance;
            returned += book.returned;
            charged += book.charged;
            forfeited += book.forfeited;
        }
        let mut tokens = 0;
        let mut revenue = 0;
        for (address, book) in &self.workers {
            let Some(data) = world.data(address) else {
                continue;
            };
            let state = WorkerState::decode(data).map_err(|e| e.to_string())?;
            let owed = u128::from(state.tokens_paid) * self.params.worker_fee_per_token;
            if book.paid != owed {
                return Err(format!(
                    "a worker was paid {} for {} tokens, which are {owed}",
                    book.paid, state.tokens_paid
                ));
            }
            tokens += u128::from(state.tokens_paid);
            revenue += book.revenue;
        }
        let Some(proxy) = decode_proxy(world.data(&self.proxy)) else {
            return if ledgers == 0 && tokens * self.params.price_per_token == 0 {
                Ok(())
            } else {
                Err("a ledger counts coins that no proxy contract holds".to_owned())
            };
        };
        if self.completed {
            return Ok(());
        }
        if proxy.stake + self.forced != self.stake_added {
            return Err("the stake is not what was brought less what was forced".to_owned());
        }
        if proxy.balance + self.revenue_paid != revenue {
            return Err("the revenue is not what was booked less what was paid".to_owned());
        }
        // All promises against all coins. Beyond the coins go only: deposits that were sent back and counted all the
        // same, payouts without a charge (W6), and rent.
        let promised = ledgers + proxy.stake + proxy.balance + charged + forfeited + self.forced;
        let covered = world.balance(&self.proxy)
            + returned
            + tokens * self.params.price_per_token
            + self.rent;
        if promised > covered {
            return Err(format!("{promised} promised, {covered} covered: {self:?}"));
        }
        Ok(())
    }
}

/// The amount of a top-up that came back.
fn bounced_top_up(body: &cocoon_ton::Cell) -> Option<u128> {
    match ProxyMessage::decode(&body.reference_cloned(0)?) {
        Ok(ProxyMessage::ClientRequest {
            payload: Some(ClientRequestPayload::TopUp { coins, .. }),
            ..
        }) => Some(coins),
        _ => None,
    }
}

fn decode_proxy(data: Option<&cocoon_ton::Cell>) -> Option<ProxyState> {
    ProxyState::decode(data?).ok()
}
