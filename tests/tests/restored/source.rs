//! The source is restored from a backup from before it signed nearly everything.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use handover_scenarios::world::World;
use serde_json::json;

use crate::ends::{Kept, all_agree, is_at_both, is_filed_once, no_errors, no_key_left};
use crate::moves::{DESTINATION, Move, SOURCE, patients, same, text};
use crate::people::{costs_nothing_again, delivered, ends_once, filed, import_report, quoted, taken_back};
use crate::recalls::{charged_tests, is_marked, recall};
use crate::stage::{caught_up, on_a_world, restore};

/// A report that is imported after the backup.
const LATE_REPORT: &str = "late-report";

#[test]
fn a_source_gets_back_what_it_signed() -> Result<()> {
    on_a_world(play)
}

/// Each at another point when the backup is made, and when the source is restored.
struct Cast {
    /// Filed and paid; then a test is recalled.
    recalled: Move,
    /// Quoted; then delivered, and not released.
    quoted: Move,
    /// Not asked for; then filed and paid.
    filed: Move,
    /// Quoted; then delivered, and taken back.
    revoked: Move,
    /// Not asked for; then delivered, and not released.
    delivered: Move,
}

fn play(world: &mut World) -> Result<()> {
    let mut cast = Cast::of(world)?;
    let backup = cast.before(world).context("before the backup")?;
    let (fee, tests) = cast.after(world).context("after the backup")?;
    let cast = cast;
    let all = [&cast.recalled, &cast.quoted, &cast.filed, &cast.revoked, &cast.delivered];
    let kept = Kept::at(world, SOURCE, &all)?;
    restore(world, SOURCE, &backup)?;

    let said = caught_up(world, SOURCE)?;
    ensure!(said["artefacts"].as_u64() > Some(0) && said["unfiled"] == json!([]), "{said}");
    kept.is_back(world, SOURCE).context("what was signed")?;
    is_filed_once(world, &cast.filed, &fee).context("filed since")?;
    is_at_both(world, &cast.revoked, "revoked").context("taken back since")?;
    no_key_left(world, &cast.revoked)?;
    same("what was quoted before ends", &"filed", &ends_once(world, &cast.quoted)?.as_str())?;
    ends_once(world, &cast.delivered).context("asked for and delivered since")?;
    recalled_since(world, &cast.recalled, &tests).context("recalled since")?;
    import_report(world, &cast.filed, LATE_REPORT)?;
    costs_nothing_again(world, &cast.filed).context("a further transfer of what was charged since")?;
    no_key_left(world, &cast.revoked)?;
    all_agree(world)?;
    no_errors(world, SOURCE)
}

impl Cast {
    fn of(world: &World) -> Result<Self> {
        let moves: Result<[Move; 5], _> = patients(world, &[0; 5])?.try_into();
        let Ok([recalled, quoted, filed, revoked, delivered]) = moves else { bail!("five patients") };
        Ok(Self { recalled, quoted, filed, revoked, delivered })
    }

    fn before(&mut self, world: &mut World) -> Result<PathBuf> {
        quoted(world, &mut self.recalled)?;
        filed(world, &self.recalled)?;
        quoted(world, &mut self.quoted)?;
        quoted(world, &mut self.revoked)?;
        world.back_up(SOURCE)
    }

    /// The fee of what is filed, and the charged tests of what is recalled, of which the first is.
    fn after(&mut self, world: &World) -> Result<(String, Vec<String>)> {
        import_report(world, &self.filed, LATE_REPORT)?;
        quoted(world, &mut self.filed)?;
        let fee = filed(world, &self.filed)?;
        delivered(world, &self.quoted)?;
        delivered(world, &self.revoked)?;
        taken_back(world, &self.revoked)?;
        quoted(world, &mut self.delivered)?;
        delivered(world, &self.delivered)?;
        let tests = charged_tests(world, &self.recalled)?;
        let made = recall(world, &self.recalled, tests.first().context("no test")?, 1)?;
        ensure!(made["fee_differs"].is_null(), "both compute the same: {made}");
        Ok((fee, tests))
    }
}

/// The recall is known and its number taken; the next has the next one. What the first was about only the destination
/// can read, so what the next gives back may differ from what that computes; then it is shown.
fn recalled_since(world: &World, it: &Move, tests: &[String]) -> Result<()> {
    let (own, others) = (is_marked(world, it, SOURCE, 1)?, is_marked(world, it, DESTINATION, 1)?);
    same("the recall", &text(&others, "recall"), &text(&own, "recall"))?;
    same("what is given back", &text(&others, "fee_back"), &text(&own, "fee_back"))?;
    recall(world, it, tests.get(1).context("no second test")?, 2)?;
    Ok(())
}
