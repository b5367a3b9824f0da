//! The bucket that belongs to a store: each bears the other's mark. One that is another store's is neither read nor
//! swept, and what was moved to a bucket is not looked for in a folder.

use std::path::Path;

use handover_seal::{OsRandom, Secret32};

use super::bucket::Bucket;
use super::{BlobPlace, BlobSettings};
use crate::shared_folder::has_blobs;
use crate::{Blobs, Store, StoreError};

/// Where the store keeps the mark of its bucket.
const SPACE: &str = "blobs-bucket";
/// And the mark of one that it may use and that does not have them, or not all of them.
const CLAIMED_SPACE: &str = "blobs-bucket-claimed";
/// Where blobs lie below a folder that keeps them, and where the cache of a bucket does.
pub(super) const FOLDER: &str = "blobs";
const CACHE_FOLDER: &str = "blob-cache";

impl Blobs {
    /// Opens the blobs of a store where the configuration says: in the folder `shared`, or in a bucket with a cache in
    /// the folder `data`. Only who has the store may do so.
    ///
    /// # Errors
    /// [`StoreError::Settings`], [`StoreError::Lost`], [`StoreError::NotMoved`]; [`StoreError::Unavailable`].
    pub async fn open_of(
        store: &Store,
        settings: &BlobSettings,
        shared: &Path,
        data: &Path,
    ) -> Result<Self, StoreError> {
        if settings.place == BlobPlace::Folder {
            if store.bucket_mark().await?.is_some() {
                let reason = "the blobs of this store lie in a bucket: set [blobs] place = \"bucket\", or bring them \
                              back with `blobs copy`";
                return Err(StoreError::NotMoved { reason: reason.to_owned() });
            }
            return Self::open(&shared.join(FOLDER));
        }
        let bucket = settings.bucket()?;
        store.check_bucket(&bucket, &[shared, data]).await?;
        Self::open_cached(bucket, &data.join(CACHE_FOLDER), settings.cache_bytes()).await
    }
}

impl Store {
    /// The mark of the bucket where its blobs are; none while they are in a folder.
    pub(super) async fn bucket_mark(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.keys().space(SPACE).build();
        self.read(move |txn| txn.get(&key)).await
    }

    /// Its blobs are in the bucket with that mark.
    pub(super) async fn set_bucket_mark(&self, mark: Vec<u8>) -> Result<(), StoreError> {
        let (key, claimed) = (self.keys().space(SPACE).build(), self.keys().space(CLAIMED_SPACE).build());
        self.write(move |txn| {
            txn.remove(&claimed)?;
            txn.put(&key, mark.clone())
        })
        .await
    }

    /// Its blobs are in a folder again; the bucket is still one that it may copy them to.
    pub(super) async fn leave_bucket(&self, mark: Vec<u8>) -> Result<(), StoreError> {
        let (key, claimed) = (self.keys().space(SPACE).build(), self.keys().space(CLAIMED_SPACE).build());
        self.write(move |txn| {
            txn.remove(&key)?;
            txn.put(&claimed, mark.clone())
        })
        .await
    }

    /// Marks a bucket as one that this store may use; the mark. One that is another's is refused. What was begun goes on.
    pub(super) async fn claim(&self, bucket: &Bucket) -> Result<Vec<u8>, StoreError> {
        let key = self.keys().space(CLAIMED_SPACE).build();
        let (asked, found) = (key.clone(), bucket.mark().await?);
        let claimed = self.read(move |txn| txn.get(&asked)).await?;
        if let Some(mark) = found.clone().filter(|_| claimed == found) {
            return Ok(mark);
        }
        if found.is_some() || !bucket.is_empty().await? {
            return Err(StoreError::Lost {
                what: format!("{bucket} belongs to another store, and this one is new to it"),
                advice: "check endpoint, bucket and prefix of [blobs], and url_file and schema of [store]; for a new \
                         store, name an empty bucket or a prefix of its own",
            });
        }
        let mark = hex::encode(Secret32::generate(&mut OsRandom).expose()).into_bytes();
        // Here first: what is cut off in between goes on.
        let noted = mark.clone();
        self.write(move |txn| txn.put(&key, noted.clone())).await?;
        bucket.set_mark(&mark).await?;
        // Two stores that are shown one empty bucket at one moment: it is the last one's.
        if bucket.mark().await?.as_ref() != Some(&mark) {
            return Err(not_its_own(bucket));
        }
        bucket.require_mark(&mark);
        Ok(mark)
    }

    /// Refuses a bucket that does not belong to this store. The first one that is shown belongs to it, unless it is
    /// another store's, or what belongs there still lies in one of the folders.
    async fn check_bucket(&self, bucket: &Bucket, folders: &[&Path]) -> Result<(), StoreError> {
        if let Some(known) = self.bucket_mark().await? {
            bucket.require_mark(&known);
            return if bucket.mark().await? == Some(known) { Ok(()) } else { Err(not_its_own(bucket)) };
        }
        for folder in folders {
            if has_blobs(folder)? {
                let from = folder.join(FOLDER);
                let reason = format!(
                    "blobs lie in {}, and [blobs] says they lie in {bucket}: set place = \"folder\" again, and bring \
                     them there with `blobs copy`",
                    from.display()
                );
                return Err(StoreError::NotMoved { reason });
            }
        }
        let mark = self.claim(bucket).await?;
        self.set_bucket_mark(mark).await
    }
}

pub(super) fn not_its_own(bucket: &Bucket) -> StoreError {
    StoreError::Lost {
        what: format!("{bucket} is not the one that belongs to it"),
        advice: "set endpoint, bucket and prefix of [blobs] to the one that does; of a restored one, the object \
                 of-store belongs to it",
    }
}
