//! The index is away for days: the hospitals go on as long as their directory holds, say so, and say when it does not
//! hold any more. Nothing is lost; what happened meanwhile is made up for when the index is back.

use anyhow::{Context, Result, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::story::Order;
use handover_scenarios::world::{Options, World, is_due};
use serde_json::Value;

use crate::moves::{DESTINATION, LIMIT_SECONDS, Move, SOURCE, Victim, close, patients, same, text, within};

const HOUR_SECONDS: i64 = 60 * 60;
/// What the federation promises a directory to hold.
const DIRECTORY_HOURS: i64 = 72;

#[test]
fn hospitals_go_on_until_the_directory_expires() -> Result<()> {
    let options = Options { clock: true, ..Options::of(&[SOURCE, DESTINATION]) };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&mut world);
    close(world, outcome)
}

fn play(world: &mut World) -> Result<()> {
    let mut moves = patients(world, &[0; 6])?;
    let [soon, late, taken_back, begun, asked, delivered] = moves.as_mut_slice() else {
        unreachable!("six patients")
    };
    for at in [SOURCE, DESTINATION] {
        same("what does not work at first", &Vec::<String>::new(), &degraded(&status(world, at)?))?;
    }
    kill(Victim::Index.pid(world)?)?;

    filed_without_the_index(world, soon).context("soon after it went")?;
    let expires = is_named_with_its_end(world)?;
    is_taken_back(world, taken_back).context("a consent that is taken back")?;

    world.set_clock((DIRECTORY_HOURS - 1) * HOUR_SECONDS)?;
    filed_without_the_index(world, late).context("an hour before the directory expires")?;
    asked.ask(world)?;
    for it in [&mut *begun, &mut *delivered] {
        it.ask(world)?;
        it.request(world)?;
        it.quoted(world)?;
    }
    delivered.wallet(world, "consent", &["--no-release"])?.done()?;
    delivered.until(world, SOURCE, "delivered")?;

    world.set_clock((DIRECTORY_HOURS + 1) * HOUR_SECONDS)?;
    nothing_goes_on(world, begun, asked, delivered).with_context(|| format!("after {expires}"))?;
    is_made_up_for(world, [soon, late, begun, asked, delivered], taken_back).context("when it is back")?;
    a_suspension_meanwhile_is_applied(world)
}

fn status(world: &World, at: &str) -> Result<Value> {
    world.node(at, &["status"])?.json()
}

fn degraded(status: &Value) -> Vec<String> {
    let named = status["degraded"].as_array().into_iter().flatten();
    named.map(|it| format!("{}: {}", text(it, "component"), text(it, "code"))).collect()
}

fn waiting_for_the_index(status: &Value) -> u64 {
    let mut waiting = status["waiting"].as_array().into_iter().flatten();
    waiting.find(|it| it["to"] == "index").and_then(|it| it["parcels"].as_u64()).unwrap_or_default()
}

fn filed_without_the_index(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &[])?.done()?;
    for at in [SOURCE, DESTINATION] {
        same("the state without the index", &"filed", &text(&it.until(world, at, "filed")?, "state"))?;
    }
    Ok(())
}

/// Both hospitals say what does not work, until when the rest does, and what waits.
fn is_named_with_its_end(world: &World) -> Result<String> {
    let mut ends = Vec::new();
    for at in [SOURCE, DESTINATION] {
        let shown = status(world, at)?;
        same("what does not work", &vec!["index: unreachable".to_owned()], &degraded(&shown))?;
        same("the end", &text(&shown["directory"], "expires"), &text(&shown["degraded"][0], "until"))?;
        same("whether the index is connected", &Some(false), &shown["index_connected"].as_bool())?;
        ensure!(waiting_for_the_index(&shown) > 0, "evidence waits for the index: {shown}");
        ends.push(text(&shown["degraded"][0], "until").to_owned());
    }
    ends.dedup();
    same("one end at both", &1, &ends.len())?;
    ends.pop().context("no end")
}

