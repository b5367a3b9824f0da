//! What was taken is counted, told, and missed when it is gone.

use handover_core::Party;
use handover_core::message::Tally;
use handover_dossier::tally;
use handover_store::{CellKey, KeyMaker, Store, StoreError, Txn};
use handover_tests::fixture::T0;
use proptest::prelude::*;
use tokio::runtime::Runtime;

/// A store on a disk that can be copied, as for a backup.
struct Machine {
    store: Store,
    runtime: Runtime,
}

impl Machine {
    fn new(key: u8) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { store: Store::memory(&CellKey::from_bytes([key; 32])), runtime }
    }

    fn with<T: Send + 'static>(
        &self,
        work: impl Fn(&mut dyn Txn, &KeyMaker) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let keys = self.store.keys();
        self.runtime.block_on(self.store.write(move |txn| work(txn, &keys))).unwrap()
    }

    fn takes(&self, of: &Party) -> Tally {
        let of = of.clone();
        self.with(move |txn, keys| tally::add(txn, keys, &of))
    }

    fn misses(&self, of: &Party, shown: &Tally) -> bool {
        let (of, shown) = (of.clone(), shown.clone());
        self.with(move |txn, keys| tally::is_beyond(txn, keys, &of, &shown))
    }
}

fn lakeside() -> Party {
    Party::Hospital("lakeside".parse().unwrap())
}

/// A hospital that began anew tells another series, whose counts are lower.
#[test]
fn a_new_store_tells_another_series() {
    let (former, new, teller) = (Machine::new(1), Machine::new(2), Machine::new(3));
    former.takes(&lakeside());
    for tally in [former.takes(&lakeside()), new.takes(&lakeside())] {
        teller.with(move |txn, keys| tally::keep(txn, keys, &Party::Index, &tally));
    }
    let kept = teller.with(|txn, keys| tally::kept(txn, keys, &Party::Index));
    assert_eq!(kept.map(|kept| kept.count), Some(1));
}

#[test]
fn only_what_this_store_told_this_party_counts() {
    let (ahead, behind, other) = (Machine::new(1), Machine::new(1), Machine::new(2));
    let told = ahead.takes(&lakeside());
    assert!(behind.misses(&lakeside(), &told));
    assert!(!ahead.misses(&lakeside(), &told), "it is there");
    assert!(!behind.misses(&Party::Index, &told), "it was told to another");
    assert!(!other.misses(&lakeside(), &told), "another store told it");
    assert!(!behind.misses(&lakeside(), &Tally { count: 9, ..told }), "nobody told it");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Of two that take what comes, one is put back to where it was after `backup` of them.
    #[test]
    fn a_loss_is_missed_once(backup in 0..20_u64, lost in 0..20_u64, kept in proptest::collection::vec(any::<bool>(), 40)) {
        let (before, after, party) = (Machine::new(1), Machine::new(1), lakeside());
        let teller = Machine::new(3);
        let mut highest = 0;
        for number in 1..=backup + lost {
            let told = before.takes(&party);
            if number <= backup {
                after.takes(&party);
            }
            // Some answers do not arrive, and old ones arrive late.
            if kept[usize::try_from(number).unwrap() - 1] {
                highest = number;
                teller.with(move |txn, keys| tally::keep(txn, keys, &Party::Index, &told));
            }
        }
        let shown = teller.with(|txn, keys| tally::kept(txn, keys, &Party::Index));
        prop_assert_eq!(shown.as_ref().map_or(0, |shown| shown.count), highest);
        let Some(shown) = shown else { return Ok(()) };
        prop_assert_eq!(after.misses(&party, &shown), highest > backup);
        // Nothing that it was told before shows a loss any more; what another one was told does.
        let (told, others, of) = (shown.clone(), before.takes(&Party::Index), party.clone());
        let hoarded = before.takes(&party);
        after.with(move |txn, keys| tally::raise(txn, keys, &of, Some(&told), T0));
        prop_assert!(!after.misses(&party, &shown) && !after.misses(&party, &hoarded));
        prop_assert!(after.misses(&Party::Index, &others));
        let next = after.takes(&party);
        prop_assert!(next.count > shown.count);
        let told = next.clone();
        teller.with(move |txn, keys| tally::keep(txn, keys, &Party::Index, &told));
        prop_assert_eq!(teller.with(|txn, keys| tally::kept(txn, keys, &Party::Index)), Some(next));
    }
}
