//! W5: batches of a wallet that fail in the action phase.

use cocoon_devnet::config::Prices;
use cocoon_devnet::message::InternalMessage;
use cocoon_ton::abi::{StateInit, WalletState};
use cocoon_ton::{Address, Cell, CellBuilder};
use ed25519_dalek::{Signer, SigningKey};

use super::scene::{TERMS, between, equal};
use crate::codes::Codes;
use crate::net::{Net, person};
use crate::world::{TON, World};

const REPLAYS: usize = 50;

struct Hot {
    world: World,
    wallet: StateInit,
    key: SigningKey,
    receiver: Address,
}

impl Hot {
    fn new(codes: &Codes, balance: u128) -> Self {
        let net = Net::new(codes, TERMS);
        let key = SigningKey::from_bytes(&[0x61; 32]);
        let wallet = net.wallet(&key, person(0xf1));
        let mut world = World::with_prices(Prices::mainnet_before_2026());
        world.install(&wallet, balance);
        Self {
            world,
            wallet,
            key,
            receiver: person(0xf2),
        }
    }

    /// A signed batch of transfers, all in mode 0, valid for an hour.
    fn batch(&self, seqno: u32, values: &[u128]) -> Cell {
        let mut b = CellBuilder::new();
        b.store_u32(0).unwrap();
        b.store_u32(self.world.now() + 3600).unwrap();
        b.store_u32(seqno).unwrap();
        for value in values {
            let body = Cell::default();
            let message = InternalMessage {
                bounce: false,
                ..InternalMessage::new(self.wallet.address, self.receiver, *value, body)
            };
            b.store_u8(0).unwrap();
            b.store_reference(message.build().unwrap()).unwrap();
        }
        let part = b.build().unwrap();
        let signature = self.key.sign(part.repr_hash().as_slice()).to_bytes();
        let mut b = CellBuilder::new();
        b.store_raw(&signature, 512).unwrap();
        b.store_slice(part.as_slice().unwrap()).unwrap();
        b.build().unwrap()
    }

    fn present(&mut self, body: &Cell) -> Result<(), Option<i32>> {
        let to = self.wallet.address;
        self.world.external(to, None, body.clone()).map(drop)?;
        self.world.run();
        Ok(())
    }

    fn balance(&self) -> u128 {
        self.world.balance(&self.wallet.address)
    }

    fn seqno(&self) -> u32 {
        let data = self.world.data(&self.wallet.address).unwrap();
        WalletState::decode(data).unwrap().seqno
    }
}

/// W5: a batch that cannot be paid is accepted once; its seqno is spent. What can be paid is sent.
pub fn w5_a_failed_batch_is_spent(codes: &Codes) -> Result<(), String> {
    let mut hot = Hot::new(codes, 3 * TON);
    // Dearer than everything there is, then something small.
    let body = hot.batch(0, &[5 * TON, TON / 2]);
    equal("presented", hot.present(&body), Ok(()))?;
    equal("seqno", hot.seqno(), 1)?;
    let fees = 3 * TON - TON / 2 - hot.balance();
    between("fees", fees, 1, TON / 100)?;
    let left = hot.balance();
    for _ in 0..REPLAYS {
        equal("replayed", hot.present(&body), Err(Some(1032)))?;
    }
    equal("wallet holds", hot.balance(), left)?;
    between(
        "receiver has",
        hot.world.balance(&hot.receiver),
        TON / 2 - TON / 100,
        TON / 2,
    )
}

/// The official behaviour: 50 of 50 replays are accepted, each burns about 0.002 TON, down to 2 TON.
pub fn w5_lost(codes: &Codes) -> Result<(), String> {
    let mut hot = Hot::new(codes, 3 * TON);
    let body = hot.batch(0, &[5 * TON]);
    for _ in 0..REPLAYS {
        equal("replayed", hot.present(&body), Ok(()))?;
    }
    equal("seqno", hot.seqno(), 0)?;
    let each = (3 * TON - hot.balance()) / REPLAYS as u128;
    between("burnt by each", each, TON / 1000, TON * 3 / 1000)?;
    let mut hot = Hot::new(codes, 2 * TON + TON / 100);
    let body = hot.batch(0, &[5 * TON]);
    for _ in 0..REPLAYS {
        if let Err(exit) = hot.present(&body) {
            equal("ended with", exit, Some(1035))?;
            // The fee for importing the message is taken before the balance is looked at.
            return between("wallet holds", hot.balance(), 2 * TON, 2 * TON + TON / 1000);
        }
    }
    Err("replays went on below 2 TON".to_owned())
}
