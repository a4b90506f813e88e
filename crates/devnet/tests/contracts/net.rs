//! Sets up a network in a world: a proxy and the contracts around it, at their real addresses (contracts.md, 12).

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ton::abi::{
    Envelope, Params, RootState, SignedOp, SignedPayload, StateInit, client_init, proxy_init,
    root_init, wallet_init, worker_init,
};
use cocoon_ton::wallet::Transfer;
use cocoon_ton::{Address, Cell};
use ed25519_dalek::SigningKey;

use crate::codes::Codes;
use crate::world::TON;

/// The terms frozen into the contracts.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// NanoTON a client pays for a token.
    pub price: u128,
    /// NanoTON a worker gets for a token.
    pub fee: u128,
    /// Seconds.
    pub proxy_delay: u32,
    /// Seconds.
    pub client_delay: u32,
    /// NanoTON.
    pub min_proxy_stake: u128,
    /// NanoTON.
    pub min_client_stake: u128,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            price: 20,
            fee: 15,
            proxy_delay: 86_400,
            client_delay: 3_600,
            min_proxy_stake: TON,
            min_client_stake: TON,
        }
    }
}

/// A proxy, its key and everything that follows from it.
#[derive(Clone)]
pub struct Net {
    /// Codes under test.
    pub codes: Codes,
    /// Params in the full form.
    pub params: Params,
    /// The proxy's key; the tests sign anything with it.
    pub key: SigningKey,
    /// Owner of the proxy contract.
    pub proxy_owner: Address,
    /// Owner of the root contract.
    pub root_owner: Address,
    /// The root contract.
    pub root: StateInit,
    /// The proxy contract.
    pub proxy: StateInit,
}

/// An address of somebody without a contract.
pub fn person(number: u8) -> Address {
    Address::basechain([number; 32])
}

impl Net {
    /// A network with these terms.
    pub fn new(codes: &Codes, terms: Terms) -> Self {
        let params = Params {
            struct_version: 3,
            params_version: 7,
            unique_id: 17,
            is_test: true,
            price_per_token: terms.price,
            worker_fee_per_token: terms.fee,
            prompt_multiplier: 10_000,
            cached_multiplier: 5_000,
            completion_multiplier: 20_000,
            reasoning_multiplier: 15_000,
            proxy_delay: terms.proxy_delay,
            client_delay: terms.client_delay,
            min_proxy_stake: terms.min_proxy_stake,
            min_client_stake: terms.min_client_stake,
            proxy_code: Some(codes.proxy.clone()),
            worker_code: Some(codes.worker.clone()),
            client_code: Some(codes.client.clone()),
        };
        let root_owner = person(0xa0);
        let proxy_owner = person(0xb0);
        let key = SigningKey::from_bytes(&[0x51; 32]);
        let root_state = RootState {
            owner: root_owner,
            version: 3,
            proxy_hashes: BTreeSet::from([[1; 32], [2; 32]]),
            proxies: BTreeMap::new(),
            unreadable_proxies: BTreeSet::new(),
            last_proxy_seqno: 0,
            worker_hashes: BTreeSet::from([[3; 32]]),
            model_hashes: BTreeSet::from([[4; 32]]),
            params: params.clone(),
            keys: None,
        };
        let root = root_init(codes.root.clone(), &root_state).unwrap();
        let proxy = proxy_init(
            &params,
            proxy_owner,
            key.verifying_key().to_bytes(),
            root.address,
        )
        .unwrap();
        Self {
            codes: codes.clone(),
            params,
            key,
            proxy_owner,
            root_owner,
            root,
            proxy,
        }
    }

    /// The client contract of an owner.
    pub fn client(&self, owner: Address) -> StateInit {
        client_init(&self.params, self.proxy.address, self.public_key(), owner).unwrap()
    }

    /// The worker contract of an owner.
    pub fn worker(&self, owner: Address) -> StateInit {
        worker_init(&self.params, self.proxy.address, self.public_key(), owner).unwrap()
    }

    /// A node wallet.
    pub fn wallet(&self, key: &SigningKey, owner: Address) -> StateInit {
        wallet_init(
            self.codes.wallet.clone(),
            key.verifying_key().to_bytes(),
            owner,
        )
        .unwrap()
    }

    /// The proxy's public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// A body signed with the proxy's key.
    pub fn signed(
        &self,
        op: SignedOp,
        target: Address,
        tokens: u64,
        query_id: u64,
        excess_to: Address,
    ) -> Cell {
        let payload = SignedPayload {
            op,
            query_id,
            tokens,
            target,
        };
        Envelope::sign(payload, &self.key, excess_to)
            .unwrap()
            .encode()
            .unwrap()
    }
}

/// The body of an external message for a wallet.
pub fn transfer(transfer: Transfer, key: &SigningKey) -> Cell {
    transfer.sign(key).unwrap().encode().unwrap()
}
