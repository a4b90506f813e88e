//! One message to one contract, taken apart so that any part of it can be spoilt.

use cocoon_devnet::config::ChainConfig;
use cocoon_devnet::executor::ExecuteError;
use cocoon_devnet::sandbox::{Contract, Inbound, Outcome, SandboxError};
use cocoon_ton::abi::{
    AbiError, ClientState, ContractStatus, Params, ProxyState, RootState, WalletState, WorkerState,
    op,
};
use cocoon_ton::{Address, Cell, CellBuilder};
use ed25519_dalek::Signer;

use super::cells::{extended, store_address, store_coins};
use super::parties::{QUERY_ID, TOKENS, TON, key};

/// What the contract under test stores.
#[derive(Clone)]
pub enum State {
    Root(RootState),
    Proxy(ProxyState),
    Client(ClientState),
    Worker(WorkerState),
    Wallet(WalletState),
}

impl State {
    fn encode(&self) -> Result<Cell, AbiError> {
        match self {
            Self::Root(s) => s.encode(),
            Self::Proxy(s) => s.encode(),
            Self::Client(s) => s.encode(),
            Self::Worker(s) => s.encode(),
            Self::Wallet(s) => s.encode(),
        }
    }

    pub fn status(&mut self) -> &mut ContractStatus {
        match self {
            Self::Proxy(s) => &mut s.status,
            Self::Client(s) => &mut s.status,
            Self::Worker(s) => &mut s.status,
            Self::Root(_) | Self::Wallet(_) => panic!("this contract has no status"),
        }
    }

    pub fn params(&mut self) -> &mut Params {
        match self {
            Self::Root(s) => &mut s.params,
            Self::Proxy(s) => &mut s.params,
            Self::Client(s) => &mut s.params,
            Self::Worker(s) => &mut s.params,
            Self::Wallet(_) => panic!("a wallet has no params"),
        }
    }

    pub fn proxy(&mut self) -> &mut ProxyState {
        match self {
            Self::Proxy(s) => s,
            _ => panic!("not a proxy"),
        }
    }

    pub fn client(&mut self) -> &mut ClientState {
        match self {
            Self::Client(s) => s,
            _ => panic!("not a client"),
        }
    }

    pub fn wallet(&mut self) -> &mut WalletState {
        match self {
            Self::Wallet(s) => s,
            _ => panic!("not a wallet"),
        }
    }
}

/// A signed payload in its envelope. Everything may differ from what it should be.
#[derive(Clone)]
pub struct Signed {
    pub op: u32,
    pub inner_op: u32,
    pub inner_query_id: u64,
    pub tokens: Option<u64>,
    pub target: Address,
    pub receiver: Address,
    /// Seed of the key that signs.
    pub seed: u8,
    /// Bits that follow the payload, and are signed with it.
    pub extra_bits: u16,
}

impl Signed {
    pub fn payload(&self) -> Cell {
        let mut b = CellBuilder::new();
        b.store_u32(self.inner_op).unwrap();
        b.store_u64(self.inner_query_id).unwrap();
        if let Some(tokens) = self.tokens {
            b.store_u64(tokens).unwrap();
        }
        store_address(&mut b, &self.target);
        b.store_zeros(self.extra_bits).unwrap();
        b.build().unwrap()
    }

    /// The message body around a payload cell, which need not be the one that was signed.
    pub fn envelope(&self, payload: Cell, signature: &[u8; 64]) -> Cell {
        let mut b = CellBuilder::new();
        b.store_u32(self.op).unwrap();
        b.store_u64(QUERY_ID).unwrap();
        store_address(&mut b, &self.receiver);
        b.store_raw(signature, 512).unwrap();
        b.store_reference(payload).unwrap();
        b.build().unwrap()
    }

    pub fn sign(&self, payload: &Cell) -> [u8; 64] {
        key(self.seed)
            .sign(payload.repr_hash().as_slice())
            .to_bytes()
    }

    fn body(&self) -> Cell {
        let payload = self.payload();
        let signature = self.sign(&payload);
        self.envelope(payload, &signature)
    }
}

/// What a client or worker contract tells its proxy.
#[derive(Clone)]
pub struct Request {
    pub op: u32,
    pub owner: Address,
    pub payload_op: u32,
    /// One amount from a client, two from a worker.
    pub coins: Vec<u128>,
    pub receiver: Address,
    pub payload_extra_bits: u16,
}

impl Request {
    pub fn payload(&self) -> Cell {
        let mut b = CellBuilder::new();
        b.store_u32(self.payload_op).unwrap();
        for coins in &self.coins {
            store_coins(&mut b, *coins);
        }
        store_address(&mut b, &self.receiver);
        b.store_zeros(self.payload_extra_bits).unwrap();
        b.build().unwrap()
    }

    pub fn body(&self, payload: Cell) -> Cell {
        let mut b = CellBuilder::new();
        b.store_u32(self.op).unwrap();
        b.store_u64(QUERY_ID).unwrap();
        store_address(&mut b, &self.owner);
        if self.op == op::WORKER_REQUEST {
            b.store_zeros(2).unwrap();
            b.store_u64(TOKENS).unwrap();
        } else {
            // The ledger is for the node; the contract does not read it.
            b.store_reference(Cell::default()).unwrap();
        }
        b.store_bit_one().unwrap();
        b.store_reference(payload).unwrap();
        b.build().unwrap()
    }
}

