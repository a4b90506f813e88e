//! What we demand of an SEV-SNP platform and guest. As with TDX, a policy cannot be loosened so far that the host reads
//! the guest's memory.

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::lists::{AllowList, Bytes, Mask, distinct};
use super::snp::{
    self, Generation, SigningKey, SnpChain, SnpClaims, SnpReport, SnpRoots, TcbVersion,
};

/// Why Milan is not in the default list.
pub const MILAN_REASON: &str =
    "the root seed of Milan can be extracted in software, so its reports prove nothing";

const POLICY_SMT: u64 = 1 << 16;
/// Must be one in every policy.
const POLICY_RESERVED_ONE: u64 = 1 << 17;
const POLICY_MIGRATE: u64 = 1 << 18;
const POLICY_DEBUG: u64 = 1 << 19;
const POLICY_SINGLE_SOCKET: u64 = 1 << 20;
const POLICY_CXL: u64 = 1 << 21;
const POLICY_CIPHERTEXT_HIDING: u64 = 1 << 24;
/// Bits of the policy without a meaning in the documents of today.
const POLICY_UNKNOWN: u64 = !((1 << 26) - 1);
const PLATFORM_ALIAS_CHECK: u64 = 1 << 5;

/// Demands on a report. In a file every key can be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnpPolicy {
    /// Accepted processor generations.
    #[serde(deserialize_with = "some")]
    pub generations: Vec<Generation>,
    /// Accepted kinds of signing keys.
    #[serde(deserialize_with = "some")]
    pub keys: Vec<SigningKey>,
    /// Accepted providers of a VLEK, by the name in its certificate.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub providers: AllowList<String>,
    /// Accept only with AMD's current revocation list at hand. A list that is there always counts.
    pub require_revocation_list: bool,
    /// Least patch levels, of the platform now and at the guest's launch.
    pub minimum_tcb: MinimumTcb,
    /// Accept hyper-threading.
    pub allow_smt: bool,
    /// Accept memory behind CXL.
    pub allow_cxl: bool,
    /// Accept only guests bound to one socket.
    pub require_single_socket: bool,
    /// Accept only guests whose ciphertext the host cannot watch.
    pub require_ciphertext_hiding: bool,
    /// Accept only platforms that checked their memory for aliases at start (against manipulated memory modules).
    pub require_alias_check: bool,
    /// Accepted privilege levels.
    #[serde(deserialize_with = "some")]
    pub vmpl: Vec<u32>,
    /// Least security version of the guest.
    pub minimum_guest_svn: u32,
    /// Allowed initial measurements.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub measurement: AllowList<Bytes<48>>,
    /// Allowed host data.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub host_data: AllowList<Bytes<32>>,
    /// Allowed family identities.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub family_id: AllowList<Bytes<16>>,
    /// Allowed image identities.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub image_id: AllowList<Bytes<16>>,
    /// Allowed signers of the identity block.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub id_key_digest: AllowList<Bytes<48>>,
    /// Allowed signers of those.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub author_key_digest: AllowList<Bytes<48>>,
    /// Allowed chips.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub chip_id_allowed: AllowList<Bytes<64>>,
    /// Refused chips; wins over `chip_id_allowed`.
    #[serde(deserialize_with = "distinct", skip_serializing_if = "Vec::is_empty")]
    pub chip_id_denied: Vec<Bytes<64>>,
}

/// Least patch levels by generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinimumTcb {
    /// EPYC 7003.
    pub milan: TcbVersion,
    /// EPYC 9004 and 8004.
    pub genoa: TcbVersion,
    /// EPYC 9005.
    pub turin: TcbVersion,
}

impl Default for SnpPolicy {
    fn default() -> Self {
        SnpPolicy {
            generations: vec![Generation::Genoa, Generation::Turin],
            keys: vec![SigningKey::Vcek],
            providers: AllowList::Any,
            require_revocation_list: false,
            minimum_tcb: MinimumTcb::default(),
            allow_smt: true,
            allow_cxl: false,
            require_single_socket: false,
            require_ciphertext_hiding: false,
            require_alias_check: false,
            vmpl: vec![0],
            minimum_guest_svn: 0,
            measurement: AllowList::Any,
            host_data: AllowList::Any,
            family_id: AllowList::Any,
            image_id: AllowList::Any,
            id_key_digest: AllowList::Any,
            author_key_digest: AllowList::Any,
            chip_id_allowed: AllowList::Any,
            chip_id_denied: Vec::new(),
        }
    }
}

fn some<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de> + PartialEq,
    D: serde::Deserializer<'de>,
{
    let list = distinct(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("an empty list allows nothing"));
    }
    Ok(list)
}

impl SnpPolicy {
    /// Verifies a report and compares everything it says, at the time `now`. `report_data` is what the guest must have
    /// put into it: the hash of its key or a challenge.
    pub fn appraise(
        &self,
        report: &[u8],
        chain: &SnpChain,
        now: u64,
        roots: &SnpRoots,
        report_data: Option<&Bytes<64>>,
    ) -> (Verdict, Option<SnpClaims>) {
        let mut verdict = Verdict::default();
        match snp::verify(report, chain, now, roots) {
            Ok(claims) => {
                verdict.check("report signature and chain", true, GENUINE, "verified");
                self.judge_platform(&mut verdict, &claims);
                self.judge_guest(&mut verdict, &claims.report, report_data);
                (verdict, Some(claims))
            }
            Err(error) => {
                verdict.check("report signature and chain", false, GENUINE, &error);
                if let Ok(report) = SnpReport::parse(report) {
                    self.judge_guest(&mut verdict, &report, report_data);
                }
                (verdict, None)
            }
        }
    }

