//! AMD's key distribution service (KDS): the certificate of a chip's key at a patch level (VCEK), the chain above it,
//! and the root's revocation list. Document 57230.
//!
//! Keys of cloud providers (VLEK) are not published: the provider hands their certificates to its guests.

use cocoon_attest::evidence::snp::{self, Generation, SigningKey, SnpReport, SnpRoots};
use cocoon_attest::evidence::snp_collateral::SnpCollateral;

use crate::fetch::{Fault, FetchError, Retry, get};
use crate::service::{Service, ServiceError};
use crate::web::Web;

/// AMD's service.
pub const AMD: &str = "https://kdsintf.amd.com";
/// Largest answer taken, in bytes; certificates and list have some kilobytes.
const MAX_ANSWER: usize = 64 << 10;

/// Asks AMD's service, or a server that answers like it.
pub struct Kds {
    service: Service,
    web: Web,
    retry: Retry,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    generation: Generation,
    report: Vec<u8>,
    parsed: SnpReport,
}

impl Wanted {
    /// What verifies this report. Reports of version 2 do not say which generation they come from.
    pub fn of_report(report: &[u8], generation: Option<Generation>) -> Result<Self, Fault> {
        let failed = |reason: String| Fault::Snp(reason);
        let parsed = SnpReport::parse(report).map_err(|e| failed(e.to_string()))?;
        match parsed.signing_key().map_err(|e| failed(e.to_string()))? {
            SigningKey::Vcek => {}
            SigningKey::Vlek => {
                return Err(failed(
                    "the report is signed with a provider's key (VLEK), whose certificate AMD does not publish: take it from the guest's certificate table".to_owned(),
                ));
            }
        }
        if parsed.key_info & 0b10 != 0 || parsed.chip_id.is_zero() {
            return Err(failed(
                "the host masks the chip's name, without which nothing can be asked for".to_owned(),
            ));
        }
        let told = parsed
            .cpu
            .and_then(|(family, model)| Generation::of_cpu(family, model));
        let generation = told.or(generation).ok_or_else(|| {
            failed(
                "the report does not say its processor generation: name it (milan, genoa, turin)"
                    .to_owned(),
            )
        })?;
        Ok(Wanted {
            generation,
            report: report.to_vec(),
            parsed,
        })
    }

    fn vcek_path(&self) -> String {
        let generation = self.generation;
        let chip = &self.parsed.chip_id.0[..generation.chip_id_len()];
        let tcb = self.parsed.reported_tcb(generation);
        let fmc = match generation {
            Generation::Turin => format!("fmcSPL={:02}&", tcb.fmc),
            Generation::Milan | Generation::Genoa => String::new(),
        };
        format!(
            "/vcek/v1/{generation}/{}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
            hex::encode(chip),
            tcb.bootloader,
            tcb.tee,
            tcb.snp,
            tcb.microcode
        )
    }
}

impl Kds {
    /// Asks the service at this address; see [`AMD`].
    pub fn at(address: &str, web: Web, allow_plain: bool) -> Result<Self, ServiceError> {
        Ok(Kds {
            service: Service::at(address, allow_plain)?,
            web,
            retry: Retry::default(),
        })
    }

    /// The same with other pauses.
    #[must_use]
    pub fn retrying(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Fetches what verifies a report, and verifies the report with it at the time `now` (Unix seconds): chain to the
    /// pinned root, revocation list, dates, chip, patch level and the report's own signature.
    pub async fn fetch(
        &self,
        wanted: &Wanted,
        now: u64,
        roots: &SnpRoots,
    ) -> Result<SnpCollateral, FetchError> {
        let generation = wanted.generation;
        let vcek_path = wanted.vcek_path();
        let vcek = self.get(&vcek_path).await?;
        let chain_path = format!("/vcek/v1/{generation}/cert_chain");
        let cert_chain = self.get(&chain_path).await?;
        let cert_chain =
            String::from_utf8(cert_chain).map_err(|_| self.failed(&chain_path, Fault::Text))?;
        let crl = self.get(&format!("/vcek/v1/{generation}/crl")).await?;
        let collateral = SnpCollateral {
            generation,
            chip_id: wanted.parsed.chip_id,
            tcb: wanted.parsed.reported_tcb(generation),
            vcek: hex::encode(vcek),
            cert_chain,
            crl: hex::encode(crl),
        };
        let failed = |reason: String| self.failed(&vcek_path, Fault::Snp(reason));
        let chain = collateral.chain().map_err(|e| failed(e.to_string()))?;
        collateral
            .verify(now, roots)
            .map_err(|e| failed(e.to_string()))?;
        snp::verify(&wanted.report, &chain, now, roots).map_err(|e| failed(e.to_string()))?;
        Ok(collateral)
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, FetchError> {
        let url = format!("{}{path}", self.service.base());
        let answer = get(&self.web, &url, None, MAX_ANSWER, self.retry).await;
        answer
            .map(|answer| answer.body)
            .map_err(|fault| FetchError { url, fault })
    }

    fn failed(&self, path: &str, fault: Fault) -> FetchError {
        let url = format!("{}{path}", self.service.base());
        FetchError { url, fault }
    }
}
