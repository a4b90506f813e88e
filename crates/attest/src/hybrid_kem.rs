//! A key that messages are sealed to: X25519 and ML-KEM-768 together, so that whoever records them has to break both.
//!
//! Keys, ciphertexts and the combination of the two secrets have the layout of X-Wing (draft-connolly-cfrg-xwing-kem),
//! whose number in HPKE's registry is [`SUITE`]. The arithmetic is the TLS provider's. A secret key lives in memory only:
//! there is no way to write one out.

use std::fmt;

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{Context, SHA3_256};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use zeroize::Zeroizing;

/// HPKE's number of this key encapsulation.
pub const SUITE: u16 = 0x647a;
/// Bytes of a public key: ML-KEM-768, then X25519.
pub const PUBLIC_LEN: usize = ML_KEM_PUBLIC_LEN + X25519_LEN;
/// Bytes of an encapsulated secret: ML-KEM-768, then an X25519 key made for it.
pub const CIPHERTEXT_LEN: usize = ML_KEM_CIPHERTEXT_LEN + X25519_LEN;
/// Bytes of the secret that both sides get.
pub const SECRET_LEN: usize = 32;

const ML_KEM_PUBLIC_LEN: usize = 1_184;
const ML_KEM_CIPHERTEXT_LEN: usize = 1_088;
const X25519_LEN: usize = 32;
/// Modulus of ML-KEM.
const ML_KEM_Q: u16 = 3_329;
/// X-Wing's label: a small picture of an X-Wing.
const LABEL: &[u8; 6] = b"\\.//^\\";

/// What both sides know afterwards; erased when dropped.
pub type SharedSecret = Zeroizing<[u8; SECRET_LEN]>;

/// Why a key or a ciphertext cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KemError {
    /// Another length.
    #[error("{what} has {expected} bytes, {found} found")]
    Length {
        /// What was read.
        what: &'static str,
        /// Its length.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A public key that is no key of ML-KEM-768.
    #[error("the encryption key is no key of ML-KEM-768")]
    PublicKey,
    /// The cryptographic library refused: a point of low order, or no random numbers.
    #[error(
        "no shared secret: the X25519 key has a low order, or the system gave no random numbers"
    )]
    Agreement,
}

/// A key to seal to.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Box<[u8; PUBLIC_LEN]>);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = *self.0;
        write!(f, "PublicKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl PublicKey {
    /// Reads a key; its half of ML-KEM is checked.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KemError> {
        let key = <[u8; PUBLIC_LEN]>::try_from(bytes).map_err(|_| KemError::Length {
            what: "an encryption key",
            expected: PUBLIC_LEN,
            found: bytes.len(),
        })?;
        // FIPS 203, 7.2: the library checks this only when the key is used, and by then the sender of a bad key is gone.
        let in_range = key[..ML_KEM_PUBLIC_LEN - 32].chunks_exact(3).all(|three| {
            let [a, b, c] = *three else {
                return false;
            };
            let (a, b, c) = (u16::from(a), u16::from(b), u16::from(c));
            (a | ((b & 0xf) << 8)) < ML_KEM_Q && ((b >> 4) | (c << 4)) < ML_KEM_Q
        });
        if in_range {
            Ok(PublicKey(Box::new(key)))
        } else {
            Err(KemError::PublicKey)
        }
    }

    /// The key as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_LEN] {
        &self.0
    }

    /// Makes a secret that only the owner of the key can open: what to send, and the secret.
    pub fn encapsulate(&self) -> Result<([u8; CIPHERTEXT_LEN], SharedSecret), KemError> {
        let (lattice, curve) = self.0.split_at(ML_KEM_PUBLIC_LEN);
        let lattice =
            EncapsulationKey::new(&ML_KEM_768, lattice).map_err(|_| KemError::PublicKey)?;
        let (sealed, secret) = lattice.encapsulate().map_err(|_| KemError::Agreement)?;
        let own = agreement::PrivateKey::generate(&X25519).map_err(|_| KemError::Agreement)?;
        let own_public = own.compute_public_key().map_err(|_| KemError::Agreement)?;
        let curve_key = UnparsedPublicKey::new(&X25519, curve);
        let shared = agreement::agree(&own, curve_key, KemError::Agreement, |agreed| {
            Ok(combine(secret.as_ref(), agreed, own_public.as_ref(), curve))
        })?;
        let mut out = [0; CIPHERTEXT_LEN];
        let (first, second) = out.split_at_mut(ML_KEM_CIPHERTEXT_LEN);
        if sealed.as_ref().len() != first.len() || own_public.as_ref().len() != second.len() {
            return Err(KemError::Agreement);
        }
        first.copy_from_slice(sealed.as_ref());
        second.copy_from_slice(own_public.as_ref());
        Ok((out, shared))
    }
}

/// The other half of a [`PublicKey`].
pub struct SecretKey {
    lattice: DecapsulationKey,
    curve: agreement::PrivateKey,
    public: PublicKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {:?}", self.public)
    }
}

