//! The node, assembled: store, blobs, records, directory and exchange over one data folder.
//!
//! A [`Node`] works without a network; [`crate::Running`] adds network, HTTPS and the control socket. Invariant: one
//! process at a time has the data folder open (the store's lock).

use std::sync::{Arc, OnceLock};

use handover_cli::CliError;
use handover_core::time::Clock;
use handover_core::{Code, Timestamp};
use handover_ingest::department::Mapping;
use handover_net::Net;
use handover_records::{Action, Departments, GrantRequest, LocalPatient, Permit, Purpose, Records, Subject};
use handover_seal::{KeyRing, SystemClock};
use handover_store::{Blobs, EngineName, Keyring, Store, StoreError};
use handover_web::{CancellationToken, Health, Metrics};
use tokio::sync::Semaphore;

use crate::config::{BLOBS_FOLDER, Config, STORE_FOLDER};
use crate::error::NodeError;
use crate::keys::{Secrets, make_private_folder};
use handover_exchange::{Directories, Exchange, Identity, Parts};

/// An opened node.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) secrets: Secrets,
    pub(crate) store: Store,
    pub(crate) keyring: Keyring,
    pub(crate) records: Records,
    pub(crate) directories: Directories,
    pub(crate) exchange: Exchange,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) mapping: Arc<Mapping>,
    /// Imports come one after another.
    pub(crate) importing: Semaphore,
    /// Long work ends at its next safe point.
    pub(crate) stopping: CancellationToken,
    pub(crate) metrics: Metrics,
    live: OnceLock<Live>,
}

/// What only a running node has.
pub(crate) struct Live {
    pub(crate) net: Net,
    /// Where wallets reach it.
    pub(crate) patient_url: String,
    pub(crate) health: Health,
}

impl Node {
    /// Opens the data folder.
    ///
    /// # Errors
    /// The keys are another hospital's; the folder is in use, was made with other keys, or is damaged.
    pub async fn open(config: Config, secrets: Secrets) -> Result<Arc<Self>, CliError> {
        secrets.check_hospital(&config.hospital.id)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stored = |what: &'static str| {
            move |fault: StoreError| CliError::new(fault.code(), format!("{what}: {fault}"))
        };
        let mapping = Arc::new(config.mapping.clone());
        let incoming = config.data.join("incoming");
        make_private_folder(&incoming)?;
        let engine = config.store.engine;
        if engine == EngineName::Sled {
            Store::check_there(&config.data.join(STORE_FOLDER), &config.data.join(BLOBS_FOLDER))
                .map_err(stored("store"))?;
        }
        let place = config.store_place(engine).map_err(stored("store"))?;
        let store = Store::open(&place, &secrets.cell_key()).await.map_err(stored("store"))?;
        let keyring = Keyring::open(store.clone(), &config.epoch_keys, &secrets.hospital_key(), clock.now())
            .await
            .map_err(stored("epoch keys"))?;
        let blobs = Blobs::open(&config.data.join(BLOBS_FOLDER)).map_err(stored("blobs"))?;
        let records = Records::open(store.clone(), blobs.clone(), keyring.clone(), secrets.hospital_key())
            .await
            .map_err(|fault| CliError::new(fault.code(), format!("records: {fault}")))?;
        let opened = |fault: handover_exchange::ExchangeError| {
            CliError::new(fault.code(), format!("directory: {fault}"))
        };
        let directories =
            Directories::open(config.root, store.clone(), Arc::clone(&clock)).await.map_err(opened)?;
        let rsa = secrets.rsa().map_err(|fault| CliError::new(fault.code(), fault.to_string()))?;
        let exchange = Exchange::new(Parts {
            identity: Identity {
                hospital: config.hospital.id.clone(),
                signing: secrets.signing(),
                ring: KeyRing::new(rsa),
            },
            store: store.clone(),
            keyring: keyring.clone(),
            records: records.clone(),
            blobs,
            directories: directories.clone(),
            catalogue: config.catalogue.clone(),
            prices: config.prices.clone(),
            currency: config.hospital.currency,
            incoming,
            index_patience: config.index_patience,
            accepts_up_to: config.accepts_up_to,
            leaves_packages: config.leaves_packages,
            index_addresses: config.index_addresses.clone(),
            clock: Arc::clone(&clock),
        });
        Ok(Arc::new(Self {
            config,
            secrets,
            store,
            keyring,
            records,
            directories,
            exchange,
            clock,
            mapping,
            importing: Semaphore::new(1),
            stopping: CancellationToken::new(),
            metrics: Metrics::new("handover"),
            live: OnceLock::new(),
        }))
    }

    /// Opens the data folder of an initialised node with its passphrase.
    ///
    /// # Errors
    /// As [`Node::open`]; [`Code::KeyUnavailable`].
    pub async fn unlock(config: Config, passphrase: &str) -> Result<Arc<Self>, CliError> {
        let secrets = Secrets::load(&config.keys_file(), passphrase)?;
        Self::open(config, secrets).await
    }

    /// Lets go of the data folder, with everything durable.
    pub async fn close(&self) {
        self.store.clone().close().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The configured hospital's identifier.
    #[must_use]
    pub fn hospital(&self) -> &handover_core::HospitalId {
        &self.config.hospital.id
    }

    pub(crate) fn go_live(&self, live: Live) -> Result<(), CliError> {
        self.live.set(live).map_err(|_| CliError::new(Code::Internal, "the node runs already"))
    }

    pub(crate) fn live(&self) -> Result<&Live, NodeError> {
        self.live.get().ok_or(NodeError::NotRunning)
    }

    /// Leave for a member of staff; its audit line is durable.
    pub(crate) async fn permit(
        &self,
        staff: &str,
        action: Action,
        purpose: Purpose,
        patient: Option<&LocalPatient>,
    ) -> Result<Permit, NodeError> {
        let request = GrantRequest {
            subject: Subject::Staff { name: staff.to_owned() },
            action,
            purpose,
            patient: patient.cloned(),
            departments: Departments::All,
            transfer: None,
            break_glass: None,
        };
        Ok(self.records.audit().permit(request, self.now()).await?)
    }
}
