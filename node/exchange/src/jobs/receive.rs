//! The destination receives a package: checks what it stands on, says what it has, verifies every group on arrival,
//! and signs `Delivered` once everything lies on disk.

use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use handover_core::artefact::transfer::{Delivered, PackageHeader, PartList, Quote};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context};
use handover_core::transfer::{Phase, State, advance};
use handover_core::{Code, HospitalId, Party, TransferId};
use handover_dossier::{Dossier, DossierError, Kind};
use handover_net::PackageStream;
use handover_parcel::wire::{self, Done, Have, Offer};
use handover_parcel::{Arriving, Place, is_large, part_path};
use handover_seal::Remembered;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::context::{Came, Inner};
use crate::{ExchangeError, leftovers, parts, secrets};

const OFFER_LIMIT: Duration = Duration::from_secs(30);

/// Takes one package stream to its end.
pub(crate) async fn receive(inner: Arc<Inner>, from: Party, mut stream: PackageStream) {
    let outcome = receive_stream(&inner, &from, &mut stream).await;
    let done = match outcome {
        Ok(delivered) => Done::delivered(delivered),
        Err(fault) => {
            tracing::warn!(from = %from, code = %fault.code(), detail = %fault, "a package was not received");
            Done::not(fault.code())
        }
    };
    // If the word does not get through, the source asks again.
    let _ = wire::put(&mut stream, &done).await;
    let _ = stream.shutdown().await;
}

async fn receive_stream(
    inner: &Arc<Inner>,
    from: &Party,
    stream: &mut PackageStream,
) -> Result<Vec<u8>, ExchangeError> {
    let offer: Offer = timeout(OFFER_LIMIT, wire::get(stream)).await.map_err(|_| Code::TimedOut)??;
    let begun = async {
        let known = inner.parts.directories.version();
        let (header, parts) = match take_offer(inner, from, offer.clone()).await {
            Err(fault) if inner.has_new_signers(known, &fault).await? => {
                take_offer(inner, from, offer).await?
            }
            taken => taken?,
        };
        let alone = Alone::with(inner, &header, is_large(&parts))?;
        let folder = inner.parts.incoming.join(header.transfer.to_string());
        let arriving = Arriving::find(&inner.parts.blobs, &folder, header.transfer, parts).await?;
        Ok((alone, header, folder, arriving))
    };
    let (_alone, header, folder, arriving) = match begun.await {
        Ok(begun) => begun,
        Err(fault) => {
            let fault: ExchangeError = fault;
            wire::put(stream, &Have::none(fault.code())).await?;
            return Err(fault);
        }
    };
    wire::put(stream, &Have::of(arriving.groups())).await?;
    arriving.receive(stream).await?;
    let delivered = deliver(inner, &header).await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(delivered)
}

/// One stream at a time writes a transfer's parts: a source that opens another before the first has ended waits.
struct Alone {
    inner: Arc<Inner>,
    transfer: TransferId,
    _place: Place,
}

impl Alone {
    fn with(inner: &Arc<Inner>, header: &PackageHeader, is_large: bool) -> Result<Self, Code> {
        let transfer = header.transfer;
        // Whoever carries it, it is its source's.
        let place = inner.receiving_places.take(&header.source, is_large).ok_or(Code::Busy)?;
        if !inner.receiving.lock().unwrap_or_else(PoisonError::into_inner).insert(transfer) {
            return Err(Code::Busy);
        }
        Ok(Self { inner: Arc::clone(inner), transfer, _place: place })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.inner.receiving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.transfer);
    }
}

/// Whether an offer begins a delivery of the hospital that makes it.
fn is_delivery(from: &Party, offer: &Offer, transfer: TransferId) -> bool {
    Signed::<Quote>::read(offer.quote.as_ref()).is_ok_and(|quote| {
        let quote = quote.claim();
        quote.continues.is_some()
            && quote.transfer == transfer
            && *from == Party::Hospital(quote.source.clone())
    })
}

