//! What hospitals signed and may not have signed: listed, and written as files for others.

use std::path::Path;

use handover_cli::CliError;
use handover_core::{Code, Digest};

use super::context::Context;
use crate::ops::Command;
use crate::ops::views::{IncidentView, IncidentsView};

fn line(to: &mut dyn std::io::Write, it: &IncidentView) -> std::io::Result<()> {
    writeln!(to, "{}", it.id)?;
    writeln!(to, "    signed by {}: {}, refused as {} at {}", it.by, it.artefact, it.code, it.at)?;
    match &it.transfer {
        Some(transfer) => writeln!(to, "    in transfer {transfer}"),
        None => Ok(()),
    }
}

/// Lists what is kept.
pub(super) fn list(context: &Context) -> Result<(), CliError> {
    listed(context, &Command::IncidentList)
}

/// Removes one.
pub(super) fn remove(context: &Context, id: Digest) -> Result<(), CliError> {
    listed(context, &Command::IncidentRemove { id })
}

fn listed(context: &Context, command: &Command) -> Result<(), CliError> {
    let view: IncidentsView = context.perform(command)?;
    context.output.emit("handover/incidents/1", &view, |to| {
        if view.incidents.is_empty() {
            writeln!(to, "Nobody signed what they may not sign.")?;
        }
        view.incidents.iter().try_for_each(|it| line(to, it))
    })
}

/// Shows one, and writes its proof.
pub(super) fn show(context: &Context, id: Digest, out: Option<&Path>) -> Result<(), CliError> {
    let mut view: IncidentView = context.perform(&Command::IncidentShow { id })?;
    if let (Some(file), Some(out)) = (view.file.take(), out) {
        std::fs::write(out, file.0)
            .map_err(|error| CliError::new(Code::UsageInvalid, format!("{}: {error}", out.display())))?;
    }
    context.output.emit("handover/incident/1", &view, |to| line(to, &view))
}
