//! Says in the log how far a long reading is: nothing of a short one.

use std::time::{Duration, Instant};

/// How long a reading may take before it is told of, and how often it is then.
const EVERY: Duration = Duration::from_secs(2);

pub(crate) struct Telling {
    what: &'static str,
    of: u64,
    begun: Instant,
    told: Instant,
}

impl Telling {
    /// Of a reading that is `what`, and will come to `of`.
    pub(crate) fn new(what: &'static str, of: u64) -> Self {
        let now = Instant::now();
        Self { what, of, begun: now, told: now }
    }

    /// It has come to `done`.
    pub(crate) fn tell(&mut self, done: u64) {
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            tracing::info!(what = self.what, done, of = self.of, "the store is read before it is served");
        }
    }

    /// It has come to its end.
    pub(crate) fn end(self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.begun.elapsed() >= EVERY {
            tracing::info!(what = self.what, of = self.of, ms, "read");
        } else {
            tracing::debug!(what = self.what, of = self.of, ms, "read");
        }
    }
}
