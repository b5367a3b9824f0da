//! What the node does on command. A command is an [`Operation`] whether it comes over the control socket of the
//! running node or from a process that opened the data folder itself: the code that carries it out is the same.

mod check;
mod emergency;
mod fees;
mod forgetting;
mod incidents;
mod patients;
mod recalls;
mod records;
mod referrals;
mod rejoin;
mod remote;
mod status;
mod transfers;

use std::path::PathBuf;

use handover_core::id::{Department, HospitalId, PatientRef, RemoteLinkId, TransferId};
use handover_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

pub use check::Checked;
pub(crate) use emergency::{
    ClinicianShown, CliniciansListed, EmergencyWish, GlassRead, GlassShown, GlassesListed, GlassesOpened,
    Located, NotAsked, Prepared, RecipientShown, is_everything,
};
pub(crate) use fees::{CounterpartyShown, FeeShown, FeesListed};
pub(crate) use forgetting::resume;
pub use forgetting::{EpochLine, EpochRotated, EpochsListed, PatientForgotten};
pub(crate) use incidents::{IncidentShown, IncidentsListed};
pub use patients::{Carried, PatientRegistered};
pub(crate) use patients::{LinkLine, LinksListed};
pub use recalls::{RecallMade, RecallShown, RecalledFrom, RecallsListed, RecordNamed};
pub use records::{MarkShown, RecordLine, RecordsListed};
pub use referrals::{ReferralShown, ReferralWithdrawn, ReferralsListed};
pub(crate) use rejoin::RejoinShown;
pub(crate) use remote::{RemoteLinkShown, RemoteLinksListed, Unlinked, WalletsListed};
pub(crate) use status::{Degraded, ReachShown, StatusShown};
pub(crate) use transfers::ASKED;
pub use transfers::{
    DeliveryShown, Dismissed, FolderShown, OwedShown, Resent, TransferShown, TransfersListed,
};

use crate::Node;
use crate::error::NodeError;
use crate::{enrol, import};

/// Who commands, and what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    /// The account's name, for the audit log.
    pub staff: String,
    /// What is to be done.
    pub operation: Operation,
}

