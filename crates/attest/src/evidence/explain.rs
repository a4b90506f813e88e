//! Why a peer passes or fails, from files: recorded evidence, its collateral, and a policy.
//!
//! Files are recognised by what is in them, so that a person can hand over whatever he has. The verdicts come from the
//! same code that decides connections.

use std::fmt;

use sha2::{Digest, Sha512};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::Verdict;
use super::chain;
use super::collateral::{Supply, TdxCollateral};
use super::gpu::{GpuRoot, nonce_for_key};
use super::gpu_policy::{GpuEvidence, GpuPolicy};
use super::lists::Bytes;
use super::policy_file::EvidencePolicy;
use super::rim::Rim;
use super::snp::{REPORT_LEN, SnpChain, SnpRoots};
use super::tdx::{self, TdxError, TdxRoot};
use crate::profile::{FAKE_QUOTE_LEN, OID_QUOTE};
use crate::quote::{self, QuoteBody};

/// Largest file read; collateral is the largest kind.
pub const MAX_FILE_LEN: usize = super::collateral::MAX_COLLATERAL_LEN;
/// Most files in one explanation.
pub const MAX_FILES: usize = 64;

/// Roots of trust of all makers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Intel's.
    pub tdx: TdxRoot,
    /// AMD's.
    pub snp: SnpRoots,
    /// NVIDIA's.
    pub gpu: GpuRoot,
}

impl Default for Roots {
    fn default() -> Self {
        Roots {
            tdx: TdxRoot::INTEL,
            snp: SnpRoots::amd(),
            gpu: GpuRoot::NVIDIA,
        }
    }
}

/// Why files cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// A file of no known kind.
    #[error(
        "{file}: cannot tell what this is (known: a peer's certificate, TDX quotes and their collateral, SNP reports with certificates, GPU reports with chain and reference manifests, revocation lists)"
    )]
    Unknown {
        /// Which file.
        file: String,
    },
    /// A file that is known but damaged.
    #[error("{file}: {reason}")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Too many files.
    #[error("more than {MAX_FILES} files")]
    TooMany,
    /// A second one of a kind of which one is enough.
    #[error("{file}: there is a {kind} already; explain one peer at a time")]
    Second {
        /// Which file.
        file: String,
        /// What kind.
        kind: &'static str,
    },
    /// Nothing to judge.
    #[error(
        "no evidence among the files: give a certificate, a TDX quote, an SNP report or a GPU report"
    )]
    NoEvidence,
    /// A file that another one needs.
    #[error("{0}")]
    Missing(&'static str),
}

/// One piece of evidence and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Section {
    /// What was judged.
    pub evidence: &'static str,
    /// Where it came from.
    pub file: String,
    /// Whether it passes.
    pub accepted: bool,
    /// The comparisons.
    pub checks: Verdict,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// Whether a peer with this evidence passes.
    pub accepted: bool,
    /// Name of the policy.
    pub policy: String,
    /// The time for which it was judged.
    pub at: String,
    /// What was judged.
    pub evidence: Vec<Section>,
}

struct Named<T> {
    file: String,
    value: T,
}

/// The files of one peer, sorted by kind.
#[derive(Default)]
pub struct Files {
    count: usize,
    key: Option<[u8; 32]>,
    quote: Option<Named<Vec<u8>>>,
    collateral: Vec<TdxCollateral>,
    snp: Option<Named<Vec<u8>>>,
    snp_key: Option<Vec<u8>>,
    snp_chain: Option<String>,
    gpu: Option<Named<Vec<u8>>>,
    gpu_chain: Option<Vec<u8>>,
    rims: Vec<Rim>,
    lists: Vec<Vec<u8>>,
}

