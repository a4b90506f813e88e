//! The running router: its listeners, and how it stops.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::gate::{Gate, Setup, site};
use cocoon_attest::{IdentityError, TlsIdentity, unix_now};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, error, info, warn};

use crate::certificate::{Certificate, Refresh};
use crate::connection::{PortContext, SetupError, Shared};
use crate::dial::set_options;
use crate::limits::ACCEPT_PAUSE;
use crate::metrics::{Gauge, Snapshot, count};
use crate::policies::{Policies, PolicyBook};
use crate::settings::{PortKind, Settings};
use crate::{inbound, outbound};

/// Why a router cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// A port cannot be listened on.
    #[error("cannot listen on {address} ({kind} port): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Type of the port.
        kind: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate.
    #[error("no certificate: {0}")]
    Certificate(#[from] IdentityError),
    /// The runtime is shutting down.
    #[error("the runtime stopped before the router could start")]
    Runtime,
}

/// A router whose ports are bound and which waits for [`Router::run`].
pub struct Router {
    ports: Vec<(TcpListener, Arc<PortContext>)>,
    shared: Arc<Shared>,
}

/// Looks at a running router and stops it.
#[derive(Clone)]
pub struct Handle {
    ports: Vec<Arc<PortContext>>,
    shared: Arc<Shared>,
}

/// A port as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortInfo {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its policy.
    pub policy: String,
    /// Where its connections go; `null` for socks5.
    pub destination: Option<String>,
    /// Whether the application gets the attestation frame.
    pub serialize_info: bool,
    /// Proof of work in bits: asked (reverse), or done at most.
    pub pow_difficulty: u8,
}

impl Router {
    /// Makes or reads the certificate and binds every port, or none.
    pub async fn bind(settings: Settings) -> Result<Self, RouterError> {
        let source = settings.certificate;
        // Files and hardware block.
        let certificate =
            tokio::task::spawn_blocking(move || Certificate::open(source, unix_now()))
                .await
                .map_err(|_| RouterError::Runtime)??;
        let shared = Arc::new(Shared {
            gate: Gate::new(settings.limits.gate()),
            policies: PolicyBook::new(settings.policies),
            certificate,
            limits: settings.limits,
            stop: watch::Sender::new(None),
        });
        let mut ports = Vec::with_capacity(settings.ports.len());
        for port in settings.ports {
            let ip = match port.kind {
                PortKind::Reverse { .. } => settings.listen,
                // What enters here unencrypted must not come from another machine.
                PortKind::Socks5 { .. } | PortKind::Forward { .. } => {
                    IpAddr::V4(Ipv4Addr::LOCALHOST)
                }
            };
            let address = SocketAddr::new(ip, port.listen);
            let kind = port.kind.name();
            let failed = |source| RouterError::Bind {
                address,
                kind,
                source,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let context = PortContext {
                listen: listener.local_addr().map_err(failed)?,
                port,
                counters: Default::default(),
                shared: shared.clone(),
            };
            ports.push((listener, Arc::new(context)));
        }
        Ok(Router { ports, shared })
    }

    /// What looks at the router while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            ports: self.ports.iter().map(|(_, port)| port.clone()).collect(),
            shared: self.shared.clone(),
        }
    }

    /// Serves until [`Handle::stop`], and returns when the last connection is closed.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        for (listener, context) in self.ports {
            tasks.spawn(listen(listener, context));
        }
        let renewal = tokio::spawn(renew(self.shared));
        while let Some(ended) = tasks.join_next().await {
            if let Err(failure) = ended {
                error!("a port ended: {failure}");
            }
        }
        renewal.abort();
    }
}

impl Handle {
    /// The ports, in the order of the configuration.
    #[must_use]
    pub fn ports(&self) -> Vec<PortInfo> {
        self.ports.iter().map(|context| info_of(context)).collect()
    }

    /// The counters of each port, by its number.
    #[must_use]
    pub fn counters(&self) -> Vec<(u16, Snapshot)> {
        let read = |port: &Arc<PortContext>| (port.listen.port(), port.counters.snapshot());
        self.ports.iter().map(read).collect()
    }

