//! Transfers at the desk: requesting, listing, waiting for and showing them.

use std::collections::BTreeMap;
use std::time::Duration;

use handover_core::artefact::Signed;
use handover_core::artefact::patient::Scope;
use handover_core::artefact::recall::Recall;
use handover_core::id::{Department, TransferId};
use handover_core::transfer::{Phase, Role};
use handover_core::{Amount, Code, Timestamp};
use handover_dossier::{Kind, Row};
use handover_exchange::{Asked, ExchangeError, FeeOwed, InFolder, Refused, TransferView, Wait};
use serde::{Deserialize, Serialize};

use crate::Node;
use crate::error::NodeError;
use crate::operations::{Event, Events};

/// The state of an ask that waits for the desk.
pub(crate) const ASKED: &str = "asked";
const PAGE: usize = 500;

/// A transfer as far as it is known here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TransferShown {
    /// The transfer.
    pub transfer: String,
    /// `asked` or a phase.
    pub state: String,
    /// Why it ended, if for a reason.
    pub reason: Option<String>,
    /// Which attempt is under way, or was the last; none for an ask.
    pub attempt: Option<u32>,
    /// Whether the patient has consented and not released, or not to the key that was asked with last.
    pub awaits_release: bool,
    /// `source` or `destination`.
    pub role: String,
    /// The patient in the federation.
    pub patient: String,
    /// Who holds the records.
    pub source: String,
    /// Who gets them.
    pub destination: String,
    /// When it began here (RFC 3339).
    pub created: Option<String>,
    /// When its state last changed here, or something of it came.
    pub updated: Option<String>,
    /// Parcels that wait to go out.
    pub waiting: usize,
    /// Parcels that were refused for good.
    pub dead_letters: usize,
    /// Who refused them, and why.
    pub refused: Vec<RefusedShown>,
    /// Why it does not go on for now; it is tried again by itself.
    pub waits: Vec<WaitShown>,
    /// Records by department.
    pub departments: Option<BTreeMap<String, u64>>,
    /// All records.
    pub records: Option<u64>,
    /// Tests with a price.
    pub tests_priced: Option<u64>,
    /// Tests without.
    pub tests_unpriced: Option<u64>,
    /// Tests that are not sent and count for the fee, too.
    pub other_tests: Option<u64>,
    /// Tests that an earlier transfer charged, which add nothing.
    pub tests_charged_before: Option<u64>,
    /// Sum of the prices.
    pub basis: Option<String>,
    /// The fee.
    pub fee: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// `patient` or `hospital`.
    pub payer: Option<String>,
    /// A referral by which this hospital owes the fee.
    pub referral: Option<OwedShown>,
    /// Bytes of the package as it travels.
    pub package_bytes: Option<u64>,
    /// The transfer that it continues under a continuous consent, if it is a delivery.
    pub continues: Option<String>,
    /// How many deliveries have continued it.
    pub deliveries_count: u64,
    /// The newest of them, oldest first.
    pub deliveries: Vec<DeliveryShown>,
    /// Whether the fee `stands` or may, is `held` for people to look at, because the destination had the package and ended
    /// the transfer, or is `gone`.
    pub fee_standing: Option<String>,
    /// How often records of it were recalled.
    pub recalls: usize,
    /// What the recalls give back of the fee, if there are any.
    pub fee_back: Option<String>,
    /// Whether the package was left for the destination at the index, while that has not taken it.
    pub folder: Option<FolderShown>,
    /// What anybody can verify offline, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A referral to this hospital, and the fee that it owes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwedShown {
    /// Who refers; null if it cannot be read or the patient was forgotten.
    pub doctor: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The fee that was quoted.
    pub fee: String,
    /// ISO 4217.
    pub currency: String,
    /// Up to what it was accepted; null while it waits for a clerk.
    pub accepted: Option<String>,
}

/// A package in the destination's folder at the index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FolderShown {
    /// Until when it waits there (RFC 3339); null if the index has not taken it.
    pub until: Option<String>,
    /// Why the index did not take it.
    pub problem: Option<String>,
    /// What that means and what to do.
    pub text: Option<String>,
}

/// A delivery that continues a transfer under its consent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliveryShown {
    /// Its own transfer.
    pub transfer: String,
    /// Where it stands.
    pub state: String,
    /// Why it ended, if for a reason.
    pub reason: Option<String>,
}

/// A parcel that was refused for good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusedShown {
    /// `index` or a hospital.
    pub party: String,
    /// Why.
    pub code: String,
}

/// Why a transfer does not go on for now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaitShown {
    /// What has to wait: `quote`, `seal`, `send`, `release`, `file`, `expire`, `lapse`, `deliver` or, for what follows
    /// under a continuous consent, `continue`.
    pub step: String,
    /// For whom, if it is for somebody: `index` or a hospital.
    pub party: Option<String>,
    /// Why.
    pub code: String,
    /// What that means and what to do.
    pub text: String,
    /// When it is tried next (RFC 3339).
    pub next: String,
}

/// Transfers and asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransfersListed {
    /// Asks first, then transfers, oldest first.
    pub transfers: Vec<TransferShown>,
}

