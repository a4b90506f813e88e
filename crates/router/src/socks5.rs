//! The server's side of the SOCKS5 dialogue, without any I/O (spec 5.2).
//!
//! CONNECT only; the user name is the name of a policy, on ports that allow it. The reference takes IPv4 targets
//! only; ours takes IPv6 and names too. Errors have no reply, in the reference and here: the connection just closes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::target::{Host, Target, TargetError};

const VERSION: u8 = 5;
const AUTH_VERSION: u8 = 1;
const NO_AUTH: u8 = 0;
const USER_NAME: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Most bytes that a whole dialogue takes: greeting 2 + 255, user name and password 3 + 510, request 5 + 255 + 2.
pub const MAX_DIALOGUE_LEN: usize = 2 + 255 + 3 + 510 + 5 + 255 + 2;

/// Why a dialogue is broken off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialogueError {
    /// Not SOCKS5, often HTTP.
    #[error("the application opened with {found:02x}, SOCKS version 05 expected{}", hint(*found))]
    Version {
        /// First byte.
        found: u8,
    },
    /// None of the offered methods is available.
    #[error(
        "the application offers none of the authentication methods 00 (none){}",
        if *names { " and 02 (user name = policy)" } else { "; this port does not take a policy from the user name" }
    )]
    NoMethod {
        /// Whether the port would have taken a user name.
        names: bool,
    },
    /// The user-name message has another version.
    #[error("the user-name message has version {found:02x}, 01 expected")]
    AuthVersion {
        /// Version found.
        found: u8,
    },
    /// The user name is no policy that this port may use.
    #[error("policy {name:?} is not among those this port allows")]
    Policy {
        /// The name, cut after 64 characters.
        name: String,
    },
    /// BIND or UDP.
    #[error("SOCKS5 command {found:02x} is not supported, only 01 (CONNECT) is")]
    Command {
        /// Command found.
        found: u8,
    },
    /// An unknown type of address.
    #[error("SOCKS5 address type {found:02x} is unknown (01 IPv4, 03 name, 04 IPv6)")]
    AddressType {
        /// Type found.
        found: u8,
    },
    /// The driver gave another number of bytes than [`Dialogue::needs`] asked for: a bug of ours.
    #[error("{found} bytes of the dialogue were read, {needed} are needed")]
    Length {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
    /// The target cannot be named like this.
    #[error("the requested target cannot be used: {0}")]
    Target(#[from] TargetError),
}

fn hint(first: u8) -> &'static str {
    match first {
        4 => " (SOCKS4 is not supported)",
        b'C' | b'G' | b'P' | b'H' => " (this looks like HTTP: the port speaks SOCKS5, not HTTP)",
        0x16 => " (this looks like TLS: the port speaks SOCKS5)",
        _ => "",
    }
}

/// Which policies a dialogue may choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// None: the port's own policy is used.
    #[default]
    Fixed,
    /// The user name may be one of these.
    Among(std::collections::BTreeSet<String>),
}

/// What the application asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to connect.
    pub target: Target,
    /// The policy it named, if it named one.
    pub policy: Option<String>,
}

/// What to do after some bytes of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read exactly [`Dialogue::needs`] more bytes.
    Read,
    /// Send these bytes, then read on.
    Send([u8; 2]),
    /// The dialogue is complete; what follows belongs to the target.
    Done(Request),
}

/// The dialogue of one connection. It asks for exactly the bytes it needs, so that the ones after them stay in the
/// socket for the target.
#[derive(Debug)]
pub struct Dialogue<'a> {
    choice: &'a Choice,
    policy: Option<String>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Greeting,
    Methods { count: u8 },
    User,
    UserName { length: u8 },
    Password { length: u8 },
    Request,
    Ip4,
    Ip6,
    NameLength,
    Name { length: u8 },
}

impl<'a> Dialogue<'a> {
    /// A dialogue that may choose among these policies.
    #[must_use]
    pub fn new(choice: &'a Choice) -> Self {
        Dialogue {
            choice,
            policy: None,
            state: State::Greeting,
        }
    }

    /// How many bytes to read next; never 0.
    #[must_use]
    pub fn needs(&self) -> usize {
        match self.state {
            State::Greeting | State::User => 2,
            State::Methods { count } => usize::from(count),
            // The name and the length of the password behind it.
            State::UserName { length } => usize::from(length) + 1,
            State::Password { length } => usize::from(length),
            State::Request => 4,
            State::Ip4 => 4 + 2,
            State::Ip6 => 16 + 2,
            State::NameLength => 1,
            State::Name { length } => usize::from(length) + 2,
        }
    }

