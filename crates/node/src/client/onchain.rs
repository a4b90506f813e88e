//! The client and its contracts: deployment, registration, top-ups, charges (protocol.md 3.8, contracts.md 14.3).

use cocoon_exit::Plan;
use cocoon_ledger::settle::{
    ClientAction, ClientSettings, ClientView, ContractStatus, review_client,
};
use cocoon_ledger::{AdjustedTokens, NanoTon};
use cocoon_ton::abi::message::ClientMessage;
use cocoon_ton::abi::{ClientState, ProxyState};
use cocoon_ton::chain::AccountStatus;
use cocoon_ton::{AccountState, Address, Cell};

use super::core::{ClientCore, Outstanding, ProxyContract};
use super::exit::{Gate, left_to_proxy};
use super::operate::Wish;
use super::types::ClientEffect;
use crate::payment;
use crate::settlement::ChainMode;

/// How long the contract may take to show the effect of a message after the wallet has sent it.
const EFFECT_WAIT_MS: u64 = 60_000;
/// Pause after the wallet could not send a message.
const RETRY_MS: u64 = 5_000;

/// One message to be sent to a contract of ours.
struct Job {
    proxy_sc: Address,
    to: Address,
    value: u128,
    init: Option<Cell>,
    body: Option<Cell>,
    registers: bool,
}

impl ClientCore {
    pub(super) fn on_contract(&mut self, proxy_sc: Address, state: &AccountState) {
        let Some(p) = self.proxies.get_mut(&proxy_sc) else {
            return;
        };
        let c = &mut p.contract;
        c.last_lt = state.last_lt;
        c.coins = state.balance;
        if state.status != AccountStatus::Active {
            c.deployed = Some(false);
        } else if let Some(data) = &state.data {
            match ClientState::decode(data) {
                Ok(s) => {
                    c.deployed = Some(true);
                    c.status = s.status as u8;
                    c.balance = s.balance;
                    c.stake = s.stake;
                    c.used = AdjustedTokens(s.tokens_used);
                    c.unlock_time = s.unlock_time;
                    c.secret_hash = s.secret_hash;
                    c.delays = Some((s.params.proxy_delay, s.params.client_delay));
                }
                Err(e) => {
                    let text = format!("our contract {} has unreadable data: {e}", p.client_sc);
                    self.fx.push(ClientEffect::Alarm(text));
                }
            }
        }
        if p.outstanding
            .as_ref()
            .is_some_and(|o| state.last_lt > o.since_lt && o.until_ms.is_some())
        {
            p.outstanding = None;
        }
        self.review();
    }

    /// The proxy's own contract was read. When it is closing, everything that is left in it at the end goes to the
    /// proxy's owner (contracts.md 15.1, W7), so we ask for what is ours at once.
    pub(super) fn on_proxy_contract(&mut self, proxy_sc: Address, state: &AccountState) {
        let Some(p) = self.proxies.get_mut(&proxy_sc) else {
            return;
        };
        let decoded = state.data.as_ref().map(ProxyState::decode);
        let seen = match decoded {
            Some(Ok(s)) if state.status == AccountStatus::Active => {
                if s.status == cocoon_ton::abi::ContractStatus::Normal {
                    ProxyContract::Open
                } else {
                    ProxyContract::Ending
                }
            }
            _ => ProxyContract::Missing,
        };
        if p.proxy_contract != Some(seen) && seen == ProxyContract::Ending {
            let text = format!(
                "the proxy contract {proxy_sc} is closing: our deposit is asked back, and nothing more is paid in"
            );
            self.fx.push(ClientEffect::Alarm(text));
        }
        p.proxy_contract = Some(seen);
        self.review();
    }

    pub(super) fn on_transacted(&mut self, ticket: u64, ok: bool) {
        for p in self.proxies.values_mut() {
            if let Some(o) = &mut p.outstanding
                && o.ticket == ticket
            {
                // The contract may have shown the effect before the wallet told us.
                if ok && o.registers {
                    p.register = None;
                }
                if !ok {
                    o.since_lt = u64::MAX;
                    o.until_ms = Some(self.now + RETRY_MS);
                } else if p.contract.last_lt <= o.since_lt {
                    o.until_ms = Some(self.now + EFFECT_WAIT_MS);
                } else {
                    p.outstanding = None;
                }
            }
        }
    }

