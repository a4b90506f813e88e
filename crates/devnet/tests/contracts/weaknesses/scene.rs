//! A proxy with one client and one worker, and what their owners and a relayer do.

use cocoon_devnet::config::Prices;
use cocoon_ton::abi::{
    ClientMessage, ClientState, ProxyMessage, ProxyState, SignedOp, StateInit, WorkerState,
};
use cocoon_ton::{Address, Cell, CellBuilder};

use crate::codes::Codes;
use crate::net::{Net, Terms, person};
use crate::world::{Send, TON, Tx, World};

/// What nodes attach to most messages; the relayers of section 15 too.
pub const FIFTH: u128 = TON / 5;
/// Left in a contract that was emptied.
pub const STORAGE: u128 = TON / 100;
/// Ours: a closed contract's coins go to its owner.
pub const SWEEP: u32 = 0x4d7a_36c8;

/// Prices at which 10 million tokens are 250 million nanoTON for the client and 200 million for the worker.
pub const TERMS: Terms = Terms {
    price: 25,
    fee: 20,
    proxy_delay: 86_400,
    client_delay: 3_600,
    min_proxy_stake: TON,
    min_client_stake: TON,
};
/// Tokens worth 5 TON to the worker, 6.25 TON to the client.
pub const FIVE_TON_OF_TOKENS: u64 = 250_000_000;

pub struct Scene {
    pub world: World,
    pub net: Net,
    pub client: StateInit,
    pub worker: StateInit,
    pub client_owner: Address,
    pub worker_owner: Address,
    pub relayer: Address,
    query_id: u64,
}

impl Scene {
    /// Everything deployed, the proxy contract with some coins of its own and nothing staked.
    pub fn new(codes: &Codes, terms: Terms, proxy_coins: u128) -> Self {
        let mut scene = Self::without_proxy(codes, terms);
        scene.world.install(&scene.net.proxy, proxy_coins);
        scene
    }

    /// Client and worker of a proxy that does not exist.
    pub fn without_proxy(codes: &Codes, terms: Terms) -> Self {
        // The prices at which the figures of section 15 were measured.
        let world = World::with_prices(Prices::mainnet_before_2026());
        let net = Net::new(codes, terms);
        let (client_owner, worker_owner, relayer) = (person(1), person(2), person(3));
        let mut scene = Self {
            client: net.client(client_owner),
            worker: net.worker(worker_owner),
            world,
            net,
            client_owner,
            worker_owner,
            relayer,
            query_id: 0,
        };
        scene
            .world
            .deploy(client_owner, &scene.client, TON * 8 / 10);
        scene
            .world
            .deploy(worker_owner, &scene.worker, TON * 3 / 10);
        scene
    }

    pub fn query_id(&mut self) -> u64 {
        self.query_id += 1;
        self.query_id
    }

    /// Sends a body and runs everything; returns all transactions.
    pub fn send(&mut self, from: Address, to: Address, value: u128, body: Cell) -> Vec<Tx> {
        self.world.send(Send::new(from, to, value, body)).to_vec()
    }

    fn call_client(&mut self, from: Address, value: u128, message: ClientMessage) -> Option<i32> {
        let to = self.client.address;
        let txs = self.send(from, to, value, message.encode().unwrap());
        txs[0].exit_code
    }

    /// The client's owner deposits.
    pub fn top_up(&mut self, coins: u128) -> Option<i32> {
        let message = ClientMessage::TopUp {
            query_id: self.query_id(),
            coins,
            excess_to: self.client_owner,
        };
        self.call_client(self.client_owner, coins + TON * 7 / 10, message)
    }

    pub fn withdraw(&mut self) -> Option<i32> {
        let message = ClientMessage::Withdraw {
            query_id: self.query_id(),
            excess_to: self.client_owner,
        };
        self.call_client(self.client_owner, FIFTH, message)
    }

    /// One step of the way out without the proxy.
    pub fn request_refund(&mut self) -> Option<i32> {
        let message = ClientMessage::RequestRefund {
            query_id: self.query_id(),
            excess_to: self.client_owner,
        };
        self.call_client(self.client_owner, FIFTH, message)
    }

