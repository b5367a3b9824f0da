//! Transfers, and what leads to them and follows from them: referrals and recalls.

use std::path::Path;

use handover_cli::CliError;
use handover_core::{Timestamp, TransferId};

use super::files::{carried_file, of_file, write_file};
use super::{Console, ms};
use crate::args::{RecallTask, ReferralTask, TransferTask};
use crate::config::usage;
use crate::operations::{
    Carried, Dismissed, Operation, RecallMade, RecallsListed, ReferralShown, ReferralWithdrawn,
    ReferralsListed, Resent, TransferShown, TransfersListed,
};
use crate::show;

impl Console {
    pub(super) async fn transfer(&self, task: TransferTask) -> Result<(), CliError> {
        let operation = match task {
            TransferTask::Request { id, ask, departments, from, until } => {
                let transfer = match (id, ask) {
                    (Some(id), _) => id,
                    (None, Some(file)) => self.take_ask(&file).await?,
                    (None, None) => return Err(usage("a transfer or --ask FILE is needed")),
                };
                let (from_ms, until_ms) = (day("--from", from)?, day("--until", until)?);
                Operation::TransferRequest { transfer, departments, from_ms, until_ms }
            }
            TransferTask::List => {
                let listed: TransfersListed = self.call(Operation::TransferList, "").await?;
                return self
                    .output
                    .emit("handover/transfers/1", &listed, |out| show::transfers(out, &listed));
            }
            TransferTask::Show { id, wait, until, deliveries, out } => {
                let (file, wait_ms) = (out.is_some(), wait.map(ms));
                let operation = Operation::TransferShow { transfer: id, wait_ms, until, deliveries, file };
                let mut shown: TransferShown = self.call(operation, "").await?;
                if let (Some(content), Some(out)) = (shown.file.take(), out) {
                    write_file(&out, &content)?;
                }
                return self.output.emit("handover/transfer/1", &shown, |out| show::transfer(out, &shown));
            }
            TransferTask::Again { id, attempt } => Operation::TransferAgain { transfer: id, attempt },
            TransferTask::Dismiss { id } => {
                let gone: Dismissed = self.call(Operation::TransferDismiss { transfer: id }, "").await?;
                return self.output.emit("handover/dismissed/1", &gone, |out| show::dismissed(out, &gone));
            }
            TransferTask::Accept { id, max_fee } => Operation::TransferAccept { transfer: id, max_fee },
            TransferTask::Refuse { id } => Operation::TransferRefuse { transfer: id },
            TransferTask::Resend { id, all } => {
                let resent: Resent = self.call(Operation::TransferResend { transfer: id, all }, "").await?;
                return self.output.emit("handover/resent/1", &resent, |out| show::resent(out, &resent));
            }
        };
        let shown: TransferShown = self.call(operation, "").await?;
        self.output.emit("handover/transfer/1", &shown, |out| show::transfer(out, &shown))
    }

    async fn take_ask(&self, file: &Path) -> Result<TransferId, CliError> {
        let content = carried_file(file)?;
        let taken = self.call(Operation::PatientTake { content, only_link: false }, "").await;
        let taken: Carried = taken.map_err(|fault| of_file(file, fault))?;
        let transfer = taken.transfer.as_deref().and_then(|transfer| transfer.parse().ok());
        transfer.ok_or_else(|| usage(format!("{} holds no ask for a transfer", file.display())))
    }

    pub(super) async fn referral(&self, task: ReferralTask) -> Result<(), CliError> {
        match task {
            ReferralTask::Make { patient, to, doctor, reason, days } => {
                let operation = Operation::ReferralMake { patient, destination: to, doctor, reason, days };
                let made: ReferralShown = self.call(operation, "").await?;
                self.output.emit("handover/referral/1", &made, |out| show::referral(out, &made))
            }
            ReferralTask::List => {
                let listed: ReferralsListed = self.call(Operation::ReferralList, "").await?;
                self.output.emit("handover/referrals/1", &listed, |out| show::referrals(out, &listed))
            }
            ReferralTask::Withdraw { patient, to } => {
                let operation = Operation::ReferralWithdraw { patient, destination: to };
                let gone: ReferralWithdrawn = self.call(operation, "").await?;
                self.output.emit("handover/referral-withdrawn/1", &gone, |out| show::withdrawn(out, &gone))
            }
        }
    }

    pub(super) async fn recall(&self, task: RecallTask) -> Result<(), CliError> {
        match task {
            RecallTask::Make { patient, records, reason, transfer, preview } => {
                let operation = Operation::RecallMake { patient, records, reason, transfer, preview };
                let made: RecallMade = self.call(operation, "").await?;
                self.output.emit("handover/recall/1", &made, |out| show::recall_made(out, &made))
            }
            RecallTask::List => {
                let listed: RecallsListed = self.call(Operation::RecallList, "").await?;
                self.output.emit("handover/recalls/1", &listed, |out| show::recalls(out, &listed))
            }
        }
    }
}

fn day(option: &str, text: Option<String>) -> Result<Option<i64>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let instant = crate::import::timestamp(&text).map(Timestamp::as_millis);
    instant.map(Some).ok_or_else(|| usage(format!("{option}: a day is written YYYY-MM-DD")))
}
