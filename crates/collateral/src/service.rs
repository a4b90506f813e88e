//! What Intel's service and its caches are asked: the addresses, and where the issuer chains stand.

use std::fmt;
use std::net::IpAddr;

use cocoon_attest::evidence::lists::Bytes;
use cocoon_attest::evidence::tdx::Platform;
use http::Uri;

/// Intel's own service (PCS, version 4 of its interface).
pub const INTEL: &str = "https://api.trustedservices.intel.com";
/// Intel's service says nothing about its root; the root's list is where the root's certificate says.
const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
/// What configurations of other programs append to the address.
const KNOWN_PATHS: [&str; 3] = [
    "/sgx/certification/v4",
    "/tdx/certification/v4",
    "/sgx/certification",
];
const MAX_ADDRESS_LEN: usize = 1_024;

/// Intel's service, or a cache of it: they differ in where the root's revocation list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    base: String,
    is_intel: bool,
}

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Not the address of a web server.
    #[error("{0:?} is not an address like https://pccs.example:8081")]
    Address(String),
    /// In clear over a network.
    #[error(
        "{0:?} is not encrypted: https is expected, or http on this machine (allow_plain_http permits it elsewhere)"
    )]
    Plain(String),
    /// An authority that Intel does not have.
    #[error(
        "the platform's certificate was issued by {0:?}, which is neither Intel's platform nor its processor authority"
    )]
    Authority(String),
}

/// Which of Intel's authorities issued a platform's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// For machines with several packages.
    Platform,
    /// For machines with one.
    Processor,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Authority::Platform => "platform",
            Authority::Processor => "processor",
        })
    }
}

impl Authority {
    /// The authority of this common name.
    pub fn of(issuer: Option<&str>) -> Result<Self, ServiceError> {
        let issuer = issuer.unwrap_or_default();
        match (
            issuer.contains("Platform CA"),
            issuer.contains("Processor CA"),
        ) {
            (true, false) => Ok(Authority::Platform),
            (false, true) => Ok(Authority::Processor),
            _ => Err(ServiceError::Authority(issuer.chars().take(80).collect())),
        }
    }

    /// The common name that Intel gave it.
    #[must_use]
    pub fn intel_name(self) -> &'static str {
        match self {
            Authority::Platform => "Intel SGX PCK Platform CA",
            Authority::Processor => "Intel SGX PCK Processor CA",
        }
    }

    /// The platform of Intel's with this family.
    #[must_use]
    pub fn platform(self, fmspc: Bytes<6>) -> Platform {
        Platform {
            fmspc,
            issuer: Some(self.intel_name().to_owned()),
        }
    }
}

/// One answer of which collateral is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Ratings of the platform family.
    TcbInfo,
    /// Identity of the quoting enclave for TDX.
    QeIdentity,
    /// Revoked platforms.
    PckCrl,
    /// Revoked authorities.
    RootCaCrl,
}

impl Part {
    /// All, in the order in which they are asked for: what a service is most likely not to know comes first.
    pub const ALL: [Part; 4] = [
        Part::TcbInfo,
        Part::PckCrl,
        Part::QeIdentity,
        Part::RootCaCrl,
    ];

    /// The header with the issuer chain.
    #[must_use]
    pub fn chain_header(self) -> Option<&'static str> {
        match self {
            Part::TcbInfo => Some("TCB-Info-Issuer-Chain"),
            Part::QeIdentity => Some("SGX-Enclave-Identity-Issuer-Chain"),
            Part::PckCrl => Some("SGX-PCK-CRL-Issuer-Chain"),
            Part::RootCaCrl => None,
        }
    }

    /// Largest answer taken, in bytes: some ten times what there is today.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Part::TcbInfo | Part::QeIdentity | Part::RootCaCrl => 256 << 10,
            Part::PckCrl => 4 << 20,
        }
    }
}

