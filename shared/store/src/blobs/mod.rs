//! Blobs: sealed content, named by the BLAKE3 root of its ciphertext, as files in a folder or as objects in a bucket.
//!
//! Invariants: what has a blob's name is complete and durable (in a folder: written elsewhere, synced, renamed, folder
//! synced; in a bucket: acknowledged), so it may be named in a transaction right after [`Blobs::put`]. Putting the same
//! content again changes nothing. Memory stays constant whatever the size. This module must not know how content is
//! sealed.
//!
//! `content/ab/abcd…` holds the blobs, or those of a bucket that are used at the moment; `spool/` holds files that are
//! being written.

mod backing;
mod belonging;
mod bucket;
mod cache;
mod copying;
mod settings;
mod spool;
mod trees;
mod uploads;
mod web;

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use handover_core::ContentRoot;
use handover_seal::{OsRandom, Secret32};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use self::backing::Backing;
use self::bucket::Bucket;
use self::cache::Cache;
pub use self::copying::{BlobsCopied, copy_blobs};
pub use self::settings::{BlobPlace, BlobSettings};
pub use self::spool::Spool;
use crate::StoreError;
use crate::sled_engine::ROOM_BYTES;
use crate::sled_files::{make_private_folder, sync_folder};

/// What is read in one go when a blob is verified.
const VERIFY_BYTES: usize = 256 * 1024;

/// The blobs of one store. Clones are the same. One process per folder or bucket: whoever holds the store's lock. One that
/// had it before and does not know yet that it is another's does not spoil what goes on: its spooled files have names of
/// their own.
#[derive(Clone)]
pub struct Blobs {
    content: Arc<LocalFileSystem>,
    content_folder: Arc<Path>,
    spool_folder: Arc<Path>,
    spooled: Arc<AtomicU64>,
    /// What the names of this opening's spooled files begin with.
    spooler: Arc<str>,
    /// Where they are kept, if not in the folder.
    backing: Option<Arc<Backing>>,
}

