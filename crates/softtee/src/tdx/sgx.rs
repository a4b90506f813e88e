//! The same platform's enclaves: SGX quotes (version 3) and their collateral.

use serde_json::json;

use super::{CPU_SVN, FMSPC, PCE_SVN, QE_PRODUCT, QE_SIGNER, QE_VENDOR, SoftTdx, qe_report};
use crate::der::rfc3339;
use crate::pki::{Period, pem};

/// The body of an enclave's quote. The default is a sound production enclave.
#[derive(Debug, Clone)]
pub struct EnclaveFields {
    /// Flags and XFRM; bit 1 of the first byte is DEBUG.
    pub attributes: [u8; 16],
    /// Extended report fields.
    pub misc_select: u32,
    /// Measurement of the contents.
    pub mr_enclave: [u8; 32],
    /// Measurement of the signer's key.
    pub mr_signer: [u8; 32],
    /// Product number.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// Chosen by the enclave.
    pub report_data: [u8; 64],
}

impl Default for EnclaveFields {
    fn default() -> Self {
        let mut attributes = [0; 16];
        attributes[0] = 0x05; // INIT and 64 bit
        attributes[8] = 0x03; // x87 and SSE
        EnclaveFields {
            attributes,
            misc_select: 0,
            mr_enclave: [0xe1; 32],
            mr_signer: [0x51; 32],
            isv_prod_id: 1,
            isv_svn: 1,
            report_data: [0; 64],
        }
    }
}

impl EnclaveFields {
    fn body(&self) -> Vec<u8> {
        let mut body = vec![0; 384];
        body[..16].copy_from_slice(&CPU_SVN);
        body[16..20].copy_from_slice(&self.misc_select.to_le_bytes());
        body[48..64].copy_from_slice(&self.attributes);
        body[64..96].copy_from_slice(&self.mr_enclave);
        body[128..160].copy_from_slice(&self.mr_signer);
        body[256..258].copy_from_slice(&self.isv_prod_id.to_le_bytes());
        body[258..260].copy_from_slice(&self.isv_svn.to_le_bytes());
        body[320..].copy_from_slice(&self.report_data);
        body
    }
}

impl SoftTdx {
    /// A quote of an enclave on this platform.
    #[must_use]
    pub fn enclave_quote(&self, fields: &EnclaveFields) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend([3, 0, 2, 0, 0, 0, 0, 0]);
        // Security versions of the quoting enclave and of the certifying one.
        out.extend([4, 0, PCE_SVN, 0]);
        out.extend(QE_VENDOR);
        out.extend([0; 20]);
        out.extend(fields.body());
        let point = &self.attestation.public()[1..];
        let authentication = [0xa5; 32];
        let report = qe_report(point, &authentication);
        let chain = pem(&[&self.pck.der, &self.ca.der, &self.root.der]);
        let mut signature = self.attestation.sign(&out);
        signature.extend(point);
        signature.extend(&report);
        signature.extend(self.pck.key.sign(&report));
        signature.extend([32, 0]);
        signature.extend(authentication);
        signature.extend([5, 0]);
        signature.extend((chain.len() as u32).to_le_bytes());
        signature.extend(chain.as_bytes());
        out.extend((signature.len() as u32).to_le_bytes());
        out.extend(signature);
        out
    }

    /// The collateral for enclaves, as published a day before now.
    #[must_use]
    pub fn enclave_collateral(&self) -> String {
        let period = Period::month(self.now - 86_400);
        let tcb_info = json!({
            "id": "SGX",
            "version": 3,
            "issueDate": rfc3339(period.from),
            "nextUpdate": rfc3339(period.to),
            "fmspc": hex::encode(FMSPC),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": self.evaluation_number,
            "tcbLevels": [{
                "tcb": {"sgxtcbcomponents": vec![json!({ "svn": 5 }); 16], "pcesvn": PCE_SVN},
                "tcbDate": rfc3339(period.from),
                "tcbStatus": self.tcb_status,
                "advisoryIDs": self.advisories,
            }],
        })
        .to_string();
        let identity = json!({
            "id": "QE",
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
        .to_string();
        let sign = |text: &str| hex::encode(self.signer.key.sign(text.as_bytes()));
        let signers = pem(&[&self.signer.der, &self.root.der]);
        let revoked: &[u8] = if self.revoked { &[4] } else { &[] };
        json!({
            "pck_crl_issuer_chain": pem(&[&self.ca.der, &self.root.der]),
            "root_ca_crl": hex::encode(self.root.crl(&[], period)),
            "pck_crl": hex::encode(self.ca.crl(revoked, period)),
            "tcb_info_issuer_chain": signers,
            "tcb_info_signature": sign(&tcb_info),
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": signers,
            "qe_identity_signature": sign(&identity),
            "qe_identity": identity,
        })
        .to_string()
    }
}