/// A wallet's external message.
#[derive(Clone)]
pub struct External {
    pub subwallet: u32,
    pub valid_until: u32,
    pub seqno: u32,
    pub seed: u8,
    pub message: Cell,
}

impl External {
    pub fn body(&self) -> Cell {
        let mut b = CellBuilder::new();
        b.store_u32(self.subwallet).unwrap();
        b.store_u32(self.valid_until).unwrap();
        b.store_u32(self.seqno).unwrap();
        b.store_u8(0).unwrap();
        b.store_reference(self.message.clone()).unwrap();
        let part = b.build().unwrap();
        let signature = key(self.seed).sign(part.repr_hash().as_slice()).to_bytes();
        let mut b = CellBuilder::new();
        b.store_raw(&signature, 512).unwrap();
        b.store_slice(part.as_slice().unwrap()).unwrap();
        b.build().unwrap()
    }
}

#[derive(Clone)]
pub enum Body {
    Plain(Cell),
    Signed(Signed),
    Request(Request),
    External(External),
}

impl Body {
    pub fn cell(&self) -> Cell {
        match self {
            Self::Plain(cell) => cell.clone(),
            Self::Signed(signed) => signed.body(),
            Self::Request(request) => request.body(request.payload()),
            Self::External(external) => external.body(),
        }
    }
}

/// A message, and the contract that gets it.
#[derive(Clone)]
pub struct Call {
    pub address: Address,
    pub code: Cell,
    pub state: State,
    /// Coins of the contract before the message.
    pub own: u128,
    pub from: Address,
    pub value: u128,
    pub now: u32,
    pub body: Body,
    /// Bits that follow the body.
    pub extra_bits: u16,
}

impl Call {
    pub fn signed(&mut self) -> &mut Signed {
        match &mut self.body {
            Body::Signed(signed) => signed,
            _ => panic!("not a signed message"),
        }
    }

    pub fn request(&mut self) -> &mut Request {
        match &mut self.body {
            Body::Request(request) => request,
            _ => panic!("not a request to a proxy"),
        }
    }

    pub fn external(&mut self) -> &mut External {
        match &mut self.body {
            Body::External(external) => external,
            _ => panic!("not an external message"),
        }
    }

    pub fn contract(&self) -> Contract {
        Contract {
            address: self.address,
            balance: self.own,
            code: self.code.clone(),
            data: self.state.encode().unwrap(),
        }
    }

    /// The body with what follows it.
    pub fn body_cell(&self) -> Cell {
        extended(&self.body.cell(), self.extra_bits, 0)
    }

    /// The whole call as it is.
    pub fn run(&self, config: &ChainConfig) -> Result<Outcome, SandboxError> {
        self.run_with(config, self.body_cell())
    }

    /// The call with another body.
    pub fn run_with(&self, config: &ChainConfig, body: Cell) -> Result<Outcome, SandboxError> {
        let inbound = match self.body {
            Body::External(_) => Inbound::External { body },
            _ => Inbound::Internal {
                from: self.from,
                value: self.value,
                bounce: true,
                bounced: false,
                body,
            },
        };
        self.contract().execute(config, self.now, &inbound)
    }

    /// Runs it and demands that it is refused with an exit code, that nothing changes, and that the coins go back.
    pub fn refused(&self, config: &ChainConfig, body: Cell, code: i32) -> Result<(), String> {
        let result = self.run_with(config, body);
        if let Body::External(_) = self.body {
            return match result {
                Err(SandboxError::Execute(ExecuteError::NotAccepted { exit_code, .. }))
                    if exit_code == Some(code) =>
                {
                    Ok(())
                }
                other => Err(format!(
                    "expected no acceptance with exit {code}, got {other:?}"
                )),
            };
        }
        let outcome = result.map_err(|e| format!("cannot run: {e}"))?;
        let exit = outcome.executed.exit_code;
        if exit != Some(code) {
            return Err(format!("exit {exit:?}, expected {code}"));
        }
        self.untouched(&outcome)?;
        self.returned(&outcome)
    }

    /// Demands that code and data are what they were.
    pub fn untouched(&self, outcome: &Outcome) -> Result<(), String> {
        if outcome.code.as_ref() != Some(&self.code) {
            return Err("the code changed".to_owned());
        }
        if outcome.data != Some(self.contract().data) {
            return Err("the data changed".to_owned());
        }
        Ok(())
    }

    /// Demands that exactly one message went out: the bounce, with the coins less fees.
    pub fn returned(&self, outcome: &Outcome) -> Result<(), String> {
        let [bounce] = &outcome.messages[..] else {
            return Err(format!(
                "{} messages instead of the bounce",
                outcome.messages.len()
            ));
        };
        if !bounce.bounced || bounce.dst != Some(self.from) {
            return Err(format!("no bounce to the sender but {bounce:?}"));
        }
        if outcome.executed.balance != self.own {
            return Err(format!(
                "the contract held {} and now holds {}",
                self.own, outcome.executed.balance
            ));
        }
        let kept = self.value.saturating_sub(bounce.value);
        if bounce.value >= self.value || kept > MOST_FEES {
            return Err(format!("{} of {} came back", bounce.value, self.value));
        }
        Ok(())
    }
}

/// No refused message may cost more than this: the dearest one burns 25,000 gas and a forward fee.
const MOST_FEES: u128 = TON / 50;
