//! Operations on fees that are held.

use handover_core::TransferId;
use handover_core::rules::Context;
use handover_seal::Remembered;

use super::books::why_held;
use super::views::{HoldContext, Ordered};
use super::{Hex, Operations, OpsError};
use crate::ledger::Booking;
use crate::registry;
use crate::routing::{self, RoutingError};
use crate::voice::ORDER_PATIENCE;

impl Operations {
    pub(super) async fn hold(&self, transfer: TransferId) -> Result<HoldContext, OpsError> {
        let (keys, book) = (self.desk.keys.clone(), self.desk.ledger.book().clone());
        let held = self.desk.store.read(move |txn| routing::held(txn, &keys, &book, &transfer)).await?;
        Ok(HoldContext {
            transfer: transfer.to_string(),
            hold: held.hold.as_ref().map(|hold| hold.id.to_string()),
            why: held.hold.as_ref().filter(|_| held.is_open).map(why_held),
            settled: held.release.and_then(|release| release.reason).map(|reason| reason.to_string()),
            pending: held.pending.map(|envelope| Hex(envelope.0)),
            order: held.order.map(|envelope| Hex(envelope.0)),
            operators: self.operators().await?,
            directory_version: self.desk.current().version(),
        })
    }

    pub(super) async fn settle(&self, envelope: Hex) -> Result<Ordered, OpsError> {
        self.desk.voice.may_soon_speak(ORDER_PATIENCE).await.map_err(RoutingError::Refused)?;
        let (keys, book, current) =
            (self.desk.keys.clone(), self.desk.ledger.book().clone(), self.desk.current());
        let (root, now) = (self.desk.seat.root, self.desk.now());
        let booking = Booking { now, salt_seed: self.desk.random_32() };
        let settled = self.desk.store.write(move |txn| -> Result<_, RoutingError> {
            let operators = registry::operators(txn, &keys, &root, now)?;
            let context = Context { federation: current.federation(), verifier: &Remembered };
            routing::settle(txn, &keys, &book, &booking, &envelope.0, &operators, context)
        });
        Ok(self.ordered(&settled.await?))
    }
}
