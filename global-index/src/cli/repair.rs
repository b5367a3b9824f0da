//! `repair`: on the store's folder itself, while no index runs.

use handover_cli::{CliError, Unit};
use handover_core::Code;
use handover_store::{EngineName, Store};

use super::context::{Context, runtime};
use super::rejoin::declare;
use crate::config::STORE_FOLDER;
use crate::keys::IndexKeys;
use crate::service::IndexError;

/// Repairs the store, or says what that would come to.
pub(super) fn repair(context: &Context, preview: bool) -> Result<(), CliError> {
    let data = context.data()?;
    if context.config()?.store.engine != EngineName::Sled {
        let fault = "the store is in a database: its own means repair it";
        return Err(CliError::new(Code::UsageInvalid, fault));
    }
    let keys = IndexKeys::open(&data, &context.passphrase("Passphrase of the index's keys: ")?)?;
    let mut progress = context.output.progress("Repair", Unit::Items, None);
    let (folder, now, mut read) = (data.join(STORE_FOLDER), context.edge.clock.now(), 0);
    let repaired = Store::repair(&folder, &keys.cell_key(), now, "", preview, |cells: u64| {
        progress.inc(cells.saturating_sub(read));
        read = cells;
    });
    progress.finish();
    let repaired = repaired.map_err(IndexError::from)?;
    if !preview && !repaired.is_whole {
        let place = context.config()?.store_place(EngineName::Sled).map_err(IndexError::from)?;
        let declared = runtime()?.block_on(declare(&place, &keys.cell_key(), now));
        declared.map_err(IndexError::from)?;
    }
    context.output.emit("handover/repaired/1", &repaired, |to| write!(to, "{repaired}"))?;
    if preview && !repaired.is_whole {
        return Err(CliError::new(Code::StoreDamaged, "nothing was changed")
            .with_next("Restore the last backup, or give repair without --preview."));
    }
    Ok(())
}
