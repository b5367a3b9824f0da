//! Rotation: a new epoch, every secret under it, then the older epochs' keys are destroyed. From then on nothing that
//! was forgotten before opens anywhere, not even in a copy of the store; nor does any other secret in such a copy.
//!
//! Killed anywhere, it goes on when it is given again or completed: new file (durable) › list of epochs › rows, page
//! by page › list without the older ones › files destroyed. Whatever else is written meanwhile is under the new epoch.

use handover_core::Timestamp;

use crate::forgettable::{Keyring, PAGE, SecretRow};
use crate::{StoreError, Txn, rows};

/// What a rotation does about secrets that do not open, because their rows are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagedSecrets {
    /// Nothing is begun: a backup under the present epochs may still have them whole.
    Keep,
    /// Their epochs' keys go with the others: no backup brings them back.
    GiveUp,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The epoch that holds now.
    pub epoch: u64,
    /// Secrets that were moved to it.
    pub moved: u64,
    /// Epochs whose keys were destroyed.
    pub destroyed: Vec<u64>,
    /// Secrets that did not open and were given up.
    pub given_up: u64,
}

/// What one page did.
struct Page {
    moved: u64,
    damaged: u64,
    /// Where the next page begins, if there is one.
    next: Option<Vec<u8>>,
}

impl Keyring {
    /// Begins a new epoch, moves every secret to it, and destroys the older epochs' keys. `progress` is told how many
    /// were moved so far.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if secrets do not open that are not to be given up; those of the store and of the
    /// folder. Nothing is lost then: give it again.
    pub async fn rotate(
        &self,
        now: Timestamp,
        damaged: DamagedSecrets,
        progress: impl FnMut(u64) + Send,
    ) -> Result<Rotated, StoreError> {
        let _turn = self.0.rotating.lock().await;
        if damaged == DamagedSecrets::Keep {
            none_damaged(self.report().await?.damaged)?;
        }
        // Never a number that had a file: what it wrapped before is not known.
        let number = self.0.files.numbers()?.last().map_or(1, |last| last.saturating_add(1));
        let key = self.0.files.make(number)?;
        self.hold(number, &key);
        let (ring, epoch) = (self.clone(), self.epoch_row(number, &key, now));
        let begin = self.0.store.write(move |txn| {
            let mut row = ring.row_in(txn)?;
            row.epochs.push(epoch.clone());
            row.forgotten.clear();
            rows::put(txn, &ring.ring_place(), &row)
        });
        let begun: Result<(), StoreError> = begin.await;
        begun?;
        self.move_all(damaged, progress).await
    }

    /// Completes a rotation that was interrupted, if one was.
    ///
    /// # Errors
    /// As [`Keyring::rotate`].
    pub async fn complete(&self, progress: impl FnMut(u64) + Send) -> Result<Option<Rotated>, StoreError> {
        let _turn = self.0.rotating.lock().await;
        let ring = self.clone();
        let read = self.0.store.read(move |txn| Ok::<_, StoreError>(ring.row_in(txn)?.epochs.len() > 1));
        if !read.await? {
            return Ok(None);
        }
        self.move_all(DamagedSecrets::Keep, progress).await.map(Some)
    }

    async fn move_all(
        &self,
        damaged: DamagedSecrets,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Rotated, StoreError> {
        let (mut moved, mut given_up) = (0_u64, 0_u64);
        // Until a whole round finds nothing to move: only then the older keys may go.
        loop {
            let (before, mut found, mut after) = (moved, 0_u64, None);
            loop {
                let (ring, from) = (self.clone(), after);
                let write = self.0.store.write(move |txn| ring.move_page(txn, from.as_deref(), damaged));
                let page: Page = write.await?;
                moved = moved.saturating_add(page.moved);
                found = found.saturating_add(page.damaged);
                progress(moved);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            match damaged {
                DamagedSecrets::Keep => none_damaged(found)?,
                DamagedSecrets::GiveUp => given_up = given_up.saturating_add(found),
            }
            if moved == before {
                break;
            }
        }
        let ring = self.clone();
        let end = self.0.store.write(move |txn| {
            let mut row = ring.row_in(txn)?;
            let older = row.epochs.len().saturating_sub(1);
            row.epochs.drain(..older);
            rows::put(txn, &ring.ring_place(), &row)?;
            Ok::<_, StoreError>(row.epochs.last().map_or(0, |newest| newest.number))
        });
        let epoch = end.await?;
        Ok(Rotated { epoch, moved, destroyed: self.destroy_before(epoch)?, given_up })
    }

    fn move_page(
        &self,
        txn: &mut dyn Txn,
        after: Option<&[u8]>,
        what: DamagedSecrets,
    ) -> Result<Page, StoreError> {
        let newest = self.row_in(txn)?.epochs.last().map_or(0, |newest| newest.number);
        let page = txn.scan(&self.secrets_prefix(), after, PAGE)?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|(place, _)| place.clone());
        let (mut moved, mut damaged) = (0, 0);
        for (place, bytes) in page {
            let row = rows::read(&bytes).unwrap_or_else(|_| SecretRow::unreadable());
            if row.epoch == newest {
                continue;
            }
            match self.open_row(&place, &row) {
                Ok(secret) => {
                    rows::put(txn, &place, &self.wrap(&place, &row.kind, newest, &secret)?)?;
                    moved += 1;
                }
                // Given up before: it stays so that no new secret takes its place over what it sealed.
                Err(_) if row.is_given_up() => rows::put(txn, &place, &row.given_up(newest))?,
                Err(_) if what == DamagedSecrets::GiveUp => {
                    rows::put(txn, &place, &row.given_up(newest))?;
                    damaged += 1;
                }
                Err(_) => damaged += 1,
            }
        }
        Ok(Page { moved, damaged, next })
    }
}

fn none_damaged(count: u64) -> Result<(), StoreError> {
    if count == 0 {
        return Ok(());
    }
    Err(StoreError::Damaged {
        what: format!("the row of {count} secrets that a rotation moves"),
        advice: "restore the store from a backup, or rotate giving them up",
    })
}

#[cfg(test)]
mod tests;
