//! Tells what happens, for a newcomer: on stdout, in lines that fit a terminal.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use handover_scenarios::json;
use handover_scenarios::story::{KeptAside, Reporter, Step, Story};
use handover_scenarios::world::World;

/// Columns of a line.
const COLUMNS: usize = 110;
/// Entries kept aside that are shown one by one.
const SHOWN_ASIDE: usize = 5;

/// Tells.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    /// Only summaries are told, not every step.
    pub(crate) is_brief: bool,
}

impl Teller {
    /// Something beside the matter, on stderr.
    pub(crate) fn note(&self, text: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{text}")
    }

    pub(crate) fn title(&mut self, title: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "\n{title}\n{}", "=".repeat(title.chars().count()))
    }

    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        wrapped(&mut io::stdout().lock(), "", "", text)
    }

    /// One line, never broken.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    pub(crate) fn started(&mut self, world: &World, took: Duration) -> io::Result<()> {
        let port = |ready: &serde_json::Value| json::at(ready, "web").as_str().unwrap_or_default().to_owned();
        self.line(&format!("  {:<20} {}", "Index", port(world.index_ready())))?;
        for id in world.hospitals() {
            let name = world.name(id).unwrap_or(id);
            let web = world.ready(id).map(port).unwrap_or_default();
            self.line(&format!("  {name:<20} {web}"))?;
        }
        self.line(&format!(
            "  Everybody is admitted after {:.1} s. Everything lies in {}",
            took.as_secs_f64(),
            world.folder().display()
        ))
    }

    pub(crate) fn kept(&mut self, world: World) -> Result<()> {
        self.title("It goes on running")?;
        let folder = world.folder().display().to_string();
        self.text(&format!(
            "Records, wallets, logs and passphrases are in {folder}. To look further, and to end it:"
        ))?;
        for hint in world.let_go() {
            self.line(&format!("  {hint}"))?;
        }
        Ok(())
    }
}

/// Story telling goes on when nobody reads it.
fn told(written: io::Result<()>) {
    let _ = written;
}

impl Reporter for Teller {
    fn kept_aside(&mut self, file: &str, aside: &[KeptAside]) {
        told(self.line(&format!("  {file}: not readable, kept aside: {}", aside.len())));
        for one in aside.iter().take(SHOWN_ASIDE) {
            let lost = if one.is_kept { "" } else { " (not kept: it is in the file only)" };
            told(self.line(&format!("    {}: {}{lost}", one.entry, one.reason)));
        }
        if let Some(more) = aside.len().checked_sub(SHOWN_ASIDE).filter(|more| *more > 0) {
            told(self.line(&format!("    … and {more} more")));
        }
    }

    fn begin(&mut self, story: &Story) {
        if !self.is_brief {
            told(self.title(&story.title));
            told(self.text(&story.about));
        }
    }

    fn step(&mut self, number: usize, step: &Step) {
        if !self.is_brief {
            told(wrapped(&mut io::stdout().lock(), &format!("\n{number:>2}. "), "    ", &step.say));
        }
    }

    fn fact(&mut self, fact: &str) {
        if self.is_brief {
            return;
        }
        let mut out = io::stdout().lock();
        // An aligned line is left as it is.
        if fact.starts_with(' ') {
            told(writeln!(out, "      {fact}"));
        } else {
            told(wrapped(&mut out, "    > ", "      ", fact));
        }
        told(out.flush());
    }
}

/// Writes words in lines of [`COLUMNS`].
fn wrapped(out: &mut dyn Write, first: &str, next: &str, text: &str) -> io::Result<()> {
    write!(out, "{first}")?;
    let mut column = first.trim_start_matches('\n').chars().count();
    let mut is_first = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if !is_first && column.saturating_add(length) >= COLUMNS {
            write!(out, "\n{next}")?;
            column = next.chars().count();
        } else if !is_first {
            write!(out, " ")?;
            column = column.saturating_add(1);
        }
        is_first = false;
        write!(out, "{word}")?;
        column = column.saturating_add(length);
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let mut out = Vec::new();
        wrapped(&mut out, "\n 1. ", "    ", &"word ".repeat(60)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
        assert!(text.lines().skip(2).all(|line| line.starts_with("    word")));
    }
}
