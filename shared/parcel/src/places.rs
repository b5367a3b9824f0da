//! Who may be at work at once: so many in all and so many with one hospital, and of either only some with large
//! packages. So one hospital that is slow, or a few studies of many GB, hold up nobody else's small transfers.
//!
//! Who waits for a place with one hospital takes none of the others' meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use handover_core::HospitalId;
use handover_core::artefact::transfer::PartList;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A package of more bytes is large: what is shorter is over before anybody has to wait for it.
const LARGE_BYTES: u64 = 16 * 1024 * 1024;

/// Jobs of transfers at once, as the hospital's own machine bears them, whoever the other hospital is.
const WORK: Bounds = Bounds { all: 4, large: 2 };
/// Packages sent at once, in all and to one hospital.
const SENT: Bounds = Bounds { all: 64, large: 16 };
const SENT_TO_ONE: Bounds = Bounds { all: 6, large: 2 };
/// Packages received at once, in all and from one hospital; each is a file that grows.
const RECEIVED: Bounds = Bounds { all: 64, large: 16 };
const RECEIVED_FROM_ONE: Bounds = Bounds { all: 8, large: 4 };

/// Whether a package is large.
#[must_use]
pub fn is_large(parts: &PartList) -> bool {
    is_many(parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.length)))
}

/// Whether so many bytes make a large package.
#[must_use]
pub const fn is_many(bytes: u64) -> bool {
    bytes > LARGE_BYTES
}

/// How many, and how many of those large.
#[derive(Clone, Copy)]
struct Bounds {
    all: usize,
    large: usize,
}

/// Two counts of free places.
#[derive(Clone)]
struct Free {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Free {
    fn new(bounds: Bounds) -> Self {
        Self { all: Arc::new(Semaphore::new(bounds.all)), large: Arc::new(Semaphore::new(bounds.large)) }
    }

    /// The semaphores to pass; a large one first waits for its own kind, and takes no small one's place meanwhile.
    fn gates(&self, is_large: bool) -> impl Iterator<Item = &Arc<Semaphore>> {
        is_large.then_some(&self.large).into_iter().chain([&self.all])
    }

    fn is_unused(&self, bounds: Bounds) -> bool {
        // Whoever waits holds a clone.
        Arc::strong_count(&self.all) == 1 && self.all.available_permits() == bounds.all
    }
}

/// The places.
pub struct Places {
    all: Free,
    of_one: Bounds,
    /// Those of hospitals that have work now. Guards no state but the counts.
    of: Mutex<HashMap<HospitalId, Free>>,
}

/// A place that is held; it is free again when this is dropped.
pub struct Place(#[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

impl Places {
    /// For jobs other than sending.
    #[must_use]
    pub fn to_work() -> Self {
        Self::new(WORK, WORK)
    }

    /// To send packages.
    #[must_use]
    pub fn to_send() -> Self {
        Self::new(SENT, SENT_TO_ONE)
    }

    /// To receive packages.
    #[must_use]
    pub fn to_receive() -> Self {
        Self::new(RECEIVED, RECEIVED_FROM_ONE)
    }

    /// So many in all, and with one hospital.
    fn new(all: Bounds, of_one: Bounds) -> Self {
        Self { all: Free::new(all), of_one, of: Mutex::default() }
    }

    fn of(&self, hospital: &HospitalId) -> Free {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.retain(|_, free| !free.is_unused(self.of_one));
        of.entry(hospital.clone()).or_insert_with(|| Free::new(self.of_one)).clone()
    }

    /// Waits for a place.
    pub async fn wait(&self, hospital: &HospitalId, is_large: bool) -> Option<Place> {
        let of_one = self.of(hospital);
        let mut held = Vec::new();
        for gate in of_one.gates(is_large).chain(self.all.gates(is_large)) {
            held.push(Arc::clone(gate).acquire_owned().await.ok()?);
        }
        Some(Place(held))
    }

    /// A place, if one is free.
    #[must_use]
    pub fn take(&self, hospital: &HospitalId, is_large: bool) -> Option<Place> {
        let of_one = self.of(hospital);
        let gates = of_one.gates(is_large).chain(self.all.gates(is_large));
        gates.map(|gate| Arc::clone(gate).try_acquire_owned().ok()).collect::<Option<Vec<_>>>().map(Place)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const ALL: Bounds = Bounds { all: 6, large: 3 };
    const OF_ONE: Bounds = Bounds { all: 4, large: 2 };

    fn hospital(name: &str) -> HospitalId {
        name.parse().unwrap()
    }

    #[test]
    fn one_hospital_leaves_room_for_others_and_large_packages_for_small_ones() {
        let places = Places::new(ALL, OF_ONE);
        let (a, b) = (hospital("lakeside"), hospital("riverside"));
        let mut held = vec![places.take(&a, true).unwrap(), places.take(&a, true).unwrap()];
        assert!(places.take(&a, true).is_none(), "no third large one with the same hospital");
        held.extend([places.take(&a, false).unwrap(), places.take(&a, false).unwrap()]);
        assert!(places.take(&a, false).is_none(), "no fifth at all");
        held.push(places.take(&b, true).unwrap());
        assert!(places.take(&b, true).is_none(), "no fourth large one in all");
        held.push(places.take(&b, false).unwrap());
        assert!(places.take(&b, false).is_none(), "no seventh in all");
        held.clear();
        assert!(places.take(&b, true).is_some());
        places.of(&a);
        assert_eq!(places.of.lock().unwrap().len(), 1, "hospitals without work are not remembered");
    }

    #[test]
    fn who_waits_for_a_slow_hospital_holds_nobody_up() {
        let places = Places::new(ALL, OF_ONE);
        let (slow, other) = (hospital("lakeside"), hospital("riverside"));
        let mut held: Vec<_> = (0..4).filter_map(|_| places.take(&slow, false)).collect();
        assert_eq!(held.len(), 4);
        let mut waiting: Vec<_> = (0..8).map(|at| Box::pin(places.wait(&slow, at % 2 == 0))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        let others: Vec<_> = (0..2).map(|_| places.take(&other, false)).collect();
        assert!(others.iter().all(Option::is_some), "places in all are not taken by who waits");
        held.clear();
        drop(others);
        assert!(waiting.iter_mut().filter_map(|one| one.now_or_never().flatten()).count() > 0);
    }
}
