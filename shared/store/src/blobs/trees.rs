//! The hash trees of blobs: what a sender needs beside the content, so that it neither reads the content twice nor
//! starts over when a transfer goes on. A long blob's lies beside it; it follows from the content, so that one that is
//! lost or damaged is only made again.
//!
//! Invariant: what goes out is verified against the blob's name, whatever the tree says.

use std::fs::{self, File, OpenOptions};
use std::io::BufReader;
use std::path::PathBuf;

use handover_core::ContentRoot;
use handover_seal::SealError;
use handover_seal::tree::{self, Outboard};

use super::cache;
use crate::{Blobs, StoreError};

/// Trees of shorter blobs are made each time.
const KEPT_FROM_BYTES: u64 = 4 * 1024 * 1024;
/// What is read of a blob in one go.
const READ_BYTES: usize = 256 * 1024;

impl Blobs {
    /// A blob's tree, made if it is not there; nothing if the blob is not, or is not what its name says. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn tree(&self, root: ContentRoot, blob_bytes: u64) -> Result<Option<Outboard>, StoreError> {
        let io = StoreError::io("read a blob's tree");
        let path = self.tree_path(root);
        if blob_bytes >= KEPT_FROM_BYTES
            && let Ok(hashes) = File::open(&path)
            && hashes.metadata().map_err(&io)?.len() == tree::outboard_bytes(blob_bytes)
        {
            return Ok(Some(Outboard::from_file(&root, blob_bytes, hashes)));
        }
        let blob = match self.open_blob(root) {
            Err(StoreError::UnknownBlob | StoreError::Damaged { .. }) => return Ok(None),
            other => BufReader::with_capacity(READ_BYTES, other?),
        };
        let is_whole = |made: Result<ContentRoot, SealError>| match made {
            Ok(made) => Ok(made == root),
            Err(SealError::Cut) => Ok(false),
            Err(SealError::Io(fault)) => Err(io(fault)),
            Err(_) => Err(StoreError::UnknownBlob),
        };
        if blob_bytes < KEPT_FROM_BYTES {
            let mut tree = None;
            let made = tree::outboard(blob, blob_bytes).map(|(root, made)| {
                tree = Some(made);
                root
            });
            return Ok(if is_whole(made)? { tree } else { None });
        }
        // Under a name of its own until it is whole: two may make it at once.
        let spool = self.spool()?;
        let hashes = OpenOptions::new().read(true).write(true).open(spool.path()).map_err(&io)?;
        if !is_whole(tree::write_outboard(blob, blob_bytes, hashes.try_clone().map_err(&io)?))? {
            return Ok(None);
        }
        fs::rename(spool.keep(), &path).map_err(&io)?;
        Ok(Some(Outboard::from_file(&root, blob_bytes, hashes)))
    }

    /// What was read of a blob or its tree is not what its name says: removes what can be had again, the tree and a copy
    /// from a bucket. Whether the blob itself is in doubt: one that is kept elsewhere is only when it is fetched again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn doubt(&self, root: ContentRoot) -> Result<bool, StoreError> {
        self.delete_tree(root)?;
        if self.backing.is_some() {
            cache::remove(&self.local_path(root))?;
        }
        Ok(self.backing.is_none())
    }

    /// Removes a blob's tree, if there is one.
    pub(super) fn delete_tree(&self, root: ContentRoot) -> Result<(), StoreError> {
        cache::remove(&self.tree_path(root))
    }

    fn tree_path(&self, root: ContentRoot) -> PathBuf {
        self.local_path(root).with_extension("tree")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_tree_is_kept_beside_a_long_blob_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        for bytes in [1, 5_000_000] {
            let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let root = ContentRoot::from_bytes(*blake3::hash(&content).as_bytes());
            assert!(blobs.tree(root, bytes).unwrap().is_none(), "no blob, no tree");
            let mut spool = blobs.spool().unwrap();
            spool.file().write_all(&content).unwrap();
            blobs.put(spool, root).await.unwrap();
            // Made; read; damaged and found out; cut and made again.
            for _ in 0..2 {
                let tree = blobs.tree(root, bytes).unwrap().unwrap();
                tree::send(content.as_slice(), &tree, 0, &mut Vec::new()).unwrap();
            }
            let path = blobs.tree_path(root);
            assert_eq!(path.exists(), bytes >= KEPT_FROM_BYTES);
            if path.exists() {
                fs::write(&path, vec![7; fs::read(&path).unwrap().len()]).unwrap();
                let tree = blobs.tree(root, bytes).unwrap().unwrap();
                assert!(tree::send(content.as_slice(), &tree, 0, &mut Vec::new()).is_err());
                fs::write(&path, b"cut").unwrap();
                let tree = blobs.tree(root, bytes).unwrap().unwrap();
                tree::send(content.as_slice(), &tree, 0, &mut Vec::new()).unwrap();
            }
            let listed: Vec<_> = futures::StreamExt::collect(blobs.list()).await;
            assert_eq!(listed.len(), 1, "a tree is no blob");
            blobs.delete(root).await.unwrap();
            assert!(!path.exists(), "it goes with its blob");
        }
    }
}