    /// The certificate that new connections use.
    #[must_use]
    pub fn identity(&self) -> TlsIdentity {
        self.shared.certificate.get()
    }

    /// Replaces all policies. Every living connection judges its peer again and closes if the new policies refuse it.
    pub fn set_policies(&self, policies: Policies) {
        self.shared.policies.replace(policies);
    }

    /// Stops: nothing new is accepted, and what lives may go on for `drain`. Called again, it sets another end.
    pub fn stop(&self, drain: Duration) {
        let end = Instant::now() + drain;
        self.shared.stop.send_replace(Some(end));
    }
}

fn info_of(context: &PortContext) -> PortInfo {
    let port = &context.port;
    let (destination, pow_difficulty) = match &port.kind {
        PortKind::Socks5 { max_difficulty, .. } => (None, *max_difficulty),
        PortKind::Forward { to, max_difficulty } => (Some(to.to_string()), *max_difficulty),
        PortKind::Reverse { to, difficulty } => (Some(to.to_string()), *difficulty),
    };
    PortInfo {
        listen: context.listen,
        kind: port.kind.name(),
        policy: port.policy.clone(),
        destination,
        serialize_info: port.serialize_info,
        pow_difficulty,
    }
}

/// Accepts until the router stops, and ends when the port's last connection is closed.
async fn listen(listener: TcpListener, context: Arc<PortContext>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => take(&mut connections, stream, from, &context),
                Err(failure) => {
                    warn!(port = context.listen.port(), "accepting failed: {failure}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // Ended tasks are collected as they come, or their results would pile up.
            Some(ended) = connections.join_next() => report(ended),
            () = context.shared.stopping() => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        error!("a connection ended by a bug: {failure}");
    }
}

fn take(
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    from: SocketAddr,
    context: &Arc<PortContext>,
) {
    count(&context.counters.accepted);
    // A listener for both families sees IPv4 addresses inside IPv6 ones.
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let is_stranger = matches!(context.port.kind, PortKind::Reverse { .. });
    let stranger = is_stranger.then(|| site(from.ip()));
    match context.shared.gate.admit(stranger) {
        Ok(setup) => {
            connections.spawn(serve(context.clone(), stream, from, setup));
        }
        Err(full) => {
            count(&context.counters.refused_full);
            debug!(port = context.listen.port(), %from, "refused: {full}");
        }
    }
}

async fn serve(context: Arc<PortContext>, stream: TcpStream, from: SocketAddr, setup: Setup) {
    set_options(&stream);
    let setting_up = Gauge::raise(&context.counters.setting_up);
    let done = match &context.port.kind {
        PortKind::Reverse { to, difficulty } => {
            inbound::establish(&context, stream, from, to, *difficulty, setup).await
        }
        PortKind::Socks5 { .. } | PortKind::Forward { .. } => {
            outbound::establish(&context, stream, from, setup).await
        }
    };
    drop(setting_up);
    match done {
        Ok(connection) => context.carry(from, connection).await,
        Err(_) if context.shared.is_stopping() => {
            context.failed(from, &SetupError::Stopping);
        }
        Err(error) => context.failed(from, &error),
    }
}

/// Keeps the certificate fresh.
async fn renew(shared: Arc<Shared>) {
    let mut ticks = interval(shared.limits.certificate_poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let look = shared.clone();
        let looked =
            tokio::task::spawn_blocking(move || look.certificate.refresh(unix_now())).await;
        match looked {
            Ok(Ok(Refresh::Unchanged)) => {
                let until = shared.certificate.get().not_after();
                if until.0 < i64::try_from(unix_now()).unwrap_or(i64::MAX) {
                    warn!(
                        "our certificate ended at {until} and every peer refuses it: who renews its files?"
                    );
                }
            }
            Ok(Ok(Refresh::Replaced)) => {
                let until = shared.certificate.get().not_after();
                info!("a new certificate is in use, valid until {until}");
            }
            Ok(Err(failure)) => {
                let until = shared.certificate.get().not_after();
                warn!("no new certificate, the old one ends at {until}: {failure}");
            }
            // The runtime is shutting down.
            Err(_) => return,
        }
    }
}
