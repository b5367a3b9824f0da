//! What the books say to a hospital, signed, so that it can be held against the index: all entries of a part that
//! concern that hospital, each proven to be in the log. Beside them go others' entries that are with nobody else yet, sealed
//! to the index.
//!
//! Invariant: nobody is told of entries of others. Of what an entry stands on it passes on the operators' orders alone.

use handover_core::artefact::Verified;
use handover_core::artefact::books::{LedgerPage, PageLine};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::ledger::Entry;
use handover_core::message::{BooksAnswer, BooksQuestion, OpenedEntry, SealedEntries};
use handover_core::{HospitalId, Random, Timestamp};
use handover_store::{KeyMaker, Txn};

use crate::desk::Seat;
use crate::ledger::{Book, BooksError, Kept, Part, Proven};
use crate::routing;

/// Answers a hospital's question about the books: with the size of the log that the answer states, which is to be noted
/// before it goes out.
pub(crate) fn answer(
    txn: &mut dyn Txn,
    (keys, book): (&KeyMaker, &Book),
    hospital: &HospitalId,
    question: &BooksQuestion,
    seat: &Seat,
    (now, random): (Timestamp, &mut dyn Random),
) -> Result<(Vec<u8>, u64), BooksError> {
    let part = book.part(txn, hospital, question.from, question.seen)?;
    let (page, size) = (page(&part, hospital, question, now), part.tree.size);
    let Part { entries, consistency, held, others, .. } = part;
    let mut opened = Vec::with_capacity(entries.len());
    for Proven { entry, bytes, proof } in entries {
        let mark = Some(seat.keepsakes.mark(proof.sequence, &proof.salt, &bytes));
        let order = order_of(txn, keys, &entry)?;
        opened.push(OpenedEntry { mark, path: proof.path, order, ..bare(proof.sequence, proof.salt, bytes) });
    }
    let mut sealed = Vec::with_capacity(others.len());
    for Kept { sequence, entry, salt, bytes } in others {
        let order = order_of(txn, keys, &entry)?;
        let kept = OpenedEntry { order, ..bare(sequence, salt, bytes) };
        sealed.push(seat.keepsakes.seal(&kept, random)?);
    }
    let answer = BooksAnswer {
        page: Bytes(Verified::sign(page, &*seat.signer).envelope().to_vec()),
        consistency,
        opened,
        kept: Some(SealedEntries { held, entries: sealed, extensions: Extensions::default() }),
        extensions: Extensions::default(),
    };
    Ok((codec::encode(&answer), size))
}

fn page(part: &Part, hospital: &HospitalId, question: &BooksQuestion, now: Timestamp) -> LedgerPage {
    let line = |it: &Proven| PageLine {
        sequence: it.proof.sequence,
        commitment: it.proof.commitment,
        path: LedgerPage::hashes(&it.proof.path),
        extensions: Extensions::default(),
    };
    LedgerPage {
        hospital: hospital.clone(),
        seen: question.seen,
        from: question.from.min(part.until),
        until: part.until,
        lines: part.entries.iter().map(line).collect(),
        size: part.tree.size,
        root: part.tree.root,
        issued: now,
        consistency: LedgerPage::hashes(&part.consistency),
        extensions: Extensions::default(),
    }
}

fn bare(sequence: u64, salt: [u8; 32], bytes: Vec<u8>) -> OpenedEntry {
    OpenedEntry {
        sequence,
        salt,
        entry: Bytes(bytes),
        path: Vec::new(),
        order: None,
        mark: None,
        extensions: Extensions::default(),
    }
}

/// The operators' order that an entry stands on, if it stands on one.
fn order_of(txn: &mut dyn Txn, keys: &KeyMaker, entry: &Entry) -> Result<Option<Bytes>, BooksError> {
    match entry.evidence.order {
        Some(_) => Ok(routing::order_of(txn, keys, &entry.transfer)?),
        None => Ok(None),
    }
}
