//! A software TDX: a quoting enclave that signs any body, and an Intel that publishes collateral for it.

mod sgx;

use serde_json::json;
use sha2::{Digest, Sha256, Sha384};

use crate::MARKER;
use crate::der::{element, extension, integer, octets, oid, rfc3339, sequence};
use crate::pki::{Certified, Key, Kind, Period, Subject, pem};

const FMSPC: [u8; 6] = [0xc0, 0xc0, 0x0a, 0, 0, 1];
const CPU_SVN: [u8; 16] = [5; 16];
const PCE_SVN: u8 = 11;
const QE_SIGNER: [u8; 32] = [0x51; 32];
const QE_PRODUCT: u16 = 2;
const QE_VENDOR: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

pub use sgx::EnclaveFields;

/// The body of a quote. The default is a sound domain with every measurement zero.
#[derive(Debug, Clone)]
pub struct TdFields {
    /// Version of the quote: 4 for TDX 1.0 bodies, 5 for TDX 1.5 ones.
    pub version: u16,
    /// See the TDX module's documents.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the module.
    pub mr_seam: [u8; 48],
    /// Signer of the module.
    pub mr_signer_seam: [u8; 48],
    /// Attributes of the domain.
    pub td_attributes: u64,
    /// Extended features.
    pub xfam: u64,
    /// Measurements: MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG, RTMR0 to 3.
    pub registers: [[u8; 48]; 8],
    /// Chosen by the domain.
    pub report_data: [u8; 64],
    /// Service domain, in TDX 1.5 bodies.
    pub mr_service_td: [u8; 48],
}

impl Default for TdFields {
    fn default() -> Self {
        TdFields {
            version: 4,
            tee_tcb_svn: [3; 16].map(|_| 0),
            mr_seam: [0x5e; 48],
            mr_signer_seam: [0; 48],
            td_attributes: 1 << 28,
            xfam: 0xe7,
            registers: [[0; 48]; 8],
            report_data: [0; 64],
            mr_service_td: [0; 48],
        }
    }
}

impl TdFields {
    fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(648);
        out.extend(self.tee_tcb_svn);
        out.extend(self.mr_seam);
        out.extend(self.mr_signer_seam);
        out.extend([0; 8]);
        out.extend(self.td_attributes.to_le_bytes());
        out.extend(self.xfam.to_le_bytes());
        out.extend(self.registers.concat());
        out.extend(self.report_data);
        if self.version == 5 {
            out.extend(self.tee_tcb_svn);
            out.extend(self.mr_service_td);
        }
        out
    }
}

/// A platform with its maker.
pub struct SoftTdx {
    root: Certified,
    ca: Certified,
    signer: Certified,
    pck: Certified,
    attestation: Key,
    now: u64,
    /// Rating of the platform in the collateral.
    pub tcb_status: String,
    /// Weaknesses named in the collateral.
    pub advisories: Vec<String>,
    /// Edition of the ratings.
    pub evaluation_number: u32,
    /// Number of both revocation lists.
    pub crl_number: u8,
    /// Whether the platform's certificate is revoked.
    pub revoked: bool,
    /// Whether the authority above it is revoked.
    pub ca_revoked: bool,
}

