//! Incidents as people read them.

use std::io;

use super::Out;
use crate::operations::{IncidentShown, IncidentsListed};

pub(crate) fn incident(out: Out<'_>, shown: &IncidentShown) -> io::Result<()> {
    let IncidentShown { id, by, artefact, code, transfer, at, .. } = shown;
    writeln!(out, "{id}")?;
    writeln!(out, "    signed by {by}: {artefact}, refused as {code} at {at}")?;
    match transfer {
        Some(transfer) => writeln!(out, "    in transfer {transfer}"),
        None => Ok(()),
    }
}

pub(crate) fn incidents(out: Out<'_>, listed: &IncidentsListed) -> io::Result<()> {
    if listed.incidents.is_empty() {
        writeln!(out, "Nobody signed what they may not sign.")?;
    }
    listed.incidents.iter().try_for_each(|shown| incident(out, shown))
}
