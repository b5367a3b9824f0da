//! Two hospitals behind address translation of their own, which nobody can dial, and an index that everybody can: real
//! processes in network namespaces. A package moves through the index as a relay, which is killed in the middle of it; and
//! through another hospital, while there is no index.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

mod lan;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use handover_scenarios::generator::Expected;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::{Options, Place, Site, World};
use handover_tests::moves::{
    DESTINATION, Move, SOURCE, all_is_whole, close, incoming, patients, same, text, within,
};
use serde_json::Value;

/// Two thousand times what libp2p's own relay would let through.
const STUDY_BYTES: u64 = 256 * 1024 * 1024;
/// A hundred times that.
const STUDY_BYTES_OF_A_MOVE: usize = 13 * 1024 * 1024;
/// A hospital that everybody can dial.
const NEIGHBOUR: &str = "hillcrest";

#[test]
fn hospitals_behind_nat_exchange_through_the_index() -> Result<()> {
    let programs = Programs::shared()?;
    if lan::enters("hospitals_behind_nat_exchange_through_the_index")? {
        return Ok(());
    }
    lan::lay()?;
    let options = Options {
        hospitals: vec![
            hospital(SOURCE, "one", lan::HOSPITAL)?,
            hospital(DESTINATION, "two", lan::HOSPITAL)?,
        ],
        // What does not pass through the relay is to pass nowhere.
        index_more: "[folders]\nenabled = false\n\n[relay]\nenabled = true\n".to_owned(),
        ..with_an_index()?
    };
    let mut world = World::start(programs, &options)?;
    let outcome = play(&mut world);
    close(world, outcome)
}

#[test]
fn hospitals_behind_nat_exchange_through_a_neighbour_while_the_index_is_away() -> Result<()> {
    let programs = Programs::shared()?;
    if lan::enters("hospitals_behind_nat_exchange_through_a_neighbour_while_the_index_is_away")? {
        return Ok(());
    }
    lan::lay()?;
    let neighbour = hospital(NEIGHBOUR, "neighbour", lan::NEIGHBOUR)?;
    let options = Options {
        hospitals: vec![
            Place { site: Site { serves_as_relay: true, ..neighbour.site.clone() }, ..neighbour },
            hospital(SOURCE, "one", lan::HOSPITAL)?,
            hospital(DESTINATION, "two", lan::HOSPITAL)?,
        ],
        // The index is no relay at all.
        index_more: "[folders]\nenabled = false\n".to_owned(),
        ..with_an_index()?
    };
    let mut world = World::start(programs, &options)?;
    let outcome = through_a_neighbour(&mut world);
    close(world, outcome)
}

/// A hospital in a network of its own; nobody can dial one behind a translator.
fn hospital(id: &str, network: &str, host: &str) -> Result<Place> {
    let behind_nat = host == lan::HOSPITAL;
    let (host, started_by) = (Some(host.parse()?), lan::within(network));
    Ok(Place { site: Site { host, started_by, behind_nat, ..Site::default() }, ..Place::named(id) })
}

/// An index that everybody can dial.
fn with_an_index() -> Result<Options> {
    let (host, started_by) = (Some(lan::INDEX.parse()?), lan::within("index"));
    Ok(Options { index_site: Site { host, started_by, ..Site::default() }, ..Options::default() })
}

fn through_a_neighbour(world: &mut World) -> Result<()> {
    let relays: Vec<String> = world.ready(NEIGHBOUR)?["net"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| Some(it.as_str()?.to_owned()))
        .collect();
    for at in [SOURCE, DESTINATION] {
        world.reach_through(at, &relays)?;
        world.restart(at)?;
    }
    for at in [SOURCE, DESTINATION] {
        has_a_place_at_its_relay(world, at)?;
        is_told_of_its_place(world, at)?;
    }
    let mut moves = patients(world, &[STUDY_BYTES_OF_A_MOVE])?;
    let it = moves.first_mut().context("a patient")?;
    world.stop_index()?;
    let before = lan::bytes_to("neighbour")?;
    consents(world, it)?;
    for at in [SOURCE, DESTINATION] {
        same("the state without the index", &"filed", &text(&it.until(world, at, "filed")?, "state"))?;
        let named = vec!["index: unreachable".to_owned()];
        same("what does not work", &named, &degraded(&status(world, at)?))?;
    }
    let carried = lan::bytes_to("neighbour")?.saturating_sub(before);
    ensure!(carried > STUDY_BYTES_OF_A_MOVE as u64, "the package went another way: {carried} bytes");
    world.restart_index(false)?;
    it.ends_well(world)?;
    all_is_whole(world)
}

