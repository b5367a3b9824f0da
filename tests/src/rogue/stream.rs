//! A package stream for code that does not wait: every read and write has a limit.

use anyhow::{Context, Result, ensure};
use handover_core::codec::{self, CborMap};
use handover_net::PackageStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::LIMIT;
use super::wire;

/// The most bytes of a frame that is believed.
const FRAME_MAX_BYTES: usize = 4 * 1024 * 1024;

/// A package stream.
pub struct Stream {
    inner: PackageStream,
    runtime: Handle,
}

impl Stream {
    pub(super) fn new(inner: PackageStream, runtime: &Handle) -> Self {
        Self { inner, runtime: runtime.clone() }
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The stream is gone, or the other side does not read on.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let inner = &mut self.inner;
        let write = async {
            inner.write_all(bytes).await?;
            inner.flush().await
        };
        let written = self.runtime.block_on(async { timeout(LIMIT, write).await });
        Ok(written.context("the other side does not read on")??)
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn put<T: CborMap>(&mut self, value: &T) -> Result<()> {
        self.write(&wire::frame(value))
    }

    /// Says that nothing more follows.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn end(&mut self) -> Result<()> {
        let inner = &mut self.inner;
        let ended = self.runtime.block_on(async { timeout(LIMIT, inner.shutdown()).await });
        Ok(ended.context("the stream does not end")??)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// None comes, or another one.
    pub fn get<T: CborMap>(&mut self) -> Result<T> {
        let inner = &mut self.inner;
        let read = async {
            let length = usize::try_from(inner.read_u32().await?)?;
            ensure!(length <= FRAME_MAX_BYTES, "a frame of {length} bytes");
            let mut bytes = vec![0; length];
            inner.read_exact(&mut bytes).await?;
            Ok(codec::decode(&bytes, FRAME_MAX_BYTES)?)
        };
        self.runtime.block_on(async { timeout(LIMIT, read).await }).context("the other side says nothing")?
    }
}

/// What comes as it comes.
impl std::io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let inner = &mut self.inner;
        let read = self.runtime.block_on(async { timeout(LIMIT, inner.read(buffer)).await });
        read.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }
}
