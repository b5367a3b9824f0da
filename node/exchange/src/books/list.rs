//! This hospital's fees, as finance reads them: what the index has booked beside what this hospital's evidence says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handover_core::artefact::Signed;
use handover_core::artefact::books::LedgerPage;
use handover_core::ledger::{Entry, EntryKind, Holder, Proof, Reason, TransferLedger};
use handover_core::time::HOUR_MS;
use handover_core::transfer::Role;
use handover_core::verify::{Report, Standing};
use handover_core::{Amount, Code, Currency, Digest, HospitalId, Party, Timestamp, TransferId};
use handover_store::StoreError;

use super::look::{self, Known};
use super::rows::{self, Mark};
use crate::{Exchange, ExchangeError};

/// After how long it is told that the index does not show its books.
const STALE_MS: i64 = 6 * HOUR_MS;

/// A transfer's fee.
#[derive(Clone, Debug)]
pub struct FeeLine {
    /// The transfer.
    pub transfer: TransferId,
    /// Whether it is due to this hospital or for what this hospital received.
    pub role: Role,
    /// The other hospital.
    pub counterparty: HospitalId,
    /// Who pays.
    pub payer: Holder,
    /// What the package's header charges; none if this hospital has none.
    pub fee: Option<Amount>,
    /// What is due by what was signed, in minor units, less what was given back.
    pub due_minor: i64,
    /// What the index has posted, in minor units, less what was reversed.
    pub posted_minor: i64,
    /// What it has reserved and not resolved, in minor units.
    pub reserved_minor: i64,
    /// The currency.
    pub currency: Currency,
    /// What the destination disputes, if it does: the hold, and what two operators made of it.
    pub hold: Option<(Entry, Option<Reason>)>,
    /// How the two stand to each other.
    pub standing: Standing,
    /// The incident with the proof, if something is wrong and proven.
    pub incident: Option<Digest>,
}

/// Fees with one hospital in one currency.
#[derive(Clone, Debug)]
pub struct Counterparty {
    /// The hospital.
    pub hospital: HospitalId,
    /// The currency.
    pub currency: Currency,
    /// Due to this hospital by that one: by the evidence, and by the index. In minor units.
    pub receivable_minor: (i64, i64),
    /// The same by patients who moved there.
    pub patients_minor: (i64, i64),
    /// Due by this hospital to that one. What its patients pay is not among it.
    pub payable_minor: (i64, i64),
    /// How many transfers.
    pub transfers: u64,
    /// How many of them differ.
    pub differences: u64,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Books {
    /// As of when, by the index's word; none before it was asked.
    pub as_of: Option<Timestamp>,
    /// Entries in its log then.
    pub log_size: u64,
    /// Whether everything that concerns this hospital up to then is here.
    pub is_whole: bool,
    /// Whether the books did not continue what was signed before, and nobody has dealt with that.
    pub rewritten: bool,
    /// Whether the index is there, and has not shown them whole and as of now for hours.
    pub stale: bool,
    /// By transfer.
    pub fees: Vec<FeeLine>,
    /// By hospital and currency.
    pub counterparties: Vec<Counterparty>,
}

impl Exchange {
    /// What is wrong with the index's books, if something is: what stands now, or was rewritten and not dealt with, or
    /// that they are not shown.
    ///
    /// # Errors
    /// The store's.
    pub async fn books_fault(&self) -> Result<Option<Code>, ExchangeError> {
        let keys = self.0.keys();
        let read = self.0.parts.store.read(move |txn| -> Result<_, StoreError> {
            let standing = rows::differences(txn, &keys)?.into_iter().next();
            let rewritten = rows::marked(txn, &keys, Mark::Rewritten)?.map(|_| Code::LedgerRewritten);
            Ok((standing.map(|it| it.code).or(rewritten), rows::marked(txn, &keys, Mark::Behind)?))
        });
        let (fault, behind) = read.await?;
        Ok(fault.or_else(|| self.is_stale(behind).then_some(Code::LedgerStale)))
    }

    /// Whether that was so for long enough, and the index is there to show more.
    fn is_stale(&self, behind: Option<Timestamp>) -> bool {
        let is_connected = self.0.net.get().is_some_and(|net| net.connected().contains(&Party::Index));
        is_connected && behind.is_some_and(|since| self.0.now() >= since.plus_ms(STALE_MS))
    }

