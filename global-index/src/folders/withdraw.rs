//! A source takes back what it left. In one transaction either nothing has left the folder, and nothing ever will, or
//! it is told what was handed out.

use handover_core::{Code, HospitalId, TransferId};
use handover_dossier::{Dossier, Kind};

use super::rows;
use super::{FolderError, Folders};

impl Folders {
    /// Withdraws a transfer's package of this attempt and those before it: nothing, or `Delivered` and `KeyRelease` of
    /// each attempt that was handed out.
    pub(crate) async fn withdraw(
        &self,
        source: &HospitalId,
        transfer: TransferId,
        attempt: u32,
    ) -> Result<Vec<Vec<u8>>, FolderError> {
        let (keys, source) = (self.0.desk.keys.clone(), source.clone());
        let (current, now) = (self.0.desk.current(), self.0.desk.now());
        let (handed_out, kept) = self
            .0
            .desk
            .store
            .write(move |txn| -> Result<_, FolderError> {
                let mut dossier = Dossier::of(txn, &keys, transfer);
                let mut handed_out = Vec::new();
                let mut kept = Vec::new();
                if let Some(row) = dossier.row()? {
                    if row.source != source {
                        return Err(Code::AccessDenied.into());
                    }
                    for attempt in dossier.attempts_with(Kind::KeyRelease)? {
                        for kind in [Kind::Delivered, Kind::KeyRelease] {
                            handed_out.extend(dossier.get(kind.of(attempt))?);
                        }
                    }
                    kept = rows::of_transfer(txn, &keys, &row.destination, transfer)?;
                    kept.retain(|left| left.attempt <= attempt);
                } else {
                    // One that is shut out takes back what it had left, and nothing else.
                    current.federation().active(&source, now)?;
                }
                rows::withdraw(txn, &keys, &source, transfer, attempt, now)?;
                Ok((handed_out, kept))
            })
            .await?;
        tracing::info!(%transfer, attempt, was_handed_out = !handed_out.is_empty(), "withdrawn by its source");
        if handed_out.is_empty() {
            self.0.instruments.packages.inc(["withdrawn"]);
            self.remove(kept).await?;
        }
        Ok(handed_out)
    }
}