    /// One step per contract, the first that applies; the next one after its effect was seen.
    pub(super) fn review(&mut self) {
        if self.cfg.contracts == ChainMode::Assumed {
            return;
        }
        let mut jobs = Vec::new();
        let mut forget = Vec::new();
        let mut asks = Vec::new();
        let linked = self.linked_proxies();
        let query_id = self.draw_u64();
        let me = self.cfg.wallet;
        let secret_hash = payment::secret_hash(&self.cfg.secret);
        let price = self.root.price();
        let s = &self.cfg.settings;
        for (sc, p) in &mut self.proxies {
            if p.outstanding
                .as_ref()
                .is_some_and(|o| o.until_ms.is_some_and(|t| self.now >= t))
            {
                p.outstanding = None;
            }
            if p.outstanding.is_some() {
                continue;
            }
            let message = u128::from(s.message_value);
            let mut registers = false;
            let job = match p.contract.deployed {
                None => None,
                Some(false) if p.outdated_since_ms.is_some() || self.closed => {
                    // Nothing was ever paid in.
                    forget.push(*sc);
                    None
                }
                Some(false) => self
                    .root
                    .client_contract(*sc, p.public_key, me)
                    .ok()
                    .map(|init| (u128::from(s.deploy_value), Some(init.cell), None)),
                Some(true) => {
                    let call = |value: u128, m: ClientMessage| {
                        m.encode().ok().map(|body| (value, None, Some(body)))
                    };
                    if let Some(nonce) = p.register.filter(|_| p.contract.status == 0) {
                        registers = true;
                        call(
                            u128::from(s.register_value),
                            ClientMessage::Register {
                                query_id,
                                nonce,
                                excess_to: me,
                            },
                        )
                    } else {
                        let now_s = self.now / 1000;
                        let view = ClientView {
                            status: ContractStatus::from_number(p.contract.status),
                            outdated_for_s: if self.closed
                                || p.proxy_contract == Some(ProxyContract::Ending)
                            {
                                Some(u64::MAX)
                            } else {
                                p.outdated_since_ms
                                    .map(|t| self.now.saturating_sub(t) / 1000)
                            },
                            unlock_in_s: (u64::from(p.contract.unlock_time) + 1)
                                .saturating_sub(now_s),
                            request_outstanding: false,
                            secret_matches: p.contract.secret_hash == secret_hash,
                            price,
                            balance: NanoTon(p.contract.balance),
                            stake: NanoTon(p.contract.stake),
                            used: p.contract.used,
                            claims: p.claims,
                        };
                        let settle = ClientSettings {
                            close_outdated_after_s: patience(
                                p.contract.delays,
                                s.settle.close_outdated_after_s,
                            ),
                            ..s.settle
                        };
                        let action = match review_client(&settle, &view) {
                            // It would come back, at the price of the fees.
                            ClientAction::TopUp(_)
                                if p.proxy_contract == Some(ProxyContract::Missing) =>
                            {
                                ClientAction::None
                            }
                            action => action,
                        };
                        let wish = self.wishes.get(sc).copied();
                        let action = wish.map_or(action, |wish| {
                            wish.action(p.contract.stake, price, p.claims.signed())
                        });
                        // Whatever moves money out of the owner's reach has to be shown to be safe first.
                        let plan = match action {
                            ClientAction::TopUp(coins) if !s.accept_exit_risk => {
                                Some(Plan::TopUp { coins: coins.0 })
                            }
                            ClientAction::Close if view.status == ContractStatus::Closing => {
                                let unlocked = u64::from(p.contract.unlock_time);
                                if left_to_proxy(linked.contains(sc), unlocked, self.now) {
                                    continue;
                                }
                                Some(Plan::Force)
                            }
                            _ => None,
                        };
                        if let Some(plan) = plan {
                            match p.exit.gate(plan, p.contract.last_lt, self.now) {
                                Gate::Go => {}
                                Gate::Wait => continue,
                                Gate::Ask => {
                                    asks.push((*sc, plan));
                                    continue;
                                }
                            }
                        }
                        match action {
                            ClientAction::None if wish == Some(Wish::Withdraw) => call(
                                message,
                                ClientMessage::Withdraw {
                                    query_id,
                                    excess_to: me,
                                },
                            ),
                            ClientAction::None => None,
                            // Our contract's own coins are still in it.
                            ClientAction::Forget
                                if !p.swept
                                    && p.contract.coins >= super::closing::WORTH_SWEEPING =>
                            {
                                p.swept = true;
                                super::closing::sweep(query_id, me)
                                    .map(|body| (super::closing::SWEEP_VALUE, None, Some(body)))
                            }
                            ClientAction::Forget => {
                                forget.push(*sc);
                                None
                            }
                            ClientAction::Close => call(
                                message,
                                ClientMessage::RequestRefund {
                                    query_id,
                                    excess_to: me,
                                },
                            ),
                            ClientAction::ChangeSecret => call(
                                message,
                                ClientMessage::ChangeSecretHash {
                                    query_id,
                                    secret_hash,
                                    excess_to: me,
                                },
                            ),
                            ClientAction::TopUp(coins) => call(
                                coins.0 + message,
                                ClientMessage::TopUp {
                                    query_id,
                                    coins: coins.0,
                                    excess_to: me,
                                },
                            ),
                            ClientAction::Charge(_) => p
                                .payment
                                .as_ref()
                                .and_then(|boc| payment::readdressed(boc, me).ok())
                                .map(|body| (message, None, Some(body))),
                        }
                    }
                }
            };
            if let Some((value, init, body)) = job {
                jobs.push(Job {
                    proxy_sc: *sc,
                    to: p.client_sc,
                    value,
                    init,
                    body,
                    registers,
                });
            }
        }
        for sc in forget {
            if !self.links.values().any(|l| l.proxy == Some(sc)) {
                self.proxies.remove(&sc);
                self.touch(sc);
                self.fx.push(ClientEffect::Unwatch { proxy_sc: sc });
            }
        }
        for (sc, plan) in asks {
            self.ask_judgement(sc, plan);
        }
        // A wish whose deposit was judged unsafe is over.
        let proxies = &self.proxies;
        self.wishes
            .retain(|sc, _| proxies.get(sc).is_some_and(|p| p.exit.refusal().is_none()));
        for job in jobs {
            let bounce = job.init.is_none();
            self.wishes.remove(&job.proxy_sc);
            let ticket = self.transact(job.to, job.value, bounce, job.init, job.body);
            if let Some(p) = self.proxies.get_mut(&job.proxy_sc) {
                p.outstanding = Some(Outstanding {
                    ticket,
                    since_lt: p.contract.last_lt,
                    until_ms: None,
                    registers: job.registers,
                });
            }
        }
    }
}

/// How long to go on with outdated parameters: half of what the proxy waits longer than we do, so that a forced refund
/// is through before the proxy's close is (contracts.md 14.3), and never longer than configured.
fn patience(delays: Option<(u32, u32)>, configured_s: u64) -> u64 {
    delays.map_or(configured_s, |(proxy, client)| {
        u64::from(proxy.saturating_sub(client) / 2).min(configured_s)
    })
}

#[cfg(test)]
mod tests {
    use super::patience;

    #[test]
    fn patience_follows_the_frozen_delays() {
        assert_eq!(patience(None, 43_200), 43_200);
        assert_eq!(patience(Some((600, 300)), 43_200), 150);
        assert_eq!(patience(Some((86_400, 86_400)), 43_200), 0);
        assert_eq!(patience(Some((300, 600)), 43_200), 0);
        assert_eq!(patience(Some((400_000, 300)), 43_200), 43_200);
    }
}
