//! A package stream for code that blocks: every read and write has a limit, and so has the whole, by its length, so a
//! peer that falls silent or trickles holds nothing up for ever. Used inside `block_in_place` only.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use handover_net::PackageStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a peer may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// What every part may take, whatever its length, and the slowest rate that is borne with.
const PART_LIMIT: Duration = Duration::from_secs(60);
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;

pub(super) struct Bridge<'s> {
    stream: &'s mut PackageStream,
    runtime: Handle,
    end: Instant,
}

impl<'s> Bridge<'s> {
    /// For a part of `part_bytes`.
    pub(super) fn new(stream: &'s mut PackageStream, part_bytes: u64) -> Self {
        let limit = PART_LIMIT + Duration::from_secs(part_bytes / SLOWEST_BYTES_PER_SECOND);
        Self { stream, runtime: Handle::current(), end: Instant::now() + limit }
    }

    fn limit(&self) -> Duration {
        SILENCE_LIMIT.min(self.end.saturating_duration_since(Instant::now()))
    }
}

fn limited<T>(outcome: Result<io::Result<T>, tokio::time::error::Elapsed>) -> io::Result<T> {
    outcome.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

impl Read for Bridge<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = self.limit();
        let Self { stream, runtime, .. } = self;
        limited(runtime.block_on(async { timeout(limit, stream.read(buffer)).await }))
    }
}

impl Write for Bridge<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let limit = self.limit();
        let Self { stream, runtime, .. } = self;
        limited(runtime.block_on(async { timeout(limit, stream.write(bytes)).await }))
    }

    fn flush(&mut self) -> io::Result<()> {
        let limit = self.limit();
        let Self { stream, runtime, .. } = self;
        limited(runtime.block_on(async { timeout(limit, stream.flush()).await }))
    }
}
