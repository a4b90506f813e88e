//! Founding a local network by real messages: root contract, registry, wallets, proxy contract.
//!
//! Every step looks at the chain first and does only what is missing, so a start that was cut short is completed by
//! the next one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use cocoon_node::root::{RootView, model_hash};
use cocoon_node::wallet::{Outgoing, WalletHandle};
use cocoon_node::watch::read_root;
use cocoon_ton::abi::{
    self, NetAddress, Params, ProxyEndpoints, ProxyMessage, ProxyState, RootMessage, RootState,
    StateInit,
};
use cocoon_ton::amount::{NANO_PER_TON, format_ton};
use cocoon_ton::wallet::InternalMessage;
use cocoon_ton::{AccountStatus, Address, Chain, boc};

use super::progress::Progress;
use super::settings::{DEFAULT_PRICE, DEFAULT_WORKER_FEE, Settings};
use crate::contracts::Contracts;
use crate::datadir::Founding;
use crate::error::{CliError, Result};

/// Coins that the genesis gives to the faucet, in nanoTON.
pub const GENESIS_COINS: u128 = 1_000_000 * NANO_PER_TON;
/// Coins that the root contract starts with: years of storage.
const ROOT_COINS: u128 = NANO_PER_TON;
/// Attached to a message to the root; what is left comes back.
const GOVERNANCE_COINS: u128 = NANO_PER_TON / 20;
/// Attached to the deployment of the proxy contract.
const PROXY_COINS: u128 = NANO_PER_TON / 2;
/// Attached to a deposit beside its coins; what is left comes back.
const STAKE_FEES: u128 = NANO_PER_TON / 5;
/// Coins of the owners' wallets, so that they can act at once.
pub const OWNER_COINS: u128 = 10 * NANO_PER_TON;
/// A node's wallet is filled up again below this share of its first coins.
const REFILL_BELOW: u128 = 4;
/// A message takes two or three blocks of a tenth of a second.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Between looks at the chain in this process.
const LOOK: Duration = Duration::from_millis(25);

/// A wallet that gets coins on first start.
#[derive(Debug, Clone)]
pub struct Funded {
    /// For messages.
    pub name: &'static str,
    /// Its contract.
    pub init: StateInit,
    /// Its first coins in nanoTON.
    pub coins: u128,
    /// Deployed with its first coins; node wallets deploy themselves.
    pub deploy: bool,
}

/// The faucet at work.
pub struct Founder {
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// Wallet with the genesis coins.
    pub faucet: WalletHandle,
    /// What the person sees.
    pub progress: Progress,
}

/// What the registry must hold.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Full name of the model.
    pub model_full_name: String,
    /// Image that the worker shows.
    pub worker_image: [u8; 32],
    /// Image that the proxy shows.
    pub proxy_image: [u8; 32],
    /// Where the proxy listens for workers.
    pub worker_rpc_port: u16,
    /// Where the proxy listens for clients.
    pub client_rpc_port: u16,
}

/// The StateInit of a new network's root contract.
pub fn new_root(
    contracts: &Contracts,
    settings: &Settings,
    owner: Address,
    unique_id: u32,
) -> Result<StateInit> {
    let price = settings.price.unwrap_or(DEFAULT_PRICE);
    // A lower price without a fee beside it must not ask for more than it brings in.
    let fee = settings.worker_fee.unwrap_or(DEFAULT_WORKER_FEE.min(price));
    if fee > price {
        return Err(
            CliError::usage("a worker cannot get more than the client pays")
                .expected(format!("a worker fee of at most {price}, the price"))
                .found(fee.to_string())
                .hint("give --price and --worker-fee together"),
        );
    }
    let params = Params {
        struct_version: abi::params::STRUCT_VERSION,
        params_version: 0,
        unique_id,
        is_test: true,
        price_per_token: price.into(),
        worker_fee_per_token: fee.into(),
        prompt_multiplier: abi::params::MULTIPLIER_ONE,
        cached_multiplier: abi::params::MULTIPLIER_ONE,
        completion_multiplier: abi::params::MULTIPLIER_ONE,
        reasoning_multiplier: abi::params::MULTIPLIER_ONE,
        proxy_delay: 600,
        client_delay: 300,
        min_proxy_stake: NANO_PER_TON,
        min_client_stake: 20 * NANO_PER_TON,
        proxy_code: Some(contracts.proxy.clone()),
        worker_code: Some(contracts.worker.clone()),
        client_code: Some(contracts.client.clone()),
    };
    let state = RootState {
        owner,
        version: 0,
        proxy_hashes: Default::default(),
        proxies: BTreeMap::new(),
        unreadable_proxies: Default::default(),
        last_proxy_seqno: 0,
        worker_hashes: Default::default(),
        model_hashes: Default::default(),
        params,
        keys: None,
    };
    abi::root_init(contracts.root.clone(), &state).map_err(|e| abi_error("the root contract", &e))
}

