//! How it stands with the secrets that can be forgotten: epochs, how many there are of each kind, whether they open,
//! and whether something was forgotten that a copy of the store may still hold.

use std::collections::BTreeMap;

use handover_core::Timestamp;

use crate::forgettable::{EpochRow, Keyring, PAGE, SecretRow};
use crate::{StoreError, rows};

/// An epoch as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number; its file is named after it.
    pub number: u64,
    /// When it began.
    pub since: Timestamp,
    /// How many secrets are wrapped under it.
    pub secrets: u64,
}

/// The ring as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingReport {
    /// Ascending; more than one only while a rotation is not complete.
    pub epochs: Vec<Epoch>,
    /// Secrets by kind.
    pub secrets: BTreeMap<String, u64>,
    /// What was forgotten since the newest epoch began, by kind: copies of the store may still hold it.
    pub forgotten: BTreeMap<String, u64>,
    /// Secrets that do not open; a backup under the present epochs may have them whole.
    pub damaged: u64,
    /// Secrets that did not open either and were given up by a rotation.
    pub given_up: u64,
}

impl RingReport {
    /// Whether something that was forgotten may still be opened in a copy.
    #[must_use]
    pub fn is_rotation_due(&self) -> bool {
        self.epochs.len() > 1 || !self.forgotten.is_empty()
    }
}

impl Keyring {
    /// Whether something that was forgotten may still be opened in a copy.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn is_rotation_due(&self) -> Result<bool, StoreError> {
        let row = self.row().await?.ok_or_else(|| rows::damaged("the list of epochs"))?;
        Ok(row.epochs.len() > 1 || !row.forgotten.is_empty())
    }

    /// Reads every secret: how many there are, and whether they open.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn report(&self) -> Result<RingReport, StoreError> {
        let row = self.row().await?.ok_or_else(|| rows::damaged("the list of epochs"))?;
        let epoch = |epoch: &EpochRow| Epoch { number: epoch.number, since: epoch.since, secrets: 0 };
        let mut report = RingReport {
            epochs: row.epochs.iter().map(epoch).collect(),
            secrets: BTreeMap::new(),
            forgotten: row.forgotten.into_iter().map(|row| (row.kind, row.count)).collect(),
            damaged: 0,
            given_up: 0,
        };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (ring, from) = (self.clone(), after.take());
            let read = self.0.store.read(move |txn| {
                let page = txn.scan(&ring.secrets_prefix(), from.as_deref(), PAGE)?;
                let looked = page.iter().map(|(place, bytes)| {
                    let row: Option<SecretRow> = rows::read(bytes).ok();
                    let opens = row.as_ref().is_some_and(|row| ring.open_row(place, row).is_ok());
                    (row, opens)
                });
                let looked: Vec<_> = looked.collect();
                Ok::<_, StoreError>((page.into_iter().next_back().map(|(key, _)| key), looked))
            });
            let (last, looked) = read.await?;
            let is_last = looked.len() < PAGE;
            for (row, opens) in looked {
                let Some(row) = row else {
                    report.damaged += 1;
                    continue;
                };
                let is_given_up = row.is_given_up();
                report.given_up += u64::from(is_given_up);
                report.damaged += u64::from(!opens && !is_given_up);
                // A rotation may have begun since the list was read: those rows are counted by kind only.
                if let Some(epoch) = report.epochs.iter_mut().find(|epoch| epoch.number == row.epoch) {
                    epoch.secrets += 1;
                }
                *report.secrets.entry(row.kind).or_default() += 1;
            }
            if is_last {
                return Ok(report);
            }
            after = last;
        }
    }
}
