//! Is an enclave's quote genuine, and is the enclave the helper that may hold our keys? (spec 7.3, rows G39 and G40)
//!
//! The measurement of an enclave does not cover how it is run: the host can start the very same enclave in debug mode
//! and read its memory. So the attributes are judged too.

use dcap_qvl::policy::QuotePolicy;
use dcap_qvl::quote::Report;
use dcap_qvl::verify::QuoteVerifier;

use super::collateral::TdxCollateral;
use super::lists::Bytes;
use super::tdx::{self, Backend, PCK_CHAIN, TcbStatus, TdxError, TdxRoot};
use crate::quote::{self, MAX_QUOTE_LEN, QuoteBody};
use crate::time::moment;

/// The enclave was started properly.
pub const INIT: u64 = 1;
/// The host reads its memory.
pub const DEBUG: u64 = 1 << 1;
/// It runs in 64-bit mode.
pub const MODE64: u64 = 1 << 2;
/// It may derive the platform's provisioning key, which identifies the machine: Intel's own enclaves only.
pub const PROVISION_KEY: u64 = 1 << 4;
/// It may make launch tokens.
pub const EINITTOKEN_KEY: u64 = 1 << 5;
/// Key separation and sharing, which changes what its seal keys depend on.
pub const KSS: u64 = 1 << 7;

/// What a verified quote says about an enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SgxClaims {
    /// Flags; see the constants of this module.
    pub attributes: u64,
    /// Extended features it may use.
    pub xfrm: u64,
    /// Hash of its contents.
    pub mr_enclave: Bytes<32>,
    /// Hash of its signer's key.
    pub mr_signer: Bytes<32>,
    /// Product number.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// Chosen by the enclave.
    pub report_data: [u8; 64],
    /// Rating of platform and quoting enclave.
    pub tcb_status: TcbStatus,
    /// Edition of Intel's ratings.
    pub evaluation_number: u32,
    /// When the first part of the collateral ends to be valid, Unix seconds.
    pub collateral_expires: u64,
}

/// Why an enclave's quote is not accepted as genuine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SgxError {
    /// Another kind of quote.
    #[error("this is not an enclave's quote of version 3")]
    NotAnEnclave,
    /// Whatever is wrong with quotes of both kinds.
    #[error(transparent)]
    Quote(#[from] TdxError),
}

/// Verifies an enclave's quote at the time `now` (Unix seconds), with the collateral for SGX of its platform family.
pub fn verify(
    bytes: &[u8],
    collateral: &TdxCollateral,
    now: u64,
    root: TdxRoot,
) -> Result<SgxClaims, SgxError> {
    let chain = unverified_chain(bytes)?;
    let root_der = tdx::root_certificate(collateral, root)?;
    if chain.len() != 3 || chain[2] != root_der {
        return Err(
            TdxError::NoChain("three certificates are expected, the last being the root").into(),
        );
    }
    let claims = QuoteVerifier::<Backend>::new_with_config(root_der)
        .verify_with_policy(
            bytes,
            collateral.parts(),
            now,
            &QuotePolicy::claims_only(now),
        )
        .map_err(|error| TdxError::Verification(format!("{error:#}")))?;
    if claims.latest_issue_date > now {
        return Err(TdxError::Clock {
            now: moment(now),
            issued: moment(claims.latest_issue_date),
        }
        .into());
    }
    let Report::SgxEnclave(report) = &claims.report else {
        return Err(SgxError::NotAnEnclave);
    };
    let (flags, xfrm) = report.attributes.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    Ok(SgxClaims {
        attributes: number(flags),
        xfrm: number(xfrm),
        mr_enclave: Bytes(report.mr_enclave),
        mr_signer: Bytes(report.mr_signer),
        isv_prod_id: report.isv_prod_id,
        isv_svn: report.isv_svn,
        report_data: report.report_data,
        tcb_status: tdx::status(claims.tcb.status)?,
        evaluation_number: claims.tcb.eval_data_number,
        collateral_expires: claims.earliest_expiration_date,
    })
}

/// The platform's chain in a quote whose outer form is right: every length fits, nothing but zeros follows.
fn unverified_chain(bytes: &[u8]) -> Result<Vec<Vec<u8>>, SgxError> {
    if bytes.len() > MAX_QUOTE_LEN {
        return Err(TdxError::TooLong { found: bytes.len() }.into());
    }
    let quote = quote::parse(bytes).map_err(TdxError::from)?;
    if !matches!(quote.body, QuoteBody::Sgx(_)) || quote.version != 3 {
        return Err(SgxError::NotAnEnclave);
    }
    let (signature, rest) = tdx::signature_data(bytes, quote.signed_len)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(TdxError::Trailing { found: rest.len() }.into());
    }
    // Signature, key, report of the quoting enclave, its signature; then the authentication data with its length.
    let (length, rest) = signature
        .get(64 + 64 + 384 + 64..)
        .and_then(|rest| rest.split_first_chunk::<2>())
        .ok_or(TdxError::NoChain("its enclave report is cut off"))?;
    let chain = rest.get(usize::from(u16::from_le_bytes(*length))..);
    Ok(tdx::certificates(tdx::certification(chain, PCK_CHAIN)?))
}

