//! CSV files that a hospital keeps: columns by their header's name, in any order, with all faults at once.

use crate::fault::{FileFault, FileFaults};

/// The faults of one file as they are found.
#[derive(Default)]
pub(crate) struct Found(Vec<FileFault>);

impl Found {
    pub(crate) fn add(&mut self, position: u64, what: impl Into<String>) {
        self.0.push(FileFault { position, what: what.into() });
    }

    /// `value` if there are no faults.
    pub(crate) fn or<T>(self, unit: &'static str, value: T) -> Result<T, FileFaults> {
        if self.0.is_empty() { Ok(value) } else { Err(FileFaults { unit, faults: self.0 }) }
    }
}

/// Reads a table and gives each row's cells in the order of `columns`, trimmed, with its line. Header names are
/// compared without regard to case. A byte order mark is skipped.
pub(crate) fn rows<const N: usize>(
    csv: &[u8],
    columns: [&str; N],
    found: &mut Found,
    mut on_row: impl FnMut(u64, [&str; N], &mut Found),
) {
    let csv = csv.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(csv);
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(csv);
    let headers = match reader.headers() {
        Ok(headers) => headers.clone(),
        Err(_) => return found.add(1, "the header is not UTF-8 text"),
    };
    let places = columns.map(|name| headers.iter().position(|header| header.eq_ignore_ascii_case(name)));
    for (name, place) in columns.iter().zip(places) {
        if place.is_none() {
            found.add(1, format!("column {name} is missing"));
        }
    }
    if places.iter().any(Option::is_none) {
        return;
    }
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                if record.len() != headers.len() {
                    found.add(line, format!("has {} cells, the header has {}", record.len(), headers.len()));
                    continue;
                }
                let cells = places.map(|place| place.and_then(|n| record.get(n)).unwrap_or(""));
                on_row(line, cells, found);
            }
            Err(error) => {
                found.add(error.position().map_or(0, csv::Position::line), "is not UTF-8 text");
                if error.is_io_error() {
                    return;
                }
            }
        }
    }
}
