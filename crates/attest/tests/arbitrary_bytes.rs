//! No bytes of a stranger panic a parser, and single changed bytes never pass for the original.

use cocoon_attest::certificate::{Presenter, verify};
use cocoon_attest::frame::PeerInfo;
use cocoon_attest::quote;
use cocoon_attest::{CertificateMode, Policy, PolicyRules, TlsIdentity};
use proptest::prelude::*;

const NOW: u64 = 1_764_547_200;

fn certificate() -> Vec<u8> {
    let identity =
        TlsIdentity::from_seed(&[3; 32], [5; 16], CertificateMode::FakeTdx, NOW).unwrap();
    identity.certificate_der().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn certificates(bytes in prop::collection::vec(any::<u8>(), 0..800), now in any::<u64>()) {
        let _ = verify(&bytes, Presenter::Server, now);
    }

    /// Every byte of a certificate is signed, part of the signature, or part of the only accepted wrapping.
    #[test]
    fn changed_certificates(at in 0usize..668, flip in 1u8.., now in any::<u64>()) {
        let mut bytes = certificate();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        prop_assert!(verify(&bytes, Presenter::Server, NOW).is_err(), "byte {at} ^ {flip:02x}");
        let _ = verify(&bytes, Presenter::Client, now);
    }

    #[test]
    fn cut_certificates(length in 0usize..668) {
        let bytes = certificate();
        prop_assert!(verify(&bytes[..length.min(bytes.len() - 1)], Presenter::Client, NOW).is_err());
    }

    #[test]
    fn frames(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        if let Ok(info) = PeerInfo::decode_body(&bytes) {
            prop_assert_eq!(PeerInfo::decode_body(&info.encode()[4..]).unwrap(), info);
        }
    }

    /// Random bytes rarely get past the first fields; this grows a plausible start.
    #[test]
    fn plausible_frames(head in 0u8..3, kind in 0u8..3, tail in prop::collection::vec(any::<u8>(), 0..700)) {
        let mut bytes = vec![head, 0, 0, 0, kind, 0, 0, 0];
        bytes.extend(tail);
        let _ = PeerInfo::decode_body(&bytes);
    }

    #[test]
    fn quotes(version in 0u8..7, tee in prop::sample::select(vec![0u8, 0x81, 1]), body_type in 0u8..6,
              size in prop::sample::select(vec![384u32, 584, 648, 885, 0, u32::MAX]),
              tail in prop::collection::vec(any::<u8>(), 0..1_000)) {
        let mut bytes = vec![0; 48];
        bytes[0] = version;
        bytes[4] = tee;
        bytes.extend([body_type, 0]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(tail);
        if let Ok(parsed) = quote::parse(&bytes) {
            prop_assert!(parsed.signed_len <= bytes.len());
        }
        let _ = Policy::Tdx(PolicyRules::default()).evaluate(Some(&bytes), &[1; 32]);
    }

    #[test]
    fn any_bytes_as_quote(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = quote::parse(&bytes);
        let _ = Policy::FakeTdx(PolicyRules::default()).evaluate(Some(&bytes), &[1; 32]);
    }
}

/// The same exhaustively for one bit of every byte: it is cheap enough.
#[test]
fn every_changed_bit_of_a_certificate_is_noticed() {
    let original = certificate();
    verify(&original, Presenter::Server, NOW).unwrap();
    for at in 0..original.len() {
        for bit in 0..8 {
            let mut changed = original.clone();
            changed[at] ^= 1 << bit;
            assert!(
                verify(&changed, Presenter::Server, NOW).is_err(),
                "byte {at} bit {bit}"
            );
        }
    }
}
