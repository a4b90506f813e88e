//! Everything an operator sees of one node: `/jsonstats` and `/metrics` put together from the role, its wallet, the
//! chain, and what it earned or spent.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cocoon_node::Settlement;
use cocoon_node::metrics::Page;
use cocoon_node::wallet::{Condition, WalletHandle};
use serde_json::{Value, json};

use super::chain_look::{ChainLook, unix_now};
use super::flow::FlowFile;
use super::life::Node;

/// Between looks at the totals for the books by the hour.
const FLOW_EVERY: Duration = Duration::from_secs(60);

/// What is known of a node besides its own figures.
pub struct Facts {
    /// Its role.
    pub role: &'static str,
    /// Members of `localconf` or `localconfig`.
    pub local: Value,
    /// Address of its wallet, as text.
    pub wallet_address: String,
    /// Hash of its own image, if known.
    pub image_hash: Option<[u8; 32]>,
}

/// See the module.
pub struct Observer {
    facts: Facts,
    node: OnceLock<Node>,
    wallet: Option<WalletHandle>,
    chain: Option<ChainLook>,
    flow: Mutex<FlowFile>,
    started_at: u64,
    keeper: OnceLock<tokio::task::JoinHandle<()>>,
}

impl Observer {
    /// An observer of a node that is still to be attached.
    pub fn new(
        facts: Facts,
        settlement: &Settlement,
        wallet: Option<WalletHandle>,
        dir: &Path,
    ) -> Arc<Self> {
        Arc::new(Observer {
            node: OnceLock::new(),
            wallet,
            chain: settlement.chain().cloned().map(ChainLook::new),
            flow: Mutex::new(FlowFile::open(dir, facts.role)),
            started_at: unix_now(),
            keeper: OnceLock::new(),
            facts,
        })
    }

    /// Its role.
    pub fn role(&self) -> &'static str {
        self.facts.role
    }

    /// The node, once it runs.
    pub fn node(&self) -> Option<&Node> {
        self.node.get()
    }

    /// Attaches the node and begins to keep the books by the hour.
    pub fn attach(self: &Arc<Self>, node: Node) {
        let _ = self.node.set(node);
        let observer = Arc::downgrade(self);
        let keeper = tokio::spawn(async move {
            while let Some(observer) = observer.upgrade() {
                let _ = observer.stats().await;
                drop(observer);
                tokio::time::sleep(FLOW_EVERY).await;
            }
        });
        let _ = self.keeper.set(keeper);
    }

    /// `/jsonstats`: the reference's members (protocol.md 8.5) and ours. No secrets, no prompts.
    pub async fn stats(&self) -> Value {
        let mut stats = match self.node.get() {
            Some(node) => node.stats().await,
            None => json!({"role": self.facts.role, "starting": true}),
        };
        let now = unix_now();
        let mut local = self.facts.local.clone();
        if self.facts.role == "worker" {
            local["model"] = stats["model"].clone();
            local["coefficient"] = stats["coefficient"].clone();
        }
        let name = if self.facts.role == "client" {
            "localconf"
        } else {
            "localconfig"
        };
        stats[name] = local;
        let wallet = self.wallet.as_ref().map(WalletHandle::status);
        let balance = wallet.as_ref().map_or(0, |w| w.balance).to_string();
        stats["wallet"] = json!({
            "address": self.facts.wallet_address,
            "balance": balance,
            "seqno": wallet.as_ref().map_or(0, |w| w.seqno),
            "pending_transactions_cnt": wallet.as_ref().map_or(0, |w| w.queued),
            "active_transactions_cnt": wallet.as_ref().map_or(0, |w| w.in_flight),
            "condition": wallet.as_ref().map_or_else(|| "there is no chain".to_owned(), |w| w.condition.to_string()),
            "ready": wallet.as_ref().is_none_or(|w| w.condition == Condition::Ready),
            "low": wallet.as_ref().is_some_and(|w| w.is_low()),
        });
        let seen = self.chain.as_ref().map(ChainLook::seen);
        let status = &mut stats["status"];
        status["wallet_balance"] = json!(balance);
        status["ton_last_synced_at"] = json!(seen.as_ref().map_or(0, |s| s.utime));
        status["git_commit"] = json!(option_env!("COCOON_GIT_COMMIT").unwrap_or("unknown"));
        status["git_commit_data"] = json!(option_env!("COCOON_GIT_DATE").unwrap_or("unknown"));
        status["version"] = json!(env!("CARGO_PKG_VERSION"));
        status["started_at"] = json!(self.started_at);
        if self.facts.role != "client" {
            status["actual_image_hash"] = json!(self.facts.image_hash.map(hex::encode_upper));
        }
        stats["chain"] = seen.map_or(Value::Null, |s| s.json(now));
        stats[self.flow_name()] = self.flow(now, &stats["flow"]);
        stats
    }

    fn flow_name(&self) -> &'static str {
        if self.facts.role == "client" {
            "spending"
        } else {
            "earnings"
        }
    }

    fn flow(&self, now: u64, figures: &Value) -> Value {
        let mut file = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = file.take(now, figures) {
            tracing::warn!("the books by the hour were not written: {e}");
        }
        file.flow.json(now)
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> String {
        let mut page = match self.node.get() {
            Some(node) => node.page().await,
            None => Page::new(self.facts.role),
        };
        super::process::expose(&mut page);
        if let Some(wallet) = &self.wallet {
            let status = wallet.status();
            page.gauge(
                "cocoon_wallet_balance_nanotons",
                "NanoTON in the node's wallet, as last read.",
                &[],
                status.balance,
            );
            page.gauge(
                "cocoon_wallet_ready",
                "1 if the wallet can send.",
                &[],
                status.condition == Condition::Ready,
            );
            for (state, count) in [("queued", status.queued), ("in_flight", status.in_flight)] {
                page.gauge(
                    "cocoon_wallet_messages",
                    "Messages of the wallet that wait or are under way.",
                    &[("state", state)],
                    count,
                );
            }
        }
        if let Some(chain) = &self.chain {
            let seen = chain.seen();
            page.gauge(
                "cocoon_chain_block",
                "Number of the newest block that was seen.",
                &[],
                seen.seqno,
            );
            page.gauge(
                "cocoon_chain_reachable",
                "1 if the chain answered the last look.",
                &[],
                seen.utime != 0 && seen.trouble.is_none(),
            );
            if let Some(lag) = seen.lag_s(unix_now()) {
                page.gauge(
                    "cocoon_chain_lag_seconds",
                    "Seconds that the newest block is behind this machine's clock.",
                    &[],
                    lag as f64,
                );
            }
        }
        let last_day = {
            let file = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
            file.flow.last_day(unix_now())
        };
        let (name, help) = if self.facts.role == "client" {
            (
                "cocoon_spent_last_day_nanotons",
                "NanoTON spent in the last 24 hours.",
            )
        } else {
            (
                "cocoon_earned_last_day_nanotons",
                "NanoTON earned in the last 24 hours.",
            )
        };
        page.gauge(name, help, &[], last_day);
        page.text()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}
