//! The source replaces its keys while transfers are under way, one of them sealed for a hospital that is away.

use std::fs;

use anyhow::{Context as _, Result, bail};
use handover_scenarios::world::World;

use crate::ends::{Kept, all_agree, is_at_both, is_filed_once, no_errors};
use crate::moves::{DESTINATION, Move, SOURCE, patients, same, text, within};
use crate::on_a_world;
use crate::people::{costs_nothing_again, delivered, filed, once_more, quote, quoted};

#[test]
fn what_a_source_has_under_way_ends_well_under_its_next_keys() -> Result<()> {
    on_a_world(play)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 4], _> = patients(world, &[0, 0, 200_000, 0])?.try_into();
    let Ok([mut before, mut lies, mut left, mut asked]) = moves else { bail!("four patients") };
    for it in [&mut before, &mut lies, &mut left, &mut asked] {
        quoted(world, it)?;
    }
    let first_fee = filed(world, &before)?;
    let fees = [text(&quote(world, &lies)?, "fee").to_owned(), text(&quote(world, &left)?, "fee").to_owned()];
    delivered(world, &lies)?;
    // Its package lies in the folder of a hospital that is away, signed with the keys of before.
    world.stop(DESTINATION)?;
    world.wallet_at(&left.wallet, SOURCE, &["consent", "--transfer", &left.transfer])?.done()?;
    within("it is left in the folder", || Ok(left.show(world, SOURCE)?["folder"]["until"].is_string()))?;
    let kept = Kept::at(world, SOURCE, &[&before, &lies])?;

    world.renew_keys(SOURCE)?;

    world.restart(DESTINATION)?;
    lies.wallet(world, "release", &[])?.done()?;
    is_filed_once(world, &lies, &fees[0]).context("what lay at the destination")?;
    is_filed_once(world, &left, &fees[1]).context("what lay in the folder")?;
    // A patient who has not agreed yet looks at the hospitals' codes again, and asks anew.
    let refused = asked.wallet(world, "consent", &[])?;
    same("what the wallet says to the old quote", &Some("wrong-signer"), &refused.problem().as_deref())?;
    let mut again = once_more(&asked);
    quoted(world, &mut again)?;
    filed(world, &again).context("asked for anew")?;
    costs_nothing_again(world, &before).context("a transfer after it")?;

    is_filed_once(world, &before, &first_fee)?;
    is_at_both(world, &before, "filed")?;
    kept.is_back(world, SOURCE).context("what was signed before")?;
    Kept::at(world, DESTINATION, &[&before, &lies, &left]).context("what the destination has verifies")?;
    same(
        "steps of before under a key that was replaced",
        &["quote", "package-header", "key-release"].map(str::to_owned).to_vec(),
        &replaced(world, &before)?,
    )?;
    all_agree(world)?;
    no_errors(world, SOURCE)?;
    no_errors(world, DESTINATION)
}

/// What a destination has begun to take from its folder, under the keys of before, it opens with what the source itself
/// brings: from the index it takes nothing more under them.
#[test]
fn a_release_under_the_keys_of_before_comes_from_its_source() -> Result<()> {
    on_a_world(play_late)
}

fn play_late(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 1], _> = patients(world, &[200_000])?.try_into();
    let Ok([mut it]) = moves else { bail!("a patient") };
    let key = world.further_keys(SOURCE)?;
    quoted(world, &mut it)?;
    let fee = text(&quote(world, &it)?, "fee").to_owned();
    world.stop(DESTINATION)?;
    let consent = ["consent", "--no-release", "--transfer", &it.transfer];
    world.wallet_at(&it.wallet, SOURCE, &consent)?.done()?;
    within("it is left in the folder", || Ok(it.show(world, SOURCE)?["folder"]["until"].is_string()))?;
    world.stop(SOURCE)?;
    world.restart(DESTINATION)?;
    it.until(world, DESTINATION, "delivered")?;
    world.let_succeed(SOURCE, &key)?;
    let version = world.index(&["directory", "show"])?.json()?["version"].as_u64();
    within("the destination knows of the next keys", || {
        Ok(world.node(DESTINATION, &["status"])?.json()?["directory"]["version"].as_u64() >= version)
    })?;

    it.wallet(world, "release", &[])?.done()?;
    within("the index hands the release out", || {
        Ok(fs::read_to_string(world.logs().join("index.log"))?.contains("was handed out from a folder"))
    })?;
    same("the state at the destination", &"delivered", &text(&it.show(world, DESTINATION)?, "state"))?;
    // It learns of that from the index, under the keys of before.
    world.restart(SOURCE)?;
    world.ends(SOURCE)?;
    world.restart(SOURCE)?;
    is_filed_once(world, &it, &fee)?;
    all_agree(world)?;
    no_errors(world, SOURCE)?;
    no_errors(world, DESTINATION)
}

/// What an auditor is told of the keys: the kinds of artefacts that were signed with one that was replaced since.
fn replaced(world: &World, it: &Move) -> Result<Vec<String>> {
    let file = world.records_folder().join(format!("{}-{SOURCE}.handover", it.transfer));
    let verified = world.verify(&file)?.json()?;
    let steps = verified["steps"].as_array().context("no steps")?;
    let former = steps.iter().filter(|step| step["key_replaced"] == true);
    let kind =
        |step| text(step, "artefact").trim_start_matches("handover/").trim_end_matches("/1").to_owned();
    Ok(former.map(kind).collect())
}
