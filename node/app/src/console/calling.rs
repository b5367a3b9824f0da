//! Having an operation carried out: by the running node over its control socket, else here, on the opened folder.
//! Either way its events are shown as they come.

use std::fs::File;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handover_cli::{CliError, Output, Progress, Unit};
use handover_core::Code;
use handover_web::control::{self, ControlError, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Console;
use crate::config::usage;
use crate::operations::{Command, Event, Events, Operation, perform};
use crate::show;

/// Events that may wait to be shown.
const EVENTS_WAITING: usize = 64;

impl Console {
    /// Has an operation carried out, by the running node if there is one.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        label: &str,
    ) -> Result<T, CliError> {
        self.call_to(operation, label, None).await
    }

    /// The same; its content goes into a file.
    pub(super) async fn call_into<T: DeserializeOwned>(
        &self,
        operation: Operation,
        file: File,
    ) -> Result<T, CliError> {
        self.call_to(operation, "", Some(file)).await
    }

    async fn call_to<T: DeserializeOwned>(
        &self,
        operation: Operation,
        label: &str,
        file: Option<File>,
    ) -> Result<T, CliError> {
        let command = Command { staff: self.staff.clone(), operation };
        let request = serde_json::to_value(&command).map_err(|error| usage(error.to_string()))?;
        let mut shown = Shown { output: self.output, label, progress: None, done: 0, file, is_cut: false };
        let called = control::call(&self.config.control_socket(), &request, |event| shown.event(event)).await;
        let value = match called {
            Ok(value) => Ok(value),
            // Asked again and again by those who watch over the node, it must not be in its way when it starts.
            Err(fault @ ControlError::NotRunning { .. })
                if matches!(command.operation, Operation::Status) =>
            {
                Err(CliError::new(fault.code(), "the node does not run").with_next("Start it: run."))
            }
            Err(ControlError::NotRunning { .. }) => self.carry_out(command, &mut shown).await,
            Err(ControlError::Refused(problem)) => Err(refused(problem)),
            Err(fault @ ControlError::Broken) => {
                let next = "Look whether the node runs, then give the command again: what was done is kept.";
                Err(CliError::new(fault.code(), fault.to_string()).with_next(next))
            }
            Err(fault) => Err(CliError::new(fault.code(), fault.to_string())),
        };
        let is_cut = shown.is_cut;
        shown.finish();
        if is_cut && value.is_ok() {
            return Err(CliError::new(Code::StoreUnavailable, "the file could not be written"));
        }
        let other = |_| CliError::new(Code::Internal, "the running node is of another version");
        serde_json::from_value(value?).map_err(other)
    }

    /// Opens the data folder and does it here.
    async fn carry_out(&self, command: Command, shown: &mut Shown<'_>) -> Result<Value, CliError> {
        let node = self.open().await?;
        let (sender, mut events) = mpsc::channel(EVENTS_WAITING);
        let work = async {
            let events = Events::to(sender);
            perform(&node, command, &events).await
        };
        let show = async {
            while let Some(event) = events.recv().await {
                shown.event(event);
            }
        };
        let (done, ()) = tokio::join!(work, show);
        node.close().await;
        done.map_err(|error| refused(error.problem()))
    }
}

/// A command is not tried again by itself: whoever gave it is told what to do.
fn refused(problem: Problem) -> CliError {
    let error = CliError::new(problem.code, problem.detail.unwrap_or_default());
    match problem.code {
        Code::Unreachable | Code::TimedOut if error.detail.is_empty() || !error.detail.contains("again") => {
            error.with_next("Give the command again once it can be reached.")
        }
        _ => error,
    }
}

/// Events as they are shown: progress and what was kept aside on stderr, content on stdout.
struct Shown<'a> {
    output: Output,
    label: &'a str,
    progress: Option<Progress>,
    done: u64,
    /// Where content goes; stdout if absent.
    file: Option<File>,
    /// Whether the file could not be written.
    is_cut: bool,
}

impl Shown<'_> {
    fn event(&mut self, event: Value) {
        match serde_json::from_value(event) {
            Ok(Event::Progress { done, total }) => {
                let unit = if total.is_some() { Unit::Bytes } else { Unit::Items };
                let progress =
                    self.progress.get_or_insert_with(|| self.output.progress(self.label, unit, total));
                progress.inc(done.saturating_sub(self.done));
                self.done = done;
            }
            Ok(Event::KeptAside { file, entry, reason, kept }) => {
                show::kept_aside(self.output.json, &file, &entry, &reason, kept);
            }
            Ok(Event::Recalled { mark }) => show::recalled_record(self.output.json, &mark),
            Ok(Event::Note { text }) => self.output.note(text),
            Ok(Event::Content { text }) if self.file.is_some() => {
                let written = self.file.as_mut().map(|file| file.write_all(text.as_bytes()));
                self.is_cut |= written.is_some_and(|written| written.is_err());
            }
            Ok(Event::Content { text }) => {
                // A reader that left is told by the line that ends the content.
                let _ = std::io::stdout().lock().write_all(text.as_bytes());
            }
            Ok(Event::Bytes { base64 }) => {
                if let Ok(bytes) = STANDARD.decode(base64) {
                    let _ = std::io::stdout().lock().write_all(&bytes);
                }
            }
            Err(_) => tracing::debug!("an event of another version was passed over"),
        }
    }

    fn finish(self) {
        if let Some(progress) = self.progress {
            progress.finish();
        }
    }
}
