//! Content at rest: up to 64 KiB in its row, above that a blob; sealed once under its own key either way.
//!
//! A blob is durable before the row that names it is made. The content's key is wrapped by the key of where it
//! belongs and bound to its place; so is content in a row.

use std::fs::File;
use std::io::{self, BufReader, Read as _};

use handover_core::codec::Extensions;
use handover_core::{ContentRoot, Random};
use handover_seal::cell::{open_cell, seal_cell};
use handover_seal::stream::{OpenReader, SealWriter};
use handover_seal::{Secret32, Zeroizing, tree::Hashed};
use handover_store::{Blobs, Spool};

use crate::RecordsError;
use crate::model::{BlobRef, LyingFile, NewContent, file_hash};
use crate::rows::ContentRow;

/// The most bytes of plaintext that lie in a row; what is longer is a blob.
pub const INLINE_MAX_BYTES: usize = 64 * 1024;
/// What is read in one go of content that is sealed.
const COPY_BYTES: usize = 256 * 1024;

/// Content that is sealed, and the spooled file that must become a blob before its row is stored.
pub(crate) struct Sealed {
    pub(crate) row: ContentRow,
    spooled: Option<(Spool, ContentRoot)>,
}

impl Sealed {
    /// Makes the blob durable, if there is one, and gives the row with the root of a blob that was made.
    pub(crate) async fn store(
        self,
        blobs: &Blobs,
    ) -> Result<(ContentRow, Option<ContentRoot>), RecordsError> {
        let Some((spool, root)) = self.spooled else { return Ok((self.row, None)) };
        blobs.put(spool, root).await?;
        if let Some(length) = self.row.length {
            // What sends it need not read all of it first. Without one it is made then.
            let blobs = blobs.clone();
            blocking(move || Ok(blobs.tree(root, length).map(drop)?)).await?;
        }
        Ok((self.row, Some(root)))
    }
}

/// Seals content for its place. Blocking: large content is written to the spool.
pub(crate) fn seal(
    blobs: &Blobs,
    wrap_key: &Secret32,
    aad: &[u8],
    content: &NewContent,
    random: &mut dyn Random,
) -> Result<Sealed, RecordsError> {
    let mut row = ContentRow {
        wrapped_key: Vec::new().into(),
        inline: None,
        root: None,
        length: None,
        extensions: Extensions::default(),
    };
    let mut spooled = None;
    let key = match content {
        NewContent::Sealed { blob, .. } => {
            (row.root, row.length) = (Some(blob.root), Some(blob.length));
            blob.key.clone()
        }
        NewContent::Bytes(bytes) => {
            let key = Secret32::generate(random);
            let length = bytes.len() as u64;
            spooled = lay(blobs, &key, aad, (&mut bytes.as_slice(), length), &mut row, random)?;
            key
        }
        NewContent::File(file) => {
            let key = Secret32::generate(random);
            spooled = seal_file(blobs, &key, aad, file, &mut row, random)?;
            key
        }
    };
    row.wrapped_key = seal_cell(wrap_key, aad, key.expose(), random).map_err(RecordsError::Seal)?.into();
    Ok(Sealed { row, spooled })
}

type Spooled = Option<(Spool, ContentRoot)>;

/// Seals what a reader gives: into the row if it is small, else into a spool.
fn lay(
    blobs: &Blobs,
    key: &Secret32,
    aad: &[u8],
    (content, length): (&mut dyn io::Read, u64),
    row: &mut ContentRow,
    random: &mut dyn Random,
) -> Result<Spooled, RecordsError> {
    let io = RecordsError::io("write content");
    if length <= INLINE_MAX_BYTES as u64 {
        let mut bytes = Zeroizing::new(Vec::new());
        content.read_to_end(&mut bytes).map_err(&io)?;
        row.inline = Some(seal_cell(key, aad, &bytes, random).map_err(RecordsError::Seal)?.into());
        return Ok(None);
    }
    let spool = blobs.spool()?;
    let mut writer = SealWriter::new(Hashed::new(spool.writer()?), key);
    io::copy(&mut BufReader::with_capacity(COPY_BYTES, content), &mut writer).map_err(&io)?;
    let (behind, root, length) = writer.finish().map_err(&io)?.finish();
    behind.finish().map_err(&io)?;
    (row.root, row.length) = (Some(root), Some(length));
    Ok(Some((spool, root)))
}

