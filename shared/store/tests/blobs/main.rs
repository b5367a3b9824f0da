//! Blobs in a folder and in a bucket: one suite that both pass, and what only a bucket has to bear.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says so by failing")]

mod bucket;
mod copying;
mod suite;

use std::path::Path;

use handover_bucket::Bucket;
use handover_core::ContentRoot;
use handover_store::{BlobPlace, BlobSettings, Blobs, CellKey, Store, StoreError};

/// How `[blobs]` names a bucket.
fn settings(bucket: &Bucket) -> BlobSettings {
    BlobSettings {
        place: BlobPlace::Bucket,
        endpoint: Some(bucket.endpoint()),
        bucket: Some(handover_bucket::BUCKET.to_owned()),
        prefix: "lakeside".to_owned(),
        credentials_file: Some(bucket.credentials()),
        ..BlobSettings::default()
    }
}

fn store() -> Store {
    Store::memory(&CellKey::from_bytes([1; 32]))
}

/// The blobs of a store as a process has them whose data folder is `folder`.
async fn opened(store: &Store, settings: &BlobSettings, folder: &Path) -> Result<Blobs, StoreError> {
    Blobs::open_of(store, settings, folder, folder).await
}

fn root(content: &[u8]) -> ContentRoot {
    ContentRoot::from_bytes(*blake3::hash(content).as_bytes())
}

/// So many bytes that differ by `seed`.
fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8 ^ seed).collect()
}

async fn put(blobs: &Blobs, content: &[u8]) -> Result<ContentRoot, StoreError> {
    let mut spool = blobs.spool().unwrap();
    std::io::Write::write_all(spool.file(), content).unwrap();
    blobs.put(spool, root(content)).await.map(|()| root(content))
}

async fn read(blobs: &Blobs, root: ContentRoot) -> Result<Vec<u8>, StoreError> {
    let (mut file, mut read) = (blobs.reader(root).await?, Vec::new());
    std::io::Read::read_to_end(&mut file, &mut read).unwrap();
    Ok(read)
}

/// An object's name.
fn name(root: ContentRoot) -> String {
    let name = root.to_string();
    format!("lakeside/content/{}/{name}", &name[..2])
}
