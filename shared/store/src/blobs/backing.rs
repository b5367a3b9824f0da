//! Blobs that are kept in a bucket, with files in front of it: who reads one reads a file, which is fetched first if it
//! is not there.
//!
//! Invariant: what has a blob's name in the cache was held against its root when it came.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Seek as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use handover_core::ContentRoot;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::sync::Mutex as Turn;

use super::bucket::{Bucket, Coming};
use super::cache::{self, Cache};
use super::{Blobs, blocking};
use crate::StoreError;
use crate::sled_files::make_private_folder;

/// How often it is looked whether the bucket answers.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Backing {
    pub(super) bucket: Bucket,
    pub(super) cache: Cache,
    runtime: Handle,
    /// Blobs that are being fetched, so that each is fetched once.
    fetching: Mutex<HashMap<ContentRoot, Arc<Turn<()>>>>,
}

impl Backing {
    /// In front of a bucket of which this process has the store.
    pub(super) async fn open(bucket: Bucket, cache: Cache) -> Result<Arc<Self>, StoreError> {
        bucket.sweep_uploads().await?;
        let backing = Self { bucket, cache, runtime: Handle::current(), fetching: Mutex::default() };
        let backing = Arc::new(backing);
        tokio::spawn(look(Arc::downgrade(&backing)));
        Ok(backing)
    }

    /// For who may block: waits for the answer.
    pub(super) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| self.runtime.block_on(answer))
    }

    fn turn(&self, root: ContentRoot) -> Arc<Turn<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(fetching.entry(root).or_default())
    }
}

/// Looks every few seconds, so that `/health` knows of a bucket that is away before anybody needs it.
async fn look(backing: Weak<Backing>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(backing) = backing.upgrade() else { return };
        backing.bucket.look().await;
    }
}

impl Blobs {
    /// Fetches a blob into the cache; with `anew` also if it lies there.
    pub(super) async fn fetch(
        &self,
        backing: &Arc<Backing>,
        root: ContentRoot,
        anew: bool,
    ) -> Result<File, StoreError> {
        let turn = backing.turn(root);
        let _held = turn.lock().await;
        let path = self.local_path(root);
        if !anew && let Ok(file) = File::open(&path) {
            return Ok(file);
        }
        let Some((bytes, coming)) = backing.bucket.get(root).await? else {
            self.remove_cached(&path, root)?;
            return Err(StoreError::UnknownBlob);
        };
        let making = Arc::clone(backing);
        blocking(move || making.cache.make_room(bytes)).await?;
        let mut spool = self.spool()?;
        let file = spool.file().try_clone().map_err(StoreError::io("write a spool file"))?;
        if let Err(fault) = write(coming, bytes, root, file).await {
            if matches!(fault, StoreError::Damaged { .. }) {
                self.remove_cached(&path, root)?;
            }
            return Err(fault);
        }
        let spooled = spool.path().to_owned();
        let (kept, mut read) =
            (self.clone(), spool.file().try_clone().map_err(StoreError::io("read a blob"))?);
        blocking(move || {
            kept.keep_cached(&spooled, root)?;
            let _ = spool.keep();
            // Not by its name, which may have had to go again already.
            read.rewind().map_err(StoreError::io("read a blob"))?;
            Ok(read)
        })
        .await
    }

    /// What the bucket does not have is not here either; nor is its tree, which would speak for it.
    fn remove_cached(&self, path: &Path, root: ContentRoot) -> Result<(), StoreError> {
        cache::remove(path)?;
        self.delete_tree(root)
    }

    /// Gives a file a blob's name in the cache. The name need not be durable, what it names has to be: a loss of power must
    /// not leave it to something else.
    pub(super) fn keep_cached(&self, path: &Path, root: ContentRoot) -> Result<(), StoreError> {
        let target = self.local_path(root);
        if let Some(fan) = target.parent().filter(|fan| !fan.is_dir()) {
            make_private_folder(fan)?;
        }
        let io = StoreError::io("keep a blob");
        File::open(path).and_then(|file| file.sync_data()).map_err(&io)?;
        fs::rename(path, &target).map_err(&io)
    }
}

/// Writes what comes, at most so many bytes, and holds it against its root. Blocking writes are passed on in large
/// pieces.
pub(super) async fn write(
    mut coming: Coming,
    bytes: u64,
    root: ContentRoot,
    file: File,
) -> Result<(), StoreError> {
    let io = StoreError::io("write a spool file");
    let mut file = tokio::io::BufWriter::with_capacity(1024 * 1024, tokio::fs::File::from_std(file));
    let (mut hasher, mut left) = (blake3::Hasher::new(), bytes);
    while let Some(piece) = coming.next().await {
        let piece: Bytes = piece?;
        left = left.checked_sub(piece.len() as u64).ok_or_else(damaged)?;
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(&io)?;
    }
    file.flush().await.map_err(&io)?;
    if hasher.finalize().as_bytes() == root.as_bytes() { Ok(()) } else { Err(damaged()) }
}

fn damaged() -> StoreError {
    StoreError::Damaged {
        what: "a blob in the bucket".to_owned(),
        advice: "it is not what was put there: restore it from a copy of the bucket, or let it be sent again",
    }
}
