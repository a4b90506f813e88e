//! The copy on which everything is tried: the owner's wallet obeys a key of the prover's own there.

use std::sync::Arc;

use cocoon_devnet::config::ChainConfig;
use cocoon_devnet::emulate::{EmulateError, Emulator};
use cocoon_devnet::executor::ExecuteError;
use cocoon_ton::abi::{ClientState, WalletState, op};
use cocoon_ton::amount::format_ton;
use cocoon_ton::wallet::{InternalMessage, MIN_BALANCE, Outgoing, SUBWALLET, Transfer};
use cocoon_ton::{Address, CellSlice, TxInfo};
use ed25519_dalek::SigningKey;

use crate::ExitError;
use crate::action::Action;
use crate::picture::{Ledger, Picture};

/// Signs on the copy only, where it stands in the wallet's data in the place of the real key, which is not needed. A
/// key and a signature have the same size and cost the same gas whatever they are.
const COPY_KEY: [u8; 32] = *b"cocoon exit prover: a copied key";
/// Any number: it changes no fee.
const QUERY_ID: u64 = 0x6578_6974;

/// Who a transaction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The owner's wallet.
    Owner,
    /// The client contract.
    Client,
    /// The proxy contract.
    Proxy,
    /// Somebody else.
    Other,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Whose.
    pub role: Role,
    /// Op of the message that caused it; absent for empty and external messages.
    pub op: Option<u32>,
    /// Coins that came with it, in nanoTON.
    pub value: u128,
    /// Fees taken, in nanoTON; forward fees of its messages are not in it.
    pub fees: u128,
    /// Exit code; absent if nothing ran (a notice of one nanoTON, an account without code).
    pub exit_code: Option<i32>,
    /// Result of the action phase, if there was one.
    pub action_code: Option<i32>,
    /// Whether its effects were rolled back.
    pub aborted: bool,
}

/// One message of the owner and everything that followed from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the owner asked for.
    pub action: Action,
    /// Unix time.
    pub at: u32,
    /// Coins attached, in nanoTON.
    pub value: u128,
    /// Coins that the proxy contract paid to the owner, in nanoTON.
    pub paid: u128,
    /// The transactions, in the order of the chain.
    pub transactions: Vec<Trace>,
}

/// Why a way out cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{step}\" fails: {reason}")]
pub struct Blocked {
    /// What was tried.
    pub step: &'static str,
    /// Why it fails.
    pub reason: String,
}

/// Either a step, or the reason why it fails.
pub(crate) type Tried = Result<Result<Step, Blocked>, ExitError>;

/// A copy of the accounts.
#[derive(Clone)]
pub(crate) struct Stage {
    emulator: Emulator,
    client: Address,
    proxy: Address,
    owner: Address,
}

impl Stage {
    /// A copy of a picture. `extra` coins are put into the owner's wallet, for steps that he would pay in first.
    pub fn new(
        picture: &Picture,
        config: &Arc<ChainConfig>,
        extra: u128,
    ) -> Result<Self, ExitError> {
        let mut owner = picture.owner.clone();
        if let Some(data) = &owner.state.data {
            let wallet = WalletState {
                public_key: SigningKey::from_bytes(&COPY_KEY).verifying_key().to_bytes(),
                ..WalletState::decode(data)?
            };
            owner.state.data = Some(wallet.encode()?);
        }
        owner.state.balance = owner.state.balance.saturating_add(extra);
        let accounts = [picture.client.clone(), picture.proxy.clone(), owner];
        Ok(Self {
            emulator: Emulator::new(config.clone(), &accounts)?,
            client: picture.client.address,
            proxy: picture.proxy.address,
            owner: picture.owner.address,
        })
    }

