//! What is kept of the log for the index: this hospital's own entries, and those of others that are with nobody else yet,
//! which only the index can open. An index that was restored from a backup gets them back.
//!
//! Invariants: what the index says that others hold is kept no longer; an answer fits a message, however much there is.

use std::sync::Arc;

use handover_core::artefact::books::LedgerPage;
use handover_core::codec::{self, Extensions};
use handover_core::message::{
    BooksBackAnswer, BooksBackQuestion, OpenedEntry, SEALED_ENTRY_MAX_BYTES, SealedEntries, SealedEntry,
};
use handover_core::{Code, Party};
use handover_store::{KeyBuilder, KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows as cells};

use super::rows::{self, Held};
use crate::ExchangeError;
use crate::context::Inner;

/// The most bytes of a question.
const QUESTION_MAX_BYTES: usize = 1024;
/// Entries of each kind that are looked at for one answer, and bytes of what goes into it.
const LOOKED_AT: usize = 256;
const ANSWER_BYTES: usize = 512 * 1024;

/// Whether sealed entries belong to a page.
pub(super) fn are_of(kept: &SealedEntries, page: &LedgerPage) -> bool {
    let is_of = |it: &SealedEntry| {
        (page.from..page.until).contains(&it.sequence) && it.sealed.as_ref().len() <= SEALED_ENTRY_MAX_BYTES
    };
    kept.entries.iter().all(is_of)
}

/// Keeps what came beside a page, and forgets what others hold.
pub(super) fn keep(txn: &mut dyn Txn, keys: &KeyMaker, kept: &SealedEntries) -> Result<(), StoreError> {
    for it in &kept.entries {
        cells::put(txn, &rows::sealed(keys).u64(it.sequence).build(), it)?;
    }
    let held = rows::sealed(keys).u64(kept.held).build();
    // What is left over goes with the next answers.
    for (key, _) in txn.scan(&rows::sealed(keys).build(), None, SCAN_MAX_CELLS)? {
        if key >= held {
            break;
        }
        txn.remove(&key)?;
    }
    Ok(())
}

/// Gives the index back what is kept of its log.
pub(crate) async fn give_back(
    inner: &Arc<Inner>,
    party: &Party,
    question: &[u8],
) -> Result<Vec<Vec<u8>>, ExchangeError> {
    if *party != Party::Index {
        return Err(Code::AccessDenied.into());
    }
    let question: BooksBackQuestion = codec::decode(question, QUESTION_MAX_BYTES)?;
    let keys = inner.keys();
    let answer = inner.parts.store.read(move |txn| back(txn, &keys, question.from)).await?;
    Ok(vec![codec::encode(&answer)])
}

fn back(txn: &mut dyn Txn, keys: &KeyMaker, from: u64) -> Result<BooksBackAnswer, StoreError> {
    let own = page(txn, &rows::entries(keys), from)?;
    let others = page(txn, &rows::sealed(keys), from)?;
    // Where a page is full, there may be more behind its end.
    let end = |page: &[(u64, Vec<u8>)]| page.get(LOOKED_AT - 1).map(|(last, _)| last.saturating_add(1));
    let until = [end(&own), end(&others)].into_iter().flatten().min();
    let mut all: Vec<_> = own.into_iter().map(|(number, row)| (number, true, row)).collect();
    all.extend(others.into_iter().map(|(number, row)| (number, false, row)));
    all.sort_unstable_by_key(|(number, ..)| *number);
    let mut answer = BooksBackAnswer {
        opened: Vec::new(),
        sealed: Vec::new(),
        next: until,
        extensions: Extensions::default(),
    };
    let mut bytes = 0_usize;
    for (number, is_own, row) in all.into_iter().filter(|(number, ..)| until.is_none_or(|it| *number < it)) {
        bytes = bytes.saturating_add(row.len());
        if bytes > ANSWER_BYTES {
            answer.next = Some(number);
            break;
        }
        if is_own {
            let opened = cells::read::<Held>(&row)?.opened;
            answer.opened.push(OpenedEntry { path: Vec::new(), ..opened });
        } else {
            answer.sealed.push(cells::read(&row)?);
        }
    }
    Ok(answer)
}

/// A page of rows by number, from one on.
fn page(txn: &mut dyn Txn, space: &KeyBuilder, from: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let prefix = space.clone().build();
    let after = from.checked_sub(1).map(|before| space.clone().u64(before).build());
    let number = |key: &[u8]| key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let cells = txn.scan(&prefix, after.as_deref(), LOOKED_AT)?;
    let read = |(key, row): (Vec<u8>, Vec<u8>)| {
        Ok((number(&key).ok_or_else(|| cells::damaged("a key without its number"))?, row))
    };
    cells.into_iter().map(read).collect()
}
