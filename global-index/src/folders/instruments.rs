//! The folders' metrics, and their line on the health page.

use handover_core::Code;
use handover_web::metrics::{Counter, Gauge};
use handover_web::{Health, Metrics};

use super::rows::Left;

/// What the folders tell of themselves.
pub(crate) struct Instruments {
    /// Packages by what became of them: `left`, `refused`, `handed-out`, `withdrawn`, `removed`.
    pub(super) packages: Counter<1>,
    waiting: Gauge<0>,
    bytes: Gauge<0>,
    health: Health,
}

impl Instruments {
    pub(crate) fn new(metrics: &Metrics, health: &Health) -> Self {
        Self {
            packages: metrics.counter(
                "folder_packages",
                "Packages in folders, by what became of them",
                ["event"],
            ),
            waiting: metrics.gauge("folder_waiting", "Packages that wait in folders", []),
            bytes: metrics.gauge("folder_bytes", "Bytes of packages in folders", []),
            health: health.clone(),
        }
    }

    /// What lies in all folders now, and whether the disk has room.
    pub(super) fn show(&self, packages: &[Left], disk: Result<(), Code>) {
        let bytes = packages.iter().fold(0, |sum: u64, left| sum.saturating_add(left.bytes));
        self.waiting.set([], i64::try_from(packages.len()).unwrap_or(i64::MAX));
        self.bytes.set([], i64::try_from(bytes).unwrap_or(i64::MAX));
        self.health.set("folders", disk);
    }
}
