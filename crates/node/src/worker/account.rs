//! What a worker keeps of one proxy: identity, claims, the newest payment, and where its contract stands.

use cocoon_ledger::{AdjustedTokens, Claims, NanoTon};
use cocoon_ton::abi::{SignedOp, StateInit};
use cocoon_ton::{Address, Cell, boc};
use serde::{Deserialize, Serialize};

use crate::payment;
use crate::root::RootView;

/// As on disk, under `account_` and the worker contract's address. Everything that is owed hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountRecord {
    /// Owner that the contract pays, raw form.
    pub owner: String,
    /// The proxy's contract, raw form.
    pub proxy: String,
    /// Key that signs the proxy's payments, hex.
    pub proxy_key: String,
    /// Parameters the contract was made from.
    pub params_version: u32,
    /// Pay per token in nanoTON, frozen in the contract.
    pub fee: u128,
    /// Seconds a client has before its contract closes, frozen in the contract.
    pub client_delay: u32,
    /// What the proxy said of the earnings.
    pub claims: Claims,
    /// BOC of the newest signed payment, hex.
    pub payment: Option<String>,
    /// When newer parameters were first seen, Unix milliseconds.
    pub outdated_since_ms: Option<u64>,
}

/// A message to the contract that is under way: no second one is sent meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// Ticket of the wallet message.
    pub ticket: u64,
    /// Tokens the contract will show if it pays; zero for a deployment.
    pub expected: AdjustedTokens,
    /// When to give up waiting for the chain, once the wallet has sent it.
    pub until_ms: Option<u64>,
}

/// A proxy in memory.
pub(super) struct ProxyAccount {
    pub owner: Address,
    pub proxy: Address,
    pub proxy_key: [u8; 32],
    pub params_version: u32,
    pub fee: NanoTon,
    pub client_delay: u32,
    pub claims: Claims,
    /// Newest signed payment: tokens and BOC.
    pub payment: Option<Payment>,
    /// The same as far as it is on disk: only this is presented on chain.
    pub durable: Option<Payment>,
    pub outdated_since_ms: Option<u64>,
    /// StateInit for the deployment.
    pub init: Cell,
    /// Known to the store, and watched.
    pub kept: bool,
    /// What the chain showed last; `None` until it was read in this process.
    pub chain: Option<OnChain>,
    /// Logical time of the contract's transaction that `chain` was read after.
    pub chain_lt: u64,
    /// The contract's own coins, nanoTON.
    pub coins: u128,
    pub pending: Option<Pending>,
    /// Messages in a row without an effect, for the back-off.
    pub failures: u32,
    pub not_before_ms: u64,
    pub next_review_ms: u64,
    pub running: u32,
    pub last_active_ms: u64,
    /// The closed contract was asked for its own coins; asked once in a process.
    pub swept: bool,
}

/// The worker contract as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnChain {
    /// Not deployed.
    Missing,
    /// Put to sleep for storage debt, or something unknown lives there.
    Unusable,
    /// Working.
    Open { paid: AdjustedTokens },
    /// At its end.
    Closed,
}

/// A signed payment: the total it proves, and its BOC.
pub(super) type Payment = (AdjustedTokens, Vec<u8>);

/// Store keys.
pub(super) const ACCOUNT: &str = "account_";
/// The StateInit is written once beside the record, which is written after every request.
pub(super) const INIT: &str = "init_";

impl ProxyAccount {
    /// A proxy met for the first time.
    pub fn new(
        root: &RootView,
        owner: Address,
        proxy: Address,
        proxy_key: [u8; 32],
        init: &StateInit,
        now: u64,
    ) -> Self {
        ProxyAccount {
            owner,
            proxy,
            proxy_key,
            params_version: root.params.params_version,
            fee: root.worker_fee(),
            client_delay: root.params.client_delay,
            claims: Claims::default(),
            payment: None,
            durable: None,
            outdated_since_ms: None,
            init: init.cell.clone(),
            kept: false,
            chain: None,
            chain_lt: 0,
            coins: 0,
            pending: None,
            failures: 0,
            not_before_ms: 0,
            next_review_ms: 0,
            running: 0,
            last_active_ms: now,
            swept: false,
        }
    }

    /// A proxy from the store. `None` if the parts do not fit together.
    pub fn restored(contract: Address, record: &[u8], init: &[u8], now: u64) -> Option<Self> {
        let r: AccountRecord = serde_json::from_slice(record).ok()?;
        let init = StateInit::decode(&boc::decode(init, boc::STATE).ok()?).ok()?;
        let proxy_key = payment::parse_hash(&r.proxy_key)?;
        let payment = match &r.payment {
            Some(text) => {
                let boc = hex::decode(text).ok()?;
                let tokens =
                    payment::check(&boc, SignedOp::WorkerPayout, contract, &proxy_key).ok()?;
                Some((AdjustedTokens(tokens), boc))
            }
            None => None,
        };
        (init.address == contract).then_some(())?;
        Some(ProxyAccount {
            owner: Address::parse(&r.owner).ok()?.address,
            proxy: Address::parse(&r.proxy).ok()?.address,
            proxy_key,
            params_version: r.params_version,
            fee: NanoTon(r.fee),
            client_delay: r.client_delay,
            claims: r.claims,
            durable: payment.clone(),
            payment,
            outdated_since_ms: r.outdated_since_ms,
            init: init.cell,
            kept: true,
            chain: None,
            chain_lt: 0,
            coins: 0,
            pending: None,
            failures: 0,
            not_before_ms: 0,
            next_review_ms: 0,
            running: 0,
            last_active_ms: now,
            swept: false,
        })
    }

    /// The form for the store.
    pub fn record(&self) -> Vec<u8> {
        let record = AccountRecord {
            owner: self.owner.to_string(),
            proxy: self.proxy.to_string(),
            proxy_key: hex::encode(self.proxy_key),
            params_version: self.params_version,
            fee: self.fee.0,
            client_delay: self.client_delay,
            claims: self.claims,
            payment: self.payment.as_ref().map(|(_, boc)| hex::encode(boc)),
            outdated_since_ms: self.outdated_since_ms,
        };
        // A plain struct of numbers and strings: serialising it cannot fail.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// Checks a payment of this proxy for `contract`, our contract with it; returns the total it proves.
    pub fn check(&self, contract: Address, boc: &[u8]) -> Result<AdjustedTokens, String> {
        // Proxies repeat the same payment with every request until the next state commit.
        if let Some((tokens, held)) = &self.payment
            && held == boc
        {
            return Ok(*tokens);
        }
        payment::check(boc, SignedOp::WorkerPayout, contract, &self.proxy_key)
            .map(AdjustedTokens)
            .map_err(|e| e.to_string())
    }

    /// Keeps a checked payment if it proves more than the one held. True if so.
    pub fn keep(&mut self, tokens: AdjustedTokens, boc: &[u8]) -> bool {
        let better = self.payment.as_ref().is_none_or(|(held, _)| tokens > *held);
        if better {
            self.payment = Some((tokens, boc.to_vec()));
        }
        better
    }
}
