//! The source seals the package: what was consented to, under a key that needs both shares, spending the consent and
//! noting which tests it charges in the transaction that stores the header. A further attempt seals the same versions
//! for the same fee under fresh shares; the consent was spent for this transfer already.

use std::collections::BTreeSet;
use std::io::{Seek, Write};
use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ConsentDetails, ConsentMode, Scope};
use handover_core::artefact::transfer::{
    ContentRef, PACKAGE_MAX_CONTENTS, PackageHeader, PartList, Quote, QuoteBody,
};
use handover_core::codec::{self, Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{CONSENT_DETAILS_LABEL, part_binding};
use handover_core::rules::{self, Context, Cover};
use handover_core::transfer::LAST_ATTEMPT;
use handover_core::{Code, Digest, Random, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Row};
use handover_records::{Action, LocalPatient, Permit, RecordRef, RecordVersionRef, SealedContent as Sealed};
use handover_seal::part::open_part;
use handover_seal::shares::{Binding, SUITE, SealedShares, Shares};
use handover_seal::stream::SealWriter;
use handover_seal::{OsRandom, Remembered, RsaPublicKey, tree};
use handover_store::{KeyMaker, Spool, Txn};

use super::price;
use super::quote::{self, Drawn, Terms};
use crate::bodies::{self, Priced};
use crate::charged::{self, Account, Before};
use crate::context::{Came, Inner};
use crate::manifest::{CarriedMark, Head, ManifestRecord, RecordTree, SealedContent, write_frame};
use crate::{ExchangeError, leftovers, parts, secrets, selection};

const SPENT: &str = "spent-consent";

/// What was consented to, as far as it stands in the dossier.
struct Evidence {
    consent: Verified<Consent>,
    cover: Cover,
    quote: Verified<Quote>,
    priced: Priced,
    is_sealed: bool,
}

/// What was consented to.
struct Agreed {
    consent: Verified<Consent>,
    quoted: Drawn,
    /// The quote is a final one that is not kept yet: it is, with the header that follows it.
    is_new: bool,
}

/// A sealed manifest and what the header commits to.
struct Package {
    spool: Spool,
    parts: PartList,
    record_root: Digest,
}

/// Seals an attempt: the one that is asked for, or the next because what was spooled for this one is gone.
pub(super) async fn seal(inner: &Arc<Inner>, row: &Row, attempt: u32) -> Result<(), ExchangeError> {
    if attempt > LAST_ATTEMPT {
        return Err(Code::AttemptsExhausted.into());
    }
    let (permit, patient) = super::permit(inner, row, Action::Export).await?;
    let agreed = agree(inner, row, &permit, &patient).await?;
    let quoted = &agreed.quoted;
    let binding = Binding {
        source: row.source.clone(),
        destination: row.destination.clone(),
        consent: agreed.consent.hash(),
        transfer: row.transfer,
        attempt,
    };
    let shares = Shares::generate(&mut OsRandom);
    let secrets = shares.content_secrets(&binding)?;
    let head = Head {
        transfer: row.transfer,
        attempt,
        source: row.source.clone(),
        destination: row.destination.clone(),
        consent: agreed.consent.hash(),
        quote: quoted.quote.hash(),
        body: quoted.priced.body.clone(),
        records: quoted.chosen.records.len() as u64,
        extensions: Extensions::default(),
    };
    let package = pack(inner, &permit, &head, &quoted.chosen.records, &secrets.cek).await?;
    let federation = inner.federation()?;
    let destination = federation.active(&row.destination, inner.now())?;
    let rsa = RsaPublicKey::from_spki_der(destination.profile.rsa_key.as_ref())?;
    let sealed = codec::encode(&SealedShares::seal(
        &shares,
        &binding,
        &rsa,
        &agreed.consent.grant_key,
        &mut OsRandom,
    )?);
    let header = PackageHeader {
        transfer: row.transfer,
        attempt,
        source: row.source.clone(),
        destination: row.destination.clone(),
        consent: agreed.consent.hash(),
        quote: quoted.quote.hash(),
        suite: SUITE,
        shares: rules::shares_hash(&sealed),
        parts: package.parts.commitment(),
        record_root: package.record_root,
        fee: quoted.priced.body.fee,
        payer: quoted.priced.body.payer,
        commitment: Digest::from_bytes(secrets.commitment),
        issued: inner.now(),
        extensions: Extensions::default(),
    };
    let header = Verified::sign(header, &inner.parts.identity.signing);
    let manifest = package.parts.manifest.root;
    leftovers::note(&inner.parts.store, row.transfer, manifest).await?;
    inner.parts.blobs.put(package.spool, manifest).await?;
    let before = spend(inner, agreed, &patient, header, (package.parts, sealed)).await?;
    // Nobody takes an earlier attempt's any more.
    if let Some(before) = before {
        inner.parts.blobs.delete(before.manifest.root).await?;
    }
    Ok(())
}

/// Checks the consent and settles what it covers. One that narrows gets a final quote, and so does one whose tests were
/// charged by another transfer since they were quoted; what was sealed once stays as it is.
async fn agree(
    inner: &Arc<Inner>,
    row: &Row,
    permit: &Permit,
    patient: &LocalPatient,
) -> Result<Agreed, ExchangeError> {
    let Evidence { consent, cover, quote, priced, is_sealed } = evidence(inner, row).await?;
    let details = consent_details(inner, &consent)?;
    let chosen = selection::get(&inner.parts.store, row.transfer).await?;
    let quoted = Drawn { quote, priced, chosen };
    let before = if is_sealed {
        Before::new()
    } else {
        let account = account(row, patient, &quoted.priced.body);
        let tests: Vec<_> = quoted.priced.tests().cloned().collect();
        price::charged_before(inner, &account, row.transfer, &tests).await?
    };
    let is_new = !is_sealed && (details.scope != quoted.priced.body.scope || !before.is_empty());
    if is_new && !details.scope.is_within(&quoted.priced.body.scope) {
        return Err(Code::ConsentWiderThanQuoted.into());
    }
    let quoted =
        if is_new { narrow(inner, row, permit, &quoted, details.scope, &before).await? } else { quoted };
    cover.holds(quoted.priced.body.fee)?;
    Ok(Agreed { consent, quoted, is_new })
}

/// To whom what a quote charges is charged.
fn account(row: &Row, patient: &LocalPatient, body: &QuoteBody) -> Account {
    Account {
        patient: patient.clone(),
        reference: row.patient,
        payer: body.payer,
        destination: row.destination.clone(),
    }
}

async fn evidence(inner: &Arc<Inner>, row: &Row) -> Result<Evidence, ExchangeError> {
    let (keys, transfer, federation) = (inner.keys(), row.transfer, inner.federation()?);
    let (keyring, now) = (inner.parts.keyring.clone(), inner.now());
    inner
        .parts
        .store
        .read(move |txn| -> Result<_, ExchangeError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            let mut dossier = Dossier::of(txn, &keys, transfer);
            not_revoked(&mut dossier)?;
            let (consent, quote) = (dossier.consent(context)?, dossier.agreed_quote(context)?);
            // Before anybody else is waited for.
            rules::consent_in_time(&consent, now)?;
            let cover = dossier.cover(context)?;
            let is_sealed = !dossier.attempts_with(Kind::Header)?.is_empty();
            let priced = bodies::get(txn, &keyring, &keys, transfer)?;
            // A store that was restored may have another's, or none.
            let priced =
                priced.filter(|priced| bodies::is_of(&priced.body, &quote)).ok_or(Code::QuoteLost)?;
            Ok(Evidence { consent, cover, quote, priced, is_sealed })
        })
        .await
}

