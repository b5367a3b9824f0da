//! When what is tried again and why it has to wait: a whole target that is away, one transfer whose turn has not come
//! there, or a transfer's next piece of work. And who has connected meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use handover_core::{Code, Party, Timestamp, TransferId};
use handover_dossier::Row;
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
    code: Code,
}

/// Why a transfer does not go on for now; it is tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What has to wait: a piece of work here, or `deliver`.
    pub step: &'static str,
    /// For whom, if it is for somebody.
    pub party: Option<Party>,
    /// Why.
    pub code: Code,
    /// How long until it is tried next.
    pub next_in: Duration,
}

/// A transfer's next piece of work waits, unless the transfer has changed since.
struct WorkPause {
    updated: Timestamp,
    until: Instant,
    next: Duration,
    step: &'static str,
    code: Code,
}

/// The pieces of work that wait.
#[derive(Default)]
pub(crate) struct WorkPauses(BTreeMap<TransferId, WorkPause>);

impl WorkPauses {
    /// Whether a transfer's work has to wait.
    pub(crate) fn is_held(&self, row: &Row, now: Instant) -> bool {
        self.of(row).is_some_and(|pause| pause.until > now)
    }

    /// Whether a transfer's work was put off before, as the transfer stands.
    pub(crate) fn is_again(&self, row: &Row) -> bool {
        self.of(row).is_some()
    }

    /// When the next pause ends.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.0.values().map(|pause| pause.until).filter(|until| *until > now).min()
    }

    /// Learns what a try came to.
    pub(crate) fn learn(&mut self, row: &Row, step: &'static str, outcome: Result<(), Code>, now: Instant) {
        match outcome {
            Ok(()) => drop(self.0.remove(&row.transfer)),
            Err(code) => {
                let length = self.of(row).map_or(TARGET_PAUSE, |pause| pause.next);
                let next = (length * 2).min(LONGEST_PAUSE);
                let pause = WorkPause { updated: row.updated, until: now + length, next, step, code };
                self.0.insert(row.transfer, pause);
            }
        }
    }

    /// Why a transfer's work waits, if it does.
    pub(crate) fn wait(&self, row: &Row, now: Instant) -> Option<Wait> {
        let WorkPause { step, code, until, .. } = self.of(row)?;
        Some(Wait { step, party: None, code: *code, next_in: until.saturating_duration_since(now) })
    }

    fn of(&self, row: &Row) -> Option<&WorkPause> {
        self.0.get(&row.transfer).filter(|pause| pause.updated == row.updated)
    }
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
    fn hold(&mut self, blocked: Blocked, code: Code, now: Instant) -> u32 {
        let first = first_pause(&blocked);
        let (length, tries) = self.0.get(&blocked).map_or((first, 0), |pause| (pause.next, pause.tries));
        // A copy that waits for another hospital has its own limit.
        let is_counted = !code.waits_for_people() && code != Code::KeyReplaced;
        let tries = if is_counted { tries.saturating_add(1) } else { tries };
        let pause = Pause { until: now + length, next: (length * 2).min(LONGEST_PAUSE), tries, code };
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

    /// Whether a target that is there lacks what a transfer's parcels stand on.
    pub(crate) fn is_lacking(&self, target: &Target, transfer: TransferId) -> bool {
        let pause = self.0.get(&(target.clone(), Some(transfer)));
        pause.is_some_and(|pause| pause.code == Code::EvidenceMissing)
    }

    /// Why a transfer's parcels for a target wait, if they do.
    pub(crate) fn wait(&self, target: &Target, transfer: TransferId, now: Instant) -> Option<Wait> {
        let [all, own] = [None, Some(transfer)].map(|blocked| self.0.get(&(target.clone(), blocked)));
        let pause = all.or(own)?;
        let party = match target {
            Target::Index => Party::Index,
            Target::Hospital(hospital) => Party::Hospital(hospital.clone()),
        };
        let next_in = pause.until.saturating_duration_since(now);
        Some(Wait { step: "deliver", party: Some(party), code: pause.code, next_in })
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
            if self.hold(blocked.clone(), parcel.1, now) >= TRIES_MAX {
                self.0.remove(&blocked);
                given_up.push(parcel);
            }
        }
        let target = (run.target, None);
        if run.is_away {
            self.hold(target, Code::Unreachable, now);
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
    use super::*;
    use crate::outbox::Label;

    fn transfer() -> TransferId {
        TransferId::new(Timestamp::from_millis(1), [1; 10])
    }

    fn run(target: &Target, is_away: bool, is_held: bool) -> Run {
        run_into(target, is_away, is_held, Code::EvidenceMissing)
    }

    fn run_into(target: &Target, is_away: bool, is_held: bool, code: Code) -> Run {
        let label = Label::copy(transfer(), Timestamp::from_millis(1));
        let parcel = (Waiting { number: 1, label }, code);
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
        let why = |target: &Target| {
            pauses.wait(target, transfer(), now).map(|wait| (wait.party, wait.code, wait.next_in))
        };
        assert_eq!(why(&Target::Index), Some((Some(Party::Index), Code::Unreachable, TARGET_PAUSE)));
        let lakeside = Party::Hospital("lakeside".parse().unwrap());
        assert_eq!(why(&other), Some((Some(lakeside), Code::EvidenceMissing, Duration::ZERO)));
    }

    #[test]
    fn a_parcel_put_off_too_often_is_given_up_however_often_its_target_connects() {
        let (now, mut pauses) = (Instant::now(), Pauses::default());
        for _ in 1..TRIES_MAX {
            assert!(pauses.learn(run(&Target::Index, false, true), now).is_empty());
            pauses.connected(&Target::Index, now);
        }
        // What others have to restore or upgrade first is waited for, and counts for nothing.
        for _ in 0..TRIES_MAX {
            let waits = run_into(&Target::Index, false, true, Code::CatchingUp);
            assert!(pauses.learn(waits, now).is_empty());
        }
        assert_eq!(pauses.learn(run(&Target::Index, false, true), now).len(), 1);
        assert!(!pauses.is_held(&Target::Index, Some(transfer()), now));
    }
}