impl Blobs {
    /// Opens the blobs in `folder`, which is made if it is not there. Files that an earlier process left in the
    /// spool are removed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let content_folder = folder.join("content");
        let spool_folder = folder.join("spool");
        make_private_folder(&content_folder)?;
        make_private_folder(&spool_folder)?;
        let io = StoreError::io("clean the spool");
        for entry in fs::read_dir(&spool_folder).map_err(&io)? {
            fs::remove_file(entry.map_err(&io)?.path()).map_err(&io)?;
        }
        sync_folder(folder)?;
        let content = LocalFileSystem::new_with_prefix(&content_folder)
            .map_err(|error| unavailable("open the blobs", &error))?
            .with_fsync(true);
        Ok(Self {
            content: Arc::new(content),
            content_folder: content_folder.into(),
            spool_folder: spool_folder.into(),
            spooled: Arc::default(),
            spooler: hex::encode(Secret32::generate(&mut OsRandom).expose()).into(),
            backing: None,
        })
    }

    /// Opens the blobs in a bucket, with a cache of so many bytes in `folder`. What an earlier process began to upload
    /// is given up.
    async fn open_cached(bucket: Bucket, folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let files = Self::open(folder)?;
        let cache = Cache::open(&files.content_folder, cache_bytes)?;
        let backing = Backing::open(bucket, cache).await?;
        Ok(Self { backing: Some(backing), ..files })
    }

    /// Whether the bucket that keeps them did not answer when it was last asked. It is tried again by itself.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.backing.as_ref().is_some_and(|backing| backing.bucket.is_away())
    }

    /// A fresh file to write sealed content to.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn spool(&self) -> Result<Spool, StoreError> {
        let number = self.spooled.fetch_add(1, Ordering::Relaxed);
        let path = self.spool_folder.join(format!("{}-{number:x}", self.spooler));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(StoreError::io("make a spool file"))?;
        Ok(Spool { file, path, is_kept: false })
    }

    /// The folder of the spool, on the same file system as the blobs.
    #[must_use]
    pub fn spool_dir(&self) -> &Path {
        &self.spool_folder
    }

    /// Keeps a spooled file as the blob `root`. Durable when it returns. The caller has computed `root` over
    /// what is in the file.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; [`StoreError::Damaged`] if the disk gives back something else.
    pub async fn put(&self, spool: Spool, root: ContentRoot) -> Result<(), StoreError> {
        if let Some(backing) = &self.backing {
            let file = spool.file.try_clone().map_err(StoreError::io("read a spool file"))?;
            backing.bucket.upload(file, root).await?;
        }
        let blobs = self.clone();
        blocking(move || {
            blobs.keep(&spool.file, &spool.path, root)?;
            let _ = spool.keep();
            Ok(())
        })
        .await
    }

    /// As [`Blobs::put`] for a file by its path, which has to be in [`Blobs::spool_dir`] or on its file system.
    /// Blocking.
    ///
    /// # Errors
    /// As [`Blobs::put`].
    pub fn put_file(&self, path: &Path, root: ContentRoot) -> Result<(), StoreError> {
        let open = || File::open(path).map_err(StoreError::io("open a spool file"));
        let file = open()?;
        if let Some(backing) = &self.backing {
            backing.wait(backing.bucket.upload(open()?, root))?;
        }
        self.keep(&file, path, root)
    }

    /// Renaming over what is there already is as good as leaving it, and repairs it if it was damaged.
    fn keep(&self, file: &File, path: &Path, root: ContentRoot) -> Result<(), StoreError> {
        let io = StoreError::io("keep a blob");
        if let Some(backing) = &self.backing {
            // It is in the bucket: a cache that does not take it loses nothing.
            let bytes = file.metadata().map_or(0, |it| it.len());
            let kept = backing.cache.take_in(bytes).and_then(|()| self.keep_cached(path, root));
            return kept.or_else(|fault| {
                tracing::debug!(%fault, "a blob is not kept in the cache");
                cache::remove(path)
            });
        }
        file.sync_all().map_err(&io)?;
        let target = self.local_path(root);
        let Some(fan) = target.parent() else { return Err(StoreError::UnknownBlob) };
        if !fan.is_dir() {
            make_private_folder(fan)?;
            sync_folder(&self.content_folder)?;
        }
        fs::rename(path, &target).map_err(&io)?;
        sync_folder(fan)
    }

    /// Where a blob lies, or its copy in the cache, whether or not it is there.
    #[must_use]
    pub fn local_path(&self, root: ContentRoot) -> PathBuf {
        let name = root.to_string();
        self.content_folder.join(fan_of(&name)).join(&name)
    }

    /// A blob, opened for reading from its beginning; fetched first if it is kept elsewhere. What is open stays readable
    /// whatever becomes of the blob.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlob`] or [`StoreError::Unavailable`]; [`StoreError::Damaged`] if what was fetched is not
    /// what its name says, [`StoreError::Full`] if there is no room for it.
    pub async fn reader(&self, root: ContentRoot) -> Result<File, StoreError> {
        let blobs = self.clone();
        let lying = blocking(move || blobs.lying(root)).await;
        match (&self.backing, lying) {
            (Some(backing), Err(StoreError::UnknownBlob)) => self.fetch(backing, root, false).await,
            (_, lying) => lying,
        }
    }

    /// The same for who may block.
    ///
    /// # Errors
    /// As [`Blobs::reader`].
    pub fn open_blob(&self, root: ContentRoot) -> Result<File, StoreError> {
        match (&self.backing, self.lying(root)) {
            (Some(backing), Err(StoreError::UnknownBlob)) => backing.wait(self.fetch(backing, root, false)),
            (_, lying) => lying,
        }
    }

    /// The file that lies here.
    fn lying(&self, root: ContentRoot) -> Result<File, StoreError> {
        let file = open_blob(&self.local_path(root))?;
        if self.backing.is_some() {
            cache::touch(&file);
        }
        Ok(file)
    }

    /// A blob's length in bytes, or `None` if it is not here.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn len(&self, root: ContentRoot) -> Result<Option<u64>, StoreError> {
        if let Some(backing) = &self.backing {
            return backing.bucket.len(root).await;
        }
        match self.content.head(&location(root)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable("look at a blob", &error)),
        }
    }

    /// Whether a blob is here.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn exists(&self, root: ContentRoot) -> Result<bool, StoreError> {
        Ok(self.len(root).await?.is_some())
    }

    /// Removes a blob and its tree; nothing happens if it is not here. Remove the transaction's name for it first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete(&self, root: ContentRoot) -> Result<(), StoreError> {
        if let Some(backing) = &self.backing {
            backing.bucket.delete(root).await?;
        }
        self.delete_tree(root)?;
        match self.content.delete(&location(root)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable("remove a blob", &error)),
        }
    }

    /// Refuses what would take the room that is kept free.
    fn require_room(&self, bytes: u64) -> Result<(), StoreError> {
        let free_bytes = self.free_bytes()?;
        if free_bytes < bytes.saturating_add(ROOM_BYTES) {
            Err(StoreError::Full { free_bytes })
        } else {
            Ok(())
        }
    }

    /// What is free on the disk where the blobs or their cache lie, in bytes, for who may not take what is kept for the system.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        free_bytes(&self.content_folder)
    }

    /// Every blob, in no order. Files whose name is no root are passed over.
    pub fn list(&self) -> BoxStream<'static, Result<ContentRoot, StoreError>> {
        if let Some(backing) = &self.backing {
            return backing.bucket.list();
        }
        self.content
            .list(None)
            .filter_map(|found| async move {
                match found {
                    Ok(meta) => meta.location.filename()?.parse().ok().map(Ok),
                    Err(error) => Some(Err(unavailable("list the blobs", &error))),
                }
            })
            .boxed()
    }

    /// Whether a blob's bytes still have its root. Reads all of it, in constant memory; from a bucket it is fetched
    /// anew, whatever the cache has.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlob`] or [`StoreError::Unavailable`].
    pub async fn verify(&self, root: ContentRoot) -> Result<bool, StoreError> {
        if let Some(backing) = &self.backing {
            return match self.fetch(backing, root, true).await {
                Err(StoreError::Damaged { .. }) => Ok(false),
                fetched => fetched.map(|_| true),
            };
        }
        let path = self.local_path(root);
        blocking(move || {
            let mut file = open_blob(&path)?;
            let mut hasher = blake3::Hasher::new();
            let mut buffer = vec![0; VERIFY_BYTES];
            loop {
                let read = file.read(&mut buffer).map_err(StoreError::io("read a blob"))?;
                if read == 0 {
                    return Ok(hasher.finalize().as_bytes() == root.as_bytes());
                }
                hasher.update(buffer.get(..read).unwrap_or_default());
            }
        })
        .await
    }
}

