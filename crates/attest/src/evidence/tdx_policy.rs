//! What we demand of a TDX platform and domain. The defaults are strict; a policy can only be loosened where a
//! reasonable network might, never so far that the host reads the domain's memory.

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::collateral::TdxCollateral;
use super::lists::{AllowList, Bytes, Mask, distinct};
use super::tdx::{self, TcbStatus, TdxClaims, TdxError, TdxRoot};
use crate::quote::TdBody;
use crate::time::moment;

/// Bits 0 to 7 of the attributes: whoever has one of them set is open to his host (DEBUG, profiling).
pub const ATTRIBUTES_UNDER_DEBUG: u64 = 0xff;
/// A migratable domain can be copied to another machine by whoever controls its migration.
pub const ATTRIBUTE_MIGRATABLE: u64 = 1 << 29;
/// The host may not make pages of the domain fault.
pub const ATTRIBUTE_SEPT_VE_DISABLE: u64 = 1 << 28;
/// Supervisor protection keys: harmless.
const ATTRIBUTE_PKS: u64 = 1 << 30;
/// Performance counters inside the domain: harmless to it.
const ATTRIBUTE_PERFMON: u64 = 1 << 63;
/// x87 and SSE, without which no domain runs.
const XFAM_FIXED: u64 = 0b11;
/// x87, SSE, AVX, AVX-512, PKRU, CET, user interrupts, AMX. Processor trace and last-branch records stay out.
const XFAM_DEFAULT: u64 = 0x6_5ae7;

/// Demands on a quote. In a file every key can be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TdxPolicy {
    /// Ratings that are accepted.
    #[serde(deserialize_with = "statuses")]
    pub tcb_statuses: Vec<TcbStatus>,
    /// Weaknesses that must not be open, whatever the rating.
    #[serde(deserialize_with = "distinct", skip_serializing_if = "Vec::is_empty")]
    pub refused_advisories: Vec<String>,
    /// Oldest accepted edition of Intel's ratings: who controls the clock cannot bring back older collateral.
    pub minimum_evaluation_number: u32,
    /// Accept platforms that can be extended with packages.
    pub allow_dynamic_platform: bool,
    /// Accept platforms whose root keys Intel keeps (all multi-package servers registered with it).
    pub allow_cached_keys: bool,
    /// Accept hyper-threading.
    pub allow_smt: bool,
    /// Attribute bits that must be set.
    pub td_attributes_required: Mask,
    /// Attribute bits that may be set.
    pub td_attributes_allowed: Mask,
    /// Extended features that may be on.
    pub xfam_allowed: Mask,
    /// Least security version numbers of the TDX module, byte by byte.
    #[serde(skip_serializing_if = "Bytes::is_zero")]
    pub minimum_tee_tcb_svn: Bytes<16>,
    /// Allowed TDX modules.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub mr_seam: AllowList<Bytes<48>>,
    /// Allowed signers of the TDX module; zero is Intel.
    pub mr_signer_seam: AllowList<Bytes<48>>,
    /// Allowed service domains; zero is none.
    pub mr_service_td: AllowList<Bytes<48>>,
    /// Allowed initial measurements.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub mr_td: AllowList<Bytes<48>>,
    /// Allowed configuration identities.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub mr_config_id: AllowList<Bytes<48>>,
    /// Allowed owners.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub mr_owner: AllowList<Bytes<48>>,
    /// Allowed owner configurations.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub mr_owner_config: AllowList<Bytes<48>>,
    /// Allowed values of each run-time register.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub rtmr0: AllowList<Bytes<48>>,
    /// See `rtmr0`.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub rtmr1: AllowList<Bytes<48>>,
    /// See `rtmr0`.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub rtmr2: AllowList<Bytes<48>>,
    /// See `rtmr0`.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub rtmr3: AllowList<Bytes<48>>,
    /// Allowed image hashes (spec 4.4).
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub image_hashes: AllowList<Bytes<32>>,
    /// Allowed processor packages.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub ppid_allowed: AllowList<Bytes<16>>,
    /// Refused processor packages; wins over `ppid_allowed`.
    #[serde(deserialize_with = "distinct", skip_serializing_if = "Vec::is_empty")]
    pub ppid_denied: Vec<Bytes<16>>,
}

