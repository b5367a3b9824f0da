//! The command line, as clap reads it.

mod emergency;
mod fees;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use handover_cli::wait_seconds;
use handover_core::id::{Department, Digest, HospitalId, PatientRef, RemoteLinkId, TransferId};
use handover_store::{BlobPlace, EngineName};

pub use emergency::{BreakGlassTask, ClinicianKey, ClinicianTask, Opening};
pub use fees::FeesTask;

/// One hospital's node: keeps its records by department, and exchanges them with other hospitals under the
/// patients' consent.
#[derive(Debug, Parser)]
#[command(name = "handover-node", version, max_term_width = 100)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, short, global = true, default_value = "handover-node.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// The passphrase's file (mode 0600); without it, it is asked for on the terminal.
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Who gives the command, for the audit log; the login name if left out.
    #[arg(long, global = true, value_name = "NAME")]
    pub staff: Option<String>,
    /// One JSON object on stdout, with its schema's name.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Makes this node's keys and certificate, once; again, it shows them.
    Init,
    /// Runs the node until SIGTERM; prints one JSON line once everything listens.
    Run,
    /// Asks the federation to admit this hospital. The node has to run.
    Enrol {
        /// Waits until the hospital is active.
        #[arg(long, value_name = "SECONDS", value_parser = wait_seconds)]
        wait: Option<Duration>,
    },
    /// Imports FHIR R4: Bundles, single resources, NDJSON.
    Import {
        /// The files.
        #[arg(required_unless_present = "retry")]
        files: Vec<PathBuf>,
        /// Also tries again what was kept aside.
        #[arg(long)]
        retry: bool,
    },
    /// Patients at the desk.
    #[command(subcommand)]
    Patient(PatientTask),
    /// A patient's records.
    #[command(subcommand)]
    Records(RecordsTask),
    /// Transfers.
    #[command(subcommand)]
    Transfer(TransferTask),
    /// Referrals to other hospitals, which then owe the fee.
    #[command(subcommand)]
    Referral(ReferralTask),
    /// Links for patients whom an old hospital never linked.
    #[command(subcommand)]
    LinkRemote(LinkRemoteTask),
    /// The keys that make forgetting complete.
    #[command(subcommand)]
    Epoch(EpochTask),
    /// The keys that speak for this hospital.
    #[command(subcommand)]
    Keys(KeysTask),
    /// Says how the node stands: what does not work and until when the rest does, and what waits for whom.
    Status,
    /// Says that the store was restored from a backup, and asks the index and all hospitals for what it may lack. The node
    /// finds that out by itself as soon as anybody holds what it signed and does not know; this is for when nobody can
    /// tell. Until all have answered, nothing is signed, sealed or released; status says who has not.
    Rejoin,
    /// Reads everything stored and verifies that it is whole.
    Check,
    /// Salvages what can be read of a damaged store into a fresh one and says what is gone; the damaged one is kept
    /// aside. Restore the last backup instead, if there is one. The node must not run.
    Repair {
        /// Says what it would come to, and changes nothing.
        #[arg(long)]
        preview: bool,
    },
    /// Verifies a transfer's file offline; needs nothing but the configured root.
    Verify {
        /// The file.
        file: PathBuf,
    },
    /// Recalls: records that were sent and are wrong. Newer versions of them are recalled by themselves.
    #[command(subcommand)]
    Recall(RecallTask),
    /// Incidents: what other hospitals or the index signed and may not have signed, kept as proof.
    #[command(subcommand)]
    Incident(IncidentTask),
    /// Fees for transfers: what the index has booked, held against this hospital's own evidence.
    #[command(subcommand)]
    Fees(FeesTask),
    /// Clinicians who may break the glass for this hospital.
    #[command(subcommand)]
    Clinician(ClinicianTask),
    /// Emergencies: a part of a patient's records from another hospital, without the patient.
    #[command(subcommand)]
    BreakGlass(BreakGlassTask),
    /// The store's engine: moves everything that is stored from one to the other. The node must not run.
    #[command(subcommand)]
    Store(StoreTask),
    /// Where large content lies: moves all of it from the folder to a bucket, or back. The node must not run.
    #[command(subcommand)]
    Blobs(BlobsTask),
}

/// Where large content lies.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum BlobsTask {
    /// Copies all large content to the other place, as the configuration describes it, and verifies it on the way. From
    /// then on it is there. Goes on where it was cut off.
    Copy {
        /// folder or bucket.
        #[arg(long, value_name = "PLACE")]
        to: BlobPlace,
    },
}

/// The store's engine.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum StoreTask {
    /// Copies everything that is stored to another engine, as the configuration describes it, and verifies
    /// the copy. From then on only the copy opens. Begins anew where it was cut off.
    Copy {
        /// sled or postgres.
        #[arg(long, value_name = "ENGINE")]
        to: EngineName,
    },
    /// Lets the configured store open again that was moved, as long as its copy is the same; the copy does not open
    /// any more then.
    Undo {
        /// The copy does not exist any more: it is not looked at. What was written to it since is lost.
        #[arg(long)]
        copy_is_lost: bool,
        /// It was not moved, but its database lost what it had confirmed, and nobody has that any more.
        #[arg(long, conflicts_with = "copy_is_lost")]
        loss_is_accepted: bool,
    },
}