/// One that came after the release could not take that back; nothing more is sealed under the consent.
fn not_revoked(dossier: &mut Dossier<'_>) -> Result<(), DossierError> {
    if dossier.get(Kind::Revocation)?.is_some() { Err(Code::ConsentRevoked.into()) } else { Ok(()) }
}

pub(super) fn consent_details(
    inner: &Arc<Inner>,
    consent: &Consent,
) -> Result<ConsentDetails, ExchangeError> {
    let aad = part_binding(CONSENT_DETAILS_LABEL, &consent.transfer);
    let plain = open_part(&inner.parts.identity.ring, &aad, consent.sealed_to_source.as_ref())?;
    if Digest::sha256(&[&plain]) != consent.details {
        return Err(Code::ConsentMismatch.into());
    }
    Ok(codec::decode(&plain, MAX_MESSAGE_BYTES)?)
}

async fn narrow(
    inner: &Arc<Inner>,
    row: &Row,
    permit: &Permit,
    first: &Drawn,
    scope: Scope,
    before: &Before,
) -> Result<Drawn, ExchangeError> {
    let mut everything = Vec::new();
    for reference in first.chosen.records.iter().chain(&first.chosen.others) {
        let (record, _) = inner.parts.records.read(permit, inner.now(), *reference).await?;
        everything.push(record);
    }
    let chosen: BTreeSet<&RecordRef> = first.chosen.records.iter().collect();
    let is_left = |record: &&RecordVersionRef| {
        chosen.contains(&record.reference)
            && scope.contains(&record.department, record.date, record.is_restricted)
    };
    let records: Vec<RecordVersionRef> = everything.iter().filter(is_left).cloned().collect();
    if records.is_empty() {
        return Err(Code::NothingInScope.into());
    }
    let federation = inner.federation()?;
    let context = Context { federation: &federation, verifier: &Remembered };
    let schedule = rules::schedule(&first.quote, context)?;
    let priced = price::narrowed(&first.priced, &records, scope, schedule, before)?;
    let on = quote::request(inner, row).await?;
    let quote = quote::sign(inner, &on, &priced.body, Terms::narrowing(&first.quote, inner.now()))?;
    let chosen = quote::chosen(&everything, &records, &priced);
    Ok(Drawn { quote, priced, chosen })
}

