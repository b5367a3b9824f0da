//! The source leaves a package in its destination's folder at the index, with the `KeyRelease` of this attempt, when the
//! destination cannot be reached. Everything that holds for a release holds for this one: it is made after the same
//! checks, stored before it leaves, and there is one of each attempt, ever.
//!
//! Deliveries under continuous consents are not left: their source makes them, and is there when they are made.

use std::sync::Arc;

use handover_core::Code;
use handover_core::rules::Context;
use handover_dossier::{DossierError, Row};
use handover_net::Net;
use handover_parcel::Sent;
use handover_parcel::wire::Offer;
use handover_seal::Remembered;
use handover_store::StoreError;

use super::release;
use crate::context::Inner;
use crate::left::{self, Left};
use crate::{ExchangeError, left::get};

/// After what time the index is asked again whether it has a package, in milliseconds.
const LOOK_AGAIN_MS: i64 = 3_600_000;

/// Leaves a package, if it does not lie there already; the part that is damaged here, if one is.
pub(super) async fn leave(
    inner: &Arc<Inner>,
    net: &Net,
    row: &Row,
    offer: Offer,
) -> Result<Option<usize>, ExchangeError> {
    if !inner.parts.leaves_packages || row.origin.is_some() {
        return Ok(None);
    }
    let (keys, transfer, attempt, now) = (inner.keys(), row.transfer, row.state.attempt, inner.now());
    let known = inner.parts.store.read(move |txn| get(txn, &keys, transfer, attempt)).await?;
    // It may be lost there: what lies whole costs an offer.
    let lies_there = |left: &Left| {
        let is_kept = left.until.is_some_and(|until| until > now);
        is_kept && left.seen.is_some_and(|seen| seen.plus_ms(LOOK_AGAIN_MS) > now)
    };
    if known.is_some_and(|left| left.withdrawn.is_some() || lies_there(&left)) {
        return Ok(None);
    }
    let mut stream = net.open_package(&inner.route_to_index()).await?;
    let left = prepare(inner, row).await?;
    let offer = Offer { release: Some(left.release.clone()), ..offer };
    let sent = handover_parcel::send(&mut stream, &inner.parts.blobs, &offer).await;
    match sent {
        Ok(Sent::Damaged { part }) => Ok(Some(part)),
        Ok(Sent::Done(done)) => {
            let until = done.kept_until.ok_or(Code::Malformed)?;
            tracing::info!(%transfer, %until, "the package waits in the destination's folder");
            note(inner, row, Left { until: Some(until), problem: None, seen: Some(inner.now()), ..left })
                .await?;
            Ok(None)
        }
        Err(fault) => {
            note(inner, row, Left { problem: Some(fault.code()), ..left }).await?;
            Err(fault.into())
        }
    }
}

/// Makes the release, or takes the one that was made, and keeps it before it leaves.
async fn prepare(inner: &Arc<Inner>, row: &Row) -> Result<Left, ExchangeError> {
    let (work, keys, row, now) = (Arc::clone(inner), inner.keys(), row.clone(), inner.now());
    let federation = inner.federation()?;
    release::both_take_part(&federation, &row, now)?;
    let left = inner.parts.store.write(move |txn| -> Result<_, DossierError> {
        work.parts.gate.may_sign(row.other())?;
        let context = Context { federation: &federation, verifier: &Remembered };
        let release = release::made(txn, &keys, &work, &row, context, now)?.ok_or(Code::OutOfOrder)?;
        let known = left::get(txn, &keys, row.transfer, row.state.attempt)?;
        let left = known.unwrap_or_else(|| Left::new(row.state.attempt, release));
        left::put(txn, &keys, row.transfer, &left)?;
        Ok(left)
    });
    Ok(left.await?)
}

/// Keeps what the index said, unless the package was taken back or is over meanwhile.
async fn note(inner: &Arc<Inner>, row: &Row, left: Left) -> Result<(), ExchangeError> {
    let (keys, transfer) = (inner.keys(), row.transfer);
    let written = inner.parts.store.write(move |txn| -> Result<(), StoreError> {
        match left::get(txn, &keys, transfer, left.attempt)? {
            Some(known) if known.withdrawn.is_none() => left::put(txn, &keys, transfer, &left),
            _ => Ok(()),
        }
    });
    written.await?;
    inner.changed.send_modify(|count| *count = count.wrapping_add(1));
    Ok(())
}
