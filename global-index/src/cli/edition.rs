//! The edition of the formats that is in force.

use handover_cli::CliError;

use super::context::Context;
use crate::ops::Command;
use crate::ops::views::EditionView;

/// Shows it, or puts the next one in force.
pub(super) fn edition(context: &Context, raise: Option<u32>) -> Result<(), CliError> {
    let command = raise.map_or(Command::EditionShow, |edition| Command::EditionRaise { edition });
    let view: EditionView = context.perform(&command)?;
    context.output.emit("handover/index-edition/1", &view, |to| {
        writeln!(to, "Edition {} is in force; this index reads {}", view.in_force, view.reads)?;
        if view.reads > view.settled {
            writeln!(to, "Edition {} is a draft: for rehearsals only", view.reads)?;
        }
        for it in &view.hospitals {
            writeln!(to, "{} reads {}", it.hospital, it.reads)?;
        }
        let next = view.in_force.saturating_add(1);
        if next <= view.reads && view.hospitals.iter().all(|it| it.reads >= next) {
            writeln!(to, "Everybody reads {next}: edition --raise {next} puts it in force")?;
        }
        Ok(())
    })
}
