//! Tables with constraints that stand beside the cells, where the engine is a database: what a room wants people to be
//! able to ask the database itself, written in the transaction that writes the cells. Embedded engines have none.
//!
//! Cells are what counts: they are sealed, moved and compared. Rows are in plain, and whatever contradicts a table's
//! constraints takes its whole transaction with it.

use std::ops::RangeInclusive;

use crate::{StoreError, TRANSACTION_MAX_BYTES};

/// Tables that a database keeps for one room, in the schema of the store. Each has a column `sequence` (bigint).
#[derive(Debug)]
pub struct Tables {
    /// Begins the names of all of them. Which steps were made stands in a table NAME`_version`.
    pub name: &'static str,
    /// SQL that leads from one version to the next, each carried out once; the first makes version 1. Rows name every
    /// column, and those that they leave out are null: a column that is added later may be.
    pub steps: &'static [&'static str],
}

/// A transaction's part that has to do with tables.
pub struct Rows<'a> {
    pub(crate) tables: &'a dyn TableView,
    /// Where what is appended is collected; not in a transaction that reads.
    pub(crate) appended: Option<&'a mut Appended>,
}

impl Rows<'_> {
    /// Appends a row: a JSON object by column, each value as PostgreSQL reads it from text. What contradicts a
    /// constraint is found when the transaction is committed, which is [`StoreError::Contradicted`] then.
    ///
    /// # Errors
    /// [`StoreError::TransactionTooLarge`], [`StoreError::ReadOnly`].
    pub fn append(&mut self, table: &'static str, row: String) -> Result<(), StoreError> {
        let appended = self.appended.as_mut().ok_or(StoreError::ReadOnly)?;
        if appended.bytes.saturating_add(row.len()) > TRANSACTION_MAX_BYTES {
            return Err(StoreError::TransactionTooLarge);
        }
        appended.push(table, row);
        Ok(())
    }

    /// Takes all rows out whose `sequence` is not below a number, before anything of this transaction is appended to any
    /// table. Triggers of the tables' own do not keep them.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`].
    pub fn take_out(&mut self, table: &'static str, from: u64) -> Result<(), StoreError> {
        let appended = self.appended.as_mut().ok_or(StoreError::ReadOnly)?;
        appended.taken_out.push((table, from));
        Ok(())
    }

    /// The greatest `sequence` in a table, without what was appended here.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn last(&self, table: &'static str) -> Result<Option<u64>, StoreError> {
        self.tables.last(table)
    }

    /// Where a table differs from these rows, which are to be all of those whose `sequence` lies in a range: the lowest
    /// sequence numbers of rows that are missing, others, or there besides, without what was appended here.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn differing(
        &self,
        table: &'static str,
        range: RangeInclusive<u64>,
        rows: &[String],
    ) -> Result<Vec<u64>, StoreError> {
        self.tables.differing(table, range, &array(rows))
    }
}

/// Tables as an engine reads them.
pub(crate) trait TableView {
    fn last(&self, table: &'static str) -> Result<Option<u64>, StoreError>;
    /// `rows` is a JSON array.
    fn differing(
        &self,
        table: &'static str,
        range: RangeInclusive<u64>,
        rows: &str,
    ) -> Result<Vec<u64>, StoreError>;
}

/// Rows that are not yet in the engine, by table, in the order in which the tables were first named; and from where on
/// those that are there are taken out before.
#[derive(Default)]
pub(crate) struct Appended {
    taken_out: Vec<(&'static str, u64)>,
    tables: Vec<(&'static str, Vec<String>)>,
    bytes: usize,
}

impl Appended {
    fn push(&mut self, table: &'static str, row: String) {
        self.bytes = self.bytes.saturating_add(row.len());
        match self.tables.iter_mut().find(|(named, _)| *named == table) {
            Some((_, rows)) => rows.push(row),
            None => self.tables.push((table, vec![row])),
        }
    }

    pub(crate) fn extend(&mut self, others: Self) {
        self.taken_out.extend(others.taken_out);
        for (table, rows) in others.tables {
            rows.into_iter().for_each(|row| self.push(table, row));
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.taken_out.is_empty()
    }

    /// Tables, and the `sequence` from which on their rows are taken out.
    pub(crate) fn taken_out(&self) -> &[(&'static str, u64)] {
        &self.taken_out
    }

    /// Each table with its rows as one JSON array.
    pub(crate) fn by_table(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.tables.iter().map(|(table, rows)| (*table, array(rows)))
    }
}

fn array(rows: &[String]) -> String {
    format!("[{}]", rows.join(","))
}
