//! What we demand of a GPU.

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::gpu::{self, Architecture, GpuClaims, GpuReport, GpuRoot, Mode};
use super::lists::{AllowList, Bytes, distinct};
use super::rim::Rim;

/// Index of the measurement that counts only while the first video decoder is on.
const DECODER_INDEX: u8 = 35;

/// Demands on a GPU's report. In a file every key but `rim_sha256` can be left out; without reference values no GPU is
/// accepted, because its firmware and driver would not have been looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuPolicy {
    /// Accepted generations.
    #[serde(deserialize_with = "distinct")]
    pub architectures: Vec<Architecture>,
    /// Accepted modes.
    #[serde(deserialize_with = "distinct")]
    pub modes: Vec<Mode>,
    /// SHA-256 of the reference manifests (driver and firmware) that may be used.
    #[serde(deserialize_with = "distinct")]
    pub rim_sha256: Vec<Bytes<32>>,
    /// Accept only with NVIDIA's current revocation lists at hand. A list that is there always counts.
    pub require_revocation_lists: bool,
    /// Accepted models, as the GPU's certificate names them.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub models: AllowList<String>,
    /// Accepted driver versions.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub driver_versions: AllowList<String>,
    /// Accepted firmware versions.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub vbios_versions: AllowList<String>,
    /// Allowed pieces, by the serial number of their certificate.
    #[serde(skip_serializing_if = "AllowList::is_any")]
    pub devices_allowed: AllowList<String>,
    /// Refused pieces; wins over `devices_allowed`.
    #[serde(deserialize_with = "distinct", skip_serializing_if = "Vec::is_empty")]
    pub devices_denied: Vec<String>,
}

impl Default for GpuPolicy {
    fn default() -> Self {
        GpuPolicy {
            architectures: vec![Architecture::Hopper, Architecture::Blackwell],
            modes: vec![Mode::Single, Mode::MultiEncrypted],
            rim_sha256: Vec::new(),
            require_revocation_lists: false,
            models: AllowList::Any,
            driver_versions: AllowList::Any,
            vbios_versions: AllowList::Any,
            devices_allowed: AllowList::Any,
            devices_denied: Vec::new(),
        }
    }
}

/// A GPU's evidence as it travels.
#[derive(Debug, Clone, Copy)]
pub struct GpuEvidence<'a> {
    /// Request and response, raw.
    pub report: &'a [u8],
    /// Chain of the GPU's firmware key, PEM, leaf first.
    pub chain: &'a [u8],
    /// Revocation lists of the chain's authorities, DER; may be empty.
    pub lists: &'a [Vec<u8>],
}

impl GpuPolicy {
    /// Verifies a report and compares everything it says, at the time `now`. `nonce` is what must have been asked with:
    /// without one a report of any age passes, which is right only for explaining files.
    pub fn appraise(
        &self,
        evidence: GpuEvidence<'_>,
        now: u64,
        root: GpuRoot,
        nonce: Option<&Bytes<32>>,
        rims: &[Rim],
    ) -> (Verdict, Option<GpuClaims>) {
        let mut verdict = Verdict::default();
        match gpu::verify(evidence.report, evidence.chain, evidence.lists, now, root) {
            Ok(claims) => {
                verdict.check("GPU report signature and chain", true, GENUINE, "verified");
                self.judge_device(&mut verdict, &claims);
                self.judge_report(&mut verdict, &claims.report, nonce, rims);
                (verdict, Some(claims))
            }
            Err(error) => {
                verdict.check("GPU report signature and chain", false, GENUINE, error);
                if let Ok(report) = GpuReport::parse(evidence.report) {
                    self.judge_report(&mut verdict, &report, nonce, rims);
                }
                (verdict, None)
            }
        }
    }

