//! The source is restored while the index is away: it signs and gives out nothing until that has told what it knows.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::world::World;
use serde_json::json;

use crate::ends::{all_agree, is_at_both, is_filed_once, no_errors, no_key_left};
use crate::moves::{DESTINATION, Move, SOURCE, patients, same, text, within};
use crate::people::{delivered, filed, quoted, release_in_a_file, taken_back};
use crate::stage::{caught_up, is_answered, is_catching_up, on_a_world, rejoining, roll_back};

#[test]
fn without_the_index_nothing_is_sealed_or_released() -> Result<()> {
    on_a_world(play)
}

/// Each at another point when the backup is made, and when the source is restored.
struct Cast {
    /// Quoted; then filed and paid.
    filed: Move,
    /// Quoted; the patient says yes while the source catches up.
    agreed: Move,
    /// Delivered; the patient releases while the source catches up.
    released: Move,
    /// Delivered, with a release in a file; then taken back.
    revoked: Move,
}

fn play(world: &mut World) -> Result<()> {
    let mut cast = Cast::of(world)?;
    let (backup, carried) = cast.before(world).context("before the backup")?;
    let cast = cast;
    let fee = filed(world, &cast.filed)?;
    taken_back(world, &cast.revoked)?;
    roll_back(world, SOURCE, &backup)?;
    world.stop_index()?;
    world.restart(SOURCE)?;

    let is_kept = cast.patients_come(world, &carried).context("who comes meanwhile")?;
    waits_for_the_index(world)?;
    cast.nothing_goes_on(world)?;
    // What it has found out it knows after a kill, too.
    world.kill(SOURCE)?;
    world.restart(SOURCE)?;
    ensure!(is_catching_up(world, SOURCE)?, "it does not say any more that it catches up");
    cast.nothing_goes_on(world).context("after a kill")?;

    world.restart_index(false)?;
    caught_up(world, SOURCE)?;
    if !is_kept {
        cast.agreed.wallet(world, "consent", &[])?.done()?;
    }
    cast.agreed.ends_well(world)?;
    cast.released.ends_well(world)?;
    is_filed_once(world, &cast.filed, &fee)?;
    is_at_both(world, &cast.revoked, "revoked")?;
    no_key_left(world, &cast.revoked)?;
    all_agree(world)?;
    no_errors(world, SOURCE)
}

impl Cast {
    fn of(world: &World) -> Result<Self> {
        let moves: Result<[Move; 4], _> = patients(world, &[0; 4])?.try_into();
        let Ok([filed, agreed, released, revoked]) = moves else { bail!("four patients") };
        Ok(Self { filed, agreed, released, revoked })
    }

    /// The backup, and the file with a release that was not handed in.
    fn before(&mut self, world: &mut World) -> Result<(PathBuf, String)> {
        for it in [&mut self.filed, &mut self.agreed, &mut self.released, &mut self.revoked] {
            quoted(world, it)?;
        }
        delivered(world, &self.released)?;
        delivered(world, &self.revoked)?;
        let file = release_in_a_file(world, &self.revoked)?;
        Ok((world.back_up(SOURCE)?, file))
    }

    /// Each is taken, or refused for now; whether the consent was taken.
    fn patients_come(&self, world: &World, carried: &str) -> Result<bool> {
        let brought = world.node(SOURCE, &["patient", "take", "--file", carried])?;
        ensure!(
            is_answered(&brought) || brought.problem().as_deref() == Some("consent-revoked"),
            "{brought:?}"
        );
        self.released.wallet(world, "release", &[])?.done()?;
        let consent = ["consent", "--transfer", &self.agreed.transfer];
        let consented = world.wallet_at(&self.agreed.wallet, SOURCE, &consent)?;
        ensure!(is_answered(&consented), "{consented:?}");
        Ok(consented.exit == Some(0))
    }

    fn nothing_goes_on(&self, world: &World) -> Result<()> {
        no_key_left(world, &self.revoked)?;
        no_key_left(world, &self.released)?;
        for at in [SOURCE, DESTINATION] {
            let shown = self.agreed.show(world, at)?;
            ensure!(["quoted", "consented"].contains(&text(&shown, "state")), "sealed at {at}: {shown}");
        }
        same("the state at the source", &"delivered", &text(&self.released.show(world, SOURCE)?, "state"))
    }
}

/// The other hospital has told everything, and the index cannot.
fn waits_for_the_index(world: &World) -> Result<()> {
    let mut last = json!(null);
    let waits = within("the source waits for the index alone", || {
        last = rejoining(world, SOURCE)?;
        Ok(last["found"].is_string() && last["waits_for"] == json!(["index"]))
    });
    waits.with_context(|| format!("it says: {last}"))?;
    ensure!(is_catching_up(world, SOURCE)?, "its status does not say that it catches up");
    Ok(())
}
