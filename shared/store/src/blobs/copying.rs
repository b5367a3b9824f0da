//! Blobs are copied from their folder to a bucket, or back. What was copied is held against its root on the way, and a
//! copy that was cut off goes on with what is missing.
//!
//! Invariant: the store says where its blobs are, and says otherwise only when all of them are there. What lies where
//! they were is left as it is, and nothing is deleted at either place.

use std::fs::File;
use std::path::Path;

use futures::StreamExt as _;
use handover_core::ContentRoot;

use super::belonging::FOLDER;
use super::bucket::Bucket;
use super::{BlobPlace, BlobSettings, backing, blocking, open_blob};
use crate::{Blobs, Store, StoreError};

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobsCopied {
    /// Where from, and where to.
    pub from: String,
    /// Where to.
    pub to: String,
    /// The blobs that lie there now.
    pub blobs: u64,
    /// Those that were not what their names say, or were gone meanwhile: they were not copied.
    pub damaged: u64,
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
    mut progress: impl FnMut(u64) + Send,
) -> Result<BlobsCopied, StoreError> {
    let (folder, bucket) = (shared.join(FOLDER), settings.bucket()?);
    let (known, found) = (store.bucket_mark().await?, bucket.mark().await?);
    let files = Blobs::open(&folder)?;
    let places = (folder.display().to_string(), bucket.to_string());
    let mut copied = Copied::default();
    match (to, known) {
        (BlobPlace::Bucket, None) => {
            let mark = store.claim(&bucket).await?;
            bucket.sweep_uploads().await?;
            copied.put_all(&files, &bucket, &mut progress).await?;
            store.set_bucket_mark(mark).await?;
            Ok(copied.into_report(places))
        }
        (BlobPlace::Folder, Some(known)) if Some(&known) == found.as_ref() => {
            copied.bring_all(&files, &bucket, &mut progress).await?;
            store.leave_bucket(known).await?;
            Ok(copied.into_report((places.1, places.0)))
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

#[derive(Default)]
struct Copied {
    looked_at: u64,
    damaged: u64,
}

impl Copied {
    fn into_report(self, (from, to): (String, String)) -> BlobsCopied {
        let Self { looked_at, damaged } = self;
        BlobsCopied { from, to, blobs: looked_at.saturating_sub(damaged), damaged }
    }

    fn count(
        &mut self,
        outcome: Result<(), StoreError>,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), StoreError> {
        match outcome {
            Err(StoreError::Damaged { .. } | StoreError::UnknownBlob) => {
                self.damaged = self.damaged.saturating_add(1);
            }
            outcome => outcome?,
        }
        self.looked_at = self.looked_at.saturating_add(1);
        progress(self.looked_at);
        Ok(())
    }

    async fn put_all(
        &mut self,
        files: &Blobs,
        bucket: &Bucket,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let mut listed = files.list();
        while let Some(root) = listed.next().await.transpose()? {
            let outcome = match (files.len(root).await?, bucket.len(root).await?) {
                (Some(here), Some(there)) if here == there => Ok(()),
                _ => match open_blob(&files.local_path(root)) {
                    Ok(file) => bucket.upload(file, root).await,
                    Err(fault) => Err(fault),
                },
            };
            self.count(outcome, progress)?;
        }
        Ok(())
    }

    async fn bring_all(
        &mut self,
        files: &Blobs,
        bucket: &Bucket,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), StoreError> {
        let mut listed = bucket.list();
        while let Some(root) = listed.next().await.transpose()? {
            let outcome = match (files.len(root).await?, bucket.len(root).await?) {
                // From before they were in the bucket, whatever has become of it since.
                (Some(here), Some(there)) if here == there && files.verify(root).await? => Ok(()),
                _ => bring(files, bucket, root).await,
            };
            self.count(outcome, progress)?;
        }
        Ok(())
    }
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
