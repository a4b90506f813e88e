//! The node wallet: signed transfers, the external messages that carry them, and when to use which mode
//! (contracts.md, sections 10 and 14.2).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use tycho_types::cell::Cell;

use crate::abi::{AbiError, Reader, SignatureError, StateInit, Writer};
use crate::address::Address;
use crate::amount::NANO_PER_TON;
use crate::boc;

/// Messages in one external message: a cell has four references.
pub const MAX_MESSAGES: usize = 4;
/// The only subwallet id in use.
pub const SUBWALLET: u32 = 0;
/// A node waits at start-up, and stops sending, below this balance in nanoTON. The contract itself
/// accepts no external message below 2 TON.
pub const MIN_BALANCE: u128 = 2 * NANO_PER_TON + NANO_PER_TON / 10;
/// A node warns its operator below this balance in nanoTON.
pub const LOW_BALANCE: u128 = 5 * NANO_PER_TON;
/// Kept back for fees of one external message, in nanoTON.
pub const FEE_RESERVE: u128 = NANO_PER_TON / 10;
/// Coins that leave with one external message at most, in nanoTON.
pub const MAX_COINS: u128 = 1000 * NANO_PER_TON;
/// Seconds an external message stays valid.
pub const VALID_FOR_SECONDS: u32 = 3600;
/// The same bytes are sent again after this many seconds.
pub const RESEND_SECONDS: u32 = 30;
/// A message of this value is only a notice to the node that reads the receiver's transactions.
pub const NOTICE_VALUE: u128 = 1;

/// The fees come out of the value.
const MODE_FEES_FROM_VALUE: u8 = 0;
/// The wallet pays the fees in addition.
const MODE_FEES_EXTRA: u8 = 1;

/// The send mode for a value: fees from the value, unless it is a mere notice.
pub const fn mode_for(value: u128) -> u8 {
    if value > NOTICE_VALUE {
        MODE_FEES_FROM_VALUE
    } else {
        MODE_FEES_EXTRA
    }
}

/// How many messages of a queue the next external message takes, given their values in order.
///
/// Four at most, in order, and as long as their coins and [`FEE_RESERVE`] stay within the balance and
/// [`MAX_COINS`]. 0 means: wait for coins ([`MIN_BALANCE`]), or the first message alone is too large.
pub fn batch_size(values: impl IntoIterator<Item = u128>, balance: u128) -> usize {
    if balance < MIN_BALANCE {
        return 0;
    }
    let limit = MAX_COINS.min(balance);
    let mut sum = FEE_RESERVE;
    let mut count = 0;
    for value in values.into_iter().take(MAX_MESSAGES) {
        sum = match sum.checked_add(value) {
            Some(sum) if sum <= limit => sum,
            _ => break,
        };
        count += 1;
    }
    count
}

/// An internal message as a wallet sends it; source, time and fees are filled in by the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalMessage {
    /// Receiver.
    pub to: Address,
    /// Coins in nanoTON.
    pub value: u128,
    /// Whether it should come back if the receiver fails.
    pub bounce: bool,
    /// StateInit cell of a contract to deploy.
    pub init: Option<Cell>,
    /// Body; none means an empty body.
    pub body: Option<Cell>,
}

impl InternalMessage {
    /// A call: bounceable, body in a reference.
    pub fn call(to: Address, value: u128, body: Cell) -> Self {
        Self {
            to,
            value,
            bounce: true,
            init: None,
            body: Some(body),
        }
    }

    /// A deployment: not bounceable, StateInit in a reference, no body.
    pub fn deploy(init: &StateInit, value: u128) -> Self {
        Self {
            to: init.address,
            value,
            bounce: false,
            init: Some(init.cell.clone()),
            body: None,
        }
    }

