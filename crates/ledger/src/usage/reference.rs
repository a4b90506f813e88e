//! The reference's treatment of a body (6.3): whole JSON values, written anew; everything else waits for the end.
//!
//! Kept to compare with reference workers. It differs from 6.3 in what cannot matter to a peer: a bare number at the
//! end does not crash it, time is linear, nesting beyond 128 levels counts as not JSON, what is held is bounded, and
//! floating point numbers come out in Rust's shortest form.

use serde_json::Value;

use super::{COST_MEMBERS, ModelUsage, Prices, costs};
use crate::canonical::to_canonical_json;

/// The most bytes held while no value completes; beyond it the body passes unread. Twice the largest frame.
pub const MAX_REFERENCE_HOLD: usize = 32 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    /// Between values.
    Between,
    /// In an object, array or string; `text` inside quotes.
    Nested {
        depth: u64,
        text: bool,
        escaped: bool,
    },
    Number,
    /// In a literal of so many bytes.
    Literal(usize),
    /// No value starts here; all further bytes wait for the end.
    Stuck,
    /// Too much was held; everything passes.
    Open,
}

#[derive(Debug)]
pub(super) struct ReferenceCounter {
    held: Vec<u8>,
    /// How far `held` was scanned.
    scanned: usize,
    /// Where the current value starts in `held`.
    start: usize,
    scan: Scan,
    pub(super) maxima: ModelUsage,
    pub(super) truncated_scan: bool,
}

impl ReferenceCounter {
    pub(super) fn new() -> Self {
        Self {
            held: Vec::new(),
            scanned: 0,
            start: 0,
            scan: Scan::Between,
            maxima: ModelUsage::default(),
            truncated_scan: false,
        }
    }

    pub(super) fn push(&mut self, piece: &[u8], prices: &Prices) -> Vec<u8> {
        if self.scan == Scan::Open {
            return piece.to_vec();
        }
        self.held.extend_from_slice(piece);
        let mut out = Vec::new();
        let mut consumed = 0;
        while self.scanned < self.held.len() && self.scan != Scan::Stuck {
            if let Some(end) = self.advance() {
                if !self.value(end, prices, &mut out) {
                    self.scan = Scan::Stuck;
                    break;
                }
                consumed = end;
                self.scanned = end;
                self.scan = Scan::Between;
            }
        }
        if consumed > 0 {
            self.held.drain(..consumed);
            self.scanned -= consumed;
            self.start = self.start.saturating_sub(consumed);
        }
        if self.held.len() > MAX_REFERENCE_HOLD {
            self.truncated_scan = true;
            self.scan = Scan::Open;
            out.append(&mut self.held);
        }
        out
    }

    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.scan = Scan::Open;
        std::mem::take(&mut self.held)
    }

    /// Looks at one byte; the end of a value that it completes.
    fn advance(&mut self) -> Option<usize> {
        let at = self.scanned;
        let byte = self.held[at];
        self.scanned += 1;
        match self.scan {
            Scan::Between => {
                self.start = at;
                self.scan = match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => Scan::Between,
                    b'{' | b'[' => Scan::Nested {
                        depth: 1,
                        text: false,
                        escaped: false,
                    },
                    b'"' => Scan::Nested {
                        depth: 0,
                        text: true,
                        escaped: false,
                    },
                    b'-' | b'0'..=b'9' => Scan::Number,
                    b't' | b'n' => Scan::Literal(4),
                    b'f' => Scan::Literal(5),
                    _ => Scan::Stuck,
                };
                None
            }
            Scan::Nested {
                depth,
                text: true,
                escaped,
            } => {
                let closes = byte == b'"' && !escaped;
                let escaped = byte == b'\\' && !escaped;
                self.scan = Scan::Nested {
                    depth,
                    text: !closes,
                    escaped,
                };
                (closes && depth == 0).then_some(at + 1)
            }
            Scan::Nested {
                depth, text: false, ..
            } => {
                let depth = match byte {
                    b'{' | b'[' => depth + 1,
                    b'}' | b']' => depth - 1,
                    _ => depth,
                };
                self.scan = Scan::Nested {
                    depth,
                    text: byte == b'"',
                    escaped: false,
                };
                (depth == 0).then_some(at + 1)
            }
            Scan::Number => {
                let ends = !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                ends.then_some(at)
            }
            Scan::Literal(length) => (at + 1 - self.start == length).then_some(at + 1),
            Scan::Stuck | Scan::Open => None,
        }
    }

    fn value(&mut self, end: usize, prices: &Prices, out: &mut Vec<u8>) -> bool {
        let Ok(mut value) = serde_json::from_slice::<Value>(&self.held[self.start..end]) else {
            return false;
        };
        if let Some(Value::Object(usage)) = value.get_mut("usage") {
            let seen = ModelUsage::from_json(&Value::Object(usage.clone()));
            if self.maxima.raise(&seen) {
                let values = costs(&self.maxima.adjusted(prices), prices.price_per_token);
                for (name, cost) in COST_MEMBERS.iter().zip(values) {
                    usage.insert((*name).to_owned(), Value::from(cost));
                }
            }
        }
        out.extend(to_canonical_json(&value));
        out.push(b'\n');
        true
    }
}
