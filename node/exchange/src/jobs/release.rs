//! The source releases the shares, once the destination has everything and the patient's release is known here, after a
//! last look at revocation and status.

use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::transfer::KeyRelease;
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::rules::{self, Context};
use handover_core::trust::Federation;
use handover_core::{Code, Timestamp};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_net::Net;
use handover_seal::shares::SealedShares;
use handover_seal::{Remembered, RsaPublicKey};
use handover_store::{KeyMaker, Txn};

use super::send;
use crate::context::{Came, Inner};
use crate::{ExchangeError, left, secrets};

pub(super) async fn release(inner: &Arc<Inner>, net: &Net, row: &Row) -> Result<(), ExchangeError> {
    if !has_shares_for_its_key(inner, row).await? {
        return send::reseal(inner, net, row, send::MANIFEST).await;
    }
    let (work, keys, seen) = (Arc::clone(inner), inner.keys(), row.clone());
    let (federation, now) = (inner.federation()?, inner.now());
    both_take_part(&federation, row, now)?;
    let taken = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let Some(release) = made(txn, &keys, &work, &seen, context, now)? else { return Ok(None) };
            // Whoever could open without this hospital knowing would owe nothing for it. It is waited for until the
            // consent ends.
            if Dossier::of(txn, &keys, seen.transfer).released_with(seen.state.attempt)?.is_none() {
                return Err(Code::ReleaseAwaited.into());
            }
            work.take_in(txn, &keys, seen.transfer, &release, Came::Own, context, now).map(Some)
        })
        .await?;
    if let Some(taken) = taken {
        inner.wake(&taken);
    }
    Ok(())
}

/// Whether the shares of the attempt under way are here, for the key that the destination has now: a store that was
/// restored may lack them, and a key that was replaced may be a thief's.
pub(super) async fn has_shares_for_its_key(inner: &Arc<Inner>, row: &Row) -> Result<bool, ExchangeError> {
    let (keys, federation, row) = (inner.keys(), inner.federation()?, row.clone());
    let rsa_key = RsaPublicKey::from_spki_der(federation.member(&row.destination)?.profile.rsa_key.as_ref())?;
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        let shares = secrets::sealed_shares(txn, &keys, row.transfer)?;
        let header = Dossier::of(txn, &keys, row.transfer).header(row.state.attempt, context)?;
        Ok(shares.is_some_and(|shares| {
            let sealed: Result<SealedShares, _> = codec::decode(&shares, MAX_MESSAGE_BYTES);
            rules::shares_hash(&shares) == header.shares
                && sealed.is_ok_and(|sealed| sealed.hospital_key == rsa_key.thumbprint())
        }))
    });
    Ok(read.await?)
}

/// Before anything is released, both hospitals have to take part by a fresh directory.
pub(super) fn both_take_part(federation: &Federation, row: &Row, now: Timestamp) -> Result<(), Code> {
    federation.check_fresh(now)?;
    federation.active(&row.destination, now)?;
    federation.active(&row.source, now)?;
    Ok(())
}

/// The release of the attempt under way, if patient and consent allow it: the one that was left at the index, if one
/// was, for there is one of each attempt, ever. Nothing if the transfer has moved on.
pub(super) fn made(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    inner: &Inner,
    seen: &Row,
    context: Context<'_>,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, DossierError> {
    let (transfer, attempt) = (seen.transfer, seen.state.attempt);
    let mut dossier = Dossier::of(txn, keys, transfer);
    for (no, code) in [(Kind::Revocation, Code::ConsentRevoked), (Kind::PatientRefusal, Code::PatientRefused)]
    {
        if dossier.get(no)?.is_some() {
            return Err(code.into());
        }
    }
    rules::consent_in_time(&*dossier.consent(context)?, now)?;
    // The destination may have asked for the next attempt since.
    if dossier.row()?.is_none_or(|row| row.state != seen.state) {
        return Ok(None);
    }
    let header = dossier.header(attempt, context)?.hash();
    if let Some(left) = left::get(txn, keys, transfer, attempt)?.filter(|left| !left.release.0.is_empty()) {
        return Ok(Some(left.release.0));
    }
    let shares = secrets::sealed_shares(txn, keys, transfer)?.ok_or(Code::StoreDamaged)?;
    let release = KeyRelease {
        transfer,
        attempt,
        header,
        shares: shares.into(),
        issued: now,
        extensions: Extensions::default(),
    };
    Ok(Some(Verified::sign(release, &inner.parts.identity.signing).envelope().to_vec()))
}
