//! A clinical date as an instant, for periods: FHIR's `YYYY`, `YYYY-MM`, `YYYY-MM-DD` begin at their first moment in
//! UTC; with a time, the offset counts (FHIR R4, datatypes `dateTime` and `instant`).

use handover_core::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// The instant, or `None` if the text is no date.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let instant = match text.len() {
        4 => midnight(&format!("{text}-01-01"))?,
        7 => midnight(&format!("{text}-01"))?,
        10 => midnight(text)?,
        _ => text.parse().ok().or_else(|| utc(text.parse::<DateTime>().ok()?))?,
    };
    Some(Timestamp::from_millis(instant.as_millisecond()))
}

fn midnight(day: &str) -> Option<jiff::Timestamp> {
    utc(day.parse::<Date>().ok()?.at(0, 0, 0, 0))
}

fn utc(time: DateTime) -> Option<jiff::Timestamp> {
    TimeZone::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn dates_become_instants() {
        for (text, instant) in [
            ("1987", Some("1987-01-01T00:00:00.000Z")),
            ("1987-06", Some("1987-06-01T00:00:00.000Z")),
            ("2020-02-29", Some("2020-02-29T00:00:00.000Z")),
            ("2020-02-29T10:11:12+02:00", Some("2020-02-29T08:11:12.000Z")),
            ("2020-02-29T10:11:12.345Z", Some("2020-02-29T10:11:12.345Z")),
            ("2020-02-29T10:11:12", Some("2020-02-29T10:11:12.000Z")),
            ("2020-13", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(timestamp(text).map(|it| it.to_string()).as_deref(), instant, "{text}");
        }
    }
}
