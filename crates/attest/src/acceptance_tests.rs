//! The specification's matrix of accepted and rejected certificates (2.4): every row is built and judged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::certificate::{self, CertificateError, Presenter};
use crate::der::{element, tag};
use crate::pow;
use crate::profile::{
    self, Extension, OID_AUTHORITY_KEY_ID, OID_BASIC_CONSTRAINTS, OID_CLAIMS, OID_EXT_KEY_USAGE,
    OID_KEY_USAGE, OID_QUOTE, OID_SUBJECT_ALT_NAME, Tbs, VALIDITY_SECONDS,
};
use crate::quote::MAX_QUOTE_LEN;
use crate::time::{DAY, Moment};

#[path = "acceptance_tests/bare.rs"]
mod bare;

const NOW: u64 = 1_764_550_000;
const YEAR: i64 = 365 * DAY as i64;

/// A P-256 certificate made by `openssl req -x509`.
const ECDSA: &str = "MIIBlzCCAT2gAwIBAgIUa0xDBKQTY4AuQmRFa9dOK9o/fiEwCgYIKoZIzj0EAwIwITELMAkGA1UEBhMCQUUxEjAQBgNVBAMMCTEyNy4wLjAuMTAeFw0yNjExMjIxNzU1MDVaFw0yNjExMjMxNzU1MDVaMCExCzAJBgNVBAYTAkFFMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ+DQMO7GcjepGJrFTi3pYOpD+wXcVW6sB1fYDi6eodDiwUgyks0i1yaotS7lSufeBTyBeDMB68VYJIevPpGKI0o1MwUTAdBgNVHQ4EFgQUsdBsKDr7/qSqXVfyEKieK2EV9KUwHwYDVR0jBBgwFoAUsdBsKDr7/qSqXVfyEKieK2EV9KUwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAlW+674U7GPmq8y2IFa33mkvzCwocAR/0AMzUINTSCrMCIEJwGn6/PjhSv9rE9pXygdE38Y0otLaY9IrmN3ODmUli";

/// An RSA certificate made by the same command.
const RSA: &str = "MIIDJTCCAg2gAwIBAgIUdWHTNduJTj2nM6UcBUhOn5BAr3kwDQYJKoZIhvcNAQELBQAwITELMAkGA1UEBhMCQUUxEjAQBgNVBAMMCTEyNy4wLjAuMTAgFw0yNjExMjIyMTI5MzdaGA8yMTI2MTAyOTIxMjkzN1owITELMAkGA1UEBhMCQUUxEjAQBgNVBAMMCTEyNy4wLjAuMTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAINJ1B/5SEyNSOaRcik3bP7U2PhRXDeNENC+VVJgIUdRN9kBnoUzGy+SDb36LnayNCkSfaGumin/mXdBgsBxJf3vNojEf6pwfs2WtC9kvYUQpqnNlCnkYBJS1WNHY+qIyHBjS4Q1cCf5ONhrjE6ciJ0FyFcgadhEm2aMjkWxALPITdAFzLMTuIOiXgcx0+c1fONOYY/UfgIant6hiMNRZ7UnSpOUm7Yf8mTtJnIGmW0BCRa2b6YP/1SbcnEdGCC8Rm2/fcL4qTjZU0SEwEB+ja1/6jTwjq9kl46Fq/l4VnmBdDZgmkZcN0c6u8QmTKXCy+hWN3vkJaZXeEhCLOR6x2UCAwEAAaNTMFEwHQYDVR0OBBYEFKGSXoElMUQjy4hYC11K24EVxx4uMB8GA1UdIwQYMBaAFKGSXoElMUQjy4hYC11K24EVxx4uMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBAH5PZX3Q0D3h2sSHP06m14uZVC9MidtbKiJubtxR+Z22l/eKaqizXJwCUm8YfDqFe/n9zUEnKfDN7Am9dDmPO4jMg4Xfoq6WSp1PK7YzrbezQnlEhcdWx0Owq/T+9XZsqUJOCtkAjVVs7Nej4lqOGKwloPOTngHEAIrAbz+2MsU/xjhAh3KgEEn39bDOhWxBa1sgS47BodyoPxs1PwTn2NAdyqIppSMQcJ4A8WgCoT4qWwMTWHQ8Vnxby9GxMPpZK8bDyK3gsEdQ+y/G2IpAoFZsoMy0qyFICrkH5e2ivkdLlKBrLA/2U98WRXaryOGoRDm+s9IfvAsNFZaF1+P6unA=";

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
        Self::at(NOW)
    }

    fn at(now: u64) -> Self {
        let fake = profile::report_data(&public());
        Recipe {
            v3: true,
            issuer: "localhost",
            subject: "localhost",
            not_before: now as i64 - 100,
            not_after: now as i64 - 100 + VALIDITY_SECONDS as i64,
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

/// The certificate of a row, or `None` for the one without any.
fn build(row: &str) -> Option<Vec<u8>> {
    build_at(row, NOW)
}

fn build_at(row: &str, now: u64) -> Option<Vec<u8>> {
    let ip = (tag::SAN_IP, &[127, 0, 0, 1][..]);
    let local = (tag::SAN_DNS, &b"localhost"[..]);
    let r = Recipe::at(now);
    let now = now as i64;
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
            not_before: now - 2 * DAY as i64,
            not_after: now - 1,
            ..r
        },
        "notBefore in the future" => Recipe {
            not_before: now + 3_600,
            not_after: now + 7_200,
            ..r
        },
        "validity of 10 years" => Recipe {
            not_after: now + 10 * YEAR,
            ..r
        },
        "unknown critical extension" => r.with(&[0x2a, 0x03, 0x04], true, vec![5, 0]),
        "ECDSA P-256 key" => return Some(STANDARD.decode(ECDSA).unwrap()),
        "RSA key" => return Some(STANDARD.decode(RSA).unwrap()),
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
        "none presented" => return None,
        other => panic!("the matrix has a row this test does not know: {other}"),
    };
    Some(recipe.der())
}