/// Seals the manifest into a spool, record by record.
async fn pack(
    inner: &Arc<Inner>,
    permit: &Permit,
    head: &Head,
    records: &[RecordRef],
    key: &handover_seal::Secret32,
) -> Result<Package, ExchangeError> {
    let mut spool = inner.parts.blobs.spool()?;
    let mut writer = SealWriter::new(spool.file().try_clone()?, key);
    let (mut leaves, mut contents) = (RecordTree::new(), Vec::new());
    write_frame(&mut writer, head)?;
    for reference in records {
        let record = manifest_record(inner, permit, *reference).await?;
        contents.extend(record.sealed.as_ref().map(|sealed| ContentRef {
            root: sealed.root,
            length: sealed.length,
            extensions: Extensions::default(),
        }));
        if contents.len() > PACKAGE_MAX_CONTENTS {
            return Err(Code::TooLarge.into());
        }
        leaves.push(&record.leaf());
        write_frame(&mut writer, &record)?;
    }
    writer.finish()?.flush()?;
    let (root, length) = {
        let file = spool.file();
        file.rewind()?;
        tree::root(file)?
    };
    let manifest = ContentRef { root, length, extensions: Extensions::default() };
    let parts = PartList { salt: OsRandom.array(), manifest, contents, extensions: Extensions::default() };
    Ok(Package { spool, parts, record_root: leaves.root() })
}

async fn manifest_record(
    inner: &Arc<Inner>,
    permit: &Permit,
    reference: RecordRef,
) -> Result<ManifestRecord, ExchangeError> {
    let (summary, content) = inner.parts.records.sealed_content(permit, inner.now(), reference).await?;
    let (content, sealed) = match content {
        Sealed::Inline(bytes) => (Some(Bytes(bytes.to_vec())), None),
        Sealed::Blob(blob) => {
            let sealed = SealedContent {
                root: blob.root,
                length: blob.length,
                key: *blob.key.expose(),
                plain_bytes: summary.bytes,
                extensions: Extensions::default(),
            };
            (None, Some(sealed))
        }
    };
    let (media_type, file_name) = summary.file.map(|file| (file.media_type, file.name)).unzip();
    Ok(ManifestRecord {
        salt: OsRandom.array(),
        origin: summary.origin.hospital().unwrap_or_else(|| inner.own()).clone(),
        department: summary.department,
        resource_type: summary.resource_type,
        resource_id: summary.resource_id,
        version: reference.version,
        content_hash: summary.content_hash,
        date: summary.date,
        is_restricted: summary.is_restricted,
        content,
        sealed,
        mark: summary.mark.map(|mark| CarriedMark {
            reason: mark.reason,
            by: mark.by,
            replaced: mark.replaced,
            extensions: Extensions::default(),
        }),
        media_type,
        file_name,
        extensions: Extensions::default(),
    })
}

