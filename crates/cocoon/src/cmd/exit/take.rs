//! Taking a way out: messages from the client node's wallet, each followed until everything it caused has arrived.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_exit::{Action, Ledger, Report, Way, meaning};
use cocoon_node::wallet::{Outgoing, WalletConfig, WalletHandle};
use cocoon_ton::abi::{ClientState, ContractStatus, Envelope, OwnerMessage};
use cocoon_ton::amount::format_ton;
use cocoon_ton::wallet::MIN_BALANCE;
use cocoon_ton::{Address, Chain, ChainError, TxInfo};
use serde_json::{Value, json};

use crate::cli::{ExitArgs, Global};
use crate::cmd::wallet::contracts;
use crate::datadir::Layout;
use crate::error::{CliError, Result};
use crate::keys::{Keys, Missing};
use crate::network::Network;

/// A message and what follows from it take a few blocks.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Between looks at the chain.
const POLL: Duration = Duration::from_millis(200);
/// Messages followed from one message of ours; Cocoon's contracts cause four.
const MAX_FOLLOWED: usize = 16;

/// Said where a payment has bounced.
const UNPAID: &str = "the proxy contract could not pay; the claim stands in the ledger again";

/// What happened.
pub struct Taken {
    way: Way,
    steps: Vec<(&'static str, [u8; 32])>,
    /// Coins that the proxy contract paid to the owner's wallet meanwhile, in nanoTON.
    returned: u128,
    ledger: Ledger,
    /// Whether nothing more is to come.
    is_final: bool,
    /// What is still to come, or how it came about, in words.
    remark: Option<String>,
    lost: u128,
}

impl Taken {
    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "way": self.way.name(),
            "final": self.is_final,
            "remark": self.remark,
            "returned": self.returned.to_string(),
            "lost": self.lost.to_string(),
            "state": super::show::status(self.ledger.status),
            "deposit": self.ledger.balance.to_string(),
            "unlock_time": self.ledger.unlock_time,
            "steps": self.steps.iter().map(|(name, hash)| json!({
                "action": name,
                "transaction": hex::encode(hash),
            })).collect::<Vec<_>>(),
        })
    }

    /// In words.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for (name, hash) in &self.steps {
            lines.push(format!("done: {name}, transaction {}", hex::encode(hash)));
        }
        lines.push(format!(
            "{} came back to the client's wallet; the account is {} and holds {}",
            format_ton(self.returned),
            super::show::status(self.ledger.status),
            format_ton(self.ledger.balance)
        ));
        if self.lost > 0 {
            lines.push(format!(
                "{} is lost: the proxy's stake did not cover it",
                format_ton(self.lost)
            ));
        }
        if let Some(remark) = &self.remark {
            lines.push(remark.clone());
        }
        lines.join("\n") + "\n"
    }
}

/// How far a way was taken.
enum End {
    /// To its end.
    Done,
    /// To its end, but not as it was meant; in words.
    Otherwise(String),
    /// Something is still to come; in words.
    Pending(String),
}

