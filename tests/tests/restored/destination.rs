//! The destination is restored from a backup from before it asked for anything.

use anyhow::{Context as _, Result, bail};
use handover_scenarios::world::World;
use serde_json::json;

use crate::ends::{Kept, all_agree, is_at_both, is_filed_once, no_errors, no_key_left};
use crate::moves::{DESTINATION, Move, SOURCE, patients, same, text};
use crate::people::{costs_nothing_again, delivered, ends_once, filed, quoted, taken_back};
use crate::recalls::{charged_tests, is_marked, recall};
use crate::stage::{caught_up, on_a_world, restore};

#[test]
fn a_destination_gets_back_what_it_signed_and_then_what_it_was_sent() -> Result<()> {
    on_a_world(play)
}

/// How far each is when the destination is restored. None was asked for when the backup was made.
struct Cast {
    /// Filed, paid, and a test of it recalled.
    filed: Move,
    /// Delivered, and not released.
    delivered: Move,
    /// Quoted.
    quoted: Move,
    /// Delivered, and taken back.
    revoked: Move,
}

fn play(world: &mut World) -> Result<()> {
    let mut cast = Cast::of(world)?;
    let backup = world.back_up(DESTINATION)?;
    let (fee, test) = cast.after(world).context("after the backup")?;
    let cast = cast;
    let kept = Kept::at(world, DESTINATION, &[&cast.filed, &cast.delivered, &cast.quoted, &cast.revoked])?;
    restore(world, DESTINATION, &backup)?;

    let said = caught_up(world, DESTINATION)?;
    same("transfers whose records are missing", &json!([cast.filed.transfer]), &said["unfiled"])?;
    kept.is_back(world, DESTINATION).context("what was signed")?;
    is_filed_once(world, &cast.filed, &fee).context("filed since")?;
    same("records that are there", &0, &cast.filed.records(world, DESTINATION)?.len())?;
    is_marked(world, &cast.filed, DESTINATION, 1)?;
    is_at_both(world, &cast.revoked, "revoked").context("taken back since")?;
    no_key_left(world, &cast.revoked)?;
    filed_again(world, &cast.filed, &test).context("what was filed since")?;
    same("what was delivered ends", &"filed", &ends_once(world, &cast.delivered)?.as_str())?;
    cast.quoted.wallet(world, "consent", &[])?.done()?;
    same("what was quoted ends", &"filed", &ends_once(world, &cast.quoted)?.as_str())?;
    no_key_left(world, &cast.revoked)?;
    all_agree(world)?;
    no_errors(world, DESTINATION)
}

impl Cast {
    fn of(world: &World) -> Result<Self> {
        let moves: Result<[Move; 4], _> = patients(world, &[0; 4])?.try_into();
        let Ok([filed, delivered, quoted, revoked]) = moves else { bail!("four patients") };
        Ok(Self { filed, delivered, quoted, revoked })
    }

    /// The fee of what is filed, and the test of it that is recalled.
    fn after(&mut self, world: &World) -> Result<(String, String)> {
        for it in [&mut self.filed, &mut self.delivered, &mut self.quoted, &mut self.revoked] {
            quoted(world, it)?;
        }
        let fee = filed(world, &self.filed)?;
        let test = charged_tests(world, &self.filed)?.into_iter().next().context("no test")?;
        recall(world, &self.filed, &test, 1)?;
        delivered(world, &self.delivered)?;
        delivered(world, &self.revoked)?;
        taken_back(world, &self.revoked)?;
        Ok((fee, test))
    }
}

/// The patient asks once more: the records are there, with what is said against one of them.
fn filed_again(world: &World, it: &Move, test: &str) -> Result<()> {
    let again = costs_nothing_again(world, it)?;
    again.records_are_equal(world)?;
    let records = again.records(world, DESTINATION)?;
    let marked = records.iter().find(|record| record["id"] == test).context("no such record")?;
    same("who says so", &SOURCE, &text(&marked["recalled"], "by"))
}
