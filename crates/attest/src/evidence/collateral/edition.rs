//! Which edition of collateral this is: what must never go back, and until when it counts.

use dcap_qvl::QuoteCollateralV3;
use serde::Deserialize;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{CollateralError, malformed};
use crate::evidence::chain;
use crate::evidence::tdx;
use crate::time::{Moment, moment, parse_moment};

/// A host's clock may be behind Intel's by this much, in seconds; more, and collateral would be refused when it is used.
const CLOCK_ERROR: u64 = 300;
/// Longest number of a revocation list (RFC 5280, 5.2.3).
const MAX_CRL_NUMBER_LEN: usize = 20;

/// Edition of a signed text: grows with every disclosure, and within one of them with every issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignedEdition {
    /// `tcbEvaluationDataNumber`.
    pub evaluation: u32,
    /// Issue date, Unix seconds.
    pub issued: u64,
}

/// Edition of a revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrlEdition {
    /// CRL number, big-endian; zero if the list has none.
    pub number: [u8; MAX_CRL_NUMBER_LEN],
    /// `thisUpdate`, Unix seconds.
    pub issued: u64,
}

/// Editions of all parts, and their common life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    /// Of the TCB info.
    pub tcb_info: SignedEdition,
    /// Of the quoting enclave's identity.
    pub qe_identity: SignedEdition,
    /// Of the platforms' revocation list.
    pub pck_crl: CrlEdition,
    /// Of the root's revocation list.
    pub root_ca_crl: CrlEdition,
    /// When the newest part was issued, Unix seconds: before that, the clock must be wrong.
    pub issued: u64,
    /// When the first part ends to count, Unix seconds.
    pub expires: u64,
    /// `id` of TCB info and identity: `TDX` and `TD_QE`, or something of SGX.
    kinds: (String, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    id: String,
    tcb_evaluation_data_number: u32,
    issue_date: String,
    next_update: String,
}

impl std::fmt::Display for SignedEdition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let date = moment(self.issued);
        write!(f, "evaluation {}, issued {date}", self.evaluation)
    }
}

impl std::fmt::Display for CrlEdition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = hex::encode(self.number);
        let digits = digits.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        write!(f, "number 0x{digits}, issued {}", moment(self.issued))
    }
}

impl CrlEdition {
    /// Edition and end of a revocation list (DER). A list without an end is refused: it could be shown for ever.
    pub fn read(part: &'static str, der: &[u8]) -> Result<(Self, u64), CollateralError> {
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|e| malformed(part, &e))?;
        if !rest.is_empty() {
            return Err(malformed(part, &"bytes follow it"));
        }
        let digits = list
            .crl_number()
            .map(|number| number.to_bytes_be())
            .unwrap_or_default();
        let mut number = [0; MAX_CRL_NUMBER_LEN];
        let start = MAX_CRL_NUMBER_LEN
            .checked_sub(digits.len())
            .ok_or_else(|| malformed(part, &"its number has more than 20 bytes"))?;
        number[start..].copy_from_slice(&digits);
        let end = list
            .next_update()
            .ok_or_else(|| malformed(part, &"it has no end"))?;
        let issued = seconds(list.last_update().timestamp());
        Ok((CrlEdition { number, issued }, seconds(end.timestamp())))
    }
}

impl Edition {
    pub(super) fn read(parts: &QuoteCollateralV3) -> Result<Self, CollateralError> {
        let (tcb_info, tcb_end, tcb_kind) = signed("tcb_info", &parts.tcb_info)?;
        let (qe_identity, qe_end, qe_kind) = signed("qe_identity", &parts.qe_identity)?;
        let (pck_crl, pck_end) = CrlEdition::read("pck_crl", &parts.pck_crl)?;
        let (root_ca_crl, root_end) = CrlEdition::read("root_ca_crl", &parts.root_ca_crl)?;
        let mut expires = tcb_end.min(qe_end).min(pck_end).min(root_end);
        for chain in [
            &parts.tcb_info_issuer_chain,
            &parts.qe_identity_issuer_chain,
            &parts.pck_crl_issuer_chain,
        ] {
            for der in tdx::certificates(chain.as_bytes()) {
                let certificate = chain::parse("a certificate of the collateral", &der)
                    .map_err(|e| malformed("issuer chain", &e))?;
                expires = expires.min(seconds(certificate.validity().not_after.timestamp()));
            }
        }
        let dates = [
            tcb_info.issued,
            qe_identity.issued,
            pck_crl.issued,
            root_ca_crl.issued,
        ];
        Ok(Edition {
            tcb_info,
            qe_identity,
            pck_crl,
            root_ca_crl,
            issued: dates.into_iter().max().unwrap_or_default(),
            expires,
            kinds: (tcb_kind, qe_kind),
        })
    }

    /// The first part that is older than in `held`: its name, this edition and the one held.
    #[must_use]
    pub fn goes_back(&self, held: &Edition) -> Option<(&'static str, String, String)> {
        fn older<T: Ord + std::fmt::Display>(
            part: &'static str,
            found: &T,
            held: &T,
        ) -> Option<(&'static str, String, String)> {
            (found < held).then(|| (part, found.to_string(), held.to_string()))
        }
        older("the TCB info", &self.tcb_info, &held.tcb_info)
            .or_else(|| {
                older(
                    "the quoting enclave's identity",
                    &self.qe_identity,
                    &held.qe_identity,
                )
            })
            .or_else(|| {
                older(
                    "the platforms' revocation list",
                    &self.pck_crl,
                    &held.pck_crl,
                )
            })
            .or_else(|| {
                older(
                    "the root's revocation list",
                    &self.root_ca_crl,
                    &held.root_ca_crl,
                )
            })
    }

    /// Whether it is TDX collateral that counts at `now` (Unix seconds); a clock may be some minutes behind.
    pub fn check(&self, fmspc: super::Bytes<6>, now: u64) -> Result<(), CollateralError> {
        for (expected, found) in [("TDX", &self.kinds.0), ("TD_QE", &self.kinds.1)] {
            if expected != found {
                return Err(CollateralError::NotTdx {
                    expected,
                    found: found.chars().take(40).collect(),
                });
            }
        }
        if self.issued > now.saturating_add(CLOCK_ERROR) || self.expires <= now {
            return Err(CollateralError::NotOfNow {
                fmspc,
                issued: moment(self.issued),
                expires: moment(self.expires),
                now: moment(now),
            });
        }
        Ok(())
    }

    /// When the first part ends, for people.
    #[must_use]
    pub fn end(&self) -> Moment {
        moment(self.expires)
    }
}

fn signed(part: &'static str, text: &str) -> Result<(SignedEdition, u64, String), CollateralError> {
    let dated: Dated = serde_json::from_str(text).map_err(|e| malformed(part, &e))?;
    let date = |text: &str| {
        parse_moment(text).ok_or_else(|| malformed(part, &"a date has not the form of RFC 3339"))
    };
    let edition = SignedEdition {
        evaluation: dated.tcb_evaluation_data_number,
        issued: date(&dated.issue_date)?,
    };
    Ok((edition, date(&dated.next_update)?, dated.id))
}

/// Dates before 1970 are 1970: they lie in the past all the same.
fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or_default()
}
