//! The source streams a sealed package to the destination, from where the destination has it. A manifest that is gone
//! from the spool, or is not what was sealed, cannot be resumed from: then the next attempt is sealed.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use handover_core::Code;
use handover_core::artefact::transfer::{ContentRef, PartList};
use handover_core::codec::{Bytes, Extensions};
use handover_core::rules::{self, Context};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_net::{Net, PackageStream};
use handover_seal::{Ed25519, SealError, tree};
use handover_store::Blobs;
use tokio::time::timeout;

use super::bridge::Bridge;
use super::seal;
use super::wire::{self, Done, Have, Offer};
use crate::context::{Came, Inner};
use crate::{ExchangeError, parts};

/// How long the destination may take for a word.
const WORD_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn send(inner: &Arc<Inner>, net: &Net, row: &Row) -> Result<(), ExchangeError> {
    let offer = offer(inner, row).await?;
    let mut stream = net.open_package(&inner.route_to(&row.destination)?).await?;
    timeout(WORD_LIMIT, wire::put(&mut stream, &offer)).await.map_err(|_| Code::TimedOut)??;
    let have: Have = word(&mut stream).await?;
    if let Some(code) = have.problem {
        return Err(code.into());
    }
    if have.groups.len() != offer.parts.iter().count() {
        return Err(Code::Malformed.into());
    }
    let sent = tokio::task::block_in_place(|| {
        send_parts(&inner.parts.blobs, &mut stream, &offer.parts, &have.groups)
    })?;
    match sent {
        Sent::All => {}
        // The manifest comes first, and was made for this transfer alone.
        Sent::Damaged { part: 0 } => {
            tracing::warn!(transfer = %row.transfer, "the spooled manifest is gone or damaged");
            return seal::seal(inner, row, row.state.attempt.saturating_add(1)).await;
        }
        Sent::Damaged { .. } => return Err(Code::StoreDamaged.into()),
    }
    let done: Done = word(&mut stream).await?;
    if let Some(code) = done.problem {
        return Err(code.into());
    }
    let delivered = done.delivered.ok_or(Code::Malformed)?;
    inner.take(delivered.0, Came::Network).await?;
    Ok(())
}

async fn word<T: handover_core::codec::CborMap>(stream: &mut PackageStream) -> Result<T, ExchangeError> {
    timeout(WORD_LIMIT, wire::get(stream)).await.map_err(|_| Code::TimedOut)?
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

/// Whether the parts went out.
enum Sent {
    /// As far as they were wanted.
    All,
    /// One is gone, or is not what it was: nothing that is damaged was sent.
    Damaged { part: usize },
}

fn send_parts(
    blobs: &Blobs,
    stream: &mut PackageStream,
    parts: &PartList,
    from_groups: &[u64],
) -> Result<Sent, ExchangeError> {
    let mut out = Bridge::writer(stream, parts);
    for (number, (part, from_group)) in parts.iter().zip(from_groups).enumerate() {
        if !send_part(blobs, &mut out, part, *from_group)? {
            return Ok(Sent::Damaged { part: number });
        }
    }
    out.flush().map_err(ExchangeError::Stream)?;
    Ok(Sent::All)
}

/// Sends one part; false if it is damaged here. What lies is verified as it leaves, so damage here is named here.
fn send_part(
    blobs: &Blobs,
    out: &mut impl Write,
    part: &ContentRef,
    from_group: u64,
) -> Result<bool, ExchangeError> {
    if from_group >= tree::groups(part.length) {
        return Ok(true);
    }
    let Some(hashes) = blobs.tree(part.root, part.length)? else { return Ok(false) };
    match tree::send(File::open(blobs.local_path(part.root))?, &hashes, from_group, out) {
        // The next try makes the tree anew, and tells whether it was the content.
        Err(SealError::Damaged) => blobs.delete_tree(part.root).map(|()| false).map_err(Into::into),
        // The file was opened a moment ago: what fails now is the stream.
        Err(SealError::Io(fault)) => Err(ExchangeError::Stream(fault)),
        sent => Ok(sent.map(|()| true)?),
    }
}
