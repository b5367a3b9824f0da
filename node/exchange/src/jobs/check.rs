//! The destination checks all of a package before it files any of it: that it is what the patient consented to and
//! what was quoted, and that every content opens and is what the manifest says.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufReader, Read};
use std::sync::Arc;

use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ConsentDetails, Scope};
use handover_core::artefact::transfer::{
    ContentRef, PACKAGE_MAX_RECORDS, PackageHeader, PartList, Quote, QuoteBody,
};
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::message::{CONSENT_DETAILS_LABEL, part_binding};
use handover_core::rules::{self, Context};
use handover_core::{Code, ContentRoot, Digest};
use handover_ingest::attachment::FILE_TYPE;
use handover_ingest::resource::{Facts, minified_hash};
use handover_ingest::source::MAX_RESOURCE_BYTES;
use handover_records::file_hash;
use handover_seal::part::open_part;
use handover_seal::shares::SUITE;
use handover_seal::stream::{OpenReader, opened_root};
use handover_seal::{Remembered, Secret32, tree};

use super::price::recomputed_fee;
use crate::ExchangeError;
use crate::context::Inner;
use crate::manifest::{Head, ManifestRecord, RecordTree, expect_end, read_frame};

/// What a package has to agree with.
pub(super) struct Agreed<'a> {
    pub(super) header: &'a Verified<PackageHeader>,
    pub(super) parts: &'a PartList,
    pub(super) consent: &'a Verified<Consent>,
    pub(super) quote: &'a Verified<Quote>,
}

/// Reads the whole manifest, and every content, once.
pub(super) fn check(
    inner: &Arc<Inner>,
    agreed: &Agreed<'_>,
    mut manifest: impl Read,
) -> Result<Head, ExchangeError> {
    let header = agreed.header;
    let head: Head = read_frame(&mut manifest)?;
    let is_this = head.transfer == header.transfer
        && head.attempt == header.attempt
        && head.source == header.source
        && head.destination == header.destination
        && head.consent == header.consent
        && head.quote == agreed.quote.hash();
    if !is_this {
        return Err(Code::ManifestMismatch.into());
    }
    if header.suite != SUITE {
        return Err(Code::PackageMismatch.into());
    }
    if head.records > PACKAGE_MAX_RECORDS {
        return Err(Code::TooLarge.into());
    }
    if head.records != head.body.records {
        return Err(Code::PackageNotAsQuoted.into());
    }
    let scope = consented_scope(inner, agreed.consent)?;
    check_body(inner, agreed, &head.body, &scope)?;
    let mut listed = agreed.parts.contents.iter();
    let mut leaves = RecordTree::new();
    // Whoever pays for a test gets it.
    let mut charged: BTreeSet<&str> = head.body.lines.iter().map(|line| line.record.as_str()).collect();
    if charged.len() != head.body.lines.len() {
        return Err(Code::QuoteFalse.into());
    }
    let mut identities: HashSet<Digest> = HashSet::new();
    let mut departments: BTreeMap<_, u64> = BTreeMap::new();
    for _ in 0..head.records {
        let record: ManifestRecord = read_frame(&mut manifest)?;
        if !scope.contains(&record.department, record.date, record.is_restricted) {
            return Err(Code::ConsentOutOfScope.into());
        }
        check_content(inner, &record, &mut listed)?;
        // What came twice would stand for two.
        if !identities.insert(identity(&record)) {
            return Err(Code::PackageMismatch.into());
        }
        if record.origin == head.source {
            charged.remove(format!("{}/{}", record.resource_type, record.resource_id).as_str());
        }
        *departments.entry(record.department.clone()).or_default() += 1;
        leaves.push(&record.leaf());
    }
    expect_end(&mut manifest)?;
    let quoted: BTreeMap<_, u64> =
        head.body.departments.iter().map(|it| (it.department.clone(), it.records)).collect();
    if leaves.root() != header.record_root || listed.next().is_some() {
        return Err(Code::PackageMismatch.into());
    }
    if departments != quoted || !charged.is_empty() {
        return Err(Code::PackageNotAsQuoted.into());
    }
    Ok(head)
}

/// Which record it is, in few bytes.
fn identity(record: &ManifestRecord) -> Digest {
    let parts = [record.origin.as_str(), &record.resource_type, &record.resource_id];
    // None of them has a slash in it.
    Digest::sha256(&[parts.join("/").as_bytes()])
}

