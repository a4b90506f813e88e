//! The specification's matrix of accepted and rejected certificates (2.4): every row is built and judged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use sha1::{Digest, Sha1};

use crate::certificate::{self, CertificateError, Presenter};
use crate::der::{element, tag};
use crate::profile::{
    self, Extension, OID_AUTHORITY_KEY_ID, OID_BASIC_CONSTRAINTS, OID_CLAIMS, OID_EXT_KEY_USAGE,
    OID_KEY_USAGE, OID_QUOTE, OID_SUBJECT_ALT_NAME, Tbs, VALIDITY_SECONDS,
};
use crate::quote::MAX_QUOTE_LEN;
use crate::time::{DAY, Moment};

const NOW: u64 = 1_764_550_000;
const YEAR: i64 = 365 * DAY as i64;

/// A P-256 certificate made by `openssl req -x509`.
const ECDSA: &str = "MIIBlzCCAT2gAwIBAgIUa0xDBKQTY4AuQmRFa9dOK9o/fiEwCgYIKoZIzj0EAwIwITELMAkGA1UEBhMCQUUxEjAQBgNVBAMMCTEyNy4wLjAuMTAeFw0yNjExMjIxNzU1MDVaFw0yNjExMjMxNzU1MDVaMCExCzAJBgNVBAYTAkFFMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ+DQMO7GcjepGJrFTi3pYOpD+wXcVW6sB1fYDi6eodDiwUgyks0i1yaotS7lSufeBTyBeDMB68VYJIevPpGKI0o1MwUTAdBgNVHQ4EFgQUsdBsKDr7/qSqXVfyEKieK2EV9KUwHwYDVR0jBBgwFoAUsdBsKDr7/qSqXVfyEKieK2EV9KUwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAlW+674U7GPmq8y2IFa33mkvzCwocAR/0AMzUINTSCrMCIEJwGn6/PjhSv9rE9pXygdE38Y0otLaY9IrmN3ODmUli";

/// A certificate of the profile whose parts can be exchanged.
struct Recipe {
    v3: bool,
    issuer: &'static str,
    subject: &'static str,
    not_before: i64,
    not_after: i64,
    extensions: Vec<Extension>,
    signer: SigningKey,
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> [u8; 32] {
    key().verifying_key().to_bytes()
}

impl Recipe {
    fn new() -> Self {
        let fake = profile::report_data(&public());
        Recipe {
            v3: true,
            issuer: "localhost",
            subject: "localhost",
            not_before: NOW as i64 - 100,
            not_after: NOW as i64 - 100 + VALIDITY_SECONDS as i64,
            extensions: profile::extensions(&public(), Some(&fake)),
            signer: key(),
        }
    }

    fn drop(mut self, oid: &[u8]) -> Self {
        self.extensions.retain(|e| e.oid != oid);
        self
    }

    fn with(mut self, oid: &'static [u8], critical: bool, value: Vec<u8>) -> Self {
        let new = Extension::new(oid, critical, value);
        match self.extensions.iter_mut().find(|e| e.oid == oid) {
            Some(old) => *old = new,
            None => self.extensions.push(new),
        }
        self
    }

    fn der(&self) -> Vec<u8> {
        Tbs {
            v3: self.v3,
            serial: &[1; 16],
            issuer: &profile::name(self.issuer),
            subject: &profile::name(self.subject),
            not_before: Moment(self.not_before),
            not_after: Moment(self.not_after),
            spki: &profile::spki(&public()),
            extensions: &self.extensions,
        }
        .sign(&self.signer)
    }
}

fn san(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|(t, n)| element(*t, &[n])).collect();
    element(tag::SEQUENCE, &[&names])
}

