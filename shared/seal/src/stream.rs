//! Large content, sealed chunk by chunk: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, 2015) over AES-256-GCM with
//! a 32-bit counter and a last-chunk flag.
//!
//! A sealed chunk has exactly [`SEALED_CHUNK_BYTES`] bytes, tag included, so that it lines up with a group of the
//! hash tree ([`crate::tree`]); only the last one may be shorter, and only empty content has an empty last chunk.
//! The nonce prefix is zero: every content has its own fresh key, and **a key must never seal a second content**.
//! Reordered, altered, missing, repeated and trailing chunks do not open. Memory: two chunks.

use std::io::{self, Read, Write};

use aead_stream::{DecryptorBE32, EncryptorBE32};
use aes_gcm::Aes256Gcm;
use zeroize::Zeroize as _;

use crate::cell::cipher;
use crate::read::read_up_to;
use crate::{SealError, Secret32};

/// Bytes of a whole sealed chunk.
pub const SEALED_CHUNK_BYTES: usize = 65_536;
/// Bytes of the tag in each chunk.
pub const TAG_BYTES: usize = 16;
/// Bytes of plaintext in a whole chunk.
pub const PLAIN_CHUNK_BYTES: usize = SEALED_CHUNK_BYTES - TAG_BYTES;

/// How long content of `plain_bytes` is when sealed.
#[must_use]
pub const fn sealed_len(plain_bytes: u64) -> u64 {
    let chunks = plain_bytes.div_ceil(PLAIN_CHUNK_BYTES as u64);
    plain_bytes.saturating_add((if chunks == 0 { 1 } else { chunks }).saturating_mul(TAG_BYTES as u64))
}

/// The nonce prefix; see the module's head.
fn prefix() -> aead_stream::Nonce<Aes256Gcm, aead_stream::StreamBE32<Aes256Gcm>> {
    [0; 7].into()
}

/// A chunk's bytes, wiped at the end. `Zeroizing` would be compiled, unoptimised, in whoever seals or opens: there it
/// takes longer than all the rest.
struct Chunk(Vec<u8>);

impl Chunk {
    fn new() -> Self {
        Self(Vec::with_capacity(SEALED_CHUNK_BYTES))
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Seals what is written to it. Without [`SealWriter::finish`] what came out does not open.
pub struct SealWriter<W: Write> {
    inner: W,
    /// Absent once the inner writer failed: what came out then has a gap and is never finished.
    sealer: Option<EncryptorBE32<Aes256Gcm>>,
    chunk: Chunk,
}

impl<W: Write> SealWriter<W> {
    /// A writer under a fresh key that seals nothing else.
    pub fn new(inner: W, key: &Secret32) -> Self {
        Self { inner, sealer: Some(EncryptorBE32::from_aead(cipher(key), &prefix())), chunk: Chunk::new() }
    }

    /// Seals the last chunk and gives the inner writer back, flushed.
    ///
    /// # Errors
    /// Those of the inner writer, also if it failed before.
    pub fn finish(mut self) -> io::Result<W> {
        let sealer = self.sealer.take().ok_or_else(failed_before)?;
        sealer.encrypt_last_in_place(b"", &mut self.chunk.0).map_err(|_| too_long())?;
        self.inner.write_all(&self.chunk.0)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn seal_full_chunk(&mut self) -> io::Result<()> {
        let mut sealer = self.sealer.take().ok_or_else(failed_before)?;
        sealer.encrypt_next_in_place(b"", &mut self.chunk.0).map_err(|_| too_long())?;
        let written = self.inner.write_all(&self.chunk.0);
        self.chunk.0.clear();
        written?;
        self.sealer = Some(sealer);
        Ok(())
    }
}

fn failed_before() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the writer of the sealed content failed before")
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, SealError::TooLong)
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sealer.is_none() {
            return Err(failed_before());
        }
        // A full chunk waits until it is known not to be the last.
        if self.chunk.0.len() == PLAIN_CHUNK_BYTES && !bytes.is_empty() {
            self.seal_full_chunk()?;
        }
        let taken = bytes.len().min(PLAIN_CHUNK_BYTES.saturating_sub(self.chunk.0.len()));
        self.chunk.0.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    /// Flushes what is sealed; an unfinished chunk stays here.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Opens a sealed content while it is read. Only the end (`Ok(0)`) says that it was complete: what was read before
/// is authentic, but may be cut. After an error it never comes to an end any more.
pub struct OpenReader<R: Read> {
    inner: R,
    /// Absent once the last chunk was opened or something failed.
    opener: Option<DecryptorBE32<Aes256Gcm>>,
    complete: bool,
    /// The opened chunk and how much of it was given out.
    plain: Chunk,
    given: usize,
    /// The next sealed chunk, read ahead to know which is the last; they change places, so it has been plain, too.
    ahead: Chunk,
    started: bool,
}

impl<R: Read> OpenReader<R> {
    /// A reader under the content's key.
    pub fn new(inner: R, key: &Secret32) -> Self {
        Self {
            inner,
            opener: Some(DecryptorBE32::from_aead(cipher(key), &prefix())),
            complete: false,
            plain: Chunk::new(),
            given: 0,
            ahead: Chunk::new(),
            started: false,
        }
    }

    /// Opens the next chunk; false at the end. An error leaves nothing to give out and the reader failed for good.
    fn advance(&mut self) -> io::Result<bool> {
        if self.complete {
            return Ok(false);
        }
        // Taken out, so that no early return leaves it usable.
        let opener = self.opener.take().ok_or_else(cannot_open)?;
        self.given = 0;
        let opened = self.open_next(opener);
        if opened.is_err() {
            self.plain.0.clear();
        }
        opened.map(|()| true)
    }

    fn open_next(&mut self, mut opener: DecryptorBE32<Aes256Gcm>) -> io::Result<()> {
        let first = !self.started;
        if first {
            read_up_to(SEALED_CHUNK_BYTES, &mut self.inner, &mut self.ahead.0)?;
            self.started = true;
        }
        std::mem::swap(&mut self.plain, &mut self.ahead);
        read_up_to(SEALED_CHUNK_BYTES, &mut self.inner, &mut self.ahead.0)?;
        let last = self.ahead.0.is_empty();
        if last {
            opener.decrypt_last_in_place(b"", &mut self.plain.0).map_err(|_| cannot_open())?;
        } else {
            opener.decrypt_next_in_place(b"", &mut self.plain.0).map_err(|_| cannot_open())?;
            self.opener = Some(opener);
        }
        // One content has one sealed form: no empty last chunk after a full one.
        if !first && self.plain.0.is_empty() {
            return Err(cannot_open());
        }
        self.complete = last;
        Ok(())
    }
}

fn cannot_open() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, SealError::CannotOpen)
}

impl<R: Read> Read for OpenReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.given == self.plain.0.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let mut rest = self.plain.0.get(self.given..).unwrap_or_default();
        let taken = rest.read(out)?;
        self.given += taken;
        Ok(taken)
    }
}

mod root;
pub use root::opened_root;

#[cfg(test)]
mod tests;