impl SecretKey {
    /// A new key.
    pub fn generate() -> Result<Self, KemError> {
        let failed = |_| KemError::Agreement;
        let lattice = DecapsulationKey::generate(&ML_KEM_768).map_err(failed)?;
        let curve = agreement::PrivateKey::generate(&X25519).map_err(failed)?;
        let mut public = Vec::with_capacity(PUBLIC_LEN);
        let encapsulation = lattice.encapsulation_key().map_err(failed)?;
        public.extend_from_slice(encapsulation.key_bytes().map_err(failed)?.as_ref());
        public.extend_from_slice(curve.compute_public_key().map_err(failed)?.as_ref());
        Ok(SecretKey {
            lattice,
            curve,
            public: PublicKey::from_bytes(&public)?,
        })
    }

    /// The key to give to others.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Opens what [`PublicKey::encapsulate`] made. A ciphertext that was changed or is for another key gives another
    /// secret, which is noticed by whatever is sealed with it.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<SharedSecret, KemError> {
        if ciphertext.len() != CIPHERTEXT_LEN {
            return Err(KemError::Length {
                what: "an encapsulated secret",
                expected: CIPHERTEXT_LEN,
                found: ciphertext.len(),
            });
        }
        let (sealed, theirs) = ciphertext.split_at(ML_KEM_CIPHERTEXT_LEN);
        let secret = self
            .lattice
            .decapsulate(Ciphertext::from(sealed))
            .map_err(|_| KemError::Agreement)?;
        let own_public = &self.public.0[ML_KEM_PUBLIC_LEN..];
        let curve_key = UnparsedPublicKey::new(&X25519, theirs);
        agreement::agree(&self.curve, curve_key, KemError::Agreement, |agreed| {
            Ok(combine(secret.as_ref(), agreed, theirs, own_public))
        })
    }
}

/// X-Wing's combination. The ciphertext of ML-KEM need not enter: that key encapsulation already binds it.
fn combine(
    lattice: &[u8],
    curve: &[u8],
    curve_ciphertext: &[u8],
    curve_key: &[u8],
) -> SharedSecret {
    let mut hash = Context::new(&SHA3_256);
    for part in [lattice, curve, curve_ciphertext, curve_key, LABEL] {
        hash.update(part);
    }
    let mut out = Zeroizing::new([0; SECRET_LEN]);
    out.copy_from_slice(hash.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_gets_the_secret() {
        let (owner, other) = (
            SecretKey::generate().unwrap(),
            SecretKey::generate().unwrap(),
        );
        let public = PublicKey::from_bytes(owner.public().as_bytes()).unwrap();
        let (sealed, secret) = public.encapsulate().unwrap();
        assert_eq!(owner.decapsulate(&sealed).unwrap(), secret);
        assert_ne!(other.decapsulate(&sealed).unwrap(), secret);
        let (again, second) = public.encapsulate().unwrap();
        assert_ne!(again, sealed);
        assert_ne!(second, secret);
    }

    /// Either half alone changes the secret: both are needed.
    #[test]
    fn a_changed_half_is_another_secret() {
        let owner = SecretKey::generate().unwrap();
        let (sealed, secret) = owner.public().encapsulate().unwrap();
        for at in [
            0,
            ML_KEM_CIPHERTEXT_LEN - 1,
            ML_KEM_CIPHERTEXT_LEN,
            CIPHERTEXT_LEN - 2,
        ] {
            let mut changed = sealed;
            changed[at] ^= 1;
            assert_ne!(owner.decapsulate(&changed).unwrap(), secret, "byte {at}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let owner = SecretKey::generate().unwrap();
        let good = owner.public().as_bytes();
        assert!(matches!(
            PublicKey::from_bytes(&good[1..]),
            Err(KemError::Length { found: 1_215, .. })
        ));
        // Coefficients of ML-KEM are below 3329; twelve bits of ones are not.
        let mut out_of_range = *good;
        out_of_range[1_149..1_152].fill(0xff);
        assert_eq!(
            PublicKey::from_bytes(&out_of_range),
            Err(KemError::PublicKey)
        );
        // A point of order 1 would give everybody the same half.
        let mut low_order = *good;
        low_order[ML_KEM_PUBLIC_LEN..].fill(0);
        let low_order = PublicKey::from_bytes(&low_order).unwrap();
        assert_eq!(low_order.encapsulate().unwrap_err(), KemError::Agreement);
        let (mut sealed, _) = owner.public().encapsulate().unwrap();
        sealed[ML_KEM_CIPHERTEXT_LEN..].fill(0);
        assert_eq!(owner.decapsulate(&sealed).unwrap_err(), KemError::Agreement);
        assert!(owner.decapsulate(&sealed[1..]).is_err());
    }

    /// The published order of the parts, hashed by another library.
    #[test]
    fn the_combination_is_x_wings() {
        let combined = combine(&[1; 32], &[2; 32], &[3; 32], &[4; 32]);
        let mut text = Vec::new();
        for byte in 1..=4u8 {
            text.extend([byte; 32]);
        }
        text.extend([0x5c, 0x2e, 0x2f, 0x2f, 0x5e, 0x5c]);
        // The value is Python's hashlib.sha3_256 of these bytes.
        assert_eq!(text.len(), 134);
        assert_eq!(
            hex::encode(*combined),
            "5c6bfaf8c3ec48ab3cee7c12129b39913b8a7fa1234115da7e1c55608ad19fb6"
        );
    }
}
