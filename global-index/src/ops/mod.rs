//! What operators ask of the index, in one place for both ways: beside a running process through the control socket,
//! else on the opened store. Requests and answers are JSON; artefacts in them are hexadecimal envelopes.
//!
//! Invariant: no private key ever comes here. Operators sign in their own process and send envelopes.

mod books;
mod edition;
pub(crate) mod emergencies;
mod folders;
mod holds;
mod hospitals;
mod incidents;
mod rejoin;
pub(crate) mod views;

use handover_core::codec::DecodeError;
use handover_core::id::SigningPublic;
use handover_core::{Code, Digest, HospitalId, TransferId};
use handover_dossier::DossierError;
use handover_net::Net;
use handover_store::StoreError;
use handover_web::control::{Handler, Problem};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::config::FolderRules;
use crate::desk::Desk;
use crate::directory::DirectoryError;
use crate::ledger::BooksError;
use crate::registry::RegistryError;
use crate::routing::{RoutingError, recheck};

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Every hospital that proved its keys → `Hospitals`.
    HospitalList,
    /// One hospital, or a key that waits to succeed its own, with what an operator needs to sign → `HospitalContext`.
    HospitalShow { hospital: HospitalId, successor: Option<SigningPublic> },
    /// Installs the root's certificate → `HospitalView`.
    HospitalCertify { certificate: Hex },
    /// A status order, signed once or twice → `Ordered`.
    HospitalOrder { envelope: Hex },
    /// Drops an enrolment that nobody certified, or a key that waits to succeed → `HospitalView`, as it was.
    HospitalDrop { hospital: HospitalId, successor: Option<SigningPublic> },
    /// An operator's certificate → `OperatorView`.
    OperatorAdd { certificate: Hex },
    /// The newest and the waiting schedule of a jurisdiction → `ScheduleContext`.
    ScheduleShow { jurisdiction: String },
    /// A fee schedule, signed once or twice → `Ordered`.
    ScheduleSubmit { envelope: Hex },
    /// The directory in force → `DirectoryView`.
    DirectoryShow,
    /// A page of entries → `EntriesView`.
    LedgerEntries { after: Option<u64> },
    /// Every account → `BalancesView`.
    LedgerBalances,
    /// A fee that is held, with what an operator needs to sign → `HoldContext`.
    HoldShow { transfer: TransferId },
    /// An order that settles one, signed once or twice → `Ordered`.
    HoldSettle { envelope: Hex },
    /// What hospitals have not taken → `MailView`.
    MailShow,
    /// Reads everything → `CheckView`.
    Check,
    /// What hospitals signed and may not have signed → `IncidentsView`.
    IncidentList,
    /// One of them, for others → `IncidentView`.
    IncidentShow { id: Digest },
    /// Removes one → `IncidentsView`.
    IncidentRemove { id: Digest },
    /// What waits in hospitals' folders → `FoldersView`.
    FolderList,
    /// Break-glasses that hospitals told of → `EmergenciesView`.
    BreakGlassList,
    /// Says that the store was restored from a backup → `RejoinView`.
    Rejoin { without: Vec<HospitalId> },
    /// How that stands → `RejoinView`.
    RejoinShow,
    /// The edition of the formats in force, and who reads which → `EditionView`.
    EditionShow,
    /// Puts one in force → `EditionView`.
    EditionRaise { edition: u32 },
}

