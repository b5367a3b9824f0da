//! The index's books as this hospital sees them: it asks by itself for all entries that concern it, keeps its own copy
//! with what the index signed, and holds each against what it has of the transfer.
//!
//! Invariants: a copy only grows, and only by what continues what was signed before; what may still be on its way is no
//! fault; whatever is wrong is noted in the transaction that finds it, with an audit line, and with an incident if what
//! the index signed proves it; what is here is judged, however little the index shows, and that is told if it lasts.
//! Judging is `handover_core::verify`'s, so that everybody comes to the same. What is kept is the index's backup, too.

mod copy;
mod list;
mod look;
mod rows;
mod sealed;

use std::sync::Arc;
use std::time::Duration;

use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{Answer, BooksAnswer, BooksQuestion, Request, Verb};
use handover_core::{Code, Party, Timestamp, TransferId};
use handover_dossier::Kind;
use handover_net::Net;
use handover_store::{KeyMaker, StoreError, Txn};
use tokio_util::sync::CancellationToken;

use crate::context::Inner;
use crate::{Exchange, ExchangeError};

pub(crate) use copy::dealt_with;
pub use list::{Books, Counterparty, FeeLine};
pub(crate) use rows::newest_page;
pub(crate) use sealed::give_back;

/// How often the index is asked even if nothing happened.
const ROUND: Duration = Duration::from_secs(60);
/// How soon it is asked again if it could not be, or if not all of it could be taken.
const AGAIN: Duration = Duration::from_secs(10);
/// Pages of one round, and how long it may take before no other one is asked for: what is left comes with the next.
const PAGES_PER_ROUND: usize = 200;
const ROUND_MAX: Duration = Duration::from_secs(60);

/// Runs until shut down: after each connection to the index, and now and then.
pub(crate) async fn run(inner: Arc<Inner>, net: Net, shutdown: CancellationToken) {
    let mut pause = AGAIN;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.books.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = match reconcile(&inner, &net).await {
            Ok(true) => ROUND,
            Ok(false) => AGAIN,
            Err(fault) => {
                tracing::debug!(code = %fault.code(), detail = %fault, "the books have to wait");
                AGAIN
            }
        };
    }
}

/// One round: what is new in the books, then every transfer of which something was to come, however far that got.
/// Whether the copy is whole.
async fn reconcile(inner: &Arc<Inner>, net: &Net) -> Result<bool, ExchangeError> {
    let _one_at_a_time = inner.reconciling.lock().await;
    let copied = copied(inner, net).await;
    let is_whole = copied.as_ref().is_ok_and(|is_whole| *is_whole);
    let is_heard = is_whole || net.connected().contains(&Party::Index);
    copy::mark(inner, is_whole, is_heard).await?;
    look::at_all(inner).await?;
    copied
}

/// Takes what is new; whether the copy is whole.
async fn copied(inner: &Arc<Inner>, net: &Net) -> Result<bool, ExchangeError> {
    let (begun, mut was_whole) = (tokio::time::Instant::now(), false);
    for _ in 0..PAGES_PER_ROUND {
        copy::forget(inner).await?;
        let question = copy::question(inner).await?;
        let answer = ask(inner, net, &question).await?;
        let (is_whole, has_news) = copy::take(inner, &question, answer).await?;
        // Asked once more after what was new, the index learns how far the log is kept here.
        if is_whole && (was_whole || !has_news) {
            return Ok(true);
        }
        was_whole = is_whole;
        if begun.elapsed() > ROUND_MAX {
            break;
        }
    }
    Ok(was_whole)
}

async fn ask(inner: &Arc<Inner>, net: &Net, question: &BooksQuestion) -> Result<BooksAnswer, ExchangeError> {
    let request = Request::encode(Verb::Books, vec![codec::encode(question)]);
    let answer = Answer::decode(&net.request(&inner.route_to_index(), request).await?)?;
    let [answer] = answer.as_slice() else { return Err(Code::Malformed.into()) };
    Ok(codec::decode(answer, MAX_MESSAGE_BYTES)?)
}

/// What was taken in changes what the books have to say: the transfer is looked at.
pub(crate) fn expect(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    kind: Kind,
    now: Timestamp,
) -> Result<(), StoreError> {
    let is_about_the_fee = matches!(
        kind,
        Kind::Header
            | Kind::Delivered
            | Kind::KeyRelease
            | Kind::ShareRelease
            | Kind::Receipt
            | Kind::Refusal
            | Kind::Recall
    );
    if is_about_the_fee {
        touch(txn, keys, transfer, now)?;
    }
    Ok(())
}

fn touch(txn: &mut dyn Txn, keys: &KeyMaker, transfer: TransferId, now: Timestamp) -> Result<(), StoreError> {
    let before = rows::open(txn, keys, &transfer)?;
    let open = rows::Open {
        transfer,
        at: now,
        since: before.as_ref().and_then(|open| open.since),
        looked: before.as_ref().and_then(|open| open.looked),
        touched: before.map_or(0, |open| open.touched).wrapping_add(1),
        extensions: Extensions::default(),
    };
    rows::put_open(txn, keys, &open)
}

impl Exchange {
    /// Asks the index now, and holds what it says against this hospital's own evidence.
    ///
    /// # Errors
    /// [`Code::Unreachable`] if the index is away.
    pub async fn reconcile(&self) -> Result<(), ExchangeError> {
        let net = self.0.net.get().ok_or(Code::Unreachable)?;
        reconcile(&self.0, net).await.map(drop)
    }
}