/// Spends the consent for this transfer, notes what it charges, and stores the final quote, header, parts and sealed
/// shares, in one transaction; the parts of the attempt before.
async fn spend(
    inner: &Arc<Inner>,
    agreed: Agreed,
    patient: &LocalPatient,
    header: Verified<PackageHeader>,
    (package, sealed_shares): (PartList, Vec<u8>),
) -> Result<Option<PartList>, ExchangeError> {
    let (work, keys, transfer) = (Arc::clone(inner), inner.keys(), header.transfer);
    let (federation, now, patient) = (inner.federation()?, inner.now(), patient.clone());
    let (taken, before) = inner
        .parts
        .store
        .write(move |txn| -> Result<_, DossierError> {
            let context = Context { federation: &federation, verifier: &Remembered };
            // A continuous one is never spent; its deliveries come one after the other.
            if agreed.consent.mode == ConsentMode::OneTime {
                mark_spent(txn, &keys, &header.consent, &transfer)?;
            }
            let mut dossier = Dossier::of(txn, &keys, transfer);
            not_revoked(&mut dossier)?;
            let row = dossier.row()?.ok_or(Code::UnknownTransfer)?;
            if dossier.attempts_with(Kind::Header)?.is_empty() {
                let priced = &agreed.quoted.priced;
                let account = account(&row, &patient, &priced.body);
                if !charged::before(txn, &keys, &account, transfer, context, priced.tests())?.is_empty() {
                    // Another transfer that was quoted at the same time was sealed since: this one is looked at anew.
                    return Err(Code::Busy.into());
                }
                charged::note(txn, &keys, &account, transfer, priced)?;
            }
            if agreed.is_new {
                agreed.quoted.keep(&work, txn, &keys, context, now)?;
            }
            let before = parts::get(txn, &keys, transfer)?;
            parts::put(txn, &keys, transfer, &package)?;
            secrets::put_sealed_shares(txn, &keys, transfer, &sealed_shares)?;
            let taken = work.take_in(txn, &keys, transfer, header.envelope(), Came::Own, context, now)?;
            Ok((taken, before))
        })
        .await?;
    inner.wake(&taken);
    Ok(before)
}

/// A consent is spent for one transfer, however many attempts that needs.
fn mark_spent(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    consent: &Digest,
    transfer: &TransferId,
) -> Result<(), DossierError> {
    let spent = keys.space(SPENT).hashed(consent.as_bytes()).build();
    match txn.get(&spent)? {
        Some(by) if by != transfer.as_bytes() => Err(Code::ConsentSpent.into()),
        _ => Ok(txn.put(&spent, transfer.as_bytes().to_vec())?),
    }
}

#[cfg(test)]
mod tests {
    use handover_core::Timestamp;
    use handover_store::{CellKey, Store};

    use super::*;

    #[tokio::test]
    async fn a_consent_is_spent_for_one_transfer() {
        let store = Store::memory(&CellKey::from_bytes([1; 32]));
        let (keys, consent) = (store.keys(), Digest::from_bytes([7; 32]));
        let [one, other] = [1, 2].map(|number| TransferId::new(Timestamp::from_millis(1), [number; 10]));
        let spend = |transfer: TransferId| {
            let keys = keys.clone();
            store.write(move |txn| mark_spent(txn, &keys, &consent, &transfer))
        };
        spend(one).await.unwrap();
        spend(one).await.unwrap();
        assert_eq!(spend(other).await.unwrap_err().code(), Code::ConsentSpent);
    }
}
