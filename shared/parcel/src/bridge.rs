//! A package stream for code that blocks, and how long its peer is waited for: so long in one go, and the longer in all
//! the more has come or gone. So a peer that falls silent or trickles holds nothing up for ever, however many parts it
//! has; what this side takes for its own work does not count.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use handover_core::Code;
use handover_net::PackageStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::ParcelError;

/// How long a peer may be silent; and how long it is waited for in all, before anything has come.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// The slowest rate that is borne with.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;
/// What passes between this thread and the network's in one go: to wait for each other costs more than to copy.
const BUFFER_BYTES: usize = 512 * 1024;

/// How long a peer was waited for, and what came of it.
#[derive(Default)]
struct Patience {
    waited: Duration,
    moved_bytes: u64,
}

impl Patience {
    /// How long it is waited for this time; nothing when it has used up all.
    fn left(&self) -> Duration {
        let earned = Duration::from_secs(self.moved_bytes / SLOWEST_BYTES_PER_SECOND);
        SILENCE_LIMIT.saturating_add(earned).saturating_sub(self.waited).min(SILENCE_LIMIT)
    }

    fn took(&mut self, waited: Duration, moved_bytes: usize) {
        self.waited = self.waited.saturating_add(waited);
        self.moved_bytes = self.moved_bytes.saturating_add(moved_bytes as u64);
    }
}

/// Runs work that blocks with the stream on a thread for such work, to its end.
pub(crate) async fn blocking<T: Send + 'static>(
    stream: &mut PackageStream,
    work: impl FnOnce(&mut PackageStream) -> Result<T, ParcelError> + Send + 'static,
) -> Result<T, ParcelError> {
    let mut taken = stream.take();
    let worked = tokio::task::spawn_blocking(move || {
        let done = work(&mut taken);
        (taken, done)
    });
    let (back, done) = worked.await.map_err(|_| Code::Internal)?;
    *stream = back;
    done
}

pub(crate) struct Bridge<'s> {
    stream: &'s mut PackageStream,
    runtime: Handle,
    patience: Patience,
}

impl<'s> Bridge<'s> {
    fn new(stream: &'s mut PackageStream) -> Self {
        Self { stream, runtime: Handle::current(), patience: Patience::default() }
    }

    /// To read a package's parts from.
    pub(crate) fn reader(stream: &'s mut PackageStream) -> BufReader<Self> {
        BufReader::with_capacity(BUFFER_BYTES, Self::new(stream))
    }

    /// To write a package's parts to.
    pub(crate) fn writer(stream: &'s mut PackageStream) -> BufWriter<Self> {
        BufWriter::with_capacity(BUFFER_BYTES, Self::new(stream))
    }

    /// Waits for the peer; what is waited for says how many bytes went.
    fn wait(
        &mut self,
        moves: impl AsyncFnOnce(&mut PackageStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (limit, begun) = (self.patience.left(), Instant::now());
        let Self { stream, runtime, .. } = self;
        let outcome = runtime.block_on(async { timeout(limit, moves(stream)).await });
        let moved = outcome.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
        self.patience.took(begun.elapsed(), moved);
        Ok(moved)
    }
}

impl Read for Bridge<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(async |stream| stream.read(buffer).await)
    }
}

impl Write for Bridge<'_> {
    /// Takes all of it: the stream takes a few KiB at a time, and coming back for each costs more than they do.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(async |stream| stream.write_all(bytes).await.map(|()| bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait(async |stream| stream.flush().await.map(|()| 0)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// For how many seconds a peer goes on that sends so many bytes in each.
    fn goes_on(bytes_in_a_second: usize) -> usize {
        let mut patience = Patience::default();
        let goes_on = std::iter::from_fn(|| {
            (patience.left() >= SECOND).then(|| patience.took(SECOND, bytes_in_a_second))
        });
        goes_on.take(100_000).count()
    }

    #[test]
    fn who_trickles_is_cut_and_who_is_slow_enough_is_not() {
        assert_eq!(goes_on(1), 30, "a byte now and then buys no time");
        assert_eq!(goes_on(32 * 1024), 59, "half of the rate is borne with for twice the time");
        assert_eq!(goes_on(64 * 1024), 100_000, "the slowest rate is borne with");
    }

    #[test]
    fn silence_is_cut_whatever_came_before_it() {
        let mut patience = Patience::default();
        patience.took(SECOND, 1 << 40);
        assert_eq!(patience.left(), SILENCE_LIMIT);
    }
}
