//! The source streams a sealed package to the destination, from where the destination has it. A manifest that is gone
//! from the spool, or is not what was sealed, cannot be resumed from: then the next attempt is sealed.

use std::sync::Arc;

use handover_core::Code;
use handover_core::codec::{Bytes, Extensions};
use handover_core::rules::{self, Context};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_net::Net;
use handover_parcel::Sent;
use handover_parcel::wire::Offer;
use handover_seal::Ed25519;

use super::seal;
use crate::context::{Came, Inner};
use crate::{ExchangeError, parts};

pub(super) async fn send(inner: &Arc<Inner>, net: &Net, row: &Row) -> Result<(), ExchangeError> {
    let offer = offer(inner, row).await?;
    let mut stream = net.open_package(&inner.route_to(&row.destination)?).await?;
    match handover_parcel::send(&mut stream, &inner.parts.blobs, &offer).await? {
        Sent::Done(done) => {
            let delivered = done.delivered.ok_or(Code::Malformed)?;
            inner.take(delivered.0, Came::Network).await?;
            Ok(())
        }
        // The manifest comes first, and was made for this transfer alone.
        Sent::Damaged { part: 0 } => {
            tracing::warn!(transfer = %row.transfer, "the spooled manifest is gone or damaged");
            seal::seal(inner, row, row.state.attempt.saturating_add(1)).await
        }
        Sent::Damaged { .. } => Err(Code::StoreDamaged.into()),
    }
}

async fn offer(inner: &Arc<Inner>, row: &Row) -> Result<Offer, ExchangeError> {
    let (keys, federation, now) = (inner.keys(), inner.federation()?, inner.now());
    let (transfer, attempt) = (row.transfer, row.state.attempt);
    Ok(inner
        .parts
        .store
        .read(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Ed25519 };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            rules::consent_in_time(&*dossier.consent(context)?, now)?;
            let header = dossier.header(attempt, context)?;
            let mut envelope = |kind: Kind| dossier.get(kind).map(|found| found.map(Bytes));
            Ok(Offer {
                quote: envelope(Kind::Quote)?.ok_or(Code::EvidenceMissing)?,
                consent: envelope(Kind::Consent)?.ok_or(Code::EvidenceMissing)?,
                final_quote: envelope(Kind::FinalQuote)?,
                header: header.envelope().to_vec().into(),
                parts: parts::of(txn, &keys, &header)?,
                extensions: Extensions::default(),
            })
        })
        .await?)
}
