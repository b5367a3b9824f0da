//! The exchange: this hospital as source and as destination of transfers.
//!
//! ```text
//!  wallet, desk, network ──► take (one path, one transaction) ──► dossier · outbox · secrets
//!                                                                   │
//!            jobs: what the stored state calls for ◄────────────────┘
//!            quote → seal → send → release        (source)
//!            receive → file, or ask again         (destination)
//!            continue: what is new, under a continuous consent (source)
//!            recalls: what was sent and has changed since
//! ```
//!
//! Invariants: what is acknowledged is on disk; every step can be repeated; work is derived from stored state, so it
//! goes on after any stop; a consent is spent in the transaction that stores the header; the shares leave only
//! against `Delivered`. The source keeps no plaintext share, the destination forgets the request's key with the
//! receipt, and a continuous consent's share with the consent. Nothing here names a storage engine, libp2p or HTTP.

mod again;
mod bodies;
mod books;
mod charged;
mod context;
mod continuous;
mod deliver;
mod desk;
mod error;
mod export;
mod federation;
mod fees;
mod forgetting;
mod glass;
mod handing_back;
mod inbound;
mod inboxes;
mod incidents;
mod jobs;
mod key_records;
mod left;
mod leftovers;
mod links;
mod manifest;
mod outbox;
mod parts;
mod patients;
mod pauses;
mod provenance;
mod recalled;
mod recalls;
mod referrals;
mod rejoin;
mod remote;
mod requests;
mod secrets;
mod selection;
mod standing;
mod unlinking;
mod wakes;

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock};

use handover_net::{Inbound, Net};
use handover_records::LocalPatient;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use context::Inner;

pub use books::{Books, Counterparty, FeeLine};
pub use context::{Identity, Parts};
pub use desk::{Asked, FeeOwed, InFolder, Refused, TransferDetails, TransferView};
pub use error::ExchangeError;
pub use federation::{Directories, NodeAdmission};
pub use glass::{Clinician, GlassView, Opened, Recipient, ReviewsOwed, Told};
pub use handover_dossier::incidents::Incident;
pub use incidents::Proof;
pub use links::UnknownLink;
pub use pauses::Wait;
pub use recalls::{Planned, RecallWish, Recalled, RecalledName};
pub use referrals::Referred;
pub use rejoin::{Gate, Rejoining};
pub use remote::{Confirmed, RemoteLink};
pub use standing::{Owed, Standing};

/// The exchange of one node. Cheap to clone.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

impl Exchange {
    /// Desk and patients' operations work at once; nothing travels until [`Self::start`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        parts.sign_in_force();
        let index_changed = AtomicI64::new(parts.clock.now().as_millis());
        Self(Arc::new(Inner {
            parts,
            index_changed,
            net: OnceLock::new(),
            outbox: Notify::new(),
            connected: pauses::Connected::default(),
            pauses: Mutex::default(),
            work_pauses: Mutex::default(),
            asking: Mutex::default(),
            answering: Mutex::default(),
            receiving: Mutex::default(),
            receiving_places: handover_parcel::Places::to_receive(),
            jobs: Notify::new(),
            wakes: wakes::Wakes::default(),
            recalls: Notify::new(),
            links: Notify::new(),
            remote: Notify::new(),
            glass: Notify::new(),
            books: Notify::new(),
            reconciling: tokio::sync::Mutex::default(),
            judging_again: Arc::default(),
            telling_again: tokio::sync::Mutex::default(),
            changed: watch::channel(0).0,
        }))
    }

    /// Records of these patients were filed here: what of it is under a continuous consent follows.
    pub fn records_changed(&self, patients: impl IntoIterator<Item = LocalPatient>) {
        self.0.wakes.changed(patients);
    }

    /// Starts everything that travels; ends when `shutdown` is cancelled.
    pub fn start(
        &self,
        net: Net,
        inbound: mpsc::Receiver<Inbound>,
        shutdown: CancellationToken,
    ) -> JoinHandle<()> {
        let inner = Arc::clone(&self.0);
        // A second start finds the first network in place and uses that.
        let net = inner.net.get_or_init(|| net).clone();
        tokio::spawn(async move {
            let mut parts = JoinSet::new();
            parts.spawn(inbound::serve(Arc::clone(&inner), net.clone(), inbound, shutdown.clone()));
            parts.spawn(inbound::keep_index(Arc::clone(&inner), net.clone(), shutdown.clone()));
            parts.spawn(deliver::run(Arc::clone(&inner), net.clone(), shutdown.clone()));
            parts.spawn(jobs::run_deliveries(Arc::clone(&inner), shutdown.clone()));
            parts.spawn(remote::carry(Arc::clone(&inner), shutdown.clone()));
            parts.spawn(glass::carry(Arc::clone(&inner), shutdown.clone()));
            parts.spawn(rejoin::run(Arc::clone(&inner), net.clone(), shutdown.clone()));
            parts.spawn(recalls::run(Arc::clone(&inner), shutdown.clone()));
            parts.spawn(books::run(Arc::clone(&inner), net.clone(), shutdown.clone()));
            parts.spawn(jobs::run(Arc::clone(&inner), net, shutdown));
            while parts.join_next().await.is_some() {}
        })
    }
}