/// The certificate of a row, or `None` for rows that are about the handshake.
fn build(row: &str) -> Option<Vec<u8>> {
    let ip = (tag::SAN_IP, &[127, 0, 0, 1][..]);
    let local = (tag::SAN_DNS, &b"localhost"[..]);
    let r = Recipe::new();
    let recipe = match row {
        "profile certificate" | "self-signed leaf followed by unrelated extra certificates" => r,
        "SAN without dNSName \"127.0.0.1\" (iPAddress 127.0.0.1 only)"
        | "SAN without dNSName \"127.0.0.1\"" => {
            r.with(OID_SUBJECT_ALT_NAME, false, san(&[local, ip]))
        }
        "no dNSName in SAN, CN=127.0.0.1" => {
            let mut r = r.with(OID_SUBJECT_ALT_NAME, false, san(&[ip]));
            (r.issuer, r.subject) = ("127.0.0.1", "127.0.0.1");
            r
        }
        "no basicConstraints/keyUsage/EKU/SKI" => r
            .drop(OID_BASIC_CONSTRAINTS)
            .drop(OID_KEY_USAGE)
            .drop(OID_EXT_KEY_USAGE)
            .drop(profile::OID_SUBJECT_KEY_ID),
        "EKU clientAuth only" => r.with(OID_EXT_KEY_USAGE, true, profile::ext_key_usage(&[2])),
        "EKU serverAuth only" => r.with(OID_EXT_KEY_USAGE, true, profile::ext_key_usage(&[1])),
        "notAfter in the past" => Recipe {
            not_before: NOW as i64 - 2 * DAY as i64,
            not_after: NOW as i64 - 1,
            ..r
        },
        "notBefore in the future" => Recipe {
            not_before: NOW as i64 + 3_600,
            not_after: NOW as i64 + 7_200,
            ..r
        },
        "validity of 10 years" => Recipe {
            not_after: NOW as i64 + 10 * YEAR,
            ..r
        },
        "unknown critical extension" => r.with(&[0x2a, 0x03, 0x04], true, vec![5, 0]),
        "ECDSA P-256 key" => return Some(STANDARD.decode(ECDSA).unwrap()),
        "CA:TRUE" => r.with(OID_BASIC_CONSTRAINTS, true, vec![0x30, 3, 1, 1, 0xff]),
        "X.509 version 1 encoding that nevertheless carries extensions" => {
            Recipe { v3: false, ..r }
        }
        "self-signature bytes corrupted" => {
            let mut der = r.der();
            *der.last_mut().unwrap() ^= 1;
            return Some(der);
        }
        "issuer differs from subject" => Recipe {
            issuer: "somebody else",
            ..r
        },
        "leaf issued by a self-signed CA sent in the chain" => Recipe {
            issuer: "a CA",
            signer: SigningKey::from_bytes(&[9; 32]),
            ..r
        },
        "authorityKeyIdentifier not matching own SKI" => {
            let other = element(0x80, &[&Sha1::digest(b"another key")]);
            r.with(
                OID_AUTHORITY_KEY_ID,
                false,
                element(tag::SEQUENCE, &[&other]),
            )
        }
        "none presented" => return None, // tests/end_to_end.rs
        other => panic!("the matrix has a row this test does not know: {other}"),
    };
    Some(recipe.der())
}

/// Rows where ours refuses what the reference accepts, on purpose; no reference peer produces them.
const STRICTER: [&str; 2] = ["self-signature bytes corrupted", "validity of 10 years"];

#[test]
fn the_matrix_of_the_specification() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../tests/vectors/attestation.json")).unwrap();
    let rows = vectors["tls_acceptance_matrix"]["cases"]
        .as_array()
        .unwrap();
    assert_eq!(rows.len(), 20);
    for row in rows {
        let name = row["cert"].as_str().unwrap();
        let Some(der) = build(name) else { continue };
        let presenters: &[Presenter] = match row["role"].as_str().unwrap() {
            "server" => &[Presenter::Server],
            "client" => &[Presenter::Client],
            _ => &[Presenter::Server, Presenter::Client],
        };
        let accepts =
            row["result"].as_str().unwrap().starts_with("accept") && !STRICTER.contains(&name);
        for presenter in presenters {
            let verdict = certificate::verify(&der, *presenter, NOW);
            assert_eq!(
                verdict.is_ok(),
                accepts,
                "{presenter:?}, {name}: {verdict:?}"
            );
        }
    }
}

fn judge(recipe: &Recipe) -> Result<(), CertificateError> {
    certificate::verify(&recipe.der(), Presenter::Client, NOW).map(|_| ())
}

