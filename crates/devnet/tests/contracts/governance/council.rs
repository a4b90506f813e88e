//! Three wallets, their multisignature contract, and the root it owns.

use std::path::Path;

use cocoon_ton::abi::{RootMessage, RootState, StateInit, state_init};
use cocoon_ton::wallet::{InternalMessage, Outgoing, Transfer};
use cocoon_ton::{Address, Cell, CellBuilder, StackValue};
use ed25519_dalek::SigningKey;
use tycho_types::boc::Boc;
use tycho_types::cell::HashBytes;
use tycho_types::dict::Dict;
use tycho_types::models::StdAddr;

use crate::codes::Codes;
use crate::net::{Net, Terms, person, transfer};
use crate::world::{TON, Tx, World};

pub const PROPOSE: u32 = 0x5c2f_0b11;
pub const CONFIRM: u32 = 0x5c2f_0b12;
pub const DROP: u32 = 0x5c2f_0b13;
pub const CHANGE_SIGNERS: u32 = 0x5c2f_0b14;

pub const NOT_A_SIGNER: i32 = 3001;
pub const UNKNOWN_ORDER: i32 = 3002;
pub const EXPIRED: i32 = 3003;
pub const CONFIRMED_ALREADY: i32 = 3004;
pub const TOO_MANY_ORDERS: i32 = 3005;
pub const NOT_EXPIRED: i32 = 3006;
pub const NOT_ITSELF: i32 = 3007;
pub const BAD_SIGNERS: i32 = 3008;

/// Open orders that the contract holds at most.
pub const MAX_OPEN_ORDERS: u32 = 16;
/// What the official tool attaches to a message for the root.
pub const GOVERNANCE_VALUE: u128 = TON / 100;
/// How long the orders of these tests may be confirmed.
pub const OPEN_FOR: u32 = 3600;

/// A signer: a node wallet with its key.
pub struct Member {
    pub wallet: StateInit,
    key: SigningKey,
    seqno: u32,
}

pub struct Council {
    pub world: World,
    pub net: Net,
    pub members: Vec<Member>,
    pub multisig: StateInit,
}

impl Council {
    /// Three funded wallets, a multisignature contract of two of them, and a root that belongs to the first wallet.
    pub fn new(codes: &Codes) -> Self {
        let mut net = Net::new(codes, Terms::default());
        let mut world = World::new();
        let members: Vec<Member> = (0..3)
            .map(|i| {
                let key = SigningKey::from_bytes(&[0x71 + i; 32]);
                let wallet = net.wallet(&key, person(0xf0 + i));
                world.install(&wallet, 10 * TON);
                Member {
                    wallet,
                    key,
                    seqno: 0,
                }
            })
            .collect();
        let signers = members.iter().map(|m| m.wallet.address);
        let multisig = multisig(2, &signers.zip(0..).collect::<Vec<_>>());
        world.install(&multisig, TON);
        let mut state = RootState::decode(&net.root.data).unwrap();
        state.owner = members[0].wallet.address;
        net.root = cocoon_ton::abi::root_init(codes.root.clone(), &state).unwrap();
        world.install(&net.root, TON);
        Self {
            world,
            net,
            members,
            multisig,
        }
    }

    /// The same with the root handed over.
    pub fn governing(codes: &Codes) -> Result<Self, String> {
        let mut council = Self::new(codes);
        let owner = council.multisig.address;
        let body = RootMessage::ChangeOwner { query_id: 1, owner };
        let root = council.net.root.address;
        let txs = council.send(0, root, body.encode().unwrap());
        equal("handed over", exit_at(&txs, root), Some(0))?;
        equal("owner", council.root().owner, owner)?;
        Ok(council)
    }

    pub fn root(&self) -> RootState {
        RootState::decode(self.world.data(&self.net.root.address).unwrap()).unwrap()
    }