/// An ask waits no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dismissed {
    /// The transfer.
    pub transfer: String,
}

/// Dead letters are on their way again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resent {
    /// The transfer.
    pub transfer: String,
    /// How many.
    pub resent: usize,
}

impl TransferShown {
    fn of_row(row: &Row) -> Self {
        Self {
            transfer: row.transfer.to_string(),
            state: row.state.phase.to_string(),
            reason: row.state.reason.map(|code| code.to_string()),
            attempt: Some(row.state.attempt),
            role: row.role.to_string(),
            patient: row.patient.to_string(),
            source: row.source.to_string(),
            destination: row.destination.to_string(),
            created: Some(row.created.to_string()),
            updated: Some(row.updated.to_string()),
            continues: row.origin.map(|origin| origin.to_string()),
            ..Self::default()
        }
    }

    pub(super) fn of_view(view: TransferView, now: Timestamp) -> Self {
        let refused = |it: &Refused| RefusedShown { party: it.party.to_string(), code: it.code.to_string() };
        let mut shown = Self {
            awaits_release: view.awaits_release,
            waiting: view.waiting,
            dead_letters: view.refused.len(),
            refused: view.refused.iter().map(refused).collect(),
            waits: view.waits.iter().map(|wait| WaitShown::of(wait, now)).collect(),
            referral: view.owed.map(OwedShown::of),
            folder: view.folder.map(FolderShown::of),
            fee_standing: view.fee.map(|fee| fee.as_str().to_owned()),
            deliveries_count: view.deliveries_count,
            deliveries: view.deliveries.iter().map(DeliveryShown::of).collect(),
            ..Self::of_row(&view.row)
        };
        let recalls = view.artefacts.iter().filter(|(place, _)| place.kind == Kind::Recall);
        let back = |content: &[u8]| Some(Signed::<Recall>::read(content).ok()?.claim().fee_back);
        let backs: Vec<Amount> = recalls.filter_map(|(_, content)| back(content)).collect();
        shown.recalls = backs.len();
        // They are of one currency and within the fee: each was checked when it came.
        let sum = backs.into_iter().reduce(|sum, back| sum.checked_add(back).unwrap_or(sum));
        shown.fee_back = sum.map(|back| back.to_decimal_string());
        if let Some(details) = view.details {
            let departments = details.departments.into_iter().map(|(name, count)| (name.to_string(), count));
            shown.departments = Some(departments.collect());
            shown.records = Some(details.records);
            shown.tests_priced = Some(details.tests_priced);
            shown.tests_unpriced = Some(details.tests_unpriced);
            shown.other_tests = Some(details.other_tests);
            shown.tests_charged_before = Some(details.tests_charged_before);
            shown.basis = Some(details.basis);
            shown.fee = Some(details.fee.to_decimal_string());
            shown.currency = Some(details.fee.currency().to_string());
            shown.payer = Some(details.payer.to_string());
            shown.package_bytes = details.package_bytes;
        }
        shown
    }

    fn of_ask(ask: &Asked, here: &str) -> Self {
        Self {
            transfer: ask.transfer.to_string(),
            state: ASKED.to_owned(),
            role: Role::Destination.to_string(),
            patient: ask.patient.to_string(),
            source: ask.source.to_string(),
            destination: here.to_owned(),
            ..Self::default()
        }
    }
}

impl DeliveryShown {
    fn of(row: &Row) -> Self {
        Self {
            transfer: row.transfer.to_string(),
            state: row.state.phase.to_string(),
            reason: row.state.reason.map(|code| code.to_string()),
        }
    }
}

impl OwedShown {
    fn of(owed: FeeOwed) -> Self {
        let (doctor, reason) = owed.referral.map(|it| (it.doctor, it.reason)).unzip();
        Self {
            doctor,
            reason: reason.flatten(),
            fee: owed.fee.to_decimal_string(),
            currency: owed.fee.currency().to_string(),
            accepted: owed.accepted.map(|cap| cap.to_decimal_string()),
        }
    }
}

impl FolderShown {
    fn of(folder: InFolder) -> Self {
        Self {
            until: folder.until.map(|until| until.to_string()),
            problem: folder.problem.map(|code| code.to_string()),
            text: folder.problem.map(|code| code.text().to_owned()),
        }
    }
}

impl WaitShown {
    fn of(wait: &Wait, now: Timestamp) -> Self {
        let next_ms = i64::try_from(wait.next_in.as_millis()).unwrap_or(i64::MAX);
        Self {
            step: wait.step.to_owned(),
            party: wait.party.as_ref().map(ToString::to_string),
            code: wait.code.to_string(),
            text: wait.code.text().to_owned(),
            next: now.plus_ms(next_ms).to_string(),
        }
    }

    /// As people read it.
    pub(crate) fn line(&self) -> String {
        let party = self.party.as_ref().map(|party| format!(" to {party}")).unwrap_or_default();
        let Self { step, code, text, next, .. } = self;
        format!("{step}{party} waits: {code}, next try {next}. {text}")
    }
}

