//! The index's metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use handover_net::Net;
use handover_web::Metrics;
use handover_web::metrics::{Counter, Gauge};

use crate::ledger::Held;

/// Counters that the service adds to.
#[derive(Clone)]
pub(super) struct Instruments {
    /// Control requests by verb and outcome.
    pub(super) requests: Counter<2>,
    /// Parcels taken in, new or repeated.
    pub(super) parcels: Counter<1>,
}

impl Instruments {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.counter("requests", "Control requests answered", ["verb", "outcome"]),
            parcels: metrics.counter("parcels", "Artefacts of transfers taken in", ["kind"]),
        }
    }
}

/// Who was turned away at the doors, and what was carried for others.
pub(super) struct Doors {
    turned_away: Gauge<1>,
    relay: Gauge<1>,
    net: Net,
    web: Arc<AtomicU64>,
}

impl Doors {
    pub(super) fn new(metrics: &Metrics, net: Net, web: Arc<AtomicU64>) -> Self {
        let turned_away = handover_web::metrics::turned_away(metrics);
        Self { turned_away, relay: handover_web::metrics::relay(metrics), net, web }
    }

    pub(super) fn show(&self) {
        for (door, count) in [("net", self.net.turned_away()), ("web", self.web.load(Ordering::Relaxed))] {
            self.turned_away.set([door], i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (of, count) in self.net.carried().counts() {
            self.relay.set([of], i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Fees that wait for operators.
pub(super) struct Holds {
    count: Gauge<0>,
    since: Gauge<0>,
}

impl Holds {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let since = "When the first of the fees that are held was, in seconds since 1970; 0 if none is";
        Self {
            count: metrics.gauge("fees_held", "Fees that are held until operators settle them", []),
            since: metrics.gauge("fees_held_since", since, []),
        }
    }

    pub(super) fn show(&self, held: Held) {
        self.count.set([], i64::try_from(held.count).unwrap_or(i64::MAX));
        self.since.set([], held.since.map_or(0, |since| since.as_millis().div_euclid(1_000)));
    }
}
