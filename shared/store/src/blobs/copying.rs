//! Blobs are copied from their folder to a bucket, or back. What was copied is held against its root on the way, and a
//! copy that was cut off goes on with what is missing.
//!
//! Invariant: the store says where its blobs are, and says otherwise only when all of them are there. What lies where
//! they were is left as it is, and nothing is deleted at either place.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use futures::StreamExt as _;
use handover_core::ContentRoot;
use serde::Serialize;

use super::belonging::FOLDER;
use super::bucket::Bucket;
use super::{BlobPlace, BlobSettings, backing, blocking, open_blob};
use crate::{Blobs, Store, StoreError};

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlobsCopied {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// What that is.
    pub place: BlobPlace,
    /// The blobs that lie there now.
    pub blobs: u64,
    /// Those that were not what their names say, or were gone meanwhile: they were not copied.
    pub damaged: u64,
}

impl BlobsCopied {
    /// Tells a person what was copied, and what comes next. `of_damaged` says who knows more of damaged ones.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn tell(&self, out: &mut dyn Write, of_damaged: &str) -> io::Result<()> {
        let Self { from, to, place, blobs, damaged } = self;
        writeln!(out, "{blobs} blobs: in {to} now")?;
        if *damaged > 0 {
            writeln!(out, "{damaged} were damaged in {from}, and were not copied{of_damaged}")?;
        }
        writeln!(out, "What lies in {from} was left as it is. Keep it until you have looked at the copy.")?;
        writeln!(out, "Next: set place = \"{place}\" under [blobs] in the configuration, then start.")
    }
}

/// Copies all blobs of a store, which nobody else has open, to the other place. From then on they are there. `progress`
/// is told how many were looked at.
///
/// # Errors
/// [`StoreError::NotMoved`] if they are there already, [`StoreError::Lost`] if the bucket is another store's;
/// [`StoreError::Settings`], [`StoreError::Unavailable`].
pub async fn copy_blobs(
    store: &Store,
    settings: &BlobSettings,
    to: BlobPlace,
    shared: &Path,
    progress: impl FnMut(u64) + Send,
) -> Result<BlobsCopied, StoreError> {
    let (folder, bucket) = (shared.join(FOLDER), settings.bucket()?);
    let (known, found) = (store.bucket_mark().await?, bucket.mark().await?);
    let files = Blobs::open(&folder)?;
    let places = (folder.display().to_string(), bucket.to_string());
    match (to, known) {
        (BlobPlace::Bucket, None) => {
            let mark = store.claim(&bucket).await?;
            bucket.sweep_uploads().await?;
            let (blobs, damaged) = copy_all(&files, &bucket, to, progress).await?;
            store.set_bucket_mark(mark).await?;
            Ok(BlobsCopied { from: places.0, to: places.1, place: to, blobs, damaged })
        }
        (BlobPlace::Folder, Some(known)) if Some(&known) == found.as_ref() => {
            let (blobs, damaged) = copy_all(&files, &bucket, to, progress).await?;
            store.leave_bucket(known).await?;
            Ok(BlobsCopied { from: places.1, to: places.0, place: to, blobs, damaged })
        }
        (BlobPlace::Folder, Some(_)) => Err(super::belonging::not_its_own(&bucket)),
        (BlobPlace::Bucket, Some(_)) => Err(already("bucket")),
        (BlobPlace::Folder, None) => Err(already("folder")),
    }
}

fn already(place: &str) -> StoreError {
    let reason = format!("the blobs lie in the {place} already: set [blobs] place = \"{place}\"");
    StoreError::NotMoved { reason }
}

/// Copies to `to` what is not there yet: how many blobs are there now, and how many were damaged.
async fn copy_all(
    files: &Blobs,
    bucket: &Bucket,
    to: BlobPlace,
    mut progress: impl FnMut(u64) + Send,
) -> Result<(u64, u64), StoreError> {
    let (mut copied, mut damaged) = (0_u64, 0_u64);
    let mut listed = match to {
        BlobPlace::Bucket => files.list(),
        BlobPlace::Folder => bucket.list(),
    };
    while let Some(root) = listed.next().await.transpose()? {
        let in_folder = files.len(root).await?;
        let is_in_both = in_folder.is_some() && in_folder == bucket.len(root).await?;
        let outcome = match to {
            BlobPlace::Bucket if is_in_both => Ok(()),
            BlobPlace::Bucket => take(files, bucket, root).await,
            // From before they were in the bucket, whatever has become of it since.
            BlobPlace::Folder if is_in_both && files.verify(root).await? => Ok(()),
            BlobPlace::Folder => bring(files, bucket, root).await,
        };
        match outcome {
            Ok(()) => copied = copied.saturating_add(1),
            Err(StoreError::Damaged { .. } | StoreError::UnknownBlob) => damaged = damaged.saturating_add(1),
            Err(fault) => return Err(fault),
        }
        progress(copied.saturating_add(damaged));
    }
    Ok((copied, damaged))
}

async fn take(files: &Blobs, bucket: &Bucket, root: ContentRoot) -> Result<(), StoreError> {
    bucket.upload(open_blob(&files.local_path(root))?, root).await
}

async fn bring(files: &Blobs, bucket: &Bucket, root: ContentRoot) -> Result<(), StoreError> {
    let (bytes, coming) = bucket.get(root).await?.ok_or(StoreError::UnknownBlob)?;
    files.require_room(bytes)?;
    let spool = files.spool()?;
    let path = spool.path().to_owned();
    let file = blocking(move || {
        File::options().write(true).open(path).map_err(StoreError::io("write a spool file"))
    });
    backing::write(coming, bytes, root, file.await?).await?;
    files.put(spool, root).await
}
