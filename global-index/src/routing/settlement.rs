//! Holds: fees that a destination disputes, and the order of two operators that settles one.
//!
//! Invariants: one operator's signature waits and books nothing; a hold is settled at most once, by an order that names
//! it, of bounded size; the order stands in the entries that it makes, and goes to whoever is shown them. One that came
//! back without all of these books the rest by itself, as soon as the hold stands.

use handover_core::artefact::books::{HOLD_ORDER_MAX_BYTES, HOLD_REASON_MAX_BYTES, HoldOrder, Settled};
use handover_core::artefact::federation::AuthorityCertificate;
use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::{Countersigned, Payload as _, Verified, peek_type};
use handover_core::codec::Bytes;
use handover_core::ledger::{Entry, Evidence, Terms};
use handover_core::rules::{self, Context};
use handover_core::trust::two_operators;
use handover_core::{Code, TransferId};
use handover_store::rows as cells;
use handover_store::{KeyMaker, StoreError, Txn};

use super::rows::HoldOrders;
use super::{RoutingError, recalls};
use crate::ledger::{Book, Booking};
use crate::registry::{Outcome, RegistryError, one_operator};

/// What a fee is held for, and what was ordered about it.
pub(crate) struct Held {
    /// The hold, if there ever was one.
    pub(crate) hold: Option<Entry>,
    /// What settled it, if operators did.
    pub(crate) release: Option<Entry>,
    /// Whether nobody has settled it.
    pub(crate) is_open: bool,
    /// Signed by one operator.
    pub(crate) pending: Option<Bytes>,
    /// Signed by two; and booked, unless entries were lost.
    pub(crate) order: Option<Bytes>,
}

fn orders_key(keys: &KeyMaker, transfer: &TransferId) -> Vec<u8> {
    keys.space("hold-order").hashed(transfer.as_bytes()).build()
}

fn orders_of(txn: &mut dyn Txn, keys: &KeyMaker, transfer: &TransferId) -> Result<HoldOrders, StoreError> {
    Ok(cells::get(txn, &orders_key(keys, transfer))?.unwrap_or_default())
}

/// The order that settled a transfer's hold, whole.
pub(crate) fn order_of(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: &TransferId,
) -> Result<Option<Bytes>, StoreError> {
    Ok(orders_of(txn, keys, transfer)?.order)
}

/// How a transfer's hold stands.
pub(crate) fn held(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    transfer: &TransferId,
) -> Result<Held, RoutingError> {
    let ledger = book.story(txn, transfer)?;
    let HoldOrders { pending, order, .. } = orders_of(txn, keys, transfer)?;
    Ok(Held {
        hold: ledger.hold().cloned(),
        release: ledger.release().cloned(),
        is_open: ledger.open_hold().is_some(),
        pending,
        order,
    })
}

/// Takes a `HoldOrder`: signed by one operator it waits, countersigned it is booked.
pub(crate) fn settle(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    envelope: &[u8],
    operators: &[AuthorityCertificate],
    context: Context<'_>,
) -> Result<Outcome, RoutingError> {
    let is_proposed = peek_type(envelope).map_err(RegistryError::from)? == HoldOrder::TYPE;
    let order = if is_proposed {
        one_operator::<HoldOrder>(envelope, operators)?
    } else {
        Countersigned::<HoldOrder>::read(envelope).map_err(RegistryError::from)?;
        two_operators::<HoldOrder>(envelope, operators, context.verifier).map_err(RegistryError::from)?
    };
    if envelope.len() > HOLD_ORDER_MAX_BYTES || order.reason.len() > HOLD_REASON_MAX_BYTES {
        return Err(Code::Malformed.into());
    }
    let transfer = order.transfer;
    let mut orders = orders_of(txn, keys, &transfer)?;
    let Held { hold, release, is_open, .. } = held(txn, keys, book, &transfer)?;
    if release.is_some_and(|release| release.evidence.order == Some(order.hash())) {
        return Ok(Outcome::Effective);
    }
    let hold = hold.filter(|_| is_open).ok_or(Code::NotHeld)?;
    let begun = book.story(txn, &transfer)?.order();
    if order.hold != hold.id || begun.is_some_and(|begun| begun != order.hash()) {
        return Err(Code::Conflict.into());
    }
    if order.issued > booking.now.plus_ms(CLOCK_SKEW_MS) {
        return Err(Code::ClockOff.into());
    }
    if is_proposed {
        orders.pending = Some(Bytes(envelope.to_vec()));
        cells::put(txn, &orders_key(keys, &transfer), &orders)?;
        return Ok(Outcome::Pending);
    }
    orders.pending = None;
    orders.order = Some(Bytes(envelope.to_vec()));
    cells::put(txn, &orders_key(keys, &transfer), &orders)?;
    book_ordered(txn, keys, book, booking, (&hold, &order), context)?;
    Ok(Outcome::Effective)
}

/// Takes an order back that was kept beside an entry that names it, whatever became of that entry, and books what is
/// missing of it; not where something stands on another order.
pub(crate) fn take_order_back(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    envelope: Bytes,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let order = rules::hold_order(envelope.as_ref(), context)?;
    let transfer = &order.transfer;
    if book.story(txn, transfer)?.order().is_some_and(|begun| begun != order.hash()) {
        return Ok(());
    }
    let orders = HoldOrders { order: Some(envelope), pending: None, ..orders_of(txn, keys, transfer)? };
    cells::put(txn, &orders_key(keys, transfer), &orders)?;
    settle_again(txn, keys, book, booking, transfer, context)
}

/// Settles a fee that is held by the order that is here: it came back before its hold, or without all that it had booked.
pub(super) fn settle_again(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    transfer: &TransferId,
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let ledger = book.story(txn, transfer)?;
    let (Some(hold), Some(order)) = (ledger.open_hold(), order_of(txn, keys, transfer)?) else {
        return Ok(());
    };
    // Whatever does not fit, people have to look at, as they have to without it.
    let Ok(order) = rules::hold_order(order.as_ref(), context) else { return Ok(()) };
    if order.hold != hold.id || ledger.order().is_some_and(|begun| begun != order.hash()) {
        return Ok(());
    }
    book_ordered(txn, keys, book, booking, (hold, &order), context)
}

fn book_ordered(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    booking: &Booking,
    (hold, order): (&Entry, &Verified<HoldOrder>),
    context: Context<'_>,
) -> Result<(), RoutingError> {
    let evidence =
        Evidence { receipt: None, refusal: None, order: Some(order.hash()), ..hold.evidence.clone() };
    book.settle(txn, booking, &Terms::of(hold), order.settled == Settled::ForSource, &evidence)?;
    recalls::give_back(txn, keys, book, booking, order.transfer, context)
}
