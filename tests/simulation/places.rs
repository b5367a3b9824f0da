//! The processes: an index and hospitals, each over a disk in memory that outlives it. What stands above store and
//! network is what is shipped.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::federation::EndpointCertificate;
use handover_core::codec::{self, Extensions};
use handover_core::time::{Clock as _, DAY_MS};
use handover_core::trust::Hello;
use handover_core::{Amount, Code, HospitalId, Party, Timestamp};
use handover_exchange::{Directories, Exchange, Gate, Identity, NodeAdmission, Parts};
use handover_index::keys::IndexKeys;
use handover_index::{Config, Edge, FolderRules, Rooms, Served};
use handover_ingest::charges::{Catalogue, PriceList};
use handover_net::Net;
use handover_records::Records;
use handover_seal::{KeyRing, OsRandom, RsaPrivateKey, Secret32, SigningKey};
use handover_store::{BlobSettings, Blobs, CellKey, Faults, Keyring, Settings, Store};
use handover_tests::fixture::{Hospital as Keys, Seeded, World};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Virtual;
use crate::network::Fabric;

/// No process needs longer to end, by its own clock.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
const CATALOGUE: &str = "system,code,display,class,is_test\nhttp://snomed.info/sct,168594001,X-ray,imaging,Y\n\
    http://snomed.info/sct,169069000,CT,imaging,Y\nhttp://snomed.info/sct,113091000,MRI,imaging,Y\n";
/// Multiples of 20, so that 5 % of any sum of them is exact.
const PRICES: &str = "Code_Source,Code,Price,Price_Date\nSNOMED,168594001,40,01-01-2019\n\
    SNOMED,169069000,120,01-01-2019\nSNOMED,113091000,600,01-01-2019\n";
/// The folder of a hospital's keys that expire.
const EPOCH_KEYS: &str = "epoch-keys";
/// The catalogue's codes and their prices in minor units.
pub(crate) const TESTS: [(&str, i64); 3] =
    [("168594001", 4_000), ("169069000", 12_000), ("113091000", 60_000)];

/// What a process leaves on its machine: cells, and files.
pub(crate) struct Disk {
    pub(crate) cells: RefCell<Faults>,
    pub(crate) files: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Result<Self> {
        let cells = Store::memory_with_faults(&CellKey::from_bytes([0; 32])).1;
        Ok(Self { cells: RefCell::new(cells), files: folder()? })
    }

    /// Another one with the same on it.
    pub(crate) fn copied(&self) -> Result<Self> {
        let files = folder()?;
        copy(self.files.path(), files.path())?;
        Ok(Self { cells: RefCell::new(self.cells.borrow().copied()), files })
    }

    /// Puts what was copied before in the place of what is there now, but for the keys that expire, as README says.
    pub(crate) fn restore(&self, backup: &Self) -> Result<()> {
        for entry in std::fs::read_dir(self.files.path())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != EPOCH_KEYS {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        for entry in std::fs::read_dir(backup.files.path())? {
            let entry = entry?;
            let to = self.files.path().join(entry.file_name());
            if entry.file_type()?.is_dir() && entry.file_name() != EPOCH_KEYS {
                std::fs::create_dir(&to)?;
                copy(&entry.path(), &to)?;
            }
        }
        *self.cells.borrow_mut() = backup.cells.borrow().copied();
        Ok(())
    }

    /// The store, for a process that starts: what the one before it still has of it is closed.
    fn open(&self, cell_key: &CellKey) -> Store {
        let cells = self.cells.borrow().taken_over();
        let store = Store::on(&cells, cell_key);
        *self.cells.borrow_mut() = cells;
        store
    }
}

/// In memory, where there is such a place.
fn folder() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    Ok(made?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
            continue;
        }
        match std::fs::copy(entry.path(), &to) {
            // It was on its way when the copy was made.
            Err(fault) if fault.kind() == ErrorKind::NotFound => {}
            copied => drop(copied?),
        }
    }
    Ok(())
}

fn secret(name: &str) -> Secret32 {
    Secret32::generate(&mut Seeded::new(name))
}

/// Everything runs on one thread.
pub(crate) type Shared<T> = RefCell<Option<Rc<T>>>;

/// A hospital's process, while it runs.
pub(crate) struct Node {
    pub(crate) exchange: Exchange,
    pub(crate) records: Records,
    pub(crate) directories: Directories,
    pub(crate) net: Net,
    stop: CancellationToken,
    ended: RefCell<Option<JoinHandle<()>>>,
}

