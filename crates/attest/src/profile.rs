//! The certificate profile of spec section 1: what every Cocoon certificate says, byte for byte.

use ed25519_dalek::{Signer, SigningKey};
use sha1::Sha1;
use sha2::{Digest, Sha512};

use crate::der::{bit_string, element, tag, unsigned_integer};
use crate::time::{DAY, Moment};

/// DER body of 1.3.6.1.4.1.12345.1, the extension with the raw quote.
pub const OID_QUOTE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xe0, 0x39, 0x01];
/// DER body of 1.3.6.1.4.1.12345.2, the extension with the raw public key ("user claims").
pub const OID_CLAIMS: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xe0, 0x39, 0x02];
/// DER body of 1.3.101.112, Ed25519 as a key and as a signature.
pub const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
pub(crate) const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
pub(crate) const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(crate) const OID_EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
pub(crate) const OID_SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
pub(crate) const OID_AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
pub(crate) const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The name under which a client expects every server. It is matched as a *DNS name*, a quirk peers depend on.
pub const SERVER_NAME: &str = "127.0.0.1";
/// Validity of a generated certificate: a day, as the reference.
pub const VALIDITY_SECONDS: u64 = DAY;
/// Length of a fake quote: it is the report data and nothing else.
pub const FAKE_QUOTE_LEN: usize = 64;

/// What a certificate is made from. The same values give the same bytes: Ed25519 is deterministic.
pub struct CertificateParams<'a> {
    /// The key that is certified and that signs.
    pub key: &'a SigningKey,
    /// Read as an unsigned big-endian number.
    pub serial: [u8; 16],
    /// Start of validity, Unix seconds.
    pub not_before: u64,
    /// Length of validity in seconds.
    pub validity: u64,
    /// The quote to embed; `None` leaves both private extensions out.
    pub quote: Option<&'a [u8]>,
}

impl CertificateParams<'_> {
    /// The certificate in DER.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let public = self.key.verifying_key().to_bytes();
        let not_after = self.not_before.saturating_add(self.validity);
        Tbs {
            v3: true,
            serial: &self.serial,
            issuer: &name("localhost"),
            subject: &name("localhost"),
            not_before: clamp(self.not_before),
            not_after: clamp(not_after),
            spki: &spki(&public),
            extensions: &extensions(&public, self.quote),
        }
        .sign(self.key)
    }
}

/// The 64 bytes a quote must carry for a key: SHA-512 of the raw public key.
#[must_use]
pub fn report_data(public_key: &[u8; 32]) -> [u8; 64] {
    Sha512::digest(public_key).into()
}

/// The largest moment a certificate can name, 9999-12-31T23:59:59Z.
const LATEST: u64 = 253_402_300_799;

fn clamp(seconds: u64) -> Moment {
    Moment(seconds.min(LATEST) as i64)
}

/// One extension as it is written.
pub(crate) struct Extension {
    pub oid: &'static [u8],
    pub critical: bool,
    pub value: Vec<u8>,
}

impl Extension {
    pub fn new(oid: &'static [u8], critical: bool, value: Vec<u8>) -> Self {
        Extension {
            oid,
            critical,
            value,
        }
    }

    fn to_der(&self) -> Vec<u8> {
        let critical = if self.critical {
            element(tag::BOOLEAN, &[&[0xff]])
        } else {
            Vec::new()
        };
        let oid = element(tag::OID, &[self.oid]);
        let value = element(tag::OCTET_STRING, &[&self.value]);
        element(tag::SEQUENCE, &[&oid, &critical, &value])
    }
}

/// The extensions of the profile in their order.
pub(crate) fn extensions(public_key: &[u8; 32], quote: Option<&[u8]>) -> Vec<Extension> {
    let mut list = Vec::with_capacity(7);
    if let Some(quote) = quote {
        list.push(Extension::new(OID_QUOTE, true, quote.to_vec()));
        list.push(Extension::new(OID_CLAIMS, true, public_key.to_vec()));
    }
    list.push(Extension::new(
        OID_BASIC_CONSTRAINTS,
        true,
        vec![0x30, 0x00],
    ));
    list.push(Extension::new(OID_KEY_USAGE, true, vec![3, 2, 7, 0x80]));
    list.push(Extension::new(
        OID_EXT_KEY_USAGE,
        true,
        ext_key_usage(&[1, 2]),
    ));
    list.push(Extension::new(
        OID_SUBJECT_KEY_ID,
        false,
        element(tag::OCTET_STRING, &[&Sha1::digest(public_key)]),
    ));
    let mut loopback6 = [0u8; 16];
    loopback6[15] = 1;
    list.push(Extension::new(
        OID_SUBJECT_ALT_NAME,
        false,
        element(
            tag::SEQUENCE,
            &[
                &element(tag::SAN_DNS, &[b"localhost"]),
                &element(tag::SAN_DNS, &[SERVER_NAME.as_bytes()]),
                &element(tag::SAN_IP, &[&loopback6]),
            ],
        ),
    ));
    list
}

