//! Every limit of a running router, with its reason. The reference has none of them.

use std::time::Duration;

use cocoon_attest::gate::GateLimits;

/// What a router allows. [`Limits::default`] suits a node; tests and large proxies change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once on all ports: two sockets each, so that a common limit of open files (1,024 soft, usually
    /// raised to 65,536 for services) is met by the operator knowingly.
    pub connections: usize,
    /// Set-ups (SOCKS5 dialogue, proof of work, TLS) at once on all ports. When there are more, the oldest is dropped:
    /// an honest one takes seconds, so whoever fills the table with idle ones pushes out his own.
    pub setups: usize,
    /// Connections at once from one address on reverse ports: the workers behind one router of a data centre.
    pub connections_per_address: usize,
    /// Set-ups at once from one address on reverse ports.
    pub setups_per_address: usize,
    /// A whole SOCKS5 dialogue; the application is on this machine.
    pub dialogue: Duration,
    /// Looking up a name and connecting, to a peer or to the application behind a reverse port.
    pub dial: Duration,
    /// A connection without a byte in either direction for this long is dead: nodes ping every 10 s. `None` keeps
    /// them for ever, as the reference does.
    pub idle: Option<Duration>,
    /// After the end of one side: how long the bytes already read may take to get out.
    pub flush: Duration,
    /// After the end: how long the sockets stay half open, so that what was sent is not destroyed by a reset.
    pub linger: Duration,
    /// How often the peers of living connections are judged again even when no policy changed: collateral ends.
    pub recheck: Duration,
    /// How often certificate files are looked at, and a certificate in memory is checked for renewal.
    pub certificate_poll: Duration,
}

impl Limits {
    /// Those of who may come in.
    pub(crate) fn gate(&self) -> GateLimits {
        GateLimits {
            connections: self.connections,
            setups: self.setups,
            connections_per_address: self.connections_per_address,
            setups_per_address: self.setups_per_address,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 8_192,
            setups: 1_024,
            connections_per_address: 1_024,
            setups_per_address: 128,
            dialogue: Duration::from_secs(10),
            dial: Duration::from_secs(10),
            idle: Some(Duration::from_secs(15 * 60)),
            flush: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            recheck: Duration::from_secs(50),
            certificate_poll: Duration::from_secs(60),
        }
    }
}

/// First buffer of each direction of a connection; most of the thousands of idle ones never need more.
pub const MIN_BUFFER: usize = 2 * 1024;
/// Largest buffer of each direction: four TLS records. What does not fit waits at its sender.
pub const MAX_BUFFER: usize = 64 * 1024;
/// What an application may send before its peer is connected; the rest waits in the socket.
pub const MAX_EARLY: usize = 64 * 1024;
/// Bytes discarded after the end of a connection, so that a sender that does not stop is cut off.
pub const MAX_LINGER_BYTES: usize = 1024 * 1024;
/// Silence after which the system probes whether the other end of a connection is still there.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Pause after a failed `accept`, for example without free file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
