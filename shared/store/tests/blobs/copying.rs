//! Blobs are copied to a bucket and back: all of them, once each, past a cut, and what is damaged is told.

use std::fs;
use std::path::Path;

use handover_bucket::Bucket;
use handover_core::ContentRoot;
use handover_store::{BlobPlace, BlobSettings, Blobs, BlobsCopied, Store, StoreError, copy_blobs};

use crate::{content, name, opened, put, read, settings, store};

async fn copied(
    store: &Store,
    bucket: &Bucket,
    to: BlobPlace,
    folder: &Path,
) -> Result<BlobsCopied, StoreError> {
    let mut last = 0;
    let copied = copy_blobs(store, &settings(bucket), to, folder, |done| last = done).await?;
    assert_eq!(last, copied.blobs + copied.damaged);
    Ok(copied)
}

async fn all_are_there(blobs: &Blobs, all: &[(ContentRoot, Vec<u8>)]) {
    for (root, content) in all {
        assert!(read(blobs, *root).await.unwrap() == *content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_go_to_a_bucket_and_back() {
    let (bucket, folder, store) = (Bucket::start().unwrap(), tempfile::tempdir().unwrap(), store());
    let (in_folder, in_bucket) = (BlobSettings::default(), settings(&bucket));
    let blobs = opened(&store, &in_folder, folder.path()).await.unwrap();
    let mut all = Vec::new();
    for bytes in [1, 100_000, 10_000_000] {
        let content = content(1, bytes);
        all.push((put(&blobs, &content).await.unwrap(), content));
    }
    let spoiled = put(&blobs, b"spoiled").await.unwrap();
    fs::write(blobs.local_path(spoiled), b"damaged").unwrap();
    drop(blobs);

    // Cut off on the way: they are still where they were, and the next try goes on.
    bucket.gate().close();
    assert!(copied(&store, &bucket, BlobPlace::Bucket, folder.path()).await.is_err());
    bucket.gate().open();
    bucket.replace(&name(all[0].0), b"x").unwrap();
    let refused = copied(&store, &bucket, BlobPlace::Bucket, folder.path()).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to another store"), "{refused}");
    bucket.remove(&name(all[0].0)).unwrap();
    all_are_there(&opened(&store, &in_folder, folder.path()).await.unwrap(), &all).await;
    let report = copied(&store, &bucket, BlobPlace::Bucket, folder.path()).await.unwrap();
    assert_eq!((report.blobs, report.damaged), (3, 1));
    let again = copied(&store, &bucket, BlobPlace::Bucket, folder.path()).await.unwrap_err();
    assert!(again.to_string().contains("in the bucket already"), "{again}");
    assert!(opened(&store, &in_folder, folder.path()).await.is_err(), "they are not there any more");

    let elsewhere = tempfile::tempdir().unwrap();
    let blobs = opened(&store, &in_bucket, elsewhere.path()).await.unwrap();
    all_are_there(&blobs, &all).await;
    assert!(matches!(read(&blobs, spoiled).await, Err(StoreError::UnknownBlob)));
    // One comes and one goes while they are there.
    let newer = content(2, 300_000);
    all.push((put(&blobs, &newer).await.unwrap(), newer));
    let (gone, _) = all.remove(0);
    blobs.delete(gone).await.unwrap();
    drop(blobs);

    bucket.gate().cut_after(200_000);
    let report = copied(&store, &bucket, BlobPlace::Folder, folder.path()).await.unwrap();
    assert_eq!((report.blobs, report.damaged), (3, 0));
    assert!(opened(&store, &in_bucket, folder.path()).await.is_err());
    let blobs = opened(&store, &in_folder, folder.path()).await.unwrap();
    all_are_there(&blobs, &all).await;
    assert!(blobs.exists(gone).await.unwrap(), "a copy deletes nothing, whoever does not know it any more");
    drop(blobs);
    // And once more to the same one.
    copied(&store, &bucket, BlobPlace::Bucket, folder.path()).await.unwrap();
    all_are_there(&opened(&store, &in_bucket, elsewhere.path()).await.unwrap(), &all).await;
}
