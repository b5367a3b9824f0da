//! What blobs are, wherever they are kept.

use std::path::Path;

use futures::StreamExt as _;
use handover_bucket::Bucket;
use handover_core::ContentRoot;
use handover_seal::tree;
use handover_store::{BlobSettings, StoreError};

use crate::{content, name, opened, put, read, root, settings, store};

/// What can be done to blobs behind the back of their owner.
trait Hand {
    fn alter(&self, root: ContentRoot, content: &[u8]);
    fn lose(&self, root: ContentRoot);
    /// What lies there, also of what is under way.
    fn count(&self) -> usize;
}

struct Folder<'f>(&'f Path);

impl Folder<'_> {
    fn path(&self, root: ContentRoot) -> std::path::PathBuf {
        let name = root.to_string();
        self.0.join("blobs/content").join(&name[..2]).join(name)
    }
}

impl Hand for Folder<'_> {
    fn alter(&self, root: ContentRoot, content: &[u8]) {
        std::fs::write(self.path(root), content).unwrap();
    }

    fn lose(&self, root: ContentRoot) {
        std::fs::remove_file(self.path(root)).unwrap();
    }

    fn count(&self) -> usize {
        let fans = std::fs::read_dir(self.0.join("blobs/content")).unwrap();
        let blobs = fans.flat_map(|fan| std::fs::read_dir(fan.unwrap().path()).unwrap());
        blobs.filter(|blob| blob.as_ref().unwrap().path().extension().is_none()).count()
    }
}

impl Hand for Bucket {
    fn alter(&self, root: ContentRoot, content: &[u8]) {
        self.replace(&name(root), content).unwrap();
    }

    fn lose(&self, root: ContentRoot) {
        self.remove(&name(root)).unwrap();
    }

    fn count(&self) -> usize {
        self.names("lakeside/content/").unwrap().len() + self.uploads().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_blobs() {
    let folder = tempfile::tempdir().unwrap();
    keeps_blobs(&BlobSettings::default(), folder.path(), &Folder(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_blobs() {
    let (bucket, folder) = (Bucket::start().unwrap(), tempfile::tempdir().unwrap());
    keeps_blobs(&settings(&bucket), folder.path(), &bucket).await;
}

async fn keeps_blobs(settings: &BlobSettings, folder: &Path, hand: &impl Hand) {
    let store = store();
    let blobs = opened(&store, settings, folder).await.unwrap();
    // Short, and long enough to be sent in parts.
    for bytes in [1, 200_000, 20_000_000] {
        let content = content(1, bytes);
        let root = root(&content);
        assert_eq!(blobs.len(root).await.unwrap(), None);
        assert!(matches!(blobs.reader(root).await, Err(StoreError::UnknownBlob)));
        for _ in 0..2 {
            put(&blobs, &content).await.unwrap();
        }
        let mut spool = blobs.spool().unwrap();
        std::io::Write::write_all(spool.file(), &content).unwrap();
        let (blocking, path) = (blobs.clone(), spool.keep());
        let read_back = tokio::task::spawn_blocking(move || {
            blocking.put_file(&path, root).unwrap();
            std::io::copy(&mut blocking.open_blob(root).unwrap(), &mut std::io::sink()).unwrap()
        });
        assert_eq!(read_back.await.unwrap(), bytes as u64);
        assert_eq!(blobs.len(root).await.unwrap(), Some(bytes as u64));
        assert!(read(&blobs, root).await.unwrap() == content);
        assert_eq!(hand.count(), 1);
        let listed: Vec<_> = blobs.list().map(Result::unwrap).collect().await;
        assert_eq!(listed, [root]);
        assert!(blobs.verify(root).await.unwrap());

        // What is sent of it is held against its name.
        let (sending, sent) = (blobs.clone(), content.clone());
        let tree = tokio::task::spawn_blocking(move || sending.tree(root, bytes as u64).unwrap().unwrap());
        tree::send(sent.as_slice(), &tree.await.unwrap(), 0, &mut Vec::new()).unwrap();

        hand.alter(root, b"altered");
        assert!(!blobs.verify(root).await.unwrap());
        put(&blobs, &content).await.unwrap();
        assert!(blobs.verify(root).await.unwrap(), "putting it again repairs it");
        hand.lose(root);
        assert!(matches!(blobs.verify(root).await, Err(StoreError::UnknownBlob)));
        assert_eq!(blobs.len(root).await.unwrap(), None);
        put(&blobs, &content).await.unwrap();
        assert!(read(&blobs, root).await.unwrap() == content);

        // Who reads it reads on when it is gone.
        let mut reading = blobs.reader(root).await.unwrap();
        for _ in 0..2 {
            blobs.delete(root).await.unwrap();
        }
        assert_eq!(std::io::copy(&mut reading, &mut std::io::sink()).unwrap(), bytes as u64);
        assert!(!blobs.exists(root).await.unwrap());
        assert_eq!(hand.count(), 0);
    }
    // What an earlier process left in the spool goes; what it had put is there.
    let kept = put(&blobs, b"kept").await.unwrap();
    let left = blobs.spool().unwrap().keep();
    drop(blobs);
    let blobs = opened(&store, settings, folder).await.unwrap();
    assert!(!left.exists());
    assert_eq!(read(&blobs, kept).await.unwrap(), b"kept");
}
