//! How a command says that it was not done.

use std::io::{self, Write};

use handover_core::Code;

/// The schema of an error with `--json`.
const PROBLEM_SCHEMA: &str = "handover/problem/1";

/// Why a command was not done: a code, what exactly, and what to do when that is more than the code's text says.
/// For the person at the terminal: no secrets, no patient data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct CliError {
    /// The stable code; it decides the exit code.
    pub code: Code,
    /// What exactly; may be empty, may have several lines.
    pub detail: String,
    /// What to do next, if the code's own text does not say it.
    pub next: Option<String>,
}

impl CliError {
    /// An error with its detail.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), next: None }
    }

    /// The same with a next step.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Writes it for people, or as one JSON line.
    ///
    /// # Errors
    /// What the writer said.
    pub fn write(&self, json: bool, writer: &mut dyn Write) -> io::Result<()> {
        if json {
            let document = serde_json::json!({
                "schema": PROBLEM_SCHEMA,
                "code": self.code.as_str(),
                "text": self.code.text(),
                "detail": self.detail,
                "next": self.next,
            });
            return writeln!(writer, "{document}");
        }
        writeln!(writer, "error[{}]: {}", self.code, self.code.text())?;
        for line in self.detail.lines().chain(self.next.as_deref().unwrap_or_default().lines()) {
            writeln!(writer, "  {line}")?;
        }
        Ok(())
    }
}

impl From<Code> for CliError {
    fn from(code: Code) -> Self {
        Self::new(code, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(error: &CliError, json: bool) -> String {
        let mut bytes = Vec::new();
        error.write(json, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn people_and_programs_are_told_the_same() {
        let error = CliError::new(Code::UsageInvalid, "two\nlines").with_next("Do this.");
        let text = Code::UsageInvalid.text();
        assert_eq!(
            written(&error, false),
            format!("error[usage-invalid]: {text}\n  two\n  lines\n  Do this.\n")
        );
        let document: serde_json::Value = serde_json::from_str(&written(&error, true)).unwrap();
        assert_eq!(document["schema"], PROBLEM_SCHEMA);
        assert_eq!(document["code"], "usage-invalid");
        assert_eq!(document["detail"], "two\nlines");
    }
}
