//! The node, assembled: store, blobs, records, directory and exchange over one data folder.
//!
//! A [`Node`] works without a network; [`crate::Running`] adds network, HTTPS and the control socket. Invariant: one
//! process at a time has the data folder open (the store's lock).

use std::sync::{Arc, OnceLock};

use handover_cli::{CliError, tell_standing};
use handover_core::time::Clock;
use handover_core::{Code, HospitalId, Timestamp};
use handover_ingest::department::Mapping;
use handover_net::Net;
use handover_records::{Action, GrantRequest, LocalPatient, Permit, Purpose, Records, RecordsError, Subject};
use handover_seal::SystemClock;
use handover_store::{Blobs, EngineName, Keyring, Standing, Store, StoreError, own_folder};
use handover_web::control::stands_by;
use handover_web::{CancellationToken, Health, Metrics};
use tokio::sync::{Semaphore, mpsc};

use crate::config::{BLOBS_FOLDER, Config, STORE_FOLDER};
use crate::error::NodeError;
use crate::keys::{Keys, Secrets};
use handover_exchange::{Directories, Exchange, Gate, Identity, Parts};

/// Repairs of the store whose audit line is written, by their time.
const REPAIR_NOTED: &str = "repair-noted";
const ROW_VERSION: u8 = 1;

/// An opened node.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) secrets: Secrets,
    /// The number of the set of keys that speaks for the hospital.
    speaks: usize,
    pub(crate) store: Store,
    pub(crate) keyring: Keyring,
    pub(crate) blobs: Blobs,
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

fn stored(what: &'static str) -> impl Fn(StoreError) -> CliError {
    move |fault| CliError::new(fault.code(), format!("{what}: {fault}"))
}

impl Node {
    /// Opens the data folder.
    ///
    /// # Errors
    /// The keys are another hospital's; the folder is in use, was made with other keys, or is damaged.
    pub async fn open(config: Config, secrets: Secrets) -> Result<Arc<Self>, CliError> {
        secrets.check_hospital(&config.hospital.id)?;
        let engine = config.store.engine;
        if engine == EngineName::Sled {
            Store::check_there(&config.data.join(STORE_FOLDER), &config.shared.join(BLOBS_FOLDER))
                .map_err(stored("store"))?;
        }
        let place = config.store_place(engine).map_err(stored("store"))?;
        let store = Store::open(&place, &secrets.cell_key()).await.map_err(stored("store"))?;
        Self::open_on(store, config, secrets).await
    }

