//! Who is on the other end of a loopback connection: the user whose process holds that socket, as the kernel says.
//!
//! A router says in plain bytes who a peer is, and whoever reaches its node's port could say the same (threat G22). The
//! kernel's table of sockets names the owner of every one, so nothing has to travel on the wire, and the reference's router
//! can stay as it is. It keeps out processes of other users; one of the router's own user is as good as the router.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tokio::net::TcpStream;

/// The kernel's tables of this network namespace.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// A line has 150 bytes; 100,000 sockets are more than a node's machine has.
const MAX_TABLE: u64 = 15_000_000;

/// Why a loopback connection is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    /// From another machine.
    #[error("{0} is not on this machine, where the router has to be")]
    NotLocal(SocketAddr),
    /// The table cannot be read, or the socket is not in it.
    #[error("the owner of the socket {socket} cannot be found out: {reason}")]
    Unknown {
        /// The other end.
        socket: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// Somebody else's.
    #[error(
        "the socket {socket} belongs to user {found}, the router runs as user {expected} (router_uid)"
    )]
    User {
        /// The other end.
        socket: SocketAddr,
        /// User id expected.
        expected: u32,
        /// User id found.
        found: u32,
    },
}

/// Checks that the other end of a connection of this machine belongs to a user.
pub async fn check_user(stream: &TcpStream, expected: u32) -> Result<(), LoopbackError> {
    let unknown = |socket, reason: String| LoopbackError::Unknown { socket, reason };
    let unset = SocketAddr::new([0, 0, 0, 0].into(), 0);
    let theirs = stream
        .peer_addr()
        .map_err(|e| unknown(unset, e.to_string()))?;
    let ours = stream
        .local_addr()
        .map_err(|e| unknown(theirs, e.to_string()))?;
    if !theirs.ip().to_canonical().is_loopback() {
        return Err(LoopbackError::NotLocal(theirs));
    }
    let found = tokio::task::spawn_blocking(move || owner(theirs, ours))
        .await
        .map_err(|e| unknown(theirs, e.to_string()))?
        .map_err(|e| unknown(theirs, e.to_string()))?
        .ok_or_else(|| unknown(theirs, "it is in no table of the kernel".to_owned()))?;
    if found == expected {
        Ok(())
    } else {
        Err(LoopbackError::User {
            socket: theirs,
            expected,
            found,
        })
    }
}

/// The user of the socket with these two ends, seen from its side.
fn owner(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
    for table in TABLES {
        let path = Path::new(table);
        // Without IPv6 there is no second table.
        if !path.exists() {
            continue;
        }
        let mut text = String::new();
        File::open(path)?
            .take(MAX_TABLE)
            .read_to_string(&mut text)?;
        if let Some(user) = find(&text, local, remote) {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

/// Looks a socket up in the text of a table: number, local address, remote address, state, queues, timer, retransmits,
/// user. A socket that is closing belongs to nobody any more.
fn find(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    const ESTABLISHED: &str = "01";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = address(fields.next()?)? == canonical(local)
            && address(fields.next()?)? == canonical(remote)
            && fields.next()? == ESTABLISHED;
        let user = fields.nth(3)?.parse().ok()?;
        is_it.then_some(user)
    })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `0100007F:1F90`: words of 32 bits as the processor holds them, in hexadecimal, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| -> Option<[u8; 4]> {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            IpAddr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tokio::net::TcpListener;

    use super::*;

    fn own_user() -> u32 {
        std::fs::metadata("/proc/self").unwrap().uid()
    }

    async fn pair(host: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn the_kernel_knows_whose_socket_it_is() {
        for host in ["127.0.0.1", "::1"] {
            if host == "::1" && TcpListener::bind("[::1]:0").await.is_err() {
                continue;
            }
            let (dialled, accepted) = pair(host).await;
            for stream in [&dialled, &accepted] {
                check_user(stream, own_user()).await.unwrap();
                let error = check_user(stream, own_user() + 1).await.unwrap_err();
                assert!(
                    matches!(error, LoopbackError::User { found, .. } if found == own_user()),
                    "{error}"
                );
            }
            // Nobody is there any more.
            drop(dialled);
            let gone = check_user(&accepted, own_user()).await.unwrap_err();
            assert!(matches!(gone, LoopbackError::Unknown { .. }), "{gone}");
        }
    }

    #[test]
    fn tables_are_read_as_the_kernel_writes_them() {
        if cfg!(target_endian = "big") {
            return;
        }
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 121 1 0 100 0 0 10 0
   1: 0100007F:C350 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     8        0 122 1 0 20 4 30 10 -1
   2: 0100007F:C351 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 123 1 0 20 4 30 10 -1
   3: 0000000000000000FFFF00000100007F:C352 0000000000000000FFFF00000100007F:1F90 01 0:0 00:0 0     9        0 124 1
   4: garbage
";
        let at = |port: u16| SocketAddr::new([127, 0, 0, 1].into(), port);
        let node = at(8_080);
        assert_eq!(find(table, at(50_001), node), Some(1_000));
        assert_eq!(find(table, at(50_002), node), Some(9));
        assert_eq!(find(table, at(50_000), node), None, "closing");
        assert_eq!(find(table, node, at(0)), None, "listening");
        assert_eq!(find(table, at(50_003), node), None);
    }
}
