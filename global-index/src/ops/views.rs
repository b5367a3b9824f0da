//! What operators are shown. Fields are stable: programs read them.

use std::collections::BTreeMap;

use handover_core::HospitalId;
use serde::{Deserialize, Serialize};

use super::Hex;

/// The edition of the formats in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EditionView {
    pub(crate) in_force: u32,
    /// The last one that this index reads.
    pub(crate) reads: u32,
    /// The last one whose formats do not change any more: above it, an upgrade is rehearsed.
    pub(crate) settled: u32,
    /// Everybody who takes part.
    pub(crate) hospitals: Vec<ReadsView>,
}

/// What a hospital reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadsView {
    pub(crate) hospital: HospitalId,
    pub(crate) reads: u32,
}

/// A status order or schedule that waits for a second operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PendingView {
    /// What it would set: a status, or a rate.
    pub(crate) what: String,
    /// For people.
    pub(crate) reason: String,
    /// The key's thumbprint of who signed it.
    pub(crate) by: String,
}

/// A hospital.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HospitalView {
    pub(crate) hospital: HospitalId,
    pub(crate) name: String,
    /// `pending-certificate`, `pending-approval`, `active`, `suspended` or `revoked`.
    pub(crate) status: String,
    /// The number of the status order in force.
    pub(crate) number: u64,
    /// Its signing key.
    pub(crate) key: String,
    pub(crate) profile_number: u64,
    pub(crate) since: String,
    pub(crate) pending: Option<PendingView>,
    /// How many keys it has replaced.
    pub(crate) former_keys: usize,
    /// Keys that wait to succeed its own, each as if it were a hospital.
    pub(crate) successors: Vec<Self>,
}

/// Every hospital.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hospitals {
    pub(crate) hospitals: Vec<HospitalView>,
}

/// An operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OperatorView {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) not_after: String,
}

/// What an operator needs to sign about a hospital.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HospitalContext {
    pub(crate) hospital: HospitalView,
    pub(crate) certificate_request: Hex,
    /// The order that waits, as one operator signed it.
    pub(crate) pending: Option<Hex>,
    /// The order in force, as two operators signed it.
    pub(crate) order: Option<Hex>,
    pub(crate) operators: Vec<OperatorView>,
    /// The directory in force now.
    pub(crate) directory_version: u64,
}

/// What an operator needs to sign about a jurisdiction's fee.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScheduleContext {
    pub(crate) jurisdiction: String,
    /// The newest schedule's number; 0 if there is none.
    pub(crate) number: u64,
    /// The schedule that holds now, its own or that for all.
    pub(crate) in_force: Option<Hex>,
    /// The newest schedule of its own.
    pub(crate) newest: Option<Hex>,
    /// The schedule that waits, as one operator signed it.
    pub(crate) pending: Option<Hex>,
    pub(crate) operators: Vec<OperatorView>,
    /// The directory in force now.
    pub(crate) directory_version: u64,
}

/// What a submitted order or schedule has become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ordered {
    /// `pending` or `effective`.
    pub(crate) outcome: String,
    /// The directory in force now.
    pub(crate) directory_version: u64,
}

/// The directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DirectoryView {
    pub(crate) version: u64,
    pub(crate) issued: String,
    pub(crate) expires: String,
    /// Of head and pieces.
    pub(crate) bytes: usize,
    pub(crate) pieces: usize,
    pub(crate) operators: Vec<OperatorView>,
    pub(crate) hospitals: Vec<MemberView>,
    pub(crate) schedules: usize,
    pub(crate) log_size: u64,
    pub(crate) log_root: String,
    pub(crate) addresses: Vec<String>,
}

/// A hospital as the directory has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberView {
    pub(crate) hospital: HospitalId,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) key: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) patient_url: String,
    pub(crate) currency: String,
    pub(crate) jurisdiction: String,
}

/// An entry of the books. Amounts are decimal texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EntryView {
    pub(crate) sequence: u64,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) transfer: String,
    pub(crate) source: HospitalId,
    pub(crate) destination: HospitalId,
    /// A hospital, or `patient:` and the reference.
    pub(crate) payer: String,
    pub(crate) amount: String,
    pub(crate) currency: String,
    pub(crate) cap: String,
    pub(crate) reason: Option<String>,
    pub(crate) about: Option<String>,
    pub(crate) at: String,
    pub(crate) cycle: String,
    /// What shows that the fee is due, for a post: `receipt` or `silence`.
    pub(crate) proof: Option<String>,
    /// Why the transfer's fee is held for people, if it is.
    pub(crate) hold: Option<String>,
    /// The hash of the recall that gives this back, for a reversal.
    pub(crate) recall: Option<String>,
}

