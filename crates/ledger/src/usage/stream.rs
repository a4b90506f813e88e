//! The streaming counter: every byte leaves at once, except the `usage` object, which waits for its end.
//!
//! Three layouts are read without being told which one it is: a JSON document, JSON values one after the other, and
//! server-sent events whose `data` is JSON. What is none of these passes unread. Output does not depend on how the
//! body was cut into pieces, because nothing looks further than one byte.

use serde_json::Value;

use super::scanner::{Scanner, Step};
use super::{COST_MEMBERS, ModelUsage, Prices, costs};
use crate::canonical::to_canonical_json;

/// The most bytes held back while a `usage` object is incomplete. A real one is below 1 KiB; beyond this limit the
/// object passes without costs and unread.
pub const MAX_HOLD: usize = 64 * 1024;

const DATA_FIELD: &[u8] = b"data:";

/// Where in a line the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At a line's start, with so many bytes of `data:` seen.
    LineStart(usize),
    /// In a line that is of no interest.
    Skip,
    /// Inside a JSON value that stands by itself.
    Json,
    /// After the `data:` of an event.
    Data,
}

/// What is known of the current event's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Fresh,
    Json,
    Ignored,
}

#[derive(Debug)]
struct Held {
    /// The bytes as they stood in the body, field names of an event included.
    raw: Vec<u8>,
    /// The bytes of the JSON value alone.
    json: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct StreamCounter {
    place: Place,
    event: Event,
    scanner: Option<Scanner>,
    held: Option<Held>,
    after_cr: bool,
    pub(super) maxima: ModelUsage,
    pub(super) delivered_chunks: u64,
    /// Pieces that went by since the server last reported its output.
    pub(super) unreported_chunks: u64,
    /// The value being read has reported the output, pieces in it included wherever they stand.
    output_reported: bool,
    pub(super) truncated_scan: bool,
}

impl StreamCounter {
    pub(super) fn new() -> Self {
        Self {
            place: Place::LineStart(0),
            event: Event::Fresh,
            scanner: None,
            held: None,
            after_cr: false,
            maxima: ModelUsage::default(),
            delivered_chunks: 0,
            unreported_chunks: 0,
            output_reported: false,
            truncated_scan: false,
        }
    }

