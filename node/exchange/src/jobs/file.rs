//! The destination opens a package with both shares, checks all of it, files it by department with its provenance,
//! and signs the receipt. If the key that opens it is gone, or parts of it are damaged on this side's own disk, it
//! asks for the next attempt; a package that is whole and wrong has failed.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ConsentMode};
use handover_core::artefact::transfer::{
    KeyRelease, PackageHeader, PartList, Quote, Receipt, RevocationEffect,
};
use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::rules::{self, Context};
use handover_core::transfer::Phase;
use handover_core::{Code, ContentRoot, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_records::{
    Action, BATCH_MAX_RECORDS, BlobRef, LocalPatient, Mark, NewContent, NewRecord, Origin, Permit,
};
use handover_seal::shares::{Binding, SealedShares, open_grant_key};
use handover_seal::stream::OpenReader;
use handover_seal::{Remembered, SealingKey, Secret32};
use handover_store::{KeyMaker, Keyring, StoreError, Txn};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::check::{Agreed, check};
use crate::again::{self, RequestKey};
use crate::bodies::Priced;
use crate::context::{Came, Inner};
use crate::manifest::{Head, ManifestRecord, read_frame};
use crate::{ExchangeError, bodies, parts, provenance, secrets};

/// Everything that opening stands on.
struct Released {
    header: Verified<PackageHeader>,
    parts: PartList,
    consent: Verified<Consent>,
    quote: Verified<Quote>,
    keys: Verified<KeyRelease>,
    /// What the patient released.
    grant: SealingKey,
}

type Manifest = OpenReader<BufReader<File>>;

pub(super) async fn file(inner: &Arc<Inner>, row: &Row) -> Result<(), ExchangeError> {
    if row.state.phase == Phase::Delivered {
        return match awaited(inner, row).await? {
            Some(code) => Err(code.into()),
            None => next_attempt(inner, row).await,
        };
    }
    let Some(released) = released(inner, row).await? else {
        tracing::warn!(transfer = %row.transfer, "what opens the package is gone");
        return next_attempt(inner, row).await;
    };
    let Err(fault) = open_and_file(inner, row, &released).await else { return Ok(()) };
    // A store or an audit log that is away says nothing against the package.
    let of_content =
        matches!(fault, ExchangeError::Disk(_) | ExchangeError::Store(StoreError::Damaged { .. }));
    let may_be_damage = !fault.code().is_transient() || of_content;
    if !may_be_damage || again::delete_damaged(inner, &released.parts).await? == 0 {
        return Err(fault);
    }
    tracing::warn!(transfer = %row.transfer, detail = %fault, "parts of the package are damaged on this disk");
    next_attempt(inner, row).await
}

/// What a package that lies here waits for; nothing if the key that the patient releases to is gone: then they are not
/// asked to release to it.
async fn awaited(inner: &Arc<Inner>, row: &Row) -> Result<Option<Code>, ExchangeError> {
    let (keys, federation, keyring) = (inner.keys(), inner.federation()?, inner.parts.keyring.clone());
    let place = (row.transfer, row.state.attempt);
    let read = inner.parts.store.read(move |txn| -> Result<_, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        if Dossier::of(txn, &keys, place.0).origin()?.is_some() {
            return Ok(Some(Code::KeyAwaited));
        }
        if again::held_key(txn, &keyring, &keys, place, context)?.is_none() {
            return Ok(None);
        }
        let mut dossier = Dossier::of(txn, &keys, place.0);
        let share = dossier.share_place(place.1, context)?;
        let is_released = dossier.get(share)?.is_some();
        Ok(Some(if is_released { Code::KeyAwaited } else { Code::ReleaseAwaited }))
    });
    Ok(read.await?)
}

async fn next_attempt(inner: &Arc<Inner>, row: &Row) -> Result<(), ExchangeError> {
    again::again(inner, row.transfer, row.state.attempt.saturating_add(1), RequestKey::KeptIfHere).await?;
    Ok(())
}

