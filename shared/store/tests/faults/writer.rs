//! What is written, and what has to be there afterwards. Every writer's cells follow from how far it has counted, so
//! that a store can be compared with its acknowledgements cell by cell: nothing less, nothing else, nothing that was
//! removed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use handover_core::{Code, Timestamp};
use handover_store::{CellKey, Store, StoreError};

/// Writers at once.
pub(crate) const WRITERS: u64 = 4;
/// Cells that each writer overwrites in turn.
const SLOTS: u64 = 8;
/// What says to the child what it is.
pub(crate) const ROLE: &str = "HANDOVER_STORE_FAULTS_ROLE";

/// How far each writer was acknowledged.
pub(crate) type Acknowledged = [u64; WRITERS as usize];

pub(crate) fn cell_key() -> CellKey {
    CellKey::from_bytes([5; 32])
}

fn key(kind: &str, writer: u64, number: u64) -> Vec<u8> {
    let mut key = vec![u8::try_from(kind.len()).unwrap()];
    key.extend(kind.as_bytes());
    key.extend(writer.to_be_bytes());
    key.extend(number.to_be_bytes());
    key
}

fn value(writer: u64, number: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![(writer * 31 + number) as u8; bytes];
    value.splice(..8, number.to_be_bytes());
    value
}

/// What the `number`th transaction of a writer writes: an entry, a slot over an older one, the count; every fifth
/// removes an older entry.
fn transaction(writer: u64, number: u64, bytes: usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut cells = vec![
        (key("entry", writer, number), Some(value(writer, number, 100 + bytes / 16))),
        (key("slot", writer, number % SLOTS), Some(value(writer, number, bytes))),
        (key("count", writer, 0), Some(number.to_be_bytes().to_vec())),
    ];
    if number.is_multiple_of(5) {
        cells.push((key("entry", writer, number - 3), None));
    }
    cells
}

/// A writer's cells once it has counted to `last`.
fn cells(writer: u64, last: u64, bytes: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut cells = BTreeMap::new();
    for (key, value) in (1..=last).flat_map(|number| transaction(writer, number, bytes)) {
        match value {
            Some(value) => cells.insert(key, value),
            None => cells.remove(&key),
        };
    }
    cells
}

/// Writes until every writer has made `each` more transactions. `acknowledged` is told of each, in order by writer.
pub(crate) async fn write(
    store: &Store,
    each: u64,
    bytes: usize,
    acknowledged: impl Fn(u64, u64) + Clone + Send + 'static,
) -> Result<(), StoreError> {
    let tasks = (0..WRITERS).map(|writer| {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for _ in 0..each {
                let number = store
                    .write::<_, StoreError, _>(move |txn| {
                        let count = txn.get(&key("count", writer, 0))?;
                        let number = 1 + count.map_or(0, |at| u64::from_be_bytes(at.try_into().unwrap()));
                        for (key, value) in transaction(writer, number, bytes) {
                            match value {
                                Some(value) => txn.put(&key, value)?,
                                None => txn.remove(&key)?,
                            }
                        }
                        Ok(number)
                    })
                    .await?;
                acknowledged(writer, number);
            }
            Ok(())
        })
    });
    let ended = futures::future::join_all(tasks).await;
    ended.into_iter().try_for_each(|task| task.unwrap())
}

/// Everything of one kind and writer.
async fn found(store: &Store, writer: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
    store
        .read::<_, StoreError, _>(move |txn| {
            let mut found = BTreeMap::new();
            for kind in ["entry", "slot", "count"] {
                let mut prefix = key(kind, writer, 0);
                prefix.truncate(prefix.len() - 8);
                let mut after: Option<Vec<u8>> = None;
                loop {
                    let page = txn.scan(&prefix, after.as_deref(), 500)?;
                    let Some((last, _)) = page.last() else { break };
                    after = Some(last.clone());
                    found.extend(page);
                }
            }
            Ok(found)
        })
        .await
}

/// Whether a salvaged cell is one that was written at some time.
fn was_written(key_found: &[u8], found: &[u8], writer: u64, last: u64, bytes: usize) -> bool {
    let Some((number, _)) = found.split_first_chunk::<8>() else { return false };
    let number = u64::from_be_bytes(*number);
    let cells =
        if (1..=last + 1).contains(&number) { transaction(writer, number, bytes) } else { Vec::new() };
    cells.iter().any(|(key, value)| key == key_found && value.as_deref() == Some(found))
}

