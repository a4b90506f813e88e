//! TON mnemonics: 24 words that hold an Ed25519 key.
//!
//! The words are joined by spaces and keyed through HMAC-SHA-512; PBKDF2 with the salt "TON default seed" gives the
//! key. A second, shorter PBKDF2 serves as a checksum of eight bits: one random word list in 256 passes.
//!
//! The word list in `data/bip39-english.txt` is the public BIP-39 English list, taken as data from the Apache-2.0
//! licensed crate `bip0039` 0.14.2.

use std::fmt;
use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use hmac::{Hmac, Mac};
use sha2::Sha512;
use zeroize::{Zeroize, Zeroizing};

/// Words in a mnemonic.
pub const WORDS: usize = 24;
/// No text longer than this is looked at: 24 words of at most 8 letters fit several times over.
const MAX_TEXT_BYTES: usize = 4096;
/// A word in an error message is cut here; the longest word of the list has 8 letters.
const MAX_SHOWN_CHARS: usize = 24;
/// Rounds from the words to the key.
const SEED_ROUNDS: u32 = 100_000;
/// Rounds of the checksum: 100,000 / 256, rounded down.
const VERSION_ROUNDS: u32 = 390;

const LIST_TEXT: &str = include_str!("../data/bip39-english.txt");
static LIST: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| LIST_TEXT.split_ascii_whitespace().collect());

/// 24 words that hold a key. Wiped from memory when dropped; `Debug` shows nothing of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Mnemonic {
    /// Places in the word list, which is sorted.
    indices: [u16; WORDS],
}

/// Why a text is not a TON mnemonic. The whole phrase is never part of a message, a single misspelt word is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MnemonicError {
    /// Another number of words than 24.
    #[error("a TON mnemonic has 24 words; this one has {found}")]
    Count {
        /// Words found.
        found: usize,
    },
    /// Far too long to be 24 words.
    #[error("this text is too long to be a mnemonic of 24 words")]
    TooLong,
    /// A word outside the list.
    #[error(
        "word {position} of 24, {word:?}, is not in the list of mnemonic words; the nearest is {nearest:?}"
    )]
    UnknownWord {
        /// The word as written, in lower case.
        word: String,
        /// Its place, counted from 1.
        position: usize,
        /// The word of the list with the fewest letters to change.
        nearest: &'static str,
    },
    /// A mnemonic of TON that is protected by a password.
    #[error(
        "this mnemonic is protected by a password, which is not supported: move the coins to a wallet without one"
    )]
    PasswordProtected,
    /// Known words whose checksum is wrong.
    #[error(
        "all 24 words are known, but together they are no TON mnemonic: a word was exchanged, the order is wrong, or it belongs to another blockchain"
    )]
    Checksum,
}

impl Mnemonic {
    /// Derives a mnemonic from 32 secret random bytes. The same bytes give the same mnemonic.
    ///
    /// Candidates are drawn until one passes the checksum, 256 of them on average.
    pub fn new(entropy: &[u8; 32]) -> Self {
        let mut counter = 0u64;
        loop {
            let candidate = Self::candidate(entropy, counter);
            let keyed = candidate.keyed();
            if is_basic(&keyed) && !is_password_marker(&keyed) {
                return candidate;
            }
            counter = counter.wrapping_add(1);
        }
    }

    fn candidate(entropy: &[u8; 32], counter: u64) -> Self {
        let mut message = Zeroizing::new(b"Cocoon mnemonic".to_vec());
        message.extend_from_slice(&counter.to_be_bytes());
        let stream = hmac_sha512(entropy, &message);
        let mut indices = [0u16; WORDS];
        // 64 bytes are 32 numbers of 16 bits; 2^16 is a multiple of 2048, so the remainder is not biased.
        for (index, pair) in indices.iter_mut().zip(stream.as_chunks::<2>().0) {
            *index = u16::from_be_bytes(*pair) % 2048;
        }
        Self { indices }
    }

