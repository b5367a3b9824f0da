//! Counters and gauges with fixed label sets, as `GET /metrics` shows them to Prometheus (OpenMetrics 1.0 text).
//!
//! Invariant: label names and values are words of the program (`&'static str`, a [`handover_core::Code`]'s word for
//! one), so that neither a patient's data nor an unbounded number of series can get in.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter, family::Family, gauge},
    registry::Registry,
};
use warp::{
    Filter,
    http::{HeaderValue, header},
    reply::Response,
};

use crate::Routes;

/// The media type of the text (OpenMetrics 1.0, "Text format").
const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The process' metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

/// A counter with `N` labels.
#[derive(Clone, Debug)]
pub struct Counter<const N: usize> {
    labels: [&'static str; N],
    family: Family<Labels<N>, counter::Counter>,
}

/// A gauge with `N` labels.
#[derive(Clone, Debug)]
pub struct Gauge<const N: usize> {
    labels: [&'static str; N],
    family: Family<Labels<N>, gauge::Gauge>,
}

impl<const N: usize> Counter<N> {
    /// Adds `count` to the series with these label values.
    pub fn add(&self, values: [&'static str; N], count: u64) {
        self.family.get_or_create(&paired(self.labels, values)).inc_by(count);
    }

    /// Adds one to the series with these label values.
    pub fn inc(&self, values: [&'static str; N]) {
        self.add(values, 1);
    }
}

impl<const N: usize> Gauge<N> {
    /// Sets the series with these label values.
    pub fn set(&self, values: [&'static str; N], value: i64) {
        self.family.get_or_create(&paired(self.labels, values)).set(value);
    }
}

fn paired<const N: usize>(labels: [&'static str; N], values: [&'static str; N]) -> Labels<N> {
    let mut values = values.into_iter();
    labels.map(|label| (label, values.next().unwrap_or_default()))
}

impl Metrics {
    /// An empty registry; every name will begin with `prefix` and an underscore.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix(prefix))) }
    }

    /// Registers a counter. The text adds `_total` to `name` and a full stop to `help`. Register each name once.
    #[must_use]
    pub fn counter<const N: usize>(&self, name: &str, help: &str, labels: [&'static str; N]) -> Counter<N> {
        let family = Family::default();
        self.lock().register(name, help, Family::clone(&family));
        Counter { labels, family }
    }

    /// Registers a gauge. Register each name once.
    #[must_use]
    pub fn gauge<const N: usize>(&self, name: &str, help: &str, labels: [&'static str; N]) -> Gauge<N> {
        let family = Family::default();
        self.lock().register(name, help, Family::clone(&family));
        Gauge { labels, family }
    }

    /// All metrics as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.lock()).is_err() {
            tracing::error!("metrics cannot be written as text");
        }
        text
    }

    /// `GET /metrics`.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let metrics = self.clone();
        warp::path!("metrics")
            .and(warp::get())
            .map(move || {
                let mut response = Response::new(metrics.text().into());
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static(METRICS_MEDIA_TYPE));
                response
            })
            .boxed()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process has carried as a relay for others, one series for each of what is counted.
#[must_use]
pub fn relay(metrics: &Metrics) -> Gauge<1> {
    let help = "As a relay: circuits and places now; circuits, refusals and bytes since the start";
    metrics.gauge("relay", help, ["of"])
}

/// Connections that found no place, or gave theirs to others, at a process's doors since its start.
#[must_use]
pub fn turned_away(metrics: &Metrics) -> Gauge<1> {
    let help = "Connections that found no place, or gave theirs to others, since the start";
    metrics.gauge("turned_away", help, ["door"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_gauges_are_shown() {
        let metrics = Metrics::new("handover");
        let transfers = metrics.counter("transfers", "Transfers that ended", ["outcome"]);
        let open = metrics.gauge("open", "Transfers under way", []);
        transfers.inc(["done"]);
        transfers.add(["done"], 2);
        open.set([], 7);
        assert_eq!(
            metrics.text(),
            "# HELP handover_transfers Transfers that ended.\n# TYPE handover_transfers counter\n\
             handover_transfers_total{outcome=\"done\"} 3\n# HELP handover_open Transfers under way.\n\
             # TYPE handover_open gauge\nhandover_open{} 7\n# EOF\n"
        );
    }
}
