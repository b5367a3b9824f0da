//! A store that was restored from a backup, as people read it.

use std::io;

use super::Out;
use crate::operations::RejoinShown;

pub(crate) fn rejoin(out: Out<'_>, shown: &RejoinShown) -> io::Result<()> {
    let RejoinShown { found, done, waits_for, artefacts, unfiled } = shown;
    match done {
        Some(done) => {
            writeln!(out, "restored: found {found}, caught up {done}, {artefacts} artefacts taken back")?
        }
        None => {
            writeln!(out, "RESTORED FROM A BACKUP, found {found}: {artefacts} artefacts taken back so far")?;
            writeln!(out, "    waits for {}", waits_for.join(", "))?;
        }
    }
    for transfer in unfiled {
        writeln!(out, "    {transfer} was filed here, and its records are gone: let the patient ask again")?;
    }
    Ok(())
}
