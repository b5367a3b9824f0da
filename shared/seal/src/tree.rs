//! Verified streaming over BLAKE3: content is named by the plain BLAKE3 hash of its bytes, and its hash tree over
//! groups of 64 KiB travels interleaved with it (as in bao), so every group is verified on arrival and a transfer
//! continues at any group.
//!
//! Memory: one group; the tree's inner hashes (64 bytes for each group, 10 MiB for 10 GiB) can lie in a file.
//! This room keeps no files: the caller brings readers and writers and decides when to sync them.

use std::fs::File;
use std::io::{self, Read, Write};

use bao_tree::io::outboard::PreOrderOutboard;
pub use bao_tree::io::sync::ReadAt;
use bao_tree::io::sync::{DecodeResponseIter, WriteAt, encode_ranges_validated};
use bao_tree::io::{BaoContentItem, DecodeError, EncodeError};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};
use handover_core::ContentRoot;

use crate::SealError;

/// Bytes of a group; the last may be shorter.
pub const GROUP_BYTES: u64 = 65_536;

/// 2⁶ BLAKE3 chunks of 1 KiB are one group.
const GROUP_LOG2_CHUNKS: u8 = 6;
const BLOCK: BlockSize = BlockSize::from_chunk_log(GROUP_LOG2_CHUNKS);
const BUFFER_BYTES: usize = 65_536;
/// How many groups content of this length has; none if it is empty.
#[must_use]
pub const fn groups(content_bytes: u64) -> u64 {
    content_bytes.div_ceil(GROUP_BYTES)
}

/// How many groups lie whole in the first `held_bytes` of content: where [`receive`] continues, after the target
/// was cut to [`group_offset`] of it.
#[must_use]
pub const fn groups_held(held_bytes: u64, content_bytes: u64) -> u64 {
    if held_bytes >= content_bytes { groups(content_bytes) } else { held_bytes / GROUP_BYTES }
}

/// Where a group begins, or the content's end for the group after the last.
#[must_use]
pub const fn group_offset(group: u64, content_bytes: u64) -> u64 {
    let offset = group.saturating_mul(GROUP_BYTES);
    if offset < content_bytes { offset } else { content_bytes }
}

/// The inner hashes of a content's tree, in pre-order; what a sender needs beside the content.
pub struct Outboard(PreOrderOutboard<Hashes>);

/// Where they lie.
enum Hashes {
    Memory(Vec<u8>),
    File(File),
}

impl ReadAt for Hashes {
    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(hashes) => hashes.read_at(at, out),
            Self::File(file) => file.read_at(at, out),
        }
    }
}

impl Outboard {
    fn of(root: &ContentRoot, content_bytes: u64, hashes: Hashes) -> Self {
        let (root, tree) = ((*root.as_bytes()).into(), BaoTree::new(content_bytes, BLOCK));
        Self(PreOrderOutboard { root, tree, data: hashes })
    }

    /// From a file that [`write_outboard`] wrote; it is read as it is needed. A wrong tree is found out when it is sent.
    #[must_use]
    pub fn from_file(root: &ContentRoot, content_bytes: u64, hashes: File) -> Self {
        Self::of(root, content_bytes, Hashes::File(hashes))
    }

    /// The content's root.
    #[must_use]
    pub fn root(&self) -> ContentRoot {
        ContentRoot::from_bytes(*self.0.root.as_bytes())
    }

    /// The content's length.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.0.tree.size()
    }
}

/// The root of everything that a reader gives, and its length.
///
/// # Errors
/// Those of the reader.
pub fn root(mut data: impl Read) -> Result<(ContentRoot, u64), SealError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match data.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => continue,
            Err(fault) => return Err(fault.into()),
        };
    }
    Ok((ContentRoot::from_bytes(*hasher.finalize().as_bytes()), hasher.count()))
}

