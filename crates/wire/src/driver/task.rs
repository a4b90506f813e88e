//! The task of one connection: three loops over the shared state, ended by the first that finds it closed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{sleep, sleep_until, timeout};

use super::inbox::{Abandoned, Inbox};
use super::{PeerEvent, Shared};
use crate::CloseReason;
use crate::conn::Event;

/// Bytes read at once. Also bounds how much is parsed ahead of the consumer.
const READ_CHUNK: usize = 32 * 1024;
/// How long the stream may take to say good-bye (the TLS closing alert).
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the reader may go on after writing failed.
const READ_REST: Duration = Duration::from_millis(500);

/// Runs a connection to its end and reports it.
pub(super) async fn run<S>(stream: S, shared: Arc<Shared>, mut inbox: Inbox)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reader, mut writer) = tokio::io::split(stream);
    tokio::select! {
        () = read_loop(reader, &shared, &mut inbox) => {}
        () = write_loop(&mut writer, &shared) => {}
        () = timer_loop(&shared) => {}
        () = until_closed(&shared) => {}
    }
    // A loop that ended without a reason would be a defect; whoever waits must not wait for ever.
    close(&shared, CloseReason::Abandoned);
    let reason = shared
        .lock()
        .conn
        .closed()
        .map_or_else(String::new, ToString::to_string);
    tracing::debug!(%reason, "peer connection closed");
    let _ = timeout(SHUTDOWN_TIMEOUT, writer.shutdown()).await;
    drop(writer);
    // What was received before the end is still delivered.
    if deliver(&shared, &mut inbox).await.is_ok() && inbox.wait_for_room(0).await.is_ok() {
        let _ = inbox.push(PeerEvent::Closed { reason }, 0);
    }
}

async fn read_loop<S: AsyncRead>(mut reader: ReadHalf<S>, shared: &Shared, inbox: &mut Inbox) {
    let mut chunk = vec![0; READ_CHUNK];
    loop {
        let received = tokio::select! {
            received = reader.read(&mut chunk) => received,
            () = inbox.abandoned() => return close(shared, CloseReason::Abandoned),
        };
        match received {
            Ok(0) => return close(shared, CloseReason::PeerClosed),
            Ok(count) => shared.with(|locked, now| locked.conn.receive(now, &chunk[..count])),
            Err(error) => return close(shared, io_reason(&error)),
        }
        if deliver(shared, inbox).await.is_err() {
            return close(shared, CloseReason::Abandoned);
        }
    }
}

/// Moves events into the queue, waiting for the consumer where necessary. An event leaves the connection only
/// when there is room for it, so that none is lost when this future is dropped.
async fn deliver(shared: &Shared, inbox: &mut Inbox) -> Result<(), Abandoned> {
    loop {
        let Some(size) = shared.lock().conn.next_event_size() else {
            return Ok(());
        };
        if !inbox.has_room(size) {
            shared.with(|locked, now| locked.conn.pause_input(now, true));
            inbox.wait_for_room(size).await?;
            shared.with(|locked, now| locked.conn.pause_input(now, false));
        }
        let event = shared.lock().conn.poll_event();
        if let Some(event) = event {
            inbox.push(event.into(), size)?;
        }
    }
}

async fn write_loop<S: AsyncWrite>(writer: &mut WriteHalf<S>, shared: &Shared) {
    loop {
        let output = shared.lock().conn.take_output();
        if output.is_empty() {
            if let Err(error) = writer.flush().await {
                return write_failed(shared, io_reason(&error)).await;
            }
            shared.output.notified().await;
            continue;
        }
        let mut rest = &output[..];
        while !rest.is_empty() {
            match writer.write(rest).await {
                Ok(0) => return write_failed(shared, CloseReason::PeerClosed).await,
                Ok(count) => {
                    rest = &rest[count..];
                    shared.with(|locked, _| locked.conn.wrote(count));
                }
                Err(error) => return write_failed(shared, io_reason(&error)).await,
            }
        }
    }
}

/// A peer that closes may have said why; the reader gets a moment to find it.
async fn write_failed(shared: &Shared, reason: CloseReason) {
    sleep(READ_REST).await;
    close(shared, reason);
}

async fn timer_loop(shared: &Shared) {
    loop {
        let deadline = shared.lock().conn.next_deadline();
        match deadline.and_then(|deadline| shared.start.checked_add(deadline)) {
            None => shared.timer.notified().await,
            Some(instant) => tokio::select! {
                () = sleep_until(instant) => shared.with(|locked, now| locked.conn.tick(now)),
                () = shared.timer.notified() => {}
            },
        }
    }
}

async fn until_closed(shared: &Shared) {
    while shared.lock().conn.closed().is_none() {
        shared.closing.notified().await;
    }
}

fn close(shared: &Shared, reason: CloseReason) {
    shared.with(|locked, _| locked.conn.close(reason));
}

/// A stream that ends abruptly is how peers close: there is no closing message, and a process that exits does
/// not send the TLS alert.
fn io_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => CloseReason::PeerClosed,
        _ => CloseReason::Io(error.to_string()),
    }
}

impl From<Event> for PeerEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Ready => PeerEvent::Ready,
            Event::Packet(data) => PeerEvent::Packet(data),
            Event::Query { id, data } => PeerEvent::Query { id, data },
        }
    }
}