    /// Reads 24 words, separated by any whitespace, in any case.
    pub fn parse(text: &str) -> Result<Self, MnemonicError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(MnemonicError::TooLong);
        }
        let text = Zeroizing::new(text.to_lowercase());
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != WORDS {
            return Err(MnemonicError::Count { found: words.len() });
        }
        let mut mnemonic = Self {
            indices: [0; WORDS],
        };
        for (place, word) in words.iter().enumerate() {
            let Ok(index) = LIST.binary_search(word) else {
                return Err(MnemonicError::UnknownWord {
                    word: word.chars().take(MAX_SHOWN_CHARS).collect(),
                    position: place + 1,
                    nearest: nearest_word(word),
                });
            };
            mnemonic.indices[place] = index as u16;
        }
        let keyed = mnemonic.keyed();
        if is_basic(&keyed) {
            Ok(mnemonic)
        } else if is_password_marker(&keyed) {
            Err(MnemonicError::PasswordProtected)
        } else {
            Err(MnemonicError::Checksum)
        }
    }

    /// The words, separated by single spaces. Wiped when dropped; do not log it.
    pub fn phrase(&self) -> Zeroizing<String> {
        // Reserved at once: a growing string would leave copies behind.
        let mut phrase = Zeroizing::new(String::with_capacity(WORDS * 9));
        for (place, index) in self.indices.iter().enumerate() {
            if place > 0 {
                phrase.push(' ');
            }
            phrase.push_str(LIST[usize::from(*index) % LIST.len()]);
        }
        phrase
    }

    /// The Ed25519 key of the mnemonic. Takes about a tenth of a second.
    pub fn to_keypair(&self) -> SigningKey {
        let mut seed = Zeroizing::new([0u8; 32]);
        let keyed = self.keyed();
        pbkdf2::pbkdf2_hmac::<Sha512>(&*keyed, b"TON default seed", SEED_ROUNDS, &mut *seed);
        SigningKey::from_bytes(&seed)
    }

    fn keyed(&self) -> Zeroizing<[u8; 64]> {
        // The message would be the password, which is empty.
        hmac_sha512(self.phrase().as_bytes(), b"")
    }
}

/// The checksum of mnemonics without a password.
fn is_basic(keyed: &[u8; 64]) -> bool {
    first_byte(keyed, b"TON seed version", VERSION_ROUNDS) == 0
}

/// The checksum of mnemonics that need a password.
fn is_password_marker(keyed: &[u8; 64]) -> bool {
    first_byte(keyed, b"TON fast seed version", 1) == 1
}

fn first_byte(keyed: &[u8; 64], salt: &[u8], rounds: u32) -> u8 {
    let mut out = Zeroizing::new([0u8; 64]);
    pbkdf2::pbkdf2_hmac::<Sha512>(keyed, salt, rounds, &mut *out);
    out[0]
}

fn hmac_sha512(key: &[u8], message: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut out = Zeroizing::new([0u8; 64]);
    // A fallback here would be a predictable key, so a failure that cannot happen must not pass in silence.
    let mut mac =
        <Hmac<Sha512> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    out.copy_from_slice(&mac.finalize().into_bytes());
    out
}

/// The word of the list with the smallest edit distance; of several, the one that begins alike.
fn nearest_word(word: &str) -> &'static str {
    let letters: Vec<char> = word.chars().take(MAX_SHOWN_CHARS).collect();
    let rank = |candidate: &&'static str| {
        let other: Vec<char> = candidate.chars().collect();
        let alike = letters
            .iter()
            .zip(&other)
            .take_while(|(a, b)| a == b)
            .count();
        (edit_distance(&letters, &other), usize::MAX - alike)
    };
    LIST.iter().copied().min_by_key(rank).unwrap_or("")
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

impl Drop for Mnemonic {
    fn drop(&mut self) {
        self.indices.zeroize();
    }
}

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mnemonic(<redacted>)")
    }
}
