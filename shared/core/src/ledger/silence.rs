//! What becomes of a fee while no receipt comes: it is due once the destination, with everything in its hands, has
//! kept silent for the schedule's period; it is let go if the consent ran out before both releases existed, or if
//! nothing was delivered.
//!
//! Pure: what is known of the transfer, its entries and the time go in, what to do comes out. A receipt and the words
//! that end a transfer are no matter of time; who takes them in books them at once.

use crate::Timestamp;
use crate::time::DAY_MS;

use super::{Reason, TransferLedger};

/// The longest silence period that a schedule may set, in milliseconds.
pub const SILENCE_MAX_MS: i64 = 30 * DAY_MS;
/// How long after the consent's end copies of what was done in time are waited for, in milliseconds. Whoever was cut
/// off for less than this finds the reservation still there; what comes later is posted directly.
const LATE_COPIES_MS: i64 = 7 * DAY_MS;
/// For how long the index itself may be away at the worst moment without a reservation expiring, in milliseconds.
const AWAY_MS: i64 = 30 * DAY_MS;
/// How long a reservation outlives its consent, in milliseconds: longer than any silence that can still end in it,
/// whatever the schedule says. Made of constants, so that a repeated reservation has the same.
pub const RESERVATION_AFTER_CONSENT_MS: i64 = LATE_COPIES_MS + SILENCE_MAX_MS + AWAY_MS;

/// What is known of a transfer that has no receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The end of the consent.
    pub consent_expires: Timestamp,
    /// Whether the destination stated that it stores everything.
    pub is_delivered: bool,
    /// When both releases were made, by their own dates; `None` while one is missing.
    pub released: Option<Timestamp>,
    /// The end of the silence period; `None` until the destination was offered both releases.
    pub silent_until: Option<Timestamp>,
    /// Whether one of the parties ended the transfer: then silence says nothing.
    pub is_ended: bool,
}

/// What to do without a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing, ever.
    Nothing,
    /// Nothing before this time.
    Later(Timestamp),
    /// The fee is due: post it.
    Post,
    /// Let the reservation go.
    Void(Reason),
}

impl Handover {
    /// What to do `now` with the fee of which the books say `ledger`.
    #[must_use]
    pub fn due(&self, ledger: &TransferLedger, now: Timestamp) -> Due {
        let reserved = ledger.open_reservation();
        let let_go = |from: Option<Timestamp>, reason| match (reserved, from) {
            (Some(_), Some(from)) if now < from => Due::Later(from),
            (Some(_), _) => Due::Void(reason),
            (None, _) => Due::Nothing,
        };
        // What people have to look at, or have settled, is no matter of time any more.
        let is_disputed = ledger.open_hold().is_some() || ledger.release().is_some();
        if ledger.posted().is_some() || is_disputed {
            return Due::Nothing;
        }
        let released_in_time = self.released.is_some_and(|released| released < self.consent_expires);
        match self.silent_until {
            Some(until) if released_in_time && self.is_delivered && !self.is_ended => {
                if now < until {
                    Due::Later(until)
                } else {
                    Due::Post
                }
            }
            _ => {
                let reason = if released_in_time { Reason::NotDelivered } else { Reason::ConsentExpired };
                let_go(Some(self.copies_until()), reason)
            }
        }
    }

    /// Until when copies of what was done before the consent's end are waited for.
    #[must_use]
    pub const fn copies_until(&self) -> Timestamp {
        copies_until(self.consent_expires)
    }
}

/// Until when copies of what was done under a consent are waited for.
#[must_use]
pub const fn copies_until(consent_expires: Timestamp) -> Timestamp {
    consent_expires.plus_ms(LATE_COPIES_MS)
}

#[cfg(test)]
#[path = "silence_tests.rs"]
mod tests;
