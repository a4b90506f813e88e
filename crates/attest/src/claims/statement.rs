//! The encoding of a statement: typed, versioned, and strict, so that one meaning has one form.
//!
//! ```text
//! u16 version = 1 | fields | 64 bytes Ed25519 signature
//! field: u16 type | u16 length | value            all integers little-endian
//! ```
//!
//! Types ascend strictly. A type below [`OPTIONAL`] that is not known here refuses the statement; one from there on is
//! passed over. The signature is over [`CONTEXT`], version and fields.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::hybrid_kem::{self, PublicKey};

/// Edition of the encoding.
pub const VERSION: u16 = 1;
/// Largest statement; one with everything has some 1,700 bytes.
pub const MAX_STATEMENT_LEN: usize = 8_192;
/// Types from here on may be passed over by whoever does not know them.
pub const OPTIONAL: u16 = 0x8000;
/// What a statement's signature begins with, so that no other signature of the TLS key can be taken for one.
pub const CONTEXT: &[u8] = b"cocoon claims statement 1\0";
/// The same for the signature of a proxy's payment key.
pub const PAYMENT_CONTEXT: &[u8] = b"cocoon claims payment key 1\0";
/// Most encryption keys in a statement.
const MAX_KEYS: usize = 4;
const SIGNATURE_LEN: usize = 64;

mod field {
    pub const SIDE: u16 = 1;
    pub const KEY: u16 = 2;
    pub const PEER_KEY: u16 = 3;
    pub const BINDING: u16 = 4;
    pub const NONCE: u16 = 5;
    pub const TIME: u16 = 6;
    pub const ROLE: u16 = 7;
    pub const NETWORK: u16 = 8;
    pub const ROOT: u16 = 9;
    pub const PROTOCOL: u16 = 10;
    pub const ENCRYPTION: u16 = 11;
    pub const PAYMENT_KEY: u16 = 12;
    pub const GPU: u16 = 13;
}

/// Which end of the connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that connected.
    Dialler,
    /// The one that accepted.
    Acceptor,
}

impl Side {
    /// The other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Side::Dialler => Side::Acceptor,
            Side::Acceptor => Side::Dialler,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Dialler => "dialler",
            Side::Acceptor => "acceptor",
        })
    }
}

/// What a node is to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asks for computations.
    Client,
    /// Matches clients and workers.
    Proxy,
    /// Computes.
    Worker,
    /// Hands out keys.
    KeyManager,
}

impl Role {
    const ALL: [(u8, Role); 4] = [
        (1, Role::Client),
        (2, Role::Proxy),
        (3, Role::Worker),
        (4, Role::KeyManager),
    ];

    fn code(self) -> u8 {
        let found = Role::ALL.iter().find(|(_, role)| *role == self);
        found.map_or(0, |(code, _)| *code)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Client => "client",
            Role::Proxy => "proxy",
            Role::Worker => "worker",
            Role::KeyManager => "key manager",
        })
    }
}

/// A TON network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its global id: −239 mainnet, −3 testnet; 0 where there is no chain.
    pub global_id: i32,
    /// The root contract's test flag.
    pub is_test: bool,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_test { "test" } else { "production" };
        match self.global_id {
            0 => write!(f, "a {kind} network without a chain"),
            id => write!(f, "the {kind} network on TON {id}"),
        }
    }
}

/// Address of a root contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootContract {
    /// Workchain.
    pub workchain: i32,
    /// Account.
    pub hash: [u8; 32],
}

impl fmt::Display for RootContract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.workchain, hex::encode(self.hash))
    }
}

/// Versions of the node protocol (protocol.md 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolRange {
    /// Lowest.
    pub min: i32,
    /// Highest.
    pub max: i32,
}

/// What ties a statement to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The end that speaks.
    pub side: Side,
    /// TLS key of the one that speaks.
    pub key: [u8; 32],
    /// TLS key of the one that is spoken to.
    pub peer_key: [u8; 32],
    /// Exporter value of the connection.
    pub binding: [u8; 32],
    /// Nonce of the one that is spoken to.
    pub nonce: [u8; 32],
}

