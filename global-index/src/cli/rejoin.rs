//! A store that was restored from a backup.

use handover_cli::CliError;
use handover_core::{HospitalId, Timestamp};
use handover_store::{CellKey, Place, Store, StoreError};

use super::context::Context;
use crate::ops::Command;
use crate::ops::views::RejoinView;
use crate::voice;

/// What a store has lost for good nobody may notice when it starts: it says so itself, and catches up then.
pub(super) async fn declare(place: &Place, key: &CellKey, now: Timestamp) -> Result<(), StoreError> {
    let store = Store::open(place, key).await?;
    let keys = store.keys();
    let since = Timestamp::from_millis(0);
    let declared = store.write(move |txn| voice::declare(txn, &keys, (now, since))).await;
    store.close().await;
    declared
}

/// Says that it was restored, or shows how that stands.
pub(super) fn rejoin(context: &Context, status: bool, without: Vec<HospitalId>) -> Result<(), CliError> {
    let command = if status { Command::RejoinShow } else { Command::Rejoin { without } };
    let view: RejoinView = context.perform(&command)?;
    context.output.emit("handover/index-rejoin/1", &view, |to| {
        match (&view.found, &view.done) {
            (None, _) => writeln!(to, "The store was never found to be restored.")?,
            (Some(found), None) => writeln!(to, "Restored, as was found at {found}: it catches up.")?,
            (Some(found), Some(done)) => {
                writeln!(to, "Restored, as was found at {found}; everything was back at {done}.")?;
            }
        }
        if view.found.is_some() {
            writeln!(to, "{} entries and {} artefacts were given back", view.entries, view.artefacts)?;
        }
        for hospital in &view.waits_for {
            writeln!(to, "waits for {hospital}")?;
        }
        match view.forked {
            Some(size) => writeln!(to, "A log of {size} entries was signed that cannot be made whole."),
            None => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voice::{Phase, Voice};

    #[tokio::test]
    async fn a_store_that_says_so_catches_up_when_it_starts() {
        let folder = tempfile::tempdir().unwrap();
        let (place, key) = (Place::Folder(folder.path().join("store")), CellKey::from_bytes([1; 32]));
        declare(&place, &key, Timestamp::from_millis(7)).await.unwrap();
        let store = Store::open(&place, &key).await.unwrap();
        assert_eq!(Voice::open(&store).await.unwrap().phase(), Phase::CatchingUp);
        let keys = store.keys();
        let head = store.read(move |txn| voice::head(txn, &keys)).await.unwrap().unwrap();
        assert_eq!((head.found.as_millis(), head.since.as_millis()), (7, 0));
        store.close().await;
    }
}