impl Default for TdxPolicy {
    fn default() -> Self {
        let zero = || AllowList::Only(vec![Bytes::ZERO]);
        TdxPolicy {
            tcb_statuses: vec![TcbStatus::UpToDate],
            refused_advisories: Vec::new(),
            minimum_evaluation_number: 0,
            allow_dynamic_platform: true,
            allow_cached_keys: true,
            allow_smt: true,
            td_attributes_required: Mask(ATTRIBUTE_SEPT_VE_DISABLE),
            td_attributes_allowed: Mask(
                ATTRIBUTE_SEPT_VE_DISABLE | ATTRIBUTE_PKS | ATTRIBUTE_PERFMON,
            ),
            xfam_allowed: Mask(XFAM_DEFAULT),
            minimum_tee_tcb_svn: Bytes::ZERO,
            mr_seam: AllowList::Any,
            mr_signer_seam: zero(),
            mr_service_td: zero(),
            mr_td: AllowList::Any,
            mr_config_id: AllowList::Any,
            mr_owner: AllowList::Any,
            mr_owner_config: AllowList::Any,
            rtmr0: AllowList::Any,
            rtmr1: AllowList::Any,
            rtmr2: AllowList::Any,
            rtmr3: AllowList::Any,
            image_hashes: AllowList::Any,
            ppid_allowed: AllowList::Any,
            ppid_denied: Vec::new(),
        }
    }
}

fn statuses<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<TcbStatus>, D::Error> {
    let list = distinct(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("no TCB status is accepted"));
    }
    Ok(list)
}

/// Why a policy makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TdxPolicyError {
    /// Attributes that give the host the domain's memory.
    #[error(
        "td_attributes_allowed {0} lets the host read the domain (bits 0 to 7 and 29 cannot be allowed)"
    )]
    Attributes(Mask),
    /// A required bit that is not allowed, or an impossible XFAM.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl TdxPolicy {
    /// Refuses policies that cannot be meant.
    pub fn validate(&self) -> Result<(), TdxPolicyError> {
        let allowed = self.td_attributes_allowed.0;
        if allowed & (ATTRIBUTES_UNDER_DEBUG | ATTRIBUTE_MIGRATABLE) != 0 {
            return Err(TdxPolicyError::Attributes(self.td_attributes_allowed));
        }
        if self.td_attributes_required.0 & !allowed != 0 {
            let what = "td_attributes_required asks for bits that td_attributes_allowed forbids";
            return Err(TdxPolicyError::Contradiction(what));
        }
        if self.xfam_allowed.0 & XFAM_FIXED != XFAM_FIXED {
            let what = "xfam_allowed must include bits 0 and 1, which every domain has";
            return Err(TdxPolicyError::Contradiction(what));
        }
        Ok(())
    }

    /// Verifies a quote and compares everything it says, at the time `now`. The claims are given only for a genuine
    /// quote; whether they are good enough is the verdict.
    pub fn appraise(
        &self,
        quote: &[u8],
        collateral: &TdxCollateral,
        now: u64,
        root: TdxRoot,
    ) -> (Verdict, Option<TdxClaims>) {
        let verified = self.verify(quote, collateral, now, root);
        (self.verdict(quote, &verified), verified.ok())
    }

    /// [`tdx::verify`], with service domains admitted if the policy speaks of them.
    pub fn verify(
        &self,
        quote: &[u8],
        collateral: &TdxCollateral,
        now: u64,
        root: TdxRoot,
    ) -> Result<TdxClaims, TdxError> {
        let service_td = self.mr_service_td != TdxPolicy::default().mr_service_td;
        tdx::verify(quote, collateral, now, root, service_td)
    }

    /// The comparison with the outcome of [`tdx::verify`]. What a quote that does not verify claims is shown all the
    /// same; it can explain a refusal, never make an acceptance.
    #[must_use]
    pub fn verdict(&self, quote: &[u8], verified: &Result<TdxClaims, TdxError>) -> Verdict {
        let mut verdict = Verdict::default();
        let valid = self.validate();
        if let Err(error) = &valid {
            verdict.check("policy", false, "a policy that makes sense", error);
        }
        match verified {
            Ok(claims) => {
                let found = format!(
                    "verified, collateral good until {}",
                    moment(claims.collateral_expires)
                );
                verdict.check("quote signatures and collateral", true, GENUINE, found);
                self.judge_platform(&mut verdict, claims);
                self.judge_body(&mut verdict, &claims.body);
            }
            Err(error) => {
                verdict.check("quote signatures and collateral", false, GENUINE, error);
                if error.is_transient() {
                    verdict.mark_transient();
                }
                if let Ok(body) = tdx::unverified_body(quote) {
                    self.judge_body(&mut verdict, &body);
                }
            }
        }
        verdict
    }

    fn judge_platform(&self, verdict: &mut Verdict, claims: &TdxClaims) {
        let statuses: Vec<String> = self.tcb_statuses.iter().map(ToString::to_string).collect();
        verdict.check(
            "TCB status",
            self.tcb_statuses.contains(&claims.tcb_status),
            statuses.join(" or "),
            claims.tcb_status,
        );
        let refused = |id: &String| {
            self.refused_advisories
                .iter()
                .any(|refused| refused.eq_ignore_ascii_case(id))
        };
        verdict.check(
            "open advisories",
            !claims.advisory_ids.iter().any(refused),
            none_of(&self.refused_advisories),
            list_or_none(&claims.advisory_ids),
        );
        verdict.check(
            "TCB evaluation number",
            claims.evaluation_number >= self.minimum_evaluation_number,
            format!("at least {}", self.minimum_evaluation_number),
            claims.evaluation_number,
        );
        for (field, allowed, found) in [
            (
                "dynamic platform",
                self.allow_dynamic_platform,
                claims.dynamic_platform,
            ),
            ("cached keys", self.allow_cached_keys, claims.cached_keys),
            ("SMT", self.allow_smt, claims.smt),
        ] {
            let expected = if allowed { "any" } else { "off" };
            verdict.check(
                field,
                allowed || !found,
                expected,
                if found { "on" } else { "off" },
            );
        }
        self.ppid_allowed.check(verdict, "PPID", &claims.ppid);
        verdict.check(
            "PPID not denied",
            !self.ppid_denied.contains(&claims.ppid),
            none_of(&self.ppid_denied),
            claims.ppid,
        );
    }

    fn judge_body(&self, verdict: &mut Verdict, body: &TdBody) {
        let attributes = body.td_attributes;
        let (required, allowed) = (self.td_attributes_required.0, self.td_attributes_allowed.0);
        verdict.check(
            "TD attributes",
            attributes & required == required && attributes & !allowed == 0,
            format!("{} set, nothing outside {}", Mask(required), Mask(allowed)),
            describe_attributes(attributes),
        );
        verdict.check(
            "XFAM",
            body.xfam & !self.xfam_allowed.0 == 0 && body.xfam & XFAM_FIXED == XFAM_FIXED,
            format!("nothing outside {}", self.xfam_allowed),
            Mask(body.xfam),
        );
        verdict.check(
            "SEAM attributes",
            body.seam_attributes == 0,
            Mask(0),
            Mask(body.seam_attributes),
        );
        verdict.check(
            "TEE TCB SVN",
            body.tee_tcb_svn
                .iter()
                .zip(&self.minimum_tee_tcb_svn.0)
                .all(|(found, least)| found >= least),
            format!("each byte at least that of {}", self.minimum_tee_tcb_svn),
            Bytes(body.tee_tcb_svn),
        );
        self.mr_seam.check(verdict, "MRSEAM", &Bytes(body.mr_seam));
        self.mr_signer_seam
            .check(verdict, "MRSIGNERSEAM", &Bytes(body.mr_signer_seam));
        // Bodies of TDX 1.0 have no such field because no service domain can be bound.
        let service = Bytes(body.mr_service_td.unwrap_or([0; 48]));
        self.mr_service_td.check(verdict, "MRSERVICETD", &service);
        if let Some(current) = body.current_service_td {
            self.mr_service_td
                .check(verdict, "current service TD", &Bytes(current));
        }
        let measured = &body.measurements;
        let rtmr = measured.rtmr.map(Bytes);
        for (list, field, found) in [
            (&self.mr_td, "MRTD", Bytes(measured.mr_td)),
            (
                &self.mr_config_id,
                "MRCONFIGID",
                Bytes(measured.mr_config_id),
            ),
            (&self.mr_owner, "MROWNER", Bytes(measured.mr_owner)),
            (
                &self.mr_owner_config,
                "MROWNERCONFIG",
                Bytes(measured.mr_owner_config),
            ),
            (&self.rtmr0, "RTMR0", rtmr[0]),
            (&self.rtmr1, "RTMR1", rtmr[1]),
            (&self.rtmr2, "RTMR2", rtmr[2]),
            (&self.rtmr3, "RTMR3", rtmr[3]),
        ] {
            list.check(verdict, field, &found);
        }
        self.image_hashes
            .check(verdict, "image hash", &Bytes(measured.image_hash()));
    }
}