/// Seals a file as it was looked at: one that changed since is told, or its hash would not be that of its content.
fn seal_file(
    blobs: &Blobs,
    key: &Secret32,
    aad: &[u8],
    file: &LyingFile,
    row: &mut ContentRow,
    random: &mut dyn Random,
) -> Result<Spooled, RecordsError> {
    let opened = File::open(&file.path).map_err(RecordsError::io("read a file"))?;
    // One byte more than it had shows that it grew.
    let mut hashed = Hashed::new(opened.take(file.plain_bytes.saturating_add(1)));
    let spooled = lay(blobs, key, aad, (&mut hashed, file.plain_bytes), row, random)?;
    let (_, root, length) = hashed.finish();
    if length != file.plain_bytes || file_hash(&root) != file.hash {
        return Err(RecordsError::Invalid { what: "file", reason: "changed while it was read" });
    }
    Ok(spooled)
}

/// Content whose key is known.
pub(crate) enum Opened {
    Inline(Zeroizing<Vec<u8>>),
    Blob(BlobRef),
}

/// Opens a content's row.
pub(crate) fn open(wrap_key: &Secret32, aad: &[u8], row: &ContentRow) -> Result<Opened, RecordsError> {
    let damaged = RecordsError::damaged("content");
    let key = open_cell(wrap_key, aad, row.wrapped_key.as_ref())
        .and_then(|key| Secret32::from_slice(&key))
        .map_err(&damaged)?;
    match (&row.inline, row.root, row.length) {
        (Some(inline), None, None) => {
            Ok(Opened::Inline(open_cell(&key, aad, inline.as_ref()).map_err(&damaged)?))
        }
        (None, Some(root), Some(length)) => Ok(Opened::Blob(BlobRef { root, length, key })),
        _ => Err(RecordsError::Damaged { what: "content" }),
    }
}

/// A record's content as it is read.
pub enum Content {
    /// All of it.
    Inline(Zeroizing<Vec<u8>>),
    /// To be read from a blob.
    Blob(BlobContent),
}

/// Content in a blob.
pub struct BlobContent {
    pub(crate) blobs: Blobs,
    pub(crate) blob: BlobRef,
    pub(crate) plain_bytes: u64,
}

impl BlobContent {
    /// Bytes of its plaintext.
    #[must_use]
    pub const fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Reads and opens it from its beginning. Blocking: read it on a thread that may wait. Only the end says that
    /// it was complete.
    ///
    /// # Errors
    /// [`RecordsError::Store`] if the blob is not here.
    pub async fn reader(&self) -> Result<OpenReader<File>, RecordsError> {
        Ok(OpenReader::new(self.blobs.reader(self.blob.root).await?, &self.blob.key))
    }
}

impl Content {
    /// All bytes, if they are at most `max_bytes`.
    ///
    /// # Errors
    /// [`RecordsError::Invalid`] if they are more; [`RecordsError::Io`] if they do not open.
    pub async fn bytes(self, max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, RecordsError> {
        let too_long = RecordsError::Invalid { what: "content", reason: "longer than wanted at once" };
        match self {
            Self::Inline(bytes) if bytes.len() as u64 > max_bytes => Err(too_long),
            Self::Inline(bytes) => Ok(bytes),
            Self::Blob(blob) if blob.plain_bytes > max_bytes => Err(too_long),
            Self::Blob(blob) => {
                let mut reader = blob.reader().await?;
                blocking(move || {
                    let mut bytes = Zeroizing::new(Vec::new());
                    reader.read_to_end(&mut bytes).map_err(RecordsError::io("read content"))?;
                    Ok(bytes)
                })
                .await
            }
        }
    }
}

/// Runs what waits for the disk or takes long on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordsError> + Send + 'static,
) -> Result<T, RecordsError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or(Err(RecordsError::Store(handover_store::StoreError::Panicked)))
}
