//! Three processes of the index over a database with a synchronous standby, under patients' moves: the one that serves
//! is killed, the database's primary is killed and its standby promoted, the one that serves hangs.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use handover_cluster::Cluster;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::{self, Signal, kill};
use handover_scenarios::world::{Options, Place, World};

use crate::moves::{DESTINATION, LIMIT, Move, SOURCE, all_is_whole, close, joined, patients, same, within};
use crate::{on, url_file};

/// Moves that go on while one blow falls.
const AT_ONCE: usize = 3;
/// The exit code of a process whose store is another's.
const STORE_LOST: Option<i32> = Some(3);

#[test]
fn an_index_that_dies_or_hangs_is_stood_in_for() -> Result<()> {
    let mut primary = Cluster::start()?;
    let standby = primary.start_standby()?;
    let options = Options {
        hospitals: vec![Place::named(SOURCE), Place::named(DESTINATION)],
        index_more: on(&url_file(&primary, Some(&standby))?, "index"),
        index_standbys: 2,
        ..Options::default()
    };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&mut world, &mut primary, &standby);
    close(world, outcome)
}

fn play(world: &mut World, primary: &mut Cluster, standby: &Cluster) -> Result<()> {
    let mut moves = patients(world, &[0; 3 * AT_ONCE])?;
    let mut blows = moves.chunks_mut(AT_ONCE);
    let mut next = || blows.next().context("moves for each blow");
    is_killed(world, next()?).context("the one that serves is killed")?;
    loses_its_primary(world, next()?, primary, standby).context("the primary is killed")?;
    hangs(world, next()?).context("the one that serves hangs")?;
    all_is_whole(world)
}

/// The patients have asked and got their quotes, and consent at the same time; `blow` falls when the first has. What
/// is only known by asking at the index is asked afterwards.
fn under_load(world: &World, moves: &mut [Move], blow: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    for it in moves.iter_mut() {
        it.ask(world)?;
        it.request(world)?;
    }
    moves.iter().try_for_each(|it| it.quoted(world))?;
    let Some((first, others)) = moves.split_first() else { return Ok(()) };
    first.wallet(world, "consent", &[])?.done()?;
    thread::scope(|scope| {
        let blow = scope.spawn(blow);
        let consenting: Vec<_> =
            others.iter().map(|it| scope.spawn(|| it.wallet(world, "consent", &[])?.done())).collect();
        consenting.into_iter().try_for_each(joined)?;
        joined(blow)
    })
}

fn is_killed(world: &mut World, moves: &mut [Move]) -> Result<()> {
    let serving = world.index_pid().context("the index does not run")?;
    let asked = world.index_standing_by(&["check"])?;
    same(
        "what a command is told beside one that stands by",
        &Some("standing-by"),
        &asked.problem().as_deref(),
    )?;
    ensure!(asked.stderr.contains(&format!("process {serving} on ")), "{asked:?}");
    under_load(world, moves, || kill(serving))?;
    world.index_taken_over()?;
    ensure!(world.index_pid() != Some(serving), "it is another one");
    moves.iter().try_for_each(|it| it.ends_well(world))?;
    world.stand_by_for_index()
}

/// As an operator would do it. Who serves goes on, or another one does.
fn loses_its_primary(
    world: &mut World,
    moves: &mut [Move],
    primary: &mut Cluster,
    standby: &Cluster,
) -> Result<()> {
    let serving = world.index_pid();
    under_load(world, moves, || {
        primary.kill()?;
        standby.promote()
    })?;
    moves.iter().try_for_each(|it| it.ends_well(world))?;
    same("who serves", &serving, &world.index_pid())
}

fn hangs(world: &mut World, moves: &mut [Move]) -> Result<()> {
    let serving = world.index_pid().context("the index does not run")?;
    let web = world.index_ready()["web"].as_str().context("no address")?.replace("https://", "");
    under_load(world, moves, || signals::send(serving, Signal::STOP))?;
    let before = world.index_taken_over()?;
    moves.iter().try_for_each(|it| it.ends_well(world))?;
    // It goes on, finds out, and is gone.
    signals::send(serving, Signal::CONT)?;
    let mut before = before.context("it was not killed")?;
    same("how it ends", &STORE_LOST, &before.ends()?)?;
    let log = std::fs::read_to_string(before.log())?;
    ensure!(log.contains("another process has opened it since"), "it does not say why it ends: {log}");
    within("nothing is served where it was", || Ok(std::net::TcpStream::connect(&web).is_err()))?;
    // Started again, it stands by.
    world.stand_by_for_index()?;
    let other = moves.first().context("a move")?;
    world.posted(&other.transfer, LIMIT).map(drop)
}
