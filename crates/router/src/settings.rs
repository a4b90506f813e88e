//! What a router shall do, put together from the command line and a configuration file and checked as a whole.
//!
//! Where ours differs from the reference (spec 5.3, 5.4 and 10.2 G20, G21), nothing of a working configuration
//! changes, but what the reference silently ignores is obeyed or refused:
//! * a policy that is defined twice, or under a built-in name, is an error (the reference takes the last, or the
//!   built-in one);
//! * `--serialize-info` reaches ports of the file that do not say themselves, and the file's proof-of-work fields count
//!   unless a flag overrides them;
//! * a list of collateral roots is taken as it is, and the default root is not added to it; an empty list, which
//!   turned the check off, is an error;
//! * a user name chooses `fake_tdx` only where a port, the certificate or a flag says that this is a test network.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use cocoon_attest::evidence::TdxVerifier;
use cocoon_attest::policy_config::PolicyConfigError;
use cocoon_attest::{Policy, pow};

use crate::certificate::{CertificateMode, CertificateSource};
use crate::grammar::GrammarError;
use crate::limits::Limits;
use crate::policies::Policies;
use crate::socks5::Choice;
use crate::target::{Target, TargetError};

/// Where reverse ports listen unless told otherwise: on every interface, for the whole network.
pub const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The options of the command line, as text where they have a grammar.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `-P`
    pub policies: Vec<String>,
    /// `-S`
    pub socks5: Vec<String>,
    /// `-F`
    pub forward: Vec<String>,
    /// `-R`
    pub reverse: Vec<String>,
    /// `-p`
    pub ports: Vec<String>,
    /// `-s`
    pub serialize_info: bool,
    /// `--collateral-hash`
    pub collateral_hash: Option<String>,
    /// `-C`
    pub cert: Option<PathBuf>,
    /// `--cert-mode`
    pub cert_mode: Option<CertificateMode>,
    /// `-t`
    pub threads: Option<usize>,
    /// `-d`
    pub pow_difficulty: Option<u8>,
    /// `-m`
    pub max_pow_difficulty: Option<u8>,
    /// `--listen`
    pub listen: Option<IpAddr>,
    /// `--test-network`
    pub test_network: bool,
    /// The limits.
    pub limits: Limits,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// At least one port; no number twice.
    pub ports: Vec<Port>,
    /// Every policy a port may use.
    pub policies: Policies,
    /// Where reverse ports listen.
    pub listen: IpAddr,
    /// Where our certificate comes from.
    pub certificate: CertificateSource,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// The limits.
    pub limits: Limits,
    /// What is probably not meant, for the operator.
    pub warnings: Vec<String>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Port to listen on; 0 is any free one.
    pub listen: u16,
    /// What it does.
    pub kind: PortKind,
    /// Name of the policy for peers.
    pub policy: String,
    /// Whether the application gets the attestation frame.
    pub serialize_info: bool,
}

/// What a port does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortKind {
    /// SOCKS5 on 127.0.0.1.
    Socks5 {
        /// Policies that the user name may choose.
        choice: Choice,
        /// Most proof of work done for a peer, in bits.
        max_difficulty: u8,
    },
    /// One attested peer, on 127.0.0.1.
    Forward {
        /// The peer.
        to: Target,
        /// Most proof of work done for it, in bits.
        max_difficulty: u8,
    },
    /// One local application, on all IPv4 interfaces.
    Reverse {
        /// The application.
        to: Target,
        /// Proof of work asked of peers, in bits.
        difficulty: u8,
    },
}

impl PortKind {
    /// The name of the type in configurations.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            PortKind::Socks5 { .. } => "socks5",
            PortKind::Forward { .. } => "forward",
            PortKind::Reverse { .. } => "reverse",
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A text of the command line cannot be read.
    #[error("cannot use {option} {text:?}: {source}")]
    Grammar {
        /// The option.
        option: &'static str,
        /// Its text, cut after 200 characters.
        text: String,
        /// Why.
        source: GrammarError,
    },
    /// No port at all.
    #[error(
        "no port is configured: give -S, -F or -R, or a file with ports (-g prints an example)"
    )]
    NoPorts,
    /// Too much of something.
    #[error("{found} {what} are configured, at most {limit} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A port number twice.
    #[error("port {0} is configured twice")]
    DuplicatePort(u16),
    /// A policy name twice.
    #[error("policy {0:?} is defined twice")]
    DuplicatePolicy(String),
    /// A policy under a built-in name.
    #[error(
        "policy {0:?} has the name of a built-in policy and would never be used: give it another name"
    )]
    BuiltInName(String),
    /// A policy without a name.
    #[error("a policy of the configuration file has no name")]
    NoName,
    /// A policy that no definition has.
    #[error("port {port} uses policy {policy:?}, which is not defined (there are {})", known.join(", "))]
    UnknownPolicy {
        /// The port.
        port: u16,
        /// The name.
        policy: String,
        /// The names that are defined.
        known: Vec<String>,
    },
    /// A policy with values that cannot be read.
    #[error("policy {name:?}: {source}")]
    Policy {
        /// Its name.
        name: String,
        /// Why.
        source: PolicyConfigError,
    },
    /// Files and a mode.
    #[error("the certificate is read from files ({}) and cannot be made in mode {mode} too", base.display())]
    TwoCertificates {
        /// Base name of the files.
        base: PathBuf,
        /// The mode.
        mode: &'static str,
    },
    /// A port of the file without its destination.
    #[error("port {port}: a {kind} port needs destination_host and destination_port")]
    NoDestination {
        /// The port.
        port: u16,
        /// Its type.
        kind: &'static str,
    },
    /// A destination that cannot be connected to.
    #[error("port {port}: {source}")]
    Destination {
        /// The port.
        port: u16,
        /// Why.
        source: TargetError,
    },
    /// More bits than there are.
    #[error(
        "a proof-of-work difficulty is 0 to {}, {found} is not",
        pow::MAX_DIFFICULTY
    )]
    Difficulty {
        /// What stands there.
        found: u8,
    },
    /// An empty list of roots.
    #[error(
        "--collateral-hash is empty: without any root that it trusts a tdx policy would take quotes of anybody's making"
    )]
    NoRoots,
}

impl Settings {
    /// Lets every tdx policy verify quotes; without a verifier they refuse all peers.
    pub fn verify_with(&mut self, verifier: &Arc<TdxVerifier>) {
        for policy in self.policies.values_mut() {
            *policy = policy.clone().with_verifier(verifier.clone());
        }
    }

    /// Whether the port's own policy demands genuine quotes.
    #[must_use]
    pub fn demands_tdx(&self, port: &Port) -> bool {
        matches!(self.policies.get(&port.policy), Some(Policy::Tdx(_)))
    }
}
