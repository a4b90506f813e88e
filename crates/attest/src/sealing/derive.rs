//! The arithmetic of the sealing protocol (spec 7.1 and 7.2).

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use aws_lc_rs::iv::FixedLength;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::report::TdReport;
use crate::keys::{KeyName, SecretKey};

/// Bytes of a public key on the wire: X and Y, little-endian each.
pub const PUBLIC_LEN: usize = 64;
/// Bytes of an encrypted key: the sender's public key and the ciphertext.
pub const ENCRYPTED_LEN: usize = 96;

/// Arithmetic that failed. What exactly is not said: it depends on what the other side sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// No key could be made.
    #[error("no key for this exchange could be made")]
    Generate,
    /// The other side's point.
    #[error("the other side's public key is no point of the curve P-256")]
    Point,
    /// The cipher.
    #[error("the cipher failed")]
    Cipher,
}

/// A P-256 key for one exchange.
pub struct ExchangeKey {
    private: PrivateKey,
    public: [u8; PUBLIC_LEN],
}

impl fmt::Debug for ExchangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExchangeKey(..)")
    }
}

impl ExchangeKey {
    /// A new one.
    pub fn generate() -> Result<Self, DeriveError> {
        Self::of(PrivateKey::generate(&ECDH_P256).map_err(|_| DeriveError::Generate)?)
    }

    /// From a big-endian scalar, to reproduce recorded exchanges.
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<Self, DeriveError> {
        let key = PrivateKey::from_private_key(&ECDH_P256, scalar);
        Self::of(key.map_err(|_| DeriveError::Generate)?)
    }

    fn of(private: PrivateKey) -> Result<Self, DeriveError> {
        let point = private
            .compute_public_key()
            .map_err(|_| DeriveError::Generate)?;
        let point: &[u8; 65] = point
            .as_ref()
            .try_into()
            .map_err(|_| DeriveError::Generate)?;
        let mut public = [0; PUBLIC_LEN];
        public.copy_from_slice(&point[1..]);
        swap_coordinates(&mut public);
        Ok(ExchangeKey { private, public })
    }

    /// The point on the wire.
    #[must_use]
    pub fn public(&self) -> &[u8; PUBLIC_LEN] {
        &self.public
    }

    /// AES key and first counter block agreed with the other side: SHA-256 of the little-endian X coordinate.
    fn agree(&self, theirs: &[u8; PUBLIC_LEN]) -> Result<Zeroizing<[u8; 32]>, DeriveError> {
        let mut coordinates = *theirs;
        swap_coordinates(&mut coordinates);
        let mut point = [4; PUBLIC_LEN + 1];
        point[1..].copy_from_slice(&coordinates);
        let theirs = UnparsedPublicKey::new(&ECDH_P256, point);
        agreement::agree(&self.private, theirs, DeriveError::Point, |x| {
            let mut z = Zeroizing::new([0u8; 32]);
            if x.len() != z.len() {
                return Err(DeriveError::Point);
            }
            z.copy_from_slice(x);
            z.reverse();
            let mut hash = Sha256::digest(z.as_slice());
            let key = Zeroizing::new(hash.into());
            hash.as_mut_slice().zeroize();
            Ok(key)
        })
    }

    /// Encrypts a key for the other side (the helper's step 6 and 7).
    pub fn seal(
        &self,
        theirs: &[u8; PUBLIC_LEN],
        key: &SecretKey,
    ) -> Result<[u8; ENCRYPTED_LEN], DeriveError> {
        let agreed = self.agree(theirs)?;
        let (key_bytes, counter) = halves(&agreed);
        let cipher = UnboundCipherKey::new(&AES_128, key_bytes)
            .and_then(EncryptingKey::ctr)
            .map_err(|_| DeriveError::Cipher)?;
        let mut out = [0; ENCRYPTED_LEN];
        out[..PUBLIC_LEN].copy_from_slice(&self.public);
        out[PUBLIC_LEN..].copy_from_slice(key.expose());
        let context = EncryptionContext::Iv128(FixedLength::from(counter));
        if cipher
            .less_safe_encrypt(&mut out[PUBLIC_LEN..], context)
            .is_err()
        {
            out.zeroize();
            return Err(DeriveError::Cipher);
        }
        Ok(out)
    }

    /// Decrypts a key from the other side (the domain's last step).
    pub fn open(&self, encrypted: &[u8; ENCRYPTED_LEN]) -> Result<SecretKey, DeriveError> {
        let (theirs, ciphertext) = encrypted
            .split_first_chunk::<PUBLIC_LEN>()
            .ok_or(DeriveError::Point)?;
        let agreed = self.agree(theirs)?;
        let (key_bytes, counter) = halves(&agreed);
        let cipher = UnboundCipherKey::new(&AES_128, key_bytes)
            .and_then(DecryptingKey::ctr)
            .map_err(|_| DeriveError::Cipher)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(ciphertext);
        let context = DecryptionContext::Iv128(FixedLength::from(counter));
        cipher
            .decrypt(&mut key[..], context)
            .map_err(|_| DeriveError::Cipher)?;
        Ok(SecretKey::new(key))
    }
}

/// AES key and counter block.
fn halves(agreed: &[u8; 32]) -> (&[u8], &[u8; 16]) {
    let (key, counter) = agreed.split_at(16);
    (key, counter.first_chunk().unwrap_or(&[0; 16]))
}

/// Big-endian to little-endian and back.
fn swap_coordinates(point: &mut [u8; PUBLIC_LEN]) {
    point[..32].reverse();
    point[32..].reverse();
}

/// What the domain's report must carry: the hash of its key of this exchange, and zeros.
#[must_use]
pub fn request_report_data(public: &[u8; PUBLIC_LEN]) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&Sha256::digest(public));
    out
}

/// What the helper's quote must carry: the hashes of the domain's key of this exchange and of the answer.
#[must_use]
pub fn answer_report_data(public: &[u8; PUBLIC_LEN], encrypted: &[u8; ENCRYPTED_LEN]) -> [u8; 64] {
    let mut out = request_report_data(public);
    out[32..].copy_from_slice(&Sha256::digest(encrypted));
    out
}

/// The key itself. Note the order: the domain's hash first, the module's second.
#[must_use]
pub fn persistent_key(
    sealing_key: &Zeroizing<[u8; 16]>,
    report: &TdReport,
    name: &KeyName,
) -> SecretKey {
    let mut hash = Sha256::new()
        .chain_update(sealing_key.as_slice())
        .chain_update(report.tee_info_hash())
        .chain_update(report.tee_tcb_info_hash())
        .chain_update(Sha256::digest(name.as_bytes()))
        .finalize();
    let key = SecretKey::new(Zeroizing::new(hash.into()));
    hash.as_mut_slice().zeroize();
    key
}
