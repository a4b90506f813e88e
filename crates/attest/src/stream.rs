//! The encrypted stream of a trusted connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Application bytes of a connection made by [`crate::connect`] or [`crate::accept`].
///
/// The reference closes its sockets without TLS's close_notify, so an abrupt end of the stream reads as an ordinary
/// end; [`Self::truncated`] tells them apart. What is carried is length-delimited and notices a cut by itself.
/// Shutting down sends a close_notify.
#[derive(Debug)]
pub struct TlsStream<S> {
    inner: tokio_rustls::TlsStream<S>,
    truncated: bool,
}

impl<S> TlsStream<S> {
    pub(crate) fn new(inner: tokio_rustls::TlsStream<S>) -> Self {
        TlsStream {
            inner,
            truncated: false,
        }
    }

    /// Whether the stream ended without a close_notify: an old peer, or somebody cut the line.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// The group of the key exchange, by its IANA number.
    #[must_use]
    pub fn key_exchange(&self) -> Option<u16> {
        let group = self.inner.get_ref().1.negotiated_key_exchange_group()?;
        Some(group.name().into())
    }

    /// Whether both sides speak this application protocol.
    pub(crate) fn speaks(&self, protocol: &[u8]) -> bool {
        self.inner.get_ref().1.alpn_protocol() == Some(protocol)
    }

    /// Keying material of this connection and no other (RFC 8446, 7.5).
    pub(crate) fn exporter(&self, label: &[u8]) -> Result<[u8; 32], rustls::Error> {
        let out = [0; 32];
        match &self.inner {
            tokio_rustls::TlsStream::Client(stream) => {
                stream.get_ref().1.export_keying_material(out, label, None)
            }
            tokio_rustls::TlsStream::Server(stream) => {
                stream.get_ref().1.export_keying_material(out, label, None)
            }
        }
    }

    /// The transport underneath, for its addresses.
    #[must_use]
    pub fn transport(&self) -> &S {
        self.inner.get_ref().0
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_read(cx, buf)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.truncated = true;
                Poll::Ready(Ok(()))
            }
            other => Poll::Ready(other),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
