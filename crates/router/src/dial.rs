//! Plain TCP connections to targets, and the options of every socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::limits::TCP_KEEPALIVE;
use crate::target::{Host, Target};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why a target could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("cannot look up {target}: {source}")]
    Lookup { target: Target, source: io::Error },
    #[error("{target} has no address")]
    NoAddress { target: Target },
    #[error("cannot connect to {target}: {source}")]
    Connect { target: Target, source: io::Error },
    #[error("no connection to {target} within {} s", limit.as_secs())]
    Timeout { target: Target, limit: Duration },
}

/// Connects within a limit that includes looking up the name.
pub(crate) async fn dial(target: &Target, limit: Duration) -> Result<TcpStream, DialError> {
    timeout(limit, attempt(target)).await.unwrap_or_else(|_| {
        let target = target.clone();
        Err(DialError::Timeout { target, limit })
    })
}

async fn attempt(target: &Target) -> Result<TcpStream, DialError> {
    let mut addresses: Vec<SocketAddr> = match &target.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, target.port)],
        Host::Name(name) => lookup_host((name.as_str(), target.port))
            .await
            .map_err(|source| DialError::Lookup {
                target: target.clone(),
                source,
            })?
            .collect(),
    };
    // The applications behind a name such as localhost listen on IPv4.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut failure = DialError::NoAddress {
        target: target.clone(),
    };
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                set_options(&stream);
                return Ok(stream);
            }
            Err(source) => {
                failure = DialError::Connect {
                    target: target.clone(),
                    source,
                }
            }
        }
    }
    Err(failure)
}

/// Small pieces go out at once, and a vanished other end is noticed.
pub(crate) fn set_options(stream: &TcpStream) {
    // Refused only by sockets that are already gone.
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5.1: both kinds of sockets, accepted and dialled, get these.
    #[tokio::test]
    async fn sockets_send_at_once_and_notice_vanished_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            host: Host::Ip([127, 0, 0, 1].into()),
            port: listener.local_addr().unwrap().port(),
        };
        let dialled = dial(&target, Duration::from_secs(20)).await.unwrap();
        let socket = SockRef::from(&dialled);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let accepted = listener.accept().await.unwrap().0;
        assert!(!accepted.nodelay().unwrap());
        set_options(&accepted);
        assert!(accepted.nodelay().unwrap());
    }
}
