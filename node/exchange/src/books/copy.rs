//! This hospital's copy of the books, page by page.

use std::sync::Arc;

use handover_core::artefact::books::LedgerPage;
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::{Payload as _, Signed};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::message::{BooksAnswer, BooksQuestion, OpenedEntry};
use handover_core::rules::{self, Context, OpenedPage};
use handover_core::verify::{BooksFile, named};
use handover_core::{Code, Digest, Party, Timestamp, TransferId};
use handover_dossier::incidents::{self, Incident};
use handover_records::{Action, Departments, GrantRequest, Purpose, Subject};
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn, rows as cells};

use super::rows::{self, Head, Held, Mark};
use super::{sealed, touch};
use crate::ExchangeError;
use crate::context::Inner;

fn read(page: &Bytes) -> Result<Signed<LedgerPage>, StoreError> {
    Signed::read(page.as_ref()).map_err(|_| cells::damaged("a page of the books"))
}

/// What is to be asked for next.
pub(super) async fn question(inner: &Arc<Inner>) -> Result<BooksQuestion, ExchangeError> {
    let keys = inner.keys();
    let head = inner.parts.store.read(move |txn| rows::head(txn, &keys)).await?;
    let (from, seen) = match &head {
        Some(head) => (head.next, read(&head.page)?.claim().size),
        None => (0, 0),
    };
    Ok(BooksQuestion { from, seen, extensions: Extensions::default() })
}

/// Takes a page into the copy; whether the copy is whole, and whether there was anything new in the log. What shows that
/// the books were rewritten is kept as an incident; and if it is a page that holds in itself, the copy begins anew with
/// what the index says now.
pub(super) async fn take(
    inner: &Arc<Inner>,
    question: &BooksQuestion,
    answer: BooksAnswer,
) -> Result<(bool, bool), ExchangeError> {
    let (federation, now) = (inner.federation()?, inner.now());
    let context = Context { federation: &federation, verifier: &Remembered };
    let opened = match rules::ledger_page(&answer, inner.own(), context) {
        Err(Code::LedgerRewritten) => {
            let (inner, keys, store) = (Arc::clone(inner), inner.keys(), inner.parts.store.clone());
            let noted = store.write(move |txn| rewritten(&inner, txn, &keys, None, answer.clone(), now));
            noted.await?;
            return Err(Code::LedgerRewritten.into());
        }
        opened => opened?,
    };
    check(question, &opened, &answer, now)?;
    let (inner, keys) = (Arc::clone(inner), inner.keys());
    let store = inner.parts.store.clone();
    let taken = store.write(move |txn| take_in(&inner, txn, &keys, &opened, &answer, now));
    taken.await
}

/// Forgets the copy, if it is not what the index says any more, a part at a time, also over restarts. What was shown may
/// be gone, so each transfer of it is looked at again.
pub(super) async fn forget(inner: &Inner) -> Result<(), ExchangeError> {
    loop {
        let (keys, now) = (inner.keys(), inner.now());
        let forgotten = inner.parts.store.write(move |txn| -> Result<bool, StoreError> {
            if rows::marked(txn, &keys, Mark::Forgetting)?.is_none() {
                return Ok(true);
            }
            let Some(transfers) = rows::forget_some(txn, &keys)? else {
                rows::remove_mark(txn, &keys, Mark::Forgetting)?;
                return Ok(true);
            };
            transfers.into_iter().try_for_each(|transfer| touch(txn, &keys, transfer, now))?;
            Ok(false)
        });
        if forgotten.await? {
            return Ok(());
        }
    }
}

/// Notes since when the index, though it is there, has not shown its books whole and as of now.
pub(super) async fn mark(inner: &Inner, is_whole: bool, is_heard: bool) -> Result<(), ExchangeError> {
    let (keys, now) = (inner.keys(), inner.now());
    let marked = inner.parts.store.read(move |txn| rows::marked(txn, &keys, Mark::Behind)).await?;
    let is_behind = is_heard && !is_whole;
    if is_behind == marked.is_some() {
        return Ok(());
    }
    let keys = inner.keys();
    let written = inner.parts.store.write(move |txn| -> Result<(), StoreError> {
        if is_behind {
            return rows::put_mark(txn, &keys, Mark::Behind, now).map(drop);
        }
        rows::remove_mark(txn, &keys, Mark::Behind)
    });
    Ok(written.await?)
}

/// Forgets that the books were rewritten, once a person has removed all that shows it.
pub(crate) fn dealt_with(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), StoreError> {
    if incidents::list(txn, keys)?.iter().any(|it| it.code == Code::LedgerRewritten) {
        return Ok(());
    }
    rows::remove_mark(txn, keys, Mark::Rewritten)
}

/// Whether it answers the question.
fn check(
    question: &BooksQuestion,
    OpenedPage { page, entries, .. }: &OpenedPage,
    answer: &BooksAnswer,
    now: Timestamp,
) -> Result<(), Code> {
    // An old page would pass off what was booked since.
    if page.issued.since_ms(now).abs() > CLOCK_SKEW_MS {
        return Err(Code::ClockOff);
    }
    let is_answered = page.seen == question.seen
        && page.lines.len() == entries.len()
        && entries.len() == answer.opened.len()
        && (page.from == question.from || page.size < question.seen)
        && (page.until > page.from || page.until == page.size)
        && answer.kept.as_ref().is_none_or(|kept| sealed::are_of(kept, page));
    if is_answered { Ok(()) } else { Err(Code::Malformed) }
}

