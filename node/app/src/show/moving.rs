//! A moved store, as people read it.

use std::io;

use handover_store::{EngineName, Moved, Place};
use serde::Serialize;

use super::Out;

/// A store that was moved.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoreMoved {
    from: String,
    to: String,
    engine: String,
    cells: u64,
    bytes: u64,
    digest: String,
}

impl StoreMoved {
    pub(crate) fn of(from: &Place, to: &Place, engine: EngineName, moved: &Moved) -> Self {
        Self {
            from: from.to_string(),
            to: to.to_string(),
            engine: engine.to_string(),
            cells: moved.cells,
            bytes: moved.bytes,
            digest: hex::encode(moved.digest),
        }
    }
}

pub(crate) fn store_moved(out: Out<'_>, it: &StoreMoved) -> io::Result<()> {
    writeln!(out, "{} cells, {} bytes: copied to {} and compared", it.cells, it.bytes, it.to)?;
    writeln!(out, "What lies in {} was left as it is, and does not open any more.", it.from)?;
    writeln!(out, "Next: set engine = \"{}\" under [store] in the configuration, then start.", it.engine)
}

/// A store that opens again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoreReopened {
    store: String,
    engine: String,
}

impl StoreReopened {
    pub(crate) fn of(place: &Place, engine: EngineName) -> Self {
        Self { store: place.to_string(), engine: engine.to_string() }
    }
}

pub(crate) fn store_reopened(out: Out<'_>, it: &StoreReopened) -> io::Result<()> {
    writeln!(out, "The store in {} opens again; leave engine = \"{}\" as it is.", it.store, it.engine)
}