    /// The same for who serves: stands by while another process has a store in a database, and says so.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub async fn open_or_stand_by(
        config: Config,
        unlock: impl Fn() -> Result<Secrets, CliError>,
    ) -> Result<Arc<Self>, CliError> {
        let secrets = unlock()?;
        if config.store.engine == EngineName::Sled {
            return Self::open(config, secrets).await;
        }
        secrets.check_hospital(&config.hospital.id)?;
        let place = config.store_place(config.store.engine).map_err(stored("store"))?;
        let (told, standing) = mpsc::unbounded_channel();
        let say = |it: Standing| tell_standing("node", &it.store, it.serving.as_deref());
        let cell_key = secrets.cell_key();
        let opening = Store::open_or_stand_by(&place, &cell_key, told);
        let (opened, _) = stands_by(config.control_socket(), standing, say, opening)
            .await
            .map_err(|fault| CliError::new(fault.code(), fault.to_string()))?;
        // Those of now: they may have been renewed while it stood by.
        Self::open_on(opened.map_err(stored("store"))?, config, unlock()?).await
    }

    async fn open_on(store: Store, config: Config, secrets: Secrets) -> Result<Arc<Self>, CliError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mapping = Arc::new(config.mapping.clone());
        if config.store.engine == EngineName::Postgres
            && config.blobs.needs_folder(&config.shared, &config.data)
        {
            store.check_folder(&config.shared, &config.data).await.map_err(stored("shared"))?;
        }
        let blobs = Blobs::open_of(&store, &config.blobs, &config.shared, &config.data);
        let blobs = blobs.await.map_err(stored("blobs"))?;
        let incoming = own_folder(&config.shared.join("incoming")).map_err(stored("incoming"))?;
        let keyring = Keyring::open(store.clone(), &config.epoch_keys, &secrets.hospital_key(), clock.now())
            .await
            .map_err(stored("epoch keys"))?;
        let records = Records::open(store.clone(), blobs.clone(), keyring.clone(), secrets.hospital_key())
            .await
            .map_err(|fault| CliError::new(fault.code(), format!("records: {fault}")))?;
        let opened = |fault: handover_exchange::ExchangeError| {
            CliError::new(fault.code(), format!("directory: {fault}"))
        };
        let directories =
            Directories::open(config.root, store.clone(), Arc::clone(&clock)).await.map_err(opened)?;
        let gate = Gate::open(&store).await.map_err(opened)?;
        let speaks = speaking(&secrets, &directories, &config.hospital.id);
        let own = secrets.keys(speaks).ok_or(Code::KeyUnavailable)?;
        let ring = secrets.ring(own).map_err(|fault| CliError::new(fault.code(), fault.to_string()))?;
        let exchange = Exchange::new(Parts {
            identity: Identity { hospital: config.hospital.id.clone(), signing: own.signing(), ring },
            store: store.clone(),
            keyring: keyring.clone(),
            records: records.clone(),
            blobs: blobs.clone(),
            directories: directories.clone(),
            catalogue: config.catalogue.clone(),
            prices: config.prices.clone(),
            currency: config.hospital.currency,
            incoming,
            index_patience: config.index_patience,
            accepts_up_to: config.accepts_up_to,
            leaves_packages: config.leaves_packages,
            gate,
            index_addresses: config.index_addresses.clone(),
            clock: Arc::clone(&clock),
        });
        let node = Self {
            config,
            secrets,
            speaks,
            store,
            keyring,
            blobs,
            records,
            directories,
            exchange,
            clock,
            mapping,
            importing: Semaphore::new(1),
            stopping: CancellationToken::new(),
            metrics: Metrics::new("handover"),
            live: OnceLock::new(),
        };
        node.note_repairs()
            .await
            .map_err(|fault| CliError::new(fault.code(), format!("records: {fault}")))?;
        Ok(Arc::new(node))
    }

    /// Each repair of the store has one line in the audit log: whoever opens it first writes that.
    async fn note_repairs(&self) -> Result<(), RecordsError> {
        for repair in self.store.repairs().await? {
            let at = u64::try_from(repair.at.as_millis()).unwrap_or(0);
            let key = self.store.keys().space(REPAIR_NOTED).u64(at).build();
            let request = by_staff(&repair.by, Action::Repair, Purpose::Administration, None);
            let (audit, now) = (self.records.audit().clone(), self.now());
            let noted = self.store.write(move |txn| {
                if txn.get(&key)?.is_none() {
                    audit.permit_in(txn, &request, now)?;
                    txn.put(&key, vec![ROW_VERSION])?;
                }
                Ok::<_, RecordsError>(())
            });
            noted.await?;
        }
        Ok(())
    }

    /// Lets go of the data folder, with everything durable.
    pub async fn close(&self) {
        self.store.clone().close().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The keys that speak for the hospital.
    ///
    /// # Errors
    /// None: a node has them since it was opened.
    pub(crate) fn own(&self) -> Result<Keys<'_>, Code> {
        self.secrets.keys(self.speaks).ok_or(Code::KeyUnavailable)
    }

    /// The keys that are to succeed them, if there are newer ones; else they themselves.
    pub(crate) fn newest(&self) -> Result<Keys<'_>, Code> {
        self.secrets.newest()
    }

    /// Returns once the directory says that the keys with which the node was started do not speak for the hospital any
    /// more: [`Code::KeyInForce`] if others of its own do, [`Code::KeysOutdated`] if none does.
    pub(crate) async fn other_keys_speak(&self) -> Code {
        let mut changes = self.directories.changes();
        loop {
            if speaking(&self.secrets, &self.directories, self.hospital()) != self.speaks {
                return Code::KeyInForce;
            }
            if self.is_replaced() {
                return Code::KeysOutdated;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether the hospital has replaced the keys that this node has.
    fn is_replaced(&self) -> bool {
        let (held, own) = (self.directories.held(), self.own().map(|keys| keys.signing().public()));
        held.is_ok_and(|held| own.is_ok_and(|own| held.is_former(&own.thumbprint())))
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
        let request = by_staff(staff, action, purpose, patient);
        Ok(self.records.audit().permit(request, self.now()).await?)
    }
}

/// Which set of keys speaks for the hospital: the one that the directory names; the newest, if it names none of them.
fn speaking(secrets: &Secrets, directories: &Directories, hospital: &HospitalId) -> usize {
    let listed = directories.held().ok().and_then(|held| Some(held.member(hospital).ok()?.certificate.key));
    listed.and_then(|key| secrets.number_of(&key)).unwrap_or_else(|| secrets.last())
}

fn by_staff(staff: &str, action: Action, purpose: Purpose, patient: Option<&LocalPatient>) -> GrantRequest {
    GrantRequest::new(Subject::staff(staff), action, purpose, patient.cloned())
}
