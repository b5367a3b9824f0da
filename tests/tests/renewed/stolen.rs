//! The destination's keys are stolen, and it replaces them. The thief, who has all that it had, is nobody from then on; what
//! was sealed to the stolen key is sealed anew before anything is released. One that was revoked comes back under others.

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::story::Order;
use handover_scenarios::world::World;

use crate::ends::{all_agree, is_filed_once, no_errors};
use crate::moves::{DESTINATION, Move, SOURCE, patients, same, text, within};
use crate::on_a_world;
use crate::people::{delivered, filed, once_more, quote, quoted};

#[test]
fn a_thief_of_a_destinations_keys_is_nobody_and_opens_nothing() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 2], _> = patients(world, &[0, 200_000])?.try_into();
    let Ok([mut before, mut lies]) = moves else { bail!("two patients") };
    quoted(world, &mut before)?;
    quoted(world, &mut lies)?;
    filed(world, &before)?;
    let fee = text(&quote(world, &lies)?, "fee").to_owned();
    delivered(world, &lies)?;
    let stolen = world.back_up(DESTINATION)?;
    let key = world.further_keys(DESTINATION)?;
    let exit = world.succeed(DESTINATION, &key)?;
    ensure!(exit != 0, "nobody would start it again");

    // Who has the keys of before runs them, wherever. Without the index that process does not even know that they are
    // replaced; nobody lets it in, and once it knows it ends.
    world.stop_index()?;
    let own = world.exchange_data(DESTINATION, &stolen)?;
    world.restart(DESTINATION)?;
    let mut never = once_more(&before);
    never.ask(world)?;
    never.request(world)?;
    within("what the thief sends is taken by nobody", || sent_nothing(world, &never))?;
    world.restart_index(false)?;
    let exit = world.ends(DESTINATION)?;
    ensure!(exit != 0, "the thief's process ends as if all were well");
    let unknown = world.node(SOURCE, &["transfer", "show", &never.transfer])?;
    same("what the source knows of it", &Some("unknown-transfer"), &unknown.problem().as_deref())?;
    world.put_back(DESTINATION, &own)?;
    world.restart(DESTINATION)?;

    lies.wallet(world, "release", &[])?.done()?;
    is_filed_once(world, &lies, &fee).context("what lay there under the stolen key")?;
    same("the attempt that was opened", &Some(2), &lies.show(world, SOURCE)?["attempt"].as_u64())?;
    let mut again = once_more(&before);
    quoted(world, &mut again)?;
    filed(world, &again)?;

    world.order(DESTINATION, Order::Revoke)?;
    within("it knows that it is revoked", || Ok(standing(world, DESTINATION)? == "hospital-revoked"))?;
    world.renew_keys(DESTINATION)?;
    let mut back = once_more(&lies);
    quoted(world, &mut back).context("after it was revoked")?;
    filed(world, &back)?;
    all_agree(world)?;
    no_errors(world, SOURCE)?;
    no_errors(world, DESTINATION)
}

/// A transfer's parcels were tried, and wait.
fn sent_nothing(world: &World, it: &Move) -> Result<bool> {
    let shown = it.show(world, DESTINATION)?;
    let is_tried = shown["waits"].as_array().is_some_and(|waits| !waits.is_empty());
    Ok(is_tried && shown["waiting"].as_u64().is_some_and(|count| count > 0))
}

/// Why this hospital takes no part; empty if it does.
fn standing(world: &World, at: &str) -> Result<String> {
    let status = world.node(at, &["status"])?.json()?;
    let named = status["degraded"].as_array().context("no status")?;
    let found = named.iter().find(|it| it["component"] == "hospital");
    Ok(found.map(|it| text(it, "code").to_owned()).unwrap_or_default())
}