/// Rows where ours refuses what the reference accepts, on purpose; no reference peer produces them.
const STRICTER: [&str; 2] = ["self-signature bytes corrupted", "validity of 10 years"];

/// One row of the matrix, with the verdict that is ours.
struct Row {
    name: String,
    role: String,
    presenters: &'static [Presenter],
    accepts: bool,
    /// What the reference would send if it sent alerts.
    alert: Option<String>,
}

fn rows() -> Vec<Row> {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../tests/vectors/attestation.json")).unwrap();
    let cases = &vectors["tls_acceptance_matrix"]["cases"];
    let read = |case: &serde_json::Value| {
        let text = |key: &str| case[key].as_str().map(ToOwned::to_owned);
        let (name, role) = (text("cert").unwrap(), text("role").unwrap());
        let presenters: &[Presenter] = match role.as_str() {
            "server" => &[Presenter::Server],
            "client" => &[Presenter::Client],
            _ => &[Presenter::Server, Presenter::Client],
        };
        let accepted = text("result").unwrap().starts_with("accept");
        Row {
            accepts: accepted && !STRICTER.contains(&name.as_str()),
            alert: text("alert"),
            name,
            role,
            presenters,
        }
    };
    let mut rows: Vec<Row> = cases.as_array().unwrap().iter().map(read).collect();
    assert_eq!(rows.len(), 20);
    // The specification's text names RSA beside ECDSA; the vectors have no row for it.
    rows.push(Row {
        name: "RSA key".into(),
        role: "any".into(),
        presenters: &[Presenter::Server, Presenter::Client],
        accepts: false,
        alert: Some("unknown_ca".into()),
    });
    rows
}

#[test]
fn the_matrix_of_the_specification() {
    for row in rows() {
        let Some(der) = build(&row.name) else {
            continue;
        };
        for presenter in row.presenters {
            let verdict = certificate::verify(&der, *presenter, NOW);
            assert_eq!(
                verdict.is_ok(),
                row.accepts,
                "{presenter:?}, {}: {verdict:?}",
                row.name
            );
        }
    }
}

