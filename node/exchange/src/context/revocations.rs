//! What a patient's revocation has come to here, as it is confirmed to them.

use handover_core::artefact::Verified;
use handover_core::artefact::patient::ConsentMode;
use handover_core::artefact::transfer::{RevocationConfirmed, RevocationEffect, Step};
use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::transfer::{Phase, Role};
use handover_core::{Code, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_store::{KeyMaker, Txn};

use super::{Came, Inner};

impl Inner {
    /// Says what a revocation that is kept here has come to.
    pub(crate) fn confirm_revocation(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        row: &Row,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let mut dossier = Dossier::of(txn, keys, row.transfer);
        let confirmed = RevocationConfirmed {
            transfer: row.transfer,
            consent: dossier.consent(context)?.hash(),
            by: self.own().clone(),
            since: now,
            effect: revocation_effect(&mut dossier, row, context)?,
            extensions: Extensions::default(),
        };
        let confirmed = Verified::sign(confirmed, &self.parts.identity.signing);
        self.take_in(txn, keys, row.transfer, confirmed.envelope(), Came::Own, context, now)?;
        Ok(())
    }
}

impl Inner {
    /// Says that a release which came to a transfer that the patient had ended opens nothing here: its source, which had
    /// not known that, ends it, too.
    pub(crate) fn refuse_to_open(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        row: &Row,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let (transfer, attempt) = (row.transfer, row.state.attempt);
        let mut dossier = Dossier::of(txn, keys, transfer);
        let is_unopened = row.role == Role::Destination
            && row.state.phase == Phase::Revoked
            && dossier.get(Kind::KeyRelease.of(attempt))?.is_some()
            && dossier.get(Kind::Refusal)?.is_none();
        if !is_unopened {
            return Ok(());
        }
        let refusal = self.refusal((transfer, attempt), Step::Filing, Code::ConsentRevoked, now);
        self.take_in(txn, keys, transfer, refusal.envelope(), Came::Own, context, now)?;
        Ok(())
    }
}

/// What a revocation does at this holder: a share that was released cannot be taken back, and with both of them the
/// destination can open what it has. In whichever attempt: that it lost one is the destination's word. A release that came
/// to a destination after its transfer had ended opened nothing.
fn revocation_effect(
    dossier: &mut Dossier<'_>,
    row: &Row,
    context: Context<'_>,
) -> Result<RevocationEffect, DossierError> {
    let released = dossier.attempts_with(Kind::KeyRelease)?;
    let is_shared = !dossier.attempts_with(Kind::ShareRelease)?.is_empty();
    let is_open = match (row.role, row.state.phase) {
        (Role::Source, _) => !released.is_empty(),
        (_, Phase::Revoked) => is_shared && released.iter().any(|attempt| *attempt < row.state.attempt),
        _ => is_shared && !released.is_empty(),
    };
    Ok(match (is_open, dossier.consent(context)?.mode) {
        (false, _) => RevocationEffect::InTime,
        (true, ConsentMode::OneTime) => RevocationEffect::TooLate,
        // Nothing more comes under it.
        (true, ConsentMode::Continuous) => RevocationEffect::Ended,
    })
}

/// Whether a revocation is kept of which this hospital has not said what it came to.
pub(super) fn is_unconfirmed(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<bool, DossierError> {
    let mut dossier = Dossier::of(txn, keys, transfer);
    Ok(dossier.get(Kind::Revocation)?.is_some() && dossier.get(Kind::ConfirmedBySource)?.is_none())
}

/// A patient's no is to a quote. The consent to it is taken back by a revocation, of which both hospitals say what it came
/// to; a mere no could meet the release under way, and end the transfer at one of them alone.
pub(super) fn require_no_consent(dossier: &mut Dossier<'_>) -> Result<(), DossierError> {
    if dossier.get(Kind::Consent)?.is_some() { Err(Code::OutOfOrder.into()) } else { Ok(()) }
}