/// Incidents.
#[derive(Debug, Subcommand)]
pub enum IncidentTask {
    /// Lists them: who signed what, and why it was refused.
    List,
    /// Shows one; with --out, writes it for the federation's operators: `verify` of the file comes to the same refusal.
    Show {
        /// What `incident list` calls it.
        id: Digest,
        /// Where the proof goes. A directory's comes with the one that it contradicts, in FILE.held.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Removes one that was dealt with: of each hospital so many are kept, and no more until there is room.
    Remove {
        /// What `incident list` calls it.
        id: Digest,
    },
}

/// Recalls.
#[derive(Debug, Subcommand)]
pub enum RecallTask {
    /// Recalls a patient's records from every hospital that was sent them: they stay there, and are marked. What they
    /// cost is given back. The same again changes nothing.
    Make {
        /// The hospital's own identifier.
        #[arg(long, value_name = "ID")]
        patient: String,
        /// Only this record, as `records list` names it; can be given several times.
        #[arg(long = "record", value_name = "RECORD")]
        records: Vec<String>,
        /// Why.
        #[arg(long, value_parser = ["wrong-patient", "retracted"])]
        reason: String,
        /// Only from the hospital that was sent them in this transfer.
        #[arg(long, value_name = "TRANSFER")]
        transfer: Option<TransferId>,
        /// Says what would be recalled, and changes nothing.
        #[arg(long)]
        preview: bool,
    },
    /// Lists recalls, sent and received, and whether they are confirmed.
    List,
}

/// Patients at the desk.
#[derive(Debug, Subcommand)]
pub enum PatientTask {
    /// Registers a patient; prints a code with which they link themselves. A new code each time, without --request-id.
    Register {
        /// The hospital's own identifier.
        id: String,
        /// Any word for this request, 1 to 64 characters: the same again gives the same code.
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
    },
    /// Lists patients' links that the index does not know: those that it refused, and those that wait for it.
    Links {
        /// Tells the index again of those that it refused.
        #[arg(long)]
        resend: bool,
    },
    /// Forgets a patient: their records, links and link codes. Refused while a transfer of theirs is not over.
    Forget {
        /// The hospital's own identifier.
        id: String,
    },
    /// Lists the wallets that are linked to a patient.
    Wallets {
        /// The hospital's own identifier.
        id: String,
    },
    /// Takes a wallet's link away: it is lost, or is to be linked to another number. The records stay. Refused while a
    /// transfer of that wallet is not over.
    Unlink {
        /// The hospital's own identifier.
        id: String,
        /// The wallet, as `patient wallets` lists it.
        #[arg(long, value_name = "WALLET")]
        wallet: PatientRef,
    },
    /// Takes a patient's link from a file.
    Link(Carried),
    /// Takes anything else that a patient carries: an ask, a consent, a release, a refusal, a revocation.
    Take(Carried),
    /// Writes what a wallet needs to know of this hospital.
    Info {
        /// Where to.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// The keys that make forgetting complete.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum EpochTask {
    /// Says since when the epoch lasts, what is under it, and whether something was forgotten since.
    List,
    /// Begins a new epoch and destroys the older keys: nothing that was forgotten opens any more, in no copy. Backups
    /// of the store from before do not open any more at all, so make a new one.
    Rotate {
        /// Also if secrets are damaged: no backup brings them back then. Without it, nothing is begun.
        #[arg(long)]
        give_up_damaged: bool,
    },
}

/// The keys that speak for this hospital.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysTask {
    /// Makes further signing, network and RSA keys, beside those that there are: those were stolen, or have served long
    /// enough. They speak once the root has certified them and two operators have approved them; until then those before
    /// do. Start the node again afterwards and give enrol. Each process of this hospital needs a copy of the file.
    Renew,
    /// Writes the request for the root's certificate for the newest keys, where the index does not have it from enrol.
    Request {
        /// Where the request goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Referrals to other hospitals, which then owe the fee.
#[derive(Debug, Subcommand)]
pub enum ReferralTask {
    /// Refers a linked patient: quotes to that hospital are from now on at its cost. The same again changes nothing.
    Make {
        /// The hospital's own identifier of the patient.
        patient: String,
        /// To whom.
        #[arg(long, value_name = "HOSPITAL")]
        to: HospitalId,
        /// Who refers, by name; only that hospital reads it.
        #[arg(long, value_name = "NAME")]
        doctor: String,
        /// Why; only that hospital reads it.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// How long it stands.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=365))]
        days: u32,
    },
    /// Lists those that stand.
    List,
    /// Withdraws one; what was quoted on it stays.
    Withdraw {
        /// The hospital's own identifier of the patient.
        patient: String,
        /// To whom it is.
        #[arg(long, value_name = "HOSPITAL")]
        to: HospitalId,
    },
}

/// Links for patients whom an old hospital never linked.
#[derive(Debug, Subcommand)]
pub enum LinkRemoteTask {
    /// Lists the requests: `to-vouch` by patients who are linked here, `to-link` by patients of here whom another
    /// hospital vouches for.
    List,
    /// Shows one, beside what the records here hold under the number that it claims.
    Show {
        /// The request.
        id: RemoteLinkId,
    },
    /// Vouches to the old hospital for who the patient is. First see their identity document: name and date of birth
    /// have to be those of the request.
    Vouch {
        /// The request.
        id: RemoteLinkId,
    },
    /// Confirms that the request is a patient's of here; prints a code for the contact on file, good for that wallet
    /// only. Again, it prints the same.
    Confirm {
        /// The request.
        id: RemoteLinkId,
        /// The hospital's own identifier of the patient.
        #[arg(long, value_name = "ID")]
        patient: String,
    },
    /// Says no, to vouch or to link.
    Refuse {
        /// The request.
        id: RemoteLinkId,
        /// Why: identity-unproven, unknown-patient or linked-otherwise.
        #[arg(long, value_name = "CODE", default_value = "identity-unproven")]
        reason: String,
    },
}

/// A file that a patient carries, and what they take back.
#[derive(Debug, Args)]
pub struct Carried {
    /// What the patient brings.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Where the answer goes, if there is one.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A patient's records.
#[derive(Debug, Subcommand)]
pub enum RecordsTask {
    /// Lists them.
    List {
        /// The hospital's own identifier.
        #[arg(long, value_name = "ID")]
        patient: String,
        /// Only these.
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        departments: Vec<Department>,
    },
    /// Prints a record's content.
    Show {
        /// The hospital's own identifier.
        #[arg(long, value_name = "ID")]
        patient: String,
        /// The record as `list` names it, or `record.version`.
        record: String,
    },
}

/// Transfers.
#[derive(Debug, Subcommand)]
pub enum TransferTask {
    /// Asks the old hospital for the records, on the patient's ask. The same again changes nothing.
    Request {
        /// The transfer that the patient asked for.
        #[arg(required_unless_present = "ask")]
        id: Option<TransferId>,
        /// The patient's ask, from a file.
        #[arg(long, value_name = "FILE", conflicts_with = "id")]
        ask: Option<PathBuf>,
        /// Only these departments.
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        departments: Vec<Department>,
        /// Only records from this day on (YYYY-MM-DD).
        #[arg(long, value_name = "DAY")]
        from: Option<String>,
        /// Only records before this day (YYYY-MM-DD).
        #[arg(long, value_name = "DAY")]
        until: Option<String>,
    },
    /// Lists transfers, and the asks that wait for the desk.
    List,
    /// Shows a transfer.
    Show {
        /// The transfer.
        id: TransferId,
        /// Waits for a phase.
        #[arg(long, value_name = "SECONDS", value_parser = wait_seconds)]
        wait: Option<Duration>,
        /// The phase to wait for, such as `quoted`; `filed` if left out. A transfer that is over is waited for no more.
        #[arg(long, value_name = "PHASE", requires = "wait")]
        until: Option<String>,
        /// Waits until so many deliveries that continue it under a continuous consent are over.
        #[arg(long, value_name = "COUNT", requires = "wait", conflicts_with = "until")]
        deliveries: Option<u64>,
        /// Writes the file that anybody can verify offline.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Takes a patient's ask from the desk: nothing follows from it.
    Dismiss {
        /// The transfer that the patient asked for.
        id: TransferId,
    },
    /// Accepts the fee that this hospital owes because the patient was referred to it.
    Accept {
        /// The transfer.
        id: TransferId,
        /// The most that it may cost, for example "12.50 USD"; what was quoted if left out.
        #[arg(long, value_name = "AMOUNT")]
        max_fee: Option<String>,
    },
    /// Says that this hospital does not pay that fee; the transfer ends.
    Refuse {
        /// The transfer.
        id: TransferId,
    },
    /// Asks for a package once more, because it or the key to it is lost here: the old hospital seals it again, at no
    /// further fee, and the patient releases again. The node asks by itself for what it finds lost while it files.
    Again {
        /// The transfer.
        id: TransferId,
        /// Which attempt is wanted: the one that `show` gives, and one more. The same again changes nothing. Without it:
        /// the one after the last that was sealed.
        #[arg(long, value_name = "NUMBER")]
        attempt: Option<u32>,
    },
    /// Sends again what was refused for good.
    Resend {
        /// The transfer.
        id: TransferId,
        /// Also everything else of it to the index, which has lost what it took: so its fee is settled after all.
        #[arg(long)]
        all: bool,
    },
}
