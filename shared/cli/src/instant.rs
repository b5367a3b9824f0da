//! Points in time, as every program takes them.

use handover_core::Timestamp;

/// A day (its beginning in UTC) or an instant (RFC 3339).
///
/// # Errors
/// What is needed.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    let day =
        || text.parse::<jiff::civil::Date>()?.to_zoned(jiff::tz::TimeZone::UTC).map(|at| at.timestamp());
    text.parse::<jiff::Timestamp>()
        .or_else(|_| day())
        .map(|at| Timestamp::from_millis(at.as_millisecond()))
        .map_err(|_| "needs a day (2024-05-01) or an instant (2024-05-01T12:00:00Z)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_instants() {
        for (text, shown) in [
            ("2024-05-01", Some("2024-05-01T00:00:00.000Z")),
            ("2024-05-01T12:30:00+02:00", Some("2024-05-01T10:30:00.000Z")),
            ("2024-13-01", None),
            ("yesterday", None),
        ] {
            assert_eq!(instant(text).ok().map(|at| at.to_string()).as_deref(), shown, "{text}");
        }
    }
}