/// What part of the records the patient consented to, as they sealed it to this hospital.
fn consented_scope(inner: &Arc<Inner>, consent: &Consent) -> Result<Scope, ExchangeError> {
    let aad = part_binding(CONSENT_DETAILS_LABEL, &consent.transfer);
    let plain = open_part(&inner.parts.identity.ring, &aad, consent.sealed_to_destination.as_ref())?;
    if Digest::sha256(&[&plain]) != consent.details {
        return Err(Code::ConsentMismatch.into());
    }
    let details: ConsentDetails = codec::decode(&plain, MAX_MESSAGE_BYTES)?;
    Ok(details.scope)
}

/// The body is the one that the agreed quote commits to, about the consented scope, at the scheduled rate.
fn check_body(
    inner: &Arc<Inner>,
    agreed: &Agreed<'_>,
    body: &QuoteBody,
    scope: &Scope,
) -> Result<(), ExchangeError> {
    if Digest::sha256(&[&codec::encode(body)]) != agreed.quote.commitment || body.scope != *scope {
        return Err(Code::QuoteMismatch.into());
    }
    let federation = inner.federation()?;
    rules::quote_rate(agreed.quote, body, Context { federation: &federation, verifier: &Remembered })?;
    let fee = recomputed_fee(body)?;
    if body.fee != fee {
        return Err(Code::QuoteFalse.into());
    }
    if fee != agreed.header.fee || body.payer != agreed.header.payer {
        return Err(Code::QuoteMismatch.into());
    }
    Ok(())
}

/// A record's content is inside, or the next part of the package; it opens, and is what the manifest says.
fn check_content<'h>(
    inner: &Arc<Inner>,
    record: &ManifestRecord,
    listed: &mut impl Iterator<Item = &'h ContentRef>,
) -> Result<(), ExchangeError> {
    let is_file = record.file()?.is_some();
    let is_this = match (&record.content, &record.sealed) {
        (Some(bytes), None) if is_file => is_this_file(record, &tree::root(bytes.as_ref())?.0),
        (Some(bytes), None) => is_this_resource(record, bytes.as_ref())?,
        (None, Some(sealed)) => {
            match listed.next() {
                Some(next) if next.root == sealed.root && next.length == sealed.length => {}
                _ => return Err(Code::PackageMismatch.into()),
            }
            let content = inner.parts.blobs.open_blob(sealed.root)?;
            let key = Secret32::from_bytes(sealed.key);
            if is_file {
                let (root, plain_bytes) = opened_root(&content, sealed.length, &key)?;
                is_this_file(record, &root) && plain_bytes == sealed.plain_bytes
            } else {
                let content = OpenReader::new(BufReader::new(content), &key);
                is_this_resource(record, &whole_resource(content, sealed.plain_bytes)?)?
            }
        }
        _ => return Err(Code::PackageMismatch.into()),
    };
    if is_this { Ok(()) } else { Err(Code::PackageMismatch.into()) }
}

fn is_this_resource(record: &ManifestRecord, content: &[u8]) -> Result<bool, ExchangeError> {
    let json = std::str::from_utf8(content).map_err(|_| Code::PackageMismatch)?;
    let facts = Facts::of(json).map_err(|_| Code::PackageMismatch)?;
    Ok(facts.is_restricted == record.is_restricted
        && facts.resource_type.as_str() == record.resource_type
        && facts.id == record.resource_id
        && minified_hash(json) == record.content_hash)
}

/// A file may be of any length, and nothing looks into it.
fn is_this_file(record: &ManifestRecord, root: &ContentRoot) -> bool {
    record.resource_type == FILE_TYPE && file_hash(root) == record.content_hash
}

fn whole_resource(content: impl Read, plain_bytes: u64) -> Result<Vec<u8>, ExchangeError> {
    if plain_bytes > u64::try_from(MAX_RESOURCE_BYTES).unwrap_or(u64::MAX) {
        return Err(Code::TooLarge.into());
    }
    let mut whole = Vec::new();
    let read = content.take(plain_bytes.saturating_add(1)).read_to_end(&mut whole);
    read.map_err(ExchangeError::of_opening)?;
    if whole.len() as u64 == plain_bytes { Ok(whole) } else { Err(Code::PackageMismatch.into()) }
}
