//! Fetching the collateral of a platform family, and the checks before anybody gets it.

use std::time::Duration;

use cocoon_attest::evidence::collateral::{CollateralError, ServiceAnswers, TdxCollateral};
use cocoon_attest::evidence::lists::Bytes;
use cocoon_attest::evidence::tdx::{Platform, TdxRoot};
use rand::Rng;

use crate::service::{Part, Service, ServiceError};
use crate::web::{Answer, SecretHeader, Web, WebError};

/// How often a request is tried that fails in a way that may pass.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in all.
    pub tries: u32,
    /// Pause after the first; doubles, and a random half of it is left out so that many programs do not come at once.
    pub pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            tries: 3,
            pause: Duration::from_millis(500),
        }
    }
}

/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Asks one service.
pub struct Fetcher {
    service: Service,
    web: Web,
    key: Option<SecretHeader>,
    root: TdxRoot,
    retry: Retry,
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// None came.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The service does not know it.
    #[error("the service does not have it (status 404)")]
    Unknown,
    /// The service wants to know who asks.
    #[error("the service refuses us (status {0}): does it want a key (api_key_file)?")]
    Refused(u16),
    /// The answer is somewhere else.
    #[error(
        "the service points elsewhere (status {0}), which is not followed: name the final address"
    )]
    Redirect(u16),
    /// Another status.
    #[error("the service answers with status {0}")]
    Status(u16),
    /// A missing or doubled header.
    #[error("the answer has {found} headers {name}, one is expected")]
    Header {
        /// Its name.
        name: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Not text.
    #[error("the answer is not text")]
    Text,
    /// Not what it should be.
    #[error(transparent)]
    Content(#[from] CollateralError),
    /// Of another platform.
    #[error("it is about {found}, {wanted} was asked for")]
    Foreign {
        /// What was asked for.
        wanted: String,
        /// What came.
        found: String,
    },
    /// Nobody can be asked.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Evidence or its certificates, of AMD.
    #[error("{0}")]
    Snp(String),
}

/// Why there is no collateral.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {fault}")]
pub struct FetchError {
    /// What was asked for.
    pub url: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Fault {
    /// Whether the same question may be answered a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Fault::Web(error) => error.is_retryable(),
            Fault::Status(status) => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

impl Fetcher {
    /// Asks `service` over `web`, with a key if it wants one. What it says must be signed under `root`.
    #[must_use]
    pub fn new(service: Service, web: Web, key: Option<SecretHeader>, root: TdxRoot) -> Self {
        Fetcher {
            service,
            web,
            key,
            root,
            retry: Retry::default(),
        }
    }

    /// The same with other pauses.
    #[must_use]
    pub fn retrying(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Whom it asks.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Fetches the collateral of a platform and checks it at the time `now` (Unix seconds): its form, every signature up
    /// to the root, what it is about, its dates. Whether it is older than what is held, the store says.
    pub async fn tdx(&self, platform: &Platform, now: u64) -> Result<TdxCollateral, FetchError> {
        let url = |part| {
            let url = self.service.url(part, platform);
            url.map_err(|error| FetchError {
                url: self.service.base().to_owned(),
                fault: error.into(),
            })
        };
        // All addresses before the first question: a platform that cannot be asked about costs nobody anything.
        let urls = Part::ALL
            .into_iter()
            .map(url)
            .collect::<Result<Vec<_>, _>>()?;
        let first_url = urls.first().cloned().unwrap_or_default();
        let mut answers = Vec::with_capacity(urls.len());
        for (part, url) in Part::ALL.into_iter().zip(urls) {
            let answer = self.part(&url, part).await.map_err(|fault| FetchError {
                url: url.clone(),
                fault,
            })?;
            answers.push((answer, url));
        }
        let failed = |fault: Fault| FetchError {
            url: first_url.clone(),
            fault,
        };
        let collateral = assemble(&answers)?;
        let found = collateral.platform();
        if found != *platform {
            return Err(failed(Fault::Foreign {
                wanted: describe(platform),
                found: describe(&found),
            }));
        }
        let fmspc = platform.fmspc;
        collateral
            .verify_signatures(self.root)
            .map_err(|reason| failed(CollateralError::NotGenuine { fmspc, reason }.into()))?;
        let edition = collateral.edition().map_err(|error| failed(error.into()))?;
        edition
            .check(fmspc, now)
            .map_err(|error| failed(error.into()))?;
        Ok(collateral)
    }

    /// One answer, with its issuer chain where there is one.
    async fn part(&self, url: &str, part: Part) -> Result<(Vec<u8>, String), Fault> {
        let answer = get(&self.web, url, self.key.as_ref(), part.limit(), self.retry).await?;
        let chain = match part.chain_header() {
            Some(name) => only(&answer, name)?,
            None => String::new(),
        };
        Ok((answer.body, chain))
    }
}

/// A platform for people.
#[must_use]
pub fn describe(platform: &Platform) -> String {
    let issuer = platform.issuer.as_deref().unwrap_or("unknown issuer");
    format!("platform family {} ({issuer})", platform.fmspc)
}

type Answered = ((Vec<u8>, String), String);

fn assemble(answers: &[Answered]) -> Result<TdxCollateral, FetchError> {
    let [
        (tcb, tcb_url),
        (pck, pck_url),
        (qe, qe_url),
        (root, root_url),
    ] = answers
    else {
        // `Part::ALL` has four members.
        return Err(FetchError {
            url: String::new(),
            fault: Fault::Text,
        });
    };
    let at = |url: &String| {
        let url = url.clone();
        move |fault| FetchError { url, fault }
    };
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| Fault::Text)
    };
    let tcb_info = text(&tcb.0).map_err(at(tcb_url))?;
    let qe_identity = text(&qe.0).map_err(at(qe_url))?;
    let pck_crl = list(&pck.0).map_err(at(pck_url))?;
    let root_ca_crl = list(&root.0).map_err(at(root_url))?;
    TdxCollateral::from_service(&ServiceAnswers {
        root_ca_crl: &root_ca_crl,
        pck_crl: &pck_crl,
        pck_crl_issuer_chain: &pck.1,
        tcb_info: &tcb_info,
        tcb_info_issuer_chain: &tcb.1,
        qe_identity: &qe_identity,
        qe_identity_issuer_chain: &qe.1,
    })
    .map_err(|error| at(tcb_url)(error.into()))
}

/// A revocation list in DER; some caches write it in hexadecimal digits.
fn list(body: &[u8]) -> Result<Vec<u8>, Fault> {
    if body.first() == Some(&0x30)
        && !body
            .iter()
            .all(|b| b.is_ascii_hexdigit() || b.is_ascii_whitespace())
    {
        return Ok(body.to_vec());
    }
    let text = std::str::from_utf8(body).map_err(|_| Fault::Text)?;
    hex::decode(text.trim()).map_err(|_| Fault::Text)
}

/// The value of a header that must be there once.
fn only(answer: &Answer, name: &'static str) -> Result<String, Fault> {
    let values: Vec<_> = answer.headers.get_all(name).iter().collect();
    let [value] = values[..] else {
        let found = values.len();
        return Err(Fault::Header { name, found });
    };
    value.to_str().map(str::to_owned).map_err(|_| Fault::Text)
}

/// A GET that is tried again while what is wrong may pass.
pub(crate) async fn get(
    web: &Web,
    url: &str,
    key: Option<&SecretHeader>,
    limit: usize,
    retry: Retry,
) -> Result<Answer, Fault> {
    let mut pause = retry.pause;
    let mut tried = 1;
    loop {
        let outcome = match web.get(url, key, limit).await {
            Ok(answer) => judge(answer),
            Err(error) => Err(error.into()),
        };
        match outcome {
            Err(fault) if fault.is_passing() && tried < retry.tries => {
                tracing::debug!("{url}: try {tried} of {}: {fault}", retry.tries);
                let jitter = rand::rng().random_range(0.5..1.0);
                tokio::time::sleep(pause.mul_f64(jitter)).await;
                pause = (pause * 2).min(MAX_PAUSE);
                tried += 1;
            }
            done => return done,
        }
    }
}

fn judge(answer: Answer) -> Result<Answer, Fault> {
    match answer.status {
        200 => Ok(answer),
        404 => Err(Fault::Unknown),
        status @ (401 | 403) => Err(Fault::Refused(status)),
        status @ 300..=399 => Err(Fault::Redirect(status)),
        status => Err(Fault::Status(status)),
    }
}

/// Reads six bytes of hexadecimal digits.
#[must_use]
pub fn parse_fmspc(text: &str) -> Option<Bytes<6>> {
    let mut out = [0; 6];
    hex::decode_to_slice(text.trim(), &mut out).ok()?;
    Some(Bytes(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_in_two_forms() {
        assert_eq!(list(&[0x30, 0x82, 1]).unwrap(), [0x30, 0x82, 1]);
        assert_eq!(list(b"308201\n").unwrap(), [0x30, 0x82, 1]);
        for bad in [&b""[..], b"30820", b"<html>", &[0xff, 0xfe]] {
            assert!(
                list(bad).is_err() || list(bad).unwrap().is_empty(),
                "{bad:?}"
            );
        }
    }
}
