//! Fees at the console.

use handover_cli::CliError;
use handover_core::Code;

use super::Console;
use crate::args::FeesTask;
use crate::operations::{FeesListed, Operation};
use crate::show;

impl Console {
    pub(super) async fn fees(&self, task: FeesTask) -> Result<(), CliError> {
        let ask = matches!(task, FeesTask::Reconcile);
        let listed: FeesListed = self.call(Operation::FeesList { ask }, "").await?;
        self.output.emit("handover/fees/1", &listed, |out| show::fees(out, &listed))?;
        if !ask || listed.agrees {
            return Ok(());
        }
        let standing = listed.fees.iter().find_map(|fee| fee.standing.parse::<Code>().ok());
        let whole = if listed.rewritten { Code::LedgerRewritten } else { Code::LedgerStale };
        Err(standing.unwrap_or(whole).into())
    }
}
