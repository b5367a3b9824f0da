//! The way of a blob into a bucket: in one go if it is short, else in parts that count only together. Its bytes are held
//! against its root on the way, so that nothing else ever has its name.
//!
//! An upload in parts is named by an object of its own while it is under way: one that a process left behind is given up
//! when the bucket is opened again, and takes no room for ever.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt as _};
use handover_core::ContentRoot;
use handover_seal::{OsRandom, Secret32};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore as _, ObjectStoreExt as _};

use super::blocking;
use super::bucket::{Bucket, gone};
use crate::StoreError;

/// What is sent in one go: at least that of a blob in parts.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// The most parts that a store of this kind takes.
const PARTS_MAX: u64 = 10_000;
/// Parts on their way at once.
const AT_ONCE: usize = 3;
/// What names the uploads that are under way.
const UPLOADS: &str = "uploads";
/// The most bytes of such a name's object.
const UPLOAD_MARK_MAX_BYTES: u64 = 4_096;

/// A file that is read from its beginning on.
struct Reading {
    file: Arc<File>,
    at_bytes: u64,
    hasher: blake3::Hasher,
}

impl Reading {
    fn of(file: File) -> Self {
        Self { file: Arc::new(file), at_bytes: 0, hasher: blake3::Hasher::new() }
    }

    async fn next(mut self, bytes: u64) -> Result<(Self, Bytes), StoreError> {
        let length = usize::try_from(bytes).map_err(|_| StoreError::TransactionTooLarge)?;
        blocking(move || {
            let mut piece = vec![0; length];
            self.file
                .read_exact_at(&mut piece, self.at_bytes)
                .map_err(StoreError::io("read a spool file"))?;
            self.hasher.update(&piece);
            self.at_bytes = self.at_bytes.saturating_add(bytes);
            Ok((self, piece.into()))
        })
        .await
    }

    fn require(&self, root: ContentRoot) -> Result<(), StoreError> {
        if self.hasher.finalize().as_bytes() == root.as_bytes() {
            return Ok(());
        }
        Err(StoreError::Damaged {
            what: "a file that was to be a blob".to_owned(),
            advice: "its disk gives back other bytes than were written: look at the disk, then try again",
        })
    }
}

impl Bucket {
    /// Puts a file there as the blob `root`. It is there for good when this returns.
    pub(super) async fn upload(&self, file: File, root: ContentRoot) -> Result<(), StoreError> {
        let bytes = file.metadata().map_err(StoreError::io("look at a spool file"))?.len();
        if bytes > PART_BYTES {
            return self.upload_parts(Reading::of(file), bytes, root).await;
        }
        let (read, content) = Reading::of(file).next(bytes).await?;
        read.require(root)?;
        self.require(self.store.put(&self.object(root), content.into())).await.map(drop)
    }

    async fn upload_parts(&self, reading: Reading, bytes: u64, root: ContentRoot) -> Result<(), StoreError> {
        let path = self.object(root);
        let id = self.require(self.store.create_multipart(&path)).await?;
        let mark = self.at(&format!("{UPLOADS}/{}", hex::encode(Secret32::generate(&mut OsRandom).expose())));
        let named = async {
            self.require(self.store.put(&mark, format!("{root}\n{id}").into())).await?;
            let parts = self.send_parts(reading, bytes, root, (&path, &id)).await?;
            match self.ask(self.store.complete_multipart(&path, &id, parts)).await? {
                Some(_) => Ok(()),
                // Asked again after an answer that was lost: what has the name is what was sent.
                None if self.len(root).await? == Some(bytes) => Ok(()),
                None => Err(gone()),
            }
        };
        if let Err(fault) = named.await {
            // What cannot be given up now is when the bucket is opened again.
            if self.ask(self.store.abort_multipart(&path, &id)).await.is_ok() {
                let _ = self.delete_at(&mark).await;
            }
            return Err(fault);
        }
        // It is there; a name that stays is of an upload that is over, and goes when the bucket is opened again.
        let _ = self.delete_at(&mark).await;
        Ok(())
    }

    async fn send_parts(
        &self,
        mut reading: Reading,
        bytes: u64,
        root: ContentRoot,
        (path, id): (&Path, &MultipartId),
    ) -> Result<Vec<PartId>, StoreError> {
        let part_bytes = PART_BYTES.max(bytes.div_ceil(PARTS_MAX));
        let (mut sending, mut sent) = (FuturesOrdered::new(), Vec::new());
        for number in 0.. {
            let left = bytes.saturating_sub(reading.at_bytes);
            if left == 0 {
                break;
            }
            let content;
            (reading, content) = reading.next(left.min(part_bytes)).await?;
            if sending.len() == AT_ONCE {
                sent.extend(sending.next().await.transpose()?);
            }
            sending.push_back(self.require(self.store.put_part(path, id, number, content.into())));
        }
        while let Some(part) = sending.next().await {
            sent.push(part?);
        }
        reading.require(root)?;
        Ok(sent)
    }

    /// Gives up every upload that is under way. Only who has the store may do so: another one's would be cut.
    pub(super) async fn sweep_uploads(&self) -> Result<(), StoreError> {
        let mut marks = self.store.list(Some(&self.at(UPLOADS)));
        while let Some(found) = marks.next().await {
            let found = self.require(async { found }).await?;
            let (mark, is_small) = (found.location, found.size <= UPLOAD_MARK_MAX_BYTES);
            // What is not of this room stays.
            let Some(said) = (if is_small { self.small(&mark).await? } else { None }) else { continue };
            let said = String::from_utf8_lossy(&said);
            let Some((root, id)) = said.split_once('\n') else { continue };
            let Ok(root) = root.parse() else { continue };
            self.ask(self.store.abort_multipart(&self.object(root), &id.to_owned())).await?;
            self.delete_at(&mark).await?;
        }
        Ok(())
    }
}
