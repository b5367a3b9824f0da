//! Several processes of one party over one database and one bucket, which share no folder: what one put there, the next
//! one has. They are killed under patients' moves, and the bucket goes away. What lay in a folder goes to a bucket.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod copying;
mod index;
mod node;

use anyhow::Result;
use handover_bucket::Bucket;
use handover_cluster::Cluster;
use handover_tests::moves;

/// A configuration's parts about a store in a database and blobs in a bucket.
fn on(cluster: &Cluster, bucket: &Bucket, name: &str) -> Result<String> {
    let url_file = cluster.file("url", &cluster.url())?;
    let store = format!("\n[store]\nengine = \"postgres\"\nurl_file = {url_file:?}\nschema = \"{name}\"\n");
    Ok(store + &bucket.toml("bucket", name))
}
