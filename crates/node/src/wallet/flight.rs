//! The batch in flight: its signed externals, and what a transaction says about its messages.

use std::collections::VecDeque;
use std::time::Duration;

use cocoon_ton::abi::{AbiError, StateInit};
use cocoon_ton::wallet::{self, InternalMessage, SUBWALLET, Transfer, VALID_FOR_SECONDS};
use cocoon_ton::{MsgInfo, TxInfo};
use ed25519_dalek::SigningKey;

use super::WalletError;

/// Externals of one seqno that are remembered. They live an hour each and are signed anew at most every 22 s
/// (30 s less jitter) once the back-off has grown, so everything that can still be accepted is in here.
const MAX_VERSIONS: usize = 256;

/// Exit codes of the wallet contract for externals it does not accept.
pub(super) mod exit {
    pub(in crate::wallet) const EXPIRED: i32 = 1030;
    pub(in crate::wallet) const BLOCKED: i32 = 1031;
    pub(in crate::wallet) const SEQNO: i32 = 1032;
    pub(in crate::wallet) const SUBWALLET: i32 = 1033;
    pub(in crate::wallet) const KEY: i32 = 1034;
    pub(in crate::wallet) const POOR: i32 = 1035;
}

/// A message with the number under which its sender waits.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) id: u64,
    pub(super) message: InternalMessage,
}

/// One signed external.
#[derive(Clone, Copy, Debug)]
struct Version {
    body_hash: [u8; 32],
    /// Carries no message: it only uses up the seqno.
    empty: bool,
}

/// What an inbound external of the wallet means to the flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// Not ours.
    Foreign,
    /// One of our externals with the messages.
    Batch,
    /// One of our empty externals.
    Empty,
}

/// A batch that was signed for a seqno and waits for its transaction.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) seqno: u32,
    pub(super) tickets: Vec<Ticket>,
    /// All externals signed for this seqno; the contract accepts at most one of them.
    versions: VecDeque<Version>,
    /// The newest external.
    pub(super) boc: Vec<u8>,
    /// Transactions up to this logical time were looked at.
    pub(super) scanned_lt: u64,
    /// When to send, or to sign anew and send.
    pub(super) send_at: Duration,
    /// The newest external is spent: sign another one for the same seqno.
    pub(super) needs_sign: bool,
    /// From this time on the newest external has expired.
    pub(super) expires_at: Duration,
    /// Rejections in a row that say nothing curable.
    pub(super) rejections: u32,
    /// Set by a final rejection; holds until the account was read once more, because the rejected copy may only
    /// have come after an accepted one.
    pub(super) verdict: Option<WalletError>,
    /// A transaction with our messages failed without using up the seqno. Anybody could replay those bytes, so
    /// from now on only empty externals are signed, and the tickets fail with this when one got through.
    pub(super) cancelled: Option<WalletError>,
}

impl Flight {
    pub(super) fn new(seqno: u32, tickets: Vec<Ticket>, scanned_lt: u64) -> Self {
        Self {
            seqno,
            tickets,
            versions: VecDeque::new(),
            boc: Vec::new(),
            scanned_lt,
            send_at: Duration::ZERO,
            needs_sign: true,
            expires_at: Duration::ZERO,
            rejections: 0,
            verdict: None,
            cancelled: None,
        }
    }

    /// Signs the batch, or nothing if it was cancelled, for the flight's seqno.
    ///
    /// Signing the same batch again is safe: the seqno lets only one of all versions through.
    pub(super) fn sign(
        &mut self,
        now: Duration,
        chain_time: u32,
        key: &SigningKey,
        init: &StateInit,
    ) -> Result<(), AbiError> {
        let empty = self.cancelled.is_some();
        let batch = if empty { &[] } else { &self.tickets[..] };
        let messages = batch
            .iter()
            .map(|ticket| wallet::Outgoing::new(&ticket.message))
            .collect::<Result<_, _>>()?;
        let external = Transfer {
            subwallet: SUBWALLET,
            valid_until: chain_time.saturating_add(VALID_FOR_SECONDS),
            seqno: self.seqno,
            messages,
        }
        .sign(key)?
        .external(init.address, (self.seqno == 0).then_some(init))?;
        if self.versions.len() == MAX_VERSIONS {
            self.versions.pop_front();
        }
        self.versions.push_back(Version {
            body_hash: external.body_hash(),
            empty,
        });
        self.boc = external.to_boc();
        self.needs_sign = false;
        self.send_at = now;
        self.expires_at = now + Duration::from_secs(VALID_FOR_SECONDS.into());
        Ok(())
    }

    /// Whether a transaction was caused by one of the externals.
    pub(super) fn matches(&self, tx: &TxInfo) -> Match {
        let Some(inbound) = tx.in_msg.as_ref().filter(|m| m.src.is_none()) else {
            return Match::Foreign;
        };
        let hash = inbound.body.repr_hash().0;
        match self.versions.iter().find(|v| v.body_hash == hash) {
            None => Match::Foreign,
            Some(version) if version.empty => Match::Empty,
            Some(_) => Match::Batch,
        }
    }

    /// The outgoing message of each ticket, in order; `None` for one that the transaction left out.
    pub(super) fn carried<'a>(&self, out_msgs: &'a [MsgInfo]) -> Vec<Option<&'a MsgInfo>> {
        // Messages leave in the order of the batch, so what is left out shows as a gap.
        let mut rest = out_msgs;
        self.tickets
            .iter()
            .map(|ticket| {
                let place = rest.iter().position(|out| is_same(&ticket.message, out))?;
                let found = &rest[place];
                rest = &rest[place + 1..];
                Some(found)
            })
            .collect()
    }
}

/// Whether a message on the chain is ours. Its value is ours less the forward fee.
fn is_same(ours: &InternalMessage, out: &MsgInfo) -> bool {
    let body_hash = ours.body.clone().unwrap_or_default().repr_hash().0;
    out.dst == Some(ours.to)
        && out.value <= ours.value
        && out.bounce == ours.bounce
        && out.init == ours.init.is_some()
        && out.body.repr_hash().0 == body_hash
}
