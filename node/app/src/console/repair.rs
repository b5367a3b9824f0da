//! `repair` at the console: on the store's folder itself, while no node runs.

use handover_cli::{CliError, Unit, passphrase};
use handover_core::Code;
use handover_core::time::Clock as _;
use handover_records::{Action, Purpose};
use handover_seal::SystemClock;
use handover_store::{EngineName, Store};

use super::{Console, PROMPT};
use crate::config::{STORE_FOLDER, usage};
use crate::keys::Secrets;
use crate::node::Node;

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
        let repaired =
            Store::repair(&folder, &secrets.cell_key(), SystemClock.now(), preview, |cells: u64| {
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
        if repaired.aside.is_some() {
            self.note_repair(secrets).await?;
        }
        Ok(())
    }

    /// The audit log says who repaired, in the store that came of it.
    async fn note_repair(&self, secrets: Secrets) -> Result<(), CliError> {
        let noted = async {
            let node = Node::open(self.config.clone(), secrets).await?;
            let permit = node.permit(&self.staff, Action::Repair, Purpose::Administration, None).await;
            node.close().await;
            permit.map(drop).map_err(|fault| CliError::new(fault.code(), fault.to_string()))
        };
        noted.await.map_err(|fault: CliError| {
            let next = if fault.code == Code::StoreDamaged {
                "The store was repaired, and cannot be used: too much of it is gone. Restore the last backup."
            } else {
                "The store was repaired; only the audit log does not say so."
            };
            fault.with_next(next)
        })
    }
}