    /// A body signed by the proxy; whoever relays it chooses the receiver of the leftover coins.
    pub fn signed(&mut self, op: SignedOp, tokens: u64, receiver: Address) -> Cell {
        let target = match op {
            SignedOp::WorkerPayout | SignedOp::WorkerLastPayout => self.worker.address,
            SignedOp::ClientCharge | SignedOp::ClientGrantRefund => self.client.address,
            SignedOp::ProxyClose | SignedOp::ProxyCloseComplete => self.net.proxy.address,
        };
        let query_id = self.query_id();
        self.net.signed(op, target, tokens, query_id, receiver)
    }

    /// The relayer presents something signed, with a fifth of a TON.
    pub fn relay(&mut self, op: SignedOp, tokens: u64) -> Option<i32> {
        let body = self.signed(op, tokens, self.relayer);
        self.present(op, body)
    }

    /// The relayer presents a body, perhaps again.
    pub fn present(&mut self, op: SignedOp, body: Cell) -> Option<i32> {
        let to = match op {
            SignedOp::WorkerPayout | SignedOp::WorkerLastPayout => self.worker.address,
            SignedOp::ClientCharge | SignedOp::ClientGrantRefund => self.client.address,
            SignedOp::ProxyClose | SignedOp::ProxyCloseComplete => self.net.proxy.address,
        };
        self.send(self.relayer, to, FIFTH, body)[0].exit_code
    }

    /// Anybody asks a closed contract for its leftover coins.
    pub fn sweep(&mut self, contract: Address) -> Option<i32> {
        let mut b = CellBuilder::new();
        b.store_u32(SWEEP).unwrap();
        b.store_u64(self.query_id()).unwrap();
        let body = b.build().unwrap();
        self.send(self.relayer, contract, FIFTH, body)[0].exit_code
    }

    pub fn pay_revenue(&mut self, from: Address) -> Option<i32> {
        let message = ProxyMessage::PayRevenue {
            query_id: self.query_id(),
            excess_to: from,
        };
        let to = self.net.proxy.address;
        self.send(from, to, FIFTH, message.encode().unwrap())[0].exit_code
    }

    pub fn raise_proxy_stake(&mut self, coins: u128) -> Option<i32> {
        let message = ProxyMessage::IncreaseStake {
            query_id: self.query_id(),
            coins,
            excess_to: self.relayer,
        };
        let to = self.net.proxy.address;
        self.send(self.relayer, to, coins + FIFTH, message.encode().unwrap())[0].exit_code
    }

    /// The owner begins to close the proxy.
    pub fn close_proxy(&mut self) -> Option<i32> {
        let owner = self.net.proxy_owner;
        let message = ProxyMessage::Close {
            query_id: self.query_id(),
            excess_to: self.relayer,
        };
        let to = self.net.proxy.address;
        self.send(owner, to, FIFTH, message.encode().unwrap())[0].exit_code
    }

    /// Coins for the proxy contract out of nowhere: a plain transfer.
    pub fn fund_proxy(&mut self, coins: u128) {
        let to = self.net.proxy.address;
        self.send(self.relayer, to, coins, Cell::default());
    }

    pub fn client_state(&self) -> ClientState {
        ClientState::decode(self.world.data(&self.client.address).unwrap()).unwrap()
    }

    pub fn worker_state(&self) -> WorkerState {
        WorkerState::decode(self.world.data(&self.worker.address).unwrap()).unwrap()
    }

    pub fn proxy_state(&self) -> ProxyState {
        ProxyState::decode(self.world.data(&self.net.proxy.address).unwrap()).unwrap()
    }

    /// Coins of the proxy contract.
    pub fn proxy_coins(&self) -> u128 {
        self.world.balance(&self.net.proxy.address)
    }

    /// What somebody without a contract has received since the scene began.
    pub fn received(&self, who: &Address) -> u128 {
        self.world.balance(who)
    }

    /// Everything sent with an op to somebody, in nanoTON.
    pub fn sent(&self, to: &Address, op: u32) -> Vec<u128> {
        self.world
            .log
            .iter()
            .filter(|tx| tx.account == *to && tx.op == Some(op))
            .map(|tx| tx.message.value)
            .collect()
    }
}

/// Demands a value.
pub fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: T,
    expected: T,
) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what}: {got:?}, expected {expected:?}"))
}

/// Demands a value in a range, where fees do not allow more.
pub fn between(what: &str, got: u128, least: u128, most: u128) -> Result<(), String> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(format!("{what}: {got}, expected {least} to {most}"))
}
