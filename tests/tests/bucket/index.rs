//! Two processes of the index: a package is left with the one that serves, which is killed; the other one brings it to
//! its destination.

use anyhow::{Context as _, Result, ensure};
use handover_bucket::Bucket;
use handover_cluster::Cluster;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::{Options, Place, World};

use crate::moves::{DESTINATION, LIMIT, Move, SOURCE, all_is_whole, close, patients, within};
use crate::on;

const SCAN_BYTES: usize = 1_000_000;

#[test]
fn an_index_brings_what_was_left_with_another_one() -> Result<()> {
    let (cluster, bucket) = (Cluster::start()?, Bucket::start()?);
    let options = Options {
        hospitals: vec![Place::named(SOURCE), Place::named(DESTINATION)],
        index_more: on(&cluster, &bucket, "index")?,
        index_standbys: 1,
        ..Options::default()
    };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&mut world, &bucket);
    close(world, outcome)
}

fn play(world: &mut World, bucket: &Bucket) -> Result<()> {
    let mut moves = patients(world, &[SCAN_BYTES])?;
    let it = moves.first_mut().context("a move")?;
    is_left(world, it)?;
    ensure!(!bucket.names("index/content")?.is_empty(), "the package lies in the bucket");
    // Nobody but the index has it now.
    world.stop(SOURCE)?;
    let serving = world.index_pid().context("the index does not run")?;
    kill(serving)?;
    world.index_taken_over()?;
    ensure!(world.index_pid() != Some(serving), "it is another one");
    world.restart(DESTINATION)?;
    it.until(world, DESTINATION, "filed")?;
    world.posted(&it.transfer, LIMIT)?;
    world.restart(SOURCE)?;
    it.ends_well(world)?;
    within("nothing is left in the bucket", || Ok(bucket.names("index/content")?.is_empty()))?;
    all_is_whole(world)
}

/// The patient says yes while the source is away, and the destination is when it is back.
pub(crate) fn is_left(world: &mut World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    world.stop(SOURCE)?;
    it.wallet(world, "consent", &[])?.done()?;
    within("the index has what the destination owes it", || {
        Ok(it.show(world, DESTINATION)?["waiting"].as_u64() == Some(0))
    })?;
    world.stop(DESTINATION)?;
    world.restart(SOURCE)?;
    within("the package is left in the folder", || Ok(it.show(world, SOURCE)?["folder"]["until"].is_string()))
}
