//! A bucket: blobs as objects, and the mark that says whose they are. Every call waits so long and no longer.
//!
//! `content/ab/abcd…` are the blobs, `uploads/…` name uploads that are under way, `of-store` is the mark; all of them
//! behind the prefix.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use handover_core::ContentRoot;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _};

use super::web;
use crate::StoreError;

/// Says which store's blobs they are.
const MARK: &str = "of-store";
/// For how long it is believed that the bucket is there, once it was seen.
const SEEN_FOR: Duration = Duration::from_secs(1);
/// For how long it may be looked at whether the bucket answers.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// An object's content as it comes.
pub(super) type Coming = BoxStream<'static, Result<Bytes, StoreError>>;

pub(super) struct Bucket {
    pub(super) store: AmazonS3,
    prefix: String,
    name: String,
    /// The last that was asked was not answered.
    is_away: AtomicBool,
    /// When it was last seen that the bucket itself is there.
    seen: Mutex<Option<Instant>>,
    /// The mark that it has to bear, once that is known.
    required: OnceLock<Vec<u8>>,
}

/// Where it is; no credentials.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What was to be there is not.
pub(super) fn gone() -> StoreError {
    let reason = "there is no such bucket, or what was begun there is gone".to_owned();
    StoreError::Unavailable { doing: "write to the bucket", reason }
}

impl Bucket {
    pub(super) const fn new(store: AmazonS3, prefix: String, name: String) -> Self {
        let (is_away, seen) = (AtomicBool::new(false), Mutex::new(None));
        Self { store, prefix, name, is_away, seen, required: OnceLock::new() }
    }

    /// From now on one with another mark is another bucket.
    pub(super) fn require_mark(&self, mark: &[u8]) {
        let _ = self.required.set(mark.to_vec());
    }

    fn is_it(&self, mark: Option<&Vec<u8>>) -> bool {
        mark.is_some_and(|mark| self.required.get().is_none_or(|required| required == mark))
    }

    /// Whether it did not answer when it was last asked.
    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    /// Asks it something small, and says whether it answers.
    pub(super) async fn look(&self) -> bool {
        let looked = tokio::time::timeout(LOOK_LIMIT, self.mark()).await;
        match looked {
            Ok(Ok(mark)) if self.is_it(mark.as_ref()) => true,
            Ok(Ok(_)) => {
                self.away("its mark is gone, or it is another bucket");
                false
            }
            Ok(Err(_)) => false,
            Err(_) => {
                self.away("no answer");
                false
            }
        }
    }

    /// The mark of the store that it belongs to.
    pub(super) async fn mark(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let mark = self.small(&self.at(MARK)).await?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            mark.as_ref().filter(|it| self.is_it(Some(it))).map(|_| Instant::now());
        Ok(mark)
    }

    /// Marks it as a store's.
    pub(super) async fn set_mark(&self, mark: &[u8]) -> Result<(), StoreError> {
        self.require(self.store.put(&self.at(MARK), mark.to_vec().into())).await.map(drop)
    }

    /// A blob's length, if it is there.
    pub(super) async fn len(&self, root: ContentRoot) -> Result<Option<u64>, StoreError> {
        match self.ask(self.store.head(&self.object(root))).await? {
            Some(meta) => Ok(Some(meta.size)),
            None => self.require_seen().await.map(|()| None),
        }
    }

    /// A blob's length and its content, if it is there.
    pub(super) async fn get(&self, root: ContentRoot) -> Result<Option<(u64, Coming)>, StoreError> {
        let Some(found) = self.ask(self.store.get(&self.object(root))).await? else {
            return self.require_seen().await.map(|()| None);
        };
        let bytes = found.meta.size;
        let coming = found.into_stream().map(|piece| {
            piece.map_err(|error| StoreError::Unavailable {
                doing: "read from the bucket",
                reason: web::reason(&error),
            })
        });
        Ok(Some((bytes, coming.boxed())))
    }

    /// Removes a blob; nothing happens if it is not there.
    pub(super) async fn delete(&self, root: ContentRoot) -> Result<(), StoreError> {
        self.delete_at(&self.object(root)).await
    }

    pub(super) async fn delete_at(&self, path: &Path) -> Result<(), StoreError> {
        self.ask(self.store.delete(path)).await.map(drop)
    }

    /// Whether nothing at all lies behind the prefix.
    pub(super) async fn is_empty(&self) -> Result<bool, StoreError> {
        let behind = (!self.prefix.is_empty()).then(|| Path::from(self.prefix.as_str()));
        match self.store.list(behind.as_ref()).next().await {
            Some(found) => self.require(async { found }).await.map(|_| false),
            None => Ok(true),
        }
    }

    /// Every blob, in no order. Objects whose name is no root are passed over.
    pub(super) fn list(&self) -> BoxStream<'static, Result<ContentRoot, StoreError>> {
        let listed = self.store.list(Some(&self.at("content")));
        let roots = listed.filter_map(|found| async move {
            match found {
                Ok(meta) => meta.location.filename()?.parse().ok().map(Ok),
                Err(error) => Some(Err(StoreError::Unavailable {
                    doing: "list the bucket",
                    reason: web::reason(&error),
                })),
            }
        });
        roots.boxed()
    }

    /// All of a small object, if it is there.
    pub(super) async fn small(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let asked = async { self.store.get(path).await?.bytes().await };
        Ok(self.ask(asked).await?.map(Into::into))
    }

    pub(super) fn object(&self, root: ContentRoot) -> Path {
        let name = root.to_string();
        self.at(&format!("content/{}/{name}", super::fan_of(&name)))
    }

    pub(super) fn at(&self, name: &str) -> Path {
        Path::from(format!("{}{name}", self.prefix))
    }

    /// What was asked for; nothing if there is no such object.
    pub(super) async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, StoreError> {
        let reason = match asked.await {
            Ok(answer) => {
                self.came_back();
                return Ok(Some(answer));
            }
            // That the bucket itself is gone is told by its words alone, if there are any.
            Err(Error::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => {
                return Ok(None);
            }
            Err(error) => web::reason(&error),
        };
        self.away(&reason);
        Err(StoreError::Unavailable { doing: "reach the bucket", reason })
    }

    /// What was asked for, which has to be there.
    pub(super) async fn require<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        self.ask(asked).await?.ok_or_else(gone)
    }

    /// Refuses to take for missing what is not there because the bucket is not.
    async fn require_seen(&self) -> Result<(), StoreError> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some_and(|at| at.elapsed() < SEEN_FOR) || self.is_it(self.mark().await?.as_ref()) {
            return Ok(());
        }
        let reason = "its mark is gone, or it is another bucket";
        self.away(reason);
        Err(StoreError::Unavailable { doing: "find the blobs in the bucket", reason: reason.to_owned() })
    }

    fn away(&self, reason: &str) {
        if !self.is_away.swap(true, Ordering::AcqRel) {
            tracing::warn!(bucket = %self, reason, "the bucket does not answer; trying again");
        }
    }

    fn came_back(&self) {
        if self.is_away.swap(false, Ordering::AcqRel) {
            tracing::info!(bucket = %self, "the bucket is back");
        }
    }
}
