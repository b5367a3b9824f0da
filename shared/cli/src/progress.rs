//! Progress of long work on stderr: a bar on a terminal, else a plain line at most every two seconds.

use std::{
    io::{self, Write},
    time::Instant,
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A plain line comes at most this often.
const LINE_EVERY_MS: u64 = 2_000;
/// Redraws of the bar in a second.
const BAR_HZ: u8 = 5;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown in binary multiples.
    Bytes,
    /// Records, files, tests.
    Items,
}

impl Unit {
    fn show(self, count: u64) -> String {
        match self {
            Self::Bytes => HumanBytes(count).to_string(),
            Self::Items => HumanCount(count).to_string(),
        }
    }
}

/// Progress of one piece of work, made by [`crate::Output::progress`]. Dropping it takes a bar away.
#[derive(Debug)]
pub struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Silent,
    Bar(ProgressBar),
    Lines { lines: Lines, started: Instant },
}

impl Progress {
    /// Shows nothing.
    #[must_use]
    pub const fn silent() -> Self {
        Self(Kind::Silent)
    }

    pub(crate) fn bar(label: &str, unit: Unit, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(BAR_HZ));
        let template = match (unit, total.is_some()) {
            (Unit::Bytes, true) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            (Unit::Items, true) => "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta}",
            (Unit::Bytes, false) => "{msg} {spinner} {bytes} {bytes_per_sec}",
            (Unit::Items, false) => "{msg} {spinner} {human_pos} {per_sec}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(Kind::Bar(bar.with_style(style).with_message(label.to_owned())))
    }

    pub(crate) fn lines(label: &str, unit: Unit, total: Option<u64>) -> Self {
        let lines = Lines { label: label.to_owned(), unit, total, done: 0, last_ms: 0 };
        Self(Kind::Lines { lines, started: Instant::now() })
    }

    /// `count` more are done.
    pub fn inc(&mut self, count: u64) {
        match &mut self.0 {
            Kind::Silent => {}
            Kind::Bar(bar) => bar.inc(count),
            Kind::Lines { lines, started } => {
                let since_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                say(lines.inc(count, since_ms));
            }
        }
    }

    /// The work is over; leaves its last state to be seen.
    pub fn finish(self) {
        match self.0 {
            Kind::Silent => {}
            Kind::Bar(bar) => bar.abandon(),
            Kind::Lines { lines, .. } => say(Some(lines.line())),
        }
    }
}

/// Progress that cannot be shown is no reason to stop the work.
fn say(line: Option<String>) {
    if let Some(line) = line {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Decides when a plain line is due; knows no clock.
#[derive(Debug)]
struct Lines {
    label: String,
    unit: Unit,
    total: Option<u64>,
    done: u64,
    last_ms: u64,
}

impl Lines {
    fn inc(&mut self, count: u64, since_ms: u64) -> Option<String> {
        self.done = self.done.saturating_add(count);
        if since_ms.saturating_sub(self.last_ms) < LINE_EVERY_MS {
            return None;
        }
        self.last_ms = since_ms;
        Some(self.line())
    }

    fn line(&self) -> String {
        let done = self.unit.show(self.done);
        match self.total {
            Some(total) => format!("{}: {done} of {}", self.label, self.unit.show(total)),
            None => format!("{}: {done}", self.label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_at_most_every_two_seconds() {
        let mut lines =
            Lines { label: "Import".to_owned(), unit: Unit::Items, total: Some(4_000), done: 0, last_ms: 0 };
        assert_eq!(lines.inc(1_000, 1_999), None);
        assert_eq!(lines.inc(500, 2_000).unwrap(), "Import: 1,500 of 4,000");
        assert_eq!(lines.inc(1, 3_999), None);
        assert_eq!(lines.inc(1, 4_000).unwrap(), "Import: 1,502 of 4,000");
        lines.unit = Unit::Bytes;
        lines.total = None;
        assert_eq!(lines.line(), "Import: 1.47 KiB");
    }
}
