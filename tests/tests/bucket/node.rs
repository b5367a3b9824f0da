//! Two nodes of one hospital: the one that serves is killed in the middle of a package of which one part lies in the
//! bucket, and the bucket is away while another one comes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use handover_bucket::{Bucket, SECRET};
use handover_cluster::Cluster;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::{Options, Place, World};

use crate::moves::{DESTINATION, Move, SOURCE, all_is_whole, close, incoming, patients, text, within};
use crate::on;

/// Bytes of a scan, and how many of one lie at the destination when its process is killed.
const SCAN_BYTES: usize = 16_000_000;
const CUT_AT_BYTES: u64 = 2_000_000;

#[test]
fn a_node_takes_over_what_lies_in_the_bucket() -> Result<()> {
    let (cluster, bucket) = (Cluster::start()?, Bucket::start()?);
    let destination =
        Place { more: on(&cluster, &bucket, DESTINATION)?, standbys: 1, ..Place::named(DESTINATION) };
    let options = Options { hospitals: vec![Place::named(SOURCE), destination], ..Options::default() };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&mut world, &bucket);
    close(world, outcome)
}

fn play(world: &mut World, bucket: &Bucket) -> Result<()> {
    let mut moves = patients(world, &[SCAN_BYTES, 1_000_000])?;
    world.stand_by_for(DESTINATION)?;
    if let [cut, away] = moves.as_mut_slice() {
        is_killed(world, cut, bucket).context("killed in the middle of a package")?;
        is_away(world, away, bucket).context("the bucket is away")?;
    }
    all_is_whole(world)?;
    let own = world.folder().join("hospitals").join(DESTINATION);
    for process in ["data", "data-2"] {
        ensure!(!own.join(process).join("blobs").exists(), "{process} keeps blobs of its own");
    }
    let log = fs::read_to_string(world.logs().join(format!("{DESTINATION}.log")))?;
    ensure!(!log.contains(SECRET), "the log tells the bucket's key");
    Ok(())
}

fn agreed(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()
}

fn is_killed(world: &mut World, it: &mut Move, bucket: &Bucket) -> Result<()> {
    let (serving, own) = (world.pid(DESTINATION)?, world.folder().join("hospitals").join(DESTINATION));
    let before = bucket.names(DESTINATION)?;
    agreed(world, it)?;
    let arriving = incoming(&own.join("data"))?.join(&it.transfer);
    let largest = |folder: &Path| {
        let parts = fs::read_dir(folder).into_iter().flatten().flatten();
        parts.filter_map(|part| part.metadata().ok()).map(|meta| meta.len()).max()
    };
    within("the package arrives", || Ok(largest(&arriving) >= Some(CUT_AT_BYTES)))?;
    kill(serving)?;
    ensure!(arriving.exists(), "it was over before anybody could cut it");
    // The manifest came first, and is whole.
    let put = bucket.names(DESTINATION)?;
    let kept = put.iter().find(|name| !before.contains(name)).context("no part lies in the bucket")?;
    let content = bucket.read(kept)?;
    world.taken_over(DESTINATION)?;
    ensure!(world.pid(DESTINATION)? != serving, "it is another one");
    it.ends_well(world)?;
    ensure!(own.join("data-2/blob-cache").exists(), "it has a cache of its own");
    ensure!(
        bucket.read(kept).ok().is_none_or(|now| now == content),
        "what lay there was put again otherwise"
    );
    world.stand_by_for(DESTINATION)
}

/// Nothing comes in meanwhile, everything says so, and it goes on by itself.
fn is_away(world: &World, it: &mut Move, bucket: &Bucket) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    bucket.gate().close();
    within("the status tells of the bucket", || {
        let status = world.node(DESTINATION, &["status"])?.json()?;
        let degraded = status["degraded"].as_array().cloned().unwrap_or_default();
        Ok(degraded
            .iter()
            .any(|it| text(it, "component") == "blobs" && text(it, "code") == "store-unavailable"))
    })?;
    it.wallet(world, "consent", &[])?.done()?;
    within("the source is told", || Ok(it.show(world, SOURCE)?.to_string().contains("store-unavailable")))?;
    bucket.gate().open();
    it.ends_well(world)?;
    within("the status tells that it is back", || {
        let status = world.node(DESTINATION, &["status"])?.json()?;
        Ok(!status["degraded"].to_string().contains("blobs"))
    })
}
