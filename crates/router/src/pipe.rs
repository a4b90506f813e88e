//! One direction of a connection: a buffer between a reader and a writer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::{MAX_BUFFER, MIN_BUFFER};

/// What went wrong, and on which end.
#[derive(Debug)]
pub(crate) enum PipeError {
    Read(io::Error),
    Write(io::Error),
}

/// Bytes on their way. Reads only when everything read before is written, so a slow writer slows the reader down.
pub(crate) struct Pipe {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Nothing more is read.
    closed: bool,
    dirty: bool,
    moved: u64,
}

impl Pipe {
    /// A direction that starts with bytes that were read before.
    pub(crate) fn new(early: Vec<u8>) -> Self {
        Pipe {
            start: 0,
            end: early.len(),
            buffer: early,
            closed: false,
            dirty: false,
            moved: 0,
        }
    }

    /// Bytes written so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Only what was read already is written yet.
    pub(crate) fn stop_reading(&mut self) {
        self.closed = true;
    }

    /// Gives the buffer of a direction that rests back to the system.
    pub(crate) fn shrink(&mut self) {
        if self.start == self.end {
            self.buffer = Vec::new();
        }
    }

    /// Moves bytes until the reader ends, which is ready when the last byte is written and flushed.
    pub(crate) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), PipeError>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.start < self.end {
                let bytes = &self.buffer[self.start..self.end];
                let written = match ready!(Pin::new(&mut *writer).poll_write(cx, bytes)) {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    other => other,
                }
                .map_err(PipeError::Write)?;
                self.start += written;
                self.moved += written as u64;
                self.dirty = true;
            }
            if !self.closed && self.poll_fill(cx, reader)?.is_ready() {
                continue;
            }
            // Nothing to read: what was written has to leave the encryption's buffer.
            if self.dirty {
                ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(PipeError::Write)?;
                self.dirty = false;
            }
            return if self.closed {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
    }

    /// Reads once into the empty buffer; at the end of the reader nothing is read and the direction is closed.
    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<Result<(), PipeError>> {
        // A read that filled the buffer asks for a larger one.
        let size = if self.end == self.buffer.len() && self.end >= MIN_BUFFER {
            (self.end * 2).min(MAX_BUFFER)
        } else {
            self.buffer.len().clamp(MIN_BUFFER, MAX_BUFFER)
        };
        self.buffer.resize(size, 0);
        let mut space = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(reader).poll_read(cx, &mut space)).map_err(PipeError::Read)?;
        (self.start, self.end) = (0, space.filled().len());
        self.closed = self.end == 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A reader that never ends and counts what is taken from it.
    struct Endless(usize);

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0 += buf.remaining();
            buf.initialize_unfilled().fill(5);
            buf.advance(buf.remaining());
            Poll::Ready(Ok(()))
        }
    }

    /// A writer that takes so many bytes and then no more.
    struct Takes(usize, Vec<u8>);

    impl AsyncWrite for Takes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            if taken == 0 {
                return Poll::Pending;
            }
            self.0 -= taken;
            self.1.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_slow_writer_stops_the_reader() {
        let (mut reader, mut writer) = (Endless(0), Takes(0, Vec::new()));
        let mut pipe = Pipe::new(vec![7; 10]);
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = |reader: &mut Endless, writer: &mut Takes| {
            assert!(pipe.poll(&mut cx, reader, writer).is_pending());
            (pipe.moved(), pipe.buffer.len())
        };
        poll(&mut reader, &mut writer);
        assert_eq!(reader.0, 0, "the first bytes have to leave first");
        writer.0 = 1_000;
        assert_eq!(poll(&mut reader, &mut writer), (1_000, MIN_BUFFER));
        assert_eq!(reader.0, MIN_BUFFER);
        assert_eq!(poll(&mut reader, &mut writer), (1_000, MIN_BUFFER));
        assert_eq!(
            reader.0, MIN_BUFFER,
            "more was read although nothing was written"
        );
        // As the writer takes more, the buffer grows, up to its limit.
        writer.0 = 1_000_000;
        assert_eq!(poll(&mut reader, &mut writer), (1_001_000, MAX_BUFFER));
        assert!(reader.0 + 10 - writer.1.len() <= MAX_BUFFER);
        assert!(writer.1[..10] == [7; 10] && writer.1[10..].iter().all(|byte| *byte == 5));
    }
}
