//! What we demand of a peer, and the verdict on its quote (spec 4.2 and 4.3).

use crate::evidence::verifier::Changes;
use crate::evidence::{SharedVerifier, TdxVerifier, Verdict};
use crate::measurements::{Measurements, Register, TdxMeasurements};
use crate::policy_config::PolicyConfig;
use crate::profile::{FAKE_QUOTE_LEN, report_data};
use crate::quote::{self, QuoteBody, QuoteError};

/// SHA-384 of the uncompressed public point of the Intel SGX Root CA: the root a `tdx` policy trusts unless it
/// names others. (The reference *appends* it to an explicit list; ours takes an explicit list as it is.)
pub const INTEL_ROOT_HASH: [u8; 48] = [
    0x46, 0xe4, 0x03, 0xbd, 0x34, 0xf0, 0x5a, 0x3f, 0x28, 0x17, 0xab, 0x9b, 0xad, 0xca, 0xac, 0xc7,
    0xff, 0xc9, 0x8e, 0x0f, 0x26, 0x10, 0x08, 0xcd, 0x30, 0xda, 0xe9, 0x36, 0xca, 0xce, 0x18, 0xd5,
    0xdc, 0xf5, 0x8e, 0xef, 0x31, 0x46, 0x36, 0x13, 0xde, 0x15, 0x70, 0xd5, 0x16, 0x20, 0x09, 0x93,
];

/// What a peer must prove.
///
/// In JSON or TOML a policy is a [`PolicyConfig`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "PolicyConfig", into = "PolicyConfig")]
pub enum Policy {
    /// Nothing but the possession of its key; a quote is ignored. For clients, which nobody attests.
    Any,
    /// A fake quote, which anybody can make: tests and development only, see [`guard_network`].
    FakeTdx(PolicyRules),
    /// A genuine TDX quote. Without a verifier ([`Policy::with_verifier`]) every peer is refused: a configuration alone
    /// has no collateral to verify with.
    Tdx(PolicyRules),
}

/// Allowed values; an empty list allows any value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRules {
    /// Allowed initial measurements.
    pub allowed_mrtd: Vec<Register>,
    /// Allowed sets of the four run-time registers; a set matches whole.
    pub allowed_rtmr: Vec<[Register; 4]>,
    /// Allowed image hashes.
    pub allowed_image_hashes: Vec<[u8; 32]>,
    /// Allowed roots of the quote's certificate chain. For `tdx`, empty means [`INTEL_ROOT_HASH`] only.
    pub allowed_collateral_root_hashes: Vec<[u8; 48]>,
    /// What verifies quotes; no part of a configuration.
    pub verifier: Option<SharedVerifier>,
}

/// What a policy learned of a peer that it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The measurements, if the policy demands any.
    pub measurements: Option<Measurements>,
    /// Hash of the root that vouches for the quote; zero if nobody does.
    pub collateral_root_hash: [u8; 48],
    /// Whether the measurements are a fake that proves nothing.
    pub fake: bool,
}

/// Why a policy refuses a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// No quote.
    #[error("policy {policy} requires a quote, and its certificate has none")]
    QuoteRequired {
        /// Name of the policy type.
        policy: &'static str,
    },
    /// A fake quote of the wrong length.
    #[error(
        "policy fake_tdx requires a fake quote of {FAKE_QUOTE_LEN} bytes, the certificate has one of {found} (a genuine quote?)"
    )]
    NotAFakeQuote {
        /// Bytes found.
        found: usize,
    },
    /// The quote cannot be read.
    #[error("policy tdx requires a TDX quote: {0}")]
    BadQuote(#[from] QuoteError),
    /// An enclave's quote.
    #[error("policy tdx requires a TDX quote, the certificate has an SGX quote")]
    SgxQuote,
    /// The quote is for another key.
    #[error("the quote is not for the key of the certificate (report data differ)")]
    ReportData,
    /// MRTD is not listed.
    #[error("MRTD {} is not among the allowed ones", hex::encode(**found))]
    Mrtd {
        /// Value found.
        found: Box<Register>,
    },
    /// The set of RTMRs is not listed.
    #[error("RTMR0-3 {} are not an allowed set", found.map(hex::encode).join(" "))]
    Rtmr {
        /// Values found.
        found: Box<[Register; 4]>,
    },
    /// The image hash is not listed.
    #[error("image hash {} is not among the allowed ones", hex::encode(found))]
    ImageHash {
        /// Value found.
        found: [u8; 32],
    },
    /// The root is not listed.
    #[error(
        "collateral root hash {} is not among the allowed ones",
        hex::encode(**found)
    )]
    CollateralRoot {
        /// Value found.
        found: Box<[u8; 48]>,
    },
    /// The quote may be genuine, but nobody here can tell.
    #[error(
        "no verifier for TDX quotes is set up, so none is believed (the quote claims image hash {}): load Intel's collateral",
        hex::encode(claimed_image_hash)
    )]
    TdxUnsupported {
        /// What the unverified quote claims.
        claimed_image_hash: [u8; 32],
    },
    /// The quote does not verify, or its platform is not good enough.
    #[error("the TDX evidence is {0}")]
    Evidence(Box<Verdict>),
}