impl Files {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file; says what it was taken for.
    pub fn add(&mut self, file: &str, bytes: &[u8]) -> Result<&'static str, ExplainError> {
        self.count += 1;
        if self.count > MAX_FILES {
            return Err(ExplainError::TooMany);
        }
        if bytes.len() > MAX_FILE_LEN {
            return Err(damaged(file, &"it is too large"));
        }
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Some(kind) = self.add_text(file, text)?
        {
            return Ok(kind);
        }
        self.add_binary(file, bytes)
    }

    fn add_text(&mut self, file: &str, text: &str) -> Result<Option<&'static str>, ExplainError> {
        let start = text.trim_start();
        if start.starts_with("-----BEGIN CERTIFICATE-----") {
            return self.add_pem(file, text).map(Some);
        }
        if start.starts_with('{') {
            let collateral = TdxCollateral::from_json(text).map_err(|e| damaged(file, &e))?;
            self.collateral.push(collateral);
            return Ok(Some("TDX collateral"));
        }
        if start.starts_with('<') {
            self.rims
                .push(Rim::parse(text).map_err(|e| damaged(file, &e))?);
            return Ok(Some("GPU reference manifest"));
        }
        // Tools print binary evidence in hexadecimal.
        match hex::decode(text.trim()) {
            Ok(bytes) if !bytes.is_empty() => self.add_binary(file, &bytes).map(Some),
            _ => Ok(None),
        }
    }

    fn add_pem(&mut self, file: &str, text: &str) -> Result<&'static str, ExplainError> {
        let ders = tdx::certificates(text.as_bytes());
        let (Some(first), Some(last)) = (ders.first(), ders.last()) else {
            return Err(damaged(file, &"no certificate can be read in it"));
        };
        if ders.len() == 1 && self.add_certificate(file, first)? {
            return Ok("peer's certificate");
        }
        if ders.len() == 1 && subject(first).contains("SEV-V") {
            return self.add_binary(file, first);
        }
        if subject(last).contains("NVIDIA") || ders.len() == 5 {
            set(
                &mut self.gpu_chain,
                text.as_bytes().to_vec(),
                file,
                "GPU certificate chain",
            )?;
            return Ok("GPU certificate chain");
        }
        set(
            &mut self.snp_chain,
            text.to_owned(),
            file,
            "SNP certificate chain",
        )?;
        Ok("SNP certificate chain")
    }

    fn add_binary(&mut self, file: &str, bytes: &[u8]) -> Result<&'static str, ExplainError> {
        let named = || Named {
            file: file.to_owned(),
            value: bytes.to_vec(),
        };
        if bytes.starts_with(&[0x11, 0xe0, 1, 0xff]) {
            set(&mut self.gpu, named(), file, "GPU report")?;
            return Ok("GPU report");
        }
        if bytes.len() == REPORT_LEN {
            set(&mut self.snp, named(), file, "SNP report")?;
            return Ok("SNP report");
        }
        if quote::parse(bytes).is_ok_and(|quote| matches!(quote.body, QuoteBody::Tdx(_))) {
            set(&mut self.quote, named(), file, "TDX quote")?;
            return Ok("TDX quote");
        }
        if bytes.first() == Some(&0x30) {
            if self.add_certificate(file, bytes)? {
                return Ok("peer's certificate");
            }
            if subject(bytes).contains("SEV-V") {
                set(
                    &mut self.snp_key,
                    bytes.to_vec(),
                    file,
                    "SNP key certificate",
                )?;
                return Ok("SNP key certificate");
            }
            if CertificateRevocationList::from_der(bytes).is_ok() {
                self.lists.push(bytes.to_vec());
                return Ok("revocation list");
            }
        }
        Err(ExplainError::Unknown {
            file: file.to_owned(),
        })
    }

    /// A certificate of the RA-TLS profile brings its quote and its key along.
    fn add_certificate(&mut self, file: &str, der: &[u8]) -> Result<bool, ExplainError> {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
            return Ok(false);
        };
        let extension = certificate
            .extensions()
            .iter()
            .find(|extension| extension.oid.as_bytes() == OID_QUOTE);
        let Some(extension) = extension else {
            return Ok(false);
        };
        let key = <[u8; 32]>::try_from(&*certificate.public_key().subject_public_key.data)
            .map_err(|_| damaged(file, &"its key is not an Ed25519 key"))?;
        let quote = Named {
            file: file.to_owned(),
            value: extension.value.to_vec(),
        };
        set(&mut self.key, key, file, "peer's certificate")?;
        set(&mut self.quote, quote, file, "TDX quote")?;
        Ok(true)
    }

    /// Judges everything by `policy` at the time `now` (Unix seconds).
    pub fn explain(
        &self,
        policy: &EvidencePolicy,
        now: u64,
        roots: &Roots,
    ) -> Result<Explanation, ExplainError> {
        let mut evidence = Vec::new();
        if let Some(quote) = &self.quote {
            evidence.push(section(
                "TDX quote",
                &quote.file,
                self.judge_tdx(policy, &quote.value, now, roots),
            ));
        }
        if let Some(report) = &self.snp {
            let verdict = self.judge_snp(policy, &report.value, now, roots)?;
            evidence.push(section("SNP report", &report.file, verdict));
        }
        if evidence.is_empty() && self.gpu.is_none() {
            return Err(ExplainError::NoEvidence);
        }
        if evidence.is_empty() {
            let mut verdict = Verdict::default();
            verdict.check(
                "machine",
                false,
                "a TDX quote or an SNP report",
                "only a GPU report",
            );
            evidence.push(section("machine", "", verdict));
        }
        if let Some(report) = &self.gpu {
            let verdict = self.judge_gpu(policy, &report.value, now, roots)?;
            evidence.push(section("GPU report", &report.file, verdict));
        } else if policy.gpu.is_some() {
            let mut verdict = Verdict::default();
            verdict.check("GPU", false, "a GPU report", "none");
            evidence.push(section("GPU report", "", verdict));
        }
        Ok(Explanation {
            accepted: evidence.iter().all(|section| section.accepted),
            policy: policy.name.clone(),
            at: crate::time::moment(now).to_string(),
            evidence,
        })
    }

    fn judge_tdx(&self, policy: &EvidencePolicy, quote: &[u8], now: u64, roots: &Roots) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(tdx) = &policy.tdx else {
            verdict.check("kind of machine", false, "SEV-SNP only", "TDX");
            return verdict;
        };
        if quote.len() == FAKE_QUOTE_LEN {
            verdict.check(
                "quote",
                false,
                "a genuine TDX quote",
                "a fake one (fake_tdx), which anybody can make",
            );
            return verdict;
        }
        let verified = tdx::platform(quote).and_then(|platform| {
            let issuer = platform.issuer.as_deref();
            let fits = |collateral: &&TdxCollateral| collateral.is_for(platform.fmspc, issuer);
            let collateral = self.collateral.iter().find(fits);
            let collateral = collateral.ok_or(TdxError::NoCollateral {
                fmspc: platform.fmspc,
                issuer: platform.issuer,
                supply: Supply::Nobody,
            })?;
            tdx.verify(quote, collateral, now, roots.tdx)
        });
        verdict.extend(tdx.verdict(quote, &verified));
        if let (Some(key), Ok(body)) = (&self.key, tdx::unverified_body(quote)) {
            let expected = Bytes(<[u8; 64]>::from(Sha512::digest(key)));
            let found = Bytes(body.measurements.report_data);
            verdict.check(
                "report data",
                expected == found,
                format!("{expected}, for the certificate's key"),
                found,
            );
        }
        verdict
    }

    fn judge_snp(
        &self,
        policy: &EvidencePolicy,
        report: &[u8],
        now: u64,
        roots: &Roots,
    ) -> Result<Verdict, ExplainError> {
        let mut verdict = Verdict::default();
        let Some(snp) = &policy.snp else {
            verdict.check("kind of machine", false, "TDX only", "SEV-SNP");
            return Ok(verdict);
        };
        let (Some(key), Some(chain)) = (&self.snp_key, &self.snp_chain) else {
            return Err(ExplainError::Missing(
                "an SNP report needs the certificate of its key (VCEK or VLEK, DER) and the chain of its generation (PEM) beside it",
            ));
        };
        match SnpChain::from_service(chain, key) {
            Ok(mut chain) => {
                chain.crl = self.list_of(&chain.ark);
                verdict.extend(snp.appraise(report, &chain, now, &roots.snp, None).0);
            }
            Err(error) => verdict.check(
                "report signature and chain",
                false,
                "a chain to AMD's root",
                error,
            ),
        }
        Ok(verdict)
    }

    /// The revocation list of an authority, if it was among the files.
    fn list_of(&self, authority: &[u8]) -> Option<Vec<u8>> {
        let (_, authority) = x509_parser::parse_x509_certificate(authority).ok()?;
        let mut lists = self.lists.iter();
        lists
            .find(|list| chain::is_list_of(list, &authority))
            .cloned()
    }

    fn judge_gpu(
        &self,
        policy: &EvidencePolicy,
        report: &[u8],
        now: u64,
        roots: &Roots,
    ) -> Result<Verdict, ExplainError> {
        let chain = self.gpu_chain.as_ref().ok_or(ExplainError::Missing(
            "a GPU report needs its certificate chain (PEM) beside it",
        ))?;
        let default = GpuPolicy::default();
        let nonce = self.key.as_ref().map(nonce_for_key);
        let evidence = GpuEvidence {
            report,
            chain,
            lists: &self.lists,
        };
        let gpu = policy.gpu.as_ref().unwrap_or(&default);
        Ok(gpu
            .appraise(evidence, now, roots.gpu, nonce.as_ref(), &self.rims)
            .0)
    }
}

