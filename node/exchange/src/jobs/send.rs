//! The source streams a sealed package to the destination, from where the destination has it; to the destination's
//! folder at the index, if it is away. A manifest that is gone from the spool, or is not what was sealed, cannot be
//! resumed from, and what was sealed under a key that was replaced since is taken from no folder: then the next attempt
//! is sealed.

use std::sync::Arc;

use handover_core::codec::{Bytes, Extensions};
use handover_core::rules::{self, Context};
use handover_core::transfer::Phase;
use handover_core::{Code, Party};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_net::Net;
use handover_parcel::Sent;
use handover_parcel::wire::Offer;
use handover_seal::Remembered;

use super::withdraw::{self, Outcome};
use super::{leave, release, seal};
use crate::context::Inner;
use crate::outbox::{self, Label};
use crate::{ExchangeError, parts};

/// The part that comes first, and was made for this transfer alone.
pub(super) const MANIFEST: usize = 0;

pub(super) async fn send(inner: &Arc<Inner>, net: &Net, row: &Row) -> Result<(), ExchangeError> {
    // Under a key that this hospital has replaced it could come from here alone, and from no folder.
    let is_ours = is_under_own_key(inner, row).await?;
    let offer = match is_ours && release::has_shares_for_its_key(inner, row).await? {
        true => offer(inner, row).await?,
        false => None,
    };
    let Some(offer) = offer else { return reseal(inner, net, row, MANIFEST).await };
    let mut stream = match net.open_package(&inner.route_to(&row.destination)?).await {
        Ok(stream) => stream,
        // Away, and not for the first time: the index keeps it meanwhile. The destination is still tried.
        Err(fault) if is_away(fault.code()) && inner.work_pauses().is_again(row) => {
            match leave::leave(inner, net, row, offer).await {
                Ok(Some(part)) => return reseal(inner, net, row, part).await,
                Ok(None) => {}
                Err(fault) => {
                    tracing::info!(transfer = %row.transfer, code = %fault.code(), detail = %fault, "the package was not left in the destination's folder");
                }
            }
            return Err(fault.into());
        }
        Err(fault) => return Err(fault.into()),
    };
    match handover_parcel::send(&mut stream, &inner.parts.blobs, &offer).await? {
        Sent::Done(done) => {
            let delivered = done.delivered.ok_or(Code::Malformed)?;
            let from = Party::Hospital(row.destination.clone());
            let known = inner.parts.directories.version();
            match inner.take_from(delivered.0.clone(), &from).await {
                Err(fault) if inner.has_new_signers(known, &fault).await? => {
                    inner.take_from(delivered.0, &from).await.map(drop)
                }
                taken => taken.map(drop),
            }
        }
        Sent::Damaged { part } => reseal(inner, net, row, part).await,
    }
}

const fn is_away(code: Code) -> bool {
    matches!(code, Code::Unreachable | Code::TimedOut)
}

/// Seals the next attempt, if it is the manifest that is damaged and nothing of this attempt can be open.
pub(super) async fn reseal(
    inner: &Arc<Inner>,
    net: &Net,
    row: &Row,
    part: usize,
) -> Result<(), ExchangeError> {
    if part != MANIFEST {
        return Err(Code::StoreDamaged.into());
    }
    tracing::warn!(transfer = %row.transfer, "what was sealed is gone or damaged here, or is for a key that the destination has replaced");
    match withdraw::withdraw(inner, net, row.transfer).await? {
        Outcome::HandedOut => Ok(()),
        Outcome::Nothing => {
            tell(inner, row).await?;
            seal::seal(inner, row, row.state.attempt.saturating_add(1)).await
        }
    }
}

/// Sends the destination the header of an attempt that it may never have got: the fee is reserved with it, and it holds
/// the books against what it knows.
async fn tell(inner: &Arc<Inner>, row: &Row) -> Result<(), ExchangeError> {
    if row.state.phase != Phase::Sealed {
        return Ok(());
    }
    let (keys, row, now) = (inner.keys(), row.clone(), inner.now());
    let told = inner.parts.store.write(move |txn| -> Result<(), DossierError> {
        let header = Dossier::of(txn, &keys, row.transfer).get(Kind::Header.of(row.state.attempt))?;
        let label = Label::direct(row.destination.clone(), row.transfer, now);
        header.map_or(Ok(()), |header| Ok(outbox::push(txn, &keys, &label, &header)?))
    });
    told.await?;
    inner.outbox.notify_one();
    Ok(())
}

/// Whether the header of the attempt under way is signed with the key that this hospital has now.
async fn is_under_own_key(inner: &Arc<Inner>, row: &Row) -> Result<bool, ExchangeError> {
    let (keys, federation, row) = (inner.keys(), inner.federation()?, row.clone());
    let own = inner.parts.identity.signing.public();
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        let header = Dossier::of(txn, &keys, row.transfer).header(row.state.attempt, context)?;
        Ok(*header.signer() == own)
    });
    Ok(read.await?)
}

/// What is offered; nothing if its parts are not here: a store that was restored may lack them.
async fn offer(inner: &Arc<Inner>, row: &Row) -> Result<Option<Offer>, ExchangeError> {
    let (keys, federation, now) = (inner.keys(), inner.federation()?, inner.now());
    let (transfer, attempt) = (row.transfer, row.state.attempt);
    Ok(inner
        .parts
        .store
        .read(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            rules::consent_in_time(&*dossier.consent(context)?, now)?;
            let header = dossier.header(attempt, context)?;
            let Some(parts) = parts::held(txn, &keys, &header)? else { return Ok(None) };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            let mut envelope = |kind: Kind| dossier.get(kind).map(|found| found.map(Bytes));
            Ok(Some(Offer {
                quote: envelope(Kind::Quote)?.ok_or(Code::EvidenceMissing)?,
                consent: envelope(Kind::Consent)?.ok_or(Code::EvidenceMissing)?,
                final_quote: envelope(Kind::FinalQuote)?,
                header: header.envelope().to_vec().into(),
                parts,
                release: None,
                extensions: Extensions::default(),
            }))
        })
        .await?)
}
