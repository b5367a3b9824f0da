//! A package stream for code that does not wait: every read and write has a limit.

use std::time::Duration;

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
    /// The first byte of what the other side said while this one wrote.
    heard: Option<u8>,
}

impl Stream {
    pub(super) fn new(inner: PackageStream, runtime: &Handle) -> Self {
        Self { inner, runtime: runtime.clone(), heard: None }
    }

    /// Writes bytes as they are, unless the other side says something meanwhile: then it reads no more.
    ///
    /// # Errors
    /// The stream is gone, the other side does not read on, or has said something.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        ensure!(self.heard.is_none(), "the other side has said something");
        let (mut from, mut to) = tokio::io::split(&mut self.inner);
        let mut heard = [0; 1];
        let write = async {
            let written = async {
                to.write_all(bytes).await?;
                to.flush().await
            };
            tokio::select! {
                biased;
                written = written => written.map(|()| 0),
                read = from.read(&mut heard) => read,
            }
        };
        let written = self.runtime.block_on(async { timeout(LIMIT, write).await });
        let read = written.context("the other side does not read on")??;
        self.heard = (read > 0).then_some(heard[0]);
        Ok(())
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
        self.get_within(LIMIT)?.context("the other side says nothing")
    }
}

impl Stream {
    /// Waits so long for the other side to begin a frame, and then for the frame; none if it says nothing.
    ///
    /// # Errors
    /// The stream is gone, or what comes is another frame.
    pub fn get_within<T: CborMap>(&mut self, limit: Duration) -> Result<Option<T>> {
        let inner = &mut self.inner;
        let mut head = [0; 4];
        if let Some(first) = self.heard.take() {
            head[0] = first;
        } else {
            match self.runtime.block_on(async { timeout(limit, inner.read(&mut head[..1])).await }) {
                Err(_) => return Ok(None),
                Ok(read) => ensure!(read? == 1, "the stream has ended"),
            }
        }
        let rest = async {
            inner.read_exact(&mut head[1..]).await?;
            let length = usize::try_from(u32::from_be_bytes(head))?;
            ensure!(length <= FRAME_MAX_BYTES, "a frame of {length} bytes");
            let mut bytes = vec![0; length];
            inner.read_exact(&mut bytes).await?;
            Ok(Some(codec::decode(&bytes, FRAME_MAX_BYTES)?))
        };
        self.runtime.block_on(async { timeout(LIMIT, rest).await }).context("half a frame")?
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
