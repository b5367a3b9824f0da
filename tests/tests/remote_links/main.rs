//! Remote links on real processes: an old hospital that never linked the patient links them after a vouching and a
//! confirming clerk and a code by another way; two hospitals hold records; the same patient is linked twice; and nobody
//! gets another's records by lying. One world serves all, in sequence, because starting one takes seconds.

#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "JSON values: an absent key is null")]

mod dishonest;
mod rules;
mod story;
mod twice;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_scenarios::{generator, json};
use serde_json::Value;

/// Has records, and has never heard of wallets.
pub(crate) const OLD: &str = "lakeside";
/// Has records of the same patient, who linked there in person.
pub(crate) const OTHER: &str = "northside";
/// Where the patient is now.
pub(crate) const NEW: &str = "riverside";

const LIMIT: Duration = Duration::from_secs(30);

/// What a group tries.
type Group = fn(&mut World) -> Result<()>;

const GROUPS: [(&str, Group); 4] = [
    ("the whole way", story::all),
    ("by files", story::by_files),
    ("linked twice", twice::all),
    ("dishonest hospitals and patients", dishonest::all),
];

#[test]
fn an_old_hospital_links_whom_it_confirmed_and_nobody_else() -> Result<()> {
    let mut world = World::start(Programs::shared()?, &Options::of(&[OLD, OTHER, NEW]))?;
    for (name, group) in GROUPS {
        let begun = Instant::now();
        let played = group(&mut world);
        // Only a test that fails or runs with --nocapture shows this.
        println!("{name}: {} ms", begun.elapsed().as_millis());
        if let Err(fault) = played {
            let folder = world.folder().display().to_string();
            world.leave_folder();
            return Err(fault.context(format!("{name}; data and logs are in {folder}")));
        }
    }
    Ok(())
}

/// Records, by type and the id that their origin gave them.
pub(crate) type Chart = BTreeSet<String>;

/// A patient's records at a hospital; its own number for them, and what there is.
pub(crate) fn records(world: &World, hospital: &str, seed: u64) -> Result<(String, Chart)> {
    let path = world.records_folder().join(format!("{hospital}-{seed}.json"));
    let options = generator::Options { scans: 0, ..generator::Options::default() };
    let mut file = BufWriter::new(File::create(&path)?);
    let patient = generator::write_patient(seed, &options, &mut file)?.id;
    file.flush()?;
    world.node(hospital, &["import", path.to_str().context("UTF-8")?])?.done()?;
    let chart = chart(world, hospital, &patient, "local")?;
    Ok((patient, chart))
}

/// The code that a desk gives.
pub(crate) fn register(world: &World, hospital: &str, patient: &str) -> Result<String> {
    let registered = world.node(hospital, &["patient", "register", patient])?.json()?;
    Ok(json::text(&registered, "link_code").to_owned())
}

/// Registers and links in person; the code.
pub(crate) fn link(world: &World, wallet: &str, hospital: &str, patient: &str) -> Result<String> {
    let code = register(world, hospital, patient)?;
    world.wallet_at(wallet, hospital, &["link", "--code", &code])?.done()?;
    Ok(code)
}

/// Asks the old hospital by way of the new one; how it stands.
pub(crate) fn ask_link(world: &World, wallet: &str, number: &str) -> Result<Value> {
    world.wallet_at(wallet, NEW, &asking(number))?.json()
}

/// The words that ask the old hospital.
pub(crate) fn asking(number: &str) -> [&str; 9] {
    let (name, born) = ("Ada Quill-Reed", "1980-02-29");
    ["link-remote", "--hospital", OLD, "--record-number", number, "--name", name, "--birth-date", born]
}

/// A request vouched for and confirmed; its identifier and the code.
pub(crate) fn confirmed(world: &World, wallet: &str, number: &str) -> Result<(String, String)> {
    let asked = ask_link(world, wallet, number)?;
    let id = json::text(&asked, "remote_link").to_owned();
    world.node(NEW, &["link-remote", "vouch", &id])?.done()?;
    ensure!(ask_link(world, wallet, number)?["state"] == "asked", "it is not at the old hospital's desk");
    let shown = world.node(OLD, &["link-remote", "confirm", &id, "--patient", number])?.json()?;
    Ok((id, json::text(&shown, "link_code").to_owned()))
}

/// Gives the code of a letter to the wallet.
pub(crate) fn link_by_letter(
    world: &World,
    wallet: &str,
    code: &str,
) -> Result<handover_scenarios::process::Answer> {
    world.wallet_at(wallet, NEW, &["link", "--hospital", OLD, "--code", code])
}

/// One transfer from ask to filed.
pub(crate) fn moved(world: &World, wallet: &str, source: &str) -> Result<()> {
    let asked = world.wallet_at(wallet, NEW, &["ask", "--source", source])?.json()?;
    let transfer = json::text(&asked, "transfer");
    world.node(NEW, &["transfer", "request", transfer])?.done()?;
    let until = |phase| ["inbox", "--transfer", transfer, "--until", phase, "--wait", "60"];
    world.wallet_at(wallet, NEW, &until("quoted"))?.done()?;
    world.wallet_at(wallet, NEW, &["consent", "--transfer", transfer])?.done()?;
    world.wallet_at(wallet, NEW, &until("filed"))?.done()
}

/// What a patient has at the new hospital from another one.
pub(crate) fn filed(world: &World, patient: &str, origin: &str) -> Result<Chart> {
    chart(world, NEW, patient, origin)
}

/// A patient's records of one origin, without what says how they came.
fn chart(world: &World, hospital: &str, patient: &str, origin: &str) -> Result<Chart> {
    let listed = world.node(hospital, &["records", "list", "--patient", patient])?.json()?;
    let of = json::list(&listed, "records").filter(|it| json::text(it, "origin") == origin);
    let of = of.filter(|it| json::text(it, "type") != "Provenance");
    Ok(of.map(|it| format!("{}/{}", json::text(it, "type"), json::text(it, "id"))).collect())
}

/// Looks until something holds.
pub(crate) fn within(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        if begun.elapsed() > LIMIT {
            bail!("{what}: not within {} s", LIMIT.as_secs());
        }
    }
    Ok(())
}

/// A command is refused by name.
pub(crate) fn refused(answer: &handover_scenarios::process::Answer, code: &str) -> Result<()> {
    ensure!(
        answer.problem().as_deref() == Some(code),
        "not refused as {code}: {} {}",
        answer.command,
        answer.stderr
    );
    Ok(())
}
