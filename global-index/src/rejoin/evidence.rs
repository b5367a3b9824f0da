//! Evidence that the index has lost is taken back from the hospitals, which all keep their own, and taken in as anything
//! that comes; what was on its way to a hospital when the store was rolled back is put into its mailbox again.

use std::collections::BTreeSet;

use handover_core::{Code, Digest, HospitalId, TransferId};
use handover_store::{KeyMaker, Txn};

use super::RejoinError;
use crate::desk::Desk;
use crate::routing::{self, Intake, RoutingError};
use crate::voice;

/// Transfers whose letters are looked at in one transaction.
const TRANSFERS_AT_ONCE: usize = 20;

fn taken_key(keys: &KeyMaker, transfer: TransferId) -> Vec<u8> {
    keys.space("rejoin-taken").raw(transfer.as_bytes()).build()
}

/// What a round with all hospitals brought.
#[derive(Default)]
pub(super) struct Round {
    /// Artefacts that were not here.
    new: u64,
    /// What was refused because its own hospital alone may bring it.
    awaits_owner: BTreeSet<Digest>,
}

impl Round {
    pub(super) fn add(&mut self, other: Self) {
        self.new = self.new.saturating_add(other.new);
        self.awaits_owner.extend(other.awaits_owner);
    }

    /// Whether another one can bring more. Every one that is repeated refuses less than the one before.
    pub(super) fn is_to_be_repeated(&self, before: Option<&Self>) -> bool {
        let refused = self.awaits_owner.len();
        self.new > 0 && refused > 0 && before.is_none_or(|before| refused < before.awaits_owner.len())
    }
}

/// Takes back what a hospital gave. What cannot be taken is left out: it was not taken the first time either, or will be
/// brought by whoever has what it stands on.
pub(super) async fn take(desk: &Desk, by: &HospitalId, contents: Vec<Vec<u8>>) -> Result<Round, RejoinError> {
    let (mut left, mut round) = (contents, Round::default());
    loop {
        let (before, mut failed) = (left.len(), Vec::new());
        for content in left {
            match one(desk, by, content.clone()).await {
                Ok(is_new) => round.new = round.new.saturating_add(u64::from(is_new)),
                Err(RoutingError::Store(fault)) => return Err(fault.into()),
                Err(fault) => failed.push((content, fault.code())),
            }
        }
        // What stands on something that came later is tried again, as long as that helps.
        if failed.is_empty() || failed.len() == before {
            for (content, code) in failed {
                tracing::info!(%by, %code, "something that was given back is not taken");
                if code == Code::KeyReplaced {
                    round.awaits_owner.insert(Digest::sha256(&[&content]));
                }
            }
            break;
        }
        left = failed.into_iter().map(|(content, _)| content).collect();
    }
    let (keys, new) = (desk.keys.clone(), round.new);
    let count = move |txn: &mut dyn Txn| {
        voice::change_head(txn, &keys, |head| head.artefacts = head.artefacts.saturating_add(new))
    };
    desk.store.write(count).await?;
    Ok(round)
}

async fn one(desk: &Desk, by: &HospitalId, content: Vec<u8>) -> Result<bool, RoutingError> {
    let intake = Intake {
        keys: desk.keys.clone(),
        book: desk.ledger.book().for_the_way_back(),
        current: desk.current(),
        sender: by.clone(),
        now: desk.now(),
    };
    let seed = desk.random_32();
    let take = move |txn: &mut dyn Txn| -> Result<bool, RoutingError> {
        let (transfer, is_new) = intake.take_back(txn, &content, seed)?;
        if is_new {
            txn.put(&taken_key(&intake.keys, transfer), transfer.as_bytes().to_vec())?;
        }
        Ok(is_new)
    };
    desk.store.write(take).await
}

/// Puts into the mailboxes what those for whom it is have not given themselves.
pub(super) async fn pass_on(desk: &Desk) -> Result<(), RejoinError> {
    loop {
        let keys = desk.keys.clone();
        let pass = move |txn: &mut dyn Txn| -> Result<bool, RejoinError> {
            let page = txn.scan(&keys.space("rejoin-taken").build(), None, TRANSFERS_AT_ONCE)?;
            for (key, id) in &page {
                let transfer = TransferId::try_from(id.as_slice())
                    .map_err(|_| handover_store::rows::damaged("a transfer that was taken back"))?;
                routing::pass_on_again(txn, &keys, transfer)?;
                txn.remove(key)?;
            }
            Ok(page.len() < TRANSFERS_AT_ONCE)
        };
        if desk.store.write(pass).await? {
            return Ok(());
        }
    }
}