    fn judge_platform(&self, verdict: &mut Verdict, claims: &SnpClaims) {
        let generation = claims.generation;
        let allowed = self.generations.contains(&generation);
        let mut expected = words(&self.generations);
        if generation == Generation::Milan && !allowed {
            expected = format!("{expected} ({MILAN_REASON})");
        }
        verdict.check("processor generation", allowed, expected, generation);
        verdict.check(
            "signing key",
            self.keys.contains(&claims.key),
            words(&self.keys),
            claims.key,
        );
        if let Some(provider) = &claims.provider {
            self.providers.check(verdict, "provider", provider);
        }
        verdict.check(
            "revocation list",
            claims.revocation_checked || !self.require_revocation_list,
            any_or(!self.require_revocation_list, "checked"),
            if claims.revocation_checked {
                "checked"
            } else {
                "not there"
            },
        );
        let least = match generation {
            Generation::Milan => &self.minimum_tcb.milan,
            Generation::Genoa => &self.minimum_tcb.genoa,
            Generation::Turin => &self.minimum_tcb.turin,
        };
        for (field, found) in [
            ("reported TCB", &claims.reported_tcb),
            ("committed TCB", &claims.committed_tcb),
            ("launch TCB", &claims.launch_tcb),
        ] {
            verdict.check(
                field,
                found.at_least(least),
                format!("at least {least}"),
                found,
            );
        }
        let chip = &claims.report.chip_id;
        self.chip_id_allowed.check(verdict, "CHIP_ID", chip);
        verdict.check(
            "CHIP_ID not denied",
            !self.chip_id_denied.contains(chip),
            format!("none of {} denied chips", self.chip_id_denied.len()),
            chip,
        );
    }

    fn judge_guest(
        &self,
        verdict: &mut Verdict,
        report: &SnpReport,
        report_data: Option<&Bytes<64>>,
    ) {
        let policy = report.policy;
        let bit = |bits: u64| policy & bits != 0;
        let on = |set: bool| if set { "on" } else { "off" };
        for (field, passed, expected, found) in [
            ("DEBUG", !bit(POLICY_DEBUG), "off", on(bit(POLICY_DEBUG))),
            (
                "MIGRATE_MA",
                !bit(POLICY_MIGRATE),
                "off",
                on(bit(POLICY_MIGRATE)),
            ),
            (
                "SMT",
                self.allow_smt || !bit(POLICY_SMT),
                any_or(self.allow_smt, "off"),
                on(bit(POLICY_SMT)),
            ),
            (
                "CXL_ALLOW",
                self.allow_cxl || !bit(POLICY_CXL),
                any_or(self.allow_cxl, "off"),
                on(bit(POLICY_CXL)),
            ),
            (
                "SINGLE_SOCKET",
                !self.require_single_socket || bit(POLICY_SINGLE_SOCKET),
                any_or(!self.require_single_socket, "on"),
                on(bit(POLICY_SINGLE_SOCKET)),
            ),
            (
                "CIPHERTEXT_HIDING",
                !self.require_ciphertext_hiding || bit(POLICY_CIPHERTEXT_HIDING),
                any_or(!self.require_ciphertext_hiding, "on"),
                on(bit(POLICY_CIPHERTEXT_HIDING)),
            ),
        ] {
            verdict.check(field, passed, expected, found);
        }
        verdict.check(
            "guest policy",
            bit(POLICY_RESERVED_ONE) && !bit(POLICY_UNKNOWN),
            "bit 17 set, no unknown bits",
            Mask(policy),
        );
        verdict.check(
            "alias check",
            !self.require_alias_check || report.platform_info & PLATFORM_ALIAS_CHECK != 0,
            any_or(!self.require_alias_check, "done"),
            if report.platform_info & PLATFORM_ALIAS_CHECK != 0 {
                "done"
            } else {
                "not done"
            },
        );
        verdict.check(
            "VMPL",
            self.vmpl.contains(&report.vmpl),
            words(&self.vmpl),
            report.vmpl,
        );
        verdict.check(
            "guest SVN",
            report.guest_svn >= self.minimum_guest_svn,
            format!("at least {}", self.minimum_guest_svn),
            report.guest_svn,
        );
        self.measurement
            .check(verdict, "measurement", &report.measurement);
        self.host_data
            .check(verdict, "host data", &report.host_data);
        self.family_id
            .check(verdict, "family ID", &report.family_id);
        self.image_id.check(verdict, "image ID", &report.image_id);
        self.id_key_digest
            .check(verdict, "ID key digest", &report.id_key_digest);
        self.author_key_digest
            .check(verdict, "author key digest", &report.author_key_digest);
        match report_data {
            Some(expected) => verdict.check(
                "report data",
                *expected == report.report_data,
                expected,
                report.report_data,
            ),
            None => verdict.check("report data", true, "any", report.report_data),
        }
    }
}

const GENUINE: &str = "genuine, by the root of AMD's generation";

fn words<T: std::fmt::Display>(list: &[T]) -> String {
    let words: Vec<String> = list.iter().map(ToString::to_string).collect();
    words.join(" or ")
}

fn any_or(any: bool, otherwise: &'static str) -> &'static str {
    if any { "any" } else { otherwise }
}