/// Everything that can be commanded. Artefacts are carried as hexadecimal digits, paths are absolute.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Operation {
    /// Asks the federation to admit the hospital, or tells it of a changed profile.
    Enrol {
        /// Until the directory has this hospital as active, or this has passed.
        wait_ms: Option<u64>,
    },
    /// Brings records in.
    Import {
        /// FHIR files.
        files: Vec<PathBuf>,
        /// Also what was kept aside earlier.
        retry: bool,
    },
    /// Registers a patient; gives the link code.
    PatientRegister {
        /// The hospital's own identifier.
        patient: String,
        /// What the request is called, so that it can be repeated.
        request: Option<String>,
    },
    /// Lists links that the index does not know.
    PatientLinks {
        /// First owes it again those that it refused.
        resend: bool,
    },
    /// Forgets a patient.
    PatientForget {
        /// The hospital's own identifier.
        patient: String,
    },
    /// Lists the wallets that are linked to a patient.
    PatientWallets {
        /// The hospital's own identifier.
        patient: String,
    },
    /// Takes a wallet's link away.
    PatientUnlink {
        /// The hospital's own identifier.
        patient: String,
        /// The patient in the federation.
        wallet: PatientRef,
    },
    /// Takes what a patient carries: a link, an ask, a consent, a release, a refusal, a revocation.
    PatientTake {
        /// The envelope.
        content: String,
        /// Nothing but a link is wanted.
        only_link: bool,
    },
    /// What a wallet needs to know of this hospital.
    PatientInfo,
    /// Lists a patient's records.
    RecordsList {
        /// The hospital's own identifier.
        patient: String,
        /// Only these; empty: all.
        departments: Vec<Department>,
    },
    /// Shows a record's content, as [`Event::Content`], or a file's as [`Event::Bytes`].
    RecordsShow {
        /// The hospital's own identifier.
        patient: String,
        /// The record, or one of its versions.
        record: String,
    },
    /// Asks the source for what a patient's ask is about.
    TransferRequest {
        /// The transfer.
        transfer: TransferId,
        /// Only these departments; empty: all.
        departments: Vec<Department>,
        /// Only records dated at or after this, in milliseconds since the epoch.
        from_ms: Option<i64>,
        /// Only records dated before this.
        until_ms: Option<i64>,
    },
    /// Lists transfers and the asks that wait for the desk.
    TransferList,
    /// Shows a transfer.
    TransferShow {
        /// The transfer.
        transfer: TransferId,
        /// Waits for `until` at most this long.
        wait_ms: Option<u64>,
        /// A phase's word; absent: until it is over.
        until: Option<String>,
        /// So many deliveries that continue it have to be over, instead of a phase.
        deliveries: Option<u64>,
        /// With the file that anybody can verify offline.
        file: bool,
    },
    /// Asks for the next attempt of a transfer.
    TransferAgain {
        /// The transfer.
        transfer: TransferId,
        /// Which attempt; absent: the one after the last that was sealed.
        attempt: Option<u32>,
    },
    /// Takes an ask from the desk.
    TransferDismiss {
        /// The transfer.
        transfer: TransferId,
    },
    /// Sends a transfer's dead letters again.
    TransferResend {
        /// The transfer.
        transfer: TransferId,
        /// Everything of it to the index, too.
        all: bool,
    },
    /// Accepts the fee that this hospital owes for a referred patient.
    TransferAccept {
        /// The transfer.
        transfer: TransferId,
        /// The most that it may cost, as a decimal and a currency; absent: what was quoted.
        max_fee: Option<String>,
    },
    /// Says that this hospital does not pay it.
    TransferRefuse {
        /// The transfer.
        transfer: TransferId,
    },
    /// Refers a patient to another hospital.
    ReferralMake {
        /// The hospital's own identifier.
        patient: String,
        /// To whom.
        destination: HospitalId,
        /// Who refers.
        doctor: String,
        /// Why.
        reason: Option<String>,
        /// How long it stands.
        days: u32,
    },
    /// Lists the referrals that stand.
    ReferralList,
    /// Withdraws one.
    ReferralWithdraw {
        /// The hospital's own identifier.
        patient: String,
        /// To whom.
        destination: HospitalId,
    },
    /// Lists requests for remote links.
    RemoteLinkList,
    /// Shows one, beside what the records here hold under its number.
    RemoteLinkShow {
        /// The request.
        id: RemoteLinkId,
    },
    /// Vouches for who the patient is.
    RemoteLinkVouch {
        /// The request.
        id: RemoteLinkId,
    },
    /// Confirms that the request is a patient's; gives the code.
    RemoteLinkConfirm {
        /// The request.
        id: RemoteLinkId,
        /// The hospital's own identifier of the patient.
        patient: String,
    },
    /// Says no to one.
    RemoteLinkRefuse {
        /// The request.
        id: RemoteLinkId,
        /// A problem code's word.
        reason: String,
    },
    /// Says how it stands with the epochs.
    EpochList,
    /// Begins a new epoch and destroys the older keys.
    EpochRotate {
        /// Also if secrets are damaged, which then no backup brings back.
        give_up_damaged: bool,
    },
    /// Says how the node stands.
    Status,
    /// Checks that everything stored is whole.
    Check,
    /// Recalls records from every hospital that was sent them.
    RecallMake {
        /// The hospital's own identifier.
        patient: String,
        /// Which; empty: all that were sent.
        records: Vec<String>,
        /// `retracted` or `wrong-patient`.
        reason: String,
        /// Only from this transfer.
        transfer: Option<TransferId>,
        /// Says what it would be about, and changes nothing.
        preview: bool,
    },
    /// Lists what was recalled, here and elsewhere.
    RecallList,
    /// Lists what others signed and may not have signed.
    IncidentList,
    /// Shows one, for others.
    IncidentShow {
        /// What it is called.
        id: Digest,
    },
    /// Removes one.
    IncidentRemove {
        /// What it is called.
        id: Digest,
    },
    /// Lists fees: the index's books beside this hospital's evidence.
    FeesList {
        /// Asks the index first.
        ask: bool,
    },
    /// Says that the store was restored from a backup.
    Rejoin,
    /// Clinicians and break-glasses.
    Emergency(EmergencyWish),
}

/// What happens while an operation runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// How far it is.
    Progress {
        /// Bytes or items done.
        done: u64,
        /// Of how many, if that is known.
        total: Option<u64>,
    },
    /// Input that could not be read.
    KeptAside {
        /// The file.
        file: String,
        /// Which entry.
        entry: String,
        /// Why.
        reason: String,
        /// Whether it was kept for a second try; if not, it is in the file only.
        kept: bool,
    },
    /// The content that follows was recalled.
    Recalled {
        /// What is said against it.
        mark: MarkShown,
    },
    /// Something that the person at the terminal should know.
    Note {
        /// What.
        text: String,
    },
    /// A piece of content.
    Content {
        /// Text.
        text: String,
    },
    /// A piece of a file.
    Bytes {
        /// Base64 (RFC 4648, section 4).
        base64: String,
    },
}

/// Where events go. Whoever does not listen any more misses them, no more.
#[derive(Clone)]
pub struct Events(Option<mpsc::Sender<Value>>);

impl Events {
    /// To a channel.
    #[must_use]
    pub const fn to(sender: mpsc::Sender<Value>) -> Self {
        Self(Some(sender))
    }

    /// Nowhere.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Tells, waiting for a slow listener.
    pub async fn tell(&self, event: Event) {
        if let (Some(sender), Ok(value)) = (&self.0, serde_json::to_value(event)) {
            // A listener that left is no reason to stop.
            let _ = sender.send(value).await;
        }
    }

    /// Tells unless the listener is slow: for progress, of which the next is as good.
    pub fn mention(&self, event: Event) {
        if let (Some(sender), Ok(value)) = (&self.0, serde_json::to_value(event)) {
            let _ = sender.try_send(value);
        }
    }
}

