//! Expectations, and how it is said that one was not met.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};
use serde_json::Value;

use super::Expect;
use crate::process::Answer;

/// What was sent is not what was filed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Difference {}

/// The answer's JSON; nothing, if it was refused as expected.
pub(super) fn answered(answer: &Answer, expect: Option<&Expect>) -> Result<Option<Value>> {
    let Some(expect) = expect else { return answer.json().map(Some) };
    let code_fits = expect.code.is_none() || expect.code == answer.problem();
    let exit_fits = expect.exit.is_none() || expect.exit == answer.exit;
    if code_fits && exit_fits && answer.exit != Some(0) {
        return Ok(None);
    }
    let (code, exit) = (
        expect.code.as_deref().unwrap_or("any"),
        expect.exit.map_or("not 0".to_owned(), |it| it.to_string()),
    );
    bail!(
        "expected: refused with code {code}, exit code {exit}\n  came: {}\n  from: {}",
        answer.ended(),
        answer.command
    )
}

/// # Errors
/// They differ.
pub(super) fn equal<T: PartialEq + fmt::Debug>(what: &str, expected: &T, came: &T) -> Result<()> {
    if expected == came {
        return Ok(());
    }
    bail!("{what}\n  expected: {expected:?}\n  came: {came:?}")
}

/// Counts for people: `laboratory 12, pharmacy 3`.
pub(super) fn listed(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
