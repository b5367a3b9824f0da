//! Time: the runtime's own, which stands still while anybody works and jumps to the next thing that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use handover_core::Timestamp;
use handover_core::time::Clock;
use tokio::time::Instant;

/// One process's clock: the federation's, or ahead of it by what was set.
pub(crate) struct Virtual {
    begun: Timestamp,
    since: Instant,
    ahead_ms: AtomicI64,
}

impl Virtual {
    /// A clock that shows `begun` now.
    pub(crate) fn at(begun: Timestamp) -> Arc<Self> {
        Arc::new(Self { begun, since: Instant::now(), ahead_ms: AtomicI64::new(0) })
    }

    pub(crate) fn set_ahead(&self, by: Duration) {
        self.ahead_ms.store(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.begun.plus_ms(passed).plus_ms(self.ahead_ms.load(Ordering::Relaxed))
    }
}
