//! Patients that a file says were merged: told with what was sent of them before, and left to people. Two numbers may
//! be one person's, and then nothing that was sent is wrong; or a merge may show that records went to the wrong one.

use handover_exchange::Planned;

use super::Filing;
use super::counts::{Merged, NAMED_PATIENTS, SentBefore};
use super::reading::Pending;

impl Filing<'_> {
    /// Remembers who was replaced by whom.
    pub(super) fn note_merges(&mut self, batch: &[Pending]) {
        for pair in batch.iter().flat_map(|pending| &pending.merged) {
            if self.merged.contains(pair) {
                continue;
            }
            if self.merged.len() < NAMED_PATIENTS {
                self.merged.insert(pair.clone());
            } else {
                self.imported.merged_unnamed += 1;
            }
        }
    }

    /// Says of each who was sent what of them before. Nothing is recalled, and who cannot be looked up is named all the
    /// same.
    pub(super) async fn tell_merges(&mut self) {
        for (replaced, by) in std::mem::take(&mut self.merged) {
            let found = self.node.exchange.sent_of(self.staff, &replaced).await;
            let not_looked_up = found.as_ref().err().map(|fault| fault.code().to_string());
            let sent: Vec<_> = found.unwrap_or_default().into_iter().map(SentBefore::of).collect();
            let command = || format!("recall make --patient {replaced} --reason wrong-patient --preview");
            let recall = (!sent.is_empty() || not_looked_up.is_some()).then(command);
            let (patient, replaced_by) = (replaced.to_string(), by.to_string());
            self.imported.merged.push(Merged { patient, replaced_by, sent, recall, not_looked_up });
        }
    }
}

impl SentBefore {
    fn of(planned: Planned) -> Self {
        Self {
            transfer: planned.transfer.to_string(),
            hospital: planned.destination.to_string(),
            records: planned.records.len(),
        }
    }
}
