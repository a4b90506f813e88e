//! Turns a stream of tokens into a stream of text that never ends in half a character.

use crate::text::Text;

/// A character has at most four bytes, so at most four byte tokens; more pending tokens are not a character.
const MAX_PENDING: usize = 8;

/// Incremental detokeniser of one answer.
///
/// Decoding is not additive (leading spaces, multi-byte characters), so a new token is decoded together with the
/// last settled ones, and only what is new in the result is given out.
#[derive(Default)]
pub struct Detokenizer {
    ids: Vec<u32>,
    /// Start of the settled tokens that give context.
    context: usize,
    /// Start of the tokens whose text is not given out yet.
    pending: usize,
}

impl Detokenizer {
    /// Adds a token; returns the text that is certain now.
    pub fn push(&mut self, text: &Text, id: u32) -> String {
        self.ids.push(id);
        let (settled, all) = self.decode(text);
        if all.ends_with('\u{fffd}') && self.ids.len() - self.pending < MAX_PENDING {
            return String::new();
        }
        self.context = self.pending;
        self.pending = self.ids.len();
        all.get(settled.len()..).unwrap_or_default().to_owned()
    }

    /// What is still pending at the end; broken characters become U+FFFD.
    pub fn finish(&mut self, text: &Text) -> String {
        let (settled, all) = self.decode(text);
        self.pending = self.ids.len();
        self.context = self.pending;
        all.get(settled.len()..).unwrap_or_default().to_owned()
    }

    fn decode(&self, text: &Text) -> (String, String) {
        (
            text.decode(&self.ids[self.context..self.pending]),
            text.decode(&self.ids[self.context..]),
        )
    }
}
