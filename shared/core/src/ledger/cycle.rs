//! Settlement cycles. A cycle is a calendar month (UTC) for now; labels order as the months do.

use std::fmt;
use std::str::FromStr;

use crate::Timestamp;
use crate::codec::{DecodeError, Field, Value};

use super::LedgerError;

/// A settlement cycle's label: `2026-11`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cycle(String);

/// Characters of `YYYY-MM`.
const LABEL_CHARS: usize = 7;

impl Cycle {
    /// The calendar month that `at` is in.
    ///
    /// # Errors
    /// [`LedgerError::OutOfRange`] outside of the years 0000 to 9999.
    pub fn of(at: Timestamp) -> Result<Self, LedgerError> {
        let written = at.to_string();
        written
            .get(..LABEL_CHARS)
            .and_then(|label| label.parse().ok())
            .filter(|_| written.get(LABEL_CHARS..).is_some_and(|rest| rest.starts_with('-')))
            .ok_or(LedgerError::OutOfRange("date"))
    }

    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Cycle {
    type Err = crate::id::InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = crate::id::InvalidId { kind: "settlement cycle", reason: "needs YYYY-MM" };
        let digits = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
        match text.split_once('-') {
            Some((year, month)) if digits(year, 4) && digits(month, 2) && ("01"..="12").contains(&month) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(fault),
        }
    }
}

impl Field for Cycle {
    fn to_value(&self) -> Option<Value> {
        self.0.to_value()
    }

    fn from_value(value: Option<Value>) -> Result<Self, DecodeError> {
        String::from_value(value)?.parse().map_err(|fault| DecodeError::value(format!("{fault}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_calendar_month() {
        for (ms, label) in [(0, "1970-01"), (951_782_400_000, "2000-02"), (-1, "1969-12")] {
            assert_eq!(Cycle::of(Timestamp::from_millis(ms)).unwrap().as_str(), label);
        }
        assert!(Cycle::of(Timestamp::from_millis(i64::MAX)).is_err());
        assert!(Cycle::of(Timestamp::from_millis(i64::MIN)).is_err());
        for bad in ["", "2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-01-01"] {
            assert!(bad.parse::<Cycle>().is_err(), "{bad}");
        }
    }
}