    pub(super) fn push(&mut self, piece: &[u8], prices: &Prices) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() + 128);
        for &byte in piece {
            self.feed(byte, prices, &mut out);
        }
        out
    }

    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.abandon(&mut out);
        out
    }

    fn feed(&mut self, byte: u8, prices: &Prices, out: &mut Vec<u8>) {
        let end_of_line = matches!(byte, b'\r' | b'\n');
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        let second_half = after_cr && byte == b'\n';
        match self.place {
            Place::Json => self.scan(byte, prices, out),
            Place::Data if !end_of_line => self.data_byte(byte, prices, out),
            _ if second_half => self.emit(byte, out),
            Place::Data => {
                if self.scanner.is_some() {
                    // Lines of data are joined by a line feed.
                    self.scan(byte, prices, out);
                } else {
                    self.emit(byte, out);
                }
                self.place = Place::LineStart(0);
            }
            Place::LineStart(0) if end_of_line => {
                // A blank line ends an event, whatever was still open in it.
                self.abandon(out);
                self.event = Event::Fresh;
                self.emit(byte, out);
            }
            Place::LineStart(_) | Place::Skip if end_of_line => {
                self.place = Place::LineStart(0);
                self.emit(byte, out);
            }
            Place::LineStart(matched) => self.line_start(byte, matched, prices, out),
            Place::Skip => self.emit(byte, out),
        }
    }

    fn line_start(&mut self, byte: u8, matched: usize, prices: &Prices, out: &mut Vec<u8>) {
        if DATA_FIELD.get(matched) == Some(&byte) {
            let matched = matched + 1;
            self.place = if matched == DATA_FIELD.len() {
                Place::Data
            } else {
                Place::LineStart(matched)
            };
            return self.emit(byte, out);
        }
        if matched == 0 {
            match byte {
                // White space, or a byte order mark.
                b' ' | b'\t' | 0xef | 0xbb | 0xbf => return self.emit(byte, out),
                b'{' | b'[' if self.event == Event::Fresh => {
                    self.scanner = Some(Scanner::new());
                    self.place = Place::Json;
                    return self.scan(byte, prices, out);
                }
                _ => {}
            }
        }
        self.place = Place::Skip;
        self.emit(byte, out);
    }

    fn data_byte(&mut self, byte: u8, prices: &Prices, out: &mut Vec<u8>) {
        match (self.event, byte) {
            (Event::Fresh, b'{' | b'[') => {
                self.event = Event::Json;
                self.scanner = Some(Scanner::new());
                self.scan(byte, prices, out);
            }
            (Event::Fresh, b' ' | b'\t') | (Event::Ignored, _) => self.emit(byte, out),
            (Event::Fresh, _) => {
                self.event = Event::Ignored;
                self.emit(byte, out);
            }
            (Event::Json, _) => self.scan(byte, prices, out),
        }
    }

    /// Gives a byte of JSON to the scanner, then lets it go or holds it.
    fn scan(&mut self, byte: u8, prices: &Prices, out: &mut Vec<u8>) {
        let step = self
            .scanner
            .as_mut()
            .map_or(Step::Invalid, |scanner| scanner.step(byte));
        if step == Step::UsageStart {
            self.held = Some(Held {
                raw: Vec::new(),
                json: Vec::new(),
            });
        }
        if let Some(held) = &mut self.held {
            held.json.push(byte);
        }
        self.emit(byte, out);
        match step {
            Step::More | Step::UsageStart => {}
            Step::Content => {
                self.delivered_chunks = self.delivered_chunks.saturating_add(1);
                if !self.output_reported {
                    self.unreported_chunks = self.unreported_chunks.saturating_add(1);
                }
            }
            Step::UsageEnd => self.usage_complete(prices, out),
            Step::Done => {
                self.scanner = None;
                self.value_over(Place::LineStart(0));
            }
            Step::Invalid | Step::TooDeep => {
                self.truncated_scan |= step == Step::TooDeep;
                self.abandon(out);
                let at_line_end = matches!(byte, b'\r' | b'\n');
                self.value_over(if at_line_end {
                    Place::LineStart(0)
                } else {
                    Place::Skip
                });
            }
        }
    }

    /// Where to go on after a value: for a value by itself to `next`, in an event to the rest of its data.
    fn value_over(&mut self, next: Place) {
        self.output_reported = false;
        if self.place == Place::Json {
            self.place = next;
        } else {
            self.event = Event::Ignored;
        }
    }

    fn usage_complete(&mut self, prices: &Prices, out: &mut Vec<u8>) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        let Ok(Value::Object(mut usage)) = serde_json::from_slice::<Value>(&held.json) else {
            out.append(&mut held.raw);
            return;
        };
        let had_costs = COST_MEMBERS.iter().any(|name| usage.contains_key(*name));
        let usage_value = Value::Object(std::mem::take(&mut usage));
        let reported = ModelUsage::from_json(&usage_value);
        // A server that repeats an old figure, or a zero from before the first word, has not counted what came since.
        if reported.completion > self.maxima.completion {
            self.unreported_chunks = 0;
            self.output_reported = true;
        }
        if !self.maxima.raise(&reported) {
            out.append(&mut held.raw);
            return;
        }
        let values = costs(&self.maxima.adjusted(prices), prices.price_per_token);
        if had_costs && held.raw == held.json {
            // The server's own figures of these names are replaced; that needs the object written anew. (In an
            // object spread over several lines of an event ours are appended instead: the last one counts.)
            out.extend(with_costs(usage_value, values));
            return;
        }
        // The last byte is the closing brace, and the object is not empty as it raised a maximum.
        held.raw.pop();
        out.append(&mut held.raw);
        for (name, value) in COST_MEMBERS.iter().zip(values) {
            out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        }
        out.push(b'}');
    }

    fn emit(&mut self, byte: u8, out: &mut Vec<u8>) {
        let Some(held) = &mut self.held else {
            out.push(byte);
            return;
        };
        held.raw.push(byte);
        if held.raw.len() > MAX_HOLD {
            self.truncated_scan = true;
            out.append(&mut held.raw);
            self.held = None;
        }
    }

    fn abandon(&mut self, out: &mut Vec<u8>) {
        self.scanner = None;
        self.output_reported = false;
        if let Some(mut held) = self.held.take() {
            out.append(&mut held.raw);
        }
    }
}

fn with_costs(mut usage: Value, values: [u64; 3]) -> Vec<u8> {
    if let Value::Object(members) = &mut usage {
        for (name, value) in COST_MEMBERS.iter().zip(values) {
            members.insert((*name).to_owned(), Value::from(value));
        }
    }
    to_canonical_json(&usage)
}