#[test]
fn each_refusal_names_its_reason() {
    use CertificateError as E;
    let wrong = |row: &str| {
        let server = row != "EKU serverAuth only";
        let presenter = if server {
            Presenter::Server
        } else {
            Presenter::Client
        };
        certificate::verify(&build(row).unwrap(), presenter, NOW).unwrap_err()
    };
    let error = wrong("notAfter in the past");
    assert_eq!(
        error.to_string(),
        "certificate expired at 2025-12-01T00:46:39Z, and it is 2025-12-01T00:46:40Z"
    );
    assert!(matches!(
        wrong("notBefore in the future"),
        E::NotYetValid { .. }
    ));
    assert!(matches!(
        wrong("validity of 10 years"),
        E::ValidityTooLong { .. }
    ));
    assert_eq!(wrong("EKU clientAuth only"), E::Purpose("serverAuth"));
    assert_eq!(wrong("EKU serverAuth only"), E::Purpose("clientAuth"));
    assert_eq!(
        wrong("unknown critical extension"),
        E::UnknownCritical("1.2.3.4".into())
    );
    assert_eq!(
        wrong("ECDSA P-256 key"),
        E::KeyAlgorithm("1.2.840.10045.2.1".into())
    );
    assert_eq!(wrong("self-signature bytes corrupted"), E::SelfSignature);
    assert_eq!(
        wrong("authorityKeyIdentifier not matching own SKI"),
        E::AuthorityKey
    );
    assert!(matches!(
        wrong("issuer differs from subject"),
        E::NotSelfIssued { .. }
    ));
    let name = wrong("SAN without dNSName \"127.0.0.1\"");
    assert_eq!(
        name,
        E::Name {
            found: "localhost".into()
        }
    );
}

#[test]
fn rules_beyond_the_matrix() {
    use CertificateError as E;
    judge(&Recipe::new()).unwrap();
    let mut twice = Recipe::new();
    twice
        .extensions
        .push(Extension::new(OID_QUOTE, false, vec![1]));
    assert_eq!(
        judge(&twice),
        Err(E::DuplicateExtension("1.3.6.1.4.1.12345.1".into()))
    );
    let stolen = Recipe::new().with(OID_CLAIMS, true, vec![1; 32]);
    assert_eq!(judge(&stolen), Err(E::ClaimsMismatch));
    assert_eq!(
        judge(&Recipe::new().drop(OID_CLAIMS)),
        Err(E::ClaimsMissing)
    );
    // A quote of exactly the limit is for the policy to judge.
    judge(&Recipe::new().with(OID_QUOTE, true, vec![0; MAX_QUOTE_LEN])).unwrap();
    let large = Recipe::new().with(OID_QUOTE, true, vec![0; MAX_QUOTE_LEN + 1]);
    assert_eq!(
        judge(&large),
        Err(E::QuoteTooLarge {
            found: MAX_QUOTE_LEN + 1
        })
    );
    // Name constraints are known to OpenSSL, but not to the profile.
    let constraints = Recipe::new().with(&[0x55, 0x1d, 0x1e], true, vec![0x30, 0]);
    assert_eq!(
        judge(&constraints),
        Err(E::UnknownCritical("2.5.29.30".into()))
    );
    let no_signing = Recipe::new().with(OID_KEY_USAGE, true, vec![3, 2, 5, 0x20]);
    assert_eq!(judge(&no_signing), Err(E::KeyUsage));
    let signed_by_other = Recipe {
        signer: SigningKey::from_bytes(&[9; 32]),
        ..Recipe::new()
    };
    assert_eq!(judge(&signed_by_other), Err(E::SelfSignature));
    let broken_san = Recipe::new().with(OID_SUBJECT_ALT_NAME, false, vec![0x30, 9, 0x82]);
    assert!(matches!(judge(&broken_san), Err(E::Malformed(_))));
    let mut trailing = Recipe::new().der();
    trailing.push(0);
    let error = certificate::verify(&trailing, Presenter::Client, NOW).unwrap_err();
    assert!(matches!(error, E::Malformed(_)));
    let error = certificate::verify(&vec![0x30; 50_000], Presenter::Client, NOW).unwrap_err();
    assert_eq!(error, E::TooLarge { found: 50_000 });
}

#[test]
fn the_clock_may_differ_a_little_at_the_start_and_not_at_the_end() {
    let at = |now: i64| {
        let der = Recipe::new().der();
        certificate::verify(&der, Presenter::Client, now as u64).is_ok()
    };
    let (from, to) = (Recipe::new().not_before, Recipe::new().not_after);
    assert!(at(from - certificate::MAX_CLOCK_SKEW_SECONDS));
    assert!(!at(from - certificate::MAX_CLOCK_SKEW_SECONDS - 1));
    assert!(at(to));
    assert!(!at(to + 1));
}
