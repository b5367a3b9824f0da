//! Questions to a process that runs, by its control socket: what its commands ask, many times faster.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use handover_tests::moves::Victim;
use serde_json::{Value, json};

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(60);

/// An answer, and the content that came before it.
fn ask(stage: &Stage, victim: Victim, request: &Value) -> Result<(Value, Vec<Value>)> {
    let mut stream = UnixStream::connect(stage.data(victim)?.join("control.sock"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut events = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if let Some(event) = line.get("event") {
            events.push(event.clone());
        } else if let Some(result) = line.get("result") {
            return Ok((result.clone(), events));
        } else {
            bail!("{request}\n  came: {line}");
        }
    }
    bail!("no answer to {request}")
}

fn node(stage: &Stage, at: Victim, operation: &Value) -> Result<(Value, Vec<Value>)> {
    ask(stage, at, &json!({ "staff": "the fault run", "operation": operation }))
}

/// A hospital's transfers.
pub(crate) fn transfers(stage: &Stage, at: Victim) -> Result<Value> {
    Ok(node(stage, at, &json!({ "do": "transfer-list" }))?.0)
}

/// A patient's records at a hospital.
pub(crate) fn records(stage: &Stage, at: Victim, patient: &str) -> Result<Vec<Value>> {
    let (listed, _) =
        node(stage, at, &json!({ "do": "records-list", "patient": patient, "departments": [] }))?;
    listed.get("records").and_then(Value::as_array).cloned().context("no records")
}

/// A record's content: text, or of a file its bytes in base64.
pub(crate) fn content(stage: &Stage, at: Victim, patient: &str, record: &str) -> Result<String> {
    let shown = node(stage, at, &json!({ "do": "records-show", "patient": patient, "record": record }))?;
    let pieces = shown.1.iter().filter_map(|event| event.get("text").or(event.get("base64"))?.as_str());
    Ok(pieces.collect())
}

/// What the index answers.
pub(crate) fn index(stage: &Stage, op: &str) -> Result<Value> {
    Ok(ask(stage, Victim::Index, &json!({ "op": op }))?.0)
}

/// A hospital's check of everything that it has stored.
pub(crate) fn check(stage: &Stage, at: Victim) -> Result<Value> {
    Ok(node(stage, at, &json!({ "do": "check" }))?.0)
}

/// The whole ledger.
pub(crate) fn entries(stage: &Stage) -> Result<Value> {
    let (mut all, mut after) = (Vec::new(), Value::Null);
    loop {
        let (page, _) = ask(stage, Victim::Index, &json!({ "op": "ledger-entries", "after": after }))?;
        all.extend(page.get("entries").and_then(Value::as_array).context("no entries")?.iter().cloned());
        after = page.get("next").cloned().unwrap_or_default();
        if after.is_null() {
            return Ok(json!({ "entries": all }));
        }
    }
}
