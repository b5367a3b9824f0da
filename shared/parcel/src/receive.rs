//! Receiving: each part into a file that grows by verified groups only, and among the blobs once it is whole.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use handover_core::artefact::transfer::{ContentRef, PartList};
use handover_core::{Code, TransferId};
use handover_net::PackageStream;
use handover_seal::{SealError, tree};
use handover_store::{Blobs, WriteBehind};

use crate::ParcelError;
use crate::bridge::{Bridge, blocking};

/// Parts that are looked for at once.
const LOOKS_AT_ONCE: usize = 16;

/// A package that arrives, and how much of it lies here.
pub struct Arriving {
    blobs: Blobs,
    transfer: TransferId,
    parts: PartList,
    lying: Vec<Lying>,
}

/// Where a part lies in the folder of what arrives.
#[must_use]
pub fn part_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.part"))
}

impl Arriving {
    /// Looks at what lies in `folder`, which is made, and among the blobs.
    ///
    /// # Errors
    /// The file system's, the store's.
    pub async fn find(
        blobs: &Blobs,
        folder: &Path,
        transfer: TransferId,
        parts: PartList,
    ) -> Result<Self, ParcelError> {
        std::fs::create_dir_all(folder)?;
        // Several at once: each may be a way to another machine, and the source waits for all of them.
        let looks = parts.iter().enumerate().map(|(number, part)| Lying::find(blobs, folder, number, part));
        let lying = stream::iter(looks.collect::<Vec<_>>()).buffered(LOOKS_AT_ONCE).try_collect().await?;
        Ok(Self { blobs: blobs.clone(), transfer, parts, lying })
    }

    /// The groups that lie here of each part.
    #[must_use]
    pub fn groups(&self) -> Vec<u64> {
        self.lying.iter().map(|lying| lying.groups).collect()
    }

    /// Receives what is missing, as it was said by [`Self::groups`]: what lies here since then is received all the
    /// same, or the stream would be misread. When this returns all of it is durable.
    ///
    /// # Errors
    /// [`Code::ManifestDamaged`], [`Code::PackageDamaged`], [`Code::PackageTruncated`]; the stream's, the file system's.
    pub async fn receive(self, stream: &mut PackageStream) -> Result<(), ParcelError> {
        let Self { blobs, transfer, parts, lying } = self;
        let received = blocking(stream, move |stream| {
            let mut from = Bridge::reader(stream);
            let mut wanted = parts.iter().zip(lying).enumerate().filter(|(_, (_, lying))| !lying.is_whole);
            wanted.try_for_each(|(number, (part, lying))| {
                receive_part(&blobs, transfer, &mut from, part, &lying).map_err(|fault| match fault {
                    // What stands first is the manifest.
                    ParcelError::Refused(Code::PackageDamaged) if number == 0 => Code::ManifestDamaged.into(),
                    other => other,
                })
            })
        });
        received.await
    }
}

/// Where a part lies while it arrives, and how much of it does.
struct Lying {
    path: PathBuf,
    groups: u64,
    /// It is among the blobs already.
    is_whole: bool,
}

impl Lying {
    async fn find(
        blobs: &Blobs,
        folder: &Path,
        number: usize,
        part: &ContentRef,
    ) -> Result<Self, ParcelError> {
        let path = part_path(folder, number);
        if blobs.len(part.root).await? == Some(part.length) {
            return Ok(Self { path, groups: tree::groups(part.length), is_whole: true });
        }
        let held_bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        // The last group counts only when all are there, so a whole file is received from its last group on again.
        let groups =
            tree::groups_held(held_bytes, part.length).min(tree::groups(part.length).saturating_sub(1));
        Ok(Self { path, groups, is_whole: false })
    }
}

/// Receives a part from where its file ends, and keeps it.
fn receive_part(
    blobs: &Blobs,
    transfer: TransferId,
    from: &mut impl Read,
    part: &ContentRef,
    lying: &Lying,
) -> Result<(), ParcelError> {
    let from_bytes = tree::group_offset(lying.groups, part.length);
    if lying.groups > 0 {
        tracing::info!(transfer = %transfer, from_bytes, bytes = part.length, "a part goes on where it was cut");
    }
    if lying.groups == 0 {
        // A file of its own: whoever wrote there before may not know yet that this process does now.
        match std::fs::remove_file(&lying.path) {
            Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(fault.into()),
            _ => {}
        }
    }
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&lying.path)?;
    file.set_len(from_bytes)?;
    (&file).seek(SeekFrom::End(0))?;
    let mut file = WriteBehind::new(file);
    tree::receive(from, &part.root, part.length, lying.groups, &mut file).map_err(|fault| match fault {
        SealError::Cut => Code::PackageTruncated.into(),
        SealError::Io(fault) if fault.kind() == ErrorKind::UnexpectedEof => Code::PackageTruncated.into(),
        SealError::Io(fault) => ParcelError::of_copying(fault),
        SealError::Damaged => Code::PackageDamaged.into(),
        other => other.into(),
    })?;
    file.finish()?;
    // What lay there from before a stop is believed only now.
    if lying.groups > 0 && tree::root(File::open(&lying.path)?)? != (part.root, part.length) {
        std::fs::remove_file(&lying.path)?;
        return Err(Code::Unreachable.into());
    }
    Ok(blobs.put_file(&lying.path, part.root)?)
}