/// Repairs a damaged store. What comes of it is sound, and holds nothing that was never written; how much of what was
/// acknowledged, is returned.
pub(crate) async fn repair(
    folder: &Path,
    acknowledged: &Acknowledged,
    bytes: usize,
) -> Result<String, String> {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let repair = |preview| Store::repair(folder, &cell_key(), now, "who repairs", preview, |_| {});
    let all: usize =
        (0..WRITERS).zip(acknowledged).map(|(writer, &last)| cells(writer, last, bytes).len()).sum();
    let repaired = match repair(true) {
        Ok(_) => repair(false).map_err(|fault| format!("a repair that was foreseen fails: {fault}"))?,
        Err(StoreError::Damaged { .. } | StoreError::Lost { .. }) => return Ok(format!("0/{all}")),
        Err(fault) => return Err(format!("repair: {fault}")),
    };
    if repaired.is_whole || repaired.gone.is_empty() {
        return Err("it was refused, and repair finds nothing".to_owned());
    }
    let store = Store::sled(folder, &cell_key()).map_err(|fault| format!("repaired, and then {fault}"))?;
    let mut salvaged = 0;
    for (writer, &last) in (0..WRITERS).zip(acknowledged) {
        let found = found(&store, writer).await.map_err(|fault| format!("repaired, and then {fault}"))?;
        salvaged += found.len();
        if let Some((key, _)) =
            found.iter().find(|(key, value)| !was_written(key, value, writer, last, bytes))
        {
            return Err(format!("repaired, and {key:?} was never written so"));
        }
    }
    let marks = store.repairs().await.unwrap().len();
    store.close().await;
    let again = repair(true).map_err(|fault| format!("repaired, and then {fault}"))?;
    if marks != 1
        || !again.is_whole
        || !repaired.aside.is_some_and(|aside| aside.join("db").exists() || salvaged == 0)
    {
        return Err(format!("{marks} marks, {again:?}"));
    }
    Ok(format!("{salvaged}/{all}"))
}

/// How a store came out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Everything acknowledged is there.
    Whole,
    /// It says that it is damaged, in these words.
    Refused(String),
    /// Something else than what was acknowledged, and no word of it.
    Silent(String),
}

/// Opens a store and compares it with what was acknowledged.
pub(crate) async fn look(folder: &Path, acknowledged: &Acknowledged, bytes: usize) -> Outcome {
    let refused = |fault: StoreError| match fault.code() {
        Code::StoreDamaged | Code::StoreUnavailable => Outcome::Refused(fault.to_string()),
        other => Outcome::Silent(format!("refused as {other}: {fault}")),
    };
    let store = match Store::sled(folder, &cell_key()) {
        Ok(store) => store,
        Err(fault) => return refused(fault),
    };
    for (writer, &last) in (0..WRITERS).zip(acknowledged) {
        let found = match found(&store, writer).await {
            Ok(found) => found,
            Err(fault) => return refused(fault),
        };
        // One more may have been written and not been answered.
        if ![last, last + 1].iter().any(|&last| found == cells(writer, last, bytes)) {
            let count = found
                .get(&key("count", writer, 0))
                .map(|at| u64::from_be_bytes(at.clone().try_into().unwrap()));
            return Outcome::Silent(format!(
                "writer {writer} was acknowledged {last}; {count:?} and {} cells are there",
                found.len()
            ));
        }
    }
    store.close().await;
    Outcome::Whole
}

/// An acknowledgement as a line of its own.
pub(crate) fn say(out: &mut impl std::io::Write, writer: u64, number: u64) {
    out.write_all(format!("ack {writer} {number}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The same on stdout, past the test harness, which would hold it back.
pub(crate) fn say_aloud(writer: u64, number: u64) {
    say(&mut std::io::stdout().lock(), writer, number);
}

/// Takes acknowledgements from a line. The last one may be cut off by a kill; the harness's own line may stand before
/// the first.
pub(crate) fn hear(line: &str, acknowledged: &mut Acknowledged) {
    let Some((_, numbers)) = line.split_once("ack ") else { return };
    let Some((writer, number)) = numbers.split_once(' ') else { return };
    if let (Ok(writer), Ok(number)) = (writer.parse::<usize>(), number.trim_end().parse()) {
        acknowledged[writer] = number;
    }
}

/// Prints a line that is for the parent, past the test harness.
pub(crate) fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}
