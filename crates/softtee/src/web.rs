//! A web server's certificate under an authority of its own.

use crate::MARKER;
use crate::der::{element, extension, sequence};
use crate::pki::{Certified, Kind, Period, Subject, pem};

/// Authority and certificate of a server for tests.
pub struct SoftWeb {
    root: Certified,
    server: Certified,
}

impl SoftWeb {
    /// A server called `name`, whose certificate is valid for some years around `now`.
    #[must_use]
    pub fn new(name: &str, now: u64) -> Self {
        let period = Period {
            from: now - 1_000 * 86_400,
            to: now + 1_000 * 86_400,
        };
        let root = Certified::root(
            Kind::P256,
            &Subject {
                name: MARKER,
                authority: true,
                extensions: &[],
            },
            period,
        );
        let names = extension(
            "2.5.29.17",
            false,
            &sequence(&[&element(0x82, &[name.as_bytes()])]),
        );
        let subject = Subject {
            name,
            authority: false,
            extensions: &[names],
        };
        let server = root.issue(Kind::P256, &subject, period, 2);
        SoftWeb { root, server }
    }

    /// The authority's certificate in DER.
    #[must_use]
    pub fn root_der(&self) -> Vec<u8> {
        self.root.der.clone()
    }

    /// The same in PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        pem(&[&self.root.der])
    }

    /// The server's certificate in DER.
    #[must_use]
    pub fn certificate_der(&self) -> Vec<u8> {
        self.server.der.clone()
    }

    /// The server's key in PKCS #8.
    #[must_use]
    pub fn key_pkcs8(&self) -> Vec<u8> {
        self.server.key.pkcs8()
    }
}
