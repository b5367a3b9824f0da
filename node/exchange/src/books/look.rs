//! Each transfer's entries held against what this hospital has of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use handover_core::artefact::Signed;
use handover_core::artefact::books::LedgerPage;
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::ledger::{Entry, MAX_ENTRY_BYTES};
use handover_core::message::BooksAnswer;
use handover_core::rules::{self, Context};
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_core::verify::{Looked, Report, Standing, standing, verify_artefacts};
use handover_core::{Code, Timestamp, TransferId};
use handover_dossier::{Dossier, Kind};
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn, rows as cells};

use super::copy;
use super::rows::{self, Difference, Held, Open};
use crate::ExchangeError;
use crate::context::Inner;
use crate::outbox::{self, Target};

/// How soon a transfer of which something is to come is looked at again, if nothing comes.
const AGAIN_MS: i64 = HOUR_MS;
/// How long something may be late before it is a difference, counted from when this hospital first saw it, while it
/// hears of the index. Letters come after the books: what both are silent for is not counted.
const GRACE_MS: i64 = DAY_MS;
/// After so long without a word of the index the time is counted anew.
const UNHEARD_MS: i64 = 2 * HOUR_MS;

/// What is known of a transfer's fee.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) entries: Vec<Entry>,
    pub(super) own: Option<Report>,
    pub(super) standing: Standing,
    held: Vec<Held>,
    artefacts: Vec<Bytes>,
    at: Timestamp,
    /// The difference that stands.
    stands: Option<Code>,
}

/// Looks at all whose time has come. One that cannot be decided is no matter of the others.
pub(super) async fn at_all(inner: &Arc<Inner>) -> Result<(), ExchangeError> {
    let mut after = None;
    loop {
        let (keys, from) = (inner.keys(), after);
        let page = inner.parts.store.read(move |txn| rows::all_open(txn, &keys, from.as_ref())).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.transfer);
        let now = inner.now();
        for open in page.into_iter().filter(|open| open.at <= now) {
            let transfer = open.transfer;
            if let Err(fault) = at_one(inner, open).await {
                tracing::warn!(%transfer, code = %fault.code(), detail = %fault, "its fee cannot be judged");
            }
        }
    }
}

async fn at_one(inner: &Arc<Inner>, open: Open) -> Result<(), ExchangeError> {
    let Some(known) = known(inner, open.transfer).await? else { return Ok(()) };
    let (at, mut next) = (known.at, open.clone());
    next.at = inner.now().plus_ms(AGAIN_MS);
    if next.looked.is_none_or(|looked| at.since_ms(looked) > UNHEARD_MS) {
        next.since = None;
    }
    next.looked = Some(at);
    let found = match known.standing {
        Standing::Agrees => return settle(inner, open, None, None).await,
        Standing::InFlight => {
            next.since = None;
            None
        }
        Standing::Late(code) => {
            // Not while this hospital still has to tell the index of it.
            let waiting = outbox::labels(&inner.parts.store, |label| {
                label.transfer == open.transfer && label.target() == Target::Index
            });
            let (waiting, dead) = waiting.await?;
            let is_told = waiting.is_empty() && dead.is_empty();
            let since = *next.since.get_or_insert(at);
            let is_over = is_told && at >= since.plus_ms(GRACE_MS);
            (is_over || known.stands == Some(code)).then_some((code, None))
        }
        Standing::Differs(code) => Some((code, Some((signed(inner, &known).await?, known.artefacts)))),
    };
    settle(inner, open, Some(next), found).await
}

/// What differs, and the pages and artefacts that prove it, if they do.
type Found = (Code, Option<(Vec<BooksAnswer>, Vec<Bytes>)>);

/// Writes what it came to, unless something came meanwhile: then it is looked at again.
async fn settle(
    inner: &Arc<Inner>,
    open: Open,
    next: Option<Open>,
    found: Option<Found>,
) -> Result<(), ExchangeError> {
    let (inner, keys, now) = (Arc::clone(inner), inner.keys(), inner.now());
    let store = inner.parts.store.clone();
    let written = store.write(move |txn| -> Result<(), ExchangeError> {
        let transfer = open.transfer;
        if rows::open(txn, &keys, &transfer)?.is_none_or(|is| is.touched != open.touched) {
            return Ok(());
        }
        match &next {
            Some(next) => rows::put_open(txn, &keys, next)?,
            None => rows::close(txn, &keys, &transfer)?,
        }
        let Some((code, proof)) = &found else {
            return Ok(rows::agree(txn, &keys, &transfer)?);
        };
        let before = rows::difference(txn, &keys, &transfer)?.filter(|before| before.code == *code);
        let is_kept = before.as_ref().is_some_and(|before| before.incident.is_some());
        if before.is_some() && (is_kept || proof.is_none()) {
            return Ok(());
        }
        let incident = match proof {
            Some((answers, artefacts)) => {
                let file = copy::file(&inner, Some(transfer), None, answers.clone(), artefacts.clone())?;
                copy::keep(txn, &keys, (*code, Some(transfer)), &file, now)?
            }
            None => None,
        };
        if before.is_none() {
            copy::audit(&inner, txn, Some(transfer), now)?;
            tracing::error!(%code, %transfer, ?incident, "the index's books are not what was signed");
        }
        let since = before.map_or(now, |before| before.since);
        let extensions = Extensions::default();
        rows::put_difference(txn, &keys, &Difference { transfer, code: *code, since, incident, extensions })?;
        Ok(())
    });
    written.await
}

