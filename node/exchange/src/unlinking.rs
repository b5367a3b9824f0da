//! Taking a wallet's link away: a clerk's act, for a wallet that is lost without its recovery file, or that has to be
//! linked to another of the patient's numbers. Records stay; what the wallet asked for and was referred with goes.

use handover_core::{Code, PatientRef};
use handover_dossier::key_records;
use handover_records::{Action, GrantRequest, Linked, LocalPatient, Purpose, Subject};

use crate::{Exchange, ExchangeError, continuous, desk, referrals, remote};

const ACTIVE_AT_ONCE: usize = 200;

impl Exchange {
    /// The wallets that are linked to a patient. Leaves an audit line.
    ///
    /// # Errors
    /// The audit log's, the store's.
    pub async fn wallets(&self, staff: &str, patient: &LocalPatient) -> Result<Vec<Linked>, ExchangeError> {
        let records = &self.0.parts.records;
        records.audit().permit(of_staff(staff, Action::List, patient), self.0.now()).await?;
        Ok(records.refs_of(patient).await?)
    }

    /// Takes a wallet's link to a patient away. Again, it changes nothing; says whether there was one.
    ///
    /// # Errors
    /// [`Code::LinkedOtherwise`] if it is linked to another patient; [`Code::TransferOpen`] while one of its transfers
    /// is not over.
    pub async fn unlink(
        &self,
        staff: &str,
        patient: &LocalPatient,
        wallet: PatientRef,
    ) -> Result<bool, ExchangeError> {
        let (parts, now) = (&self.0.parts, self.0.now());
        let permit = parts.records.audit().permit(of_staff(staff, Action::Unlink, patient), now).await?;
        let (records, keys, keyring) = (parts.records.clone(), self.0.keys(), parts.keyring.clone());
        let write = parts.store.write(move |txn| -> Result<bool, ExchangeError> {
            if !records.unlink_in(txn, &permit, now, wallet)? {
                return Ok(false);
            }
            let mut after = None;
            loop {
                let page = handover_dossier::active(txn, &keys, after, ACTIVE_AT_ONCE)?;
                if page.iter().any(|row| row.patient == wallet) {
                    return Err(Code::TransferOpen.into());
                }
                after = page.last().map(|row| row.transfer);
                if page.len() < ACTIVE_AT_ONCE {
                    break;
                }
            }
            desk::drop_asks(txn, &keys, &[wallet])?;
            referrals::forget(txn, &keyring, &keys, &[wallet])?;
            remote::forget(txn, &keys, &[wallet], None)?;
            continuous::forget(txn, &keyring, &keys, &[wallet])?;
            key_records::forget(txn, &keys, &wallet)?;
            Ok(true)
        });
        write.await
    }
}

fn of_staff(staff: &str, action: Action, patient: &LocalPatient) -> GrantRequest {
    GrantRequest::new(Subject::staff(staff), action, Purpose::Administration, Some(patient.clone()))
}