/// A hospital's machine.
pub(crate) struct Hospital {
    pub(crate) id: HospitalId,
    pub(crate) disk: Disk,
    pub(crate) clock: Arc<Virtual>,
    /// Its first keys.
    pub(crate) first: &'static Keys,
    /// Those that may succeed them.
    pub(crate) next: &'static Keys,
    /// With which the process that runs, or ran last, speaks.
    speaks: Cell<&'static Keys>,
    running: Shared<Node>,
}

/// Another copy of an RSA key.
fn copied(key: &RsaPrivateKey) -> Result<RsaPrivateKey> {
    Ok(RsaPrivateKey::from_pkcs8_der(key.pkcs8_der())?)
}

impl Hospital {
    pub(crate) fn new(name: &str, disk: Disk, clock: Arc<Virtual>) -> Result<Self> {
        let world = World::shared();
        let mut sets = world.hospitals().into_iter().zip(&world.next);
        let (first, next) = sets.find(|(it, _)| it.id.as_str() == name).context("one of the fixture")?;
        let (id, speaks) = (first.id.clone(), Cell::new(first));
        Ok(Self { id, disk, clock, first, next, speaks, running: RefCell::default() })
    }

    pub(crate) fn party(&self) -> Party {
        Party::Hospital(self.id.clone())
    }

    /// Its process, if it was started and not killed.
    pub(crate) fn node(&self) -> Option<Rc<Node>> {
        self.running.borrow().clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The keys with which its process speaks.
    pub(crate) fn keys(&self) -> &'static Keys {
        self.speaks.get()
    }

    /// Those that the directory which it holds names; its first, if there is none.
    fn named(&self, directories: &Directories) -> &'static Keys {
        if self.is_next_in(directories) { self.next } else { self.first }
    }

    /// Whether a directory names the next of its keys.
    pub(crate) fn is_next_in(&self, directories: &Directories) -> bool {
        let held = directories.held().ok();
        let named = held.and_then(|held| Some(held.member(&self.id).ok()?.certificate.key));
        named == Some(self.next.signing.public())
    }

    /// Whether the directory names other keys than its process has: that ends then, to be started with them.
    pub(crate) fn has_other_keys(&self) -> bool {
        self.node().is_some_and(|node| !std::ptr::eq(self.named(&node.directories), self.keys()))
    }

    pub(crate) async fn start(&self, fabric: &Fabric, index_addresses: &[String]) -> Result<()> {
        ensure!(self.node().is_none(), "{} runs already", self.id);
        let hospital_key = secret(&format!("{} records", self.id));
        let store = self.disk.open(&CellKey::from_bytes(*secret(&format!("{} cells", self.id)).expose()));
        let files = self.disk.files.path();
        let blobs = Blobs::open(&files.join("blobs"))?;
        let keyring =
            Keyring::open(store.clone(), &files.join(EPOCH_KEYS), &hospital_key, self.now()).await?;
        let records = Records::open(store.clone(), blobs.clone(), keyring.clone(), hospital_key).await?;
        let root = World::shared().root.public();
        let directories = Directories::open(root, store.clone(), Arc::<Virtual>::clone(&self.clock)).await?;
        let incoming = files.join("incoming");
        std::fs::create_dir_all(&incoming)?;
        let currency = "USD".parse().map_err(|_| anyhow!("USD is a currency"))?;
        let keys = self.named(&directories);
        self.speaks.set(keys);
        let mut ring = KeyRing::new(copied(keys.ring.current())?);
        if !std::ptr::eq(keys, self.first) {
            ring.add_retiring(copied(self.first.ring.current())?);
        }
        let exchange = Exchange::new(Parts {
            identity: Identity {
                hospital: self.id.clone(),
                signing: SigningKey::from_seed(&keys.signing.seed()),
                ring,
            },
            gate: Gate::open(&store).await?,
            store,
            keyring,
            records: records.clone(),
            blobs,
            directories: directories.clone(),
            catalogue: Catalogue::from_csv(CATALOGUE.as_bytes()).map_err(|_| anyhow!("the catalogue"))?,
            prices: PriceList::from_csv(PRICES.as_bytes(), currency).map_err(|_| anyhow!("the prices"))?,
            currency,
            incoming,
            index_addresses: index_addresses.to_vec(),
            index_patience: Duration::from_secs(60),
            accepts_up_to: Some(Amount::from_minor(1_000_000, currency)),
            leaves_packages: true,
            clock: Arc::<Virtual>::clone(&self.clock),
        });
        let key = keys.endpoint_key.public();
        let admission = NodeAdmission::new(directories.clone(), self.hello(keys));
        let (net, inbound) = fabric.sit(&self.party(), key, Arc::new(admission))?;
        let stop = CancellationToken::new();
        let ended = exchange.start(net.clone(), inbound, stop.clone());
        let node = Node { exchange, records, directories, net, stop, ended: RefCell::new(Some(ended)) };
        *self.running.borrow_mut() = Some(Rc::new(node));
        Ok(())
    }

    fn hello(&self, keys: &Keys) -> Vec<u8> {
        let now = self.now();
        let endpoint = EndpointCertificate {
            party: self.party(),
            key: keys.endpoint_key.public(),
            not_before: now.plus_ms(-60_000),
            not_after: now.plus_ms(30 * DAY_MS),
            extensions: Extensions::default(),
        };
        let endpoint = Verified::sign(endpoint, &keys.signing).envelope().to_vec().into();
        codec::encode(&Hello { endpoint, authority: None, extensions: Extensions::default() })
    }

    /// Ends the process where it is: from now on it writes no cell and nobody hears of it.
    pub(crate) async fn kill(&self, fabric: &Fabric) -> Result<()> {
        let Some(node) = self.running.borrow_mut().take() else { return Ok(()) };
        fabric.remove(&self.party());
        let cells = self.disk.cells.borrow().taken_over();
        *self.disk.cells.borrow_mut() = cells;
        node.stop.cancel();
        let ended = node.ended.borrow_mut().take().context("it runs")?;
        timeout(ENDS_WITHIN, ended).await.with_context(|| format!("{} does not end", self.id))??;
        Ok(())
    }
}

