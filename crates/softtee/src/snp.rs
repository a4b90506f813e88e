//! A software SEV-SNP: an AMD with a root for one generation, and a chip that signs any report.

use sha2::{Digest, Sha256};

use crate::MARKER;
use crate::der::{element, extension, integer};
use crate::pki::{Certified, Kind, Period, Subject};

/// What a report says. The default is a sound guest of the Genoa generation.
#[derive(Debug, Clone)]
pub struct SnpFields {
    /// What the host may do.
    pub policy: u64,
    /// Privilege level.
    pub vmpl: u32,
    /// Chosen by the guest.
    pub report_data: [u8; 64],
    /// Initial contents.
    pub measurement: [u8; 48],
    /// Patch level, as eight raw bytes.
    pub tcb: [u8; 8],
    /// Identity of the chip.
    pub chip_id: [u8; 64],
    /// Processor family and model.
    pub cpu: (u8, u8),
}

const TCB: [u8; 8] = [10, 1, 0, 0, 0, 0, 23, 200];

impl Default for SnpFields {
    fn default() -> Self {
        SnpFields {
            policy: 0x3_0000,
            vmpl: 0,
            report_data: [0; 64],
            measurement: [0x4d; 48],
            tcb: TCB,
            chip_id: [0xc1; 64],
            cpu: (0x19, 0x11),
        }
    }
}

/// A chip with its maker.
pub struct SoftSnp {
    ark: Certified,
    ask: Certified,
    vcek: Certified,
}

impl SoftSnp {
    /// A new chip whose certificates are valid for some years around `now`.
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
        let ark = Certified::root(Kind::Rsa, &authority(MARKER), period);
        let ask = ark.issue(Kind::Rsa, &authority("SEV-Genoa"), period, 2);
        let part = |tail: &str, value: &[u8]| {
            extension(&format!("1.3.6.1.4.1.3704.1.{tail}"), false, value)
        };
        let extensions = [
            part("1", &integer(&[0])),
            part("2", &element(0x16, &[b"Genoa-B1"])),
            part("3.1", &integer(&[TCB[0]])),
            part("3.2", &integer(&[TCB[1]])),
            part("3.3", &integer(&[TCB[6]])),
            part("3.8", &integer(&[TCB[7]])),
            part("4", &[0xc1; 64]),
        ];
        let subject = Subject {
            name: "SEV-VCEK",
            authority: false,
            extensions: &extensions,
        };
        let vcek = ask.issue(Kind::P384, &subject, period, 3);
        SoftSnp { ark, ask, vcek }
    }

    /// SHA-256 of the root's certificate, by which a verifier pins it.
    #[must_use]
    pub fn root_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.ark.der).into()
    }

    /// ARK, ASK and VCEK in DER.
    #[must_use]
    pub fn chain(&self) -> [Vec<u8>; 3] {
        [&self.ark, &self.ask, &self.vcek].map(|certified| certified.der.clone())
    }

    /// The root's revocation list as published at `issued`, good for a month, with or without the intermediate on it.
    #[must_use]
    pub fn crl(&self, revoked: bool, issued: u64) -> Vec<u8> {
        let serials: &[u8] = if revoked { &[2] } else { &[] };
        self.ark.crl(serials, Period::month(issued))
    }

    /// A report of version 3 with these fields.
    #[must_use]
    pub fn report(&self, fields: &SnpFields) -> Vec<u8> {
        let mut out = vec![0; 0x4a0];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &3u32.to_le_bytes());
        put(0x08, &fields.policy.to_le_bytes());
        put(0x30, &fields.vmpl.to_le_bytes());
        put(0x34, &1u32.to_le_bytes());
        put(0x50, &fields.report_data);
        put(0x90, &fields.measurement);
        for at in [0x38, 0x180, 0x1e0, 0x1f0] {
            put(at, &fields.tcb);
        }
        put(0x188, &[fields.cpu.0, fields.cpu.1, 1]);
        put(0x1a0, &fields.chip_id);
        let signature = self.vcek.key.sign(&out[..0x2a0]);
        let (r, s) = signature.split_at(48);
        for (at, half) in [(0x2a0, r), (0x2a0 + 72, s)] {
            let little: Vec<u8> = half.iter().rev().copied().collect();
            out[at..at + 48].copy_from_slice(&little);
        }
        out
    }
}
