//! The index's metrics.

use handover_web::Metrics;
use handover_web::metrics::Counter;

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
