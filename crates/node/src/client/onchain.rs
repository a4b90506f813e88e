//! The client and its contracts: deployment, registration, top-ups, charges (protocol.md 3.8, contracts.md 14.3).

use cocoon_ledger::settle::{ClientAction, ClientView, ContractStatus, review_client};
use cocoon_ledger::{AdjustedTokens, NanoTon};
use cocoon_ton::abi::ClientState;
use cocoon_ton::abi::message::ClientMessage;
use cocoon_ton::chain::AccountStatus;
use cocoon_ton::{AccountState, Address, Cell};

use super::core::{ClientCore, Outstanding};
use super::types::ClientEffect;
use crate::payment;

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
        let mut jobs = Vec::new();
        let mut forget = Vec::new();
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
                Some(false) if p.outdated_since_ms.is_some() => None,
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
                            outdated_for_s: p
                                .outdated_since_ms
                                .map(|t| self.now.saturating_sub(t) / 1000),
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
                        match review_client(&s.settle, &view) {
                            ClientAction::None => None,
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
            }
        }
        for job in jobs {
            let bounce = job.init.is_none();
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
