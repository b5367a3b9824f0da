//! A package stream for code that blocks: every read and write has a limit, and so have all of them together, by the
//! package's length, so a peer that falls silent or trickles holds nothing up for ever. Used inside `block_in_place`
//! only.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use handover_core::artefact::transfer::PartList;
use handover_net::PackageStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a peer may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// What every part may take, whatever its length, and the slowest rate that is borne with.
const PART_LIMIT: Duration = Duration::from_secs(60);
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;
/// No package may take longer on one stream: what is left of it goes over another.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// What passes between this thread and the network's in one go: to wait for each other costs more than to copy.
const BUFFER_BYTES: usize = 512 * 1024;

pub(crate) struct Bridge<'s> {
    stream: &'s mut PackageStream,
    runtime: Handle,
    end: Instant,
}

impl<'s> Bridge<'s> {
    fn new(stream: &'s mut PackageStream, parts: &PartList) -> Self {
        let limits = parts.iter().map(|part| {
            PART_LIMIT.saturating_add(Duration::from_secs(part.length / SLOWEST_BYTES_PER_SECOND))
        });
        let limit = limits.fold(Duration::ZERO, Duration::saturating_add).min(LONGEST);
        Self { stream, runtime: Handle::current(), end: Instant::now() + limit }
    }

    /// To read a package's parts from.
    pub(crate) fn reader(stream: &'s mut PackageStream, parts: &PartList) -> BufReader<Self> {
        BufReader::with_capacity(BUFFER_BYTES, Self::new(stream, parts))
    }

    /// To write a package's parts to.
    pub(crate) fn writer(stream: &'s mut PackageStream, parts: &PartList) -> BufWriter<Self> {
        BufWriter::with_capacity(BUFFER_BYTES, Self::new(stream, parts))
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
    /// Takes all of it: the stream takes a few KiB at a time, and coming back for each costs more than they do.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let limit = self.limit();
        let Self { stream, runtime, .. } = self;
        limited(runtime.block_on(async { timeout(limit, stream.write_all(bytes)).await }))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let limit = self.limit();
        let Self { stream, runtime, .. } = self;
        limited(runtime.block_on(async { timeout(limit, stream.flush()).await }))
    }
}