/// The directory that both hold says where it is reached.
fn is_told_of_its_place(world: &World, at: &str) -> Result<()> {
    let is_known = |shown: &Value| {
        let known = shown["hospitals"].as_array().into_iter().flatten().find(|it| it["hospital"] == at);
        let told = known.and_then(|it| it["addresses"].as_array()).cloned().unwrap_or_default();
        told.iter().any(|it| {
            it.as_str().is_some_and(|it| it.contains(lan::NEIGHBOUR) && it.contains("/p2p-circuit/"))
        })
    };
    within(&format!("everybody is told where {at} is reached"), || {
        let shown = world.index(&["directory", "show"])?.json()?;
        let held = [SOURCE, DESTINATION].map(|other| status(world, other));
        let holds = |held: &Result<Value>| {
            held.as_ref().is_ok_and(|held| held["directory"]["version"] == shown["version"])
        };
        Ok(is_known(&shown) && held.iter().all(holds))
    })
}

fn play(world: &mut World) -> Result<()> {
    for at in [SOURCE, DESTINATION] {
        has_a_place_at_its_relay(world, at)?;
        same("what does not work", &Some(0), &status(world, at)?["degraded"].as_array().map(Vec::len))?;
    }
    let (mut large, mut others) = (study(world)?, patients(world, &[200_000])?);

    let before = lan::bytes_to("index")?;
    consents(world, &mut large)?;
    let data = world.ready(DESTINATION)?["control"].as_str().map(Path::new).and_then(Path::parent);
    let incoming = incoming(data.context("no data folder")?)?;
    within("half of the package is there", || Ok(bytes_below(&incoming)? > STUDY_BYTES / 2))?;
    kill(world.index_pid().context("the index does not run")?)?;
    let there = bytes_below(&incoming)?;
    ensure!(
        there > STUDY_BYTES / 2 && there < STUDY_BYTES,
        "the relay did not die in the middle: {there} bytes"
    );
    let pid = world.pid(DESTINATION)?;
    within("the destination says that no relay reaches it", || {
        Ok(degraded(&status(world, DESTINATION)?).contains(&"relays: relay-away".to_owned()))
    })?;
    world.restart_index(true)?;
    for at in [DESTINATION, SOURCE] {
        large.until(world, at, "filed")?;
    }
    same("the destination's process", &pid, &world.pid(DESTINATION)?)?;
    let is_study = |it: &Value| it["bytes"].as_u64() == Some(STUDY_BYTES);
    ensure!(large.records(world, DESTINATION)?.iter().any(is_study), "the study is not filed");

    // What was there already would be another half.
    let carried = lan::bytes_to("index")?.saturating_sub(before);
    ensure!(carried > STUDY_BYTES, "the package did not pass through the index: {carried} bytes");
    ensure!(carried < STUDY_BYTES / 4 * 5, "what was there was sent again: {carried} bytes");

    let small = others.first_mut().context("a patient")?;
    consents(world, small)?;
    small.ends_well(world)?;
    nothing_was_direct(world)?;
    all_is_whole(world)
}

/// A patient of the source with one large file.
fn study(world: &World) -> Result<Move> {
    let name = "study".to_owned();
    let (file, content) =
        (world.records_folder().join("study.ndjson"), world.records_folder().join("study.bin"));
    let copied =
        std::io::copy(&mut File::open("/dev/urandom")?.take(STUDY_BYTES), &mut File::create(content)?)?;
    same("bytes of the study", &STUDY_BYTES, &copied)?;
    let reference = r#"{"resourceType":"DocumentReference","id":"d","status":"current","subject":{"reference":"Patient/study"},"date":"2026-01-02T03:04:05Z","content":[{"attachment":{"contentType":"application/dicom","url":"study.bin"}}]}"#;
    std::fs::write(&file, format!("{{\"resourceType\":\"Patient\",\"id\":\"{name}\"}}\n{reference}\n"))?;
    world.node(SOURCE, &["import", file.to_str().context("UTF-8")?])?.done()?;
    let it = Move {
        wallet: name.clone(),
        patient: name,
        expected: Expected::default(),
        file,
        transfer: String::new(),
    };
    it.link(world)?;
    Ok(it)
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

fn has_a_place_at_its_relay(world: &World, at: &str) -> Result<()> {
    within(&format!("{at} has a place at its relay"), || {
        Ok(status(world, at)?["reach"]["relays"][0]["since"].is_string())
    })
}

/// What everybody is told of a hospital is its place at the index, and neither its private address nor the translator's
/// leads to it.
fn nothing_was_direct(world: &World) -> Result<()> {
    let shown = world.index(&["directory", "show"])?.json()?;
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
    }
    for (at, from, to) in [(SOURCE, "two", "one"), (DESTINATION, "one", "two")] {
        let port =
            world.ready(at)?["net"][0].as_str().and_then(|it| it.split('/').nth(4)).context("no port")?;
        ensure!(!lan::can_dial(from, port.parse()?)?, "{at} can be dialled");
        // So the counter counts.
        ensure!(lan::packets_of_others(to)? > 0, "a dial from {from} did not come to {to}");
    }
    Ok(())
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
