//! Puts [`Settings`] together and checks them as a whole.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_attest::policy_config::{OneOrMany, PolicyConfig, PolicyType, RulesConfig};
use cocoon_attest::{Policy, guard_network, pow};

use crate::certificate::{CertificateMode, CertificateSource};
use crate::file::{FileConfig, FilePort, FilePortType, Usernames};
use crate::grammar::{self, GrammarError, PolicyRef, PortForm, PortSpec};
use crate::policies::Policies;
use crate::settings::{EVERYWHERE, Options, Port, PortKind, Settings, SettingsError};
use crate::socks5::Choice;
use crate::target::Target;

/// Most ports, and most policies, of one router: a number nobody reaches but by mistake.
const MAX_PORTS: usize = 256;
/// Most threads of one router, for the same reason.
const MAX_THREADS: usize = 1_024;
const BUILT_IN: [(&str, PolicyType); 3] = [
    ("any", PolicyType::Any),
    ("fake_tdx", PolicyType::FakeTdx),
    ("tdx", PolicyType::Tdx),
];

impl Settings {
    /// Puts the command line and a file together.
    pub fn assemble(options: &Options, file: Option<&FileConfig>) -> Result<Self, SettingsError> {
        let file = file.cloned().unwrap_or_default();
        let mut draft = Draft {
            options,
            roots: roots(options.collateral_hash.as_deref())?,
            policies: BTreeMap::new(),
            ports: Vec::new(),
            warnings: Vec::new(),
        };
        draft.define_policies(&file)?;
        draft.add_ports(&file)?;
        let Draft {
            mut policies,
            mut ports,
            mut warnings,
            ..
        } = draft;
        check_ports(&ports, &policies)?;
        let certificate = certificate(options, &file)?;
        let fakes = Fakes {
            said: options.test_network || file.test_network,
            certificate: certificate == CertificateSource::Memory(CertificateMode::FakeTdx),
        };
        guard(&mut ports, &mut policies, &fakes, &mut warnings);
        let threads = options.threads.or(file.threads).unwrap_or(0);
        at_most("threads", threads, MAX_THREADS)?;
        Ok(Settings {
            ports,
            policies,
            listen: options.listen.unwrap_or(EVERYWHERE),
            certificate,
            threads,
            limits: options.limits.clone(),
            warnings,
        })
    }
}

/// A configuration in the making.
struct Draft<'a> {
    options: &'a Options,
    roots: Vec<String>,
    policies: Policies,
    ports: Vec<Port>,
    warnings: Vec<String>,
}

