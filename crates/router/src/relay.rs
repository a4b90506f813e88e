//! Carrying bytes both ways until one side ends, and ending decently.
//!
//! As in the reference there is no half close: the end of either side ends both. What was read before the end is
//! still delivered, both sides are told (close_notify and FIN), and the sockets stay open for a moment so that bytes
//! under way do not turn the end into a reset that destroys what was delivered.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::{Limits, MAX_LINGER_BYTES};
use crate::pipe::{Pipe, PipeError};
use crate::policies::NoLonger;

/// After this long without a byte, a direction's buffer goes back to the system.
const SHRINK_AFTER: Duration = Duration::from_secs(10);

/// One side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Application,
    Peer,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Application => "application",
            Side::Peer => "peer",
        })
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// One side closed.
    Closed(Side),
    /// One side broke.
    Broken(Side, io::Error),
    /// Nothing moved for too long.
    Idle,
    /// The policy refuses the peer now.
    Expelled(NoLonger),
    /// The router ends.
    Stopped,
}

/// How a connection ended and what it carried.
#[derive(Debug)]
pub(crate) struct Ended {
    pub end: End,
    pub to_peer: u64,
    pub to_application: u64,
}

/// Carries bytes between `app` and `peer` until one of them ends, nothing moves, or `interrupt` says why to stop.
/// `early` are bytes of the application that were read before.
pub(crate) async fn relay<A, P>(
    app: &mut A,
    peer: &mut P,
    early: Vec<u8>,
    interrupt: impl Future<Output = End>,
    limits: &Limits,
) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Pipe::new(early), Pipe::new(Vec::new()));
    tokio::pin!(interrupt);
    let mut moved = 0;
    let mut last = Instant::now();
    let end = loop {
        let both = poll_fn(|cx| {
            if let Poll::Ready(done) = up.poll(cx, app, peer) {
                return Poll::Ready(explain(done, Side::Application, Side::Peer));
            }
            if let Poll::Ready(done) = down.poll(cx, peer, app) {
                return Poll::Ready(explain(done, Side::Peer, Side::Application));
            }
            Poll::Pending
        });
        let tick = limits
            .idle
            .map_or(SHRINK_AFTER, |idle| idle.min(SHRINK_AFTER));
        tokio::select! {
            // First of all: a peer that is refused meanwhile gets not one byte more.
            biased;
            end = &mut interrupt => break end,
            end = both => break end,
            () = sleep_until(Instant::now() + tick) => {}
        }
        let now_moved = up.moved() + down.moved();
        if now_moved != moved {
            (moved, last) = (now_moved, Instant::now());
        } else if limits.idle.is_some_and(|idle| last.elapsed() >= idle) {
            break End::Idle;
        } else {
            up.shrink();
            down.shrink();
        }
    };
    finish(app, peer, &mut up, &mut down, &end, limits).await;
    Ended {
        end,
        to_peer: up.moved(),
        to_application: down.moved(),
    }
}

fn explain(done: Result<(), PipeError>, reader: Side, writer: Side) -> End {
    match done {
        Ok(()) => End::Closed(reader),
        Err(PipeError::Read(error)) => End::Broken(reader, error),
        Err(PipeError::Write(error)) => End::Broken(writer, error),
    }
}

async fn finish<A, P>(
    app: &mut A,
    peer: &mut P,
    up: &mut Pipe,
    down: &mut Pipe,
    end: &End,
    limits: &Limits,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    match end {
        // Not one byte more from or to a peer that is refused.
        End::Expelled(_) => {}
        // Whoever stopped reading may have said something before, which is still in the socket; reading it ends soon,
        // because a side that no longer reads has closed or broken.
        End::Broken(side, _) => {
            let (broken, other) = match side {
                Side::Application => (up, down),
                Side::Peer => (down, up),
            };
            other.stop_reading();
            let rest = poll_fn(|cx| match side {
                Side::Application => broken.poll(cx, app, peer),
                Side::Peer => broken.poll(cx, peer, app),
            });
            let _ = timeout(limits.flush, rest).await;
        }
        End::Closed(_) | End::Idle | End::Stopped => {
            up.stop_reading();
            down.stop_reading();
            let rest = poll_fn(|cx| {
                // Errors count as done: that side is gone.
                let up = up.poll(cx, app, peer).is_ready();
                let down = down.poll(cx, peer, app).is_ready();
                if up && down {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            let _ = timeout(limits.flush, rest).await;
        }
    }
    close(app, peer, limits).await;
}

/// Tells both sides that this is the end, and waits a moment for them to hear it.
async fn close<A, P>(app: &mut A, peer: &mut P, limits: &Limits)
where
    A: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let _ = timeout(limits.flush, async {
        tokio::join!(app.shutdown(), peer.shutdown())
    })
    .await;
    let _ = timeout(limits.linger, async {
        tokio::join!(discard(app), discard(peer))
    })
    .await;
}

/// Reads to the end, up to [`MAX_LINGER_BYTES`].
pub(crate) async fn discard<R: AsyncRead + Unpin>(reader: &mut R) {
    let mut waste = [0; 4 * 1024];
    let mut total = 0;
    while total < MAX_LINGER_BYTES {
        match reader.read(&mut waste).await {
            Ok(0) | Err(_) => return,
            Ok(read) => total += read,
        }
    }
}
