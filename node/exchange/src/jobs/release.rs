//! The source releases the shares, once the destination has everything and the patient's release is known here, after a
//! last look at revocation and status.

use std::sync::Arc;

use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::artefact::transfer::KeyRelease;
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_seal::Ed25519;

use crate::context::{Came, Inner};
use crate::{ExchangeError, secrets};

pub(super) async fn release(inner: &Arc<Inner>, row: &Row) -> Result<(), ExchangeError> {
    let (work, keys, transfer, seen) = (Arc::clone(inner), inner.keys(), row.transfer, row.state.clone());
    let (federation, now) = (inner.federation()?, inner.now());
    federation.check_fresh(now)?;
    federation.active(&row.destination, now)?;
    federation.active(&row.source, now)?;
    let taken = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Ed25519 };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            if dossier.get(Kind::Revocation)?.is_some() {
                return Err(Code::ConsentRevoked.into());
            }
            rules::consent_in_time(&*dossier.consent(context)?, now)?;
            // The destination may have asked for the next attempt since.
            if dossier.row()?.is_none_or(|row| row.state != seen) {
                return Ok(None);
            }
            // Whoever could open without this hospital knowing would owe nothing for it.
            if dossier.released_with(seen.attempt)?.is_none() {
                return Err(Code::ReleaseAwaited.into());
            }
            let header = dossier.header(seen.attempt, context)?;
            let (attempt, hash) = (header.attempt, header.hash());
            let shares = secrets::sealed_shares(txn, &keys, transfer)?.ok_or(Code::StoreDamaged)?;
            let release = KeyRelease {
                transfer,
                attempt,
                header: hash,
                shares: shares.into(),
                issued: now,
                extensions: Extensions::default(),
            };
            let release = Verified::sign(release, &work.parts.identity.signing);
            work.take_in(txn, &keys, transfer, release.envelope(), Came::Own, context, now).map(Some)
        })
        .await?;
    if let Some(taken) = taken {
        inner.wake(&taken);
    }
    Ok(())
}