/// The index's process, while it runs.
pub(crate) struct Running {
    rooms: Rooms,
    pub(crate) net: Net,
    stop: CancellationToken,
    served: RefCell<Option<Served>>,
}

/// The index's machine.
pub(crate) struct IndexSeat {
    pub(crate) disk: Disk,
    pub(crate) clock: Arc<Virtual>,
    running: Shared<Running>,
}

impl IndexSeat {
    pub(crate) fn new(disk: Disk, clock: Arc<Virtual>) -> Self {
        Self { disk, clock, running: RefCell::default() }
    }

    pub(crate) fn keys() -> IndexKeys {
        IndexKeys::generate(&mut Seeded::new("simulated index"))
    }

    pub(crate) fn running(&self) -> Option<Rc<Running>> {
        self.running.borrow().clone()
    }

    pub(crate) async fn start(&self, fabric: &Fabric) -> Result<()> {
        ensure!(self.running().is_none(), "the index runs already");
        let (keys, files) = (Self::keys(), self.disk.files.path().to_owned());
        let config = Config {
            name: "index.simulated".to_owned(),
            data: files.clone(),
            shared: files,
            root: World::shared().root.public(),
            listen: Vec::new(),
            advertise: Vec::new(),
            is_relay: false,
            web_listen: ([127, 0, 0, 1], 0).into(),
            web_names: Vec::new(),
            folders: FolderRules::default(),
            store: Settings::default(),
            blobs: BlobSettings::default(),
        };
        let store = self.disk.open(&keys.cell_key());
        let edge = Edge { clock: Arc::<Virtual>::clone(&self.clock), random: || Box::new(OsRandom) };
        let rooms = Rooms::open(store, config, &keys, edge).await?;
        let key = SigningKey::from_seed(&keys.net).public();
        let (net, inbound) = fabric.sit(&Party::Index, key, rooms.admission())?;
        let stop = CancellationToken::new();
        let served = rooms.serve((net.clone(), inbound), Arc::default(), false, &stop).await?;
        let served = RefCell::new(Some(served));
        *self.running.borrow_mut() = Some(Rc::new(Running { rooms, net, stop, served }));
        Ok(())
    }

    /// An operation as at the control socket.
    pub(crate) async fn op(&self, operation: serde_json::Value) -> Result<serde_json::Value> {
        let running = self.running().context("the index does not run")?;
        let done = running.rooms.perform(&running.net, operation.clone()).await;
        done.map_err(|code: Code| anyhow!("{operation}: {code}"))
    }

    pub(crate) async fn kill(&self, fabric: &Fabric) -> Result<()> {
        let Some(running) = self.running.borrow_mut().take() else { return Ok(()) };
        fabric.remove(&Party::Index);
        let cells = self.disk.cells.borrow().taken_over();
        *self.disk.cells.borrow_mut() = cells;
        running.stop.cancel();
        let served = running.served.borrow_mut().take().context("it runs")?;
        timeout(ENDS_WITHIN, served.ended()).await.context("the index does not end")?;
        Ok(())
    }
}
