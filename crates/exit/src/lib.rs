//! The exit prover: what every way out of a client's deposit yields, found by taking it on a copy of the chain.
//!
//! [`prove`] reads the client contract, its proxy contract and the owner's wallet from any [`Chain`], and runs each
//! way out with the code found there (contracts.md 8.4 and 7.3): what arrives, what it costs, how long it takes, what
//! is lost. [`judge`] does the same for a deposit or stake that is only planned, with the worst case: the proxy dead
//! for ever. Nothing is sent.
//!
//! # What the worst case takes for granted
//!
//! A forced refund is paid out of the proxy's stake, which all clients of the proxy share, and which the contract has
//! no list of claims on. So everything in the proxy contract that is neither its stake, nor its revenue, nor this
//! client's deposit counts as somebody else's deposit, and as forced out before this client's turn. That is an upper
//! bound on the others' claims as long as the contract is solvent; payouts to workers that no client was charged for
//! yet (W6) make it too low by as much, and are at most what the proxy lets its clients use unpaid.
//!
//! The proxy's key is assumed to be silent, not hostile: a proxy that completes its closing takes the whole account
//! (W7). [`Report::notes`] says so where its delay leaves no time to leave first.
//!
//! # Fees
//!
//! Fees follow the price list of the TON main network that this program carries ([`ChainConfig`]); amounts do not
//! depend on it. Storage is taken as paid up to an account's last transaction.

mod action;
mod judge;
mod picture;
mod stage;
mod taking;
mod ways;

use std::sync::Arc;

use cocoon_devnet::config::{ChainConfig, ConfigOptions};
use cocoon_devnet::emulate::EmulateError;
use cocoon_ton::abi::{AbiError, Envelope};
use cocoon_ton::{Address, Chain, ChainError};

pub use action::{ATTACHED, Action, SWEEP};
pub use judge::{Plan, Verdict};
pub use picture::{Ledger, Picture, ProxyFacts, SILENT_AFTER_S};
pub use stage::{Blocked, Role, Step, Trace, meaning};
pub use ways::{Outcome, Report, Way, WayOut};

/// Stack of the emulation: foreign contracts may hold deep trees of cells, which are released recursively.
const STACK_BYTES: usize = 64 << 20;

/// Why nothing can be said about the ways out.
#[derive(Debug, thiserror::Error)]
pub enum ExitError {
    /// The chain does not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// There is no client contract.
    #[error("there is no client contract at {0}: nothing was ever deposited there")]
    NoClient(Address),
    /// An account is not what it should be.
    #[error("the {role} {address} cannot be emulated: {reason}")]
    Account {
        /// Client contract, proxy contract or owner wallet.
        role: &'static str,
        /// Where.
        address: Address,
        /// What is wrong with it.
        reason: String,
    },
    /// The accounts change faster than they can be read.
    #[error("the accounts changed while they were read, {0} times in a row; try again")]
    Restless(usize),
    /// A message cannot be built.
    #[error("a message cannot be built: {0}")]
    Message(#[from] AbiError),
    /// The copy of the chain failed.
    #[error("the emulation failed: {0}")]
    Emulate(#[from] EmulateError),
    /// The blockchain config cannot be built.
    #[error("the blockchain config cannot be built: {0}")]
    Config(String),
    /// The thread of the emulation ended without a result.
    #[error("the emulation ended without a result")]
    Thread,
}

/// What the caller knows beside the chain.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// A refund that the proxy has granted.
    pub grant: Option<Envelope>,
    /// Highest total of tokens that the proxy may charge for, if known.
    pub used_total: Option<u64>,
}

/// Emulates every way out of the deposit in a client contract.
pub async fn prove(chain: &dyn Chain, client: &Address, known: Known) -> Result<Report, ExitError> {
    let (picture, config) = look(chain, client).await?;
    emulate(move || ways::report(&picture, &config, &known)).await
}

/// Emulates a planned deposit or stake, and then the worst way out of what is there afterwards.
pub async fn judge(chain: &dyn Chain, client: &Address, plan: Plan) -> Result<Verdict, ExitError> {
    let (picture, config) = look(chain, client).await?;
    emulate(move || judge::judge(&picture, &config, plan)).await
}

async fn look(
    chain: &dyn Chain,
    client: &Address,
) -> Result<(Picture, Arc<ChainConfig>), ExitError> {
    let picture = Picture::read(chain, client).await?;
    let global_id = chain.network().await?.global_id;
    // Key and time of the genesis stand in the config, but no fee depends on them.
    let config = ChainConfig::new(&ConfigOptions::new(global_id, [0; 32], 0))
        .map_err(|e| ExitError::Config(e.to_string()))?;
    Ok((picture, Arc::new(config)))
}

async fn emulate<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExitError> + Send + 'static,
) -> Result<T, ExitError> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("exit-prover".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // The caller may have left.
            let _ = done.send(work());
        })
        .map_err(|_| ExitError::Thread)?;
    result.await.map_err(|_| ExitError::Thread)?
}
