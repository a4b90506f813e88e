//! Typed message bodies of all contracts (contracts.md, section 3).
//!
//! One enum a receiver. `decode` accepts exactly what is written there: anything left over is an error.

use tycho_types::cell::Cell;

use super::codec::{Field, Reader, Writer};
use super::error::AbiError;
use super::net_address::NetAddress;
use super::op;
use super::request::{ClientLedger, ClientRequestPayload, WorkerRequestPayload};
use super::signed::{Envelope, KeyPayload, SignedPayload};
use super::state::ContractStatus;
use crate::address::Address;

/// The part of a body behind its op, for bodies with a shape of their own.
pub(crate) trait MessageBody: Sized {
    fn op(&self) -> u32;
    fn query_id(&self) -> u64;
    fn put(&self, w: &mut Writer);
    fn get(op: u32, r: &mut Reader<'_>) -> Result<Self, AbiError>;
}

/// Declares an enum of message bodies: first those that are op, query id and plain fields,
/// then those with a type of their own.
macro_rules! messages {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($what:literal) {
            $($(#[$vmeta:meta])* $variant:ident = $op:path {
                $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)?
            })*
        }
        special {
            $($(#[$smeta:meta])* $special:ident($body:ty) = $($sop:path)|+;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vmeta])* $variant {
                /// Number chosen by the sender, repeated in what follows from the message.
                query_id: u64,
                $($(#[$fmeta])* $field: $ty),*
            },)*
            $($(#[$smeta])* $special($body),)*
        }

        impl $name {
            /// The op code.
            pub fn op(&self) -> u32 {
                match self {
                    $(Self::$variant { .. } => $op,)*
                    $(Self::$special(body) => MessageBody::op(body),)*
                }
            }

            /// The query id; 0 for text commands, which have none.
            pub fn query_id(&self) -> u64 {
                match self {
                    $(Self::$variant { query_id, .. } => *query_id,)*
                    $(Self::$special(body) => MessageBody::query_id(body),)*
                }
            }

            /// The message body.
            pub fn encode(&self) -> Result<Cell, AbiError> {
                let mut w = Writer::new($what);
                w.uint(self.op().into(), 32);
                match self {
                    $(Self::$variant { query_id, $($field),* } => {
                        w.uint(*query_id, 64);
                        $(Field::put($field, &mut w, stringify!($field));)*
                    })*
                    $(Self::$special(body) => MessageBody::put(body, &mut w),)*
                }
                w.finish()
            }

            /// Reads a message body.
            pub fn decode(body: &Cell) -> Result<Self, AbiError> {
                let mut r = Reader::new(body, $what)?;
                let op = r.uint("op", 32)? as u32;
                let message = match op {
                    $($op => Self::$variant {
                        query_id: r.uint("query id", 64)?,
                        $($field: Field::get(&mut r, stringify!($field))?),*
                    },)*
                    $($($sop)|+ => Self::$special(MessageBody::get(op, &mut r)?),)*
                    _ => return Err(AbiError::UnknownOp { what: $what, op }),
                };
                r.end()?;
                Ok(message)
            }
        }
    };
}

messages! {
    /// Messages to the root contract. All but the signed key come from its owner.
    pub enum RootMessage("a message to the root") {
        /// Allow a worker image.
        AddWorkerHash = op::ROOT_ADD_WORKER_HASH {
            /// Image hash.
            hash: [u8; 32],
        }
        /// No longer allow a worker image.
        DeleteWorkerHash = op::ROOT_DELETE_WORKER_HASH {
            /// Image hash.
            hash: [u8; 32],
        }
        /// Allow a model.
        AddModelHash = op::ROOT_ADD_MODEL_HASH {
            /// SHA-256 of the model type string.
            hash: [u8; 32],
        }
        /// No longer allow a model.
        DeleteModelHash = op::ROOT_DELETE_MODEL_HASH {
            /// SHA-256 of the model type string.
            hash: [u8; 32],
        }
        /// Allow a proxy image.
        AddProxyHash = op::ROOT_ADD_PROXY_HASH {
            /// Image hash.
            hash: [u8; 32],
        }
        /// No longer allow a proxy image.
        DeleteProxyHash = op::ROOT_DELETE_PROXY_HASH {
            /// Image hash.
            hash: [u8; 32],
        }
        /// List a proxy under the next sequence number.
        RegisterProxy = op::ROOT_REGISTER_PROXY {
            /// Where it can be reached.
            address: NetAddress,
        }
        /// Take a proxy off the list.
        UnregisterProxy = op::ROOT_UNREGISTER_PROXY {
            /// Its sequence number.
            seqno: u32,
        }
        /// Change where a proxy can be reached.
        UpdateProxy = op::ROOT_UPDATE_PROXY {
            /// Its sequence number.
            seqno: u32,
            /// Where it can be reached.
            address: NetAddress,
        }
        /// Change the prices.
        ChangePrice = op::ROOT_CHANGE_PRICE {
            /// NanoTON a client pays for a token.
            price_per_token: u128,
            /// NanoTON a worker gets for a token.
            worker_fee_per_token: u128,
        }
        /// Change prices, delays and stakes.
        ChangeParams = op::ROOT_CHANGE_PARAMS {
            /// NanoTON a client pays for a token.
            price_per_token: u128,
            /// NanoTON a worker gets for a token.
            worker_fee_per_token: u128,
            /// Seconds.
            proxy_delay: u32,
            /// Seconds.
            client_delay: u32,
            /// NanoTON.
            min_proxy_stake: u128,
            /// NanoTON.
            min_client_stake: u128,
        }
        /// Replace the codes in the params.
        ReplaceContractCodes = op::ROOT_REPLACE_CONTRACT_CODES {
            /// Proxy code.
            proxy: Cell,
            /// Worker code.
            worker: Cell,
            /// Client code.
            client: Cell,
        }
        /// Replace the root's own code.
        ReplaceCode = op::ROOT_REPLACE_CODE {
            /// Root code.
            code: Cell,
        }
        /// Replace the root's own data and code.
        ReplaceDataAndCode = op::ROOT_REPLACE_DATA_AND_CODE {
            /// Storage cell.
            data: Cell,
            /// Root code.
            code: Cell,
        }
        /// Empty the hash sets and the address list.
        Reset = op::ROOT_RESET {}
        /// Hand the root over at once.
        ChangeOwner = op::ROOT_CHANGE_OWNER {
            /// New owner.
            owner: Address,
        }
        /// Register a public key (structure version 4).
        AddPublicKey = op::ROOT_ADD_PUBLIC_KEY {
            /// The public key.
            key: [u8; 32],
            /// What it is for.
            key_type: u8,
            /// Unix time in seconds.
            expire_at: u32,
        }
        /// Change the key manager (structure version 4).
        ChangeKeyManager = op::ROOT_CHANGE_KEY_MANAGER {
            /// Its Ed25519 key.
            key: [u8; 32],
            /// Where it can be reached.
            address: NetAddress,
        }
    }
    special {
        /// Register a public key by the key manager's signature (structure version 4).
        AddPublicKeySigned(Envelope<KeyPayload>) = op::ROOT_ADD_PUBLIC_KEY_SIGNED;
    }
}

messages! {
    /// Messages to a proxy contract.
    pub enum ProxyMessage("a message to a proxy") {
        /// A worker contract reports.
        WorkerRequest = op::WORKER_REQUEST {
            /// Owner of the worker contract.
            owner: Address,
            /// State after the operation.
            status: ContractStatus,
            /// Tokens paid after the operation.
            tokens: u64,
            /// What the proxy contract should do.
            payload: Option<WorkerRequestPayload>,
        }
        /// A client contract reports.
        ClientRequest = op::CLIENT_REQUEST {
            /// Owner of the client contract.
            owner: Address,
            /// Its ledger after the operation.
            ledger: ClientLedger,
            /// What the proxy contract should do.
            payload: Option<ClientRequestPayload>,
        }
        /// Pay the revenue to the owner. Anyone may ask.
        PayRevenue = op::PROXY_PAY_REVENUE {
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// Add to the stake. Anyone may pay.
        IncreaseStake = op::PROXY_INCREASE_STAKE {
            /// NanoTON to add.
            coins: u128,
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// The owner closes the proxy.
        Close = op::PROXY_CLOSE {
            /// Receives the leftover coins.
            excess_to: Address,
        }
    }
    special {
        /// Begin or complete closing by the proxy's signature.
        Signed(Envelope<SignedPayload>) = op::PROXY_CLOSE_SIGNED | op::PROXY_CLOSE_COMPLETE;
        /// Text command of the owner: `c` closes, `w` withdraws.
        Text(TextCommand) = op::TEXT;
        /// Database commit of the proxy node; does nothing on chain.
        SaveState(SaveState) = op::DO_NOT_PROCESS;
    }
}

messages! {
    /// Messages to a worker contract.
    pub enum WorkerMessage("a message to a worker") {
        /// The owner makes the contract report to its proxy.
        Register = op::WORKER_REGISTER {
            /// Receives the leftover coins.
            excess_to: Address,
        }
    }
    special {
        /// Payout or last payout by the proxy's signature.
        Signed(Envelope<SignedPayload>) = op::WORKER_PAYOUT | op::WORKER_LAST_PAYOUT;
    }
}

messages! {
    /// Messages to a client contract.
    pub enum ClientMessage("a message to a client") {
        /// Add to the deposit. Anyone may pay.
        TopUp = op::CLIENT_TOP_UP {
            /// NanoTON to add.
            coins: u128,
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// Change the secret hash and add to the deposit.
        ChangeSecretHashAndTopUp = op::CLIENT_CHANGE_SECRET_HASH_AND_TOP_UP {
            /// NanoTON to add.
            coins: u128,
            /// SHA-256 of the new secret string.
            secret_hash: [u8; 32],
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// Prove ownership to the proxy.
        Register = op::CLIENT_REGISTER {
            /// The proxy's nonce.
            nonce: u64,
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// Change the secret hash.
        ChangeSecretHash = op::CLIENT_CHANGE_SECRET_HASH {
            /// SHA-256 of the new secret string.
            secret_hash: [u8; 32],
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// Raise the stake.
        IncreaseStake = op::CLIENT_INCREASE_STAKE {
            /// The whole new stake in nanoTON, not the difference.
            new_stake: u128,
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// Take out what exceeds the stake.
        Withdraw = op::CLIENT_WITHDRAW {
            /// Receives the leftover coins.
            excess_to: Address,
        }
        /// Close the client: first step, and second step after the delay.
        RequestRefund = op::CLIENT_REQUEST_REFUND {
            /// Receives the leftover coins.
            excess_to: Address,
        }
    }
    special {
        /// Charge or granted refund by the proxy's signature.
        Signed(Envelope<SignedPayload>) = op::CLIENT_CHARGE | op::CLIENT_GRANT_REFUND;
    }
}

messages! {
    /// Internal messages to a node wallet.
    pub enum WalletMessage("a message to a wallet") {
        /// The owner makes the wallet send a message.
        Send = op::WALLET_SEND {
            /// Send mode.
            mode: u8,
            /// The message to be sent.
            message: Cell,
        }
    }
    special {
        /// Text command of the owner: `w` withdraws, `b` blocks, `u` unblocks.
        Text(TextCommand) = op::TEXT;
    }
}

messages! {
    /// Messages from the contracts to owners and nodes.
    pub enum OwnerMessage("a message to an owner") {
        /// Leftover coins come back.
        Excesses = op::EXCESSES {}
        /// Coins paid out.
        Payout = op::PAYOUT {}
    }
    special {}
}

/// A comment of one character. There is no query id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextCommand {
    /// The character.
    pub character: u8,
}

impl MessageBody for TextCommand {
    fn op(&self) -> u32 {
        op::TEXT
    }

    fn query_id(&self) -> u64 {
        0
    }

    fn put(&self, w: &mut Writer) {
        w.uint(self.character.into(), 8);
    }

    fn get(_: u32, r: &mut Reader<'_>) -> Result<Self, AbiError> {
        let character = r.uint("text", 8)? as u8;
        Ok(Self { character })
    }
}

/// A proxy node's database commit, witnessed by the chain (contracts.md, section 14.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SaveState {
    /// Random number.
    pub query_id: u64,
    /// Sequence number of the database write.
    pub seqno: i32,
    /// Random number of the process.
    pub session_hash: [u8; 32],
}

impl MessageBody for SaveState {
    fn op(&self) -> u32 {
        op::DO_NOT_PROCESS
    }

    fn query_id(&self) -> u64 {
        self.query_id
    }

    fn put(&self, w: &mut Writer) {
        w.uint(self.query_id, 64);
        w.uint(op::SAVE_STATE.into(), 32);
        w.uint((self.seqno as u32).into(), 32);
        w.raw(&self.session_hash);
    }

    fn get(_: u32, r: &mut Reader<'_>) -> Result<Self, AbiError> {
        let query_id = r.uint("query id", 64)?;
        let inner = r.uint("inner op", 32)? as u32;
        if inner != op::SAVE_STATE {
            return Err(AbiError::UnknownOp {
                what: "a do-not-process message",
                op: inner,
            });
        }
        Ok(Self {
            query_id,
            seqno: r.uint("seqno", 32)? as u32 as i32,
            session_hash: r.bytes("session hash")?,
        })
    }
}
