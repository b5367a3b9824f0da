//! What only a bucket has to bear: connections that are cut, processes that end, others' buckets, and being away.

use std::fs;
use std::time::{Duration, Instant};

use handover_bucket::{Bucket, CERTIFICATE_PEM, SECRET};
use handover_core::Code;
use handover_store::{BlobSettings, StoreError};

use crate::{content, name, opened, put, read, root, settings, store};

/// Sent in three parts.
const LONG_BYTES: usize = 18_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_tried_again() {
    let (bucket, folder) = (Bucket::start().unwrap(), tempfile::tempdir().unwrap());
    let blobs = opened(&store(), &settings(&bucket), folder.path()).await.unwrap();
    let content = content(1, LONG_BYTES);
    bucket.gate().cut_after(LONG_BYTES / 2);
    let root = put(&blobs, &content).await.unwrap();
    bucket.gate().wait_for_cuts(1);
    assert!(bucket.read(&name(root)).unwrap() == content);
    fs::remove_dir_all(folder.path().join("blob-cache/content")).unwrap();
    fs::create_dir(folder.path().join("blob-cache/content")).unwrap();
    bucket.gate().cut_after(LONG_BYTES / 2);
    assert!(read(&blobs, root).await.unwrap() == content, "and where it is read");
    bucket.gate().wait_for_cuts(2);
    assert_eq!(bucket.uploads().unwrap(), 0);
}