impl Draft<'_> {
    fn define_policies(&mut self, file: &FileConfig) -> Result<(), SettingsError> {
        let found = file.policies.len() + self.options.policies.len();
        at_most("policies", found, MAX_PORTS)?;
        for (name, kind) in BUILT_IN {
            self.define(name, plain(kind))?;
        }
        let not_built_in = |name: &str| {
            if grammar::policy_type(name).is_some() {
                return Err(SettingsError::BuiltInName(name.to_owned()));
            }
            Ok(())
        };
        for config in &file.policies {
            let name = config.name.as_deref().filter(|name| !name.is_empty());
            let name = name.ok_or(SettingsError::NoName)?;
            not_built_in(name)?;
            self.define(name, config.clone())?;
        }
        for text in &self.options.policies {
            let spec = grammar::policy(text).map_err(|e| wrong("--policy", text, e))?;
            not_built_in(&spec.name)?;
            self.define(&spec.name, with_hashes(spec.kind, spec.hashes))?;
        }
        Ok(())
    }

    fn define(&mut self, name: &str, mut config: PolicyConfig) -> Result<(), SettingsError> {
        if config.kind == PolicyType::Tdx && !self.roots.is_empty() {
            let rules = config.tdx_config.get_or_insert_default();
            if rules.allowed_collateral_root_hashes == OneOrMany::default() {
                rules.allowed_collateral_root_hashes = OneOrMany::Many(self.roots.clone());
            }
        }
        let policy = Policy::try_from(config).map_err(|source| SettingsError::Policy {
            name: name.to_owned(),
            source,
        })?;
        match self.policies.insert(name.to_owned(), policy) {
            None => Ok(()),
            Some(_) => Err(SettingsError::DuplicatePolicy(name.to_owned())),
        }
    }

    fn add_ports(&mut self, file: &FileConfig) -> Result<(), SettingsError> {
        type Read = fn(&str) -> Result<PortSpec, GrammarError>;
        let lists: [(&'static str, &[String], Read); 4] = [
            ("--socks5", &self.options.socks5, grammar::socks5),
            ("--fwd", &self.options.forward, grammar::forward),
            ("--rev", &self.options.reverse, grammar::reverse),
            ("--port", &self.options.ports, grammar::legacy),
        ];
        for (option, texts, read) in lists {
            for text in texts {
                let spec = read(text).map_err(|e| wrong(option, text, e))?;
                let port = self.port_of_spec(spec)?;
                self.ports.push(port);
            }
        }
        if self.ports.is_empty() {
            for port in &file.ports {
                let port = self.port_of_file(port)?;
                self.ports.push(port);
            }
        } else if !file.ports.is_empty() {
            self.warnings.push(format!(
                "the {} ports of the configuration file are not used, because the command line names ports",
                file.ports.len()
            ));
        }
        Ok(())
    }

    fn port_of_spec(&mut self, spec: PortSpec) -> Result<Port, SettingsError> {
        let kind = match spec.form {
            PortForm::Socks5 => PortKind::Socks5 {
                choice: Choice::Fixed,
                max_difficulty: self.max_difficulty(None)?,
            },
            PortForm::Forward(to) => PortKind::Forward {
                to,
                max_difficulty: self.max_difficulty(None)?,
            },
            PortForm::Reverse(to) => PortKind::Reverse {
                to,
                difficulty: self.difficulty(None)?,
            },
        };
        let PolicyRef { name, hashes } = spec.policy;
        let policy = match grammar::policy_type(&name) {
            Some(kind) if !hashes.is_empty() => {
                let name = format!("{name}_inline_{}", spec.listen);
                self.define(&name, with_hashes(kind, hashes))?;
                name
            }
            _ => name,
        };
        Ok(Port {
            listen: spec.listen,
            kind,
            policy,
            serialize_info: self.options.serialize_info,
        })
    }

    fn port_of_file(&mut self, port: &FilePort) -> Result<Port, SettingsError> {
        let to = || -> Result<Target, SettingsError> {
            let (Some(host), Some(number)) = (&port.destination_host, port.destination_port) else {
                return Err(SettingsError::NoDestination {
                    port: port.port,
                    kind: if port.kind == FilePortType::Forward {
                        "forward"
                    } else {
                        "reverse"
                    },
                });
            };
            Target::new(host, number).map_err(|source| SettingsError::Destination {
                port: port.port,
                source,
            })
        };
        let kind = match port.kind {
            FilePortType::Socks5 => PortKind::Socks5 {
                choice: self.choice(port)?,
                max_difficulty: self.max_difficulty(port.max_pow_difficulty)?,
            },
            FilePortType::Forward => PortKind::Forward {
                to: to()?,
                max_difficulty: self.max_difficulty(port.max_pow_difficulty)?,
            },
            FilePortType::Reverse => PortKind::Reverse {
                to: to()?,
                difficulty: self.difficulty(port.pow_difficulty)?,
            },
        };
        self.warn_unused(port);
        Ok(Port {
            listen: port.port,
            kind,
            policy: port.policy_name.clone(),
            serialize_info: port.serialize_info.unwrap_or(self.options.serialize_info),
        })
    }

    fn choice(&self, port: &FilePort) -> Result<Choice, SettingsError> {
        Ok(match &port.allow_policy_from_username {
            None | Some(Usernames::All(false)) => Choice::Fixed,
            Some(Usernames::All(true)) => Choice::Among(self.policies.keys().cloned().collect()),
            Some(Usernames::These(names)) => {
                for name in names {
                    known(port.port, name, &self.policies)?;
                }
                Choice::Among(names.iter().cloned().collect())
            }
        })
    }

    fn warn_unused(&mut self, port: &FilePort) {
        let socks = port.kind == FilePortType::Socks5;
        let unused = [
            (socks && port.destination_host.is_some(), "destination_host"),
            (socks && port.destination_port.is_some(), "destination_port"),
            (
                !socks && port.allow_policy_from_username.is_some(),
                "allow_policy_from_username",
            ),
        ];
        for (_, key) in unused.iter().filter(|(unused, _)| *unused) {
            let number = port.port;
            self.warnings
                .push(format!("port {number}: {key} means nothing for its type"));
        }
        if port.allow_policy_from_username == Some(Usernames::All(true)) {
            let number = port.port;
            self.warnings.push(format!(
                "port {number}: any program on this machine can choose the policy any, which checks nothing; list the allowed names in allow_policy_from_username instead of true"
            ));
        }
    }

    fn difficulty(&self, of_file: Option<u8>) -> Result<u8, SettingsError> {
        let chosen = self.options.pow_difficulty.or(of_file);
        bits(chosen.unwrap_or(pow::DEFAULT_DIFFICULTY))
    }

    fn max_difficulty(&self, of_file: Option<u8>) -> Result<u8, SettingsError> {
        let chosen = self.options.max_pow_difficulty.or(of_file);
        bits(chosen.unwrap_or(pow::MAX_CLIENT_DIFFICULTY))
    }
}