/// Bytes as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text).map(Self).map_err(|_| serde::de::Error::custom("needs hexadecimal digits"))
    }
}

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpsError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Books(#[from] BooksError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Dossier(#[from] DossierError),
    #[error(transparent)]
    Routing(#[from] RoutingError),
    #[error("a stored artefact cannot be read: {0}")]
    Artefact(#[from] handover_core::artefact::ArtefactError),
    #[error("a stored row cannot be read: {0}")]
    Row(#[from] DecodeError),
    #[error("the request cannot be read: {0}")]
    Request(serde_json::Error),
    #[error("the answer cannot be written")]
    Answer,
    #[error("the directory has no hospital {0}, so it is not waited for; nothing was done")]
    NotWaitedFor(HospitalId),
}

impl OpsError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Registry(fault) => fault.code(),
            Self::Directory(fault) => fault.code(),
            Self::Books(fault) => fault.code(),
            Self::Store(fault) => fault.code(),
            Self::Dossier(fault) => fault.code(),
            Self::Routing(fault) => fault.code(),
            Self::Artefact(_) | Self::Row(_) => Code::StoreDamaged,
            Self::Request(_) => Code::UsageInvalid,
            Self::Answer => Code::Internal,
            Self::NotWaitedFor(_) => Code::UnknownHospital,
        }
    }
}

impl From<OpsError> for Problem {
    fn from(fault: OpsError) -> Self {
        Self { code: fault.code(), detail: Some(fault.to_string()) }
    }
}

/// Performs operations on a desk.
pub(crate) struct Operations {
    desk: Desk,
    net: Option<Net>,
    folders: FolderRules,
}

fn value(view: &impl Serialize) -> Result<Value, OpsError> {
    serde_json::to_value(view).map_err(|_| OpsError::Answer)
}

impl Operations {
    /// In a running process.
    pub(crate) const fn beside(desk: Desk, net: Net, folders: FolderRules) -> Self {
        Self { desk, net: Some(net), folders }
    }

    /// On a store that no process serves.
    pub(crate) const fn alone(desk: Desk, folders: FolderRules) -> Self {
        Self { desk, net: None, folders }
    }

    /// Performs one operation.
    pub(crate) async fn perform(&self, command: Command) -> Result<Value, OpsError> {
        match command {
            Command::HospitalList => value(&self.hospitals().await?),
            Command::HospitalShow { hospital, successor } => {
                value(&self.hospital(hospital, successor).await?)
            }
            Command::HospitalCertify { certificate } => value(&self.certify(certificate).await?),
            Command::HospitalOrder { envelope } => value(&self.order(envelope).await?),
            Command::HospitalDrop { hospital, successor } => {
                value(&self.drop_enrolment(hospital, successor).await?)
            }
            Command::OperatorAdd { certificate } => value(&self.add_operator(certificate).await?),
            Command::ScheduleShow { jurisdiction } => value(&self.schedule(jurisdiction).await?),
            Command::ScheduleSubmit { envelope } => value(&self.submit_schedule(envelope).await?),
            Command::DirectoryShow => value(&self.directory()),
            Command::LedgerEntries { after } => value(&self.entries(after).await?),
            Command::LedgerBalances => value(&self.balances().await?),
            Command::HoldShow { transfer } => value(&self.hold(transfer).await?),
            Command::HoldSettle { envelope } => value(&self.settle(envelope).await?),
            Command::MailShow => value(&self.mail().await?),
            Command::Check => value(&self.check().await?),
            Command::IncidentList => value(&self.incidents().await?),
            Command::IncidentShow { id } => value(&self.incident(id).await?),
            Command::IncidentRemove { id } => value(&self.remove_incident(id).await?),
            Command::FolderList => value(&self.folders().await?),
            Command::BreakGlassList => value(&self.emergencies().await?),
            Command::Rejoin { without } => value(&self.rejoin(without).await?),
            Command::RejoinShow => value(&self.rejoining().await?),
            Command::EditionShow => value(&self.edition()),
            Command::EditionRaise { edition } => value(&self.raise(edition).await?),
        }
    }

    /// Connections are judged again by the directory that is in force now; whose key was replaced is told before.
    async fn recheck(&self, replaced: Option<HospitalId>) {
        if let Some(net) = &self.net {
            recheck(&self.desk, net, replaced.into_iter().collect()).await;
        }
    }
}

#[async_trait::async_trait]
impl Handler for Operations {
    async fn handle(&self, request: Value, _: mpsc::Sender<Value>) -> Result<Value, Problem> {
        let command = serde_json::from_value(request).map_err(OpsError::Request)?;
        Ok(self.perform(command).await?)
    }
}