/// Carries a command out.
///
/// # Errors
/// [`NodeError`], whose code decides the command's exit code.
pub async fn perform(node: &Node, command: Command, events: &Events) -> Result<Value, NodeError> {
    let Command { staff, operation } = command;
    match operation {
        Operation::Enrol { wait_ms } => answer(&enrol::enrol(node, wait_ms).await?),
        Operation::Import { files, retry } => {
            answer(&import::import(node, &staff, files, retry, events).await?)
        }
        Operation::PatientRegister { patient, request } => {
            answer(&patients::register(node, &staff, &patient, request.as_deref(), events).await?)
        }
        Operation::PatientLinks { resend } => answer(&patients::links(node, resend).await?),
        Operation::PatientForget { patient } => answer(&forgetting::forget(node, &staff, &patient).await?),
        Operation::PatientTake { content, only_link } => {
            answer(&patients::take(node, &content, only_link).await?)
        }
        Operation::PatientInfo => answer(&patients::info(node)?),
        Operation::RecordsList { patient, departments } => {
            answer(&records::list(node, &staff, &patient, departments).await?)
        }
        Operation::RecordsShow { patient, record } => {
            answer(&records::show(node, &staff, &patient, &record, events).await?)
        }
        Operation::TransferRequest { transfer, departments, from_ms, until_ms } => {
            let period = (from_ms.map(Timestamp::from_millis), until_ms.map(Timestamp::from_millis));
            answer(&transfers::request(node, transfer, departments, period).await?)
        }
        Operation::TransferList => answer(&transfers::list(node).await?),
        Operation::TransferShow { transfer, wait_ms, until, deliveries, file } => {
            let wait = transfers::Waiting { wait_ms, until: until.as_deref(), deliveries };
            answer(&transfers::show(node, transfer, wait, file, events).await?)
        }
        Operation::TransferAgain { transfer, attempt } => {
            answer(&transfers::again(node, transfer, attempt).await?)
        }
        Operation::TransferDismiss { transfer } => answer(&transfers::dismiss(node, transfer).await?),
        Operation::TransferResend { transfer, all } => answer(&transfers::resend(node, transfer, all).await?),
        Operation::TransferAccept { transfer, max_fee } => {
            answer(&referrals::accept(node, transfer, max_fee.as_deref()).await?)
        }
        Operation::TransferRefuse { transfer } => answer(&referrals::deny(node, transfer).await?),
        Operation::ReferralMake { patient, destination, doctor, reason, days } => {
            let words = (doctor.as_str(), reason.as_deref());
            answer(&referrals::make(node, &staff, (&patient, &destination), words, days).await?)
        }
        Operation::ReferralList => answer(&referrals::list(node).await?),
        Operation::ReferralWithdraw { patient, destination } => {
            answer(&referrals::withdraw(node, &staff, &patient, &destination).await?)
        }
        Operation::PatientWallets { patient } => answer(&remote::wallets(node, &staff, &patient).await?),
        Operation::PatientUnlink { patient, wallet } => {
            answer(&remote::unlink(node, &staff, &patient, wallet).await?)
        }
        Operation::RemoteLinkList => answer(&remote::list(node, &staff).await?),
        Operation::RemoteLinkShow { id } => answer(&remote::show(node, &staff, id).await?),
        Operation::RemoteLinkVouch { id } => answer(&remote::vouch(node, &staff, id).await?),
        Operation::RemoteLinkConfirm { id, patient } => {
            answer(&remote::confirm(node, &staff, id, &patient, events).await?)
        }
        Operation::RemoteLinkRefuse { id, reason } => {
            answer(&remote::refuse(node, &staff, id, &reason).await?)
        }
        Operation::EpochList => answer(&forgetting::list(node).await?),
        Operation::EpochRotate { give_up_damaged } => {
            answer(&forgetting::rotate(node, &staff, give_up_damaged, events).await?)
        }
        Operation::Status => answer(&status::status(node).await?),
        Operation::Check => answer(&check::check(node, &staff, events).await?),
        Operation::RecallMake { patient, records, reason, transfer, preview } => {
            let what = (patient.as_str(), records.as_slice());
            answer(&recalls::make(node, &staff, what, (&reason, transfer), preview).await?)
        }
        Operation::RecallList => answer(&recalls::list(node, &staff).await?),
        Operation::IncidentList => answer(&incidents::list(node).await?),
        Operation::IncidentShow { id } => answer(&incidents::show(node, id).await?),
        Operation::IncidentRemove { id } => answer(&incidents::remove(node, id).await?),
        Operation::FeesList { ask } => answer(&fees::list(node, ask).await?),
        Operation::Rejoin => answer(&rejoin::rejoin(node, &staff).await?),
        Operation::Emergency(wish) => emergency::perform(node, &staff, wish, events).await,
    }
}

fn answer(value: &impl Serialize) -> Result<Value, NodeError> {
    serde_json::to_value(value).map_err(|_| NodeError::TaskEnded)
}