    /// The message cell.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("internal message");
        // Internal, no instant routing, bounce flag, not bounced, no source yet.
        w.uint(if self.bounce { 0b011000 } else { 0b010000 }, 6);
        w.address(&self.to);
        w.coins("value", self.value);
        // No extra currencies, two fees of zero, logical time and time: 1 + 4 + 4 + 64 + 32 bits.
        w.zeros(105);
        put_init_and_body(&mut w, self.init.as_ref(), self.body.as_ref());
        w.finish()
    }

    /// Reads a message in the form of [`InternalMessage::encode`]; StateInit and body in references.
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "internal message")?;
        let bounce = match r.uint("flags", 6)? {
            0b011000 => true,
            0b010000 => false,
            found => {
                return Err(AbiError::Value {
                    field: "message flags",
                    found: found.into(),
                    expected: "0x18 (bounceable) or 0x10 (not bounceable)",
                });
            }
        };
        let to = r.address("receiver")?;
        let value = r.coins("value")?;
        for (field, bits) in [("currencies and fees", 9), ("time", 64), ("time", 32)] {
            expect_zero(&mut r, field, bits)?;
        }
        let (init, body) = get_init_and_body(&mut r)?;
        Ok(Self {
            to,
            value,
            bounce,
            init,
            body,
        })
    }
}

fn put_init_and_body(w: &mut Writer, init: Option<&Cell>, body: Option<&Cell>) {
    w.bit(init.is_some());
    if let Some(init) = init {
        w.bit(true);
        w.cell(init.clone());
    }
    w.maybe_cell(body);
}

fn get_init_and_body(r: &mut Reader<'_>) -> Result<(Option<Cell>, Option<Cell>), AbiError> {
    let mut init = None;
    if r.bit("StateInit flag")? {
        if !r.bit("StateInit place")? {
            return Err(AbiError::Value {
                field: "StateInit place",
                found: 0,
                expected: "1: a StateInit in a reference",
            });
        }
        init = Some(r.cell("StateInit")?);
    }
    let body = r.maybe_cell("body")?;
    r.end()?;
    Ok((init, body))
}

fn expect_zero(r: &mut Reader<'_>, field: &'static str, bits: u16) -> Result<(), AbiError> {
    match r.uint(field, bits)? {
        0 => Ok(()),
        found => Err(AbiError::Value {
            field,
            found: found.into(),
            expected: "zeros",
        }),
    }
}

/// One message of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Send mode.
    pub mode: u8,
    /// Message cell.
    pub message: Cell,
}

impl Outgoing {
    /// A message with the mode that its value asks for.
    pub fn new(message: &InternalMessage) -> Result<Self, AbiError> {
        Ok(Self {
            mode: mode_for(message.value),
            message: message.encode()?,
        })
    }
}

/// Up to four messages that the wallet sends in one transaction; zero are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Subwallet id, 0.
    pub subwallet: u32,
    /// Unix time in seconds up to which the contract accepts it.
    pub valid_until: u32,
    /// The wallet's current seqno.
    pub seqno: u32,
    /// The messages, in order.
    pub messages: Vec<Outgoing>,
}

impl Transfer {
    /// The cell that is signed.
    pub fn signed_part(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("wallet transfer");
        self.put(&mut w);
        w.finish()
    }

    fn put(&self, w: &mut Writer) {
        if self.messages.len() > MAX_MESSAGES {
            w.fail(AbiError::TooManyEntries {
                field: "messages",
                limit: MAX_MESSAGES,
            });
            return;
        }
        w.uint(self.subwallet.into(), 32);
        w.uint(self.valid_until.into(), 32);
        w.uint(self.seqno.into(), 32);
        for outgoing in &self.messages {
            w.uint(outgoing.mode.into(), 8);
            w.cell(outgoing.message.clone());
        }
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, AbiError> {
        let subwallet = r.uint("subwallet", 32)? as u32;
        let valid_until = r.uint("valid until", 32)? as u32;
        let seqno = r.uint("seqno", 32)? as u32;
        let mut messages = Vec::new();
        while r.refs_left() > 0 {
            messages.push(Outgoing {
                mode: r.uint("mode", 8)? as u8,
                message: r.cell("message")?,
            });
        }
        r.end()?;
        Ok(Self {
            subwallet,
            valid_until,
            seqno,
            messages,
        })
    }

    /// Signs the transfer.
    pub fn sign(self, key: &SigningKey) -> Result<SignedTransfer, AbiError> {
        let hash = *self.signed_part()?.repr_hash();
        Ok(SignedTransfer {
            signature: key.sign(hash.as_slice()).to_bytes(),
            transfer: self,
        })
    }
}

/// A transfer with its signature: the body of an external message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransfer {
    /// Ed25519 signature over the hash of the signed part.
    pub signature: [u8; 64],
    /// What was signed.
    pub transfer: Transfer,
}

