//! Data on stdout, prose on stderr.

use std::io::{self, IsTerminal, Write};

use handover_core::Code;
use serde::Serialize;

use crate::{CliError, Progress, Unit};

/// How a command shows what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// One JSON object instead of text for people.
    pub json: bool,
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'a str,
    #[serde(flatten)]
    value: &'a T,
}

impl Output {
    /// Writes a command's data to stdout: with JSON, one line with `value`'s fields and `schema`; else what `human`
    /// writes. `value` has to be a struct or a map.
    ///
    /// # Errors
    /// Stdout cannot be written; a reader that has gone away is no error.
    pub fn emit(
        self,
        schema: &str,
        value: &impl Serialize,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        self.emit_to(&mut io::stdout().lock(), schema, value, human)
    }

    fn emit_to(
        self,
        writer: &mut dyn Write,
        schema: &str,
        value: &impl Serialize,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let written = if self.json {
            serde_json::to_string(&Document { schema, value })
                .map_err(io::Error::from)
                .and_then(|line| writeln!(writer, "{line}"))
        } else {
            human(writer)
        };
        match written.and_then(|()| writer.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| CliError::new(Code::Internal, format!("stdout: {error}"))),
        }
    }

    /// Writes prose for people to stderr. Silent with JSON, so that stderr then holds problems only.
    pub fn note(self, text: impl std::fmt::Display) {
        if !self.json {
            // Prose that cannot be shown is no reason to stop.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Progress on stderr: a bar on a terminal, else a line now and then; nothing with JSON.
    #[must_use]
    pub fn progress(self, label: &str, unit: Unit, total: Option<u64>) -> Progress {
        if self.json {
            Progress::silent()
        } else if io::stderr().is_terminal() {
            Progress::bar(label, unit, total)
        } else {
            Progress::lines(label, unit, total)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Quote {
        fee_minor: i64,
    }

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_json_object_or_text() {
        let quote = Quote { fee_minor: 125 };
        for (json, expected) in
            [(true, "{\"schema\":\"handover/quote/1\",\"fee_minor\":125}\n"), (false, "Fee: 1.25\n")]
        {
            let mut bytes = Vec::new();
            Output { json }
                .emit_to(&mut bytes, "handover/quote/1", &quote, |out| writeln!(out, "Fee: 1.25"))
                .unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn only_a_reader_that_left_is_forgiven() {
        let output = Output { json: true };
        let quote = Quote { fee_minor: 1 };
        output.emit_to(&mut Closed(io::ErrorKind::BrokenPipe), "s", &quote, |_| Ok(())).unwrap();
        let full = output.emit_to(&mut Closed(io::ErrorKind::StorageFull), "s", &quote, |_| Ok(()));
        assert_eq!(full.unwrap_err().code, Code::Internal);
    }
}