fn take_in(
    inner: &Inner,
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    OpenedPage { page, entries, .. }: &OpenedPage,
    answer: &BooksAnswer,
    now: Timestamp,
) -> Result<(bool, bool), ExchangeError> {
    if let Some(head) = rows::head(txn, keys)? {
        let before = read(&head.page)?;
        if let Err(code) = rules::continues(before.claim(), page, answer) {
            if code != Code::LedgerRewritten {
                return Err(code.into());
            }
            rewritten(inner, txn, keys, Some(head.page), answer.clone(), now)?;
            rows::put_mark(txn, keys, Mark::Forgetting, now)?;
            return Ok((false, false));
        }
    }
    if !page.lines.is_empty() {
        cells::put_pieces(txn, &rows::pages(keys).u64(page.from), page.envelope())?;
    }
    for ((_, entry), opened) in entries.iter().zip(&answer.opened) {
        let held = Held {
            opened: opened.clone(),
            page: page.from,
            transfer: entry.transfer,
            extensions: Extensions::default(),
        };
        rows::put_entry(txn, keys, &entry.transfer, &held)?;
        touch(txn, keys, entry.transfer, now)?;
    }
    let page_bytes = Bytes(page.envelope().to_vec());
    let head = Head { next: page.until, page: page_bytes, extensions: Extensions::default() };
    rows::put_head(txn, keys, &head)?;
    if let Some(kept) = &answer.kept {
        sealed::keep(txn, keys, kept)?;
    }
    Ok((page.until == page.size, page.until > page.from))
}

/// Notes that the books are not those that were signed before: always in the log, and with one audit line until a
/// person has dealt with it, however often the index repeats it.
fn rewritten(
    inner: &Inner,
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    before: Option<Bytes>,
    answer: BooksAnswer,
    now: Timestamp,
) -> Result<(), ExchangeError> {
    let is_new = rows::put_mark(txn, keys, Mark::Rewritten, now)?;
    if is_new {
        audit(inner, txn, None, now)?;
    }
    let federation = inner.federation()?;
    let context = Context { federation: &federation, verifier: &Remembered };
    // Against the page before it, the page alone; else the entry that is not in the log.
    let is_shown = |opened: &OpenedEntry| {
        let alone = BooksAnswer { opened: vec![opened.clone()], ..answer.clone() };
        rules::ledger_page(&alone, inner.own(), context).is_err()
    };
    let opened = if before.is_some() { None } else { answer.opened.iter().find(|it| is_shown(it)).cloned() };
    let bare = BooksAnswer { opened: opened.into_iter().collect(), kept: None, ..answer };
    // A page that does not hold in itself comes again and again; what the copy gives up for another never does.
    let is_kept = if is_new || before.is_some() {
        let file = file(inner, None, before, vec![bare], Vec::new())?;
        keep(txn, keys, (Code::LedgerRewritten, None), &file, now)?.is_some()
    } else {
        false
    };
    let code = Code::LedgerRewritten;
    tracing::error!(%code, is_new, is_kept, "the index's books do not continue what it signed before");
    Ok(())
}

/// What is shown of a difference.
pub(super) fn file(
    inner: &Inner,
    transfer: Option<TransferId>,
    before: Option<Bytes>,
    answers: Vec<BooksAnswer>,
    artefacts: Vec<Bytes>,
) -> Result<BooksFile, Code> {
    let mut about = named(&artefacts);
    about.insert(inner.own().clone());
    Ok(BooksFile {
        directory: inner.federation()?.part(&about),
        artefacts,
        hospital: inner.own().clone(),
        transfer,
        before,
        answers,
        extensions: Extensions::default(),
    })
}

/// Writes the audit line for what was found wrong.
pub(super) fn audit(
    inner: &Inner,
    txn: &mut dyn Txn,
    transfer: Option<TransferId>,
    now: Timestamp,
) -> Result<(), ExchangeError> {
    let request = GrantRequest {
        subject: Subject::System("books".to_owned()),
        action: Action::Reconcile,
        purpose: Purpose::Administration,
        patient: None,
        departments: Departments::All,
        transfer,
        break_glass: None,
    };
    inner.parts.records.audit().permit_in(txn, &request, now)?;
    Ok(())
}

/// Keeps what the index has signed and may not have signed; what the incident is called, if there was room.
pub(super) fn keep(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (code, transfer): (Code, Option<TransferId>),
    file: &BooksFile,
    now: Timestamp,
) -> Result<Option<Digest>, ExchangeError> {
    let page = file.answers.last().map(|answer| answer.page.0.clone()).unwrap_or_default();
    let about = transfer.map(|transfer| transfer.as_bytes().to_vec()).unwrap_or_default();
    let incident = Incident {
        by: Party::Index,
        code,
        artefact: LedgerPage::TYPE.to_owned(),
        id: Digest::sha256(&[&page, &about]),
        transfer,
        at: now,
        extensions: Extensions::default(),
    };
    Ok(incidents::keep(txn, keys, &incident, codec::encode(file))?.then_some(incident.id))
}