fn bits(bits: u8) -> Result<u8, SettingsError> {
    if bits > pow::MAX_DIFFICULTY {
        return Err(SettingsError::Difficulty { found: bits });
    }
    Ok(bits)
}

fn plain(kind: PolicyType) -> PolicyConfig {
    PolicyConfig {
        name: None,
        kind,
        description: None,
        tdx_config: None,
    }
}

fn with_hashes(kind: PolicyType, hashes: Vec<String>) -> PolicyConfig {
    PolicyConfig {
        tdx_config: (!hashes.is_empty()).then(|| RulesConfig {
            allowed_image_hashes: OneOrMany::Many(hashes),
            ..RulesConfig::default()
        }),
        ..plain(kind)
    }
}

/// The global list of roots; each is checked where it is used, in the built-in policy `tdx` at the latest.
fn roots(text: Option<&str>) -> Result<Vec<String>, SettingsError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let roots: Vec<String> = text
        .split(',')
        .filter(|root| !root.is_empty())
        .map(ToOwned::to_owned)
        .collect();
    if roots.is_empty() {
        return Err(SettingsError::NoRoots);
    }
    Ok(roots)
}

fn check_ports(ports: &[Port], policies: &Policies) -> Result<(), SettingsError> {
    if ports.is_empty() {
        return Err(SettingsError::NoPorts);
    }
    at_most("ports", ports.len(), MAX_PORTS)?;
    let mut seen = BTreeSet::new();
    for port in ports {
        if port.listen != 0 && !seen.insert(port.listen) {
            return Err(SettingsError::DuplicatePort(port.listen));
        }
        known(port.listen, &port.policy, policies)?;
    }
    Ok(())
}

fn known(port: u16, policy: &str, policies: &Policies) -> Result<(), SettingsError> {
    if policies.contains_key(policy) {
        return Ok(());
    }
    Err(SettingsError::UnknownPolicy {
        port,
        policy: policy.chars().take(80).collect(),
        known: policies.keys().cloned().collect(),
    })
}

/// What says that this router serves a test network.
struct Fakes {
    /// In so many words.
    said: bool,
    /// By making fake certificates.
    certificate: bool,
}

/// Fakes only where somebody wrote them down: a port that names a fake policy, a fake certificate, or the statement
/// that this is a test network. Without any of these no user name can choose one. The router does not know the
/// network, so it warns; nodes refuse fake evidence on the main network themselves.
fn guard(ports: &mut [Port], policies: &mut Policies, fakes: &Fakes, warnings: &mut Vec<String>) {
    let is_fake = |policy: &Policy| guard_network(policy, true, false).is_err();
    let named = ports
        .iter()
        .find(|port| policies.get(&port.policy).is_some_and(is_fake));
    let because = match (fakes, named) {
        (_, Some(port)) => format!("port {} names a fake_tdx policy", port.listen),
        (
            Fakes {
                certificate: true, ..
            },
            None,
        ) => "its certificate is a fake one".to_owned(),
        (Fakes { said: true, .. }, None) => "it was told so".to_owned(),
        _ => {
            policies.retain(|_, policy| !is_fake(policy));
            for port in ports {
                if let PortKind::Socks5 {
                    choice: Choice::Among(names),
                    ..
                } = &mut port.kind
                {
                    names.retain(|name| policies.contains_key(name));
                }
            }
            return;
        }
    };
    warnings.push(format!(
        "this router serves a test network ({because}): fake_tdx proves nothing, and nothing that passes is confidential"
    ));
}

fn certificate(options: &Options, file: &FileConfig) -> Result<CertificateSource, SettingsError> {
    // What the command line says of the certificate replaces all that the file says of it.
    let (base, mode) = if options.cert.is_some() || options.cert_mode.is_some() {
        (options.cert.clone(), options.cert_mode)
    } else {
        (file.cert_base_name.clone(), file.cert_mode)
    };
    match (base, mode) {
        (Some(base), None) => Ok(CertificateSource::Files(base)),
        (Some(base), Some(mode)) => Err(SettingsError::TwoCertificates {
            base,
            mode: mode.name(),
        }),
        (None, mode) => Ok(CertificateSource::Memory(
            mode.unwrap_or(CertificateMode::None),
        )),
    }
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), SettingsError> {
    if found > limit {
        return Err(SettingsError::TooMany { what, found, limit });
    }
    Ok(())
}

fn wrong(option: &'static str, text: &str, source: GrammarError) -> SettingsError {
    SettingsError::Grammar {
        option,
        text: text.chars().take(200).collect(),
        source,
    }
}
