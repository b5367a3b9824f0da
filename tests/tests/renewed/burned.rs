//! A hospital's machine burns, with its keys and without a backup. It comes back under others: what it had signed comes back
//! from those who hold it, and what was on its way to it is sealed anew.

use anyhow::{Context as _, Result, bail};
use handover_scenarios::world::World;

use crate::ends::{Kept, no_errors};
use crate::moves::{DESTINATION, Move, SOURCE, patients, same, text, within};
use crate::on_a_world;
use crate::people::{costs_nothing_again, delivered, ends_once, filed, once_more, quote, quoted};

#[test]
fn a_hospital_that_lost_everything_comes_back_under_other_keys() -> Result<()> {
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
    let signed = Kept::at(world, DESTINATION, &[&before])?;

    world.burn(DESTINATION)?;
    let key = text(&world.node(DESTINATION, &["enrol"])?.json()?, "key").to_owned();
    world.let_succeed(DESTINATION, &key)?;
    world.node(DESTINATION, &["enrol", "--wait", "60"])?.done()?;
    // What the keys of before signed proves no loss, for a thief of them signs anything: a person says it.
    world.node(DESTINATION, &["rejoin"])?.done()?;
    let mut last = serde_json::Value::Null;
    let back = within("it has taken back what others hold", || {
        last = world.node(DESTINATION, &["status"])?.json()?["rejoin"].clone();
        Ok(last["done"].is_string())
    });
    back.with_context(|| format!("it says: {last}"))?;
    signed.is_back(world, DESTINATION)?;

    // Its patients it registers again; records come again, and what was charged is not charged twice.
    for it in [&before, &lies] {
        let registered = world.node(DESTINATION, &["patient", "register", &it.patient])?.json()?;
        let code = registered["link_code"].as_str().context("no link code")?;
        world.wallet_at(&it.wallet, DESTINATION, &["link", "--code", code])?.done()?;
    }
    // What was agreed to is sealed to the lost key: nobody can say what of it may be filed, and it costs nothing.
    let ended = ends_once(world, &lies)?;
    let shown = lies.show(world, SOURCE)?;
    same("what was under way", &("failed", "cannot-open"), &(&*ended, text(&shown, "reason")))?;
    let mut anew = once_more(&lies);
    quoted(world, &mut anew)?;
    same("the fee for what was asked for anew", &fee, &filed(world, &anew)?)?;
    anew.records_are_equal(world)?;
    costs_nothing_again(world, &before)?.records_are_equal(world)?;
    same("the state of before", &"filed", &text(&before.show(world, DESTINATION)?, "state"))?;
    // Of what failed after it was handed out two operators settle the fee.
    let checked = world.index(&["check"])?.json()?;
    same("fees that are held", &Some(1), &checked["open_holds"].as_u64())?;
    same("the books", &true, &(world.node(SOURCE, &["fees", "reconcile"])?.json()?["agrees"] == true))?;
    no_errors(world, SOURCE)?;
    no_errors(world, DESTINATION)
}
