//! A chain with a proxy, clients and their wallets, and the means to really take what the prover predicts.

#![allow(dead_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use cocoon_devnet::{ClockMode, Devnet, DevnetConfig, GenesisAccount};
use cocoon_exit::{Action, Outcome};
use cocoon_ton::abi::{
    self, ClientState, Envelope, Params, ProxyMessage, ProxyState, SignedOp, SignedPayload,
    StateInit, WalletState, client_init, proxy_init, wallet_init, worker_init,
};
use cocoon_ton::wallet::{InternalMessage, Outgoing, SUBWALLET, Transfer};
use cocoon_ton::{AccountState, Address, Cell, Chain, boc};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

pub const TON: u128 = 1_000_000_000;
pub const START: u32 = 1_790_000_000;
pub const CLIENT_DELAY: u32 = 300;
pub const PROXY_DELAY: u32 = 600;
/// What a client's account is opened with, and what a withdrawal leaves.
pub const CLIENT_STAKE: u128 = 20 * TON;
pub const PRICE: u128 = 1000;
/// Coins of every wallet at the beginning.
pub const PURSE: u128 = 10_000 * TON;

fn code(name: &str) -> Cell {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/build");
    let bytes = std::fs::read(dir.join(format!("Cocoon{name}.boc"))).unwrap();
    boc::decode(&bytes, boc::STATE).unwrap()
}

fn params() -> Params {
    Params {
        struct_version: abi::params::STRUCT_VERSION,
        params_version: 1,
        unique_id: 7,
        is_test: true,
        price_per_token: PRICE,
        worker_fee_per_token: 900,
        prompt_multiplier: 10_000,
        cached_multiplier: 10_000,
        completion_multiplier: 10_000,
        reasoning_multiplier: 10_000,
        proxy_delay: PROXY_DELAY,
        client_delay: CLIENT_DELAY,
        min_proxy_stake: TON,
        min_client_stake: CLIENT_STAKE,
        proxy_code: Some(code("Proxy")),
        worker_code: Some(code("Worker")),
        client_code: Some(code("Client")),
    }
}

/// Somebody with a wallet and a client contract.
pub struct Owner {
    pub key: SigningKey,
    pub wallet: StateInit,
    pub client: StateInit,
}

impl Owner {
    fn new(seed: u8, proxy: &StateInit, proxy_key: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = key.verifying_key().to_bytes();
        let operator = Address::basechain([seed; 32]);
        let wallet = wallet_init(code("Wallet"), public, operator).unwrap();
        let client = client_init(&params(), proxy.address, proxy_key, wallet.address).unwrap();
        Self {
            key,
            wallet,
            client,
        }
    }
}

/// The chain. Owner 0 is the one the tests look at; owner 1 is everybody else.
pub struct Bed {
    pub chain: Devnet,
    pub proxy_key: SigningKey,
    pub proxy: StateInit,
    pub owners: Vec<Owner>,
    _directory: TempDir,
}