/// The same rows through whole handshakes: the side that is judged is a bare TLS library, and it learns our verdict
/// as an alert.
#[tokio::test]
async fn the_matrix_in_handshakes() {
    let now = crate::unix_now();
    for row in rows() {
        for presenter in row.presenters {
            let chain = chain_of(&row.name, now);
            let place = format!("{presenter:?}, {}", row.name);
            let limit = std::time::Duration::from_secs(20);
            let met = tokio::time::timeout(limit, meet(chain, *presenter)).await;
            let (judged, alert) = met.unwrap_or_else(|_| panic!("{place}: no end"));
            assert_eq!(judged.is_ok(), row.accepts, "{place}: {judged:?}");
            // The library chooses another alert than OpenSSL for two of these, and OpenSSL accepts the other two.
            let expected = match row.name.as_str() {
                "unknown critical extension" => Some("bad_certificate"),
                "notBefore in the future" => Some("certificate_expired"),
                "self-signature bytes corrupted" => Some("decrypt_error"),
                "validity of 10 years" => Some("bad_certificate"),
                _ => row.alert.as_deref(),
            };
            assert_eq!(alert.as_deref(), expected, "{place}");
        }
    }
}

/// What a row's peer presents; empty for none.
fn chain_of(row: &str, now: u64) -> Vec<Vec<u8>> {
    let mut chain: Vec<_> = build_at(row, now).into_iter().collect();
    if row.contains("extra certificates") || row.contains("sent in the chain") {
        chain.push(STANDARD.decode(ECDSA).unwrap());
    }
    chain
}

/// A handshake of ours with a library that presents `chain`; our verdict, and the alert that the library got.
async fn meet(
    chain: Vec<Vec<u8>>,
    presenter: Presenter,
) -> (Result<(), crate::AttestError>, Option<String>) {
    let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
    let own = crate::TlsIdentity::generate(crate::CertificateMode::None, crate::unix_now());
    let (own, policy) = (own.unwrap(), crate::Policy::Any);
    let key = crate::TlsIdentity::from_parts(key(), Recipe::new().der()).unwrap();
    let bare = bare::Bare::new(chain, &key);
    match presenter {
        Presenter::Client => {
            let them = async {
                theirs
                    .read_exact(&mut [0; pow::CHALLENGE_LEN])
                    .await
                    .unwrap();
                theirs.write_all(&pow::response_to_bytes(0)).await.unwrap();
                bare.connect(theirs).await
            };
            // Dropped at once, or the other side would wait for more.
            let us = async { crate::accept(ours, &own, &policy, 0).await.map(drop) };
            tokio::join!(us, them)
        }
        Presenter::Server => {
            let them = async {
                let easy = pow::Challenge::random(0).unwrap();
                theirs.write_all(&easy.to_bytes()).await.unwrap();
                theirs
                    .read_exact(&mut [0; pow::RESPONSE_LEN])
                    .await
                    .unwrap();
                bare.accept(theirs).await
            };
            let us = async { crate::connect(ours, &own, &policy, 0).await.map(drop) };
            tokio::join!(us, them)
        }
    }
}

/// The table of the documentation has every row, with the verdict that is tested.
#[test]
fn the_documented_table_is_the_tested_one() {
    let table = include_str!("../ACCEPTANCE.md");
    let documented = table.lines().filter(|line| line.starts_with("| ")).count() - 1;
    assert_eq!(documented, rows().len(), "rows of ACCEPTANCE.md");
    for row in rows() {
        let verdict = match (row.accepts, STRICTER.contains(&row.name.as_str())) {
            (true, _) => "accepted",
            (false, true) => "refused (the reference accepts)",
            (false, false) => "refused",
        };
        let line = format!("| {} | {} | {verdict} |", row.role, row.name);
        assert!(table.contains(&line), "ACCEPTANCE.md has no line {line}");
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
    assert_eq!(
        wrong("RSA key"),
        E::KeyAlgorithm("1.2.840.113549.1.1.1".into())
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