impl SignedTransfer {
    /// The body cell. Its hash tells a wallet transaction that came from this transfer.
    pub fn encode(&self) -> Result<Cell, AbiError> {
        let mut w = Writer::new("signed wallet transfer");
        w.raw(&self.signature);
        self.transfer.put(&mut w);
        w.finish()
    }

    /// Reads a body cell. Does not check the signature.
    pub fn decode(body: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(body, "signed wallet transfer")?;
        let signature = r.bytes("signature")?;
        let transfer = Transfer::get(&mut r)?;
        Ok(Self {
            signature,
            transfer,
        })
    }

    /// Checks the signature.
    pub fn verify(&self, public_key: &[u8; 32]) -> Result<(), SignatureError> {
        let hash = *self.transfer.signed_part()?.repr_hash();
        VerifyingKey::from_bytes(public_key)
            .map_err(|_| SignatureError::BadKey)?
            .verify_strict(hash.as_slice(), &Signature::from_bytes(&self.signature))
            .map_err(|_| SignatureError::BadSignature)
    }

    /// The external message to a wallet. `init` while the wallet's seqno is 0, so that it deploys itself.
    pub fn external(
        &self,
        wallet: Address,
        init: Option<&StateInit>,
    ) -> Result<External, AbiError> {
        External::new(wallet, init.map(|init| init.cell.clone()), self.encode()?)
    }
}

/// An external message ready to be sent, and sent again with the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Receiver.
    pub to: Address,
    /// StateInit cell, if the contract is to be deployed.
    pub init: Option<Cell>,
    /// Body.
    pub body: Cell,
    /// The message cell.
    pub cell: Cell,
}

impl External {
    /// Builds a message; StateInit and body go into references.
    pub fn new(to: Address, init: Option<Cell>, body: Cell) -> Result<Self, AbiError> {
        let mut w = Writer::new("external message");
        // External inbound, no source.
        w.uint(0b1000, 4);
        w.address(&to);
        w.coins("import fee", 0);
        put_init_and_body(&mut w, init.as_ref(), Some(&body));
        Ok(Self {
            to,
            init,
            body,
            cell: w.finish()?,
        })
    }

    /// The bytes to send.
    pub fn to_boc(&self) -> Vec<u8> {
        boc::encode(&self.cell)
    }

    /// Hash of the body: the transaction that has it in its inbound message confirms this one.
    pub fn body_hash(&self) -> [u8; 32] {
        self.body.repr_hash().0
    }

    /// Reads an external message in the form of [`External::new`].
    pub fn decode(cell: &Cell) -> Result<Self, AbiError> {
        let mut r = Reader::new(cell, "external message")?;
        let found = r.uint("flags", 4)?;
        if found != 0b1000 {
            return Err(AbiError::Value {
                field: "message flags",
                found: found.into(),
                expected: "8 (external inbound, no source)",
            });
        }
        let to = r.address("receiver")?;
        // The network ignores the fee; anything but zero would not be rebuilt to the same cell.
        expect_zero(&mut r, "import fee", 4)?;
        let (init, body) = get_init_and_body(&mut r)?;
        Self::new(to, init, body.unwrap_or_default())
    }

    /// Reads the bytes of an external message.
    pub fn from_boc(bytes: &[u8]) -> Result<Self, AbiError> {
        Self::decode(&boc::decode(bytes, boc::MESSAGE)?)
    }
}
