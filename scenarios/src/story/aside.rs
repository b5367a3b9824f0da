//! What an import could not read and kept aside, as `handover-node --json import` says it on stderr.

use serde_json::Value;

use crate::json::{at, text};
use crate::process::Answer;

/// The schema of its lines.
const SCHEMA: &str = "handover/kept-aside/1";

/// An entry of a file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAside {
    /// Which one.
    pub entry: String,
    /// Why.
    pub reason: String,
    /// Whether its bytes are kept for a second try; else they are in the file only.
    pub is_kept: bool,
}

/// What was kept aside by the import that answered so.
pub(super) fn of(answer: &Answer) -> Vec<KeptAside> {
    let lines = answer.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let aside = lines.filter(|line| text(line, "schema") == SCHEMA);
    aside
        .map(|line| KeptAside {
            entry: text(&line, "entry").to_owned(),
            reason: text(&line, "reason").to_owned(),
            is_kept: at(&line, "kept") == true,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_lines_are_read() {
        let stderr = "a log line\n\
            {\"schema\":\"handover/kept-aside/1\",\"file\":\"a.json\",\"entry\":\"entry 1\",\"reason\":\"no id\",\"kept\":true}\n\
            {\"schema\":\"handover/problem/1\",\"code\":\"busy\"}\n";
        let answer =
            Answer { command: String::new(), exit: Some(0), stdout: Vec::new(), stderr: stderr.to_owned() };
        let expected = KeptAside { entry: "entry 1".to_owned(), reason: "no id".to_owned(), is_kept: true };
        assert_eq!(of(&answer), [expected]);
    }
}