/// What a helper must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperPolicy {
    /// Its contents: at least one must be named, an empty list refuses everybody.
    pub mr_enclaves: Vec<Bytes<32>>,
    /// Its signer, if that shall count. The reference's signing key is public and says nothing.
    pub mr_signers: Option<Vec<Bytes<32>>>,
    /// Its product number.
    pub isv_prod_id: u16,
    /// Its least security version. Raise it when a version is found weak: the keys do not depend on it (G40).
    pub min_isv_svn: u16,
    /// Ratings of its platform that are accepted.
    pub tcb_statuses: Vec<TcbStatus>,
    /// Oldest edition of Intel's ratings that is accepted.
    pub min_evaluation_number: u32,
}

impl HelperPolicy {
    /// The reference's enclave with these contents, on a platform that is up to date.
    #[must_use]
    pub fn new(mr_enclaves: Vec<Bytes<32>>) -> Self {
        HelperPolicy {
            mr_enclaves,
            mr_signers: None,
            isv_prod_id: 1,
            min_isv_svn: 1,
            tcb_statuses: vec![TcbStatus::UpToDate],
            min_evaluation_number: 0,
        }
    }
}

/// Why a genuine enclave is not our helper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelperRefusal {
    /// The host reads its memory.
    #[error("the helper runs in debug mode: the host can read every key it derives")]
    Debug,
    /// Flags that must be set or clear.
    #[error("the helper's attributes are {found:#x}: {rule}")]
    Attributes {
        /// Found.
        found: u64,
        /// What is demanded.
        rule: &'static str,
    },
    /// Other contents.
    #[error("the helper's contents (MRENCLAVE {found}) are not among those that are allowed")]
    MrEnclave {
        /// Found.
        found: Bytes<32>,
    },
    /// Another signer.
    #[error("the helper's signer (MRSIGNER {found}) is not among those that are allowed")]
    MrSigner {
        /// Found.
        found: Bytes<32>,
    },
    /// Another product.
    #[error("the helper's product number is {found}, expected {expected}")]
    Product {
        /// Expected.
        expected: u16,
        /// Found.
        found: u16,
    },
    /// An old version.
    #[error("the helper's security version is {found}, expected at least {least}")]
    Version {
        /// Least.
        least: u16,
        /// Found.
        found: u16,
    },
    /// A platform that is not patched.
    #[error("Intel rates the helper's platform {found}")]
    Tcb {
        /// Rating.
        found: TcbStatus,
    },
    /// Old ratings.
    #[error("the ratings are of edition {found}, expected at least {least}")]
    Evaluation {
        /// Least.
        least: u32,
        /// Found.
        found: u32,
    },
    /// About another exchange.
    #[error("the helper's quote is not about this exchange")]
    ReportData,
}

impl HelperPolicy {
    /// Whether the enclave is our helper and speaks about this exchange.
    pub fn judge(&self, claims: &SgxClaims, report_data: &[u8; 64]) -> Result<(), HelperRefusal> {
        let found = claims.attributes;
        if found & DEBUG != 0 {
            return Err(HelperRefusal::Debug);
        }
        for (holds, rule) in [
            (found & INIT != 0, "INIT must be set"),
            (found & MODE64 != 0, "64-bit mode must be set"),
            (
                found & (PROVISION_KEY | EINITTOKEN_KEY) == 0,
                "access to the platform's own keys must be clear",
            ),
            (
                found & !(INIT | MODE64 | KSS) == 0,
                "nothing else may be set but KSS",
            ),
        ] {
            if !holds {
                return Err(HelperRefusal::Attributes { found, rule });
            }
        }
        if !self.mr_enclaves.contains(&claims.mr_enclave) {
            let found = claims.mr_enclave;
            return Err(HelperRefusal::MrEnclave { found });
        }
        if let Some(signers) = &self.mr_signers
            && !signers.contains(&claims.mr_signer)
        {
            let found = claims.mr_signer;
            return Err(HelperRefusal::MrSigner { found });
        }
        if claims.isv_prod_id != self.isv_prod_id {
            return Err(HelperRefusal::Product {
                expected: self.isv_prod_id,
                found: claims.isv_prod_id,
            });
        }
        if claims.isv_svn < self.min_isv_svn {
            return Err(HelperRefusal::Version {
                least: self.min_isv_svn,
                found: claims.isv_svn,
            });
        }
        if !self.tcb_statuses.contains(&claims.tcb_status) {
            let found = claims.tcb_status;
            return Err(HelperRefusal::Tcb { found });
        }
        if claims.evaluation_number < self.min_evaluation_number {
            return Err(HelperRefusal::Evaluation {
                least: self.min_evaluation_number,
                found: claims.evaluation_number,
            });
        }
        if claims.report_data != *report_data {
            return Err(HelperRefusal::ReportData);
        }
        Ok(())
    }
}
