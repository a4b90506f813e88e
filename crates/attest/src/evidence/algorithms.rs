//! Signature algorithms, borrowed from the one cryptographic library that is compiled in for TLS.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm, alg_id};

use crate::der::{element, tag, unsigned_integer};

/// ECDSA on P-256 with SHA-256: everything Intel signs.
#[must_use]
pub fn ecdsa_p256_sha256() -> &'static dyn SignatureVerificationAlgorithm {
    find(alg_id::ECDSA_P256, alg_id::ECDSA_SHA256)
}

/// ECDSA on P-384 with SHA-384: SNP reports and everything NVIDIA signs on a GPU.
#[must_use]
pub fn ecdsa_p384_sha384() -> &'static dyn SignatureVerificationAlgorithm {
    find(alg_id::ECDSA_P384, alg_id::ECDSA_SHA384)
}

/// RSA-PSS with SHA-384, MGF1 and salt of the same size: AMD's certificates.
#[must_use]
pub fn rsa_pss_sha384() -> &'static dyn SignatureVerificationAlgorithm {
    find(alg_id::RSA_ENCRYPTION, alg_id::RSA_PSS_SHA384)
}

/// RSA PKCS #1 1.5 with SHA-256 to SHA-512 is used by nobody here, hence not offered.
fn find(
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
) -> &'static dyn SignatureVerificationAlgorithm {
    let all = aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all;
    let found = all.iter().find(|algorithm| {
        algorithm.public_key_alg_id() == key && algorithm.signature_alg_id() == signature
    });
    // The set is a constant of the library, pinned to an exact version; `every_algorithm_exists` looks it up.
    *found.expect("the TLS provider has this algorithm")
}

/// `SEQUENCE { r INTEGER, s INTEGER }` from big-endian halves of equal length.
#[must_use]
pub fn ecdsa_der(r: &[u8], s: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, &[&unsigned_integer(r), &unsigned_integer(s)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_exists() {
        for algorithm in [ecdsa_p256_sha256(), ecdsa_p384_sha384(), rsa_pss_sha384()] {
            assert!(algorithm.verify_signature(&[4; 65], b"", &[]).is_err());
        }
    }

    #[test]
    fn signatures_in_der() {
        assert_eq!(
            ecdsa_der(&[0, 0x80], &[0, 1]),
            [0x30, 7, 2, 2, 0, 0x80, 2, 1, 1]
        );
    }
}
