//! Package streams that break with their line, or after so many bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use handover_net::PackageStream;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Both ends of a stream on a line, which breaks after `room` bytes in all, and holds `window` of them in each direction.
pub(crate) fn pair(window: usize, room: u64, line: CancellationToken) -> [PackageStream; 2] {
    // What is lost of a stream is its own matter; a line takes its streams along.
    let up = line.child_token();
    let left = Arc::new(AtomicI64::new(i64::try_from(room).unwrap_or(i64::MAX)));
    let (here, there) = tokio::io::duplex(window);
    [here, there].map(|inner| {
        let broken = Box::pin(up.clone().cancelled_owned());
        PackageStream::over(Cut { inner, broken, left: Arc::clone(&left), up: up.clone() })
    })
}

/// One end of one.
struct Cut {
    inner: DuplexStream,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
    left: Arc<AtomicI64>,
    up: CancellationToken,
}

impl Cut {
    fn check(&mut self, cx: &mut Context<'_>) -> std::io::Result<()> {
        if self.broken.as_mut().poll(cx).is_ready() {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, to)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.check(cx)?;
        let left = usize::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(0);
        if left == 0 {
            self.up.cancel();
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        let part = bytes.get(..left).unwrap_or(bytes);
        let written = Pin::new(&mut self.inner).poll_write(cx, part);
        if let Poll::Ready(Ok(count)) = &written {
            self.left.fetch_sub(i64::try_from(*count).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
