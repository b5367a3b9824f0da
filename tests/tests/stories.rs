//! Every shipped story, played on real processes by the same runner as the demo.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Action, Silent, Story};
use handover_scenarios::world::{Options, World};

/// The shipped stories. Those in which a hospital loses its membership come last: one world serves all.
fn shipped() -> Result<Vec<Story>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/stories");
    let mut paths = std::fs::read_dir(folder)?.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    let mut stories = paths.iter().map(|path| Ok(story::load(path)?)).collect::<Result<Vec<_>>>()?;
    let costs_a_member =
        |story: &Story| story.steps.iter().any(|step| matches!(step.action, Action::Order { .. }));
    stories.sort_by_key(costs_a_member);
    Ok(stories)
}

#[test]
fn every_shipped_story_comes_out_as_told() -> Result<()> {
    let stories = shipped()?;
    ensure!(stories.len() >= 3, "where are the stories?");
    let mut hospitals: Vec<&str> =
        stories.iter().flat_map(|story| &story.hospitals).map(String::as_str).collect();
    hospitals.sort_unstable();
    hospitals.dedup();
    let mut world = World::start(Programs::shared()?, &Options::of(&hospitals))?;
    for story in &stories {
        let told = story::play(&mut world, story, &mut Silent);
        let outcome = match told {
            Ok(outcome) => outcome,
            Err(error) => {
                world.leave_folder();
                return Err(error).with_context(|| story.title.clone());
            }
        };
        ensure!(outcome.ledger.balanced, "\"{}\": the books do not balance", story.title);
    }
    for hospital in &hospitals {
        let checked = world.node(hospital, &["check"])?.json()?;
        ensure!(checked["whole"] == true, "{hospital} is damaged: {checked}");
    }
    world.index(&["check"])?.done()
}