/// The pages on which the index signed a transfer's entries, with these opened.
async fn signed(inner: &Arc<Inner>, known: &Known) -> Result<Vec<BooksAnswer>, ExchangeError> {
    let (keys, held) = (inner.keys(), known.held.clone());
    let read = inner.parts.store.read(move |txn| -> Result<_, StoreError> {
        let mut answers: BTreeMap<u64, BooksAnswer> = BTreeMap::new();
        for held in held.clone() {
            if let std::collections::btree_map::Entry::Vacant(place) = answers.entry(held.page) {
                let page = cells::get_pieces(txn, &rows::pages(&keys).u64(held.page))?;
                place.insert(BooksAnswer {
                    page: Bytes(page.ok_or_else(|| cells::damaged("a page of the books"))?),
                    consistency: Vec::new(),
                    opened: Vec::new(),
                    kept: None,
                    extensions: Extensions::default(),
                });
            }
            if let Some(answer) = answers.get_mut(&held.page) {
                answer.opened.push(held.opened);
            }
        }
        Ok(answers.into_values().collect())
    });
    Ok(read.await?)
}

/// A transfer's entries in the copy, and what they come to; none before there is a copy. While what is here of the
/// transfer is not whole, something is to come.
pub(super) async fn known(inner: &Arc<Inner>, transfer: TransferId) -> Result<Option<Known>, ExchangeError> {
    let keys = inner.keys();
    let read = inner.parts.store.read(move |txn| gather(txn, &keys, transfer)).await?;
    let Some(Gathered { held, artefacts, at, is_all, stands }) = read else { return Ok(None) };
    let federation = inner.federation()?;
    let context = Context { federation: &federation, verifier: &Remembered };
    let own = match artefacts.as_slice() {
        [] => Ok(None),
        artefacts => verify_artefacts(artefacts, context).map(Some),
    };
    let entries = held.iter().map(|held| codec::decode(held.opened.entry.as_ref(), MAX_ENTRY_BYTES));
    let entries: Vec<Entry> = entries.collect::<Result<_, _>>()?;
    let orders = held.iter().filter_map(|held| held.opened.order.as_ref());
    // One that does not hold founds nothing.
    let orders: Vec<_> = orders.filter_map(|order| rules::hold_order(order.as_ref(), context).ok()).collect();
    let looked = Looked { by: inner.own(), at, is_all, orders: &orders };
    let (own, standing) = match own {
        Ok(own) => {
            let standing = standing(&entries, own.as_ref(), looked);
            (own, standing)
        }
        Err(fault) => {
            tracing::info!(%transfer, %fault, "what is here of it is not whole yet, so its fee is not judged");
            (None, Standing::InFlight)
        }
    };
    Ok(Some(Known { entries, own, standing, held, artefacts, at, stands }))
}

struct Gathered {
    held: Vec<Held>,
    artefacts: Vec<Bytes>,
    at: Timestamp,
    is_all: bool,
    stands: Option<Code>,
}

fn gather(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<Gathered>, ExchangeError> {
    let Some(head) = rows::head(txn, keys)? else { return Ok(None) };
    let page = Signed::<LedgerPage>::read(head.page.as_ref());
    let page = page.map_err(|_| cells::damaged("a page of the books"))?;
    let (at, is_all) = (page.claim().issued, head.next == page.claim().size);
    let held = rows::held(txn, keys, &transfer)?;
    let mut dossier = Dossier::of(txn, keys, transfer);
    let artefacts = if dossier.row()?.is_some() { dossier.all()? } else { Vec::new() };
    // The one that came before its consent was never verified.
    let artefacts = artefacts.into_iter().filter(|(place, _)| place.kind != Kind::EarlyRevocation);
    let artefacts = artefacts.map(|(_, content)| Bytes(content)).collect();
    let stands = rows::difference(txn, keys, &transfer)?.map(|it| it.code);
    Ok(Some(Gathered { held, artefacts, at, is_all, stands }))
}
