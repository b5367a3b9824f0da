//! What must not be known: short things too, each as a text of its own or a number.

use std::collections::BTreeSet;

use anyhow::Result;
use handover_scenarios::json::{list, text};
use handover_scenarios::world::World;
use handover_tests::index_data::files_below;
use handover_tests::said::Wanted;
use serde_json::Value;

use super::plays::{
    BORN, CLINICIAN, CODES, FAMILY, GIVEN, NEW_NUMBER, NUMBER, PHONE, Played, REASON, REVIEW, ROLE, TESTS,
};

/// Days from 1970-01-01 to the birth date, and its milliseconds.
const BORN_DAY: i128 = -4_422;
const DAY_MS: i128 = 24 * 60 * 60 * 1000;
/// A code of digits only has to be longer than a port.
const MIN_DIGITS: usize = 6;
const MIN_CHARS: usize = 3;

/// Everything of the patient of this test.
pub(crate) fn of_ida(played: &Played) -> Wanted {
    let mut wanted = Wanted::default();
    for (what, text) in [
        ("a family name", FAMILY),
        ("a given name", GIVEN),
        ("a record number", NUMBER),
        ("a record number here", NEW_NUMBER),
        ("a contact", PHONE),
        ("a contact, without its beginning", "555-0142"),
        ("a link code", &played.link_code),
        ("a clinician", CLINICIAN),
        ("a role", ROLE),
        ("a reason", REASON),
        ("a review", REVIEW),
    ] {
        wanted.text(what, text);
    }
    for born in
        [BORN, "19571123", "23.11.1957", "11/23/1957", "23/11/1957", "November 23, 1957", "23 Nov 1957"]
    {
        wanted.text("a birth date", born);
    }
    for born in [BORN_DAY, BORN_DAY * DAY_MS, BORN_DAY * DAY_MS / 1000, 19_571_123] {
        wanted.number("a birth date", born);
    }
    for code in CODES.into_iter().chain(TESTS.map(|(code, _)| code)) {
        wanted.text("a code", code);
    }
    for (_, price) in TESTS {
        wanted.number("a price", price);
        wanted.text("a price", &format!("{}.{:02}", price / 100, price % 100));
    }
    wanted
}

/// The departments that records are filed in, and what stands short in the records of all others.
pub(crate) fn of_everybody(world: &World, into: &mut Wanted) -> Result<()> {
    for hospital in world.hospitals() {
        let Ok(listed) = world.node(hospital, &["transfer", "list"])?.json() else { continue };
        for transfer in list(&listed, "transfers") {
            let shown = world.node(hospital, &["transfer", "show", text(transfer, "transfer")])?.json()?;
            let departments = shown.get("departments").and_then(Value::as_object);
            for department in departments.into_iter().flat_map(|it| it.keys()) {
                into.text("a department", department);
            }
        }
    }
    let mut short = BTreeSet::new();
    files_below(&world.records_folder(), &mut |path| {
        of_records("", &serde_json::from_slice(&std::fs::read(path)?)?, &mut short);
        Ok(())
    })?;
    short.iter().for_each(|(what, it)| into.text(what, it));
    Ok(())
}

/// Codes, names, numbers and birth dates.
fn of_records(key: &str, value: &Value, into: &mut BTreeSet<(&'static str, String)>) {
    match value {
        Value::String(text) => {
            let is_number = text.chars().all(|it| it.is_ascii_digit());
            let is_telling = text.chars().count() >= if is_number { MIN_DIGITS } else { MIN_CHARS };
            let what = match key {
                // Words such as "final" stand everywhere; what tells something has digits.
                "code" if text.chars().any(|it| it.is_ascii_digit()) => Some("a code of records"),
                "family" | "given" => Some("a name of records"),
                "birthDate" => Some("a birth date of records"),
                "value" if text.chars().any(|it| it.is_ascii_digit()) => Some("an identifier of records"),
                _ => None,
            };
            if let Some(what) = what.filter(|_| is_telling) {
                into.insert((what, text.clone()));
            }
        }
        Value::Array(values) => values.iter().for_each(|value| of_records(key, value, into)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| of_records(key, value, into)),
        _ => {}
    }
}
