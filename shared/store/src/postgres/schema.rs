//! The tables, by numbered steps that are applied once, in a transaction, one process at a time.
//!
//! Invariant: a schema of a newer version is not touched.

use super::connection::{Connection, Fault};
use crate::meta::Meta;
use crate::{StoreError, Tables};

/// What leads from one version to the next; the first makes version 1.
///
/// `cells` is ordered by its key as bytes. Values are ciphertext, which does not get smaller: they are stored as they
/// are. `owner` has one row: who may write, and the last group of transactions that was committed, a number that never
/// falls. `owner_before` keeps how far each former owner got. `pulse` is the owner's sign of life, apart, because it is
/// written beside the groups.
const STEPS: &[&str] = &["
    CREATE TABLE cells (key bytea PRIMARY KEY, value bytea NOT NULL);
    ALTER TABLE cells ALTER COLUMN value SET STORAGE EXTERNAL;
    CREATE TABLE owner (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        token bytea NOT NULL,
        last_group bigint NOT NULL,
        asked bigint NOT NULL,
        holder text NOT NULL,
        since timestamptz NOT NULL
    );
    CREATE TABLE owner_before (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        token bytea NOT NULL,
        last_group bigint NOT NULL,
        until timestamptz NOT NULL
    );
    CREATE INDEX owner_before_token ON owner_before (token);
    CREATE TABLE pulse (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        token bytea NOT NULL,
        beat bigint NOT NULL
    );
"];

/// Brings the schema to this version; makes it, where a store may be made.
pub(super) fn migrate(connection: &Connection, meta: &Meta) -> Result<(), Fault> {
    connection.batch("BEGIN")?;
    let lock = connection.lock_key("migration");
    connection.query("SELECT pg_advisory_xact_lock($1)", &[&lock])?;
    let schema = connection.schema();
    let there = "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL, \
         to_regclass(quote_ident($1) || '.version') IS NOT NULL";
    let there = connection.query(there, &[&schema])?;
    let (has_schema, has_version) = there.first().map_or((false, false), |row| (row.get(0), row.get(1)));
    if !has_version {
        meta.admit_new().map_err(Fault::Store)?;
    }
    // Whoever made them beforehand gives no right to make more.
    if !has_schema {
        connection.batch(&format!("CREATE SCHEMA \"{schema}\""))?;
    }
    lead_on(connection, "version", STEPS)?;
    connection.batch("COMMIT")
}

/// The same for the tables that stand beside the cells.
pub(super) fn migrate_tables(connection: &Connection, tables: &Tables) -> Result<(), Fault> {
    connection.batch("BEGIN")?;
    connection.query("SELECT pg_advisory_xact_lock($1)", &[&connection.lock_key("migration")])?;
    // Functions keep the path that they are made under: nobody's temporary table comes before the one that is meant.
    connection.batch(&format!("SET LOCAL search_path = \"{}\", pg_temp", connection.schema()))?;
    lead_on(connection, &format!("{}_version", tables.name), tables.steps)?;
    connection.batch("COMMIT")
}

/// Carries out the steps that were not yet; which were, stands in the table `version`.
fn lead_on(connection: &Connection, version: &str, steps: &[&str]) -> Result<(), Fault> {
    let there = connection.query("SELECT to_regclass($1) IS NOT NULL", &[&version])?;
    if !there.first().is_some_and(|row| row.get(0)) {
        connection.batch(&format!(
            "CREATE TABLE {version} \
             (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), number integer NOT NULL)"
        ))?;
    }
    let known = i32::try_from(steps.len()).unwrap_or(i32::MAX);
    let rows = connection.query(&format!("SELECT number FROM {version}"), &[])?;
    let found: i32 = rows.first().map_or(0, |row| row.get(0));
    if !(0..=known).contains(&found) {
        return Err(Fault::Store(StoreError::UnknownFormat {
            found: u8::try_from(found).unwrap_or(u8::MAX),
        }));
    }
    for step in steps.iter().skip(usize::try_from(found).unwrap_or_default()) {
        connection.batch(step)?;
    }
    if found < known {
        let noted = format!(
            "INSERT INTO {version} (number) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET number = $1"
        );
        connection.query(&noted, &[&known])?;
    }
    Ok(())
}