/// Takes in what the offer brings, each as if it had come by itself, and keeps the parts that the header commits to.
async fn take_offer(
    inner: &Arc<Inner>,
    from: &Party,
    offer: Offer,
) -> Result<(Verified<PackageHeader>, PartList), ExchangeError> {
    let transfer = handover_dossier::transfer_of(offer.header.as_ref())?;
    let claimed = Signed::<PackageHeader>::read(offer.header.as_ref()).map_err(|fault| fault.code())?;
    // The index carries what a source left for this hospital; everything in it is the source's word all the same.
    let federation = inner.federation()?;
    let source = match from {
        Party::Hospital(source) => source,
        Party::Index => &federation.member(&claimed.claim().source)?.certificate.hospital,
    };
    // What a store lacks that catches up may come back, and is no reason to refuse anything for good.
    inner.parts.gate.may_work(source)?;
    let row = match inner.row(transfer).await {
        // A delivery, whose quote is still on its way.
        Err(fault) if fault.code() == Code::UnknownTransfer && is_delivery(from, &offer, transfer) => {
            inner.take_from(offer.quote.0.clone(), from).await?.row
        }
        other => other?,
    };
    if *source != row.source || row.destination != *inner.own() {
        return Err(Code::WrongSigner.into());
    }
    // What is over takes nothing in any more, though all that the offer brings may be kept here.
    if row.state.phase.is_final() && row.state.phase != Phase::Filed {
        advance(row.role, Some(&row.state), &State::at(row.state.attempt, Phase::Sealed))?;
    }
    // Looked at before anything is kept: the header that is taken in below is this one, or none is.
    rules::parts(&offer.parts, claimed.claim())?;
    for content in
        [Some(offer.quote), Some(offer.consent), offer.final_quote, Some(offer.header)].into_iter().flatten()
    {
        inner.take_from(content.0, from).await?;
    }
    let (keys, federation, offered) = (inner.keys(), inner.federation()?, offer.parts.clone());
    let keyring = inner.parts.keyring.clone();
    let (header, before) = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            if let Some(origin) = dossier.origin()?
                && secrets::grant_key(txn, &keyring, origin)?.is_none()
            {
                // The patient was forgotten here, with the share that would open it.
                return Err(Code::NotLinked.into());
            }
            let mut dossier = Dossier::of(txn, &keys, transfer);
            let attempt = dossier.row()?.map_or(0, |row| row.state.attempt);
            let header = dossier.header(attempt, context)?;
            // An attempt that came to nothing: that the next one is asked for has not got to the source yet.
            rules::parts(&offered, &header).map_err(|_| Code::EvidenceMissing)?;
            let before = parts::get(txn, &keys, transfer)?;
            parts::put(txn, &keys, transfer, &offered)?;
            Ok((header, before.filter(|before| before.manifest != offered.manifest)))
        })
        .await?;
    if let Some(before) = before {
        drop_manifest(inner, transfer, &before).await?;
    }
    leftovers::note(&inner.parts.store, transfer, offer.parts.manifest.root).await?;
    Ok((header, offer.parts))
}

/// Removes what an earlier attempt left of its manifest. Its contents are the next one's too, and stay.
async fn drop_manifest(
    inner: &Arc<Inner>,
    transfer: TransferId,
    before: &PartList,
) -> Result<(), ExchangeError> {
    leftovers::delete_unowned(&inner.parts.blobs, &inner.parts.records, before.manifest.root).await?;
    let path = part_path(&inner.parts.incoming.join(transfer.to_string()), 0);
    match std::fs::remove_file(path) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => Err(fault.into()),
        _ => Ok(()),
    }
}

/// Signs for what lies here, durably; again gives the first signature.
async fn deliver(inner: &Arc<Inner>, header: &Verified<PackageHeader>) -> Result<Vec<u8>, ExchangeError> {
    let destination: HospitalId = inner.own().clone();
    let kept = {
        let (keys, transfer, place) = (inner.keys(), header.transfer, Kind::Delivered.of(header.attempt));
        inner
            .parts
            .store
            .read(move |txn| -> Result<_, DossierError> { Ok(Dossier::of(txn, &keys, transfer).get(place)?) })
            .await?
    };
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let delivered = Delivered {
        transfer: header.transfer,
        attempt: header.attempt,
        header: header.hash(),
        destination,
        issued: inner.now(),
        extensions: Extensions::default(),
    };
    let delivered = Verified::sign(delivered, &inner.parts.identity.signing).envelope().to_vec();
    inner.take(delivered.clone(), Came::Own).await?;
    Ok(delivered)
}