/// A proxy's payment key and its signature over the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentKey {
    /// The key.
    pub key: [u8; 32],
    /// Its signature.
    pub signature: [u8; 64],
}

impl PaymentKey {
    /// Proves to hold a payment key in a session.
    #[must_use]
    pub fn prove(key: &SigningKey, session: &Session) -> Self {
        PaymentKey {
            key: key.verifying_key().to_bytes(),
            signature: key.sign(&Self::message(session)).to_bytes(),
        }
    }

    /// Whether it was proved for this session.
    #[must_use]
    pub fn is_proved(&self, session: &Session) -> bool {
        verify(&self.key, &Self::message(session), &self.signature)
    }

    fn message(session: &Session) -> Vec<u8> {
        let Session {
            side,
            key,
            peer_key,
            binding,
            nonce,
        } = session;
        let side = [side_code(*side)];
        [PAYMENT_CONTEXT, &side, key, peer_key, binding, nonce].concat()
    }
}

/// What a node says about itself, once, on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The connection.
    pub session: Session,
    /// Clock of the speaker, Unix seconds.
    pub time: u64,
    /// What it is.
    pub role: Role,
    /// Its network.
    pub network: Network,
    /// Its root contract.
    pub root: RootContract,
    /// Protocol versions it speaks.
    pub protocol: ProtocolRange,
    /// Key that bodies are sealed to.
    pub encryption: Option<PublicKey>,
    /// Its payment key, of a proxy.
    pub payment_key: Option<PaymentKey>,
    /// SHA-256 of the GPU evidence that goes with the statement.
    pub gpu_digest: Option<[u8; 32]>,
}

/// Why a statement cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Too long, or too short to be one.
    #[error("a statement has up to {MAX_STATEMENT_LEN} bytes, {0} found")]
    Size(usize),
    /// Another edition.
    #[error("statement version {0}, {VERSION} expected")]
    Version(u16),
    /// It ends within a field.
    #[error("the statement is cut short")]
    Truncated,
    /// Out of order, or twice.
    #[error("field {found} after field {before}: fields ascend and occur once")]
    Order {
        /// The field.
        found: u16,
        /// The one before it.
        before: u16,
    },
    /// A field that must be understood and is not.
    #[error("field {0} is critical and not known here")]
    UnknownCritical(u16),
    /// A field of another length or value.
    #[error("field {0} has a length or value that it cannot have")]
    Field(u16),
    /// A field that must be there.
    #[error("field {0} is missing")]
    Missing(u16),
    /// The encryption key.
    #[error(transparent)]
    Key(#[from] hybrid_kem::KemError),
    /// Not signed by the key it names.
    #[error("the statement is not signed by the key it names")]
    Signature,
}

