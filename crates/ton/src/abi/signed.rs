//! What a proxy signs, and the envelope that carries it (contracts.md, section 11).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use tycho_types::cell::Cell;

use super::codec::{Reader, Writer};
use super::error::AbiError;
use super::message::MessageBody;
use super::op;
use crate::address::Address;
use crate::boc;

/// What a signed payload asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignedOp {
    /// Pay a worker up to the token total.
    WorkerPayout,
    /// Pay a worker up to the token total and close its contract.
    WorkerLastPayout,
    /// Charge a client up to the token total.
    ClientCharge,
    /// Charge a client up to the token total, close its contract and refund the rest.
    ClientGrantRefund,
    /// Begin closing the proxy contract.
    ProxyClose,
    /// Complete closing the proxy contract.
    ProxyCloseComplete,
}

impl SignedOp {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WorkerPayout,
        Self::WorkerLastPayout,
        Self::ClientCharge,
        Self::ClientGrantRefund,
        Self::ProxyClose,
        Self::ProxyCloseComplete,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::WorkerPayout => op::WORKER_PAYOUT,
            Self::WorkerLastPayout => op::WORKER_LAST_PAYOUT,
            Self::ClientCharge => op::CLIENT_CHARGE,
            Self::ClientGrantRefund => op::CLIENT_GRANT_REFUND,
            Self::ProxyClose => op::PROXY_CLOSE_SIGNED,
            Self::ProxyCloseComplete => op::PROXY_CLOSE_COMPLETE,
        }
    }

    /// The op with this number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.code() == code)
    }

    /// Whether the payload carries a token total.
    pub const fn has_tokens(self) -> bool {
        !matches!(self, Self::ProxyClose | Self::ProxyCloseComplete)
    }
}

/// Something that can be signed and put into an [`Envelope`].
///
/// The cell must follow from the value alone, because only its hash is signed.
pub trait Payload: Sized {
    /// Op, repeated in the envelope.
    fn op(&self) -> u32;
    /// Query id, repeated in the envelope.
    fn query_id(&self) -> u64;
    /// The signed cell.
    fn encode(&self) -> Result<Cell, AbiError>;
    /// Reads the signed cell.
    fn decode(cell: &Cell) -> Result<Self, AbiError>;
}

/// A payload signed with the proxy's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignedPayload {
    /// What is asked for.
    pub op: SignedOp,
    /// Random number without meaning on chain.
    pub query_id: u64,
    /// Token total since the target contract's birth, never a difference. 0 where the op has none.
    pub tokens: u64,
    /// The contract this is for.
    pub target: Address,
}

impl Payload for SignedPayload {
    fn op(&self) -> u32 {
        self.op.code()
    }

    fn query_id(&self) -> u64 {
        self.query_id
    }

    fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("signed payload");
        w.uint(self.op.code().into(), 32);
        w.uint(self.query_id, 64);
        if self.op.has_tokens() {
            w.uint(self.tokens, 64);
        } else if self.tokens != 0 {
            w.fail(AbiError::Value {
                field: "tokens",
                found: self.tokens.into(),
                expected: "0: closing a proxy carries no token total",
            });
        }
        w.address(&self.target);
        w.finish()
    }

    fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "signed payload")?;
        let code = r.uint("op", 32)? as u32;
        let op = SignedOp::from_code(code).ok_or(AbiError::UnknownOp {
            what: "a signed payload",
            op: code,
        })?;
        let query_id = r.uint("query id", 64)?;
        let tokens = if op.has_tokens() {
            r.uint("tokens", 64)?
        } else {
            0
        };
        let target = r.address("target")?;
        r.end()?;
        Ok(Self {
            op,
            query_id,
            tokens,
            target,
        })
    }
}

/// A public key registered in the root by the key manager's signature (root of structure version 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyPayload {
    /// Random number without meaning on chain.
    pub query_id: u64,
    /// The public key.
    pub key: [u8; 32],
    /// What the key is for.
    pub key_type: u8,
    /// Unix time in seconds after which it is swept.
    pub expire_at: u32,
}

impl Payload for KeyPayload {
    fn op(&self) -> u32 {
        op::ROOT_ADD_PUBLIC_KEY_SIGNED
    }

    fn query_id(&self) -> u64 {
        self.query_id
    }

    fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("signed key");
        w.uint(self.op().into(), 32);
        w.uint(self.query_id, 64);
        w.raw(&self.key);
        w.uint(self.key_type.into(), 8);
        w.uint(self.expire_at.into(), 32);
        w.finish()
    }

    fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "signed key")?;
        let code = r.uint("op", 32)? as u32;
        if code != op::ROOT_ADD_PUBLIC_KEY_SIGNED {
            return Err(AbiError::UnknownOp {
                what: "a signed key",
                op: code,
            });
        }
        let payload = Self {
            query_id: r.uint("query id", 64)?,
            key: r.bytes("key")?,
            key_type: r.uint("key type", 8)? as u8,
            expire_at: r.uint("expire at", 32)? as u32,
        };
        r.end()?;
        Ok(payload)
    }
}

/// A signature does not fit the payload and the key. Never retry: ask the signer again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SignatureError {
    /// The key is no Ed25519 public key.
    #[error("the public key is not a valid Ed25519 key")]
    BadKey,
    /// The signature was made with another key or over another payload.
    #[error("the signature does not match the payload and the expected key")]
    BadSignature,
    /// The payload cannot be written as a cell.
    #[error(transparent)]
    Payload(#[from] AbiError),
}

/// A signed payload with the receiver of the leftover coins, which is outside the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Envelope<P = SignedPayload> {
    /// Receives the leftover coins. Whoever relays the message chooses it.
    pub excess_to: Address,
    /// Ed25519 signature over the payload cell's hash.
    pub signature: [u8; 64],
    /// What was signed.
    pub payload: P,
}

impl<P: Payload> Envelope<P> {
    /// Signs a payload.
    pub fn sign(payload: P, key: &SigningKey, excess_to: Address) -> Result<Self, AbiError> {
        let cell = payload.encode()?;
        Ok(Self {
            excess_to,
            signature: key.sign(cell.repr_hash().as_slice()).to_bytes(),
            payload,
        })
    }

    /// Checks the signature. Weak keys and malleable signatures are refused too.
    pub fn verify(&self, public_key: &[u8; 32]) -> Result<(), SignatureError> {
        let cell = self.payload.encode()?;
        let key = VerifyingKey::from_bytes(public_key).map_err(|_| SignatureError::BadKey)?;
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(cell.repr_hash().as_slice(), &signature)
            .map_err(|_| SignatureError::BadSignature)
    }

    /// The same signature and payload with another receiver of the leftover coins.
    #[must_use]
    pub fn with_receiver(self, excess_to: Address) -> Self {
        Self { excess_to, ..self }
    }

    /// The message body.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("envelope");
        w.uint(self.payload.op().into(), 32);
        self.put(&mut w);
        w.finish()
    }

    /// Reads a message body; op and query id must repeat those of the payload. Does not check the signature.
    pub fn decode(body: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(body, "envelope")?;
        let op = r.uint("op", 32)? as u32;
        let envelope = Self::get(op, &mut r)?;
        r.end()?;
        Ok(envelope)
    }

    /// The message body as a bag of cells, the form in which proxies hand it out.
    pub fn to_boc(&self) -> Result<Vec<u8>, AbiError> {
        Ok(boc::encode(&self.encode()?))
    }

    /// Reads a bag of cells from a peer.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, AbiError> {
        Self::decode(&boc::decode(bytes, boc::ENVELOPE)?)
    }
}

impl<P: Payload> MessageBody for Envelope<P> {
    fn op(&self) -> u32 {
        self.payload.op()
    }

    fn query_id(&self) -> u64 {
        self.payload.query_id()
    }

    fn put(&self, w: &mut Writer) {
        w.uint(self.payload.query_id(), 64);
        w.address(&self.excess_to);
        w.raw(&self.signature);
        w.built(self.payload.encode());
    }

    fn get(op: u32, r: &mut Reader<'_>) -> Result<Self, AbiError> {
        let query_id = r.uint("query id", 64)?;
        let excess_to = r.address("excess receiver")?;
        let signature = r.bytes("signature")?;
        let payload = P::decode(&r.cell("signed payload")?)?;
        if payload.op() != op {
            return Err(AbiError::EnvelopeMismatch { field: "op" });
        }
        if payload.query_id() != query_id {
            return Err(AbiError::EnvelopeMismatch { field: "query id" });
        }
        Ok(Self {
            excess_to,
            signature,
            payload,
        })
    }
}