/// Reads the StateInit back from `data.json`.
pub fn saved_root(founding: &Founding) -> Result<StateInit> {
    let damaged = |found: String| {
        CliError::new("the root contract in data.json is damaged; nothing was changed")
            .expected(format!("the StateInit of {}", founding.root))
            .found(found)
            .hint("restore data.json from a copy")
    };
    let bytes = hex::decode(&founding.root_init).map_err(|e| damaged(e.to_string()))?;
    let cell = boc::decode(&bytes, boc::STATE).map_err(|e| damaged(e.to_string()))?;
    let init = StateInit::decode(&cell).map_err(|e| damaged(e.to_string()))?;
    if init.address == founding.root {
        Ok(init)
    } else {
        Err(damaged(format!("that of {}", init.address)))
    }
}

fn abi_error(what: &str, error: &abi::AbiError) -> CliError {
    CliError::new(format!("cannot build {what}")).found(error.to_string())
}

fn chain_error(error: &dyn std::fmt::Display) -> CliError {
    CliError::new("the chain does not answer")
        .found(error.to_string())
        .hint("look into logs/cocoon.log in the data directory")
}

impl Founder {
    /// Deploys the root contract if it is not there.
    pub async fn root(&self, init: &StateInit) -> Result<RootView> {
        if !self.is_active(&init.address).await? {
            self.progress.step("deploying the root contract");
            self.send(vec![InternalMessage::deploy(init, ROOT_COINS).into()])
                .await?;
            self.until("the root contract is deployed", async || {
                self.is_active(&init.address).await
            })
            .await?;
        }
        self.read_root(init.address).await
    }

    /// Brings model, images and the proxy's address into the registry.
    pub async fn register(&self, root: Address, wanted: &Registry) -> Result<RootView> {
        let endpoints = ProxyEndpoints {
            for_workers: SocketAddrV4::new(Ipv4Addr::LOCALHOST, wanted.worker_rpc_port),
            for_clients: SocketAddrV4::new(Ipv4Addr::LOCALHOST, wanted.client_rpc_port),
        };
        let missing = self.missing(root, wanted, &endpoints).await?;
        if !missing.is_empty() {
            self.progress
                .step("writing model, images and the proxy's address into the root contract");
            let mut messages = Vec::new();
            for message in missing {
                let body = message
                    .encode()
                    .map_err(|e| abi_error("a message to the root contract", &e))?;
                messages.push(InternalMessage::call(root, GOVERNANCE_COINS, body).into());
            }
            self.send(messages).await?;
            self.until("the root contract has changed", async || {
                Ok(self.missing(root, wanted, &endpoints).await?.is_empty())
            })
            .await?;
        }
        self.read_root(root).await
    }

    async fn missing(
        &self,
        root: Address,
        wanted: &Registry,
        at: &ProxyEndpoints,
    ) -> Result<Vec<RootMessage>> {
        let view = self.read_root(root).await?;
        let mut messages = Vec::new();
        let model = model_hash(&wanted.model_full_name);
        let mut next_id = u64::from(view.version) << 8;
        let mut query_id = || {
            next_id += 1;
            next_id
        };
        if !view.model_hashes.contains(&model) {
            messages.push(RootMessage::AddModelHash {
                query_id: query_id(),
                hash: model,
            });
        }
        if !view.worker_hashes.contains(&wanted.worker_image) {
            messages.push(RootMessage::AddWorkerHash {
                query_id: query_id(),
                hash: wanted.worker_image,
            });
        }
        if !view.proxy_hashes.contains(&wanted.proxy_image) {
            messages.push(RootMessage::AddProxyHash {
                query_id: query_id(),
                hash: wanted.proxy_image,
            });
        }
        let address = NetAddress::from_endpoints(at);
        match view.proxies.first() {
            None => messages.push(RootMessage::RegisterProxy {
                query_id: query_id(),
                address,
            }),
            Some(entry) if entry.workers != at.for_workers || entry.clients != at.for_clients => {
                messages.push(RootMessage::UpdateProxy {
                    query_id: query_id(),
                    seqno: entry.seqno,
                    address,
                });
            }
            Some(_) => {}
        }
        Ok(messages)
    }

