//! What the books say to a hospital, signed, so that it can be held against the index: all entries of a part that
//! concern that hospital, each proven to be in the log.
//!
//! Invariant: nobody is told of entries of others. Of what an entry stands on it passes on the operators' orders alone.

use handover_core::artefact::Verified;
use handover_core::artefact::books::{LedgerPage, PageLine};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::{BooksAnswer, BooksQuestion, OpenedEntry};
use handover_core::{HospitalId, Timestamp};
use handover_seal::SigningKey;
use handover_store::{KeyMaker, Txn};

use crate::ledger::{Book, BooksError, Proven};
use crate::routing;

/// Answers a hospital's question about the books.
pub(crate) fn answer(
    txn: &mut dyn Txn,
    (keys, book): (&KeyMaker, &Book),
    hospital: &HospitalId,
    question: &BooksQuestion,
    signer: &SigningKey,
    now: Timestamp,
) -> Result<Vec<u8>, BooksError> {
    let part = book.part(txn, hospital, question.from, question.seen)?;
    let line = |it: &Proven| PageLine {
        sequence: it.proof.sequence,
        commitment: it.proof.commitment,
        path: LedgerPage::hashes(&it.proof.path),
        extensions: Extensions::default(),
    };
    let page = LedgerPage {
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
    };
    let mut opened = Vec::with_capacity(part.entries.len());
    for it in part.entries {
        let order = match it.entry.evidence.order {
            Some(_) => routing::order_of(txn, keys, &it.entry.transfer)?,
            None => None,
        };
        opened.push(OpenedEntry {
            sequence: it.proof.sequence,
            salt: it.proof.salt,
            entry: Bytes(it.bytes),
            path: it.proof.path,
            order,
            extensions: Extensions::default(),
        });
    }
    Ok(codec::encode(&BooksAnswer {
        page: Bytes(Verified::sign(page, signer).envelope().to_vec()),
        consistency: part.consistency,
        opened,
        extensions: Extensions::default(),
    }))
}