    /// The owner's wallet sends a message to the client contract at a time.
    pub fn act(&mut self, at: u32, action: &Action) -> Tried {
        let body = action.body(self.owner, QUERY_ID)?;
        let message = InternalMessage::call(self.client, action.value(), body);
        let blocked = |reason: String| {
            Ok(Err(Blocked {
                step: action.name(),
                reason,
            }))
        };
        let wallet = self.emulator.account(&self.owner)?;
        let Some(data) = &wallet.data else {
            return blocked("the owner's wallet is not there any more".to_owned());
        };
        let state = WalletState::decode(data)?;
        let transfer = Transfer {
            subwallet: SUBWALLET,
            valid_until: at.saturating_add(cocoon_ton::wallet::VALID_FOR_SECONDS),
            seqno: state.seqno,
            messages: vec![Outgoing::new(&message)?],
        };
        let external = transfer
            .sign(&SigningKey::from_bytes(&COPY_KEY))?
            .external(self.owner, None)?;
        let found = match self.emulator.send(at, external.cell) {
            Ok(found) => found,
            Err(EmulateError::Refused(ExecuteError::NotAccepted { reason, .. })) => {
                let why = if state.is_blocked() {
                    "the owner of the wallet has blocked it".to_owned()
                } else if wallet.balance < MIN_BALANCE {
                    format!(
                        "the wallet has {}, it sends nothing below {}",
                        format_ton(wallet.balance),
                        format_ton(MIN_BALANCE)
                    )
                } else {
                    reason
                };
                return blocked(format!("the owner's wallet does not send it: {why}"));
            }
            Err(e) => return Err(e.into()),
        };
        let at_client = found.iter().find(|tx| tx.account == self.client);
        match at_client {
            None => {
                return blocked(
                    "the owner's wallet leaves it out: it does not have the coins".to_owned(),
                );
            }
            Some(tx) if tx.aborted => {
                return blocked(match tx.compute_exit_code {
                    Some(code) if code != 0 => {
                        format!(
                            "the client contract answers with exit code {code}{}",
                            meaning(code)
                        )
                    }
                    _ => "the client contract's messages could not be sent".to_owned(),
                });
            }
            Some(_) => {}
        }
        Ok(Ok(Step {
            action: action.clone(),
            at,
            value: action.value(),
            paid: self.paid(&found),
            transactions: found.iter().map(|tx| self.trace(tx)).collect(),
        }))
    }

    /// Coins with which the proxy contract paid the owner, before fees.
    fn paid(&self, transactions: &[TxInfo]) -> u128 {
        transactions
            .iter()
            .filter(|tx| tx.account == self.proxy)
            .flat_map(|tx| &tx.out_msgs)
            .filter(|m| m.dst == Some(self.owner) && op_of(&m.body) == Some(op::PAYOUT))
            .map(|m| m.value)
            .sum()
    }

    fn trace(&self, tx: &TxInfo) -> Trace {
        let role = match tx.account {
            a if a == self.owner => Role::Owner,
            a if a == self.client => Role::Client,
            a if a == self.proxy => Role::Proxy,
            _ => Role::Other,
        };
        let message = tx.in_msg.as_ref();
        Trace {
            role,
            op: message
                .filter(|m| m.src.is_some())
                .and_then(|m| op_of(&m.body)),
            value: message.map_or(0, |m| m.value),
            fees: tx.total_fees,
            exit_code: tx.compute_exit_code,
            action_code: tx.action_result_code,
            aborted: tx.aborted,
        }
    }

    /// The client contract's ledger now.
    pub fn ledger(&self) -> Result<Ledger, ExitError> {
        let account = self.emulator.account(&self.client)?;
        let data = account.data.ok_or(ExitError::NoClient(self.client))?;
        Ok(Ledger::from(&ClientState::decode(&data)?))
    }

    /// Coins of owner wallet, client contract and proxy contract now, in nanoTON.
    pub fn coins(&self) -> Result<[u128; 3], ExitError> {
        Ok([
            self.emulator.account(&self.owner)?.balance,
            self.emulator.account(&self.client)?.balance,
            self.emulator.account(&self.proxy)?.balance,
        ])
    }

    /// Fees taken so far, in nanoTON.
    pub fn fees(&self) -> u128 {
        self.emulator.fees()
    }
}

fn op_of(body: &cocoon_ton::Cell) -> Option<u32> {
    let mut slice: CellSlice<'_> = body.as_slice().ok()?;
    slice.load_u32().ok()
}

/// What an exit code of the contracts means (contracts.md section 4), in brackets, or nothing.
pub fn meaning(code: i32) -> &'static str {
    match code {
        1000 => " (the signed total is older than the one already charged)",
        1001 => " (nothing exceeds the stake, or the contract has too few coins)",
        1003 => " (too few coins attached)",
        1006 => " (the contract is in another state)",
        1007 => " (the signature is not the proxy's)",
        1009 | 1010 => " (the wallet is not the contract's owner)",
        1011 => " (the delay is not over yet)",
        1012 => " (the contract does not know this message)",
        1015 => " (signed for another contract)",
        _ => "",
    }
}
