//! Trying again what a passing fault keeps from being done, as long as `--wait` says.

use std::thread::sleep;
use std::time::{Duration, Instant};

use handover_cli::CliError;
use handover_core::Code;

/// Pause after the first try; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How long a command goes on trying.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    deadline: Instant,
}

/// The pauses between tries.
pub(crate) struct Pauses(Duration);

impl Patience {
    /// From now on; without a wait there is one try.
    pub(crate) fn of(wait: Option<Duration>) -> Self {
        Self { deadline: Instant::now() + wait.unwrap_or_default() }
    }

    /// Whether there is no other try.
    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Tries until it is done, fails for good, or the wait is over.
    pub(crate) fn hold<T>(self, mut step: impl FnMut() -> Result<T, CliError>) -> Result<T, CliError> {
        let mut pauses = Pauses::new();
        loop {
            match step() {
                Err(fault) if is_passing(fault.code) && !self.is_over() => pauses.wait(self),
                outcome => return outcome,
            }
        }
    }
}

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// The next pause; not beyond the end of the wait.
    pub(crate) fn wait(&mut self, patience: Patience) {
        sleep(self.0.min(patience.deadline.saturating_duration_since(Instant::now())));
        self.0 = (self.0 * 2).min(MAX_PAUSE);
    }
}

/// Whether the same may be done a moment later.
pub(crate) const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unreachable
            | Code::Busy
            | Code::TimedOut
            // The node ends, and is started again or gives way to another one.
            | Code::KeysOutdated
            | Code::KeyInForce
            | Code::StandingBy
            | Code::CatchingUp
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_faults_are_tried_again_while_the_wait_lasts() {
        let tried = |wait: Option<Duration>, faults: &[Code]| {
            let mut faults = faults.iter();
            Patience::of(wait).hold(|| faults.next().map_or(Ok(()), |code| Err((*code).into())))
        };
        let minute = Some(Duration::from_secs(60));
        assert!(tried(minute, &[Code::Unreachable, Code::Busy]).is_ok());
        assert_eq!(tried(minute, &[Code::Busy, Code::NotLinked]).unwrap_err().code, Code::NotLinked);
        assert_eq!(tried(None, &[Code::Unreachable]).unwrap_err().code, Code::Unreachable);
    }
}
