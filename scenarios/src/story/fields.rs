//! Reads the fields of one table and notes every fault with its name.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

/// A table that is being read.
pub(super) struct Fields<'a> {
    table: &'a Table,
    known: BTreeSet<&'static str>,
    /// The faults found until now: field and reason.
    pub(super) faults: Vec<(String, String)>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self { table, known: BTreeSet::new(), faults: Vec::new() }
    }

    pub(super) fn fault(&mut self, field: &str, reason: impl Into<String>) {
        self.faults.push((field.to_owned(), reason.into()));
    }

    /// Notes the fields that nobody asked for.
    pub(super) fn close(mut self) -> Vec<(String, String)> {
        let table = self.table;
        for field in table.keys().filter(|field| !self.known.contains(field.as_str())).collect::<Vec<_>>() {
            self.fault(field, "is not known here");
        }
        self.faults
    }

    pub(super) fn get(&mut self, field: &'static str) -> Option<&'a Value> {
        self.known.insert(field);
        self.table.get(field)
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let found = read(self.get(field)?);
        if found.is_none() {
            self.fault(field, format!("has to be {kind}"));
        }
        found
    }

    /// A text, or nothing.
    pub(super) fn optional(&mut self, field: &'static str) -> Option<String> {
        self.read(field, "a text that is not empty", |value| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        })
    }

    /// A text; a fault and an empty one, if it is missing.
    pub(super) fn text(&mut self, field: &'static str) -> String {
        if self.get(field).is_none() {
            self.fault(field, "is missing");
        }
        self.optional(field).unwrap_or_default()
    }

    pub(super) fn number(&mut self, field: &'static str) -> Option<u64> {
        self.read(field, "a whole number", |value| {
            value.as_integer().and_then(|number| number.try_into().ok())
        })
    }

    pub(super) fn size(&mut self, field: &'static str, default: usize) -> usize {
        self.number(field).and_then(|number| number.try_into().ok()).unwrap_or(default)
    }

    pub(super) fn flag(&mut self, field: &'static str, default: bool) -> bool {
        self.read(field, "true or false", Value::as_bool).unwrap_or(default)
    }

    pub(super) fn texts(&mut self, field: &'static str) -> Option<Vec<String>> {
        self.read(field, "a list of texts", |value| {
            value.as_array()?.iter().map(|entry| entry.as_str().map(str::to_owned)).collect()
        })
    }

    pub(super) fn counts(&mut self, field: &'static str) -> Option<BTreeMap<String, u64>> {
        self.read(field, "a table of whole numbers", |value| {
            let entry =
                |(name, count): (&String, &Value)| Some((name.clone(), count.as_integer()?.try_into().ok()?));
            value.as_table()?.iter().map(entry).collect()
        })
    }
}
