//! The texts of the command line's port and policy options, in the reference's grammar (spec 5.3).
//!
//! ```text
//! -P name:type[:hash[,hash...]]             a named policy
//! -S port@policy[:hash[,hash...]]           SOCKS5
//! -F port:host:port@policy[:hash,...]       forward
//! -R port:host:port@policy[:hash,...]       reverse
//! -p port:type[:policy[:host:port]]         old form of the three
//! ```
//!
//! Beyond the reference, a host may be an IPv6 address in brackets, and a port any number (0 listens on a free one).

use cocoon_attest::policy_config::PolicyType;

use crate::target::{Target, TargetError};

/// Longest text of one option.
pub const MAX_SPEC_LEN: usize = 64 * 1024;

/// Why an option's text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The parts are not those of the form.
    #[error("expected {expected}")]
    Form {
        /// The form.
        expected: &'static str,
    },
    /// No number, or not one of a port.
    #[error("{found:?} is no port: a number from 0 (any free one) to 65535 is expected")]
    Port {
        /// What stands there.
        found: String,
    },
    /// The destination cannot be connected to.
    #[error("the destination cannot be used: {0}")]
    Target(#[from] TargetError),
    /// No such policy type.
    #[error("{found:?} is no policy type: any, fake_tdx and tdx are")]
    PolicyType {
        /// What stands there.
        found: String,
    },
    /// No such port type.
    #[error("{found:?} is no port type: socks5, forward and reverse are")]
    PortType {
        /// What stands there.
        found: String,
    },
    /// Hashes behind a name that is no type.
    #[error(
        "hashes can follow only the built-in names any, fake_tdx and tdx, not {found:?}: define the policy with -P"
    )]
    InlineName {
        /// The name.
        found: String,
    },
}

/// A policy as a port names it: a name, and hashes that make a new policy of a built-in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRef {
    /// The name.
    pub name: String,
    /// Image hashes behind it, as written.
    pub hashes: Vec<String>,
}

/// What a port does, and where its connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortForm {
    /// SOCKS5.
    Socks5,
    /// To one attested peer.
    Forward(Target),
    /// From attested peers to one application.
    Reverse(Target),
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Port to listen on; 0 is any free one.
    pub listen: u16,
    /// What it does.
    pub form: PortForm,
    /// What peers must prove.
    pub policy: PolicyRef,
}

/// One named policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySpec {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: PolicyType,
    /// Its image hashes, as written.
    pub hashes: Vec<String>,
}

/// The type of a policy by its name in configurations.
#[must_use]
pub fn policy_type(name: &str) -> Option<PolicyType> {
    Some(match name {
        "any" => PolicyType::Any,
        "fake_tdx" => PolicyType::FakeTdx,
        "tdx" => PolicyType::Tdx,
        _ => return None,
    })
}

/// `name:type[:hash,...]`
pub fn policy(text: &str) -> Result<PolicySpec, GrammarError> {
    const FORM: GrammarError = GrammarError::Form {
        expected: "name:type[:hash,...], for example strict:tdx:5c55...4b61",
    };
    let mut parts = sized(text, FORM)?.splitn(3, ':');
    let (name, kind) = (parts.next().unwrap_or(""), parts.next().ok_or(FORM)?);
    if name.is_empty() || name.contains('@') {
        return Err(FORM);
    }
    let kind = policy_type(kind).ok_or_else(|| GrammarError::PolicyType { found: short(kind) })?;
    let hashes = hashes(parts.next(), FORM)?;
    Ok(PolicySpec {
        name: name.to_owned(),
        kind,
        hashes,
    })
}

/// `port@policy[:hash,...]`
pub fn socks5(text: &str) -> Result<PortSpec, GrammarError> {
    const FORM: GrammarError = GrammarError::Form {
        expected: "port@policy[:hash,...], for example 8116@tdx",
    };
    let (left, policy) = at(text, FORM)?;
    Ok(PortSpec {
        listen: port(left)?,
        form: PortForm::Socks5,
        policy,
    })
}

