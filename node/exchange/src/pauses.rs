//! When what is tried again: a whole target that is away, or one transfer whose turn has not come there. And who has
//! connected meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handover_core::{Code, Party, TransferId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::outbox::{Target, Waiting};

/// The first pause of a target that is away, and of a transfer whose turn has not come there; each doubles.
const TARGET_PAUSE: Duration = Duration::from_millis(500);
const TRANSFER_PAUSE: Duration = Duration::from_millis(50);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a parcel is put off by a target that is there; about three hours. Then a person has to look.
const TRIES_MAX: u32 = 200;

/// What waits: a whole target, or one transfer there.
type Blocked = (Target, Option<TransferId>);

struct Pause {
    until: Instant,
    next: Duration,
    tries: u32,
}

/// What a run to one target came to.
pub(crate) struct Run {
    pub(crate) target: Target,
    /// Whether the target could not be reached.
    pub(crate) is_away: bool,
    /// Transfers that have to wait there: the parcel that they wait with, and why.
    pub(crate) held: BTreeMap<TransferId, (Waiting, Code)>,
    /// Transfers of which something got through.
    pub(crate) moved: BTreeSet<TransferId>,
}

/// When what is tried again.
#[derive(Default)]
pub(crate) struct Pauses(BTreeMap<Blocked, Pause>);

impl Pauses {
    /// Says how often it was put off by now.
    fn hold(&mut self, blocked: Blocked, now: Instant) -> u32 {
        let first = first_pause(&blocked);
        let (length, tries) = self.0.get(&blocked).map_or((first, 0), |pause| (pause.next, pause.tries));
        let tries = tries.saturating_add(1);
        let pause = Pause { until: now + length, next: (length * 2).min(LONGEST_PAUSE), tries };
        self.0.insert(blocked, pause);
        tries
    }

    /// Whether a target, or a transfer there, has to wait.
    pub(crate) fn is_held(&self, target: &Target, transfer: Option<TransferId>, now: Instant) -> bool {
        self.0.get(&(target.clone(), transfer)).is_some_and(|pause| pause.until > now)
    }

    /// Whether a target was away when it was last tried.
    pub(crate) fn is_away(&self, target: &Target) -> bool {
        self.0.contains_key(&(target.clone(), None))
    }

    /// When the next pause ends.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        let ends = self.0.values().map(|pause| pause.until).filter(|until| *until > now);
        ends.min().unwrap_or(now + LONGEST_PAUSE)
    }

    /// A target is here: what waits for it is tried now. How often it was put off still counts.
    pub(crate) fn connected(&mut self, target: &Target, now: Instant) {
        self.0.remove(&(target.clone(), None));
        for (blocked, pause) in self.0.iter_mut().filter(|(blocked, _)| blocked.0 == *target) {
            pause.until = now;
            pause.next = first_pause(blocked);
        }
    }

    /// Learns from a run; gives the parcels that were put off too often.
    pub(crate) fn learn(&mut self, run: Run, now: Instant) -> Vec<(Waiting, Code)> {
        for transfer in run.moved {
            self.0.remove(&(run.target.clone(), Some(transfer)));
        }
        let mut given_up = Vec::new();
        for (transfer, parcel) in run.held {
            let blocked = (run.target.clone(), Some(transfer));
            if self.hold(blocked.clone(), now) >= TRIES_MAX {
                self.0.remove(&blocked);
                given_up.push(parcel);
            }
        }
        let target = (run.target, None);
        if run.is_away {
            self.hold(target, now);
        } else {
            self.0.remove(&target);
        }
        given_up
    }
}

const fn first_pause(blocked: &Blocked) -> Duration {
    if blocked.1.is_some() { TRANSFER_PAUSE } else { TARGET_PAUSE }
}

/// Who has connected since it was last asked: at most everybody once.
#[derive(Default)]
pub(crate) struct Connected {
    parties: Mutex<BTreeSet<Party>>,
    bell: Notify,
}

impl Connected {
    /// Somebody connected.
    pub(crate) fn add(&self, party: Party) {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner).insert(party);
        self.bell.notify_one();
    }

    /// Waits until somebody has.
    pub(crate) async fn notified(&self) {
        self.bell.notified().await;
    }

    /// Who it was.
    pub(crate) fn take(&self) -> BTreeSet<Party> {
        std::mem::take(&mut *self.parties.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use handover_core::Timestamp;

    use super::*;
    use crate::outbox::Label;

    fn transfer() -> TransferId {
        TransferId::new(Timestamp::from_millis(1), [1; 10])
    }

    fn run(target: &Target, is_away: bool, is_held: bool) -> Run {
        let label = Label::copy(transfer(), Timestamp::from_millis(1));
        let parcel = (Waiting { number: 1, label }, Code::EvidenceMissing);
        let held = is_held.then_some((transfer(), parcel)).into_iter().collect();
        Run { target: target.clone(), is_away, held, moved: BTreeSet::new() }
    }

    #[test]
    fn who_connects_clears_their_own_pauses_only() {
        let (now, mut pauses) = (Instant::now(), Pauses::default());
        let other = Target::Hospital("lakeside".parse().unwrap());
        for target in [&Target::Index, &other] {
            pauses.learn(run(target, true, true), now);
        }
        pauses.connected(&other, now);
        assert!(!pauses.is_away(&other));
        assert!(!pauses.is_held(&other, Some(transfer()), now));
        assert!(pauses.is_held(&Target::Index, None, now));
        assert!(pauses.is_held(&Target::Index, Some(transfer()), now));
    }

    #[test]
    fn a_parcel_put_off_too_often_is_given_up_however_often_its_target_connects() {
        let (now, mut pauses) = (Instant::now(), Pauses::default());
        for _ in 1..TRIES_MAX {
            assert!(pauses.learn(run(&Target::Index, false, true), now).is_empty());
            pauses.connected(&Target::Index, now);
        }
        assert_eq!(pauses.learn(run(&Target::Index, false, true), now).len(), 1);
        assert!(!pauses.is_held(&Target::Index, Some(transfer()), now));
    }
}