/// An extKeyUsage value; 1 is serverAuth, 2 is clientAuth (last arc of 1.3.6.1.5.5.7.3.x).
pub(crate) fn ext_key_usage(purposes: &[u8]) -> Vec<u8> {
    let oids: Vec<u8> = purposes
        .iter()
        .flat_map(|p| element(tag::OID, &[&[0x2b, 6, 1, 5, 5, 7, 3, *p]]))
        .collect();
    element(tag::SEQUENCE, &[&oids])
}

/// The distinguished name of the profile, with a common name of the caller's (always `localhost` outside tests).
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let parts: [(u8, u8, &str); 5] = [
        (6, tag::PRINTABLE_STRING, "AE"),
        (8, tag::UTF8_STRING, "DUBAI"),
        (10, tag::UTF8_STRING, "TDLib Development"),
        (11, tag::UTF8_STRING, "Security"),
        (3, tag::UTF8_STRING, common_name),
    ];
    let rdns: Vec<u8> = parts
        .iter()
        .flat_map(|(arc, kind, text)| {
            let oid = element(tag::OID, &[&[0x55, 0x04, *arc]]);
            let value = element(*kind, &[text.as_bytes()]);
            element(tag::SET, &[&element(tag::SEQUENCE, &[&oid, &value])])
        })
        .collect();
    element(tag::SEQUENCE, &[&rdns])
}

/// SubjectPublicKeyInfo of an Ed25519 key.
pub(crate) fn spki(public_key: &[u8; 32]) -> Vec<u8> {
    element(
        tag::SEQUENCE,
        &[&algorithm(OID_ED25519), &bit_string(public_key)],
    )
}

fn algorithm(oid: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, &[&element(tag::OID, &[oid])])
}

fn time(moment: Moment) -> Vec<u8> {
    let c = moment.civil();
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        c.month, c.day, c.hour, c.minute, c.second
    );
    if (1950..2050).contains(&c.year) {
        let text = format!("{:02}{rest}", c.year % 100);
        element(tag::UTC_TIME, &[text.as_bytes()])
    } else {
        let text = format!("{:04}{rest}", c.year);
        element(tag::GENERALIZED_TIME, &[text.as_bytes()])
    }
}

/// The signed part of a certificate, with every field open so that tests can write wrong ones.
pub(crate) struct Tbs<'a> {
    pub v3: bool,
    pub serial: &'a [u8],
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    pub not_before: Moment,
    pub not_after: Moment,
    pub spki: &'a [u8],
    pub extensions: &'a [Extension],
}

impl Tbs<'_> {
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let version = if self.v3 {
            element(tag::CONTEXT_0, &[&unsigned_integer(&[2])])
        } else {
            Vec::new()
        };
        let validity = element(
            tag::SEQUENCE,
            &[&time(self.not_before), &time(self.not_after)],
        );
        let extensions: Vec<u8> = self.extensions.iter().flat_map(Extension::to_der).collect();
        let extensions = if extensions.is_empty() {
            Vec::new()
        } else {
            element(tag::CONTEXT_3, &[&element(tag::SEQUENCE, &[&extensions])])
        };
        let tbs = element(
            tag::SEQUENCE,
            &[
                &version,
                &unsigned_integer(self.serial),
                &algorithm(OID_ED25519),
                self.issuer,
                &validity,
                self.subject,
                self.spki,
                &extensions,
            ],
        );
        let signature = key.sign(&tbs).to_bytes();
        element(
            tag::SEQUENCE,
            &[&tbs, &algorithm(OID_ED25519), &bit_string(&signature)],
        )
    }
}