impl SoftTdx {
    /// A new platform whose certificates are valid for some years around `now`.
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
        let plain = |name, extensions| Subject {
            name,
            authority: false,
            extensions,
        };
        let root = Certified::root(Kind::P256, &authority(MARKER), period);
        let ca = root.issue(
            Kind::P256,
            &authority("Software PCK Platform CA"),
            period,
            2,
        );
        let signer = root.issue(Kind::P256, &plain("Software TCB Signing", &[]), period, 3);
        let pck = ca.issue(
            Kind::P256,
            &plain("Software PCK", &[sgx_extension()]),
            period,
            4,
        );
        SoftTdx {
            root,
            ca,
            signer,
            pck,
            attestation: Key::generate(Kind::P256),
            now,
            tcb_status: "UpToDate".to_owned(),
            advisories: Vec::new(),
            evaluation_number: 20,
            crl_number: 1,
            revoked: false,
            ca_revoked: false,
        }
    }

    /// SHA-256 of the root's certificate, by which a verifier pins it.
    #[must_use]
    pub fn root_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.root.der).into()
    }

    /// SHA-384 of the root's public point: its collateral root hash.
    #[must_use]
    pub fn root_hash(&self) -> [u8; 48] {
        Sha384::digest(self.root.key.public()).into()
    }

    /// A quote for these fields.
    #[must_use]
    pub fn quote(&self, fields: &TdFields) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(fields.version.to_le_bytes());
        out.extend([2, 0, 0x81, 0, 0, 0, 0, 0, 0, 0]);
        out.extend(QE_VENDOR);
        out.extend([0; 20]);
        let body = fields.body();
        if fields.version == 5 {
            out.extend([3, 0]);
            out.extend((body.len() as u32).to_le_bytes());
        }
        out.extend(body);
        let point = &self.attestation.public()[1..];
        let authentication = [0xa5; 32];
        let report = qe_report(point, &authentication);
        let chain = pem(&[&self.pck.der, &self.ca.der, &self.root.der]);
        let mut certification = report.clone();
        certification.extend(self.pck.key.sign(&report));
        certification.extend([32, 0]);
        certification.extend(authentication);
        certification.extend([5, 0]);
        certification.extend((chain.len() as u32).to_le_bytes());
        certification.extend(chain.as_bytes());
        let mut signature = self.attestation.sign(&out);
        signature.extend(point);
        signature.extend([6, 0]);
        signature.extend((certification.len() as u32).to_le_bytes());
        signature.extend(certification);
        out.extend((signature.len() as u32).to_le_bytes());
        out.extend(signature);
        out
    }

    /// The collateral as Intel's service would have published it a day before now, in the common file form.
    #[must_use]
    pub fn collateral(&self) -> String {
        self.collateral_at(self.now - 86_400)
    }

    /// The collateral as published at `issued`; it lives for a month.
    #[must_use]
    pub fn collateral_at(&self, issued: u64) -> String {
        let period = Period::month(issued);
        let tcb_info = self.tcb_info(period);
        let identity = self.qe_identity(period);
        let sign = |text: &str| hex::encode(self.signer.key.sign(text.as_bytes()));
        let signers = pem(&[&self.signer.der, &self.root.der]);
        let revoked: &[u8] = if self.revoked { &[4] } else { &[] };
        let authorities: &[u8] = if self.ca_revoked { &[2] } else { &[] };
        json!({
            "pck_crl_issuer_chain": pem(&[&self.ca.der, &self.root.der]),
            "root_ca_crl": hex::encode(self.root.numbered_crl(self.crl_number, authorities, period)),
            "pck_crl": hex::encode(self.ca.numbered_crl(self.crl_number, revoked, period)),
            "tcb_info_issuer_chain": signers,
            "tcb_info_signature": sign(&tcb_info),
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": signers,
            "qe_identity_signature": sign(&identity),
            "qe_identity": identity,
        })
        .to_string()
    }

    fn tcb_info(&self, period: Period) -> String {
        let components = |svn: u8| vec![json!({ "svn": svn }); 16];
        json!({
            "id": "TDX",
            "version": 3,
            "issueDate": rfc3339(period.from),
            "nextUpdate": rfc3339(period.to),
            "fmspc": hex::encode(FMSPC),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": self.evaluation_number,
            "tdxModule": {"mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "ff".repeat(8)},
            "tcbLevels": [{
                "tcb": {"sgxtcbcomponents": components(5), "pcesvn": PCE_SVN, "tdxtcbcomponents": components(0)},
                "tcbDate": rfc3339(period.from),
                "tcbStatus": self.tcb_status,
                "advisoryIDs": self.advisories,
            }],
        })
        .to_string()
    }

    fn qe_identity(&self, period: Period) -> String {
        json!({
            "id": "TD_QE",
            "version": 2,
            "issueDate": rfc3339(period.from),
            "nextUpdate": rfc3339(period.to),
            "tcbEvaluationDataNumber": self.evaluation_number,
            "miscselect": "00000000",
            "miscselectMask": "ffffffff",
            "attributes": format!("11{}", "00".repeat(15)),
            "attributesMask": format!("fbffffffffffffff{}", "00".repeat(8)),
            "mrsigner": hex::encode(QE_SIGNER),
            "isvprodid": QE_PRODUCT,
            "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": rfc3339(period.from), "tcbStatus": "UpToDate"}],
        })
        .to_string()
    }
}

/// The report of the quoting enclave: 384 bytes that name the attestation key.
fn qe_report(point: &[u8], authentication: &[u8]) -> Vec<u8> {
    let mut report = vec![0; 384];
    report[..16].copy_from_slice(&CPU_SVN);
    report[48] = 0x11; // INIT and 64 bit, not DEBUG
    report[128..160].copy_from_slice(&QE_SIGNER);
    report[256..258].copy_from_slice(&QE_PRODUCT.to_le_bytes());
    report[258] = 4;
    let binding = Sha256::new()
        .chain_update(point)
        .chain_update(authentication)
        .finalize();
    report[320..352].copy_from_slice(&binding);
    report
}

/// What a platform's certificate says about it.
fn sgx_extension() -> Vec<u8> {
    let id = |tail: &str| format!("1.2.840.113741.1.13.1{tail}");
    let pair = |tail: &str, value: &[u8]| sequence(&[&oid(&id(tail)), value]);
    let mut tcb: Vec<u8> = (1..=16)
        .flat_map(|index| pair(&format!(".2.{index}"), &integer(&[5])))
        .collect();
    tcb.extend(pair(".2.17", &integer(&[PCE_SVN])));
    tcb.extend(pair(".2.18", &octets(&CPU_SVN)));
    let value = sequence(&[
        &pair(".1", &octets(&[0xbb; 16])),
        &pair(".2", &sequence(&[&tcb])),
        &pair(".3", &octets(&[0, 0])),
        &pair(".4", &octets(&FMSPC)),
        &pair(".5", &element(0x0a, &[&[1]])),
    ]);
    extension(&id(""), false, &value)
}
