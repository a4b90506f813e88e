//! All listening ports of the network, bound on loopback before anything else is started.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener as StdListener};

use tokio::net::TcpListener;

use super::settings::PortNumbers;
use crate::error::{CliError, Result};

/// What a port is for, and the flag that changes it.
pub const PORTS: [(&str, &str); 6] = [
    ("the OpenAI-compatible endpoint", "--client-port"),
    ("the proxy's status page", "--proxy-port"),
    ("workers at the proxy", "--worker-rpc-port"),
    ("clients at the proxy", "--client-rpc-port"),
    ("the worker's status page", "--worker-port"),
    ("the chain's HTTP interface", "--chain-port"),
];

/// The bound ports, in the order of [`PORTS`].
#[derive(Debug)]
pub struct Ports {
    /// Endpoint.
    pub client: Port,
    /// Proxy's page.
    pub proxy: Port,
    /// Proxy for workers.
    pub worker_rpc: Port,
    /// Proxy for clients.
    pub client_rpc: Port,
    /// Worker's page.
    pub worker: Port,
    /// Chain.
    pub chain: Port,
}

/// One bound port.
#[derive(Debug)]
pub struct Port {
    /// Its number, also where any free one was asked for.
    pub number: u16,
    /// Ready for a server.
    pub listener: TcpListener,
}

impl Ports {
    /// Binds all ports, or none.
    pub fn bind(numbers: PortNumbers) -> Result<Self> {
        let [client, proxy, worker_rpc, client_rpc, worker, chain] = PORTS;
        Ok(Self {
            client: bind(numbers.client, client)?,
            proxy: bind(numbers.proxy, proxy)?,
            worker_rpc: bind(numbers.worker_rpc, worker_rpc)?,
            client_rpc: bind(numbers.client_rpc, client_rpc)?,
            worker: bind(numbers.worker, worker)?,
            chain: bind(numbers.chain, chain)?,
        })
    }
}

/// The numbers in the order of [`PORTS`].
pub fn in_order(n: PortNumbers) -> [u16; 6] {
    [
        n.client,
        n.proxy,
        n.worker_rpc,
        n.client_rpc,
        n.worker,
        n.chain,
    ]
}

/// Binds one port for a moment or for good.
pub fn listen(number: u16, (purpose, flag): (&str, &str)) -> Result<StdListener> {
    StdListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, number)).map_err(|e| {
        let failure = CliError::new(format!("cannot listen on port {number} for {purpose}"))
            .expected(format!("a free port on 127.0.0.1 ({flag})"));
        match e.kind() {
            ErrorKind::AddrInUse => failure
                .found("another program listens there")
                .hint(format!("see which one: ss -ltnp 'sport = :{number}'   (or: lsof -iTCP:{number} -sTCP:LISTEN)"))
                .hint(format!("stop it, or choose another port with {flag} PORT")),
            ErrorKind::PermissionDenied => failure
                .found("no permission")
                .hint(format!("ports below 1024 are the administrator's: choose another one with {flag} PORT")),
            _ => failure.found(e.to_string()),
        }
    })
}

fn bind(number: u16, what: (&str, &str)) -> Result<Port> {
    let fail = |e: std::io::Error| {
        CliError::new(format!("cannot listen on port {number} for {}", what.0)).found(e.to_string())
    };
    let listener = listen(number, what)?;
    let number = listener.local_addr().map_err(fail)?.port();
    listener.set_nonblocking(true).map_err(fail)?;
    let listener = TcpListener::from_std(listener).map_err(fail)?;
    Ok(Port { number, listener })
}