async fn open_and_file(inner: &Arc<Inner>, row: &Row, released: &Released) -> Result<(), ExchangeError> {
    let cek = content_key(inner, released)?;
    let open = || -> Result<Manifest, ExchangeError> {
        let manifest = inner.parts.blobs.open_blob(released.parts.manifest.root)?;
        Ok(OpenReader::new(BufReader::new(manifest), &cek))
    };
    let agreed = Agreed {
        header: &released.header,
        parts: &released.parts,
        consent: &released.consent,
        quote: &released.quote,
    };
    let head = in_place(|| check(inner, &agreed, open()?))?;
    let (permit, patient) = super::permit(inner, row, Action::File).await?;
    file_records(inner, row, &permit, &patient, open()?).await?;
    finish(inner, row, released, head).await?;
    // This hospital may be a source of them under another continuous consent.
    inner.wakes.changed([patient]);
    Ok(())
}

/// Runs work that blocks on this thread, while the runtime's others go on; in the simulation there are no others.
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// What opening stands on; nothing if the key that the patient releases to is gone, or what came is not known here: a store
/// that was restored may lack either.
async fn released(inner: &Arc<Inner>, row: &Row) -> Result<Option<Released>, ExchangeError> {
    let (keys, transfer, federation) = (inner.keys(), row.transfer, inner.federation()?);
    let attempt = row.state.attempt;
    let (now, keyring) = (inner.now(), inner.parts.keyring.clone());
    inner
        .parts
        .store
        .read(move |txn| -> Result<_, ExchangeError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            // What this hospital signed for, it keeps: a share that comes after that opens nothing.
            if let Some(confirmed) = dossier.get(Kind::ConfirmedByDestination)? {
                let confirmed = rules::revocation_confirmed(&confirmed, &dossier.consent(context)?, context)?;
                if confirmed.effect == RevocationEffect::InTime {
                    return Err(Code::ConsentRevoked.into());
                }
            }
            let grant = match dossier.origin()? {
                // Released with the transfer that it continues.
                Some(origin) => Some(secrets::grant_key(txn, &keyring, origin)?.ok_or(Code::CannotOpen)?),
                None => released_grant(txn, &keyring, &keys, (transfer, attempt), context, now)?,
            };
            let Some(grant) = grant else { return Ok(None) };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            let (header, consent) = (dossier.header(attempt, context)?, dossier.consent(context)?);
            let (quote, release) = (dossier.agreed_quote(context)?, dossier.key_release(attempt, context)?);
            let Some(parts) = parts::held(txn, &keys, &header)? else { return Ok(None) };
            Ok(Some(Released { header, parts, consent, quote, keys: release, grant }))
        })
        .await
}

/// What the patient released for an attempt; nothing if the key that they released to is gone.
fn released_grant(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    (transfer, attempt): (TransferId, u32),
    context: Context<'_>,
    now: Timestamp,
) -> Result<Option<SealingKey>, ExchangeError> {
    let Some(request_key) = again::held_key(txn, keyring, keys, (transfer, attempt), context)? else {
        return Ok(None);
    };
    let mut dossier = Dossier::of(txn, keys, transfer);
    let (consent, place) = (dossier.consent(context)?, dossier.share_place(attempt, context)?);
    if dossier.get(place)?.is_none() {
        // The patient may release until the consent ends.
        rules::consent_in_time(&consent, now)?;
        return Err(Code::ReleaseAwaited.into());
    }
    let share = dossier.share_release(attempt, context)?;
    Ok(Some(open_grant_key(&request_key, &consent.hash(), &consent.grant_key, share.sealed.as_ref())?))
}

/// Both shares to the content key. Signatures, consent and directory were checked when the evidence was read.
fn content_key(inner: &Arc<Inner>, released: &Released) -> Result<Secret32, ExchangeError> {
    let header = &released.header;
    let binding = Binding {
        source: header.source.clone(),
        destination: header.destination.clone(),
        consent: header.consent,
        transfer: header.transfer,
        attempt: header.attempt,
    };
    let shares: SealedShares = codec::decode(released.keys.shares.as_ref(), MAX_MESSAGE_BYTES)?;
    let shares = shares.open(&binding, &inner.parts.identity.ring, &released.grant)?;
    let secrets = shares.content_secrets(&binding)?;
    secrets.check(header.commitment.as_bytes())?;
    Ok(secrets.cek)
}