pub(super) async fn request(
    node: &Node,
    transfer: TransferId,
    departments: Vec<Department>,
    (from, until): (Option<Timestamp>, Option<Timestamp>),
) -> Result<TransferShown, NodeError> {
    let departments = (!departments.is_empty()).then_some(departments);
    let scope = Scope { departments, from, until, ..Scope::everything() };
    node.exchange.request(transfer, scope).await?;
    Ok(TransferShown::of_view(node.exchange.transfer(transfer).await?, node.now()))
}

pub(super) async fn list(node: &Node) -> Result<TransfersListed, NodeError> {
    let asks = node.exchange.asks().await?;
    let here = node.hospital().as_str();
    let mut transfers: Vec<TransferShown> = asks.iter().map(|ask| TransferShown::of_ask(ask, here)).collect();
    let mut after = None;
    loop {
        let page = node.exchange.transfers(after, PAGE).await?;
        after = page.last().map(|row| row.transfer);
        transfers.extend(page.iter().map(TransferShown::of_row));
        if page.len() < PAGE {
            return Ok(TransfersListed { transfers });
        }
    }
}

/// What is waited for, and how long.
pub(super) struct Waiting<'a> {
    pub(super) wait_ms: Option<u64>,
    pub(super) until: Option<&'a str>,
    pub(super) deliveries: Option<u64>,
}

pub(super) async fn show(
    node: &Node,
    transfer: TransferId,
    Waiting { wait_ms, until, deliveries }: Waiting<'_>,
    file: bool,
    events: &Events,
) -> Result<TransferShown, NodeError> {
    let phase = until.map_or(Ok(Phase::Filed), str::parse);
    let phase =
        phase.map_err(|_| NodeError::refused(Code::UsageInvalid, "--until names no phase of a transfer"))?;
    if let Some(wait_ms) = wait_ms {
        // It may still come, so this waits all the same; but nobody should wait for a typing error unknowingly.
        if !is_known(node, transfer).await? {
            let text = format!("No transfer {transfer} is known here so far.");
            events.tell(Event::Note { text }).await;
        }
        let limit = Duration::from_millis(wait_ms);
        let reached = async {
            match deliveries {
                Some(count) => node.exchange.wait_for_deliveries(transfer, count, limit).await,
                None => node.exchange.wait_for(transfer, phase, limit).await.map(drop),
            }
        };
        tokio::select! {
            reached = reached => if let Err(fault) = reached {
                return Err(in_vain(node, transfer, fault).await);
            },
            () = node.stopping.cancelled() => return Err(NodeError::Stopping),
        }
    }
    match node.exchange.transfer(transfer).await {
        Ok(view) => {
            let mut shown = TransferShown::of_view(view, node.now());
            if file {
                shown.file = Some(hex::encode(node.exchange.transfer_file(transfer).await?));
            }
            Ok(shown)
        }
        Err(fault) if fault.code() == Code::UnknownTransfer => {
            let asks = node.exchange.asks().await?;
            let ask = asks.iter().find(|ask| ask.transfer == transfer).ok_or(fault)?;
            Ok(TransferShown::of_ask(ask, node.hospital().as_str()))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Whether a transfer or an ask for it is here.
async fn is_known(node: &Node, transfer: TransferId) -> Result<bool, NodeError> {
    match node.exchange.transfer(transfer).await {
        Err(fault) if fault.code() == Code::UnknownTransfer => {
            Ok(node.exchange.asks().await?.iter().any(|ask| ask.transfer == transfer))
        }
        known => Ok(known.map(|_| true)?),
    }
}

/// A wait that was in vain says where the transfer stands and what holds it up.
async fn in_vain(node: &Node, transfer: TransferId, fault: ExchangeError) -> NodeError {
    let stands = node.exchange.transfer(transfer).await.map(|view| TransferShown::of_view(view, node.now()));
    let stands = match (fault.code(), stands) {
        (Code::TimedOut, Ok(stands)) => stands,
        (Code::TimedOut, Err(unknown)) if !is_known(node, transfer).await.unwrap_or(true) => {
            return unknown.into();
        }
        _ => return fault.into(),
    };
    let lines = std::iter::once(format!("the transfer is {}", stands.state));
    let lines: Vec<String> = lines.chain(stands.waits.iter().map(WaitShown::line)).collect();
    NodeError::refused(Code::TimedOut, lines.join("\n"))
}

pub(super) async fn again(
    node: &Node,
    transfer: TransferId,
    attempt: Option<u32>,
) -> Result<TransferShown, NodeError> {
    node.exchange.ask_again(transfer, attempt).await?;
    Ok(TransferShown::of_view(node.exchange.transfer(transfer).await?, node.now()))
}

pub(super) async fn resend(node: &Node, transfer: TransferId, all: bool) -> Result<Resent, NodeError> {
    let resent = node.exchange.resend(transfer, all).await?;
    Ok(Resent { transfer: transfer.to_string(), resent })
}

pub(super) async fn dismiss(node: &Node, transfer: TransferId) -> Result<Dismissed, NodeError> {
    node.exchange.dismiss(transfer).await?;
    Ok(Dismissed { transfer: transfer.to_string() })
}
