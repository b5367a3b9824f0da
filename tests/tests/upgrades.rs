//! A federation is upgraded while it works: processes of this version and of the next stand beside each other, in any
//! order, and nothing under way is lost. On real processes; the next version is the draft of the next edition.

#![expect(clippy::indexing_slicing, reason = "JSON values: an absent key is null")]

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::world::{INDEX, World};
use handover_tests::{ends, moves, people};
use serde_json::{Value, json};

use ends::{Kept, all_agree, is_filed_once, no_errors};
use moves::{DESTINATION, Move, SOURCE, close, patients, same, text, within, world};
use people::{costs_nothing_again, delivered, filed, quote, quoted};

#[test]
fn both_versions_exchange_until_the_next_edition_is_in_force_and_after() -> Result<()> {
    let mut world = world()?;
    let outcome = play(&mut world);
    close(world, outcome)
}

fn play(world: &mut World) -> Result<()> {
    let moves: Result<[Move; 5], _> = patients(world, &[0; 5])?.try_into();
    let Ok([mut before, mut lies, mut asked, mut between, mut after]) = moves else { bail!("five patients") };
    for it in [&mut before, &mut lies, &mut asked] {
        quoted(world, it)?;
    }
    filed(world, &before)?;
    let fee = text(&quote(world, &lies)?, "fee").to_owned();
    delivered(world, &lies)?;

    world.upgrade(DESTINATION)?;
    reads(world, [(DESTINATION, 2), (SOURCE, 1)])?;
    quoted(world, &mut between)?;
    filed(world, &between).context("between the versions")?;
    refused(world, "2", "older-edition").context("the index itself is of before")?;
    world.upgrade(INDEX)?;
    refused(world, "2", "older-edition").context("a hospital is of before")?;
    world.upgrade(SOURCE)?;
    reads(world, [(DESTINATION, 2), (SOURCE, 2)])?;
    refused(world, "3", "out-of-order").context("none is passed over")?;
    let [first, second] = [&before, &between].map(|it| editions(world, it));
    same("what was signed until then", &(vec![1], vec![1]), &(first?, second?))?;
    let kept = Kept::at(world, SOURCE, &[&before, &lies, &between])?;

    let raised = world.index(&["edition", "--raise", "2"])?.json()?;
    same("what is in force", &json!(2), &raised["in_force"])?;
    same("once more", &raised, &world.index(&["edition", "--raise", "2"])?.json()?)?;
    for at in [SOURCE, DESTINATION] {
        within("the edition is in force", || {
            Ok(world.node(at, &["status"])?.json()?["directory"]["edition"] == 2)
        })?;
    }
    // Who still has a wallet of before is told why it does not go on, and loses nothing.
    let old = lies.wallet(world, "release", &[])?;
    same("what the old wallet says", &Some("newer-edition"), &old.problem().as_deref())?;
    for it in [&lies, &asked, &after, &before] {
        world.upgrade(&it.wallet)?;
    }
    lies.wallet(world, "release", &[])?.done()?;
    is_filed_once(world, &lies, &fee).context("what was delivered before")?;
    filed(world, &asked).context("what was quoted before")?;
    quoted(world, &mut after)?;
    filed(world, &after).context("what was asked for after it")?;
    costs_nothing_again(world, &before)?;
    same("what was quoted before has both", &vec![1, 2], &editions(world, &asked)?)?;
    same("what was asked for after it", &vec![2], &editions(world, &after)?)?;
    kept.is_back(world, SOURCE).context("what was signed before")?;
    let known = world.verify_with(&file(world, &before), false)?;
    same("a program of before says", &Some("newer-edition"), &known.problem().as_deref())?;

    // Nobody goes back: an older program would not understand what it signed itself, nor the directories of now.
    world.schedule("DE", &["--silence-days", "3"])?;
    let version = world.index(&["directory", "show"])?.json()?["version"].as_u64();
    within("the source has a directory of the next edition", || {
        Ok(world.node(SOURCE, &["status"])?.json()?["directory"]["version"].as_u64() >= version)
    })?;
    for whose in [SOURCE, INDEX] {
        let Err(stopped) = world.downgrade(whose) else { bail!("{whose} runs with a program of before") };
        ensure!(format!("{stopped:#}").contains("newer-edition"), "{stopped:#}");
        world.upgrade(whose)?;
    }
    all_agree(world)?;
    no_errors(world, DESTINATION)
}

/// Waits until the index knows who reads which edition.
fn reads(world: &World, expected: [(&str, u64); 2]) -> Result<()> {
    let mut last = Value::Null;
    let known = within("the index knows what hospitals read", || {
        last = world.index(&["edition"])?.json()?;
        Ok(last["hospitals"].as_array().is_some_and(|all| {
            expected
                .iter()
                .all(|(hospital, edition)| all.contains(&json!({"hospital": hospital, "reads": edition})))
        }))
    });
    known.with_context(|| format!("it says: {last}"))
}

/// The next edition is not put in force.
fn refused(world: &World, edition: &str, code: &str) -> Result<()> {
    let answer = world.index(&["edition", "--raise", edition])?;
    same("what raising it says", &Some(code), &answer.problem().as_deref())?;
    same("what is in force", &json!(1), &world.index(&["edition"])?.json()?["in_force"])
}

/// In which editions the artefacts of a transfer are that its patient and its hospitals signed, as they lie at the source.
fn editions(world: &World, it: &Move) -> Result<Vec<u8>> {
    ends::evidence(world, SOURCE, it)?;
    let file = fs::read(file(world, it))?;
    let signed =
        ["transfer-request", "quote", "consent", "package-header", "delivered", "share-release", "receipt"];
    let is_in = |edition: &u8| {
        signed.iter().any(|kind| {
            let label = format!("handover/{kind}/{edition}");
            file.windows(label.len()).any(|bytes| bytes == label.as_bytes())
        })
    };
    Ok((1..=3).filter(is_in).collect())
}

/// Where [`ends::evidence`] has put it.
fn file(world: &World, it: &Move) -> std::path::PathBuf {
    world.records_folder().join(format!("{}-{SOURCE}.handover", it.transfer))
}
