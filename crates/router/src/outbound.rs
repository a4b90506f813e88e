//! Connections of local applications to attested peers: SOCKS5 and forward ports.

use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_attest::gate::{Permit, Setup};
use cocoon_attest::{PeerIdentity, TlsStream, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::connection::{Established, PortContext, SetupError, announce};
use crate::dial::dial;
use crate::limits::MAX_EARLY;
use crate::policies::Policies;
use crate::relay::discard;
use crate::settings::PortKind;
use crate::socks5::{Choice, Dialogue, MAX_DIALOGUE_LEN, Request, Step, success};
use crate::target::Target;

/// Sets up what a local application asks for. The SOCKS5 reply goes out only when the peer is accepted, and the frame
/// right behind it; a failure is a bare close, as in the reference.
pub(crate) async fn establish(
    context: &PortContext,
    mut app: TcpStream,
    from: SocketAddr,
    setup: Setup,
) -> Result<Established, SetupError> {
    match attempt(context, &mut app, from, setup).await {
        Ok(connected) => Ok(Established {
            app,
            peer_stream: connected.stream,
            peer: connected.peer,
            policy: connected.policy,
            changes: connected.changes,
            early: connected.early,
            permit: connected.permit,
        }),
        Err(error) => {
            // Bytes that were not read would turn the close into a reset, which reads like a crash.
            if !matches!(error, SetupError::Abandoned | SetupError::Application(_)) {
                let _ = app.shutdown().await;
                let _ = timeout(context.shared.limits.linger, discard(&mut app)).await;
            }
            Err(error)
        }
    }
}

struct Connected {
    stream: TlsStream<TcpStream>,
    peer: PeerIdentity,
    policy: String,
    changes: watch::Receiver<Arc<Policies>>,
    early: Vec<u8>,
    permit: Permit,
}

async fn attempt(
    context: &PortContext,
    app: &mut TcpStream,
    from: SocketAddr,
    setup: Setup,
) -> Result<Connected, SetupError> {
    let shared = &context.shared;
    let work = async {
        let (request, max_difficulty) = match &context.port.kind {
            PortKind::Socks5 {
                choice,
                max_difficulty,
            } => (dialogue(&mut *app, choice, context).await?, *max_difficulty),
            PortKind::Forward { to, max_difficulty } => {
                let request = Request {
                    target: to.clone(),
                    policy: None,
                };
                (request, *max_difficulty)
            }
            // The caller knows; nothing that a stranger sends leads here.
            PortKind::Reverse { .. } => return Err(SetupError::Abandoned),
        };
        let policy = request
            .policy
            .unwrap_or_else(|| context.port.policy.clone());
        let changes = shared.policies.changes();
        let mut early = Vec::new();
        let reached = tokio::select! {
            reached = reach(context, &request.target, &policy, max_difficulty) => reached?,
            gone = read_early(&mut *app, &mut early) => return Err(gone),
        };
        Ok((reached, policy, changes, early))
    };
    let (reached, policy, changes, early) = tokio::select! {
        done = work => done?,
        () = setup.evicted() => return Err(SetupError::Evicted),
        () = shared.stopping() => return Err(SetupError::Stopping),
    };
    let Reached {
        stream: mut peer_stream,
        peer,
        local,
        remote,
    } = reached;
    let permit = setup.establish()?;
    let mut first = match context.port.kind {
        PortKind::Socks5 { .. } => success(local),
        _ => Vec::new(),
    };
    first.extend(context.frame(&peer, from, remote));
    if let Err(error) = announce(app, &first, &shared.limits).await {
        let _ = timeout(shared.limits.flush, peer_stream.shutdown()).await;
        return Err(error);
    }
    Ok(Connected {
        stream: peer_stream,
        peer,
        policy,
        changes,
        early,
        permit,
    })
}

struct Reached {
    stream: TlsStream<TcpStream>,
    peer: PeerIdentity,
    local: SocketAddr,
    remote: SocketAddr,
}

async fn reach(
    context: &PortContext,
    target: &Target,
    policy: &str,
    max_difficulty: u8,
) -> Result<Reached, SetupError> {
    let shared = &context.shared;
    let rules = shared
        .policies
        .get(policy)
        .ok_or_else(|| SetupError::NoPolicy(policy.to_owned()))?;
    let tcp = dial(target, shared.limits.dial).await?;
    // A connected socket has both addresses, unless it was reset meanwhile.
    let local = tcp.local_addr().map_err(SetupError::Application)?;
    let remote = tcp.peer_addr().map_err(SetupError::Application)?;
    let identity = shared.certificate.get();
    let (stream, peer) = connect(tcp, &identity, &rules, max_difficulty).await?;
    Ok(Reached {
        stream,
        peer,
        local,
        remote,
    })
}

/// The SOCKS5 dialogue; reads exactly its bytes.
async fn dialogue(
    app: &mut TcpStream,
    choice: &Choice,
    context: &PortContext,
) -> Result<Request, SetupError> {
    let limit = context.shared.limits.dialogue;
    let talk = async {
        let mut dialogue = Dialogue::new(choice);
        let mut buffer = [0; MAX_DIALOGUE_LEN];
        loop {
            let piece = &mut buffer[..dialogue.needs()];
            app.read_exact(piece)
                .await
                .map_err(SetupError::Application)?;
            match dialogue.feed(piece)? {
                Step::Read => {}
                Step::Send(bytes) => app
                    .write_all(&bytes)
                    .await
                    .map_err(SetupError::Application)?,
                Step::Done(request) => return Ok(request),
            }
        }
    };
    timeout(limit, talk)
        .await
        .unwrap_or(Err(SetupError::DialogueTimeout(limit)))
}

/// Reads what the application sends before its peer is connected, so that its leaving is noticed: nobody works for an
/// application that is gone. Resolves only with the reason to give up.
async fn read_early(app: &mut TcpStream, early: &mut Vec<u8>) -> SetupError {
    let mut piece = [0; 4 * 1024];
    loop {
        let room = MAX_EARLY.saturating_sub(early.len()).min(piece.len());
        if room == 0 {
            // What follows waits in the socket.
            return std::future::pending().await;
        }
        match app.read(&mut piece[..room]).await {
            Ok(0) => return SetupError::Abandoned,
            Ok(read) => early.extend_from_slice(&piece[..read]),
            Err(error) => return SetupError::Application(error),
        }
    }
}
