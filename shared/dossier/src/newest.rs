//! The newest artefact that each other hospital signed, of those that are held here: whoever signed it and does not know
//! it has lost something.
//!
//! Invariant: whatever order they come in, it is the one that claims to be the last. A claim from the future counts
//! as one of now, so that a clock that was off does not hide what is signed once it is set.

use handover_core::artefact::Signed;
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::transfer::Refusal;
use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::transfer::Role;
use handover_core::{Code, HospitalId, Timestamp, TransferId, cbor_map};
use handover_store::{KeyMaker, Txn, rows};

use crate::kind::Claimed;
use crate::{Dossier, DossierError, Kind, Place, Row};

cbor_map! {
    /// Which artefact it is.
    struct NewestRow {
        /// When it says to have been signed.
        1 => issued: Timestamp,
        /// Its transfer.
        2 => transfer: TransferId,
        /// Its place there.
        3 => kind: Kind,
        /// Its attempt or number.
        4 => attempt: u32,
    }
}

impl NewestRow {
    /// By time; of two with the same the one that stands on the other.
    fn order(&self) -> (Timestamp, TransferId, Place) {
        (self.issued, self.transfer, self.kind.of(self.attempt))
    }
}

fn key(keys: &KeyMaker, hospital: &HospitalId) -> Vec<u8> {
    keys.space("newest-signed").raw(hospital.as_str()).build()
}

/// The newest artefact of a transfer that a hospital signed and that is held here, whole.
///
/// # Errors
/// [`DossierError::Store`].
pub fn newest_signed(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    hospital: &HospitalId,
) -> Result<Option<Vec<u8>>, DossierError> {
    let Some(row) = rows::get::<NewestRow>(txn, &key(keys, hospital))? else { return Ok(None) };
    let place = row.kind.of(row.attempt);
    // After a repair it may be gone: then nobody can say.
    Ok(Dossier::of(txn, keys, row.transfer).get_own(place)?)
}

/// When an artefact of a transfer says to have been made; a bare revocation does not.
///
/// # Errors
/// [`Code::Malformed`] if it is none.
pub fn issued(content: &[u8]) -> Result<Option<Timestamp>, Code> {
    Claimed::read(content).map(|claimed| claimed.issued())
}

/// Which of a transfer's hospitals signed a refusal that verified.
pub(crate) fn refused_by(refusal: &Signed<Refusal>, row: &Row, context: Context<'_>) -> HospitalId {
    let source = context.federation.member(&row.source);
    let is_by_source = source.is_ok_and(|source| source.has(refusal.kid()));
    if is_by_source { row.source.clone() } else { row.destination.clone() }
}

/// Which hospital signed an artefact that verified; none if the patient did.
pub(crate) fn signed_by(claimed: &Claimed, row: &Row, context: Context<'_>) -> Option<HospitalId> {
    match claimed {
        Claimed::Quote(_) | Claimed::Header(_) | Claimed::KeyRelease(_) | Claimed::Recall(_) => {
            Some(row.source.clone())
        }
        Claimed::Request(_)
        | Claimed::FeeAcceptance(_)
        | Claimed::Delivered(_)
        | Claimed::NextAttempt(_)
        | Claimed::Receipt(_)
        | Claimed::RecallConfirmed(_) => Some(row.destination.clone()),
        Claimed::Refusal(refusal) => Some(refused_by(refusal, row, context)),
        Claimed::Confirmed(confirmed) => Some(confirmed.claim().by.clone()),
        Claimed::Consent(_)
        | Claimed::ShareRelease(_)
        | Claimed::PatientRefusal(_)
        | Claimed::Revocation(_) => None,
    }
}

impl Row {
    /// Whose copy this is, if a hospital's.
    pub(crate) const fn own(&self) -> Option<&HospitalId> {
        match self.role {
            Role::Source => Some(&self.source),
            Role::Destination => Some(&self.destination),
            Role::Index => None,
        }
    }
}

impl Dossier<'_> {
    /// Notes what was just kept, if another hospital than the one whose copy this is signed it last.
    pub(crate) fn note_newest(
        &mut self,
        claimed: &Claimed,
        place: Place,
        row: &Row,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let (Some(by), Some(issued)) = (signed_by(claimed, row, context), claimed.issued()) else {
            return Ok(());
        };
        // A hospital keeps none of what it refuses before anything of it is kept there.
        if row.own() == Some(&by) || place.kind == Kind::Refusal {
            return Ok(());
        }
        let Place { kind, attempt } = place;
        let (transfer, issued) = (self.transfer(), issued.min(now.plus_ms(CLOCK_SKEW_MS)));
        let newest = NewestRow { issued, transfer, kind, attempt, extensions: Extensions::default() };
        let key = key(&self.keys, &by);
        let known = rows::get::<NewestRow>(self.txn, &key)?;
        if known.is_none_or(|known| known.order() < newest.order()) {
            rows::put(self.txn, &key, &newest)?;
        }
        Ok(())
    }
}
