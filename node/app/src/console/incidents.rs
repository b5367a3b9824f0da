//! Incidents at the console: listed, and written as files for others.

use std::path::Path;

use handover_cli::CliError;

use super::Console;
use super::files::write_file;
use crate::args::IncidentTask;
use crate::operations::{IncidentShown, IncidentsListed, Operation};
use crate::show;

impl Console {
    pub(super) async fn incident(&self, task: IncidentTask) -> Result<(), CliError> {
        let listed: IncidentsListed = match task {
            IncidentTask::List => self.call(Operation::IncidentList, "").await?,
            IncidentTask::Remove { id } => self.call(Operation::IncidentRemove { id }, "").await?,
            IncidentTask::Show { id, out } => {
                let mut shown: IncidentShown = self.call(Operation::IncidentShow { id }, "").await?;
                let proof = (shown.file.take(), shown.held.take());
                if let (Some(out), (Some(file), held)) = (out, proof) {
                    write_file(&out, &file)?;
                    let beside = format!("{}.held", out.display());
                    held.map_or(Ok(()), |held| write_file(Path::new(&beside), &held))?;
                }
                return self.output.emit("handover/incident/1", &shown, |out| show::incident(out, &shown));
            }
        };
        self.output.emit("handover/incidents/1", &listed, |out| show::incidents(out, &listed))
    }
}