    /// Gives wallets their first coins, and fills up those of nodes that have run dry.
    pub async fn fund(&self, wallets: &[Funded]) -> Result<()> {
        let mut messages = Vec::new();
        let mut expected = Vec::new();
        for wallet in wallets {
            let account = self.account(&wallet.init.address).await?;
            let fresh = account.last_lt == 0;
            let dry = !wallet.deploy && account.balance < wallet.coins / REFILL_BELOW;
            if !fresh && !dry {
                continue;
            }
            let coins = wallet.coins.saturating_sub(account.balance);
            if !fresh {
                self.progress.note(format!(
                    "the {} wallet was down to {}: the faucet fills it up",
                    wallet.name,
                    format_ton(account.balance)
                ));
            }
            messages.push(Outgoing {
                to: wallet.init.address,
                value: coins,
                bounce: false,
                init: (wallet.deploy && fresh).then(|| wallet.init.cell.clone()),
                body: None,
            });
            expected.push((wallet.init.address, account.last_lt));
        }
        if messages.is_empty() {
            return Ok(());
        }
        self.progress.step("giving the wallets their coins");
        self.send(messages).await?;
        self.until("the wallets have their coins", async || {
            for (address, before) in &expected {
                if self.account(address).await?.last_lt == *before {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    /// Deploys the proxy contract if it is not there, and raises its stake to `wanted` nanoTON.
    pub async fn proxy(
        &self,
        root: &RootView,
        owner: Address,
        key: [u8; 32],
        wanted: u128,
    ) -> Result<StateInit> {
        let init = root
            .proxy_contract(owner, key)
            .map_err(|e| abi_error("the proxy contract", &e))?;
        if !self.is_active(&init.address).await? {
            self.progress.step("deploying the proxy contract");
            self.send(vec![InternalMessage::deploy(&init, PROXY_COINS).into()])
                .await?;
            self.until("the proxy contract is deployed", async || {
                self.is_active(&init.address).await
            })
            .await?;
        }
        let stake = self.proxy_stake(&init.address).await?;
        // None: the contract is closing, and the proxy itself says what that means.
        if let Some(stake) = stake
            && stake < wanted
        {
            let coins = wanted - stake;
            let body = ProxyMessage::IncreaseStake {
                query_id: 1,
                coins,
                excess_to: self.faucet.address(),
            }
            .encode()
            .map_err(|e| abi_error("a message to the proxy contract", &e))?;
            self.send(vec![
                InternalMessage::call(init.address, coins + STAKE_FEES, body).into(),
            ])
            .await?;
            self.until("the proxy contract has its stake", async || {
                Ok(self.proxy_stake(&init.address).await? != Some(stake))
            })
            .await?;
        }
        Ok(init)
    }

    async fn proxy_stake(&self, address: &Address) -> Result<Option<u128>> {
        let account = self.account(address).await?;
        let state = account.data.as_ref().map(ProxyState::decode).transpose();
        let state = state.map_err(|e| abi_error("a picture of the proxy contract", &e))?;
        Ok(state
            .filter(|s| s.status == abi::ContractStatus::Normal)
            .map(|s| s.stake))
    }

    /// Sends messages from the faucet and waits until its transactions carried all of them.
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        let mut pending = tokio::task::JoinSet::new();
        for message in messages {
            let faucet = self.faucet.clone();
            pending.spawn(async move { faucet.send(message).await });
        }
        let all = async {
            while let Some(result) = pending.join_next().await {
                let sent = result
                    .map_err(|e| CliError::new("the faucet's task ended").found(e.to_string()))?;
                sent.map_err(|e| {
                    CliError::new("the faucet could not send a message")
                        .found(e.to_string())
                        .hint("start again: what is missing is done then")
                })?;
            }
            Ok(())
        };
        tokio::time::timeout(STEP_TIMEOUT, all).await.map_err(|_| {
            CliError::new("the faucet's messages did not go out")
                .expected(format!("a block within {} s", STEP_TIMEOUT.as_secs()))
                .found(format!("wallet {}", self.faucet.status().condition))
                .hint("start again: what is missing is done then")
        })?
    }

    async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let wait = async {
            while !done().await? {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        tokio::time::timeout(STEP_TIMEOUT, wait).await.map_err(|_| {
            CliError::new("founding the network does not get on")
                .expected(format!("that {what} within {} s", STEP_TIMEOUT.as_secs()))
                .found("no such change on the chain")
                .hint("'cocoon account ADDRESS' shows an account; logs are in logs/ in the data directory")
        })?
    }

    async fn account(&self, address: &Address) -> Result<cocoon_ton::AccountState> {
        self.chain
            .account(address)
            .await
            .map_err(|e| chain_error(&e))
    }

    async fn is_active(&self, address: &Address) -> Result<bool> {
        Ok(self.account(address).await?.status == AccountStatus::Active)
    }

    async fn read_root(&self, address: Address) -> Result<RootView> {
        read_root(self.chain.as_ref(), &address)
            .await
            .map_err(|e| chain_error(&e))
    }
}

/// Prices are frozen into the contracts of a network; other ones need another network.
pub fn check_prices(settings: &Settings, root: &RootView) -> Result<()> {
    let asked = [
        ("--price", settings.price, root.params.price_per_token),
        (
            "--worker-fee",
            settings.worker_fee,
            root.params.worker_fee_per_token,
        ),
    ];
    for (flag, asked, found) in asked {
        if let Some(asked) = asked
            && u128::from(asked) != found
        {
            return Err(CliError::usage(format!(
                "{flag} does not fit the network in this data directory"
            ))
            .expected(format!("{found} nanoTON a token, as it was founded"))
            .found(format!("{flag} {asked}"))
            .hint(format!(
                "leave {flag} out, or found another network with --data-dir DIR"
            )));
        }
    }
    Ok(())
}
