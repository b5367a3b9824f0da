//! Index and source on PostgreSQL: they are killed, the database is killed below them, and the source moves to it and
//! back.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use handover_cluster::Cluster;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, Place, World};

use crate::kills::{Moment, play};
use crate::moves::{DESTINATION, Move, SOURCE, Victim, all_is_whole, close, patients, same, within};

/// A configuration's part about the store.
fn on(engine: &str, cluster: &Cluster, schema: &str) -> Result<String> {
    let url = cluster.file("url", &cluster.url())?;
    Ok(format!("\n[store]\nengine = \"{engine}\"\nurl_file = {url:?}\nschema = \"{schema}\"\n"))
}

/// Nobody who reads what was logged learns how to get at the database.
fn logs_keep_the_password(world: &World, cluster: &Cluster) -> Result<()> {
    for entry in fs::read_dir(world.logs())? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        ensure!(!text.contains(cluster.password()), "{} holds the password", path.display());
    }
    Ok(())
}

#[test]
fn on_a_database_a_kill_changes_nothing() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let source = Place { more: on("postgres", &cluster, "lakeside")?, ..Place::named(SOURCE) };
    let options = Options {
        hospitals: vec![source, Place::named(DESTINATION)],
        index_more: on("postgres", &cluster, "index")?,
        ..Options::default()
    };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = killed(&mut world, &mut cluster).and_then(|()| logs_keep_the_password(&world, &cluster));
    close(world, outcome)
}

fn killed(world: &mut World, cluster: &mut Cluster) -> Result<()> {
    let mut moves = patients(world, &[300_000, 0, 0, 0])?;
    if let [one, other, third, fourth] = moves.as_mut_slice() {
        play(world, one, Victim::Source, Moment::Reached(SOURCE, "sealed"))
            .context("the source is killed")?;
        play(world, other, Victim::Index, Moment::Consented).context("the index is killed")?;
        database_dies(world, cluster, third).context("the database is killed")?;
        database_is_away(world, cluster, fourth).context("the database is away")?;
    }
    let has_both =
        "SELECT (SELECT count(*) FROM lakeside.cells) > 100 AND (SELECT count(*) FROM \"index\".cells) > 20";
    same("what both have in the database", &"t".to_owned(), &cluster.sql(has_both)?)?;
    all_is_whole(world)
}

/// The processes go on by themselves: none is started again.
fn database_dies(world: &World, cluster: &mut Cluster, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()?;
    cluster.kill()?;
    cluster.start_again()?;
    it.ends_well(world)
}

/// Away for so long that what is asked is refused. Nothing has to be started again afterwards.
fn database_is_away(world: &World, cluster: &mut Cluster, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    cluster.stop()?;
    // No reading without its audit line, so that is what the hospital lacks first.
    let refused = [
        ("audit-unavailable", world.node(SOURCE, &["check"])?),
        ("store-unavailable", world.index(&["check"])?),
    ];
    for (code, asked) in refused {
        same("what is refused", &Some(code), &asked.problem().as_deref())?;
        ensure!(asked.stderr.contains("reach the database"), "{asked:?}");
    }
    it.wallet(world, "consent", &[])?.done()?;
    cluster.start_again()?;
    it.ends_well(world)
}

#[test]
fn a_hospital_moves_to_a_database_and_back() -> Result<()> {
    let cluster = Cluster::start()?;
    let source = Place { more: on("sled", &cluster, "lakeside")?, ..Place::named(SOURCE) };
    let options = Options { hospitals: vec![source, Place::named(DESTINATION)], ..Options::default() };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = moved(&mut world, &cluster);
    close(world, outcome)
}

fn moved(world: &mut World, cluster: &Cluster) -> Result<()> {
    let mut moves = patients(world, &[300_000, 0])?;
    let [one, other] = moves.as_mut_slice() else { anyhow::bail!("two patients") };
    let before = one.records(world, SOURCE)?;
    let copy = |world: &World, to: &str| world.node(SOURCE, &["store", "copy", "--to", to]);
    let running = copy(world, "postgres")?;
    ensure!(running.exit != Some(0), "a store was copied that is in use");
    world.stop(SOURCE)?;
    let there = copy(world, "postgres")?.json()?;
    same("the engine that is told", &Some("postgres"), &there["engine"].as_str())?;
    // Started by mistake as before, it says where its store is.
    let mistake = world.node(SOURCE, &["check"])?;
    ensure!(
        mistake.exit != Some(0) && mistake.stderr.contains("was moved to schema lakeside"),
        "{mistake:?}"
    );

    world.configure(SOURCE, &on("postgres", cluster, "lakeside")?)?;
    world.restart(SOURCE)?;
    same("the records in the database", &before, &one.records(world, SOURCE)?)?;
    transfers(world, one).context("from the database")?;

    world.stop(SOURCE)?;
    let folder = world.folder().join("hospitals").join(SOURCE).join("data");
    ensure!(copy(world, "sled")?.exit != Some(0), "a store was copied over another one");
    fs::rename(folder.join("store"), folder.join("store.before"))?;
    copy(world, "sled")?.done()?;
    world.configure(SOURCE, &on("sled", cluster, "lakeside")?)?;
    world.restart(SOURCE)?;
    transfers(world, other).context("from the folder again")?;
    within("nothing is owed", || Ok(one.show(world, SOURCE)?["waiting"].as_u64() == Some(0)))?;
    all_is_whole(world)
}

fn transfers(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()?;
    it.ends_well(world)
}