/// A page of entries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EntriesView {
    pub(crate) entries: Vec<EntryView>,
    pub(crate) next: Option<u64>,
}

/// Debits and credits, decimal texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AmountsView {
    pub(crate) currency: String,
    pub(crate) pending_debits: String,
    pub(crate) pending_credits: String,
    pub(crate) posted_debits: String,
    pub(crate) posted_credits: String,
}

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AccountView {
    pub(crate) holder: String,
    #[serde(flatten)]
    pub(crate) amounts: AmountsView,
}

/// Every account and the totals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BalancesView {
    pub(crate) entries: u64,
    pub(crate) accounts: Vec<AccountView>,
    pub(crate) totals: Vec<AmountsView>,
    /// Whether debits equal credits in every currency.
    pub(crate) balanced: bool,
}

/// A letter that a hospital refused for good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeadView {
    pub(crate) hospital: HospitalId,
    pub(crate) transfer: String,
    pub(crate) kind: String,
    pub(crate) code: String,
    pub(crate) at: String,
}

/// What waits for hospitals, and what they refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MailView {
    /// Letters per hospital; 1,000 stands for as many or more.
    pub(crate) waiting: BTreeMap<HospitalId, usize>,
    pub(crate) dead: Vec<DeadView>,
}

/// What a check found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckView {
    pub(crate) sound: bool,
    pub(crate) cells: u64,
    pub(crate) damaged: u64,
    pub(crate) entries: u64,
    pub(crate) transfers: u64,
    pub(crate) open_reservations: u64,
    /// Fees that are held until two operators settle them.
    pub(crate) open_holds: u64,
    /// Since when the first of them is.
    pub(crate) held_since: Option<String>,
    pub(crate) log_root: Option<String>,
    pub(crate) directory_version: u64,
    pub(crate) faults: Vec<String>,
    /// When the store was repaired, and what was known to be gone.
    pub(crate) repairs: Vec<String>,
}

/// What a hospital signed and may not have signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IncidentView {
    /// What it is called: SHA-256 of what was refused.
    pub(crate) id: String,
    /// Whose signature it bears.
    pub(crate) by: String,
    /// The artefact's type.
    pub(crate) artefact: String,
    /// Why it was refused.
    pub(crate) code: String,
    /// The transfer that it claims to belong to, if to one.
    pub(crate) transfer: Option<String>,
    /// When it first came.
    pub(crate) at: String,
    /// The transfer's file in which it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<Hex>,
}

/// All that are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IncidentsView {
    pub(crate) incidents: Vec<IncidentView>,
}

/// A hospital's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FolderView {
    pub(crate) hospital: HospitalId,
    pub(crate) packages: usize,
    /// Those of them that are still arriving.
    pub(crate) arriving: usize,
    pub(crate) bytes: u64,
    /// Since when the oldest is there.
    pub(crate) oldest: Option<String>,
    /// When the first of them goes.
    pub(crate) next_expiry: Option<String>,
}

/// Every folder that holds something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FoldersView {
    /// Whether packages are taken.
    pub(crate) enabled: bool,
    /// Of each folder.
    pub(crate) quota_bytes: u64,
    /// Of each source in each folder.
    pub(crate) share_bytes: u64,
    pub(crate) folders: Vec<FolderView>,
}

/// A hold, with what an operator needs to settle it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HoldContext {
    /// The transfer.
    pub(crate) transfer: String,
    /// The hold's entry, if there ever was one.
    pub(crate) hold: Option<String>,
    /// Why it is held; none once it is settled.
    pub(crate) why: Option<String>,
    /// What it was settled as by operators.
    pub(crate) settled: Option<String>,
    /// What one operator has signed.
    pub(crate) pending: Option<super::Hex>,
    /// What two have.
    pub(crate) order: Option<super::Hex>,
    /// Who may.
    pub(crate) operators: Vec<OperatorView>,
    /// The directory's version.
    pub(crate) directory_version: u64,
}

/// How a store stands that was restored from a backup.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RejoinView {
    /// Whether the index books, signs and hands out.
    pub(crate) speaks: bool,
    /// When that was found, or said by hand; none if it never was.
    pub(crate) found: Option<String>,
    /// When everything was back; none while it catches up.
    pub(crate) done: Option<String>,
    /// Who has still to tell.
    pub(crate) waits_for: Vec<HospitalId>,
    /// Entries of the log that were put back.
    pub(crate) entries: u64,
    /// Artefacts that were taken back.
    pub(crate) artefacts: u64,
    /// How large a log was signed that cannot be made whole.
    pub(crate) forked: Option<u64>,
}
