//! Two processes of one hospital over one database and one folder for large content: the one that serves is killed in
//! the middle of a package, and hangs.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use handover_cluster::Cluster;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::{Options, Place, World};

use crate::moves::{DESTINATION, Move, SOURCE, all_is_whole, close, incoming, patients, within};
use crate::{on, url_file};

/// Bytes of the scan, and how many of them lie at the destination when its process is killed.
const SCAN_BYTES: usize = 16_000_000;
const CUT_AT_BYTES: u64 = 2_000_000;

#[test]
fn a_node_that_dies_in_a_package_is_stood_in_for() -> Result<()> {
    let cluster = Cluster::start()?;
    let more = on(&url_file(&cluster, None)?, "riverside");
    let destination = Place { more, standbys: 1, ..Place::named(DESTINATION) };
    let options = Options { hospitals: vec![Place::named(SOURCE), destination], ..Options::default() };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&mut world);
    close(world, outcome)
}

fn play(world: &mut World) -> Result<()> {
    let mut moves = patients(world, &[SCAN_BYTES, 0])?;
    world.stand_by_for(DESTINATION)?;
    if let [cut, after] = moves.as_mut_slice() {
        is_killed(world, cut).context("killed in the middle of a package")?;
        world.stand_by_for(DESTINATION)?;
        agreed(world, after)?;
        // One that stands by ends when it is told to, and takes nothing along.
        world.stop_standing_by(DESTINATION)?;
        after.ends_well(world)?;
    }
    all_is_whole(world)
}

fn agreed(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()
}

fn is_killed(world: &mut World, it: &mut Move) -> Result<()> {
    let (serving, folder) = (world.pid(DESTINATION)?, world.folder().join("hospitals").join(DESTINATION));
    agreed(world, it)?;
    let arriving = incoming(&folder.join("shared"))?.join(&it.transfer);
    within("the package arrives", || {
        let parts = fs::read_dir(&arriving).into_iter().flatten().flatten();
        let lengths = parts.filter_map(|part| part.metadata().ok()).map(|meta| meta.len());
        Ok(lengths.max() >= Some(CUT_AT_BYTES))
    })?;
    kill(serving)?;
    ensure!(arriving.exists(), "it was over before anybody could cut it");
    world.taken_over(DESTINATION)?;
    ensure!(world.pid(DESTINATION)? != serving, "it is another one");
    it.ends_well(world)?;
    let log = fs::read_to_string(world.logs().join(format!("{DESTINATION}.log")))?;
    ensure!(log.contains("goes on where it was cut"), "it was sent from its beginning again");
    Ok(())
}