impl Service {
    /// A service at this address. In clear only on this machine, unless `allow_plain`.
    pub fn at(address: &str, allow_plain: bool) -> Result<Self, ServiceError> {
        let wrong = || ServiceError::Address(address.chars().take(120).collect());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?;
        let has_user = uri.authority().is_some_and(|a| a.as_str().contains('@'));
        if address.len() > MAX_ADDRESS_LEN || uri.query().is_some() || has_user {
            return Err(wrong());
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if allow_plain || is_this_machine(host) => {}
            Some("http") => return Err(ServiceError::Plain(address.to_owned())),
            _ => return Err(wrong()),
        }
        let mut base = address.trim_end_matches('/').to_owned();
        for path in KNOWN_PATHS {
            if let Some(shorter) = base.strip_suffix(path) {
                base = shorter.to_owned();
                break;
            }
        }
        let is_intel = host.ends_with(".trustedservices.intel.com");
        Ok(Service { base, is_intel })
    }

    /// Its address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The address of a part of the collateral of a platform.
    pub fn url(&self, part: Part, platform: &Platform) -> Result<String, ServiceError> {
        let base = &self.base;
        Ok(match part {
            Part::TcbInfo => format!("{base}/tdx/certification/v4/tcb?fmspc={}", platform.fmspc),
            Part::QeIdentity => format!("{base}/tdx/certification/v4/qe/identity"),
            Part::PckCrl => {
                let authority = Authority::of(platform.issuer.as_deref())?;
                format!("{base}/sgx/certification/v4/pckcrl?ca={authority}&encoding=der")
            }
            Part::RootCaCrl if self.is_intel => INTEL_ROOT_CRL.to_owned(),
            Part::RootCaCrl => format!("{base}/sgx/certification/v4/rootcacrl"),
        })
    }
}

/// Whether a host name or address is of this machine.
fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FMSPC: Bytes<6> = Bytes([0x90, 0xc0, 0x6f, 0, 0, 0]);

    #[test]
    fn the_addresses_of_intels_service() {
        let service = Service::at(INTEL, false).unwrap();
        let platform = Authority::Processor.platform(FMSPC);
        let urls = Part::ALL.map(|part| service.url(part, &platform).unwrap());
        assert_eq!(
            urls,
            [
                "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=90c06f000000",
                "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
                "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity",
                "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
            ]
        );
    }

    #[test]
    fn a_cache_is_asked_for_everything() {
        for address in [
            "https://pccs.example:8081",
            "https://pccs.example:8081/",
            "https://pccs.example:8081/sgx/certification/v4/",
        ] {
            let service = Service::at(address, false).unwrap();
            let platform = Authority::Platform.platform(FMSPC);
            assert_eq!(service.base(), "https://pccs.example:8081");
            assert_eq!(
                service.url(Part::RootCaCrl, &platform).unwrap(),
                "https://pccs.example:8081/sgx/certification/v4/rootcacrl"
            );
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for good in [
            "http://127.0.0.1:8081",
            "http://localhost",
            "http://[::1]:80",
        ] {
            Service::at(good, false).unwrap();
        }
        for plain in [
            "http://192.0.2.1",
            "http://localhost.example",
            "http://127.0.0.1.example",
        ] {
            assert!(matches!(
                Service::at(plain, false),
                Err(ServiceError::Plain(_))
            ));
            Service::at(plain, true).unwrap();
        }
        for bad in [
            "",
            "pccs.example",
            "/path",
            "ftp://x",
            "https://",
            "https://user:secret@x",
            "https://x/?a=1",
            "https://x y",
        ] {
            let error = Service::at(bad, true).unwrap_err();
            assert!(matches!(error, ServiceError::Address(_)), "{bad}");
        }
    }

    #[test]
    fn only_intels_authorities_are_asked_about() {
        let of = |name| Authority::of(Some(name));
        assert_eq!(of("Intel SGX PCK Platform CA"), Ok(Authority::Platform));
        assert_eq!(of("Intel SGX PCK Processor CA"), Ok(Authority::Processor));
        of("Intel SGX Root CA").unwrap_err();
        of("x&ca=platform").unwrap_err();
        Authority::of(None).unwrap_err();
    }
}