impl Statement {
    /// The statement, signed with the TLS key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let mut out = self.encode();
        let signature = key.sign(&[CONTEXT, &out].concat()).to_bytes();
        out.extend_from_slice(&signature);
        out
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Fields(VERSION.to_le_bytes().to_vec());
        out.put(field::SIDE, &[&[side_code(self.session.side)]]);
        out.put(field::KEY, &[&self.session.key]);
        out.put(field::PEER_KEY, &[&self.session.peer_key]);
        out.put(field::BINDING, &[&self.session.binding]);
        out.put(field::NONCE, &[&self.session.nonce]);
        out.put(field::TIME, &[&self.time.to_le_bytes()]);
        out.put(field::ROLE, &[&[self.role.code()]]);
        let test = [u8::from(self.network.is_test)];
        out.put(
            field::NETWORK,
            &[&self.network.global_id.to_le_bytes(), &test],
        );
        out.put(
            field::ROOT,
            &[&self.root.workchain.to_le_bytes(), &self.root.hash],
        );
        out.put(
            field::PROTOCOL,
            &[
                &self.protocol.min.to_le_bytes(),
                &self.protocol.max.to_le_bytes(),
            ],
        );
        if let Some(key) = &self.encryption {
            let length = hybrid_kem::PUBLIC_LEN as u16;
            out.put(
                field::ENCRYPTION,
                &[
                    &hybrid_kem::SUITE.to_le_bytes(),
                    &length.to_le_bytes(),
                    key.as_bytes(),
                ],
            );
        }
        if let Some(proof) = &self.payment_key {
            out.put(field::PAYMENT_KEY, &[&proof.key, &proof.signature]);
        }
        if let Some(digest) = &self.gpu_digest {
            out.put(field::GPU, &[digest]);
        }
        out.0
    }

    /// Reads a statement and checks that the key it names has signed it. Whose key that is, and whether the rest is
    /// true, is for [`super::judge`].
    pub fn open(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > MAX_STATEMENT_LEN || bytes.len() < 2 + SIGNATURE_LEN {
            return Err(StatementError::Size(bytes.len()));
        }
        let (signed, signature) = bytes.split_at(bytes.len() - SIGNATURE_LEN);
        let statement = Self::decode(signed)?;
        let signature = <[u8; SIGNATURE_LEN]>::try_from(signature)
            .map_err(|_| StatementError::Size(bytes.len()))?;
        let message = [CONTEXT, signed].concat();
        if verify(&statement.session.key, &message, &signature) {
            Ok(statement)
        } else {
            Err(StatementError::Signature)
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        let mut read = Reader::new(bytes)?;
        let session = Session {
            side: match read.need::<1>(field::SIDE)? {
                [0] => Side::Dialler,
                [1] => Side::Acceptor,
                _ => return Err(StatementError::Field(field::SIDE)),
            },
            key: read.need(field::KEY)?,
            peer_key: read.need(field::PEER_KEY)?,
            binding: read.need(field::BINDING)?,
            nonce: read.need(field::NONCE)?,
        };
        let time = u64::from_le_bytes(read.need(field::TIME)?);
        let [code] = read.need(field::ROLE)?;
        let role = Role::ALL.iter().find(|(known, _)| *known == code);
        let (_, role) = *role.ok_or(StatementError::Field(field::ROLE))?;
        let [a, b, c, d, test] = read.need(field::NETWORK)?;
        if test > 1 {
            return Err(StatementError::Field(field::NETWORK));
        }
        let network = Network {
            global_id: i32::from_le_bytes([a, b, c, d]),
            is_test: test == 1,
        };
        let root: [u8; 36] = read.need(field::ROOT)?;
        let (workchain, hash) = split(&root);
        let root = RootContract {
            workchain: i32::from_le_bytes(workchain),
            hash,
        };
        let versions: [u8; 8] = read.need(field::PROTOCOL)?;
        let (min, max) = split(&versions);
        let protocol = ProtocolRange {
            min: i32::from_le_bytes(min),
            max: i32::from_le_bytes(max),
        };
        if protocol.min > protocol.max {
            return Err(StatementError::Field(field::PROTOCOL));
        }
        let encryption = read.take(field::ENCRYPTION)?.map(keys).transpose()?;
        let payment_key = read.fixed::<96>(field::PAYMENT_KEY)?.map(|both| {
            let (key, signature) = split(&both);
            PaymentKey { key, signature }
        });
        let gpu_digest = read.fixed(field::GPU)?;
        read.end()?;
        Ok(Statement {
            session,
            time,
            role,
            network,
            root,
            protocol,
            encryption: encryption.flatten(),
            payment_key,
            gpu_digest,
        })
    }
}

fn side_code(side: Side) -> u8 {
    match side {
        Side::Dialler => 0,
        Side::Acceptor => 1,
    }
}

/// Two arrays that fill a third one.
fn split<const A: usize, const B: usize, const AB: usize>(bytes: &[u8; AB]) -> ([u8; A], [u8; B]) {
    const { assert!(A + B == AB) };
    let (mut a, mut b) = ([0; A], [0; B]);
    a.copy_from_slice(&bytes[..A]);
    b.copy_from_slice(&bytes[A..]);
    (a, b)
}

fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
        .is_ok()
}

/// The key of the suite known here, from a list of up to [`MAX_KEYS`] with ascending numbers; a node that knows more
/// suites offers them side by side.
fn keys(mut list: &[u8]) -> Result<Option<PublicKey>, StatementError> {
    let bad = StatementError::Field(field::ENCRYPTION);
    let (mut known, mut before, mut count) = (None, None, 0);
    while !list.is_empty() {
        let [a, b, c, d, rest @ ..] = list else {
            return Err(bad);
        };
        let suite = u16::from_le_bytes([*a, *b]);
        let length = usize::from(u16::from_le_bytes([*c, *d]));
        let (key, after) = rest.split_at_checked(length).ok_or(bad.clone())?;
        count += 1;
        if before.is_some_and(|before| before >= suite) || count > MAX_KEYS {
            return Err(bad);
        }
        if suite == hybrid_kem::SUITE {
            known = Some(PublicKey::from_bytes(key)?);
        }
        (before, list) = (Some(suite), after);
    }
    if count == 0 {
        return Err(bad);
    }
    Ok(known)
}

struct Fields(Vec<u8>);

impl Fields {
    fn put(&mut self, kind: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.0.extend_from_slice(&kind.to_le_bytes());
        // The longest value is an encryption key of 1,220 bytes.
        self.0.extend_from_slice(&(length as u16).to_le_bytes());
        for part in parts {
            self.0.extend_from_slice(part);
        }
    }
}

/// Takes fields in ascending order; what is between two that are asked for must be optional.
struct Reader<'a> {
    rest: &'a [u8],
    before: u16,
    next: Option<(u16, &'a [u8])>,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, StatementError> {
        let [a, b, rest @ ..] = bytes else {
            return Err(StatementError::Truncated);
        };
        let version = u16::from_le_bytes([*a, *b]);
        if version != VERSION {
            return Err(StatementError::Version(version));
        }
        let mut reader = Reader {
            rest,
            before: 0,
            next: None,
        };
        reader.advance()?;
        Ok(reader)
    }

    fn advance(&mut self) -> Result<(), StatementError> {
        self.next = None;
        let [a, b, c, d, rest @ ..] = self.rest else {
            return if self.rest.is_empty() {
                Ok(())
            } else {
                Err(StatementError::Truncated)
            };
        };
        let kind = u16::from_le_bytes([*a, *b]);
        let length = usize::from(u16::from_le_bytes([*c, *d]));
        let (value, rest) = rest
            .split_at_checked(length)
            .ok_or(StatementError::Truncated)?;
        if kind <= self.before {
            return Err(StatementError::Order {
                found: kind,
                before: self.before,
            });
        }
        (self.before, self.rest) = (kind, rest);
        self.next = Some((kind, value));
        Ok(())
    }

    /// The field of this type, if it comes now.
    fn take(&mut self, kind: u16) -> Result<Option<&'a [u8]>, StatementError> {
        match self.next {
            Some((found, value)) if found == kind => {
                self.advance()?;
                Ok(Some(value))
            }
            Some((found, _)) if found < kind => Err(StatementError::UnknownCritical(found)),
            _ => Ok(None),
        }
    }

    fn fixed<const N: usize>(&mut self, kind: u16) -> Result<Option<[u8; N]>, StatementError> {
        let value = self.take(kind)?;
        value
            .map(|value| value.try_into().map_err(|_| StatementError::Field(kind)))
            .transpose()
    }

    fn need<const N: usize>(&mut self, kind: u16) -> Result<[u8; N], StatementError> {
        self.fixed(kind)?.ok_or(StatementError::Missing(kind))
    }

    /// What is left may only be optional.
    fn end(mut self) -> Result<(), StatementError> {
        while let Some((kind, _)) = self.next {
            if kind < OPTIONAL {
                return Err(StatementError::UnknownCritical(kind));
            }
            self.advance()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