    fn judge_device(&self, verdict: &mut Verdict, claims: &GpuClaims) {
        verdict.check(
            "GPU architecture",
            self.architectures.contains(&claims.architecture),
            words(&self.architectures),
            claims.architecture,
        );
        let required = self.require_revocation_lists;
        verdict.check(
            "GPU revocation lists",
            claims.revocation_checked || !required,
            if required { "checked" } else { "any" },
            if claims.revocation_checked {
                "checked"
            } else {
                "not there"
            },
        );
        self.models.check(verdict, "GPU model", &claims.model);
        self.devices_allowed
            .check(verdict, "GPU serial", &claims.device);
        verdict.check(
            "GPU not denied",
            !self.devices_denied.contains(&claims.device),
            format!("none of {} denied devices", self.devices_denied.len()),
            &claims.device,
        );
    }

    fn judge_report(
        &self,
        verdict: &mut Verdict,
        report: &GpuReport,
        nonce: Option<&Bytes<32>>,
        rims: &[Rim],
    ) {
        match nonce {
            Some(nonce) => verdict.check("GPU nonce", *nonce == report.nonce, nonce, report.nonce),
            None => verdict.check("GPU nonce", true, "any", report.nonce),
        }
        verdict.check(
            "GPU mode",
            self.modes.contains(&report.mode),
            words(&self.modes),
            report.mode,
        );
        self.driver_versions
            .check(verdict, "driver version", &report.driver_version);
        self.vbios_versions
            .check(verdict, "VBIOS version", &report.vbios_version);
        let driver = self.reference(rims, &report.driver_version);
        let vbios = self.reference(rims, &report.vbios_version);
        for (field, version, found) in [
            ("driver reference values", &report.driver_version, driver),
            ("VBIOS reference values", &report.vbios_version, vbios),
        ] {
            let expected = format!("a manifest for {version} whose hash the policy names");
            match found {
                Some(rim) => verdict.check(
                    field,
                    true,
                    expected,
                    format!("{} ({})", rim.version, rim.sha256),
                ),
                None => verdict.check(field, false, expected, "none"),
            }
        }
        judge_measurements(verdict, report, driver, vbios);
    }

    fn reference<'a>(&self, rims: &'a [Rim], version: &str) -> Option<&'a Rim> {
        rims.iter()
            .find(|rim| rim.version == version && self.rim_sha256.contains(&rim.sha256))
    }
}

/// Compares with whatever references there are, so that a person sees all mismatches; a missing one fails above.
fn judge_measurements(
    verdict: &mut Verdict,
    report: &GpuReport,
    driver: Option<&Rim>,
    vbios: Option<&Rim>,
) {
    let both = driver.iter().flat_map(|driver| driver.measurements.keys());
    let conflict: Vec<String> = both
        .filter(|index| vbios.is_some_and(|vbios| vbios.measurements.contains_key(index)))
        .map(ToString::to_string)
        .collect();
    verdict.check(
        "reference values agree",
        conflict.is_empty(),
        "no measurement named by both manifests",
        if conflict.is_empty() {
            "none".to_owned()
        } else {
            conflict.join(", ")
        },
    );
    let mut compared = 0;
    let mut wrong = Vec::new();
    let references = [driver, vbios].into_iter().flatten();
    for (index, allowed) in references.flat_map(|rim| &rim.measurements) {
        if *index == DECODER_INDEX && !report.decoder_enabled {
            continue;
        }
        compared += 1;
        // Manifests count from 0, reports from 1.
        let found = index
            .checked_add(1)
            .and_then(|index| report.measurements.get(&index));
        if !found.is_some_and(|found| allowed.contains(found)) {
            wrong.push(index.to_string());
        }
    }
    verdict.check(
        "GPU measurements",
        wrong.is_empty() && compared > 0,
        "every active reference value",
        if wrong.is_empty() {
            format!("{compared} compared, all equal")
        } else {
            format!("{compared} compared, different: {}", wrong.join(", "))
        },
    );
}

const GENUINE: &str = "genuine, by NVIDIA's root";

fn words<T: std::fmt::Display>(list: &[T]) -> String {
    let words: Vec<String> = list.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        return "nothing".to_owned();
    }
    words.join(" or ")
}
