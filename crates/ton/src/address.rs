//! TON addresses: the raw form `0:hex` and the 48-character form with a checksum.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tycho_types::cell::HashBytes;
use tycho_types::models::StdAddr;

/// Characters of the 48-character form: 36 bytes in base64.
pub const TEXT_CHARS: usize = 48;
/// Hexadecimal digits of the hash in the raw form.
pub const RAW_HASH_CHARS: usize = 64;
/// No text longer than this is looked at: a workchain of at most four characters, a colon and the hash.
pub const MAX_ADDRESS_CHARS: usize = 4 + 1 + RAW_HASH_CHARS;

const TAG_BOUNCEABLE: u8 = 0x11;
const TAG_NON_BOUNCEABLE: u8 = 0x51;
const TAG_TESTNET: u8 = 0x80;

/// A standard internal address: a workchain and the 256-bit account id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    /// 0 for every Cocoon contract, -1 for the masterchain.
    pub workchain: i8,
    /// Account id: the hash of the StateInit the account was created from.
    pub hash: [u8; 32],
}

/// An address with the flags its text carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParsedAddress {
    /// The address itself.
    pub address: Address,
    /// Whether a message to it should come back when the receiver fails. The raw form reads as bounceable.
    pub bounceable: bool,
    /// Whether the text may only be used on a test network. The raw form reads as false.
    pub testnet: bool,
}

/// Why a text is not an address. Every case is the writer's fault; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither the 48-character form nor the raw form.
    #[error(
        "an address has 48 characters (like EQ... or UQ...) or the raw form 0:<64 hex digits>; this text has {found} characters"
    )]
    Length {
        /// Characters found.
        found: usize,
    },
    /// A character outside base64 and base64url.
    #[error(
        "character {character:?} at position {position} cannot be part of an address: expected letters, digits, '-' and '_' ('+' and '/' in the older spelling)"
    )]
    Alphabet {
        /// The offending character.
        character: char,
        /// Its place, counted from 1.
        position: usize,
    },
    /// `-`/`_` and `+`/`/` in one text.
    #[error("the address mixes two alphabets: use either '-' and '_' or '+' and '/', not both")]
    MixedAlphabets,
    /// The last two bytes do not fit the rest.
    #[error(
        "checksum mismatch: the address has a typo (checksum {found:04x}, expected {expected:04x})"
    )]
    Checksum {
        /// Checksum computed from the first 34 bytes.
        expected: u16,
        /// Checksum in the text.
        found: u16,
    },
    /// An unknown first byte under a correct checksum.
    #[error(
        "unknown address kind 0x{found:02x}: expected 0x11 (bounceable) or 0x51 (non-bounceable), plus 0x80 for test networks"
    )]
    Tag {
        /// The first byte.
        found: u8,
    },
    /// A workchain that TON does not have.
    #[error("workchain {found} does not exist: expected 0, or -1 for the masterchain")]
    Workchain {
        /// The workchain as written.
        found: String,
    },
    /// The part after the colon of the raw form has another length than 64.
    #[error("the raw form is 0:<64 hex digits>; this text has {found} characters after the colon")]
    RawLength {
        /// Characters after the colon.
        found: usize,
    },
    /// A character that is no hexadecimal digit in the raw form.
    #[error("character {character:?} at position {position} is not a hexadecimal digit")]
    RawDigit {
        /// The offending character.
        character: char,
        /// Its place in the whole text, counted from 1.
        position: usize,
    },
}

impl Address {
    /// An address in the basechain, where every Cocoon contract lives.
    pub const fn basechain(hash: [u8; 32]) -> Self {
        Self { workchain: 0, hash }
    }

    /// Reads the 48-character form (base64 or base64url, with checksum) or the raw form `0:hex`.
    ///
    /// Whitespace around the text is an error, not trimmed: what was checked is what was written.
    pub fn parse(text: &str) -> Result<ParsedAddress, AddressError> {
        let found = text.chars().count();
        if found > MAX_ADDRESS_CHARS {
            return Err(AddressError::Length { found });
        }
        match text.split_once(':') {
            Some((workchain, hash)) => parse_raw(workchain, hash),
            None => parse_friendly(text, found),
        }
    }