    /// Takes exactly [`Self::needs`] bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Step, DialogueError> {
        if bytes.len() != self.needs() {
            return Err(DialogueError::Length {
                needed: self.needs(),
                found: bytes.len(),
            });
        }
        match self.state {
            State::Greeting => {
                let [version, count] = [bytes[0], bytes[1]];
                if version != VERSION {
                    return Err(DialogueError::Version { found: version });
                }
                if count == 0 {
                    return Err(self.no_method());
                }
                self.go(State::Methods { count })
            }
            State::Methods { .. } => {
                if bytes.contains(&USER_NAME) && *self.choice != Choice::Fixed {
                    self.state = State::User;
                    Ok(Step::Send([VERSION, USER_NAME]))
                } else if bytes.contains(&NO_AUTH) {
                    self.state = State::Request;
                    Ok(Step::Send([VERSION, NO_AUTH]))
                } else {
                    Err(self.no_method())
                }
            }
            State::User => {
                let [found, length] = [bytes[0], bytes[1]];
                if found != AUTH_VERSION {
                    return Err(DialogueError::AuthVersion { found });
                }
                self.go(State::UserName { length })
            }
            State::UserName { length } => {
                let (name, rest) = bytes.split_at(usize::from(length));
                self.choose(name)?;
                match rest[0] {
                    0 => self.logged_in(),
                    length => self.go(State::Password { length }),
                }
            }
            State::Password { .. } => self.logged_in(),
            State::Request => {
                let [version, command, _reserved, kind] = [bytes[0], bytes[1], bytes[2], bytes[3]];
                if version != VERSION {
                    return Err(DialogueError::Version { found: version });
                }
                if command != CONNECT {
                    return Err(DialogueError::Command { found: command });
                }
                self.go(match kind {
                    IPV4 => State::Ip4,
                    IPV6 => State::Ip6,
                    NAME => State::NameLength,
                    found => return Err(DialogueError::AddressType { found }),
                })
            }
            State::Ip4 => {
                let (ip, port) = split::<4>(bytes);
                self.done(Host::Ip(Ipv4Addr::from(ip).into()), port)
            }
            State::Ip6 => {
                let (ip, port) = split::<16>(bytes);
                self.done(Host::Ip(Ipv6Addr::from(ip).into()), port)
            }
            State::NameLength => match bytes[0] {
                0 => Err(TargetError::Empty.into()),
                length => self.go(State::Name { length }),
            },
            State::Name { length } => {
                let (name, port) = bytes.split_at(usize::from(length));
                let name = std::str::from_utf8(name).map_err(|_| TargetError::NotAName)?;
                self.done(Host::parse(name)?, u16::from_be_bytes([port[0], port[1]]))
            }
        }
    }

    fn go(&mut self, state: State) -> Result<Step, DialogueError> {
        self.state = state;
        Ok(Step::Read)
    }

    fn choose(&mut self, name: &[u8]) -> Result<(), DialogueError> {
        let known = std::str::from_utf8(name).ok().filter(
            |name| matches!(self.choice, Choice::Among(allowed) if allowed.contains(*name)),
        );
        self.policy = known.map(ToOwned::to_owned);
        if known.is_some() {
            return Ok(());
        }
        let name = String::from_utf8_lossy(name).chars().take(64).collect();
        Err(DialogueError::Policy { name })
    }

    fn logged_in(&mut self) -> Result<Step, DialogueError> {
        self.state = State::Request;
        Ok(Step::Send([AUTH_VERSION, 0]))
    }

    fn done(&mut self, host: Host, port: u16) -> Result<Step, DialogueError> {
        if port == 0 {
            return Err(TargetError::Port.into());
        }
        Ok(Step::Done(Request {
            target: Target { host, port },
            policy: self.policy.take(),
        }))
    }

    fn no_method(&self) -> DialogueError {
        let names = *self.choice != Choice::Fixed;
        DialogueError::NoMethod { names }
    }
}

/// An address and the port behind it; `bytes` has N + 2.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], u16) {
    let mut ip = [0; N];
    ip.copy_from_slice(&bytes[..N]);
    (ip, u16::from_be_bytes([bytes[N], bytes[N + 1]]))
}

/// The reply that says that the target is reached, with our own end of that connection.
#[must_use]
pub fn success(local: SocketAddr) -> Vec<u8> {
    let mut out = vec![VERSION, 0, 0];
    match local.ip() {
        IpAddr::V4(ip) => {
            out.push(IPV4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(IPV6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&local.port().to_be_bytes());
    out
}