/// A process that ends in the middle of a put: nothing has the blob's name, and nothing of it is left in the end.
#[test]
fn a_put_that_is_cut_off_leaves_nothing() {
    let (bucket, folder) = (Bucket::start().unwrap(), tempfile::tempdir().unwrap());
    let (settings, store, content) = (settings(&bucket), store(), content(1, LONG_BYTES));
    let process = || tokio::runtime::Runtime::new().unwrap();
    let ended = process();
    let blobs = ended.block_on(opened(&store, &settings, folder.path())).unwrap();
    bucket.gate().cut_after(LONG_BYTES / 2);
    let (sent, gate) = (content.clone(), bucket.gate().clone());
    ended.spawn(async move { put(&blobs, &sent).await });
    gate.wait_for_cuts(1);
    ended.shutdown_background();
    assert_eq!((bucket.names("lakeside/content").unwrap().len(), bucket.uploads().unwrap()), (0, 1));

    let other = tempfile::tempdir().unwrap();
    let next = process();
    let blobs = next.block_on(opened(&store, &settings, other.path())).unwrap();
    assert_eq!((bucket.uploads().unwrap(), bucket.names("lakeside/uploads").unwrap().len()), (0, 0));
    assert_eq!(next.block_on(blobs.len(root(&content))).unwrap(), None);
    next.block_on(put(&blobs, &content)).unwrap();
    assert!(bucket.read(&name(root(&content))).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_is_told_and_comes_back() {
    let (bucket, folder) = (Bucket::start().unwrap(), tempfile::tempdir().unwrap());
    let blobs = opened(&store(), &settings(&bucket), folder.path()).await.unwrap();
    let kept = put(&blobs, b"kept").await.unwrap();
    assert!(!blobs.is_away());
    bucket.gate().close();
    let begun = Instant::now();
    let lost = put(&blobs, b"not kept").await.unwrap_err();
    assert_eq!(lost.code(), Code::StoreUnavailable, "{lost}");
    assert!(lost.to_string().starts_with("cannot reach the bucket: "), "{lost}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    for asked in
        [blobs.len(kept).await.map(drop), blobs.delete(kept).await, blobs.verify(kept).await.map(drop)]
    {
        assert_eq!(asked.unwrap_err().code(), Code::StoreUnavailable, "nothing looks as if it were gone");
    }
    assert!(blobs.is_away());
    assert_eq!(read(&blobs, kept).await.unwrap(), b"kept", "what lies here is read all the same");
    bucket.gate().open();
    // Nobody asks for anything: it is found by itself.
    while blobs.is_away() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    put(&blobs, b"not kept").await.unwrap();
    assert!(blobs.verify(kept).await.unwrap());
}

/// What it answers shows that it was spoken to: there is no bucket yet.
#[tokio::test(flavor = "multi_thread")]
async fn under_tls_the_certificate_is_verified() {
    let (bucket, folder) = (Bucket::start_with_tls().unwrap(), tempfile::tempdir().unwrap());
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, CERTIFICATE_PEM).unwrap();
    let port = bucket.gate().address().port();
    let says = async |host: &str| {
        let (endpoint, ca_file) = (Some(format!("https://{host}:{port}")), Some(ca_file.clone()));
        let settings = BlobSettings { endpoint, ca_file, ..settings(&bucket) };
        opened(&store(), &settings, folder.path()).await.err().unwrap().to_string()
    };
    let said = says("localhost").await;
    assert!(said.contains("there is no such bucket"), "{said}");
    let said = says("127.0.0.1").await;
    assert!(said.contains("certificate"), "another name: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_has_every_blob() {
    let bucket = Bucket::start().unwrap();
    let (one, other, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), store());
    let blobs = opened(&store, &settings(&bucket), one.path()).await.unwrap();
    let (short, long) = (content(1, 100), content(2, LONG_BYTES));
    for content in [&short, &long] {
        put(&blobs, content).await.unwrap();
    }
    drop((blobs, one));
    let blobs = opened(&store, &settings(&bucket), other.path()).await.unwrap();
    for content in [short, long] {
        // Several at once fetch it once.
        let all = (0..4).map(|_| read(&blobs, root(&content)));
        for read in futures::future::join_all(all).await {
            assert!(read.unwrap() == content);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_altered_is_never_read() {
    let (bucket, store) = (Bucket::start().unwrap(), store());
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let blobs = opened(&store, &settings(&bucket), one.path()).await.unwrap();
    let content = content(1, 5_000_000);
    let root = put(&blobs, &content).await.unwrap();
    let blobs = opened(&store, &settings(&bucket), other.path()).await.unwrap();
    for altered in [&content[1..], &[&content[..], b"x"].concat(), b""] {
        bucket.replace(&name(root), altered).unwrap();
        let refused = blobs.reader(root).await.unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert_eq!(refused.code(), Code::StoreDamaged);
        let (sending, bytes) = (blobs.clone(), content.len() as u64);
        let tree = tokio::task::spawn_blocking(move || sending.tree(root, bytes).unwrap().is_none());
        assert!(tree.await.unwrap());
        assert!(!blobs.local_path(root).exists());
    }
    // A copy here that is damaged is not the blob.
    bucket.replace(&name(root), &content).unwrap();
    assert!(read(&blobs, root).await.unwrap() == content);
    fs::write(blobs.local_path(root), b"damaged here").unwrap();
    assert!(!blobs.doubt(root).unwrap(), "the blob itself is not in doubt");
    assert!(read(&blobs, root).await.unwrap() == content);
    assert_eq!(fs::read_dir(blobs.spool_dir()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_store_or_none_is_refused() {
    let (bucket, folder) = (Bucket::start().unwrap(), tempfile::tempdir().unwrap());
    let (own, other, settings) = (store(), store(), settings(&bucket));
    let blobs = opened(&own, &settings, folder.path()).await.unwrap();
    let kept = put(&blobs, b"kept").await.unwrap();
    let refused = |refused: StoreError| {
        let said = refused.to_string();
        assert!(!said.contains(SECRET), "{said}");
        said
    };
    let said = refused(opened(&other, &settings, folder.path()).await.err().unwrap());
    assert!(said.contains("belongs to another store"), "{said}");
    let elsewhere = BlobSettings { prefix: "riverside".to_owned(), ..settings.clone() };
    let said = refused(opened(&own, &elsewhere, folder.path()).await.err().unwrap());
    assert!(said.contains("is not the one that belongs to it"), "{said}");
    let in_folder = BlobSettings::default();
    let said = refused(opened(&own, &in_folder, folder.path()).await.err().unwrap());
    assert!(said.contains("lie in a bucket"), "{said}");
    let nowhere = BlobSettings { bucket: Some("nowhere".to_owned()), ..settings.clone() };
    let said = refused(opened(&own, &nowhere, folder.path()).await.err().unwrap());
    assert!(said.contains("there is no such bucket"), "{said}");
    // While the process runs: what is not there because the bucket is another one is not taken for lost.
    bucket.remove("lakeside/of-store").unwrap();
    bucket.remove(&name(kept)).unwrap();
    while blobs.len(kept).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(blobs.is_away());
    // One with blobs in its folder does not begin with an empty bucket.
    let with_blobs = tempfile::tempdir().unwrap();
    put(&opened(&other, &in_folder, with_blobs.path()).await.unwrap(), b"here").await.unwrap();
    let said = refused(opened(&other, &elsewhere, with_blobs.path()).await.err().unwrap());
    assert!(said.contains("`blobs copy`"), "{said}");
}
