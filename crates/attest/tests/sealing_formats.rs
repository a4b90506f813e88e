//! The formats and derivations of the sealing protocol: every vector of the specification, and bytes of strangers.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_attest::evidence::collateral::TdxCollateral;
use cocoon_attest::evidence::sgx;
use cocoon_attest::evidence::tdx::TdxRoot;
use cocoon_attest::sealing::derive::{
    self, ExchangeKey, answer_report_data, persistent_key, request_report_data,
};
use cocoon_attest::sealing::enclave;
use cocoon_attest::sealing::message::{
    GetPersistentKey, MAX_PAYLOAD, PersistentKey, read_frame, write_frame,
};
use cocoon_attest::sealing::{self, ReportError, SealingError, TdReport};
use cocoon_attest::{KeyName, SecretKey};
use cocoon_softtee::SoftTdx;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/sealing.json")).unwrap()
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    hex::decode(value[key].as_str().unwrap_or_else(|| panic!("no {key}"))).unwrap()
}

fn array<const N: usize>(value: &Value, key: &str) -> [u8; N] {
    bytes(value, key).try_into().unwrap()
}

/// A report of nobody's machine: type, hashes and report data.
fn raw_report(report_data: &[u8; 64]) -> Vec<u8> {
    let seal = &vectors()["seal"];
    let mut report = vec![0; 1024];
    report[0] = 0x81;
    report[32..80].copy_from_slice(&bytes(seal, "tee_tcb_info_hash_hex"));
    report[80..128].copy_from_slice(&bytes(seal, "tee_info_hash_hex"));
    report[128..192].copy_from_slice(report_data);
    report
}