    /// This hospital's fees: the index's word beside its own evidence.
    ///
    /// # Errors
    /// The store's.
    pub async fn books(&self) -> Result<Books, ExchangeError> {
        let inner = &self.0;
        let keys = inner.keys();
        let read = inner.parts.store.read(move |txn| -> Result<_, StoreError> {
            let (mut transfers, mut after) = (BTreeSet::new(), None::<Vec<u8>>);
            loop {
                let (page, next) = rows::transfers(txn, &keys, after.as_deref())?;
                transfers.extend(page);
                after = next;
                if after.is_none() {
                    break;
                }
            }
            let mut last = None;
            loop {
                let page = rows::all_open(txn, &keys, last.as_ref())?;
                let Some(open) = page.last() else { break };
                last = Some(open.transfer);
                transfers.extend(page.iter().map(|open| open.transfer));
            }
            let differences = rows::differences(txn, &keys)?;
            let rewritten = rows::marked(txn, &keys, Mark::Rewritten)?.is_some();
            let behind = rows::marked(txn, &keys, Mark::Behind)?;
            Ok((rows::head(txn, &keys)?, transfers, differences, rewritten, behind))
        });
        let (head, transfers, differences, rewritten, behind) = read.await?;
        let page = head.as_ref().and_then(|head| Signed::<LedgerPage>::read(head.page.as_ref()).ok());
        let incidents: BTreeMap<_, _> = differences.iter().map(|it| (it.transfer, it)).collect();
        let mut fees = Vec::new();
        for transfer in transfers {
            let Some(known) = look::known(&Arc::clone(inner), transfer).await? else { continue };
            let found = incidents.get(&transfer);
            // What is late is a difference only once it was for long enough.
            let standing = match (found, known.standing) {
                (Some(found), _) => Standing::Differs(found.code),
                (None, Standing::Late(_)) => Standing::InFlight,
                (None, standing) => standing,
            };
            let line = line(transfer, &known, inner.own(), standing, found.and_then(|it| it.incident));
            fees.extend(line);
        }
        Ok(Books {
            as_of: page.as_ref().map(|page| page.claim().issued),
            log_size: page.as_ref().map_or(0, |page| page.claim().size),
            is_whole: head.zip(page).is_some_and(|(head, page)| head.next == page.claim().size),
            rewritten,
            stale: self.is_stale(behind),
            counterparties: counterparties(&fees),
            fees,
        })
    }
}

fn line(
    transfer: TransferId,
    Known { entries, own, .. }: &Known,
    hospital: &HospitalId,
    standing: Standing,
    incident: Option<Digest>,
) -> Option<FeeLine> {
    let first = entries.first();
    let terms = own.as_ref().and_then(|own| own.founded.terms.as_ref());
    let (source, destination, payer, amount) = match (terms, first) {
        (Some(terms), _) => (&terms.source, &terms.destination, &terms.payer, terms.amount),
        (None, Some(entry)) => (&entry.source, &entry.destination, &entry.payer, entry.amount),
        (None, None) => return None,
    };
    let role = if source == hospital { Role::Source } else { Role::Destination };
    let sum = |kinds: &[EntryKind]| {
        let wanted = entries.iter().filter(|entry| kinds.contains(&entry.kind));
        wanted.fold(0_i64, |sum, entry| sum.saturating_add(entry.amount.minor()))
    };
    let posted_minor = sum(&[EntryKind::Post, EntryKind::PostDirect]);
    let is_open = entries.iter().all(|entry| matches!(entry.kind, EntryKind::Reserve | EntryKind::Hold));
    Some(FeeLine {
        transfer,
        role,
        counterparty: if role == Role::Source { destination.clone() } else { source.clone() },
        payer: payer.clone(),
        fee: terms.map(|terms| terms.amount),
        due_minor: own.as_ref().map_or(0, |own| due(own, entries)),
        posted_minor: posted_minor.saturating_sub(sum(&[EntryKind::Reverse])),
        reserved_minor: if is_open { sum(&[EntryKind::Reserve]) } else { 0 },
        currency: amount.currency(),
        hold: held(entries),
        standing,
        incident,
    })
}

/// The hold that is open, or that operators have settled.
fn held(entries: &[Entry]) -> Option<(Entry, Option<Reason>)> {
    let ledger = TransferLedger::from_entries(entries.iter().cloned()).ok()?;
    let release = ledger.release().and_then(|release| release.reason);
    let hold = ledger.hold().filter(|_| release.is_some() || ledger.open_hold().is_some())?;
    Some((hold.clone(), release))
}

/// What is due by what was signed: the fee, with a receipt of it, once silence is counted as one, or as two operators
/// have ordered; less recalls.
fn due(own: &Report, entries: &[Entry]) -> i64 {
    let Some(fee) = own.fee else { return 0 };
    if entries.iter().any(|entry| entry.reason == Some(Reason::SettledForPayer)) {
        return 0;
    }
    let is_filed = own.founded.receipts.iter().any(|(_, stated, _)| *stated == fee);
    let by = |wanted: Proof| entries.iter().any(|entry| entry.proof() == Some(wanted));
    let is_silent = own.founded.silence.is_some() && by(Proof::Silence);
    if !is_filed && !is_silent && !by(Proof::Order) {
        return 0;
    }
    own.founded.recalls.iter().fold(fee.minor(), |left, recall| left.saturating_sub(recall.back.minor()))
}

fn counterparties(fees: &[FeeLine]) -> Vec<Counterparty> {
    let mut all: BTreeMap<(HospitalId, Currency), Counterparty> = BTreeMap::new();
    for fee in fees {
        let of = all.entry((fee.counterparty.clone(), fee.currency)).or_insert_with(|| Counterparty {
            hospital: fee.counterparty.clone(),
            currency: fee.currency,
            receivable_minor: (0, 0),
            patients_minor: (0, 0),
            payable_minor: (0, 0),
            transfers: 0,
            differences: 0,
        });
        let sums = match (fee.role, &fee.payer) {
            (Role::Source, Holder::Hospital(_)) => Some(&mut of.receivable_minor),
            (Role::Source, Holder::Patient(_)) => Some(&mut of.patients_minor),
            (_, Holder::Hospital(_)) => Some(&mut of.payable_minor),
            (_, Holder::Patient(_)) => None,
        };
        if let Some(sums) = sums {
            *sums = (sums.0.saturating_add(fee.due_minor), sums.1.saturating_add(fee.posted_minor));
        }
        of.transfers = of.transfers.saturating_add(1);
        let differs = matches!(fee.standing, Standing::Differs(_));
        of.differences = of.differences.saturating_add(u64::from(differs));
    }
    all.into_values().collect()
}