/// Hashes all that goes through it, so that nothing has to be read a second time for its root.
pub struct Hashed<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashed<T> {
    /// Around a reader or a writer.
    pub fn new(inner: T) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    /// The inner one, and the root and length of what went through.
    pub fn finish(self) -> (T, ContentRoot, u64) {
        let length = self.hasher.count();
        (self.inner, ContentRoot::from_bytes(*self.hasher.finalize().as_bytes()), length)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.hasher.update(out.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Bytes of the inner hashes of content of this length.
#[must_use]
pub fn outboard_bytes(content_bytes: u64) -> u64 {
    BaoTree::new(content_bytes, BLOCK).outboard_size()
}

/// Computes root and tree of content of known length, in memory: for what is small.
///
/// # Errors
/// Those of the reader; [`SealError::Cut`] if it gives fewer bytes.
pub fn outboard(data: impl Read, content_bytes: u64) -> Result<(ContentRoot, Outboard), SealError> {
    let size = usize::try_from(outboard_bytes(content_bytes)).map_err(|_| SealError::TooLong)?;
    let (root, hashes) = compute(data, content_bytes, vec![0; size])?;
    Ok((root, Outboard::of(&root, content_bytes, Hashes::Memory(hashes))))
}

/// Computes root and tree of content of known length, writing the tree to a file: memory stays constant.
///
/// # Errors
/// As [`outboard`], and those of the file.
pub fn write_outboard(data: impl Read, content_bytes: u64, hashes: File) -> Result<ContentRoot, SealError> {
    compute(data, content_bytes, hashes).map(|(root, _)| root)
}

fn compute<H: WriteAt>(
    data: impl Read,
    content_bytes: u64,
    hashes: H,
) -> Result<(ContentRoot, H), SealError> {
    let tree = BaoTree::new(content_bytes, BLOCK);
    let mut hashes = PreOrderOutboard { root: [0; 32].into(), tree, data: hashes };
    let root = bao_tree::io::sync::outboard(data, tree, &mut hashes).map_err(cut_or_io)?;
    Ok((ContentRoot::from_bytes(*root.as_bytes()), hashes.data))
}

fn ranges_from(group: u64) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(group << GROUP_LOG2_CHUNKS)..)
}

/// True if there is something to transfer from this group on.
fn starts_within(from_group: u64, content_bytes: u64) -> Result<bool, SealError> {
    match groups(content_bytes) {
        count if from_group > count => Err(SealError::NoSuchGroup),
        count => Ok(from_group < count),
    }
}

/// Sends content from a group on, with the hashes that prove it. What lies is verified before it leaves; beyond the
/// last group there is nothing to send.
///
/// # Errors
/// [`SealError::Damaged`] if content or tree are not what the root says (some may have been sent: the receiver
/// keeps only verified groups); [`SealError::NoSuchGroup`]; [`SealError::Io`].
pub fn send(
    data: impl ReadAt,
    outboard: &Outboard,
    from_group: u64,
    mut out: impl Write,
) -> Result<(), SealError> {
    if starts_within(from_group, outboard.content_bytes())? {
        encode_ranges_validated(data, &outboard.0, &ranges_from(from_group), &mut out).map_err(|fault| {
            match fault {
                EncodeError::ParentHashMismatch(_)
                | EncodeError::LeafHashMismatch(_)
                | EncodeError::SizeMismatch => SealError::Damaged,
                other => match io::Error::from(other) {
                    fault if fault.kind() == io::ErrorKind::UnexpectedEof => SealError::Damaged,
                    fault => fault.into(),
                },
            }
        })?;
    }
    out.flush()?;
    Ok(())
}

/// Receives content from a group on. `target` must stand at [`group_offset`] of `from_group`; only verified groups
/// are written to it, in order. Gives the number of groups that now lie there, which is all of them.
///
/// The groups before `from_group` are believed: after a crash, let [`root`] check the whole once.
///
/// # Errors
/// [`SealError::Cut`] if the input ends early: continue at [`groups_held`]. [`SealError::Damaged`] if the peer sent
/// something else. [`SealError::NoSuchGroup`], [`SealError::Io`].
pub fn receive(
    input: impl Read,
    root: &ContentRoot,
    content_bytes: u64,
    from_group: u64,
    mut target: impl Write,
) -> Result<u64, SealError> {
    let root: blake3::Hash = (*root.as_bytes()).into();
    if content_bytes == 0 && root != blake3::hash(b"") {
        return Err(SealError::Damaged);
    }
    if starts_within(from_group, content_bytes)? {
        let tree = BaoTree::new(content_bytes, BLOCK);
        for item in DecodeResponseIter::new(root, tree, input, &ranges_from(from_group)) {
            match item {
                Ok(BaoContentItem::Parent(_)) => {}
                Ok(BaoContentItem::Leaf(leaf)) => target.write_all(&leaf.data)?,
                Err(DecodeError::ParentHashMismatch(_) | DecodeError::LeafHashMismatch(_)) => {
                    return Err(SealError::Damaged);
                }
                Err(other) => return Err(cut_or_io(other.into())),
            }
        }
    }
    target.flush()?;
    Ok(groups(content_bytes))
}

fn cut_or_io(fault: io::Error) -> SealError {
    match fault.kind() {
        io::ErrorKind::UnexpectedEof => SealError::Cut,
        _ => SealError::Io(fault),
    }
}

#[cfg(test)]
mod tests;