fn section(evidence: &'static str, file: &str, checks: Verdict) -> Section {
    Section {
        evidence,
        file: file.to_owned(),
        accepted: checks.accepted(),
        checks,
    }
}

fn set<T>(
    slot: &mut Option<T>,
    value: T,
    file: &str,
    kind: &'static str,
) -> Result<(), ExplainError> {
    if slot.is_some() {
        let file = file.to_owned();
        return Err(ExplainError::Second { file, kind });
    }
    *slot = Some(value);
    Ok(())
}

fn subject(der: &[u8]) -> String {
    x509_parser::parse_x509_certificate(der)
        .map_or_else(|_| String::new(), |(_, c)| c.subject().to_string())
}

fn damaged(file: &str, reason: &dyn fmt::Display) -> ExplainError {
    ExplainError::Damaged {
        file: file.to_owned(),
        reason: reason.to_string(),
    }
}

/// Longest name of a field, for the column.
const FIELD_WIDTH: usize = 32;

/// In words, a line for each field; what fails also says what was expected.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy \"{}\" at {}", self.policy, self.at)?;
        for section in &self.evidence {
            let word = if section.accepted { "passes" } else { "FAILS" };
            let from = if section.file.is_empty() {
                String::new()
            } else {
                format!(" ({})", section.file)
            };
            writeln!(f, "\n{}{from} {word}", section.evidence)?;
            for check in section.checks.checks() {
                let (mark, field) = (if check.passed { "ok  " } else { "FAIL" }, check.field);
                writeln!(f, "  {mark}  {field:FIELD_WIDTH$}  {}", check.found)?;
                if !check.passed {
                    writeln!(
                        f,
                        "        {:FIELD_WIDTH$}  expected: {}",
                        "", check.expected
                    )?;
                }
                if !check.passed && field.contains("signature") {
                    writeln!(
                        f,
                        "        (what follows is only claimed, nothing of it is proved)"
                    )?;
                }
            }
        }
        let answer = if self.accepted {
            "a peer with this evidence is accepted"
        } else {
            "a peer with this evidence is REFUSED"
        };
        write!(f, "\n{answer}")
    }
}