    /// A member's wallet sends a message, by an external message that its node has signed.
    pub fn send(&mut self, member: usize, to: Address, body: Cell) -> Vec<Tx> {
        let now = self.world.now();
        let m = &mut self.members[member];
        let message = InternalMessage::call(to, TON / 5, body);
        let batch = Transfer {
            subwallet: 0,
            valid_until: now + 60,
            seqno: m.seqno,
            messages: vec![Outgoing::new(&message).unwrap()],
        };
        m.seqno += 1;
        let (wallet, body) = (m.wallet.address, transfer(batch, &m.key));
        self.world
            .external(wallet, None, body)
            .expect("the wallet accepts it");
        self.world.run().to_vec()
    }

    /// A member proposes to send a message to the root. Returns the exit code of the multisignature contract.
    pub fn propose(&mut self, member: usize, message: &RootMessage) -> Option<i32> {
        let body = message.encode().unwrap();
        let root = self.net.root.address;
        let call = InternalMessage::call(root, GOVERNANCE_VALUE, body);
        self.propose_call(member, &call)
    }

    pub fn propose_call(&mut self, member: usize, call: &InternalMessage) -> Option<i32> {
        let expires = self.world.now() + OPEN_FOR;
        let mut b = head(PROPOSE);
        b.store_u32(expires).unwrap();
        b.store_u8(1).unwrap(); // fees extra
        b.store_reference(call.encode().unwrap()).unwrap();
        self.order(member, b)
    }

    pub fn confirm(&mut self, member: usize, order: u32) -> Option<i32> {
        let mut b = head(CONFIRM);
        b.store_u32(order).unwrap();
        self.order(member, b)
    }

    pub fn order(&mut self, member: usize, body: CellBuilder) -> Option<i32> {
        let to = self.multisig.address;
        let txs = self.send(member, to, body.build().unwrap());
        exit_at(&txs, to)
    }

    /// Threshold, orders so far, open orders.
    pub fn figures(&self) -> [u32; 3] {
        let result = self
            .world
            .get(&self.multisig.address, "get_multisig_data", &[]);
        let number = |i: usize| match &result.stack[i] {
            StackValue::Int(n) => u32::try_from(n).unwrap(),
            other => panic!("not a number: {other:?}"),
        };
        [number(0), number(1), number(2)]
    }
}

pub fn head(op: u32) -> CellBuilder {
    let mut b = CellBuilder::new();
    b.store_u32(op).unwrap();
    b.store_u64(7).unwrap();
    b
}

/// Exit code of the first transaction of an account.
pub fn exit_at(txs: &[Tx], account: Address) -> Option<i32> {
    txs.iter()
        .find(|tx| tx.account == account)
        .and_then(|tx| tx.exit_code)
}

pub fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: T,
    expected: T,
) -> Result<(), String> {
    match got == expected {
        true => Ok(()),
        false => Err(format!("{what}: {got:?}, expected {expected:?}")),
    }
}

pub fn store_signers(b: &mut CellBuilder, threshold: u8, signers: &[(Address, u8)]) {
    let mut dict = Dict::<StdAddr, u8>::new();
    for (address, number) in signers {
        let key = StdAddr::new(address.workchain, HashBytes(address.hash));
        dict.set(key, *number).unwrap();
    }
    b.store_u8(threshold).unwrap();
    b.store_bit(dict.root().is_some()).unwrap();
    if let Some(root) = dict.into_root() {
        b.store_reference(root).unwrap();
    }
}

fn multisig(threshold: u8, signers: &[(Address, u8)]) -> StateInit {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/build/ExampleMultisig.boc");
    let code = Boc::decode(std::fs::read(&path).unwrap()).unwrap();
    // Threshold, next order, open orders, signers, orders.
    let mut with_signers = CellBuilder::new();
    store_signers(&mut with_signers, threshold, signers);
    let with_signers = with_signers.build().unwrap();
    let mut signers = with_signers.as_slice().unwrap();
    signers.skip_first(8, 0).unwrap();
    let mut b = CellBuilder::new();
    b.store_u8(threshold).unwrap();
    b.store_u32(0).unwrap();
    b.store_u8(0).unwrap();
    b.store_slice(signers).unwrap();
    b.store_bit_zero().unwrap();
    let data = b.build().unwrap();
    let (cell, address) = state_init(code.clone(), data.clone()).unwrap();
    StateInit {
        code,
        data,
        cell,
        address,
    }
}
