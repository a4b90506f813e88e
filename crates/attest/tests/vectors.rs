//! Every vector of the specification that concerns this crate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_attest::certificate::{Presenter, verify};
use cocoon_attest::frame::PeerInfo;
use cocoon_attest::measurements::{
    Measurements, Register, SgxMeasurements, TdxMeasurements, model_hash,
};
use cocoon_attest::policy::{INTEL_ROOT_HASH, PolicyRefusal};
use cocoon_attest::pow::{self, Challenge};
use cocoon_attest::profile::{CertificateParams, report_data};
use cocoon_attest::quote::{QuoteBody, parse};
use cocoon_attest::{CertificateMode, Policy, PolicyRules, TlsIdentity, socks5};
use ed25519_dalek::SigningKey;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha384};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn load(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn vectors() -> Value {
    load(include_str!("vectors/attestation.json"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}"))
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(value, key)).unwrap()
}

fn array<const N: usize>(value: &Value, key: &str) -> [u8; N] {
    bytes(value, key).try_into().unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = value[key].as_array().unwrap();
    assert!(!list.is_empty(), "{key} has no cases");
    list
}

#[test]
fn user_claims_to_report_data() {
    for case in list(&vectors(), "user_claims_to_report_data") {
        let seed: [u8; 32] = array(case, "ed25519_seed_hex");
        let identity =
            TlsIdentity::from_seed(&seed, [1; 16], CertificateMode::FakeTdx, 1_764_547_200)
                .unwrap();
        assert_eq!(identity.public_key(), array(case, "public_key_hex"));
        assert_eq!(
            report_data(&identity.public_key()),
            array(case, "report_data_hex")
        );
        let cert = verify(identity.certificate_der(), Presenter::Server, 1_764_547_200).unwrap();
        assert_eq!(cert.quote.unwrap(), bytes(case, "fake_quote_hex"));
        assert_eq!(*identity.key_pem(), text(case, "key_pem"));
        // The reference's PEM reads back to the same identity.
        let again = TlsIdentity::from_pem(&identity.certificate_pem(), text(case, "key_pem"));
        assert_eq!(again.unwrap().certificate_der(), identity.certificate_der());
    }
}

#[test]
fn image_hashes() {
    for case in list(&vectors(), "image_hash_tdx") {
        let preimage: [u8; 448] = array(case, "preimage_hex");
        let mut measurements = TdxMeasurements::from_bytes(&preimage);
        assert_eq!(measurements.mr_td, array::<48>(case, "mr_td"));
        measurements.report_data = [9; 64]; // must not matter
        assert_eq!(measurements.image_hash(), array(case, "image_hash_hex"));
    }
    for case in list(&vectors(), "image_hash_sgx") {
        let measurements = SgxMeasurements {
            mr_enclave: array(case, "mr_enclave"),
            report_data: [9; 64],
        };
        assert_eq!(measurements.image_hash(), array(case, "image_hash_hex"));
    }
}

#[test]
fn models() {
    for case in list(&vectors(), "model_hash") {
        assert_eq!(model_hash(text(case, "model")), array(case, "sha256"));
    }
}

#[test]
fn real_quote() {
    let vectors = vectors();
    let case = &vectors["real_tdx_quote"];
    let raw = STANDARD.decode(text(case, "quote_b64")).unwrap();
    let quote = parse(&raw).unwrap();
    let fields = &case["fields"];
    assert_eq!(
        u64::from(quote.version),
        fields["version"].as_u64().unwrap()
    );
    assert_eq!(
        quote.signed_len as u64,
        fields["signed_len"].as_u64().unwrap()
    );
    let QuoteBody::Tdx(body) = quote.body else {
        panic!("not a TDX quote")
    };
    assert_eq!(body.tee_tcb_svn, array(fields, "tee_tcb_svn"));
    assert_eq!(body.mr_seam, array::<48>(fields, "mr_seam"));
    assert_eq!(body.mr_signer_seam, array::<48>(fields, "mr_signer_seam"));
    assert_eq!(
        body.seam_attributes.to_le_bytes(),
        array(fields, "seam_attributes")
    );
    assert_eq!(
        body.td_attributes.to_le_bytes(),
        array(fields, "td_attributes")
    );
    assert_eq!(body.xfam.to_le_bytes(), array(fields, "xfam"));
    let m = &body.measurements;
    let registers: [(&Register, &str); 8] = [
        (&m.mr_td, "mr_td"),
        (&m.mr_config_id, "mr_config_id"),
        (&m.mr_owner, "mr_owner"),
        (&m.mr_owner_config, "mr_owner_config"),
        (&m.rtmr[0], "rtmr0"),
        (&m.rtmr[1], "rtmr1"),
        (&m.rtmr[2], "rtmr2"),
        (&m.rtmr[3], "rtmr3"),
    ];
    for (register, name) in registers {
        assert_eq!(register, &array::<48>(fields, name), "{name}");
    }
    assert_eq!(m.report_data, array(fields, "report_data"));
    assert_eq!(m.image_hash(), array(case, "image_hash_hex"));
    assert!(parse(&raw[..631]).is_err(), "one byte of the body missing");
}

#[test]
fn intel_root() {
    let vectors = vectors();
    let case = &vectors["collateral_root_hash"];
    assert_eq!(INTEL_ROOT_HASH, array::<48>(case, "intel_sgx_root_ca"));
    assert_eq!(
        Sha384::digest(bytes(case, "root_public_point_hex"))[..],
        INTEL_ROOT_HASH
    );
}

#[test]
fn certificates_are_reproduced_byte_for_byte() {
    let vectors = vectors();
    let fixture = &vectors["real_tdx_quote"];
    let real_quote = STANDARD.decode(text(fixture, "quote_b64")).unwrap();
    for case in list(&vectors, "certificates") {
        let der = STANDARD.decode(text(case, "der_b64")).unwrap();
        assert_eq!(Sha256::digest(&der)[..], bytes(case, "der_sha256"));
        let mode = text(case, "mode");
        let key = SigningKey::from_bytes(&array(case, "ed25519_seed_hex"));
        let public = key.verifying_key().to_bytes();
        let now = case["not_before"].as_u64().unwrap();
        let fake = report_data(&public);
        let quote = match mode {
            "none" => None,
            "tdx_shape_mismatching_report_data" => Some(&real_quote[..]),
            _ => Some(&fake[..]),
        };
        let is_v1 = mode.contains("v1 with extensions");
        if !is_v1 {
            let made = CertificateParams {
                key: &key,
                serial: array(case, "serial_hex"),
                not_before: now,
                validity: 86_400,
                quote,
            };
            assert_eq!(hex::encode(made.to_der()), hex::encode(&der), "{mode}");
        }
        for presenter in [Presenter::Server, Presenter::Client] {
            let cert = verify(&der, presenter, now + 5).unwrap();
            assert_eq!(cert.public_key, public);
            assert_eq!(cert.quote.as_deref(), quote, "{mode}");
            assert_eq!(cert.not_after.0, case["not_after"].as_i64().unwrap());
        }
        let fake_policy = Policy::FakeTdx(PolicyRules::default());
        let real_policy = Policy::Tdx(PolicyRules::default());
        Policy::Any.evaluate(quote, &public).unwrap();
        let fake_verdict = fake_policy.evaluate(quote, &public);
        let real_verdict = real_policy.evaluate(quote, &public);
        match quote.map(<[u8]>::len) {
            None => {
                let policy = "fake_tdx";
                assert_eq!(fake_verdict, Err(PolicyRefusal::QuoteRequired { policy }));
                assert!(matches!(
                    real_verdict,
                    Err(PolicyRefusal::QuoteRequired { .. })
                ));
            }
            Some(64) => {
                let evidence = fake_verdict.unwrap();
                assert!(evidence.fake);
                assert_eq!(evidence.collateral_root_hash, [0; 48]);
                assert!(matches!(real_verdict, Err(PolicyRefusal::BadQuote(_))));
            }
            Some(_) => {
                assert_eq!(
                    fake_verdict,
                    Err(PolicyRefusal::NotAFakeQuote { found: 5010 })
                );
                assert_eq!(real_verdict, Err(PolicyRefusal::ReportData));
            }
        }
    }
}

#[test]
fn fake_extensions_in_order() {
    let vectors = vectors();
    let case = &vectors["user_claims_to_report_data"][0];
    let seed = array(case, "ed25519_seed_hex");
    let identity =
        TlsIdentity::from_seed(&seed, [1; 16], CertificateMode::FakeTdx, 1_764_547_200).unwrap();
    let (_, cert) = x509_parser::parse_x509_certificate(identity.certificate_der()).unwrap();
    let found: Vec<_> = cert
        .extensions()
        .iter()
        .map(|e| (e.oid.to_id_string(), e.critical, hex::encode(e.value)))
        .collect();
    let expected: Vec<_> = list(&vectors, "fake_tdx_certificate_extensions_in_order")
        .iter()
        .map(|e| {
            let critical = e["critical"].as_bool().unwrap();
            (
                text(e, "oid").to_owned(),
                critical,
                text(e, "value_hex").to_owned(),
            )
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn proof_of_work() {
    for case in list(&vectors(), "pow") {
        let challenge = Challenge::from_bytes(&array(case, "challenge_hex")).unwrap();
        assert_eq!(challenge.salt, array(case, "salt_hex"));
        assert_eq!(challenge.to_bytes()[..], bytes(case, "challenge_hex"));
        let nonce = case["first_valid_nonce"].as_i64().unwrap();
        assert_eq!(challenge.solve(28, || false), Ok(nonce));
        assert_eq!(
            u64::from(challenge.bits(nonce)),
            case["leading_zero_bits"].as_u64().unwrap()
        );
        assert_eq!(
            pow::response_to_bytes(nonce)[..],
            bytes(case, "response_hex")
        );
        assert_eq!(
            pow::response_from_bytes(&array(case, "response_hex")),
            Ok(nonce)
        );
    }
    for case in list(&vectors(), "pow_negative") {
        let challenge = Challenge {
            difficulty: case["difficulty"].as_i64().unwrap() as i32,
            salt: array(case, "salt_hex"),
        };
        challenge
            .verify(case["nonce"].as_i64().unwrap())
            .unwrap_err();
    }
}

#[test]
fn attested_peer_info() {
    for case in list(&vectors(), "attested_peer_info") {
        let wire = bytes(case, "frame_hex");
        let info = PeerInfo::decode_body(&bytes(case, "payload_hex")).unwrap();
        assert_eq!(info.encode(), wire);
        assert_eq!(info.public_key, array(case, "user_claims_public_key"));
        assert_eq!(info.source.ip, text(case, "source"));
        assert_eq!(
            i64::from(info.source.port),
            case["source_port"].as_i64().unwrap()
        );
        assert_eq!(info.destination.ip, text(case, "destination"));
        assert_eq!(
            i64::from(info.destination.port),
            case["destination_port"].as_i64().unwrap()
        );
    }
}

#[test]
fn attestation_frames_of_the_protocol() {
    let cases = load(include_str!("vectors/attestation_frames.json"));
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let wire = bytes(case, "hex");
        let decoded = &case["decoded"];
        let info = PeerInfo::decode_body(&wire[4..]).unwrap();
        assert_eq!(info.encode(), wire);
        assert_eq!(info.image_hash(), array(decoded, "image_hash"));
        assert_eq!(
            info.collateral_root_hash,
            array::<48>(decoded, "collateral_root_hash")
        );
        assert_eq!(info.public_key, array(decoded, "user_public_key"));
        assert_eq!(info.source.ip, text(decoded, "source_ip"));
        match &info.attestation {
            None => assert_eq!(decoded["has_attestation"], 0),
            Some(Measurements::Tdx(tdx)) => {
                assert_eq!(tdx.mr_td, array::<48>(decoded, "mr_td"));
                assert_eq!(tdx.report_data, array(decoded, "reportdata"));
            }
            Some(Measurements::Sgx(sgx)) => {
                assert_eq!(sgx.mr_enclave, array(decoded, "mr_enclave"));
                assert_eq!(sgx.report_data, array(decoded, "reportdata"));
            }
        }
    }
}

/// What a reference proxy really sent: its certificate (version 1 with extensions) and its challenge.
#[test]
fn recorded_sessions() {
    let cases = load(include_str!("vectors/recorded_preambles.json"));
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 2);
    let at = 1_795_362_300; // within the recording's day
    for case in cases {
        let cert = verify(
            &bytes(case, "server_certificate_der"),
            Presenter::Server,
            at,
        )
        .unwrap();
        let evidence = Policy::FakeTdx(PolicyRules::default())
            .evaluate(cert.quote.as_deref(), &cert.public_key)
            .unwrap();
        assert_eq!(
            hex::encode(evidence.measurements.unwrap().image_hash()),
            "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61"
        );
        let challenge = Challenge::from_bytes(&array(case, "pow_challenge")).unwrap();
        let nonce = pow::response_from_bytes(&array(case, "pow_response")).unwrap();
        challenge.verify(nonce).unwrap();
        assert_eq!(
            challenge.solve(28, || false),
            Ok(nonce),
            "the reference takes the first nonce"
        );
    }
}

/// Plays the router with the bytes of a vector and checks what our side sends.
#[tokio::test]
async fn socks5_without_credentials() {
    let vectors = vectors();
    let case = &list(&vectors, "socks5")[0];
    let (mut ours, mut router) = tokio::io::duplex(256);
    let server = async {
        let mut greeting = [0; 3];
        router.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting[..], bytes(case, "client_greeting_hex"));
        router
            .write_all(&bytes(case, "server_choice_hex"))
            .await
            .unwrap();
        let mut request = [0; 10];
        router.read_exact(&mut request).await.unwrap();
        assert_eq!(request[..], bytes(case, "client_request_hex"));
        let mut reply = bytes(case, "server_reply_example_hex");
        reply.extend_from_slice(b"frame");
        router.write_all(&reply).await.unwrap();
    };
    let target = "203.0.113.9:11001".parse().unwrap();
    let (local, ()) = tokio::join!(socks5::connect(&mut ours, target, None), server);
    assert_eq!(local.unwrap(), "127.0.0.1:40000".parse().unwrap());
    let mut rest = [0; 5];
    ours.read_exact(&mut rest).await.unwrap();
    assert_eq!(
        &rest, b"frame",
        "what follows the reply stays in the stream"
    );
}

#[tokio::test]
async fn socks5_with_a_policy_name() {
    let (mut ours, mut router) = tokio::io::duplex(256);
    let server = async {
        let mut greeting = [0; 3];
        router.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [5, 1, 2]);
        router.write_all(&[5, 2]).await.unwrap();
        let mut login = [0; 8];
        router.read_exact(&mut login).await.unwrap();
        assert_eq!(&login, b"\x01\x06strict");
        router.read_exact(&mut [0; 2]).await.unwrap();
        router.write_all(&[1, 0]).await.unwrap();
        router.read_exact(&mut [0; 10]).await.unwrap();
        drop(router); // how a reference router says "the peer's certificate is refused"
    };
    let target = "203.0.113.9:11001".parse().unwrap();
    let (result, ()) = tokio::join!(socks5::connect(&mut ours, target, Some("strict")), server);
    let error = result.unwrap_err();
    assert!(
        matches!(error, socks5::Socks5Error::Closed { step: "reply" }),
        "{error}"
    );
}