/// The patient's no reaches both hospitals without the index, and both confirm it.
fn is_taken_back(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)?;
    it.wallet(world, "consent", &["--no-release"])?.done()?;
    it.until(world, DESTINATION, "delivered")?;
    it.wallet(world, "revoke", &[])?.done()?;
    for at in [SOURCE, DESTINATION] {
        within(
            &format!("it is taken back at {at}"),
            || Ok(text(&it.show(world, at)?, "state") == "revoked"),
        )?;
    }
    same("records that were filed", &0, &it.records(world, DESTINATION)?.len())
}

/// Neither the wallet nor the hospitals begin or release anything, with the reason; what has begun is kept.
fn nothing_goes_on(world: &World, begun: &Move, asked: &Move, delivered: &Move) -> Result<()> {
    let mut expected = vec!["directory: directory-expired".to_owned(), "index: unreachable".to_owned()];
    expected.sort();
    for at in [SOURCE, DESTINATION] {
        within(
            "it is told that the directory has expired",
            || Ok(degraded(&status(world, at)?) == expected),
        )?;
    }
    let expired = Some("directory-expired".to_owned());
    same("the consent", &expired, &begun.wallet(world, "consent", &[])?.problem())?;
    let request = world.node(DESTINATION, &["transfer", "request", &asked.transfer])?;
    same("the desk's request", &expired, &request.problem())?;
    // What the patient releases is taken, and the source hands nothing out.
    delivered.wallet(world, "release", &[])?.done()?;
    within("the source waits for a directory", || {
        let shown = delivered.show(world, SOURCE)?;
        let mut waits = shown["waits"].as_array().into_iter().flatten();
        Ok(waits.any(|it| text(it, "code") == "directory-expired"))
    })?;
    same("what has begun", &"quoted", &text(&begun.show(world, DESTINATION)?, "state"))?;
    same("what was delivered", &"delivered", &text(&delivered.show(world, SOURCE)?, "state"))
}

/// Evidence flows in by itself, each fee once; what had begun goes on.
fn is_made_up_for(
    world: &mut World,
    [soon, late, begun, asked, delivered]: [&mut Move; 5],
    taken_back: &Move,
) -> Result<()> {
    Victim::Index.restart(world)?;
    for at in [SOURCE, DESTINATION] {
        within(&format!("all is well at {at}"), || {
            let shown = status(world, at)?;
            Ok(degraded(&shown).is_empty() && shown["waiting"] == serde_json::json!([]))
        })?;
    }
    asked.request(world)?;
    asked.quoted(world)?;
    for it in [&mut *begun, &mut *asked] {
        it.wallet(world, "consent", &[])?.done()?;
    }
    for it in [soon, late, begun, asked, delivered] {
        it.ends_well(world)?;
    }
    let entries = world.entries(&taken_back.transfer)?;
    ensure!(!entries.iter().any(is_due), "a fee for what was taken back: {entries:?}");
    let inbox =
        taken_back.wallet(world, "inbox", &["--until", "revoked", "--wait", LIMIT_SECONDS])?.json()?;
    same("what the patient is told", &"revoked", &text(&inbox["transfers"][0], "phase"))
}

/// Two operators suspend a hospital while the index does not run.
fn a_suspension_meanwhile_is_applied(world: &mut World) -> Result<()> {
    kill(Victim::Index.pid(world)?)?;
    let version = world.order(DESTINATION, Order::Suspend)?;
    Victim::Index.restart(world)?;
    within("the suspended hospital says so", || {
        Ok(degraded(&status(world, DESTINATION)?).contains(&"hospital: hospital-suspended".to_owned()))
    })?;
    within("the other one has the directory that says so", || {
        Ok(status(world, SOURCE)?["directory"]["version"].as_u64() >= Some(version))
    })
}
