//! What AMD publishes about one chip at one patch level: the certificate of its key, the two above it, and the root's
//! revocation list. Kept as one file, verified whenever it is used.

use serde::{Deserialize, Serialize};

use super::chain::ChainError;
use super::collateral::{CollateralError, CrlEdition};
use super::lists::Bytes;
use super::snp::{self, Generation, SnpChain, SnpError, SnpRoots, TcbVersion};

/// Collateral for the reports of one chip at one patch level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpCollateral {
    /// Processor generation.
    pub generation: Generation,
    /// The chip; generations with short names leave the rest zero.
    pub chip_id: Bytes<64>,
    /// Patch level for which the key was made.
    pub tcb: TcbVersion,
    /// The key's certificate (VCEK), DER in hexadecimal.
    pub vcek: String,
    /// Intermediate and root, PEM.
    pub cert_chain: String,
    /// The root's revocation list, DER in hexadecimal.
    pub crl: String,
}

impl SnpCollateral {
    /// Reads a file.
    pub fn from_json(text: &str) -> Result<Self, CollateralError> {
        serde_json::from_str(text).map_err(|error| CollateralError::Malformed {
            part: "SNP file",
            reason: error.to_string(),
        })
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Numbers and texts alone, so it cannot fail; nothing reads an empty file as collateral.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The certificates in the form that verification takes.
    pub fn chain(&self) -> Result<SnpChain, ChainError> {
        let mut chain = SnpChain::from_service(&self.cert_chain, &unhex("VCEK", &self.vcek)?)?;
        chain.crl = Some(unhex("revocation list", &self.crl)?);
        Ok(chain)
    }

    /// Verifies certificates and revocation list at the time `now` (Unix seconds). Chip and patch level are compared
    /// when a report is verified with it.
    pub fn verify(&self, now: u64, roots: &SnpRoots) -> Result<(), SnpError> {
        let found = snp::verify_chain(&self.chain()?, now, roots)?;
        if found == self.generation {
            return Ok(());
        }
        Err(SnpError::Mismatch {
            what: "processor generation",
            certificate: found.to_string(),
            report: self.generation.to_string(),
        })
    }

    /// Edition and end (Unix seconds) of the revocation list.
    pub fn crl_edition(&self) -> Result<(CrlEdition, u64), CollateralError> {
        let der =
            unhex("revocation list", &self.crl).map_err(|error| CollateralError::Malformed {
                part: "crl",
                reason: error.to_string(),
            })?;
        CrlEdition::read("crl", &der)
    }

    /// A file name for chip and patch level, without its ending: letters, digits and dashes.
    #[must_use]
    pub fn name(&self) -> String {
        let chip = &self.chip_id.0[..self.generation.chip_id_len()];
        let TcbVersion {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = self.tcb;
        let generation = self.generation.to_string().to_lowercase();
        format!(
            "snp-{generation}-{}-{fmc}-{bootloader}-{tee}-{snp}-{microcode}",
            hex::encode(chip)
        )
    }
}

fn unhex(which: &'static str, digits: &str) -> Result<Vec<u8>, ChainError> {
    hex::decode(digits).map_err(|error| ChainError::Malformed {
        which,
        reason: error.to_string(),
    })
}
