//! What a sealed content holds, for who checks it and does not read it: chunks open each by itself, so two threads
//! open them while the caller hashes.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use aead_stream::{NewStream as _, StreamBE32, StreamPrimitive as _};
use aes_gcm::Aes256Gcm;
use handover_core::ContentRoot;
use zeroize::Zeroizing;

use super::{SEALED_CHUNK_BYTES, prefix};
use crate::cell::cipher;
use crate::tree::ReadAt;
use crate::{SealError, Secret32};

/// Opening takes about twice as long as hashing.
const OPENERS: u64 = 2;
/// Chunks of each that may wait to be hashed.
const CHUNKS_AHEAD: usize = 8;

/// A chunk, plain; its memory is used again, or each would have to be zeroed at its end.
type Chunk = Zeroizing<Vec<u8>>;

/// The BLAKE3 root of the plaintext of a sealed content of `sealed_bytes` bytes, and its length in bytes.
///
/// # Errors
/// [`SealError::CannotOpen`] if it is not whole or not sealed under this key; [`SealError::Io`].
pub fn opened_root(
    sealed: &(impl ReadAt + Sync),
    sealed_bytes: u64,
    key: &Secret32,
) -> Result<(ContentRoot, u64), SealError> {
    let content = Sealed {
        sealed,
        sealed_bytes,
        // Empty content is one chunk.
        chunks: sealed_bytes.div_ceil(SEALED_CHUNK_BYTES as u64).max(1),
        stream: StreamBE32::from_aead(cipher(key), &prefix()),
    };
    thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|first| {
                let ((give, given), (give_back, used)) = (sync_channel(CHUNKS_AHEAD), channel());
                let content = &content;
                scope.spawn(move || content.open_every_other(first, &give, &used));
                (given, give_back)
            })
            .collect();
        hash(content.chunks, &openers)
    })
}

type Opened = Result<Chunk, SealError>;

/// Takes the chunks in their order. An opener that is left is no more sent to, and ends.
fn hash(chunks: u64, openers: &[(Receiver<Opened>, Sender<Chunk>)]) -> Result<(ContentRoot, u64), SealError> {
    let mut hasher = blake3::Hasher::new();
    for ((given, give_back), _) in openers.iter().cycle().zip(0..chunks) {
        let chunk = given.recv().map_err(|_| io::Error::other("opening panicked"))??;
        hasher.update(&chunk);
        let _ = give_back.send(chunk);
    }
    Ok((ContentRoot::from_bytes(*hasher.finalize().as_bytes()), hasher.count()))
}

struct Sealed<'c, S> {
    sealed: &'c S,
    sealed_bytes: u64,
    chunks: u64,
    stream: StreamBE32<Aes256Gcm>,
}

impl<S: ReadAt> Sealed<'_, S> {
    fn open_every_other(&self, first: u64, give: &SyncSender<Opened>, used: &Receiver<Chunk>) {
        let mut number = first;
        while number < self.chunks {
            let mut chunk = used.try_recv().unwrap_or_default();
            let opened = self.open(number, &mut chunk).map(|()| chunk);
            let has_failed = opened.is_err();
            if give.send(opened).is_err() || has_failed {
                return;
            }
            number = number.saturating_add(OPENERS);
        }
    }

    fn open(&self, number: u64, chunk: &mut Chunk) -> Result<(), SealError> {
        let at = number.saturating_mul(SEALED_CHUNK_BYTES as u64);
        let bytes = self.sealed_bytes.saturating_sub(at).min(SEALED_CHUNK_BYTES as u64);
        chunk.resize(usize::try_from(bytes).map_err(|_| SealError::CannotOpen)?, 0);
        self.sealed.read_exact_at(at, chunk).map_err(|fault| match fault.kind() {
            io::ErrorKind::UnexpectedEof => SealError::CannotOpen,
            _ => fault.into(),
        })?;
        let position = u32::try_from(number).map_err(|_| SealError::CannotOpen)?;
        let is_last = number.saturating_add(1) == self.chunks;
        let opened = self.stream.decrypt_in_place(position, is_last, b"", &mut **chunk);
        // One content has one sealed form: no empty last chunk after a full one.
        if opened.is_err() || (chunk.is_empty() && number > 0) {
            return Err(SealError::CannotOpen);
        }
        Ok(())
    }
}
