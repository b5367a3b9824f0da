//! The recalls in a transfer's file, and the destination's confirmations of them. Invariants: numbered from 1 without a
//! gap, each about a package whose shares were released, together within the fee; at most one confirmation of each.

use super::{Parts, Report, VerifyError, fault};
use crate::artefact::recall::{Recall, RecallConfirmed};
use crate::artefact::transfer::{KeyRelease, PackageHeader};
use crate::artefact::{Payload, Signed, Verified};
use crate::{Amount, Code, Digest, Timestamp, rules};

/// A recall, for the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// Its number.
    pub number: u32,
    /// Its hash.
    pub hash: Digest,
    /// What it gives back.
    pub back: Amount,
    /// When it was made.
    pub issued: Timestamp,
}

/// Verifies all of them; adds to the report what they say.
pub(super) fn verify(parts: &mut Parts<'_>, report: &mut Report) -> Result<(), VerifyError> {
    let headers = released(parts, report)?;
    let mut recalls: Vec<(Verified<Recall>, &Verified<PackageHeader>)> = Vec::new();
    let mut given_back_minor: i64 = 0;
    for (_, envelope) in by_number::<Recall>(parts, |it| it.number) {
        let (recall, header) = one(parts, &envelope, &headers, given_back_minor)?;
        if recall.number != report.recalls.saturating_add(1) {
            return Err(fault(Recall::TYPE, Code::Conflict));
        }
        given_back_minor = given_back_minor.saturating_add(recall.fee_back.minor());
        report.recalls = recall.number;
        report.fee_back = Some(Amount::from_minor(given_back_minor, recall.fee_back.currency()));
        report.founded.recalls.push(Recalled {
            number: recall.number,
            hash: recall.hash(),
            back: recall.fee_back,
            issued: recall.issued,
        });
        parts.note(&recall, |it| it.issued, Some(header.attempt));
        recalls.push((recall, header));
    }
    let mut last = 0;
    for (number, envelope) in by_number::<RecallConfirmed>(parts, |it| it.number) {
        let confirmed_fault = |code| fault(RecallConfirmed::TYPE, code);
        let of_this = recalls.iter().find(|(recall, _)| recall.number == number);
        let (recall, header) = of_this.ok_or_else(|| confirmed_fault(Code::EvidenceMissing))?;
        let confirmed =
            rules::recall_confirmed(&envelope, recall, header, parts.context).map_err(confirmed_fault)?;
        if number == last {
            return Err(confirmed_fault(Code::Conflict));
        }
        last = number;
        parts.note(&confirmed, |it| it.since, Some(header.attempt));
    }
    Ok(())
}

/// The headers of packages whose shares were released. They have been verified: each is a step of the report.
fn released(parts: &Parts<'_>, report: &Report) -> Result<Vec<Verified<PackageHeader>>, VerifyError> {
    let opened: Vec<_> = parts
        .all(KeyRelease::TYPE)
        .filter_map(|envelope| Some(Signed::<KeyRelease>::read(envelope).ok()?.claim().header))
        .collect();
    let read = |envelope: &[u8]| {
        let header = Signed::<PackageHeader>::read(envelope).map_err(|found| found.code())?;
        parts.context.federation.verify_from(&report.source, header, parts.context.verifier)
    };
    let headers: Result<Vec<_>, Code> = parts.all(PackageHeader::TYPE).map(read).collect();
    let headers = headers.map_err(|code| fault(PackageHeader::TYPE, code))?;
    Ok(headers.into_iter().filter(|header| opened.contains(&header.hash())).collect())
}

/// All of a type with the numbers that they claim, ascending.
fn by_number<T: Payload>(parts: &Parts<'_>, number: impl Fn(&T) -> u32) -> Vec<(u32, Vec<u8>)> {
    let claimed = |envelope: &[u8]| Signed::<T>::read(envelope).map_or(0, |signed| number(signed.claim()));
    let mut found: Vec<_> =
        parts.all(T::TYPE).map(|envelope| (claimed(envelope), envelope.to_vec())).collect();
    found.sort_by_key(|(number, _)| *number);
    found
}

fn one<'h>(
    parts: &Parts<'_>,
    envelope: &[u8],
    headers: &'h [Verified<PackageHeader>],
    before_minor: i64,
) -> Result<(Verified<Recall>, &'h Verified<PackageHeader>), VerifyError> {
    let mut found = Code::EvidenceMissing;
    for header in headers {
        match rules::recall(envelope, header, before_minor, parts.context) {
            Ok(recall) => return Ok((recall, header)),
            Err(code) => found = code,
        }
    }
    Err(fault(Recall::TYPE, found))
}
