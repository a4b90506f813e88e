//! A model's tokenizer, shared by all requests, with what streaming and log-probabilities need to know of it.

use crate::error::{EngineError, read_file};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tokenizers::{DecoderWrapper, Tokenizer};

/// The largest published tokenizers are about 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 128 << 20;

/// Text to tokens and back.
pub struct Text {
    tokenizer: Tokenizer,
    special: HashSet<u32>,
    byte_level: bool,
    bytes_of: HashMap<char, u8>,
}

impl Text {
    /// Loads `tokenizer.json` of a model directory and checks that its ids fit `vocab_size`.
    pub fn load(dir: &Path, vocab_size: usize) -> Result<Self, EngineError> {
        let path = dir.join("tokenizer.json");
        let bytes = read_file(
            &path,
            MAX_TOKENIZER_BYTES,
            "the model's tokenizer (Hugging Face `tokenizers` JSON)",
        )?;
        let tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| {
            EngineError::invalid(
                &path,
                format!("expected Hugging Face `tokenizers` JSON: {e}"),
            )
        })?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= vocab_size {
            let problem = format!(
                "it has token id {largest}; expected ids below the model's vocab_size {vocab_size}"
            );
            return Err(EngineError::invalid(&path, problem));
        }
        Ok(Self::new(tokenizer))
    }

    /// Wraps a tokenizer.
    pub fn new(tokenizer: Tokenizer) -> Self {
        let special = tokenizer
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| *id)
            .collect();
        let byte_level = match tokenizer.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => true,
            // Wrapped in a sequence in some files; the JSON form shows it without matching every nesting.
            Some(other) => {
                serde_json::to_string(other).is_ok_and(|json| json.contains("\"ByteLevel\""))
            }
            None => false,
        };
        Self {
            tokenizer,
            special,
            byte_level,
            bytes_of: byte_alphabet(),
        }
    }

    /// The tokenizer itself.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens of `text`; special tokens written in it are recognised. `add_special` adds what the tokenizer puts
    /// around a bare text, such as a beginning-of-sequence token.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        let encoding = self
            .tokenizer
            .encode_fast(text, add_special)
            .map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of tokens, without special ones. Incomplete UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        // Unknown ids decode to nothing, so this fails only where a decoder is broken.
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }

    /// Whether a token is markup, not text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The bytes that a token stands for.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.tokenizer.id_to_token(id) else {
            return Vec::new();
        };
        if self.special.contains(&id) {
            return token.into_bytes();
        }
        if self.byte_level {
            let bytes: Option<Vec<u8>> = token
                .chars()
                .map(|c| self.bytes_of.get(&c).copied())
                .collect();
            return bytes.unwrap_or_else(|| token.into_bytes());
        }
        // SentencePiece style: `<0x0A>` is a byte, `▁` a space.
        if let Some(byte) = token
            .strip_prefix("<0x")
            .and_then(|t| t.strip_suffix('>'))
            .and_then(|t| u8::from_str_radix(t, 16).ok())
        {
            return vec![byte];
        }
        token.replace('\u{2581}', " ").into_bytes()
    }
}

/// Byte-level BPE writes each byte as a printable character: itself where printable, else one from U+0100 on.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100u32;
    (0..=255u8)
        .map(|b| {
            let code = if printable(b) {
                u32::from(b)
            } else {
                next += 1;
                next - 1
            };
            (char::from_u32(code).unwrap_or(' '), b)
        })
        .collect()
}