/// Files batch by batch; what was filed before a stop is unchanged the second time.
async fn file_records(
    inner: &Arc<Inner>,
    row: &Row,
    permit: &Permit,
    patient: &LocalPatient,
    mut manifest: Manifest,
) -> Result<(), ExchangeError> {
    let head: Head = read_frame(&mut manifest)?;
    let mut targets = Vec::new();
    let mut batch = Vec::with_capacity(BATCH_MAX_RECORDS);
    for _ in 0..head.records {
        let record: ManifestRecord = read_frame(&mut manifest)?;
        targets.push(format!("{}/{}", record.resource_type, record.resource_id));
        batch.push(new_record(row, patient, record, inner.now())?);
        if batch.len() == BATCH_MAX_RECORDS {
            inner.parts.records.file_received(permit, inner.now(), std::mem::take(&mut batch)).await?;
        }
    }
    batch.push(provenance::record(row, patient, &head, &targets)?);
    inner.parts.records.file_received(permit, inner.now(), batch).await?;
    Ok(())
}

fn new_record(
    row: &Row,
    patient: &LocalPatient,
    record: ManifestRecord,
    now: Timestamp,
) -> Result<NewRecord, ExchangeError> {
    let file = record.file()?;
    let content = match (record.content, record.sealed) {
        (Some(bytes), None) => NewContent::Bytes(bytes.0),
        (None, Some(sealed)) => NewContent::Sealed {
            blob: BlobRef {
                root: ContentRoot::from_bytes(*sealed.root.as_bytes()),
                length: sealed.length,
                key: Secret32::from_bytes(sealed.key),
            },
            plain_bytes: sealed.plain_bytes,
        },
        _ => return Err(Code::PackageMismatch.into()),
    };
    Ok(NewRecord {
        patient: patient.clone(),
        department: record.department,
        resource_type: record.resource_type,
        resource_id: record.resource_id,
        content_hash: record.content_hash,
        date: record.date,
        is_restricted: record.is_restricted,
        file,
        content,
        origin: Origin::Received {
            source: row.source.clone(),
            origin: record.origin,
            transfer: row.transfer,
        },
        mark: record.mark.map(|mark| Mark {
            reason: mark.reason,
            by: mark.by,
            since: now,
            replaced: mark.replaced,
        }),
        // Whoever is a patient here, no other hospital says.
        found_by: Vec::new(),
    })
}

/// Signs the receipt; the secrets die with it, and the manifest is needed no more.
async fn finish(inner: &Arc<Inner>, row: &Row, released: &Released, head: Head) -> Result<(), ExchangeError> {
    let is_continuous = released.consent.mode == ConsentMode::Continuous;
    // With it everything opens that comes under a continuous consent later.
    let grant = (is_continuous && row.origin.is_none()).then(|| released.grant.clone());
    let header = &released.header;
    let receipt = Receipt {
        transfer: row.transfer,
        attempt: header.attempt,
        header: header.hash(),
        consent: header.consent,
        record_root: header.record_root,
        fee: header.fee,
        issued: inner.now(),
        extensions: Extensions::default(),
    };
    let receipt = Verified::sign(receipt, &inner.parts.identity.signing);
    let (work, keys, transfer, seen) = (Arc::clone(inner), inner.keys(), row.transfer, row.state.clone());
    let (federation, now) = (inner.federation()?, inner.now());
    let taken = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            // A clerk may have asked for the next attempt since: that one has the receipt.
            if Dossier::of(txn, &keys, transfer).row()?.is_none_or(|row| row.state != seen) {
                return Ok(None);
            }
            let priced = Priced::received(head.body.clone());
            bodies::put(txn, &work.parts.keyring, &keys, transfer, &priced)?;
            if let Some(grant) = &grant {
                secrets::put_grant_key(txn, &work.parts.keyring, transfer, grant)?;
            }
            work.take_in(txn, &keys, transfer, receipt.envelope(), Came::Own, context, now).map(Some)
        })
        .await?;
    if let Some(taken) = taken {
        inner.wake(&taken);
    }
    Ok(())
}