const GENUINE: &str = "genuine, by Intel's root, current and not revoked";

fn none_of<T: std::fmt::Display>(list: &[T]) -> String {
    if list.is_empty() {
        return "any".to_owned();
    }
    let words: Vec<String> = list.iter().take(3).map(ToString::to_string).collect();
    let more = if list.len() > 3 { ", …" } else { "" };
    format!("none of {}{more}", words.join(", "))
}

fn list_or_none(list: &[String]) -> String {
    if list.is_empty() {
        "none".to_owned()
    } else {
        list.join(", ")
    }
}

/// The mask, and the names of the bits that matter.
fn describe_attributes(attributes: u64) -> String {
    let names = [
        (1, "DEBUG"),
        (ATTRIBUTES_UNDER_DEBUG & !1, "PROFILING"),
        (ATTRIBUTE_SEPT_VE_DISABLE, "SEPT_VE_DISABLE"),
        (ATTRIBUTE_MIGRATABLE, "MIGRATABLE"),
        (ATTRIBUTE_PKS, "PKS"),
        (1 << 31, "KL"),
        (ATTRIBUTE_PERFMON, "PERFMON"),
    ];
    let set: Vec<&str> = names
        .iter()
        .filter(|(bits, _)| attributes & bits != 0)
        .map(|(_, name)| *name)
        .collect();
    format!("{} ({})", Mask(attributes), set.join(", "))
}
