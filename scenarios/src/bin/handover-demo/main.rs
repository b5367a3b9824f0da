//! `cargo demo`: one index and three hospitals on fresh keys, told so that a newcomer understands each step; or a
//! folder of FHIR files moved from one hospital to another.

mod args;
mod ending;
mod files;
mod teller;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use handover_scenarios::process;
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Outcome, Story};
use handover_scenarios::world::{Options, World};

use args::Arguments;
use teller::Teller;

/// The hospitals; the first one has the records.
const HOSPITALS: [&str; 3] = ["lakeside", "riverside", "northgate"];
/// The stories, in the order in which they are told. The last one costs a hospital its membership.
const STORIES: [(&str, &str); 3] = [
    ("move.toml", include_str!("../../../stories/move.toml")),
    ("narrow.toml", include_str!("../../../stories/narrow.toml")),
    ("refused.toml", include_str!("../../../stories/refused.toml")),
];
/// The exit code if what was sent and what was filed differ.
const EXIT_DIFFERS: u8 = 5;
/// The exit code of Ctrl-C.
const EXIT_INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done about an error that cannot be written: the exit code still tells.
            let _ = writeln!(std::io::stderr(), "\n{error:#}");
            let differs = error.downcast_ref::<story::Difference>().is_some();
            if differs { ExitCode::from(EXIT_DIFFERS) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut teller = Teller::default();
    // What is given wrongly is told before anything is built.
    let stories = stories(&arguments.story)?;
    let files = arguments.records.as_deref().map(files::files_of).transpose()?;
    for path in arguments.catalogue.iter().chain(&arguments.prices) {
        ensure!(path.is_file(), "there is no file {}", path.display());
    }
    teller.note("Building what is started; the first time takes some minutes.")?;
    let programs = Programs::build()?;
    let begun = Instant::now();
    let options = Options {
        folder: arguments.keep.clone(),
        catalogue: arguments.catalogue.clone(),
        prices: arguments.prices.clone(),
        apart: arguments.keep.is_some(),
        ..Options::of(&HOSPITALS)
    };
    clean_up_on_interrupt(arguments.keep.is_none())?;
    teller.title("A federation of hospitals")?;
    teller.text(
        "One index and three hospitals, each a process of its own, with keys that did not exist a moment ago. The \
         federation's root certifies them; two operators admit every hospital.",
    )?;
    let mut world = World::start(&programs, &options)?;
    teller.started(&world, begun.elapsed())?;
    let [first, second, _] = HOSPITALS;
    let told = match &files {
        Some(files) => files::play_all(&mut world, files, (first, second), &mut teller),
        None => tell(&mut world, &stories, &mut teller),
    };
    let told = told.and_then(|(outcome, failed)| {
        ending::tell(&world, &outcome, &mut teller, begun.elapsed())?;
        if let Some(path) = &arguments.json {
            ending::write_json(path, &outcome)?;
        }
        failed.map_or(Ok(()), Err)
    });
    if arguments.keep.is_some() {
        teller.kept(world)?;
    } else if told.is_err() {
        // The error names the logs: they stay.
        teller.note("Data and logs are left where they are; the processes are ended.")?;
        world.leave_folder();
    }
    told
}

/// The stories that were named, or the shipped ones.
fn stories(named: &[PathBuf]) -> Result<Vec<Story>> {
    if named.is_empty() {
        return STORIES.iter().map(|(name, text)| Ok(story::parse(text, name.as_ref())?)).collect();
    }
    let told: Vec<Story> = named.iter().map(|path| Ok(story::load(path)?)).collect::<Result<_>>()?;
    for story in &told {
        for hospital in &story.hospitals {
            ensure!(
                HOSPITALS.contains(&hospital.as_str()),
                "\"{}\": there is no hospital \"{hospital}\"; there are {}",
                story.title,
                HOSPITALS.join(", ")
            );
        }
    }
    Ok(told)
}

fn tell(
    world: &mut World,
    stories: &[Story],
    teller: &mut Teller,
) -> Result<(Outcome, Option<anyhow::Error>)> {
    let mut all = Outcome::default();
    for story in stories {
        let played = story::play_as_far(world, story, teller)?;
        all.transfers.extend(played.outcome.transfers);
        all.ledger = played.outcome.ledger;
        if let Some((_, error)) = played.failed {
            return Ok((all, Some(error)));
        }
    }
    Ok((all, None))
}

/// Ctrl-C ends what was started: the processes, and a temporary folder with them.
fn clean_up_on_interrupt(is_temporary: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("signals")?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            process::kill_all();
            if is_temporary {
                handover_scenarios::world::remove_temporary_folders();
            }
            std::process::exit(EXIT_INTERRUPTED);
        }
    });
    Ok(())
}