#[test]
fn the_worked_example_of_the_specification() {
    let all = vectors();
    let seal = &all["seal"];
    let domain = ExchangeKey::from_scalar(&array(seal, "client_private_be_hex")).unwrap();
    let helper = ExchangeKey::from_scalar(&array(seal, "enclave_private_be_hex")).unwrap();
    assert_eq!(domain.public()[..], bytes(seal, "client_public_le_hex"));
    assert_eq!(helper.public()[..], bytes(seal, "enclave_public_le_hex"));
    let data = request_report_data(domain.public());
    assert_eq!(data[..], bytes(seal, "tdx_report_data_hex"));
    let report = TdReport::parse(&raw_report(&data)).unwrap();
    let sealing_key = Zeroizing::new(array::<16>(seal, "sealing_key_hex"));
    let keys = seal["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3);
    for case in keys {
        let name = KeyName::new(case["key_name"].as_str().unwrap()).unwrap();
        let key = persistent_key(&sealing_key, &report, &name);
        assert_eq!(key.expose()[..], bytes(case, "persistent_key_hex"));
        assert_eq!(
            Sha256::digest(key.expose())[..],
            bytes(case, "persistent_key_sha256")
        );
        let encrypted = helper.seal(domain.public(), &key).unwrap();
        assert_eq!(encrypted[..], bytes(case, "encrypted_secret_hex"));
        assert_eq!(encrypted[64..], bytes(case, "ciphertext_hex"));
        let about = answer_report_data(domain.public(), &encrypted);
        assert_eq!(about[..], bytes(case, "sgx_report_data_hex"));
        assert_eq!(
            domain.open(&encrypted).unwrap().expose(),
            key.expose(),
            "the other side reads it"
        );
        let request = GetPersistentKey {
            report: report.clone(),
            public_key: *domain.public(),
            name,
        };
        let answer = enclave::answer(&request, &sealing_key, &helper, false).unwrap();
        assert_eq!((answer.encrypted, answer.report_data), (encrypted, about));
    }
}

#[test]
fn the_messages_of_the_specification() {
    let all = vectors();
    let seal = &all["seal"];
    let public_key = array(seal, "client_public_le_hex");
    let request = GetPersistentKey {
        report: TdReport::parse(&raw_report(&request_report_data(&public_key))).unwrap(),
        public_key,
        name: KeyName::disk_encryption(),
    };
    let payload = request.encode();
    let wanted = &seal["request"];
    assert_eq!(payload.len() as u64, wanted["length"].as_u64().unwrap());
    assert!(payload.starts_with(&bytes(wanted, "head_hex")));
    assert!(payload.ends_with(&bytes(wanted, "after_report_hex")));
    assert_eq!(Sha256::digest(&payload)[..], bytes(wanted, "sha256"));
    assert_eq!(GetPersistentKey::decode(&payload).unwrap(), request);
    let mut frame = Vec::new();
    write_frame(&mut frame, &payload).unwrap();
    assert!(frame.starts_with(&bytes(wanted, "frame_len_hex")));

    let frame = bytes(&seal["response"], "frame_hex");
    let payload = read_frame(&mut &frame[..]).unwrap();
    let answer = PersistentKey::decode(&payload).unwrap();
    assert_eq!(answer.sgx_quote, [0xab; 300]);
    let first = &seal["keys"][0];
    assert_eq!(answer.encrypted[..], bytes(first, "encrypted_secret_hex"));
    assert_eq!(answer.encode(), payload);
}

#[test]
fn constants_and_seeds_of_the_specification() {
    let all = vectors();
    let debug = &all["debug_mode_constant_key"];
    assert_eq!(sealing::DEBUG_KEY[..], bytes(debug, "hex"));
    assert_eq!(
        Sha256::digest(sealing::DEBUG_KEY)[..],
        bytes(debug, "sha256")
    );
    let key = sealing::debug_key(true).unwrap();
    assert!(sealing::is_public_constant(&key));
    assert!(matches!(
        sealing::debug_key(false),
        Err(SealingError::DebugKey)
    ));
    let public = SigningKey::from_bytes(key.expose()).verifying_key();
    assert_eq!(
        public.to_bytes()[..],
        bytes(debug, "ed25519_public_key_hex")
    );
    for case in all["int256_private_keys"].as_array().unwrap() {
        let seed: [u8; 32] = array(case, "seed_hex");
        let text = case["key_b64"].as_str().unwrap();
        assert_eq!(STANDARD.decode(text).unwrap(), seed);
        let public = SigningKey::from_bytes(&seed).verifying_key();
        assert_eq!(public.to_bytes()[..], bytes(case, "ed25519_public_key_hex"));
    }
}

#[test]
fn a_report_names_the_image_of_its_quote() {
    let case = &vectors()["td_report"];
    let raw = STANDARD
        .decode(case["report_b64"].as_str().unwrap())
        .unwrap();
    let report = TdReport::parse(&raw).unwrap();
    assert_eq!(
        report.measurements().image_hash()[..],
        bytes(case, "image_hash_hex")
    );
    assert_eq!(report.report_data(), report.measurements().report_data);
    assert!(report.measurements().mr_td != [0; 48] && report.attributes() & 1 == 0);
    assert_eq!(
        TdReport::parse(&raw[..1023]),
        Err(ReportError::Length(1023))
    );
    for (at, value) in [(0, 0), (1, 1), (2, 2), (3, 1)] {
        let mut wrong = raw.clone();
        wrong[at] = value;
        assert!(matches!(
            TdReport::parse(&wrong),
            Err(ReportError::Type { .. })
        ));
    }
    // Version and service domain belong together.
    let mut wrong = raw.clone();
    wrong[2] = 1;
    assert!(matches!(
        TdReport::parse(&wrong),
        Err(ReportError::Service { service: false, .. })
    ));
    wrong[912] = 7;
    assert_eq!(TdReport::parse(&wrong).unwrap().version(), 1);
    wrong[2] = 0;
    assert!(TdReport::parse(&wrong).is_err());
}

#[test]
fn frames_are_bounded() {
    let mut frame = ((MAX_PAYLOAD + 1) as u32).to_le_bytes().to_vec();
    frame.extend(vec![0; 8]);
    assert!(read_frame(&mut &frame[..]).is_err());
    assert!(read_frame(&mut &u32::MAX.to_le_bytes()[..]).is_err());
    assert!(read_frame(&mut &[5, 0, 0, 0, 1][..]).is_err());
    let mut out = Vec::new();
    assert!(write_frame(&mut out, &vec![0; MAX_PAYLOAD + 1]).is_err());
    assert!(out.is_empty());
    write_frame(&mut out, &vec![3; MAX_PAYLOAD]).unwrap();
    assert_eq!(read_frame(&mut &out[..]).unwrap(), vec![3; MAX_PAYLOAD]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_messages(data in prop::collection::vec(any::<u8>(), 0..1400)) {
        let _ = read_frame(&mut &data[..]);
        for id in [&[][..], &[0x1c, 0x82, 0x7a, 0x31], &[0x9a, 0x17, 0x3a, 0x16]] {
            let bytes = [id, &data].concat();
            if let Ok(message) = GetPersistentKey::decode(&bytes) {
                prop_assert_eq!(GetPersistentKey::decode(&message.encode()).unwrap(), message);
            }
            if let Ok(message) = PersistentKey::decode(&bytes) {
                prop_assert_eq!(PersistentKey::decode(&message.encode()).unwrap(), message);
            }
        }
        let _ = TdReport::parse(&data);
    }

    /// One changed byte of a request is another request or none.
    #[test]
    fn changed_requests(at in 0usize..1116, flip in 1u8..) {
        let public_key = [3; 64];
        let report = TdReport::parse(&raw_report(&request_report_data(&public_key))).unwrap();
        let request = GetPersistentKey { report, public_key, name: KeyName::disk_encryption() };
        let mut bytes = request.encode();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(other) = GetPersistentKey::decode(&bytes) {
            // Three bytes pad the public key: TL says nothing about them.
            prop_assert!(other != request || (1097..1100).contains(&at));
        }
    }

    /// Any point or none as the other side's key: an error, never a panic; the right one gives the secret back.
    #[test]
    fn any_bytes_as_a_sealed_key(point in prop::collection::vec(any::<u8>(), 64), secret in any::<[u8; 32]>()) {
        let domain = ExchangeKey::generate().unwrap();
        let mut encrypted = [0; derive::ENCRYPTED_LEN];
        encrypted[..64].copy_from_slice(&point);
        prop_assert!(domain.open(&encrypted).is_err(), "a random point is not on the curve");
        let helper = ExchangeKey::generate().unwrap();
        let key = SecretKey::new(Zeroizing::new(secret));
        let sealed = helper.seal(domain.public(), &key).unwrap();
        prop_assert_ne!(&sealed[64..], &secret[..]);
        let opened = domain.open(&sealed).unwrap();
        prop_assert_eq!(opened.expose(), &secret);
        let printed = format!("{opened:?} {domain:?}");
        prop_assert_eq!(printed, "SecretKey(..) ExchangeKey(..)");
    }

    #[test]
    fn any_bytes_as_an_enclaves_quote(mut data in prop::collection::vec(any::<u8>(), 0..1800), plausible in any::<bool>()) {
        if plausible && data.len() > 436 {
            data[..8].copy_from_slice(&[3, 0, 2, 0, 0, 0, 0, 0]);
            let rest = data.len() as u32 - 436;
            data[432..436].copy_from_slice(&rest.to_le_bytes());
        }
        let collateral = COLLATERAL.with(Clone::clone);
        prop_assert!(sgx::verify(&data, &collateral, 1_790_000_000, TdxRoot::INTEL).is_err());
    }
}

thread_local! {
    static COLLATERAL: Arc<TdxCollateral> = {
        let platform = SoftTdx::new(1_790_000_000);
        Arc::new(TdxCollateral::from_json(&platform.enclave_collateral()).unwrap())
    };
}
