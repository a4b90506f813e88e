//! The proxy's own contract: deployed and given its stake by the node's wallet, where nobody has done it before
//! (contracts.md 12 and 14.2).

use std::time::Duration;

use cocoon_node::root::RootView;
use cocoon_node::wallet::WalletHandle;
use cocoon_ton::abi::{self, ProxyMessage, ProxyState};
use cocoon_ton::amount::{NANO_PER_TON, format_ton};
use cocoon_ton::wallet::InternalMessage;
use cocoon_ton::{AccountStatus, Address, Chain};

use crate::error::{CliError, Result};

/// Coins of the deployment (contracts.md 12).
const DEPLOY_COINS: u128 = NANO_PER_TON * 3 / 10;
/// Coins for the fees of raising the stake; what is left comes back.
const STAKE_FEES: u128 = NANO_PER_TON / 2;
/// A message goes through a wallet and two blocks; minutes mean that something is wrong.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Between looks at the contract.
const LOOK: Duration = Duration::from_millis(500);

/// What is to be deployed, and from where.
pub struct Deployment<'a> {
    /// The chain.
    pub chain: &'a dyn Chain,
    /// Pays.
    pub wallet: &'a WalletHandle,
    /// Params of the contract.
    pub root: &'a RootView,
    /// Its owner.
    pub owner: Address,
    /// The key that signs payments.
    pub key: [u8; 32],
    /// NanoTON of stake, if not the usual.
    pub stake: Option<u128>,
}

pub use cocoon_node::proxy::default_stake;

impl Deployment<'_> {
    /// Deploys the contract if it is not there, and raises its stake to what is wanted. Does nothing twice.
    pub async fn run(&self) -> Result<()> {
        let init = self
            .root
            .proxy_contract(self.owner, self.key)
            .map_err(|e| abi_error(&e))?;
        let contract = init.address;
        if self.state(&contract).await?.is_none() {
            eprintln!("deploying the proxy contract {contract}");
            self.send(InternalMessage::deploy(&init, DEPLOY_COINS))
                .await?;
            self.until("the proxy contract is deployed", async || {
                Ok(self.state(&contract).await?.is_some())
            })
            .await?;
        }
        let wanted = self.stake.unwrap_or_else(|| default_stake(self.root));
        let Some(state) = self.state(&contract).await? else {
            return Ok(());
        };
        // A contract that is closing takes no stake; the proxy itself says what that means.
        if state.status != abi::ContractStatus::Normal || state.stake >= wanted {
            return Ok(());
        }
        let coins = wanted - state.stake;
        eprintln!(
            "raising the stake of the proxy contract from {} to {} (the wallet has {})",
            format_ton(state.stake),
            format_ton(wanted),
            format_ton(self.wallet.status().balance),
        );
        let body = ProxyMessage::IncreaseStake {
            query_id: rand::random(),
            coins,
            excess_to: self.wallet.address(),
        };
        let body = body.encode().map_err(|e| abi_error(&e))?;
        self.send(InternalMessage::call(contract, coins + STAKE_FEES, body))
            .await?;
        self.until("the proxy contract has its stake", async || {
            Ok(self
                .state(&contract)
                .await?
                .is_some_and(|s| s.stake >= wanted))
        })
        .await
    }

    async fn state(&self, contract: &Address) -> Result<Option<ProxyState>> {
        let account = self
            .chain
            .account(contract)
            .await
            .map_err(|e| CliError::new("the chain does not answer").found(e.to_string()))?;
        if account.status != AccountStatus::Active {
            return Ok(None);
        }
        account
            .data
            .as_ref()
            .map(ProxyState::decode)
            .transpose()
            .map_err(|e| abi_error(&e))
    }

    async fn send(&self, message: InternalMessage) -> Result<()> {
        let sending = self.wallet.send(message.into());
        match tokio::time::timeout(TIMEOUT, sending).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(
                CliError::new("a message to the proxy contract was not sent").found(e.to_string()),
            ),
            Err(_) => Err(late("the wallet sends the message")
                .hint(format!("its state: {}", self.wallet.status().condition))),
        }
    }

    async fn until(&self, what: &str, check: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let wait = async {
            while !check().await? {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        tokio::time::timeout(TIMEOUT, wait)
            .await
            .unwrap_or_else(|_| Err(late(what)))
    }
}

fn late(what: &str) -> CliError {
    CliError::new("the proxy contract is not ready in time; what was sent may still arrive")
        .expected(format!("{what} within {} s", TIMEOUT.as_secs()))
        .hint("start again: what is done already is not done twice")
}

fn abi_error(error: &abi::AbiError) -> CliError {
    CliError::new("cannot understand or build the proxy contract").found(error.to_string())
}
