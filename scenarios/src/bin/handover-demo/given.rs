//! What was asked for on the command line, checked before anything is built or started; all faults at once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use handover_scenarios::story::{self, Story};
use handover_scenarios::world;

use crate::HOSPITALS;
use crate::args::Arguments;
use crate::files;

/// The stories, in the order in which they are told. The last one costs a hospital its membership.
const STORIES: [&str; 5] = ["move.toml", "narrow.toml", "continuous.toml", "referral.toml", "refused.toml"];
/// Where they lie, with what they import: the demo is always built from the clone that it is played in.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stories");

/// What is played.
#[derive(Debug)]
pub(crate) enum Given {
    /// FHIR files, each one patient.
    Files(Vec<PathBuf>),
    /// Stories.
    Stories(Vec<Story>),
}

impl Given {
    /// # Errors
    /// What is wrong with each option, a line each.
    pub(crate) fn check(arguments: &Arguments) -> Result<Self> {
        let mut faults = Vec::new();
        let mut note = |option: &str, checked: Result<()>| {
            if let Err(error) = checked {
                faults.push(format!("--{option}: {error:#}"));
            }
        };
        let mut given = Self::Stories(Vec::new());
        let played = match &arguments.records {
            Some(folder) => ("records", files::files_of(folder).map(Self::Files)),
            None => ("story", stories(&arguments.story).map(Self::Stories)),
        };
        note(played.0, played.1.map(|played| given = played));
        note("catalogue", arguments.catalogue.as_deref().map_or(Ok(()), read));
        note("prices", arguments.prices.as_deref().map_or(Ok(()), read));
        note("keep", arguments.keep.as_deref().map_or(Ok(()), world::check_folder));
        let keep = arguments.keep.as_deref();
        note("json", arguments.json.as_deref().map_or(Ok(()), |path| written(path, keep)));
        if faults.is_empty() { Ok(given) } else { Err(anyhow!(faults.join("\n"))) }
    }
}

/// The stories that were named, or the shipped ones.
fn stories(named: &[PathBuf]) -> Result<Vec<Story>> {
    if named.is_empty() {
        return STORIES.iter().map(|name| Ok(story::load(&Path::new(FOLDER).join(name))?)).collect();
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

/// A file that can be read.
fn read(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    ensure!(file.metadata()?.is_file(), "{} is not a file", path.display());
    Ok(())
}

/// A file that can be written, now or once the folder `made` is there. Nothing is left of the attempt.
fn written(path: &Path, made: Option<&Path>) -> Result<()> {
    let shown = || path.display().to_string();
    match File::options().append(true).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(shown),
        Err(_) => {}
    }
    ensure!(path.file_name().is_some(), "{} is not the name of a file", shown());
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if made == Some(folder) {
        return Ok(());
    }
    if !folder.is_dir() {
        bail!("{}: there is no folder {}", shown(), folder.display());
    }
    tempfile::tempfile_in(folder).map(drop).with_context(shown)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn faults(words: &[&str]) -> String {
        let arguments = Arguments::try_parse_from([&["handover-demo"], words].concat()).unwrap();
        Given::check(&arguments).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn every_option_that_cannot_be_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("a.json"), "").unwrap();
        let (none, nowhere, full) = (path("none"), path("none/out.json"), path(""));
        let all = [
            ["--records", &none],
            ["--catalogue", &none],
            ["--prices", &full],
            ["--json", &nowhere],
            ["--keep", &full],
        ]
        .concat();
        let told = faults(&all);
        let options: Vec<&str> = told.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(options, ["--records", "--catalogue", "--prices", "--keep", "--json"], "{told}");
        assert!(faults(&["--json", &path("")]).starts_with("--json"));
        assert!(faults(&["--keep", &path("a.json/keep")]).starts_with("--keep"));
        assert!(faults(&["--keep", &path(&"long".repeat(20))]).contains("too long"));
        assert!(faults(&["--story", &none]).starts_with("--story"));
    }

    #[test]
    fn what_can_be_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(faults(&["--keep", &path("kept"), "--json", &path("kept/out.json")]), "");
        assert_eq!(faults(&["--json", &path("out.json")]), "");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(path("out.json"), "before").unwrap();
        assert_eq!(faults(&["--json", &path("out.json"), "--catalogue", &path("out.json")]), "");
        assert_eq!(std::fs::read_to_string(path("out.json")).unwrap(), "before");
    }
}
