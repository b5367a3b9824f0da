//! How the exchange stands, for who looks after the node: what waits for whom and since when, and what is under way.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use handover_core::transfer::Phase;
use handover_core::{Party, Timestamp};
use handover_dossier::DossierError;
use handover_store::SCAN_MAX_CELLS;

use crate::context::Inner;
use crate::{Exchange, ExchangeError, key_records, outbox};

/// How it stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// When the index last came or went; if it never did, the start.
    pub index_since: Timestamp,
    /// What of transfers waits to go out, the index's first.
    pub owed: Vec<Owed>,
    /// Parcels that were refused for good.
    pub dead_letters: u64,
    /// Patients' links that the index does not know yet, and those that it refused.
    pub links_owed: u64,
    /// Patients of whose newer keys the index is still to be told.
    pub keys_owed: u64,
    /// Patients' asks that wait for the desk.
    pub asks: u64,
    /// Transfers that are not over, by how far they are.
    pub under_way: BTreeMap<Phase, u64>,
    /// What is free on the disk where the contents lie, in bytes.
    pub free_bytes: u64,
}

/// What waits for one party.
#[derive(Clone, Debug)]
pub struct Owed {
    /// For whom.
    pub to: Party,
    /// How many artefacts.
    pub parcels: u64,
    /// Since when the oldest waits.
    pub since: Timestamp,
}

impl Inner {
    pub(crate) fn index_came_or_went(&self) {
        self.index_changed.store(self.now().as_millis(), Ordering::Relaxed);
    }
}

impl Exchange {
    /// How it stands now.
    ///
    /// # Errors
    /// The store's.
    pub async fn standing(&self) -> Result<Standing, ExchangeError> {
        let inner = &self.0;
        let index_since = Timestamp::from_millis(inner.index_changed.load(Ordering::Relaxed));
        let (waiting, dead) = outbox::labels(&inner.parts.store, |_| true).await?;
        let mut owed = BTreeMap::new();
        for label in &waiting {
            let of_target = owed.entry(label.target()).or_insert((0_u64, label.since));
            *of_target = (of_target.0.saturating_add(1), of_target.1.min(label.since));
        }
        let owed = owed.into_iter().map(|(to, (parcels, since))| Owed { to: to.party(), parcels, since });
        Ok(Standing {
            index_since,
            owed: owed.collect(),
            dead_letters: dead.len() as u64,
            links_owed: self.unknown_links().await?.len() as u64,
            keys_owed: key_records::count_owed(inner).await?,
            asks: self.asks().await?.len() as u64,
            under_way: self.under_way().await?,
            free_bytes: inner.parts.blobs.free_bytes()?,
        })
    }

    async fn under_way(&self) -> Result<BTreeMap<Phase, u64>, ExchangeError> {
        let (mut counts, mut after) = (BTreeMap::new(), None);
        loop {
            let keys = self.0.keys();
            let read = self.0.parts.store.read(move |txn| -> Result<_, DossierError> {
                handover_dossier::active(txn, &keys, after, SCAN_MAX_CELLS)
            });
            let page = read.await?;
            for row in &page {
                let count: &mut u64 = counts.entry(row.state.phase).or_default();
                *count = count.saturating_add(1);
            }
            match page.last() {
                Some(last) if page.len() == SCAN_MAX_CELLS => after = Some(last.transfer),
                _ => return Ok(counts),
            }
        }
    }
}
