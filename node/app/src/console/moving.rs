//! The store is moved from one engine to the other, and back; so is large content. No process may have it open.

use handover_cli::{CliError, Steps, passphrase};
use handover_store::{EngineName, Store, StoreError, accept_loss, copy, copy_blobs, undo};

use super::{Console, PROMPT};
use crate::args::{BlobsTask, StoreTask};
use crate::config::usage;
use crate::keys::Secrets;
use crate::show;

fn stored(fault: StoreError) -> CliError {
    CliError::new(fault.code(), fault.to_string())
}

impl Console {
    pub(super) async fn blobs(&self, BlobsTask::Copy { to }: BlobsTask) -> Result<(), CliError> {
        let config = &self.config;
        if config.blobs.place == to {
            return Err(usage(format!("the configuration says that blobs lie in the {to} already")));
        }
        let secrets =
            Secrets::load(&config.keys_file(), &passphrase(self.passphrase_file.as_deref(), PROMPT)?)?;
        secrets.check_hospital(&config.hospital.id)?;
        let place = config.store_place(config.store.engine).map_err(stored)?;
        let store = Store::open(&place, &secrets.cell_key()).await.map_err(stored)?;
        let mut steps = Steps::new(self.output);
        let copied = async {
            if config.store.engine == EngineName::Postgres {
                store.check_folder(&config.shared, &config.data).await?;
            }
            copy_blobs(&store, &config.blobs, to, &config.shared, |done| steps.show("Copy", done, None)).await
        };
        let copied = copied.await.map_err(stored);
        steps.finish();
        store.close().await;
        let copied = copied?;
        let of_damaged = ": `check` names what they belong to.";
        self.output.emit("handover/blobs-copied/1", &copied, |out| copied.tell(out, of_damaged))
    }

    pub(super) async fn store(&self, task: StoreTask) -> Result<(), CliError> {
        let (config, here) = (&self.config, self.config.store.engine);
        let place = |engine: EngineName| config.store_place(engine).map_err(stored);
        if matches!(task, StoreTask::Copy { to } if to == here) {
            return Err(usage(format!("the configuration says that the store is on {here} already")));
        }
        let secrets =
            Secrets::load(&config.keys_file(), &passphrase(self.passphrase_file.as_deref(), PROMPT)?)?;
        secrets.check_hospital(&config.hospital.id)?;
        let (key, from) = (secrets.cell_key(), place(here)?);
        match task {
            StoreTask::Copy { to } => {
                let target = place(to)?;
                let mut steps = Steps::new(self.output);
                let copied =
                    copy(&from, &target, &key, |step, done, total| steps.show(step.label(), done, total));
                let copied = copied.await.map_err(stored);
                steps.finish();
                let moved = show::StoreMoved::of(&from, &target, to, &copied?);
                self.output.emit("handover/store-moved/1", &moved, |out| show::store_moved(out, &moved))
            }
            StoreTask::Undo { copy_is_lost, loss_is_accepted } => {
                if loss_is_accepted {
                    accept_loss(&from, &key).await.map_err(stored)?;
                } else {
                    let copy = if copy_is_lost { None } else { Some(place(here.other())?) };
                    undo(&from, copy.as_ref(), &key).await.map_err(stored)?;
                }
                let back = show::StoreReopened::of(&from, here);
                self.output.emit("handover/store-reopened/1", &back, |out| show::store_reopened(out, &back))
            }
        }
    }
}
