//! `repair` at the console: on the store's folder itself, while no node runs.

use handover_cli::{CliError, Unit, passphrase};
use handover_core::Code;
use handover_core::time::Clock as _;
use handover_seal::SystemClock;
use handover_store::{EngineName, Store};

use super::{Console, PROMPT};
use crate::config::{STORE_FOLDER, usage};
use crate::keys::Secrets;

impl Console {
    pub(super) async fn repair(&self, preview: bool) -> Result<(), CliError> {
        if self.config.store.engine != EngineName::Sled {
            return Err(usage("the store is in a database: its own means repair it"));
        }
        let secret = passphrase(self.passphrase_file.as_deref(), PROMPT)?;
        let secrets = Secrets::load(&self.config.keys_file(), &secret)?;
        secrets.check_hospital(&self.config.hospital.id)?;
        let folder = self.config.data.join(STORE_FOLDER);
        let mut progress = self.output.progress("Repair", Unit::Items, None);
        let mut read = 0;
        let (key, now) = (secrets.cell_key(), SystemClock.now());
        let repaired = Store::repair(&folder, &key, now, &self.staff, preview, |cells: u64| {
            progress.inc(cells.saturating_sub(read));
            read = cells;
        });
        progress.finish();
        let repaired = repaired.map_err(|fault| CliError::new(fault.code(), format!("store: {fault}")))?;
        self.output.emit("handover/repaired/1", &repaired, |out| write!(out, "{repaired}"))?;
        if preview && !repaired.is_whole {
            return Err(CliError::new(Code::StoreDamaged, "nothing was changed")
                .with_next("Restore the last backup, or give repair without --preview."));
        }
        // The audit log says so, too, once the store is opened: by whom it belongs to, which need not be who repairs.
        Ok(())
    }
}
