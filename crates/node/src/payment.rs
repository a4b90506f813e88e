//! Signed payments as nodes handle them: made by proxies, checked and re-addressed by clients and workers
//! (contracts.md 11 and 14.5).

use cocoon_ton::abi::{AbiError, Envelope, SignatureError, SignedOp, SignedPayload};
use cocoon_ton::{Address, Cell};
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

/// Why a payment of a peer is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// Not an envelope.
    #[error("not a signed payment: {0}")]
    Form(#[from] AbiError),
    /// For another contract.
    #[error("the payment is for contract {found}, expected {expected}")]
    Target {
        /// In the payment.
        found: Address,
        /// Own contract.
        expected: Address,
    },
    /// Another operation.
    #[error("the payment carries another operation than a plain payout or charge")]
    Op,
    /// Signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Signs a total for a contract, as a ready message body in a BOC.
pub fn sign(
    key: &SigningKey,
    op: SignedOp,
    target: Address,
    tokens: u64,
    query_id: u64,
    excess_to: Address,
) -> Result<Vec<u8>, AbiError> {
    Envelope::sign(
        SignedPayload {
            op,
            query_id,
            tokens,
            target,
        },
        key,
        excess_to,
    )?
    .to_boc()
}

/// Checks a payment of a proxy: form, operation, contract, signature. Returns the total it proves.
pub fn check(
    boc: &[u8],
    op: SignedOp,
    target: Address,
    proxy_key: &[u8; 32],
) -> Result<u64, PaymentError> {
    let envelope: Envelope = Envelope::from_boc(boc)?;
    if envelope.payload.op != op {
        return Err(PaymentError::Op);
    }
    if envelope.payload.target != target {
        return Err(PaymentError::Target {
            found: envelope.payload.target,
            expected: target,
        });
    }
    envelope.verify(proxy_key)?;
    Ok(envelope.payload.tokens)
}

/// The message body of a payment with the leftover coins going to `excess_to`; signature and payload stay.
pub fn readdressed(boc: &[u8], excess_to: Address) -> Result<Cell, AbiError> {
    Envelope::<SignedPayload>::from_boc(boc)?
        .with_receiver(excess_to)
        .encode()
}

/// SHA-256 of a client's secret.
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// A hash from its hex form.
pub fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0u8; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_payment_counts() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let (sc, other) = (
            Address {
                workchain: 0,
                hash: [1; 32],
            },
            Address {
                workchain: 0,
                hash: [2; 32],
            },
        );
        let boc = sign(&key, SignedOp::WorkerPayout, sc, 55, 9, other).unwrap();
        assert_eq!(
            check(&boc, SignedOp::WorkerPayout, sc, &public).unwrap(),
            55
        );
        assert!(matches!(
            check(&boc, SignedOp::ClientCharge, sc, &public),
            Err(PaymentError::Op)
        ));
        assert!(matches!(
            check(&boc, SignedOp::WorkerPayout, other, &public),
            Err(PaymentError::Target { .. })
        ));
        let wrong = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        assert!(matches!(
            check(&boc, SignedOp::WorkerPayout, sc, &wrong),
            Err(PaymentError::Signature(_))
        ));
        let moved = cocoon_ton::boc::encode(&readdressed(&boc, sc).unwrap());
        assert_eq!(
            check(&moved, SignedOp::WorkerPayout, sc, &public).unwrap(),
            55
        );
        for i in 0..boc.len() {
            let mut bad = boc.clone();
            bad[i] ^= 1;
            if let Ok(t) = check(&bad, SignedOp::WorkerPayout, sc, &public) {
                assert_eq!(t, 55, "byte {i}");
            }
        }
    }
}
