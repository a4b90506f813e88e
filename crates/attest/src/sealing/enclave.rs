//! The helper's side (spec 7.2) as far as no processor instruction is needed: which requests it answers, and with what.
//!
//! The check of the report's MAC, the sealing key and the quote are the enclave's; they come in as arguments.

use zeroize::Zeroizing;

use super::derive::{self, DeriveError, ENCRYPTED_LEN, ExchangeKey};
use super::message::GetPersistentKey;

/// Why a helper does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnclaveError {
    /// The report is not about this exchange.
    #[error("the report does not carry the hash of the key of this exchange")]
    ReportData,
    /// A report with a service domain, which this helper was not told to take.
    #[error("the report has version {0}, which this helper does not take")]
    Version(u8),
    /// The arithmetic.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// An answer without its quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For the message.
    pub encrypted: [u8; ENCRYPTED_LEN],
    /// For the quote.
    pub report_data: [u8; 64],
}

/// Answers a request whose report's MAC was verified on this processor. A domain in debug mode gets keys of its own:
/// its attributes are part of what is measured.
///
/// `service_domains` takes reports of version 1: their keys depend on the service domain, because its hash is part of
/// what is measured. The reference's helper takes version 0 only.
pub fn answer(
    request: &GetPersistentKey,
    sealing_key: &Zeroizing<[u8; 16]>,
    exchange: &ExchangeKey,
    service_domains: bool,
) -> Result<Answer, EnclaveError> {
    if request.report.report_data() != derive::request_report_data(&request.public_key) {
        return Err(EnclaveError::ReportData);
    }
    if request.report.version() != 0 && !service_domains {
        return Err(EnclaveError::Version(request.report.version()));
    }
    let key = derive::persistent_key(sealing_key, &request.report, &request.name);
    let encrypted = exchange.seal(&request.public_key, &key)?;
    Ok(Answer {
        encrypted,
        report_data: derive::answer_report_data(&request.public_key, &encrypted),
    })
}
