//! A connection with its statements: the transactions that the engine is made of.
//!
//! Invariant: a transaction that meets a fault stays at fault, whatever its job makes of the error, so that nothing of
//! it counts.

use std::cell::{Cell as Slot, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::RangeInclusive;

use futures::future::{join, join_all, join3};
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::AWAY_LIMIT;
use super::connection::{Connection, Fault};
use super::owner::OVERTAKEN;
use crate::tables::{Appended, TableView};
use crate::txn::{Cell, View, Writes};
use crate::{KEY_MAX_BYTES, StoreError};

/// The most rows that a comparison names.
const DIFFERING_MAX: u32 = 100;
/// Greater than every key.
const BEHIND_ALL: [u8; KEY_MAX_BYTES + 1] = [0xff; KEY_MAX_BYTES + 1];
/// Who opened the store last, as it is noted in every store.
pub(super) type Token = [u8; 16];

pub(super) struct Session {
    pub(super) connection: Connection,
    get: Statement,
    scan: Statement,
    put: Statement,
    remove: Statement,
    claim: Statement,
    owned: Statement,
    /// What appends to a table, once it was needed.
    append: RefCell<BTreeMap<&'static str, Statement>>,
    opening: RefCell<Option<Opening>>,
    fault: RefCell<Option<Fault>>,
    /// The last group that the transaction reads, if that was asked.
    seen: Slot<i64>,
}

/// What the transaction begins with that nothing was asked in yet.
enum Opening {
    Writing,
    Reading { token: Token, confirmed: i64 },
}

impl Session {
    /// The tables have to be there.
    pub(super) fn prepare(connection: Connection) -> Result<Self, Fault> {
        Ok(Self {
            get: connection.prepare("SELECT value FROM cells WHERE key = $1")?,
            scan: connection
                .prepare("SELECT key, value FROM cells WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3")?,
            put: connection.prepare(
                "INSERT INTO cells (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?,
            remove: connection.prepare("DELETE FROM cells WHERE key = ANY($1)")?,
            claim: connection.prepare("UPDATE owner SET last_group = $2 WHERE token = $1")?,
            owned: connection.prepare("SELECT last_group FROM owner WHERE token = $1")?,
            append: RefCell::default(),
            opening: RefCell::new(None),
            fault: RefCell::new(None),
            seen: Slot::new(0),
            connection,
        })
    }

    /// Begins a transaction that may write.
    pub(super) fn begin(&self) {
        self.fault.take();
        self.opening.replace(Some(Opening::Writing));
    }

    /// Begins one that reads what was committed when it began, at least everything up to the group `confirmed`. There
    /// is one writer for each store, so a snapshot of its commits is a state between two of them.
    pub(super) fn begin_reading(&self, token: &Token, confirmed: i64) {
        self.fault.take();
        self.seen.set(confirmed);
        self.opening.replace(Some(Opening::Reading { token: *token, confirmed }));
    }

    /// The last group of which this reading can have seen something.
    pub(super) fn seen(&self) -> i64 {
        self.seen.get()
    }

    /// Asks within the transaction. What begins it goes out with the first question, and is judged before the answer.
    fn ask<T>(&self, asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Fault> {
        let client = self.connection.client();
        match self.opening.take() {
            None => self.connection.wait(asked),
            Some(Opening::Writing) => self.connection.wait(async {
                let begin = client.batch_execute(self.connection.begin());
                let (begun, answer) = join(begin, asked).await;
                begun?;
                answer
            }),
            Some(Opening::Reading { token, confirmed }) => {
                let token = &token[..];
                let values: [&(dyn ToSql + Sync); 1] = [&token];
                let (owned, answer) = self.connection.wait(async {
                    let begin = client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
                    let (begun, owned, answer) =
                        join3(begin, client.query_opt(&self.owned, &values), asked).await;
                    begun?;
                    Ok((owned?, answer?))
                })?;
                self.seen.set(owned.ok_or(TAKEN_OVER)?.get(0));
                if self.seen.get() < confirmed {
                    return Err(Fault::Lost("it is behind what was confirmed".to_owned()));
                }
                Ok(answer)
            }
        }
    }

    /// The last group that this owner committed.
    pub(super) fn last_group(&self, token: &Token) -> Result<i64, Fault> {
        let token = &token[..];
        let values: [&(dyn ToSql + Sync); 1] = [&token];
        let row = self.ask(self.connection.client().query_opt(&self.owned, &values))?;
        Ok(row.ok_or(TAKEN_OVER)?.get(0))
    }

    /// Sends a transaction's writes, and notes which group they are. Refused when the store has another owner.
    pub(super) fn write(
        &self,
        writes: &Writes,
        appended: &Appended,
        token: &Token,
        group: i64,
    ) -> Result<(), Fault> {
        let (mut keys, mut values, mut gone) =
            (Vec::<&[u8]>::new(), Vec::<&[u8]>::new(), Vec::<&[u8]>::new());
        for (key, value) in writes {
            match value {
                Some(value) => {
                    keys.push(key);
                    values.push(value);
                }
                None => gone.push(key),
            }
        }
        // By itself, if nothing was read: behind a beginning that failed each write would be a commit of its own.
        if self.opening.take().is_some() {
            self.connection.batch(self.connection.begin())?;
        }
        let client = self.connection.client();
        let all = async {
            let token = &token[..];
            let claim: [&(dyn ToSql + Sync); 2] = [&token, &group];
            let put: [&(dyn ToSql + Sync); 2] = [&keys, &values];
            let remove: [&(dyn ToSql + Sync); 1] = [&gone];
            let putting =
                async { if keys.is_empty() { Ok(0) } else { client.execute(&self.put, &put).await } };
            let removing =
                async { if gone.is_empty() { Ok(0) } else { client.execute(&self.remove, &remove).await } };
            let (claimed, put, removed) = join3(client.execute(&self.claim, &claim), putting, removing).await;
            // The first error is the cause; those after it say that the transaction is over.
            let claimed = claimed?;
            put?;
            removed?;
            Ok(claimed)
        };
        if self.connection.wait(all)? != 1 {
            return Err(TAKEN_OVER);
        }
        if appended.is_empty() { Ok(()) } else { self.append(appended) }
    }

    /// Takes rows out, sends others, and has every constraint on them looked at.
    fn append(&self, appended: &Appended) -> Result<(), Fault> {
        for (table, from) in appended.taken_out() {
            self.connection.batch(&format!(
                "ALTER TABLE {table} DISABLE TRIGGER USER; DELETE FROM {table} WHERE sequence >= {from}; \
                 ALTER TABLE {table} ENABLE TRIGGER USER"
            ))?;
        }
        let mut parts = Vec::new();
        for (table, rows) in appended.by_table() {
            let known = self.append.borrow().get(table).cloned();
            let statement = match known {
                Some(statement) => statement,
                None => {
                    let all = rows_of(table, 1);
                    let made =
                        self.connection.prepare(&format!("INSERT INTO {table} SELECT * FROM {all}"))?;
                    self.append.borrow_mut().insert(table, made.clone());
                    made
                }
            };
            parts.push((statement, rows));
        }
        let client = self.connection.client();
        let appending = parts.iter().map(|(statement, rows)| async move {
            let values: [&(dyn ToSql + Sync); 1] = [rows];
            client.execute(statement, &values).await
        });
        self.connection.wait(async {
            let looking = client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE");
            let (appended, looked) = join(join_all(appending), looking).await;
            // The first error is the cause.
            appended.into_iter().try_for_each(|it| it.map(drop))?;
            looked
        })
    }

    pub(super) fn commit(&self) -> Result<(), Fault> {
        // What asked nothing did not begin.
        if self.opening.take().is_some() {
            return Ok(());
        }
        self.connection.wait_for(AWAY_LIMIT, self.connection.client().batch_execute("COMMIT"))
    }

    /// Ends a transaction whose writes are not to be kept. A connection on which that fails is of no use.
    pub(super) fn abandon(&self) -> Result<(), Fault> {
        if self.opening.take().is_some() { Ok(()) } else { self.connection.batch("ROLLBACK") }
    }

    /// What the transaction's reading met.
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Keeps the first fault for [`Session::check`]; the job is told as well.
    fn note<T>(&self, read: Result<T, Fault>) -> Result<T, StoreError> {
        read.map_err(|fault| self.fault.borrow_mut().get_or_insert(fault).clone().into_error("read"))
    }

    fn is_sound(&self) -> Result<(), StoreError> {
        self.fault.borrow().clone().map_or(Ok(()), |fault| Err(fault.into_error("read")))
    }
}

/// Why a process stops that finds another one's name in the store.
const TAKEN_OVER: Fault = Fault::Fenced(OVERTAKEN);

impl View for Session {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.is_sound()?;
        let values: [&(dyn ToSql + Sync); 1] = [&key];
        let row = self.ask(self.connection.client().query_opt(&self.get, &values));
        Ok(self.note(row)?.map(|row| row.get(0)))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Cell>, StoreError> {
        self.is_sound()?;
        let from = match after {
            // The next key in order is the same with a zero byte.
            Some(after) if after >= prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        let behind = behind(prefix);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values: [&(dyn ToSql + Sync); 3] = [&from, &behind, &limit];
        let rows = self.ask(self.connection.client().query(&self.scan, &values));
        Ok(self.note(rows)?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn tables(&self) -> Option<&dyn TableView> {
        self.connection.has_tables.then_some(self)
    }
}

impl TableView for Session {
    fn last(&self, table: &'static str) -> Result<Option<u64>, StoreError> {
        self.is_sound()?;
        let sql = format!("SELECT max(sequence) FROM {table}");
        let row = self.note(self.ask(self.connection.client().query_one(&sql, &[])))?;
        Ok(row.get::<_, Option<i64>>(0).and_then(|last| u64::try_from(last).ok()))
    }

    fn differing(
        &self,
        table: &'static str,
        range: RangeInclusive<u64>,
        rows: &str,
    ) -> Result<Vec<u64>, StoreError> {
        self.is_sound()?;
        let (given, kept) = (rows_of(table, 3), format!("{table} WHERE sequence BETWEEN $1 AND $2"));
        let sql = format!(
            "SELECT DISTINCT sequence FROM ((SELECT * FROM {given} EXCEPT ALL SELECT * FROM {kept}) \
             UNION ALL (SELECT * FROM {kept} EXCEPT ALL SELECT * FROM {given})) AS differing \
             ORDER BY sequence LIMIT {DIFFERING_MAX}"
        );
        let [from, until] = [range.start(), range.end()].map(|it| i64::try_from(*it).unwrap_or(i64::MAX));
        let values: [&(dyn ToSql + Sync); 3] = [&from, &until, &rows];
        let found = self.note(self.ask(self.connection.client().query(&sql, &values)))?;
        Ok(found.iter().filter_map(|row| u64::try_from(row.get::<_, i64>(0)).ok()).collect())
    }
}

/// The rows of a table that the parameter with this number holds as a JSON array.
fn rows_of(table: &str, parameter: u8) -> String {
    format!("json_populate_recordset(NULL::{table}, ${parameter}::text::json)")
}

/// The first key in order behind all that start with `prefix`.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut behind = prefix.to_vec();
    while let Some(last) = behind.pop() {
        if let Some(next) = last.checked_add(1) {
            behind.push(next);
            return behind;
        }
    }
    BEHIND_ALL.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_what_follows_it() {
        assert_eq!(behind(&[1, 2]), [1, 3]);
        assert_eq!(behind(&[1, 0xff, 0xff]), [2]);
        assert_eq!(behind(&[]), BEHIND_ALL);
        assert_eq!(behind(&[0xff; 4]), BEHIND_ALL);
        assert!(behind(&[0xff]).as_slice() > [0xff; KEY_MAX_BYTES].as_slice());
    }
}