impl Policy {
    /// The name of the policy's type in configurations.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Policy::Any => "any",
            Policy::FakeTdx(_) => "fake_tdx",
            Policy::Tdx(_) => "tdx",
        }
    }

    /// Whether a peer accepted by this policy may have proved nothing about what it runs while looking as if it had.
    #[must_use]
    pub fn is_fake(&self) -> bool {
        matches!(self, Policy::FakeTdx(_))
    }

    /// The same policy with something that can verify quotes; of use to `tdx` only.
    #[must_use]
    pub fn with_verifier(mut self, verifier: std::sync::Arc<TdxVerifier>) -> Self {
        if let Policy::Tdx(rules) = &mut self {
            rules.verifier = Some(SharedVerifier(verifier));
        }
        self
    }

    /// Wakes up when peers that this policy accepted should be judged again; `None` if nothing but its own lists counts.
    #[must_use]
    pub fn changes(&self) -> Option<Changes> {
        match self {
            Policy::Tdx(rules) => rules.verifier.as_ref().map(|v| v.0.changes()),
            Policy::Any | Policy::FakeTdx(_) => None,
        }
    }

    /// The verdict on a quote for the key `public_key`; the first failure of spec 4.3 wins.
    pub fn evaluate(
        &self,
        quote: Option<&[u8]>,
        public_key: &[u8; 32],
    ) -> Result<Evidence, PolicyRefusal> {
        let rules = match self {
            Policy::Any => {
                return Ok(Evidence {
                    measurements: None,
                    collateral_root_hash: [0; 48],
                    fake: false,
                });
            }
            Policy::FakeTdx(rules) | Policy::Tdx(rules) => rules,
        };
        let quote = quote.ok_or(PolicyRefusal::QuoteRequired {
            policy: self.type_name(),
        })?;
        let measurements = if self.is_fake() {
            let found = quote.len();
            let quoted = <[u8; FAKE_QUOTE_LEN]>::try_from(quote)
                .map_err(|_| PolicyRefusal::NotAFakeQuote { found })?;
            TdxMeasurements::fake(quoted)
        } else {
            match quote::parse(quote)?.body {
                QuoteBody::Tdx(body) => body.measurements,
                QuoteBody::Sgx(_) => return Err(PolicyRefusal::SgxQuote),
            }
        };
        if measurements.report_data != report_data(public_key) {
            return Err(PolicyRefusal::ReportData);
        }
        rules.check(&measurements)?;
        let collateral_root_hash = match (self.is_fake(), &rules.verifier) {
            (true, _) => [0; 48],
            (false, None) => {
                return Err(PolicyRefusal::TdxUnsupported {
                    claimed_image_hash: measurements.image_hash(),
                });
            }
            (false, Some(SharedVerifier(verifier))) => {
                let refused = |verdict| PolicyRefusal::Evidence(Box::new(verdict));
                verifier.check(quote).map_err(refused)?.root_hash
            }
        };
        self.check_root(&collateral_root_hash)?;
        Ok(Evidence {
            measurements: Some(Measurements::Tdx(Box::new(measurements))),
            collateral_root_hash,
            fake: self.is_fake(),
        })
    }

    /// Compares the root that vouches for a quote with the list; for `tdx` an empty list means Intel's root.
    pub fn check_root(&self, found: &[u8; 48]) -> Result<(), PolicyRefusal> {
        let allowed = match self {
            Policy::Any => true,
            Policy::FakeTdx(rules) => allows(&rules.allowed_collateral_root_hashes, found),
            Policy::Tdx(rules) if rules.allowed_collateral_root_hashes.is_empty() => {
                *found == INTEL_ROOT_HASH
            }
            Policy::Tdx(rules) => rules.allowed_collateral_root_hashes.contains(found),
        };
        if allowed {
            return Ok(());
        }
        Err(PolicyRefusal::CollateralRoot {
            found: Box::new(*found),
        })
    }
}