struct Taker {
    chain: Arc<dyn Chain>,
    wallet: WalletHandle,
    client: Address,
    proxy: Address,
    owner: Address,
    steps: Vec<(&'static str, [u8; 32])>,
}

/// Takes a way out. Every failure says what was done before it.
pub async fn take(
    network: &Network,
    global: &Global,
    args: &ExitArgs,
    report: &Report,
    way: Way,
    grant: Option<Envelope>,
) -> Result<Taken> {
    let layout = Layout::locate(global.data_dir.as_deref())?;
    let keys = Keys::load(&layout.keys(), Missing::Refuse)?;
    let init = contracts(global)?.wallet(
        keys.client_wallet.verifying_key().to_bytes(),
        Some(network.client.owner),
    )?;
    if init.address != report.owner {
        return Err(CliError::new(
            "nothing was sent: this network's wallet does not own the account",
        )
        .expected(format!("owner {}", init.address))
        .found(report.owner.to_string())
        .hint("for somebody else's account only --dry-run is possible"));
    }
    let chain: Arc<dyn Chain> = Arc::new(crate::cmd::chain(network));
    let last_lt = async |address| {
        let account = chain.account(address).await.map_err(chain_error)?;
        Ok::<u64, CliError>(account.last_lt)
    };
    let (owner_lt, client_lt) = (
        last_lt(&report.owner).await?,
        last_lt(&report.client).await?,
    );
    let mut taker = Taker {
        wallet: WalletHandle::spawn(
            chain.clone(),
            WalletConfig {
                key: keys.client_wallet.clone(),
                init,
                min_balance: MIN_BALANCE,
                poll: POLL,
            },
        ),
        chain,
        client: report.client,
        proxy: report.proxy,
        owner: report.owner,
        steps: Vec::new(),
    };
    let end = match way {
        Way::Withdraw => {
            taker.send(Action::Withdraw).await?;
            End::Done
        }
        Way::Granted => {
            if let Some(envelope) = grant {
                taker.send(Action::GrantRefund(envelope)).await?;
            }
            End::Done
        }
        Way::AskProxy => taker.ask(args.wait).await?,
        _ => taker.force(args.wait).await?,
    };
    let knows_sweep = report
        .ways
        .iter()
        .filter_map(|w| w.outcome.as_ref().ok())
        .any(|outcome| outcome.steps.iter().any(|s| s.action == Action::Sweep));
    if knows_sweep && taker.ledger().await?.status == ContractStatus::Closed {
        taker.send(Action::Sweep).await?;
    }
    taker.settled(client_lt).await?;
    let ledger = taker.ledger().await?;
    let returned = taker.paid_since(owner_lt).await?;
    taker.wallet.close().await;
    // What was used and charged meanwhile is not lost.
    let tokens = ledger.tokens_used.saturating_sub(report.ledger.tokens_used);
    let charged = u128::from(tokens).saturating_mul(network.prices.price_per_token);
    let closes = way != Way::Withdraw;
    let unpaid = if closes {
        ledger.status != ContractStatus::Closed
    } else {
        returned == 0
    };
    Ok(Taken {
        way,
        steps: taker.steps,
        returned,
        lost: report
            .ledger
            .balance
            .saturating_sub(returned)
            .saturating_sub(charged)
            .saturating_sub(ledger.balance),
        ledger,
        is_final: !(unpaid || matches!(end, End::Pending(_))),
        remark: match end {
            End::Done if unpaid => Some(UNPAID.to_owned()),
            End::Done => None,
            End::Otherwise(text) | End::Pending(text) => Some(text),
        },
    })
}

fn chain_error(error: ChainError) -> CliError {
    CliError::new("the chain does not answer")
        .found(error.to_string())
        .hint("what was sent still arrives; 'cocoon account exit --dry-run' shows where it stands")
}

impl Taker {
    async fn ledger(&self) -> Result<Ledger> {
        let account = self
            .chain
            .account(&self.client)
            .await
            .map_err(chain_error)?;
        let state = account.data.as_ref().map(ClientState::decode).transpose();
        match state {
            Ok(Some(state)) => Ok(Ledger::from(&state)),
            Ok(None) => Err(CliError::new("the client contract is not there any more")),
            Err(e) => Err(CliError::new("the client contract cannot be read").found(e.to_string())),
        }
    }

    async fn send(&mut self, action: Action) -> Result<()> {
        let name = action.name();
        let failed = |found: String| {
            CliError::new(format!("\"{name}\" did not succeed"))
                .found(found)
                .hint("'cocoon account exit --dry-run' shows where the account stands now")
        };
        let body = action
            .body(self.owner, rand::random())
            .map_err(|e| failed(e.to_string()))?;
        let outgoing = Outgoing {
            to: self.client,
            value: action.value(),
            bounce: true,
            init: None,
            body: Some(body),
        };
        let sent = tokio::time::timeout(STEP_TIMEOUT, self.wallet.send(outgoing))
            .await
            .map_err(|_| {
                failed(format!(
                    "the wallet did not send it within {} s: {}",
                    STEP_TIMEOUT.as_secs(),
                    self.wallet.status().condition
                ))
            })?
            .map_err(|e| failed(e.to_string()))?;
        let first = self
            .follow(vec![(self.client, sent.tx_lt, sent.message_hash)])
            .await?
            .ok_or_else(|| failed("no transaction was found".to_owned()))?;
        if first.aborted {
            let code = first.compute_exit_code.unwrap_or_default();
            return Err(failed(format!(
                "the client contract answered with exit code {code}{}",
                meaning(code)
            )));
        }
        self.steps.push((name, first.hash));
        Ok(())
    }

    /// Waits for the transactions of messages (receiver, logical time before it, hash) and of everything they cause
    /// among the accounts that matter. Returns the first.
    async fn follow(&self, messages: Vec<(Address, u64, [u8; 32])>) -> Result<Option<TxInfo>> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        let mut waiting = VecDeque::from(messages);
        let mut first = None;
        let mut followed = 0;
        while let Some((account, after_lt, hash)) = waiting.pop_front() {
            let tx = self.arrival(account, after_lt, hash, deadline).await?;
            followed += 1;
            if followed < MAX_FOLLOWED {
                waiting.extend(self.sent_by(&tx));
            }
            first.get_or_insert(tx);
        }
        Ok(first)
    }

