//! A byte stream that fails as soon as it is told that it has ended, whatever the stream beneath says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// One direction's wait for the end: reader and writer may be different tasks.
type Ended = Pin<Box<WaitForCancellationFutureOwned>>;

/// Passes bytes on until its token is cancelled.
pub(crate) struct Until<T> {
    inner: T,
    while_reading: Ended,
    while_writing: Ended,
}

impl<T> Until<T> {
    pub(crate) fn new(inner: T, ended: &CancellationToken) -> Self {
        let wait = || Box::pin(ended.clone().cancelled_owned());
        Self { inner, while_reading: wait(), while_writing: wait() }
    }
}

fn check(ended: &mut Ended, cx: &mut Context<'_>) -> io::Result<()> {
    match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was closed")),
        Poll::Pending => Ok(()),
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Until<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        check(&mut this.while_reading, cx)?;
        Pin::new(&mut this.inner).poll_read(cx, to)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Until<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        check(&mut this.while_writing, cx)?;
        Pin::new(&mut this.inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        check(&mut this.while_writing, cx)?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        check(&mut this.while_writing, cx)?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}