/// `port:host:port@policy[:hash,...]`, from a local port to an attested peer.
pub fn forward(text: &str) -> Result<PortSpec, GrammarError> {
    let (listen, target, policy) = with_target(text)?;
    Ok(PortSpec {
        listen,
        form: PortForm::Forward(target),
        policy,
    })
}

/// `port:host:port@policy[:hash,...]`, from attested peers to a local application.
pub fn reverse(text: &str) -> Result<PortSpec, GrammarError> {
    let (listen, target, policy) = with_target(text)?;
    Ok(PortSpec {
        listen,
        form: PortForm::Reverse(target),
        policy,
    })
}

/// `port:type[:policy[:host:port]]`, the old form; the policy is `any` if none is named.
pub fn legacy(text: &str) -> Result<PortSpec, GrammarError> {
    const FORM: GrammarError = GrammarError::Form {
        expected: "port:type[:policy[:host:port]], for example 8116:socks5:tdx or 11001:reverse:any:127.0.0.1:11101",
    };
    let mut parts = sized(text, FORM)?.splitn(4, ':');
    let (listen, kind) = (parts.next().unwrap_or(""), parts.next().ok_or(FORM)?);
    let listen = port(listen)?;
    let name = parts.next().unwrap_or("any");
    if name.is_empty() {
        return Err(FORM);
    }
    let target = parts.next().map(|text| target(text, FORM)).transpose()?;
    let form = match (kind, target) {
        ("socks5", None) => PortForm::Socks5,
        ("forward", Some(target)) => PortForm::Forward(target),
        ("reverse", Some(target)) => PortForm::Reverse(target),
        ("socks5" | "forward" | "reverse", _) => return Err(FORM),
        _ => return Err(GrammarError::PortType { found: short(kind) }),
    };
    let policy = PolicyRef {
        name: name.to_owned(),
        hashes: Vec::new(),
    };
    Ok(PortSpec {
        listen,
        form,
        policy,
    })
}

fn with_target(text: &str) -> Result<(u16, Target, PolicyRef), GrammarError> {
    const FORM: GrammarError = GrammarError::Form {
        expected: "port:host:port@policy[:hash,...], for example 11001:127.0.0.1:11101@tdx",
    };
    let (left, policy) = at(text, FORM)?;
    let (listen, rest) = left.split_once(':').ok_or(FORM)?;
    Ok((port(listen)?, target(rest, FORM)?, policy))
}

/// `host:port`; an IPv6 address stands in brackets.
fn target(text: &str, form: GrammarError) -> Result<Target, GrammarError> {
    let (host, number) = text.rsplit_once(':').ok_or(form.clone())?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(form);
    }
    Ok(Target::new(host, port(number)?)?)
}

/// Splits at the only `@` and reads the policy behind it.
fn at(text: &str, form: GrammarError) -> Result<(&str, PolicyRef), GrammarError> {
    let (left, right) = sized(text, form.clone())?
        .split_once('@')
        .ok_or(form.clone())?;
    if right.contains('@') || right.is_empty() {
        return Err(form);
    }
    let (name, list) = match right.split_once(':') {
        Some((name, list)) => (name, Some(list)),
        None => (right, None),
    };
    if name.is_empty() {
        return Err(form);
    }
    if list.is_some() && policy_type(name).is_none() {
        return Err(GrammarError::InlineName { found: short(name) });
    }
    let policy = PolicyRef {
        name: name.to_owned(),
        hashes: hashes(list, form)?,
    };
    Ok((left, policy))
}

/// A list that is there has at least one hash: an empty one would silently allow every image.
fn hashes(list: Option<&str>, form: GrammarError) -> Result<Vec<String>, GrammarError> {
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    if list.split(',').any(str::is_empty) {
        return Err(form);
    }
    Ok(list.split(',').map(ToOwned::to_owned).collect())
}

fn port(text: &str) -> Result<u16, GrammarError> {
    // `parse` alone would take a leading plus sign.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| GrammarError::Port { found: short(text) })
}

fn sized(text: &str, form: GrammarError) -> Result<&str, GrammarError> {
    if text.len() > MAX_SPEC_LEN {
        return Err(form);
    }
    Ok(text)
}

/// Text of the user for an error message.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
