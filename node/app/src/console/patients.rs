//! Patients, what they carry, and their records.

use std::io::Write as _;
use std::path::Path;

use handover_cli::CliError;
use handover_core::Code;

use super::Console;
use super::files::{carried_file, of_file, write_file};
use crate::args::{PatientTask, RecordsTask};
use crate::operations::{
    Carried, LinksListed, Operation, PatientForgotten, PatientRegistered, RecordLine, RecordsListed,
};
use crate::show;

impl Console {
    pub(super) async fn patient(&self, task: PatientTask) -> Result<(), CliError> {
        match task {
            PatientTask::Register { id, request_id } => {
                let operation = Operation::PatientRegister { patient: id, request: request_id };
                let registered: PatientRegistered = self.call(operation, "").await?;
                self.output.emit("handover/patient-registered/1", &registered, |out| {
                    show::registered(out, &registered)
                })
            }
            PatientTask::Links { resend } => {
                let listed: LinksListed = self.call(Operation::PatientLinks { resend }, "").await?;
                self.output.emit("handover/patient-links/1", &listed, |out| show::links(out, &listed))
            }
            PatientTask::Forget { id } => {
                let gone: PatientForgotten =
                    self.call(Operation::PatientForget { patient: id }, "Forget").await?;
                self.output.emit("handover/patient-forgotten/1", &gone, |out| show::forgotten(out, &gone))
            }
            PatientTask::Wallets { id } => self.wallets(id).await,
            PatientTask::Unlink { id, wallet } => self.unlink(id, wallet).await,
            PatientTask::Link(carried) => self.take(&carried.file, carried.out.as_deref(), true).await,
            PatientTask::Take(carried) => self.take(&carried.file, carried.out.as_deref(), false).await,
            PatientTask::Info { out } => {
                let info: Carried = self.call(Operation::PatientInfo, "").await?;
                self.carried(info, Some(&out))
            }
        }
    }

    async fn take(&self, file: &Path, out: Option<&Path>, only_link: bool) -> Result<(), CliError> {
        let content = carried_file(file)?;
        let taken = self.call(Operation::PatientTake { content, only_link }, "").await;
        self.carried(taken.map_err(|fault: CliError| of_file(file, fault))?, out)
    }

    /// Shows what was taken, and writes what goes back.
    fn carried(&self, mut taken: Carried, out: Option<&Path>) -> Result<(), CliError> {
        let written = out.filter(|_| taken.answer.is_some());
        if let (Some(answer), Some(out)) = (&taken.answer, written) {
            write_file(out, answer)?;
            taken.answer = None;
        }
        self.output.emit("handover/patient-taken/1", &taken, |to| show::taken(to, &taken, written))
    }

    pub(super) async fn records(&self, task: RecordsTask) -> Result<(), CliError> {
        match task {
            RecordsTask::List { patient, departments } => {
                let listed: RecordsListed =
                    self.call(Operation::RecordsList { patient, departments }, "").await?;
                self.output.emit("handover/records/1", &listed, |out| show::records(out, &listed))
            }
            RecordsTask::Show { patient, record } => {
                let shown: RecordLine = self.call(Operation::RecordsShow { patient, record }, "").await?;
                if shown.media_type.is_some() {
                    // A file has no byte more.
                    return std::io::stdout().lock().flush().or(Ok(()));
                }
                // The content came as events and was written as it came.
                writeln!(std::io::stdout().lock()).or_else(|error| match error.kind() {
                    std::io::ErrorKind::BrokenPipe => Ok(()),
                    _ => Err(CliError::new(Code::Internal, format!("stdout: {error}"))),
                })
            }
        }
    }
}
