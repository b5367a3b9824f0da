//! Progress of work in several steps, each with a bar of its own.

use crate::{Output, Progress, Unit};

/// What is shown of the present step.
#[derive(Debug)]
pub struct Steps {
    output: Output,
    shown: Option<(&'static str, u64, Progress)>,
}

impl Steps {
    /// Shows nothing yet.
    #[must_use]
    pub const fn new(output: Output) -> Self {
        Self { output, shown: None }
    }

    /// A step has done so many items, of so many. One that was not shown before takes the former's place.
    pub fn show(&mut self, step: &'static str, done: u64, total: Option<u64>) {
        let (before, mut progress) = match self.shown.take() {
            Some((of, before, progress)) if of == step => (before, progress),
            former => {
                if let Some((_, _, progress)) = former {
                    progress.finish();
                }
                (0, self.output.progress(step, Unit::Items, total))
            }
        };
        progress.inc(done.saturating_sub(before));
        self.shown = Some((step, done, progress));
    }

    /// The last step is over.
    pub fn finish(self) {
        if let Some((_, _, progress)) = self.shown {
            progress.finish();
        }
    }
}
