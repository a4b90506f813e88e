//! The client's side of the SOCKS5 dialogue with a router (spec 1.1 and 5.2): no credentials, or a user name that
//! picks the router's policy; CONNECT to an IPv4 address and nothing else.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Each answer of the greeting comes from the local machine.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The reply comes after the router's proof of work, TLS handshake and policy. The reference's runners wait 10 s for
/// everything; at high difficulties that is too short.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

const VERSION: u8 = 5;
const NO_AUTH: u8 = 0;
const USER_NAME: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const IPV6: u8 = 4;

/// Why the dialogue failed.
#[derive(Debug, thiserror::Error)]
pub enum Socks5Error {
    /// An answer that is not SOCKS5.
    #[error("the router answered {found:02x} at the {step} step, {expected} expected")]
    Unexpected {
        /// Step of the dialogue.
        step: &'static str,
        /// What should have come.
        expected: &'static str,
        /// What came.
        found: u8,
    },
    /// The router takes none of the offered methods.
    #[error("the router accepts none of the offered authentication methods")]
    NoMethod,
    /// A policy name that cannot be sent.
    #[error("a policy name must have 1 to 255 bytes, this one has {found}")]
    PolicyName {
        /// Its length.
        found: usize,
    },
    /// A SOCKS5 error code. Reference routers never send one.
    #[error("the router refused the connection: {reason} (code {code})")]
    Refused {
        /// Code of RFC 1928.
        code: u8,
        /// Its meaning.
        reason: &'static str,
    },
    /// The router closed: that is how it reports everything, a refused certificate included.
    #[error(
        "the router closed the connection at the {step} step: target unreachable, or its proof of work, TLS or certificate was refused"
    )]
    Closed {
        /// Step of the dialogue.
        step: &'static str,
    },
    /// The router did not answer in time.
    #[error("no answer from the router within {} s at the {step} step", limit.as_secs())]
    Timeout {
        /// Step of the dialogue.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The transport failed.
    #[error("i/o error while talking to the router: {0}")]
    Io(#[source] io::Error),
}

/// Asks a router on `stream` to connect to `target`; on success the stream belongs to the target. Returns the
/// router's local address of that connection. Exactly the bytes of the dialogue are consumed, so an attestation
/// frame that follows stays in the stream.
///
/// `policy` is sent as the user name, for ports that let the name choose the policy; `None` takes the port's own.
pub async fn connect<S>(
    stream: &mut S,
    target: SocketAddrV4,
    policy: Option<&str>,
) -> Result<SocketAddr, Socks5Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    greet(stream, policy).await?;
    let mut request = vec![VERSION, CONNECT, 0, IPV4];
    request.extend_from_slice(&target.ip().octets());
    request.extend_from_slice(&target.port().to_be_bytes());
    write(stream, "request", &request).await?;
    read_reply(stream).await
}

async fn greet<S>(stream: &mut S, policy: Option<&str>) -> Result<(), Socks5Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let method = if policy.is_some() { USER_NAME } else { NO_AUTH };
    write(stream, "greeting", &[VERSION, 1, method]).await?;
    let [version, chosen] = read::<_, 2>(stream, "greeting", STEP_TIMEOUT).await?;
    expect("greeting", "version 05", version, VERSION)?;
    if chosen == NONE_ACCEPTABLE {
        return Err(Socks5Error::NoMethod);
    }
    expect("greeting", "the offered method", chosen, method)?;
    let Some(name) = policy else {
        return Ok(());
    };
    let found = name.len();
    let length = match u8::try_from(found) {
        Ok(length) if length > 0 => length,
        _ => return Err(Socks5Error::PolicyName { found }),
    };
    let mut login = vec![1, length];
    login.extend_from_slice(name.as_bytes());
    login.extend_from_slice(&[1, b'-']); // the password is ignored, but RFC 1929 wants one
    write(stream, "policy", &login).await?;
    let [version, status] = read::<_, 2>(stream, "policy", STEP_TIMEOUT).await?;
    expect("policy", "version 01", version, 1)?;
    expect("policy", "status 00", status, 0)
}

async fn read_reply<S>(stream: &mut S) -> Result<SocketAddr, Socks5Error>
where
    S: AsyncRead + Unpin,
{
    const STEP: &str = "reply";
    let [version, code, _reserved, kind] = read::<_, 4>(stream, STEP, REPLY_TIMEOUT).await?;
    expect(STEP, "version 05", version, VERSION)?;
    if code != 0 {
        let reason = reason(code);
        return Err(Socks5Error::Refused { code, reason });
    }
    let ip = match kind {
        IPV4 => Ipv4Addr::from(read::<_, 4>(stream, STEP, STEP_TIMEOUT).await?).into(),
        IPV6 => Ipv6Addr::from(read::<_, 16>(stream, STEP, STEP_TIMEOUT).await?).into(),
        found => {
            return Err(Socks5Error::Unexpected {
                step: STEP,
                expected: "address type 01 or 04",
                found,
            });
        }
    };
    let port = u16::from_be_bytes(read(stream, STEP, STEP_TIMEOUT).await?);
    Ok(SocketAddr::new(ip, port))
}

fn expect(
    step: &'static str,
    expected: &'static str,
    found: u8,
    right: u8,
) -> Result<(), Socks5Error> {
    if found == right {
        return Ok(());
    }
    Err(Socks5Error::Unexpected {
        step,
        expected,
        found,
    })
}

fn reason(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown reason",
    }
}

async fn write<S>(stream: &mut S, step: &'static str, bytes: &[u8]) -> Result<(), Socks5Error>
where
    S: AsyncWrite + Unpin,
{
    let work = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    limited(step, STEP_TIMEOUT, work).await
}

async fn read<S, const N: usize>(
    stream: &mut S,
    step: &'static str,
    limit: Duration,
) -> Result<[u8; N], Socks5Error>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = [0; N];
    limited(step, limit, stream.read_exact(&mut bytes)).await?;
    Ok(bytes)
}

async fn limited<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Socks5Error> {
    match tokio::time::timeout(limit, work).await {
        Err(_) => Err(Socks5Error::Timeout { step, limit }),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Socks5Error::Closed { step })
        }
        Ok(Err(error)) => Err(Socks5Error::Io(error)),
    }
}
