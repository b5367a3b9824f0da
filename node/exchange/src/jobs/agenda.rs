//! Which live consents have to be looked at, and when: after what changes was gathered, and when they end.

use std::collections::BTreeMap;
use std::time::Duration;

use handover_core::{Timestamp, TransferId};
use tokio::time::Instant;

/// How long changes are gathered before a delivery begins.
pub(super) const GATHER: Duration = Duration::from_secs(2);
/// The longest sleep: clocks may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// What has to be looked at, and when.
#[derive(Default)]
pub(super) struct Agenda {
    looks: BTreeMap<TransferId, Instant>,
    pub(super) ends: BTreeMap<TransferId, Timestamp>,
}

impl Agenda {
    /// Not later than `at`.
    pub(super) fn look(&mut self, origin: TransferId, at: Instant) {
        let due = self.looks.entry(origin).or_insert(at);
        *due = at.min(*due);
    }

    /// Takes one whose time has come.
    pub(super) fn take(&mut self, now: Instant, clock: Timestamp) -> Option<TransferId> {
        let ended = self.ends.iter().find(|(_, end)| **end <= clock).map(|(origin, _)| *origin);
        if let Some(origin) = ended {
            self.ends.remove(&origin);
            self.looks.remove(&origin);
            return Some(origin);
        }
        let due = self.looks.iter().find(|(_, at)| **at <= now).map(|(origin, _)| *origin)?;
        self.looks.remove(&due);
        Some(due)
    }

    pub(super) fn next(&self, now: Instant, clock: Timestamp) -> Instant {
        let ends = self.ends.values().map(|end| {
            let wait_ms = u64::try_from(end.since_ms(clock)).unwrap_or(0);
            now + Duration::from_millis(wait_ms).min(LONGEST_SLEEP)
        });
        ends.chain(self.looks.values().copied()).min().unwrap_or(now + LONGEST_SLEEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(number: u8) -> TransferId {
        TransferId::new(Timestamp::from_millis(1), [number; 10])
    }

    #[test]
    fn changes_that_go_on_put_a_delivery_off_no_further() {
        let (now, clock, mut agenda) = (Instant::now(), Timestamp::from_millis(1), Agenda::default());
        for after_ms in [0, 500, 1_900] {
            agenda.look(transfer(1), now + Duration::from_millis(after_ms) + GATHER);
        }
        assert_eq!(agenda.next(now, clock), now + GATHER);
        assert_eq!(agenda.take(now, clock), None);
        assert_eq!(agenda.take(now + GATHER, clock), Some(transfer(1)));
        assert_eq!(agenda.take(now + GATHER, clock), None);
    }

    #[test]
    fn a_consent_is_looked_at_when_it_ends() {
        let (now, clock, mut agenda) = (Instant::now(), Timestamp::from_millis(1), Agenda::default());
        agenda.ends.insert(transfer(1), clock.plus_ms(5_000));
        agenda.look(transfer(2), now + GATHER * 2);
        assert_eq!(agenda.next(now, clock), now + GATHER * 2);
        assert_eq!(agenda.take(now, clock.plus_ms(4_999)), None);
        assert_eq!(agenda.take(now, clock.plus_ms(5_000)), Some(transfer(1)));
    }
}
