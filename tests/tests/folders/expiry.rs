//! A package waits for a hospital that stays away until the consent to it has ended: it is removed, with its release, by
//! the index's clock; both hospitals say that it has ended, nothing was filed, and no fee is due.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::{World, is_due};

use crate::moves::{DESTINATION, Move, SOURCE, same, text, within};
use crate::stage::{agreed_while_apart, emptied, folder, left};

const HOUR_SECONDS: i64 = 60 * 60;
/// How long a consent holds if nobody says otherwise.
const CONSENT_HOURS: i64 = 72;

pub(crate) fn ends(world: &mut World, moves: &mut [Move]) -> Result<()> {
    let [it, later] = moves else { unreachable!("two patients") };
    agreed_while_apart(world, it, &[])?;
    let shown = left(world, it)?;
    let until = text(&shown["folder"], "until").to_owned();

    world.set_clock((CONSENT_HOURS - 1) * HOUR_SECONDS)?;
    // Its round has been there: the directory is of that day.
    has_a_fresh_directory(world, SOURCE)?;
    let listed = folder(world)?;
    same("packages an hour before", &Some(1), &listed["packages"].as_u64())?;

    world.set_clock((CONSENT_HOURS + 1) * HOUR_SECONDS)?;
    emptied(world).with_context(|| format!("kept until {until}"))?;
    world.restart(DESTINATION)?;
    for at in [SOURCE, DESTINATION] {
        let shown = it.until(world, at, "filed")?;
        let ended = (text(&shown, "state"), text(&shown, "reason"));
        same(&format!("the end at {at}"), &("refused", "consent-expired"), &ended)?;
    }
    same("records that were filed", &0, &it.records(world, DESTINATION)?.len())?;
    let entries = world.entries(&it.transfer)?;
    ensure!(!entries.iter().any(is_due), "a fee for what never arrived: {entries:?}");

    // Others go on.
    for at in [SOURCE, DESTINATION] {
        has_a_fresh_directory(world, at)?;
    }
    later.ask(world)?;
    later.request(world)?;
    later.quoted(world)?;
    later.wallet(world, "consent", &[])?.done()?;
    later.ends_well(world)
}

fn has_a_fresh_directory(world: &World, at: &str) -> Result<()> {
    within(&format!("{at} has a directory of that day"), || {
        let shown = world.node(at, &["status"])?.json()?;
        let named = shown["degraded"].as_array().into_iter().flatten();
        Ok(named.filter(|it| it["component"] == "directory").count() == 0)
    })
}
