//! Every shipped story, played on real processes by the same runner as the demo.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Action, Silent, Story};
use handover_scenarios::world::{Options, World};
use handover_scenarios::{generator, json};
use serde_json::Value;

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

/// No phone, no network at the patient's: every word is a file that goes to a desk, every answer one that comes back.
#[test]
fn a_patient_who_carries_files_moves_like_any_other() -> Result<()> {
    let (old, new) = ("lakeside", "riverside");
    let world = World::start(Programs::shared()?, &Options::of(&[old, new]))?;
    let records = world.records_folder().join("carl.json");
    let options = generator::Options::default();
    let written = generator::write_patient(61, &options, &mut std::fs::File::create(&records)?)?;
    let path = |name: &str| world.folder().join(name).to_str().map(str::to_owned).context("UTF-8");
    world.node(old, &["import", records.to_str().context("UTF-8")?])?.done()?;
    world.new_wallet("carl")?;
    for (desk, patient) in [(old, written.id.as_str()), (new, "carl")] {
        let (info, link, back) =
            (path(&format!("{desk}.info"))?, path(&format!("{desk}.link"))?, path(&format!("{desk}.back"))?);
        let registered = world.node(desk, &["patient", "register", patient])?.json()?;
        let code = json::text(&registered, "link_code");
        world.node(desk, &["patient", "info", "--out", &info])?.done()?;
        world.wallet("carl", &["link", "--code", code, "--hospital-info", &info, "--out", &link])?.done()?;
        world.node(desk, &["patient", "link", "--file", &link, "--out", &back])?.done()?;
        ensure!(
            world.wallet("carl", &["link", "--answer", &back])?.json()?["hospital"] == desk,
            "not linked"
        );
    }
    let info = path("riverside.info")?;
    // A question goes to the new hospital's desk in one file, its answer comes back in another.
    let asked = |name: &str, question: &[&str]| -> Result<Value> {
        let (out, back) = (path(name)?, path(&format!("{name}.back"))?);
        world.wallet("carl", &[question, &["--hospital-info", &info, "--out", &out]].concat())?.done()?;
        world.node(new, &["patient", "take", "--file", &out, "--out", &back])?.done()?;
        world.wallet("carl", &[&question[..1], &["--asked", &out, "--answer", &back]].concat())?.json()
    };
    let holders = asked("where", &["locate"])?;
    ensure!(json::list(&holders, "hospitals").any(|it| it["hospital"] == old), "not located: {holders}");
    let ask = path("ask")?;
    let ask_args = ["ask", "--source", old, "--hospital-info", &info, "--out", &ask];
    let transfer = json::text(&world.wallet("carl", &ask_args)?.json()?, "transfer").to_owned();
    world.node(new, &["patient", "take", "--file", &ask])?.done()?;
    world.node(new, &["transfer", "request", &transfer])?.done()?;
    world.node(new, &["transfer", "show", &transfer, "--wait", "60", "--until", "quoted"])?.done()?;
    let quoted = asked("quoted", &["inbox"])?;
    ensure!(quoted["transfers"][0]["needs_answer"] == true, "no quote: {quoted}");
    let yes = path("yes")?;
    world.wallet("carl", &["consent", "--transfer", &transfer, "--out", &yes])?.done()?;
    for file in [&yes, &format!("{yes}.share-release")] {
        world.node(new, &["patient", "take", "--file", file])?.done()?;
    }
    world.node(new, &["transfer", "show", &transfer, "--wait", "60", "--until", "filed"])?.done()?;
    let filed = asked("filed", &["inbox"])?;
    ensure!(filed["transfers"][0]["phase"] == "filed", "not filed: {filed}");
    // An answer to another question opens nothing.
    let crossed = ["inbox", "--asked", &path("quoted")?, "--answer", &path("filed.back")?];
    ensure!(world.wallet("carl", &crossed)?.exit == Some(5), "an answer fits another question");
    Ok(())
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
        let differences = &outcome.ledger.differences;
        ensure!(differences.is_empty(), "\"{}\": not what was signed: {differences:?}", story.title);
    }
    for hospital in &hospitals {
        let checked = world.node(hospital, &["check"])?.json()?;
        ensure!(checked["whole"] == true, "{hospital} is damaged: {checked}");
    }
    world.index(&["check"])?.done()
}
