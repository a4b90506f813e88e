//! Connections of the network to a local application: reverse ports.

use std::net::SocketAddr;

use cocoon_attest::accept;
use cocoon_attest::gate::Setup;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::connection::{Established, PortContext, SetupError, announce};
use crate::dial::dial;
use crate::target::Target;

/// Proof of work, TLS and policy; then, and not before, the application hears of it.
pub(crate) async fn establish(
    context: &PortContext,
    tcp: TcpStream,
    from: SocketAddr,
    to: &Target,
    difficulty: u8,
    setup: Setup,
) -> Result<Established, SetupError> {
    let shared = &context.shared;
    let name = &context.port.policy;
    let changes = shared.policies.changes();
    let work = async {
        let policy = shared
            .policies
            .get(name)
            .ok_or_else(|| SetupError::NoPolicy(name.clone()))?;
        let identity = shared.certificate.get();
        let accepted = accept(tcp, &identity, &policy, difficulty).await;
        accepted.map_err(SetupError::Attest)
    };
    let (mut peer_stream, peer) = tokio::select! {
        done = work => done?,
        () = setup.evicted() => return Err(SetupError::Evicted),
        () = shared.stopping() => return Err(SetupError::Stopping),
    };
    // The peer is known: from here on it holds a connection, not a set-up that a flood could push out.
    let permit = setup.establish()?;
    let limits = &shared.limits;
    let open = async {
        let mut app = dial(to, limits.dial).await?;
        let backend = app.peer_addr().map_err(SetupError::Application)?;
        let frame = context.frame(&peer, from, backend);
        announce(&mut app, &frame, limits).await?;
        Ok(app)
    };
    match open.await {
        Ok(app) => Ok(Established {
            app,
            peer_stream,
            peer,
            policy: name.clone(),
            changes,
            early: Vec::new(),
            permit,
        }),
        Err(error) => {
            let _ = tokio::time::timeout(limits.flush, peer_stream.shutdown()).await;
            Err(error)
        }
    }
}
