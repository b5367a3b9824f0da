//! Operations on a store that was restored from a backup.

use handover_core::{HospitalId, Timestamp};

use super::views::RejoinView;
use super::{Operations, OpsError};
use crate::rejoin;
use crate::voice::{self, Phase};

impl Operations {
    /// Says that the store was restored, if nobody can tell, and who is not waited for. While it catches up already,
    /// only that. A name that is none changes nothing: whoever was meant would be waited for.
    pub(super) async fn rejoin(&self, without: Vec<HospitalId>) -> Result<RejoinView, OpsError> {
        let current = self.desk.current();
        if let Some(unknown) = without.iter().find(|it| current.federation().member(it).is_err()) {
            return Err(OpsError::NotWaitedFor(unknown.clone()));
        }
        self.desk.voice.go_without(without);
        if self.desk.voice.phase() != Phase::CatchingUp {
            // Nobody can tell since when.
            rejoin::begin(&self.desk, Timestamp::from_millis(0)).await?;
        }
        self.rejoining().await
    }

    /// How it stands.
    pub(super) async fn rejoining(&self) -> Result<RejoinView, OpsError> {
        let keys = self.desk.keys.clone();
        let head = self.desk.store.read(move |txn| voice::head(txn, &keys)).await?;
        let waits_for = self.desk.voice.waits_for();
        Ok(RejoinView {
            speaks: self.desk.voice.may_speak().is_ok(),
            found: head.as_ref().map(|head| head.found.to_string()),
            done: head.as_ref().and_then(|head| head.done).map(|done| done.to_string()),
            waits_for: waits_for.into_iter().collect(),
            entries: head.as_ref().map_or(0, |head| head.entries),
            artefacts: head.as_ref().map_or(0, |head| head.artefacts),
            forked: head.and_then(|head| head.given_up.iter().map(|it| it.size).max()),
        })
    }
}