impl PolicyRules {
    /// Compares measurements with the lists.
    pub fn check(&self, found: &TdxMeasurements) -> Result<(), PolicyRefusal> {
        if !allows(&self.allowed_mrtd, &found.mr_td) {
            return Err(PolicyRefusal::Mrtd {
                found: Box::new(found.mr_td),
            });
        }
        if !allows(&self.allowed_rtmr, &found.rtmr) {
            return Err(PolicyRefusal::Rtmr {
                found: Box::new(found.rtmr),
            });
        }
        let image_hash = found.image_hash();
        if !allows(&self.allowed_image_hashes, &image_hash) {
            return Err(PolicyRefusal::ImageHash { found: image_hash });
        }
        Ok(())
    }
}

fn allows<T: PartialEq>(list: &[T], found: &T) -> bool {
    list.is_empty() || list.contains(found)
}

/// A fake policy where money or people depend on a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "policy fake_tdx proves nothing and is refused on {network}: use policy tdx, or a test root on a test network"
)]
pub struct FakePolicyRefused {
    network: &'static str,
}

/// Refuses [`Policy::FakeTdx`] everywhere but with a test root contract on a test network. Every node calls this
/// for every policy at start, and again when it learns its network from the chain.
pub fn guard_network(
    policy: &Policy,
    is_mainnet: bool,
    is_test_root: bool,
) -> Result<(), FakePolicyRefused> {
    let network = match (policy.is_fake(), is_mainnet, is_test_root) {
        (false, _, _) | (true, false, true) => return Ok(()),
        (true, true, _) => "the main network",
        (true, false, false) => "a root contract that is not marked as a test",
    };
    Err(FakePolicyRefused { network })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(edit: impl FnOnce(&mut PolicyRules)) -> PolicyRules {
        let mut rules = PolicyRules::default();
        edit(&mut rules);
        rules
    }

    #[test]
    fn each_list_is_compared_in_the_order_of_the_specification() {
        let found = TdxMeasurements::fake([0; 64]);
        PolicyRules::default().check(&found).unwrap();
        let zero = [0; 48];
        let set = [zero, zero, zero, [1; 48]];
        let mrtd = rules(|r| r.allowed_mrtd = vec![[1; 48]]);
        let rtmr = rules(|r| r.allowed_rtmr = vec![set]);
        let image = rules(|r| r.allowed_image_hashes = vec![[1; 32]]);
        assert!(matches!(
            mrtd.check(&found),
            Err(PolicyRefusal::Mrtd { .. })
        ));
        assert!(matches!(
            rtmr.check(&found),
            Err(PolicyRefusal::Rtmr { .. })
        ));
        assert!(matches!(
            image.check(&found),
            Err(PolicyRefusal::ImageHash { .. })
        ));
        let right = rules(|r| {
            r.allowed_mrtd = vec![[1; 48], zero];
            r.allowed_rtmr = vec![set, [zero; 4]];
            r.allowed_image_hashes = vec![found.image_hash()];
        });
        right.check(&found).unwrap();
        let all_wrong = rules(|r| {
            r.allowed_mrtd = vec![[1; 48]];
            r.allowed_rtmr = vec![set];
        });
        assert!(matches!(
            all_wrong.check(&found),
            Err(PolicyRefusal::Mrtd { .. })
        ));
    }

    #[test]
    fn roots() {
        let own = rules(|r| r.allowed_collateral_root_hashes = vec![[5; 48]]);
        let default = PolicyRules::default();
        Policy::Tdx(default.clone())
            .check_root(&INTEL_ROOT_HASH)
            .unwrap();
        Policy::Tdx(default.clone())
            .check_root(&[5; 48])
            .unwrap_err();
        Policy::Tdx(own.clone()).check_root(&[5; 48]).unwrap();
        Policy::Tdx(own.clone())
            .check_root(&INTEL_ROOT_HASH)
            .unwrap_err();
        Policy::FakeTdx(default).check_root(&[0; 48]).unwrap();
        let refused = Policy::FakeTdx(own).evaluate(Some(&report_data(&[2; 32])), &[2; 32]);
        assert!(matches!(refused, Err(PolicyRefusal::CollateralRoot { .. })));
    }
}
