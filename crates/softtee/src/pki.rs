//! Keys, certificates and revocation lists.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PSS_SHA384,
};
use base64::Engine;

use crate::der::{bits, element, extension, integer, oid, sequence, time};

/// Kinds of keys, each with the one signature algorithm that its makers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Intel.
    P256,
    /// AMD's chips and NVIDIA.
    P384,
    /// AMD's authorities.
    Rsa,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A signing key.
pub struct Key {
    kind: Kind,
    pair: Pair,
}

impl Key {
    /// A new one.
    #[must_use]
    pub fn generate(kind: Kind) -> Self {
        let ecdsa = |algorithm| Pair::Ecdsa(EcdsaKeyPair::generate(algorithm).expect("a key"));
        let pair = match kind {
            Kind::P256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Kind::P384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Kind::Rsa => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")),
        };
        Key { kind, pair }
    }

    /// The public point with its leading 4, or the PKCS #1 key.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A signature as the formats write it: `r || s`, or an RSA number.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&random, message)
                .expect("a signature")
                .as_ref()
                .to_vec(),
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA384, &random, message, &mut out)
                    .expect("a signature");
                out
            }
        }
    }

    /// The private key in PKCS #8, for servers of tests.
    #[must_use]
    pub fn pkcs8(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().expect("PKCS #8").as_ref().to_vec(),
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'static>>::as_der(pair)
                .expect("PKCS #8")
                .as_ref()
                .to_vec(),
        }
    }

    fn signature_bits(&self, message: &[u8]) -> Vec<u8> {
        let raw = self.sign(message);
        match self.kind {
            Kind::Rsa => bits(&raw),
            Kind::P256 | Kind::P384 => {
                let (r, s) = raw.split_at(raw.len() / 2);
                bits(&sequence(&[&integer(r), &integer(s)]))
            }
        }
    }

    fn algorithm(&self) -> Vec<u8> {
        match self.kind {
            Kind::P256 => sequence(&[&oid("1.2.840.10045.4.3.2")]),
            Kind::P384 => sequence(&[&oid("1.2.840.10045.4.3.3")]),
            Kind::Rsa => {
                let sha384 = sequence(&[&oid("2.16.840.1.101.3.4.2.2"), &[5, 0]]);
                let mask = sequence(&[&oid("1.2.840.113549.1.1.8"), &sha384]);
                let parameters = sequence(&[
                    &element(0xa0, &[&sha384]),
                    &element(0xa1, &[&mask]),
                    &element(0xa2, &[&integer(&[48])]),
                    &element(0xa3, &[&integer(&[1])]),
                ]);
                sequence(&[&oid("1.2.840.113549.1.1.10"), &parameters])
            }
        }
    }

    fn spki(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => AsDer::<PublicKeyX509Der<'static>>::as_der(pair.public_key())
                .expect("DER")
                .as_ref()
                .to_vec(),
            Pair::Ecdsa(_) => {
                let curve = if self.kind == Kind::P256 {
                    "1.2.840.10045.3.1.7"
                } else {
                    "1.3.132.0.34"
                };
                let algorithm = sequence(&[&oid("1.2.840.10045.2.1"), &oid(curve)]);
                sequence(&[&algorithm, &bits(&self.public())])
            }
        }
    }
}

/// Validity of everything that is signed, Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// First second.
    pub from: u64,
    /// Last second.
    pub to: u64,
}

impl Period {
    /// As long as collateral and revocation lists live.
    pub fn month(from: u64) -> Self {
        Period {
            from,
            to: from + 30 * 86_400,
        }
    }
}

/// A certificate with its key.
pub struct Certified {
    /// The key.
    pub key: Key,
    /// The certificate.
    pub der: Vec<u8>,
    name: Vec<u8>,
}

/// What goes into a certificate.
pub struct Subject<'a> {
    /// Common name.
    pub name: &'a str,
    /// Whether it may issue others.
    pub authority: bool,
    /// Ready-made extensions.
    pub extensions: &'a [Vec<u8>],
}

fn name(common: &str) -> Vec<u8> {
    let pair = sequence(&[&oid("2.5.4.3"), &element(0x0c, &[common.as_bytes()])]);
    sequence(&[&element(0x31, &[&pair])])
}

impl Certified {
    /// Signed by itself.
    pub fn root(kind: Kind, subject: &Subject<'_>, period: Period) -> Self {
        let key = Key::generate(kind);
        let own = name(subject.name);
        let der = certificate(&key, &own, &key, subject, period, 1);
        Certified {
            key,
            der,
            name: own,
        }
    }

    /// Signed by this one.
    pub fn issue(&self, kind: Kind, subject: &Subject<'_>, period: Period, serial: u8) -> Self {
        let key = Key::generate(kind);
        let der = certificate(&self.key, &self.name, &key, subject, period, serial);
        Certified {
            key,
            der,
            name: name(subject.name),
        }
    }

    /// A revocation list of this authority, the first it ever published.
    pub fn crl(&self, revoked: &[u8], period: Period) -> Vec<u8> {
        self.numbered_crl(1, revoked, period)
    }

    /// A revocation list with this number.
    pub fn numbered_crl(&self, number: u8, revoked: &[u8], period: Period) -> Vec<u8> {
        let entries: Vec<u8> = revoked
            .iter()
            .flat_map(|serial| sequence(&[&integer(&[*serial]), &time(period.from)]))
            .collect();
        let entries = if entries.is_empty() {
            Vec::new()
        } else {
            sequence(&[&entries])
        };
        let number = extension("2.5.29.20", false, &integer(&[number]));
        let list = sequence(&[
            &integer(&[1]),
            &self.key.algorithm(),
            &self.name,
            &time(period.from),
            &time(period.to),
            &entries,
            &element(0xa0, &[&sequence(&[&number])]),
        ]);
        sequence(&[
            &list,
            &self.key.algorithm(),
            &self.key.signature_bits(&list),
        ])
    }
}

fn certificate(
    by: &Key,
    issuer: &[u8],
    key: &Key,
    subject: &Subject<'_>,
    period: Period,
    serial: u8,
) -> Vec<u8> {
    let mut extensions = Vec::new();
    if subject.authority {
        extensions.extend(extension("2.5.29.19", true, &sequence(&[&[1, 1, 0xff]])));
        // keyCertSign and cRLSign.
        extensions.extend(extension("2.5.29.15", true, &[3, 2, 1, 6]));
    }
    extensions.extend(subject.extensions.concat());
    let extensions = if extensions.is_empty() {
        Vec::new()
    } else {
        element(0xa3, &[&sequence(&[&extensions])])
    };
    let signed = sequence(&[
        &element(0xa0, &[&integer(&[2])]),
        &integer(&[serial]),
        &by.algorithm(),
        issuer,
        &sequence(&[&time(period.from), &time(period.to)]),
        &name(subject.name),
        &key.spki(),
        &extensions,
    ]);
    sequence(&[&signed, &by.algorithm(), &by.signature_bits(&signed)])
}

/// Certificates as PEM.
#[must_use]
pub fn pem(ders: &[&[u8]]) -> String {
    let mut out = String::new();
    for der in ders {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        for line in text.as_bytes().chunks(64) {
            out.push_str(&String::from_utf8_lossy(line));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}
