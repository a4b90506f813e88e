//! A software GPU: an NVIDIA with a root, a device that signs measurements, and manifests that fit it.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::MARKER;
use crate::der::{extension, octets, oid, sequence};
use crate::pki::{Certified, Kind, Period, Subject, pem};

const FIRMWARE: [u8; 48] = [0xf1; 48];
const DRIVER: &[u8] = b"999.1\0";
const DRIVER_VERSION: &str = "999.1";
const VBIOS: [u8; 8] = [0x9f, 0, 0, 0x96, 1, 0, 0, 0];
const VBIOS_VERSION: &str = "96.00.00.9F.01";

/// A device with its maker.
pub struct SoftGpu {
    root: Certified,
    chain: Vec<Certified>,
    /// Measurements by place, the first being index 1.
    pub measurements: [[u8; 48]; 64],
    /// Feature flag: 0 single, 1 over encrypted links, 2 over links in clear.
    pub feature_flag: u8,
}

impl SoftGpu {
    /// A new device whose certificates are valid for some years around `now`.
    #[must_use]
    pub fn new(now: u64) -> Self {
        let period = Period {
            from: now - 1_000 * 86_400,
            to: now + 1_000 * 86_400,
        };
        let authority = |name| Subject {
            name,
            authority: true,
            extensions: &[],
        };
        let root = Certified::root(Kind::P384, &authority(MARKER), period);
        let model = root.issue(Kind::P384, &authority("Software GH100 Identity"), period, 2);
        let provisioner = model.issue(
            Kind::P384,
            &authority("Software GH100 Provisioner"),
            period,
            3,
        );
        let device = provisioner.issue(Kind::P384, &authority("GH100 A01 software"), period, 4);
        let digest = sequence(&[&oid("2.16.840.1.101.3.4.2.2"), &octets(&FIRMWARE)]);
        let extensions = [extension("2.23.133.5.4.1", false, &sequence(&[&digest]))];
        let subject = Subject {
            name: "GH100 A01 software firmware",
            authority: false,
            extensions: &extensions,
        };
        let leaf = device.issue(Kind::P384, &subject, period, 5);
        SoftGpu {
            root,
            chain: vec![leaf, device, provisioner, model],
            measurements: std::array::from_fn(|index| [index as u8; 48]),
            feature_flag: 0,
        }
    }

    /// SHA-256 of the root's certificate, by which a verifier pins it.
    #[must_use]
    pub fn root_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.root.der).into()
    }

    /// The chain as PEM, leaf first.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut ders: Vec<&[u8]> = self.chain.iter().map(|c| &c.der[..]).collect();
        ders.push(&self.root.der);
        pem(&ders)
    }

    /// Revocation lists of the root (for the model) and of the model (for the provisioner) as published at `issued`, good
    /// for a month, with or without what they are for.
    #[must_use]
    pub fn crls(&self, revoked: bool, issued: u64) -> [Vec<u8>; 2] {
        let list = |authority: &Certified, serial: u8| {
            let serials: &[u8] = if revoked { &[serial] } else { &[] };
            authority.crl(serials, Period::month(issued))
        };
        [list(&self.root, 2), list(&self.chain[3], 3)]
    }

    /// A report asked for with this nonce.
    #[must_use]
    pub fn report(&self, nonce: &[u8; 32]) -> Vec<u8> {
        let mut out = vec![0x11, 0xe0, 0x01, 0xff];
        out.extend(nonce);
        out.push(0);
        let mut record = Vec::new();
        for (index, value) in (1u8..).zip(&self.measurements) {
            record.extend([index, 1, 51, 0, 1, 48, 0]);
            record.extend(value);
        }
        out.extend([0x11, 0x60, 0, 0, 64]);
        out.extend(&(record.len() as u32).to_le_bytes()[..3]);
        out.extend(record);
        out.extend([0x77; 32]);
        let mut opaque = Vec::new();
        let mut field = |id: u16, value: &[u8]| {
            opaque.extend(id.to_le_bytes());
            opaque.extend((value.len() as u16).to_le_bytes());
            opaque.extend(value);
        };
        field(6, &VBIOS);
        field(3, DRIVER);
        field(11, &[0xaa]);
        field(20, &FIRMWARE);
        field(36, &[self.feature_flag, 0]);
        out.extend((opaque.len() as u16).to_le_bytes());
        out.extend(opaque);
        out.extend(self.chain[0].key.sign(&out));
        out
    }

    /// Manifests of driver (even indexes) and firmware (odd ones) that fit the measurements now set.
    #[must_use]
    pub fn manifests(&self) -> [String; 2] {
        let manifest = |version: &str, odd: usize| {
            let mut out = format!(
                "<SoftwareIdentity><Meta product=\"GH100\" colloquialVersion=\"{version}\"/><Payload>"
            );
            for (index, value) in self
                .measurements
                .iter()
                .enumerate()
                .filter(|(i, _)| i % 2 == odd)
            {
                let value = hex::encode(value);
                let _ = write!(
                    out,
                    "<Resource type=\"Measurement\" index=\"{index}\" active=\"True\" alternatives=\"1\" Hash0=\"{value}\"/>"
                );
            }
            out + "</Payload></SoftwareIdentity>"
        };
        [manifest(DRIVER_VERSION, 0), manifest(VBIOS_VERSION, 1)]
    }
}