impl Bed {
    /// Proxy contract with a stake, and a client contract for each owner.
    pub async fn new(proxy_stake: u128) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let proxy_key = SigningKey::from_bytes(&[3; 32]);
        let public = proxy_key.verifying_key().to_bytes();
        let [owner, root] = [[8; 32], [9; 32]].map(Address::basechain);
        let proxy = proxy_init(&params(), owner, public, root).unwrap();
        let owners: Vec<Owner> = [11, 12]
            .into_iter()
            .map(|seed| Owner::new(seed, &proxy, public))
            .collect();
        let config = DevnetConfig {
            genesis: owners
                .iter()
                .map(|owner| GenesisAccount {
                    address: owner.wallet.address,
                    balance: PURSE,
                    state_init: Some(owner.wallet.cell.clone()),
                })
                .collect(),
            clock: ClockMode::Manual(START),
            block_interval: Duration::from_millis(1),
            ..DevnetConfig::default()
        };
        let bed = Self {
            chain: Devnet::open(directory.path(), config).unwrap(),
            proxy_key,
            proxy,
            owners,
            _directory: directory,
        };
        bed.send(1, InternalMessage::deploy(&bed.proxy, TON / 2))
            .await;
        for (number, owner) in bed.owners.iter().enumerate() {
            let deployment = InternalMessage::deploy(&owner.client, TON * 8 / 10);
            bed.send(number, deployment).await;
        }
        if proxy_stake > 0 {
            bed.stake(proxy_stake).await;
        }
        bed.pass(1000).await;
        bed
    }

    /// An owner's wallet sends a message; returns when everything it caused has arrived.
    pub async fn send(&self, owner: usize, message: InternalMessage) {
        let owner = &self.owners[owner];
        let seqno = self.seqno(owner).await;
        let transfer = Transfer {
            subwallet: SUBWALLET,
            valid_until: self.chain.now() + 60,
            seqno,
            messages: vec![Outgoing::new(&message).unwrap()],
        };
        let signed = transfer.sign(&owner.key).unwrap();
        let external = signed.external(owner.wallet.address, None).unwrap();
        self.chain.send(external.to_boc()).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.seqno(owner).await == seqno || self.chain.total_coins().in_queues > 0 {
            assert!(Instant::now() < deadline, "the message does not arrive");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn seqno(&self, owner: &Owner) -> u32 {
        let account = self.account(&owner.wallet.address).await;
        WalletState::decode(&account.data.unwrap()).unwrap().seqno
    }

    /// An owner tells his client contract something.
    pub async fn act(&self, owner: usize, action: &Action) {
        let o = &self.owners[owner];
        let body = action.body(o.wallet.address, 77).unwrap();
        let message = InternalMessage::call(o.client.address, action.value(), body);
        self.send(owner, message).await;
    }

    /// Somebody raises the proxy's stake.
    pub async fn stake(&self, coins: u128) {
        let body = ProxyMessage::IncreaseStake {
            query_id: 1,
            coins,
            excess_to: self.owners[1].wallet.address,
        };
        let message =
            InternalMessage::call(self.proxy.address, coins + TON / 5, body.encode().unwrap());
        self.send(1, message).await;
    }

    /// A payout to a worker that no client is charged for: it comes out of what lies in the proxy contract.
    pub async fn pay_a_worker(&self, coins: u128) {
        let public = self.proxy_key.verifying_key().to_bytes();
        let owner = self.owners[1].wallet.address;
        let worker = worker_init(&params(), self.proxy.address, public, owner).unwrap();
        self.send(1, InternalMessage::deploy(&worker, TON / 2))
            .await;
        let payload = SignedPayload {
            op: SignedOp::WorkerPayout,
            query_id: 6,
            tokens: u64::try_from(coins / 900).unwrap(),
            target: worker.address,
        };
        let body = Envelope::sign(payload, &self.proxy_key, owner).unwrap();
        let message = InternalMessage::call(worker.address, TON, body.encode().unwrap());
        self.send(1, message).await;
    }

    /// Lets time pass.
    pub async fn pass(&self, seconds: u32) {
        let target = self.chain.now() + seconds;
        let mut heads = self.chain.subscribe();
        self.chain.advance(seconds);
        while self.chain.head().utime < target {
            heads.changed().await.unwrap();
        }
    }

    pub async fn account(&self, address: &Address) -> AccountState {
        self.chain.account(address).await.unwrap()
    }

    pub async fn client(&self, owner: usize) -> ClientState {
        let account = self.account(&self.owners[owner].client.address).await;
        ClientState::decode(&account.data.unwrap()).unwrap()
    }

    pub async fn proxy(&self) -> ProxyState {
        let account = self.account(&self.proxy.address).await;
        ProxyState::decode(&account.data.unwrap()).unwrap()
    }

    /// Coins of owner 0's wallet and client contract.
    pub async fn coins(&self) -> [u128; 2] {
        let owner = &self.owners[0];
        [
            self.account(&owner.wallet.address).await.balance,
            self.account(&owner.client.address).await.balance,
        ]
    }

    /// Really takes the steps of a way at their times, and compares everything with the prediction.
    pub async fn take(&self, outcome: &Outcome) {
        let [wallet, _] = self.coins().await;
        let deposit = self.client(0).await.balance;
        let fees = self.chain.total_coins().burned_fees;
        for step in &outcome.steps {
            let wait = step.at - self.chain.now();
            if wait > 0 {
                self.pass(wait).await;
            }
            self.act(0, &step.action).await;
        }
        let [wallet_after, contract] = self.coins().await;
        let change = wallet_after as i128 - wallet as i128;
        assert_eq!(change, outcome.owner_change, "what reached the owner");
        assert_eq!(contract, outcome.left_in_contract, "left in the contract");
        let fees = self.chain.total_coins().burned_fees - fees;
        assert_eq!(fees, outcome.fees, "fees");
        let state = self.client(0).await;
        let ledger = cocoon_exit::Ledger::from(&state);
        assert_eq!(ledger, outcome.ledger, "the ledger");
        assert_eq!(
            outcome.returned + outcome.charged + outcome.lost + state.balance,
            deposit,
            "the deposit is accounted for"
        );
    }
}
