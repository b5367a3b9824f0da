//! The source takes back what it left at the index, before it ends a transfer or seals it anew. Only the index knows
//! whether the release was handed out meanwhile, so nothing is said before it has answered: either nothing was and ever
//! will be, or the transfer goes on as one that was released.

use std::sync::Arc;

use handover_core::artefact::transfer::KeyRelease;
use handover_core::artefact::{Payload as _, peek_kid, peek_type};
use handover_core::message::{Answer, Request, Verb};
use handover_core::rules::{self, Context};
use handover_core::transfer::{Phase, Role};
use handover_core::trust::Federation;
use handover_core::{Code, Party, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_net::Net;
use handover_seal::Remembered;
use handover_store::StoreError;

use crate::context::{Came, Inner};
use crate::outbox::{self, Label};
use crate::{ExchangeError, left};

/// What the index said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing was handed out, and nothing will be.
    Nothing,
    /// A release was handed out before; what belongs to it has been taken in.
    HandedOut,
}

/// Takes back whatever of a transfer lies at the index.
pub(super) async fn withdraw(
    inner: &Arc<Inner>,
    net: &Net,
    transfer: TransferId,
) -> Result<Outcome, ExchangeError> {
    let keys = inner.keys();
    let out = inner.parts.store.read(move |txn| left::last_out(txn, &keys, transfer)).await?;
    let Some(attempt) = out else { return Ok(Outcome::Nothing) };
    let items = vec![transfer.as_bytes().to_vec(), attempt.to_be_bytes().to_vec()];
    let answer = net.request(&inner.route_to_index(), Request::encode(Verb::Withdraw, items)).await?;
    let handed_out = Answer::decode(&answer)?;
    let outcome = if handed_out.is_empty() { Outcome::Nothing } else { Outcome::HandedOut };
    tracing::info!(%transfer, ?outcome, "the package was taken back from the folder");
    // With the very release that was left the index shows that it handed out; what it took against that counts, also if
    // a key has been replaced since.
    let (keys, all) = (inner.keys(), handed_out.clone());
    let is_shown = inner.parts.store.read(move |txn| -> Result<_, StoreError> {
        let shown: Result<Vec<bool>, _> =
            all.iter().map(|it| left::holds(txn, &keys, transfer, it)).collect();
        Ok(shown?.contains(&true))
    });
    let is_shown = is_shown.await?;
    let federation = inner.federation()?;
    let mut refused = None;
    for envelope in handed_out {
        if is_replaced_release(&envelope, &federation) {
            refused = Some(envelope.clone());
        }
        match is_shown {
            true => inner.take(envelope, Came::Network).await?,
            false => inner.take_from(envelope, &Party::Index).await?,
        };
    }
    let (keys, now) = (inner.keys(), inner.now());
    let noted = inner.parts.store.write(move |txn| -> Result<(), DossierError> {
        let row = Dossier::of(txn, &keys, transfer).row()?.ok_or(Code::UnknownTransfer)?;
        if let Some(release) = &refused {
            outbox::push(txn, &keys, &Label::direct(row.other().clone(), transfer, now), release)?;
        }
        Ok(left::withdraw(txn, &keys, transfer, now)?)
    });
    noted.await?;
    inner.outbox.notify_one();
    Ok(outcome)
}

/// Whether this is a release under a key that was replaced since. The destination, which may have taken what belongs to
/// it before it knew of that, takes the release from its source alone.
fn is_replaced_release(envelope: &[u8], federation: &Federation) -> bool {
    peek_type(envelope).is_ok_and(|label| label == KeyRelease::TYPE)
        && peek_kid(envelope).is_ok_and(|kid| federation.is_former(&kid))
}

/// Takes back what may have been left there without that the store, which was restored, knows of it.
pub(super) async fn lost(inner: &Arc<Inner>, net: &Net, row: &Row) -> Result<Outcome, ExchangeError> {
    let (keys, transfer) = (inner.keys(), row.transfer);
    let is_lost = inner.parts.store.read(move |txn| left::is_lost(txn, &keys, transfer)).await?;
    if is_lost { withdraw(inner, net, transfer).await } else { Ok(Outcome::Nothing) }
}

/// What says no to a transfer, and may have to wait until it is known whether it comes in time.
const SAYS_NO: [Kind; 3] = [Kind::Revocation, Kind::PatientRefusal, Kind::Refusal];

/// Whether a no is kept here that could not end the transfer yet.
pub(super) async fn is_held(inner: &Arc<Inner>, row: &Row) -> Result<bool, ExchangeError> {
    if row.role != Role::Source || row.origin.is_some() {
        return Ok(false);
    }
    let (keys, transfer) = (inner.keys(), row.transfer);
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let mut dossier = Dossier::of(txn, &keys, transfer);
        for no in SAYS_NO {
            if dossier.get(no)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    });
    Ok(read.await?)
}

/// Ends a transfer that the patient or the destination has said no to, once it is known whether that was in time; and
/// says so.
pub(super) async fn end(inner: &Arc<Inner>, net: &Net, row: &Row) -> Result<(), ExchangeError> {
    withdraw(inner, net, row.transfer).await?;
    let (work, keys, transfer) = (Arc::clone(inner), inner.keys(), row.transfer);
    let (federation, now) = (inner.federation()?, inner.now());
    let ended = inner.parts.store.write(move |txn| -> Result<(), DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        // Left again in this very moment: it is asked for once more.
        if left::last_out(txn, &keys, transfer)?.is_some() {
            return Err(Code::Busy.into());
        }
        let mut dossier = Dossier::of(txn, &keys, transfer);
        let mut row = dossier.row()?.ok_or(Code::UnknownTransfer)?;
        let is_revoked = dossier.get(Kind::Revocation)?.is_some();
        let (phase, reason) = exit(&mut dossier, context)?;
        if row.state.phase < Phase::Released {
            row = dossier.end(Role::Source, phase, reason, now)?;
        }
        if is_revoked && dossier.get(Kind::ConfirmedBySource)?.is_none() {
            work.confirm_revocation(txn, &keys, &row, context, now)?;
        }
        work.see_to_end(txn, &keys, &row, context, now)
    });
    ended.await?;
    inner.outbox.notify_one();
    inner.jobs.notify_one();
    inner.wakes.consent(transfer);
    inner.changed.send_modify(|count| *count = count.wrapping_add(1));
    Ok(())
}

/// How a transfer ends by the no that is kept, if that came in time.
fn exit(dossier: &mut Dossier<'_>, context: Context<'_>) -> Result<(Phase, Code), DossierError> {
    if dossier.get(Kind::Revocation)?.is_some() {
        return Ok((Phase::Revoked, Code::ConsentRevoked));
    }
    if dossier.get(Kind::PatientRefusal)?.is_some() {
        return Ok((Phase::Refused, Code::PatientRefused));
    }
    let refusal = dossier.refusal(context)?;
    Ok((rules::ended_by(&refusal).phase, refusal.code))
}