    /// Messages of a transaction to the accounts that matter.
    fn sent_by(&self, tx: &TxInfo) -> Vec<(Address, u64, [u8; 32])> {
        let ours = [self.client, self.proxy, self.owner];
        tx.out_msgs
            .iter()
            .filter_map(|m| Some((m.dst.filter(|to| ours.contains(to))?, m.created_lt, m.hash)))
            .collect()
    }

    /// Waits until everything that the client contract has sent after a logical time has arrived, also what it sent
    /// because of the proxy.
    async fn settled(&self, lt: u64) -> Result<()> {
        let done = self
            .chain
            .transactions(&self.client, lt, usize::MAX)
            .await
            .map_err(chain_error)?;
        for tx in &done {
            self.follow(self.sent_by(tx)).await?;
        }
        Ok(())
    }

    async fn arrival(
        &self,
        account: Address,
        after_lt: u64,
        hash: [u8; 32],
        deadline: Instant,
    ) -> Result<TxInfo> {
        loop {
            let found = self
                .chain
                .transactions(&account, after_lt, usize::MAX)
                .await
                .map_err(chain_error)?;
            let arrived = found
                .into_iter()
                .find(|tx| tx.in_msg.as_ref().is_some_and(|m| m.hash == hash));
            if let Some(tx) = arrived {
                return Ok(tx);
            }
            if Instant::now() >= deadline {
                return Err(CliError::new("a message does not arrive")
                    .expected(format!(
                        "a transaction of {} within {} s",
                        account.to_text(true, true),
                        STEP_TIMEOUT.as_secs()
                    ))
                    .found(format!("message {} still under way", hex::encode(hash)))
                    .hint("'cocoon account exit --dry-run' shows where the account stands"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the first step unless it was taken already. False if it came back.
    async fn is_closing(&mut self) -> Result<bool> {
        if self.ledger().await?.status == ContractStatus::Normal {
            self.send(Action::RequestRefund).await?;
        }
        Ok(self.ledger().await?.status != ContractStatus::Normal)
    }

    /// First step, and then time for the proxy to grant the rest.
    async fn ask(&mut self, wait_s: u64) -> Result<End> {
        if !self.is_closing().await? {
            return Ok(End::Done);
        }
        let deadline = Instant::now() + Duration::from_secs(wait_s);
        loop {
            let ledger = self.ledger().await?;
            if ledger.status == ContractStatus::Closed {
                return Ok(End::Done);
            }
            if Instant::now() >= deadline {
                return Ok(End::Pending(format!(
                    "the proxy has not granted the rest within {wait_s} s; run the command again later. From unix time {} \
                     on, --forced takes it out of the proxy's stake",
                    ledger.unlock_time.saturating_add(1)
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Both steps, as far as the delay lets them.
    async fn force(&mut self, wait_s: u64) -> Result<End> {
        if !self.is_closing().await? {
            return Ok(End::Done);
        }
        let deadline = Instant::now() + Duration::from_secs(wait_s);
        loop {
            let ledger = self.ledger().await?;
            if ledger.status == ContractStatus::Closed {
                return Ok(End::Otherwise(
                    "nothing was forced: the proxy granted the refund before the delay was over"
                        .to_owned(),
                ));
            }
            let now = self.chain.network().await.map_err(chain_error)?.utime;
            if now > ledger.unlock_time {
                self.send(Action::ForceRefund).await?;
                return Ok(End::Done);
            }
            if Instant::now() >= deadline {
                return Ok(End::Pending(format!(
                    "the delay ends at unix time {}, {} s from now; run the command again then",
                    ledger.unlock_time.saturating_add(1),
                    (ledger.unlock_time.saturating_add(1)).saturating_sub(now)
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Coins that the proxy contract paid to the owner's wallet after a logical time.
    async fn paid_since(&self, lt: u64) -> Result<u128> {
        let found = self
            .chain
            .transactions(&self.owner, lt, usize::MAX)
            .await
            .map_err(chain_error)?;
        Ok(found
            .iter()
            .filter_map(|tx| tx.in_msg.as_ref())
            .filter(|m| m.src == Some(self.proxy))
            .filter(|m| {
                matches!(
                    OwnerMessage::decode(&m.body),
                    Ok(OwnerMessage::Payout { .. })
                )
            })
            .map(|m| m.value)
            .sum())
    }
}
