//! Forgetting a patient whose transfers are all over: their asks, what is known in the clear of their transfers, and
//! their records. The artefacts of transfers stay: they are evidence for fees, and sealed to others.

use handover_core::Code;
use handover_dossier::{Dossier, key_records};
use handover_records::{Action, BeingForgotten, GrantRequest, LocalPatient, Purpose, Subject, Swept};

use crate::{
    Exchange, ExchangeError, bodies, charged, continuous, desk, glass, inboxes, parts, recalled, referrals,
    remote, selection,
};

/// Transfers that are looked at in one page; a body may be large.
const PAGE: usize = 20;
const ACTIVE_AT_ONCE: usize = 200;

impl Exchange {
    /// Forgets a patient: from here on nothing of their records opens. [`Exchange::sweep_forgotten`] removes the rest.
    ///
    /// # Errors
    /// [`Code::UnknownPatient`]; [`Code::TransferOpen`] while one of their transfers is not over.
    pub async fn forget_patient(
        &self,
        staff: &str,
        patient: &LocalPatient,
    ) -> Result<BeingForgotten, ExchangeError> {
        let (parts, now) = (&self.0.parts, self.0.now());
        let request = GrantRequest::new(
            Subject::staff(staff),
            Action::Forget,
            Purpose::Administration,
            Some(patient.clone()),
        );
        let permit = parts.records.audit().permit(request, now).await?;
        let (records, keys, patient) = (parts.records.clone(), self.0.keys(), patient.clone());
        let keyring = parts.keyring.clone();
        parts
            .store
            .write(move |txn| -> Result<_, ExchangeError> {
                let refs = records.refs_in(txn, &patient)?;
                let mut after = None;
                loop {
                    let page = handover_dossier::active(txn, &keys, after, ACTIVE_AT_ONCE)?;
                    if page.iter().any(|row| refs.contains(&row.patient)) {
                        return Err(Code::TransferOpen.into());
                    }
                    after = page.last().map(|row| row.transfer);
                    if page.len() < ACTIVE_AT_ONCE {
                        break;
                    }
                }
                desk::drop_asks(txn, &keys, &refs)?;
                referrals::forget(txn, &keyring, &keys, &refs)?;
                continuous::forget(txn, &keyring, &keys, &refs)?;
                remote::forget(txn, &keys, &refs, Some(&patient))?;
                glass::forget(txn, (&keys, &keyring), &patient)?;
                for patient in &refs {
                    key_records::forget(txn, &keys, patient)?;
                    charged::forget_until(txn, &keys, patient)?;
                }
                Ok(records.forget_in(txn, &permit, now)?)
            })
            .await
    }

    /// Removes what is left of a patient who is being forgotten. Doing it again goes on where it was interrupted.
    ///
    /// # Errors
    /// Those of store and blobs.
    pub async fn sweep_forgotten(&self, gone: &BeingForgotten) -> Result<Swept, ExchangeError> {
        self.sweep_transfers(&gone.patient).await?;
        charged::forget(&self.0.parts.store, &gone.patient).await?;
        let wanted = parts::contents_under_way(&self.0.parts.store).await?;
        Ok(self.0.parts.records.sweep(&gone.patient, &wanted).await?)
    }

    /// Quotes name tests and a selection names records; whoever pays has the sealed quote.
    async fn sweep_transfers(&self, patient: &LocalPatient) -> Result<(), ExchangeError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (keyring, keys, from) = (self.0.parts.keyring.clone(), self.0.keys(), after.take());
            let patient = patient.clone();
            let write = self.0.parts.store.write(move |txn| -> Result<_, ExchangeError> {
                let page = inboxes::page_of_local(txn, &keys, &patient, from.as_deref(), PAGE)?;
                for (_, transfer) in &page {
                    // The same person may be a patient here again by now.
                    if Dossier::of(txn, &keys, *transfer)
                        .row()?
                        .is_some_and(|row| !row.state.phase.is_final())
                    {
                        continue;
                    }
                    bodies::remove(txn, &keyring, &keys, *transfer)?;
                    selection::remove(txn, &keys, *transfer)?;
                    recalled::remove(txn, &keyring, &keys, *transfer)?;
                    inboxes::forget(txn, &keys, &patient, *transfer)?;
                }
                Ok(page.into_iter().nth(PAGE - 1).map(|(key, _)| key))
            });
            after = write.await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
