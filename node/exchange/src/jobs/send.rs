//! The source streams a sealed package to the destination, from where the destination has it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use handover_core::artefact::transfer::ContentRef;
use handover_core::codec::{Bytes, Extensions};
use handover_core::rules::{self, Context};
use handover_core::{Code, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_net::{Net, PackageStream};
use handover_seal::{Ed25519, SealError, tree};
use handover_store::Blobs;
use tokio::time::timeout;

use super::bridge::Bridge;
use super::wire::{self, Done, Have, Offer};
use crate::context::{Came, Inner};
use crate::{ExchangeError, parts};

/// How long the destination may take for a word.
const WORD_LIMIT: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 256 * 1024;

pub(super) async fn send(inner: &Arc<Inner>, net: &Net, row: &Row) -> Result<(), ExchangeError> {
    let offer = offer(inner, row.transfer).await?;
    let mut stream = net.open_package(&inner.route_to(&row.destination)?).await?;
    timeout(WORD_LIMIT, wire::put(&mut stream, &offer)).await.map_err(|_| Code::TimedOut)??;
    let have: Have = word(&mut stream).await?;
    if let Some(code) = have.problem {
        return Err(code.into());
    }
    if have.groups.len() != offer.parts.iter().count() {
        return Err(Code::Malformed.into());
    }
    for (part, from_group) in offer.parts.iter().zip(have.groups) {
        tokio::task::block_in_place(|| send_part(&inner.parts.blobs, &mut stream, part, from_group))?;
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

async fn offer(inner: &Arc<Inner>, transfer: TransferId) -> Result<Offer, ExchangeError> {
    let (keys, federation, now) = (inner.keys(), inner.federation()?, inner.now());
    Ok(inner
        .parts
        .store
        .read(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Ed25519 };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            rules::consent_in_time(&*dossier.consent(context)?, now)?;
            let header = dossier.header(context)?;
            let mut envelope = |kind| dossier.get(kind).map(|found| found.map(Bytes));
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

/// Sends one part. What lies is verified before it leaves, so damage here is named here.
fn send_part(
    blobs: &Blobs,
    stream: &mut PackageStream,
    part: &ContentRef,
    from_group: u64,
) -> Result<(), ExchangeError> {
    if from_group >= tree::groups(part.length) {
        return Ok(());
    }
    let path = blobs.local_path(part.root);
    let (root, outboard) = tree::outboard(BufReader::new(File::open(&path)?), part.length)?;
    if root != part.root {
        return Err(Code::StoreDamaged.into());
    }
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, Bridge::new(stream, part.length));
    tree::send(File::open(&path)?, &outboard, from_group, &mut out).map_err(|fault| match fault {
        // The file was read a moment ago: what fails now is the stream.
        SealError::Io(fault) => ExchangeError::Stream(fault),
        other => other.into(),
    })?;
    out.flush().map_err(ExchangeError::Stream)
}
