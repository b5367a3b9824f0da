//! Two hospitals behind address translation of their own, which nobody can dial, and an index that everybody can: real
//! processes in network namespaces. A package moves through the index as a relay, which is killed in the middle of it.

mod lan;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::{Options, Place, Site, World};
use handover_tests::moves::{
    DESTINATION, Move, SOURCE, all_is_whole, close, incoming, patients, same, text, within,
};
use serde_json::Value;

/// A thousand times what libp2p's own relay would let through.
const SCAN_BYTES: usize = 128 * 1024 * 1024;

#[test]
fn hospitals_behind_nat_exchange_through_the_index() -> Result<()> {
    let programs = Programs::shared()?;
    if lan::enters("hospitals_behind_nat_exchange_through_the_index")? {
        return Ok(());
    }
    lan::lay()?;
    let place = |id: &str, network: &str| -> Result<Place> {
        let host = Some(lan::HOSPITAL.parse()?);
        let site = Site { host, started_by: lan::within(network), behind_nat: true, ..Site::default() };
        Ok(Place { site, ..Place::named(id) })
    };
    let options = Options {
        hospitals: vec![place(SOURCE, "one")?, place(DESTINATION, "two")?],
        index_site: Site {
            host: Some(lan::INDEX.parse()?),
            started_by: lan::within("index"),
            ..Site::default()
        },
        // What does not pass through the relay is to pass nowhere.
        index_more: "[folders]\nenabled = false\n".to_owned(),
        ..Options::default()
    };
    let mut world = World::start(programs, &options)?;
    let outcome = play(&mut world);
    close(world, outcome)
}

fn play(world: &mut World) -> Result<()> {
    for at in [SOURCE, DESTINATION] {
        is_reached_through_the_index(world, at)?;
        same("what does not work", &Some(0), &status(world, at)?["degraded"].as_array().map(Vec::len))?;
    }
    let mut moves = patients(world, &[SCAN_BYTES, 0])?;
    let [large, small] = moves.as_mut_slice() else { unreachable!("two patients") };

    let before = lan::bytes_to_the_index()?;
    consents(world, large)?;
    let data = world.ready(DESTINATION)?["control"].as_str().map(Path::new).and_then(Path::parent);
    let incoming = incoming(data.context("no data folder")?)?;
    within("half of the package is there", || Ok(bytes_below(&incoming)? > half(SCAN_BYTES)))?;
    kill(world.index_pid().context("the index does not run")?)?;
    let pid = world.pid(DESTINATION)?;
    within("the destination says that no relay reaches it", || {
        Ok(degraded(&status(world, DESTINATION)?).contains(&"relays: relay-away".to_owned()))
    })?;
    world.restart_index(true)?;
    large.ends_well(world)?;
    same("the destination's process", &pid, &world.pid(DESTINATION)?)?;

    // Half of it again would be a third half.
    let carried = lan::bytes_to_the_index()?.saturating_sub(before);
    let whole = half(SCAN_BYTES).saturating_mul(2);
    ensure!(carried > whole, "the package did not pass through the index: {carried} bytes");
    ensure!(carried < whole + whole / 4, "what was there was sent again: {carried} bytes");

    consents(world, small)?;
    small.ends_well(world)?;
    nothing_was_direct(world)?;
    all_is_whole(world)
}

fn consents(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()
}

fn status(world: &World, at: &str) -> Result<Value> {
    world.node(at, &["status"])?.json()
}

fn degraded(status: &Value) -> Vec<String> {
    let named = status["degraded"].as_array().into_iter().flatten();
    named.map(|it| format!("{}: {}", text(it, "component"), text(it, "code"))).collect()
}

fn is_reached_through_the_index(world: &World, at: &str) -> Result<()> {
    within(&format!("{at} has a place at the index"), || {
        Ok(status(world, at)?["reach"]["relays"][0]["since"].is_string())
    })
}

/// What everybody is told of a hospital is its place at the index, and neither its private address nor the translator's
/// leads to it.
fn nothing_was_direct(world: &World) -> Result<()> {
    let shown = world.index(&["hospital", "list"])?.json()?;
    for (at, network) in [(SOURCE, "one"), (DESTINATION, "two")] {
        let known = shown["hospitals"].as_array().into_iter().flatten().find(|it| it["hospital"] == at);
        let told = known.and_then(|it| it["addresses"].as_array()).context("no addresses")?;
        ensure!(!told.is_empty(), "{at} tells no address");
        for address in told {
            let address = address.as_str().unwrap_or_default();
            ensure!(address.contains("/p2p-circuit/") && !address.contains(lan::HOSPITAL), "{address}");
        }
        let status = status(world, at)?;
        same("members over relays", &Some(1), &status["reach"]["relayed"].as_u64())?;
        same("who dialled it", &Value::Null, &status["reach"]["dialled"])?;
        same("packets of others than the index", &0, &lan::packets_of_others(network)?)?;
        let port =
            world.ready(at)?["net"][0].as_str().and_then(|it| it.split('/').nth(4)).context("no port")?;
        let from = if network == "one" { "two" } else { "one" };
        ensure!(!lan::can_dial(from, port.parse()?)?, "{at} can be dialled");
    }
    Ok(())
}

fn half(bytes: usize) -> u64 {
    u64::try_from(bytes / 2).unwrap_or(u64::MAX)
}

/// What lies in a folder and below.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // What was just moved away is nowhere.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