    /// The 48-character base64url form.
    pub fn to_text(&self, bounceable: bool, testnet: bool) -> String {
        let mut tag = if bounceable {
            TAG_BOUNCEABLE
        } else {
            TAG_NON_BOUNCEABLE
        };
        if testnet {
            tag |= TAG_TESTNET;
        }
        let mut bytes = [0u8; 36];
        bytes[0] = tag;
        bytes[1] = self.workchain as u8;
        bytes[2..34].copy_from_slice(&self.hash);
        let crc = crc16(&bytes[..34]);
        bytes[34..].copy_from_slice(&crc.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn parse_friendly(text: &str, found: usize) -> Result<ParsedAddress, AddressError> {
    if found != TEXT_CHARS {
        return Err(AddressError::Length { found });
    }
    let (mut old, mut url) = (false, false);
    for (index, character) in text.chars().enumerate() {
        match character {
            '+' | '/' => old = true,
            '-' | '_' => url = true,
            c if c.is_ascii_alphanumeric() => {}
            _ => {
                return Err(AddressError::Alphabet {
                    character,
                    position: index + 1,
                });
            }
        }
    }
    if old && url {
        return Err(AddressError::MixedAlphabets);
    }
    let text = text.replace('+', "-").replace('/', "_");
    let mut bytes = [0u8; 36];
    let written = URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), &mut bytes);
    // 48 checked characters always give exactly 36 bytes; anything else would be a length problem.
    if written != Ok(bytes.len()) {
        return Err(AddressError::Length { found });
    }
    let expected = crc16(&bytes[..34]);
    let in_text = u16::from_be_bytes([bytes[34], bytes[35]]);
    if expected != in_text {
        return Err(AddressError::Checksum {
            expected,
            found: in_text,
        });
    }
    let testnet = bytes[0] & TAG_TESTNET != 0;
    let bounceable = match bytes[0] & !TAG_TESTNET {
        TAG_BOUNCEABLE => true,
        TAG_NON_BOUNCEABLE => false,
        _ => return Err(AddressError::Tag { found: bytes[0] }),
    };
    let workchain = bytes[1] as i8;
    if workchain != 0 && workchain != -1 {
        return Err(AddressError::Workchain {
            found: workchain.to_string(),
        });
    }
    let mut hash = [0u8; 32];
    hash.copy_from_slice(&bytes[2..34]);
    Ok(ParsedAddress {
        address: Address { workchain, hash },
        bounceable,
        testnet,
    })
}

fn parse_raw(workchain: &str, digits: &str) -> Result<ParsedAddress, AddressError> {
    let number = match workchain {
        "0" => 0,
        "-1" => -1,
        other => {
            return Err(AddressError::Workchain {
                found: other.to_owned(),
            });
        }
    };
    for (index, character) in digits.chars().enumerate() {
        if !character.is_ascii_hexdigit() {
            return Err(AddressError::RawDigit {
                character,
                position: workchain.len() + 1 + index + 1,
            });
        }
    }
    let mut hash = [0u8; 32];
    if hex::decode_to_slice(digits, &mut hash).is_err() {
        return Err(AddressError::RawLength {
            found: digits.len(),
        });
    }
    Ok(ParsedAddress {
        address: Address {
            workchain: number,
            hash,
        },
        bounceable: true,
        testnet: false,
    })
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0, no reflection.
fn crc16(data: &[u8]) -> u16 {
    let mut crc = 0u16;
    for &byte in data {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
        }
    }
    crc
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.workchain)?;
        for byte in self.hash {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).map(|parsed| parsed.address)
    }
}

impl From<Address> for StdAddr {
    fn from(address: Address) -> Self {
        StdAddr::new(address.workchain, HashBytes(address.hash))
    }
}

impl From<&StdAddr> for Address {
    /// Drops an anycast prefix, which no live address has.
    fn from(address: &StdAddr) -> Self {
        Self {
            workchain: address.workchain,
            hash: address.address.0,
        }
    }
}

impl From<StdAddr> for Address {
    fn from(address: StdAddr) -> Self {
        Self::from(&address)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
