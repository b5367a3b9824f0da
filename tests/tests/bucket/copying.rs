//! A hospital and an index move what they keep from their folders to a bucket, and the hospital moves back.

use anyhow::{Context as _, Result, ensure};
use handover_bucket::Bucket;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, Place, World};

use crate::index::is_left;
use crate::moves::{DESTINATION, Move, SOURCE, all_is_whole, close, patients, same, within};

#[test]
fn what_lies_in_folders_moves_to_a_bucket_and_back() -> Result<()> {
    let bucket = Bucket::start()?;
    let source = Place { more: bucket.toml("folder", SOURCE), ..Place::named(SOURCE) };
    let options = Options {
        hospitals: vec![source, Place::named(DESTINATION)],
        index_more: bucket.toml("folder", "index"),
        ..Options::default()
    };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&mut world, &bucket);
    close(world, outcome)
}

fn play(world: &mut World, bucket: &Bucket) -> Result<()> {
    let mut moves = patients(world, &[300_000, 1_000_000])?;
    if let [one, other] = moves.as_mut_slice() {
        hospital_moves(world, bucket, one).context("the hospital moves")?;
        index_moves(world, bucket, other).context("the index moves")?;
        hospital_moves_back(world, bucket, one).context("the hospital moves back")?;
    }
    all_is_whole(world)
}

fn hospital_moves(world: &mut World, bucket: &Bucket, it: &mut Move) -> Result<()> {
    let before = it.records(world, SOURCE)?;
    let copy = |world: &World| world.node(SOURCE, &["blobs", "copy", "--to", "bucket"]);
    ensure!(copy(world)?.exit != Some(0), "blobs were copied below a process");
    world.stop(SOURCE)?;
    let copied = copy(world)?.json()?;
    ensure!(copied["blobs"].as_u64() >= Some(2) && copied["damaged"] == 0, "{copied}");
    // Started by mistake as before, it says where its blobs are.
    let mistake = world.node(SOURCE, &["check"])?;
    ensure!(mistake.exit != Some(0) && mistake.stderr.contains("lie in a bucket"), "{mistake:?}");
    world.configure(SOURCE, &bucket.toml("bucket", SOURCE))?;
    std::fs::remove_dir_all(world.folder().join("hospitals").join(SOURCE).join("data/blobs"))?;
    world.restart(SOURCE)?;
    same("the records", &before, &it.records(world, SOURCE)?)?;
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()?;
    it.ends_well(world)
}

/// With a package that waits in a folder.
fn index_moves(world: &mut World, bucket: &Bucket, it: &mut Move) -> Result<()> {
    is_left(world, it)?;
    world.stop(SOURCE)?;
    world.stop_index()?;
    let copied = world.index(&["blobs", "copy", "--to", "bucket"])?.json()?;
    ensure!(copied["blobs"].as_u64() >= Some(2) && copied["damaged"] == 0, "{copied}");
    std::fs::remove_dir_all(world.folder().join("federation/index/blobs"))?;
    world.configure_index(&bucket.toml("bucket", "index"))?;
    world.restart_index(false)?;
    world.restart(DESTINATION)?;
    it.until(world, DESTINATION, "filed")?;
    world.restart(SOURCE)?;
    it.ends_well(world)?;
    within("nothing is left in the bucket", || Ok(bucket.names("index/content")?.is_empty()))
}

fn hospital_moves_back(world: &mut World, bucket: &Bucket, it: &Move) -> Result<()> {
    let before = it.records(world, SOURCE)?;
    world.stop(SOURCE)?;
    world.node(SOURCE, &["blobs", "copy", "--to", "folder"])?.done()?;
    world.configure(SOURCE, &bucket.toml("folder", SOURCE))?;
    world.restart(SOURCE)?;
    same("the records", &before, &it.records(world, SOURCE)?)
}
