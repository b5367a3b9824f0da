//! `cargo demo`: one index and three hospitals on fresh keys, told so that a newcomer understands each step; or a
//! folder of FHIR files moved from one hospital to another.

mod args;
mod ending;
mod files;
mod given;
mod teller;

use std::fmt::Display;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use handover_scenarios::process;
use handover_scenarios::programs::Programs;
use handover_scenarios::story::{self, Outcome, Story};
use handover_scenarios::world::{Options, World};

use args::Arguments;
use given::Given;
use teller::Teller;

/// The hospitals; the first one has the records.
const HOSPITALS: [&str; 3] = ["lakeside", "riverside", "northgate"];
/// The exit code if an option is given wrongly.
const EXIT_USAGE: u8 = 2;
/// The exit code if what was sent and what was filed differ.
const EXIT_DIFFERS: u8 = 5;
/// The exit code of Ctrl-C.
const EXIT_INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What is given wrongly is told before anything is built or started.
    let given = match Given::check(&arguments) {
        Ok(given) => given,
        Err(faults) => {
            tell_error(&faults);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let mut left = None;
    let Err(error) = run(&arguments, &given, &mut left) else { return ExitCode::SUCCESS };
    tell_error(&error);
    if let Some(folder) = left {
        tell_error(&format!(
            "The processes are ended. Left for looking into: {}, with records, wallets, passphrases and logs. Remove \
             it afterwards.",
            folder.display()
        ));
    }
    let differs = error.downcast_ref::<story::Difference>().is_some();
    if differs { ExitCode::from(EXIT_DIFFERS) } else { ExitCode::FAILURE }
}

fn tell_error(error: &dyn Display) {
    // Nothing can be done about an error that cannot be written: the exit code still tells.
    let _ = writeln!(std::io::stderr(), "\n{error:#}");
}

/// Plays; `left` is the folder that stays, without processes, because something failed.
fn run(arguments: &Arguments, given: &Given, left: &mut Option<PathBuf>) -> Result<()> {
    let mut teller = Teller::default();
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
    // A folder that was named stays, with what was made until then.
    let mut world = World::start(&programs, &options).inspect_err(|_| left.clone_from(&arguments.keep))?;
    teller.started(&world, begun.elapsed())?;
    let [first, second, _] = HOSPITALS;
    let told = match given {
        Given::Files(files) => files::play_all(&mut world, files, (first, second), &mut teller),
        Given::Stories(stories) => tell(&mut world, stories, &mut teller),
    };
    let told = told.and_then(|(outcome, failed)| {
        let written = arguments.json.as_deref().map_or(Ok(()), |path| ending::write_json(path, &outcome));
        let shown = ending::tell(&world, &outcome, &mut teller, begun.elapsed());
        failed.map_or(written.and(shown), Err)
    });
    if arguments.keep.is_some() {
        teller.kept(world)?;
    } else if told.is_err() {
        // The error names the logs: they stay.
        *left = Some(world.folder().to_owned());
        world.leave_folder();
    }
    told
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