fn fan_of(name: &str) -> &str {
    name.get(..2).unwrap_or(name)
}

fn location(root: ContentRoot) -> object_store::path::Path {
    let name = root.to_string();
    object_store::path::Path::from(format!("{}/{name}", fan_of(&name)))
}

fn open_blob(path: &Path) -> Result<File, StoreError> {
    File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::UnknownBlob,
        _ => StoreError::io("open a blob")(error),
    })
}

/// The operating system's words alone: a path with a root in a log would tell which content was touched.
fn unavailable(doing: &'static str, error: &object_store::Error) -> StoreError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return StoreError::io(doing)(std::io::Error::from(io.kind()));
        }
        cause = error.source();
    }
    StoreError::Unavailable { doing, reason: "the file system refused".to_owned() }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Panicked))
}

/// What is free on the disk that a folder lies on.
pub(crate) fn free_bytes(folder: &Path) -> Result<u64, StoreError> {
    let found =
        rustix::fs::statvfs(folder).map_err(|fault| StoreError::io("look at the disk")(fault.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn root(content: &[u8]) -> ContentRoot {
        ContentRoot::from_bytes(*blake3::hash(content).as_bytes())
    }

    fn spooled(blobs: &Blobs, content: &[u8]) -> Spool {
        let mut spool = blobs.spool().unwrap();
        spool.file().write_all(content).unwrap();
        spool
    }

    fn spool_files(blobs: &Blobs) -> usize {
        fs::read_dir(blobs.spool_dir()).unwrap().count()
    }

    #[tokio::test]
    async fn a_blob_is_put_read_listed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let content = vec![7; 200_000];
        let root = root(&content);
        assert_eq!(blobs.len(root).await.unwrap(), None);
        assert!(matches!(blobs.reader(root).await, Err(StoreError::UnknownBlob)));
        for _ in 0..2 {
            blobs.put(spooled(&blobs, &content), root).await.unwrap();
        }
        blobs.put_file(&spooled(&blobs, &content).keep(), root).unwrap();
        assert_eq!(blobs.len(root).await.unwrap(), Some(200_000));
        let mut read = Vec::new();
        blobs.reader(root).await.unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
        let listed: Vec<_> = blobs.list().map(Result::unwrap).collect().await;
        assert_eq!(listed, [root]);
        assert!(blobs.verify(root).await.unwrap());
        fs::write(blobs.local_path(root), b"altered").unwrap();
        assert!(!blobs.verify(root).await.unwrap());
        blobs.put(spooled(&blobs, &content), root).await.unwrap();
        assert!(blobs.verify(root).await.unwrap(), "putting it again repairs it");
        blobs.delete(root).await.unwrap();
        blobs.delete(root).await.unwrap();
        assert!(!blobs.exists(root).await.unwrap());
        assert_eq!(spool_files(&blobs), 0);
    }

    #[test]
    fn spooled_files_go_when_dropped_or_stale() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        drop(spooled(&blobs, b"dropped"));
        assert_eq!(spool_files(&blobs), 0);
        let kept = spooled(&blobs, b"kept").keep();
        assert!(kept.exists());
        let blobs = Blobs::open(folder.path()).unwrap();
        assert_eq!(spool_files(&blobs), 0, "left by an earlier process");
    }
}
