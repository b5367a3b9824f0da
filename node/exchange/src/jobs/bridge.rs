//! A package stream for code that blocks: every read and write has a limit, so a peer that falls silent holds
//! nothing up for ever. Used inside `block_in_place` only.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use handover_net::PackageStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a peer may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Bridge<'s> {
    stream: &'s mut PackageStream,
    runtime: Handle,
}

impl<'s> Bridge<'s> {
    pub(super) fn new(stream: &'s mut PackageStream) -> Self {
        Self { stream, runtime: Handle::current() }
    }
}

fn limited<T>(outcome: Result<io::Result<T>, tokio::time::error::Elapsed>) -> io::Result<T> {
    outcome.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

impl Read for Bridge<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { stream, runtime } = self;
        limited(runtime.block_on(async { timeout(SILENCE_LIMIT, stream.read(buffer)).await }))
    }
}

impl Write for Bridge<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { stream, runtime } = self;
        limited(runtime.block_on(async { timeout(SILENCE_LIMIT, stream.write(bytes)).await }))
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self { stream, runtime } = self;
        limited(runtime.block_on(async { timeout(SILENCE_LIMIT, stream.flush()).await }))
    }
}
