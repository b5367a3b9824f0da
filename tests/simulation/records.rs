//! The records of a move: who must have which at the end, and what they cost.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use handover_core::transfer::Phase;
use handover_core::{Digest, Party};
use handover_dossier::Kind;
use handover_exchange::TransferView;
use handover_records::{
    Action, Filter, GrantRequest, LocalPatient, Origin, Permit, Purpose, RecordSummary, RecordsError, Subject,
};

use crate::books::{Due, Payer};
use crate::corrections::Less;
use crate::ground::Held;
use crate::model::{Played, has};
use crate::places::{Hospital, Node};

/// No record's content is longer.
const CONTENT_MAX_BYTES: u64 = 1_000_000;
/// The fee is one in so many of the price.
pub(crate) const FEE_ONE_IN: i64 = 20;

/// Where a record lies under which number, and its content's hash.
pub(crate) type Named = (String, Digest);

/// What the transfers that were filed have brought to the destination.
#[derive(Default)]
struct Brought {
    has_to_be: BTreeSet<Named>,
    /// The destination says that it lost it.
    may_be: BTreeSet<Named>,
    charged: BTreeSet<String>,
}

impl Played<'_> {
    /// Both ends have the records that they should have, and no others; what has to stand in the books for that.
    pub(crate) async fn has_its_records(
        &self,
        hospitals: &[Hospital],
        liars: &BTreeSet<Party>,
    ) -> Result<Vec<Due>> {
        if self.told.transfer.is_none() {
            return Ok(Vec::new());
        }
        let here = held(hospitals, self.plan.source, &self.person.name, true).await?;
        let there = held(hospitals, self.plan.destination, &self.person.name, false).await?;
        let later = self.comes_later();
        // Lost before it was sent, unless the destination says that it lost it: what is delivered is what was there before,
        // once more.
        let is_gone = |it: &Held| !here.contains(&named(it)) && !there.contains(&named(it));
        let was_sent = |it: &&Held, is_lost: bool| is_lost || !(self.source_was_restored() && is_gone(it));
        let (mut brought, mut due) = (Brought::default(), Vec::new());
        for view in self.all(hospitals, self.plan.destination).await? {
            let mut fee_minor = None;
            if view.row.state.phase == Phase::Filed {
                let is_lost = self.is_named_as_lost(hospitals, view.row.transfer).await?;
                let records: Vec<&Held> = match view.row.origin {
                    None => self.scope().collect(),
                    Some(_) => later.iter().filter(|it| was_sent(it, is_lost)).collect(),
                };
                let may_be_lost = self.restored.contains(&self.plan.destination);
                ensure!(!is_lost || may_be_lost, "it names as lost what it did not lose");
                fee_minor = Some(brought.take(&records, is_lost));
            }
            let less = self.corrected(hospitals, &view).await?;
            due.push(self.due(&view, fee_minor, less)?);
        }
        self.has_no_dead_letters(hospitals).await?;
        self.accuses_nobody_honest(hospitals, liars).await?;
        if !self.is_gone(self.plan.source, &here)? {
            self.source_has_its_own(&here, later.as_ref())?;
        }
        self.nobody_else_has_any(hospitals).await?;
        if !self.is_gone(self.plan.destination, &there)? {
            brought.is_there(&there).with_context(|| format!("{:?}", self.plan))?;
        }
        Ok(due)
    }

    /// What is to be delivered under a continuous consent.
    pub(crate) fn comes_later(&self) -> Option<Held> {
        let was_done = |what| self.told.acknowledged.contains(&what);
        let corrected =
            self.plan.newer_version().filter(|_| self.plan.is_continuous && was_done("corrected"));
        let test = was_done("another test").then(|| self.plan.later_test());
        Some(test.or(corrected)?.0)
    }

    pub(crate) fn source_was_restored(&self) -> bool {
        self.restored.contains(&self.plan.source)
    }

    /// What has to stand in the books for a transfer; a fee, if it was filed.
    fn due(&self, view: &TransferView, fee_minor: Option<i64>, less: Less) -> Result<Due> {
        // A referral can be lost, too; the quote says so to the patient.
        let payer = match (self.plan.is_referred, self.source_was_restored()) {
            (true, true) => None,
            (true, false) => Some(Payer::Hospital(view.row.destination.clone())),
            (false, _) => Some(Payer::Patient(self.person.patient()?)),
        };
        Ok(Due {
            transfer: view.row.transfer,
            fee_minor: fee_minor.map(|fee| fee - less.never_minor),
            back_minor: less.back_minor,
            payer,
            may_be_held: view.row.state.phase == Phase::Revoked && has(view, Kind::Refusal),
            may_be_open: self.may_lack() && fee_minor.is_none(),
            // A source that lost what it had charged for charges for nothing of that time.
            may_be_free: view.row.origin.is_some() && self.source_was_restored(),
        })
    }

    async fn has_no_dead_letters(&self, hospitals: &[Hospital]) -> Result<()> {
        for at in [self.plan.source, self.plan.destination] {
            for view in self.all(hospitals, at).await? {
                let is_moot = self.may_lack() && view.row.state.phase != Phase::Filed;
                let is_well = view.refused.is_empty() || is_moot;
                ensure!(is_well, "{:?}: dead letters {:?}", self.plan, view.refused);
            }
        }
        Ok(())
    }

    async fn accuses_nobody_honest(&self, hospitals: &[Hospital], liars: &BTreeSet<Party>) -> Result<()> {
        for at in [self.plan.source, self.plan.destination] {
            let node = hospitals.get(at).and_then(Hospital::node).context("it runs")?;
            let incidents = node.exchange.incidents().await?;
            ensure!(
                incidents.iter().all(|it| liars.contains(&it.by)),
                "somebody honest is accused: {incidents:?}"
            );
        }
        Ok(())
    }

    fn source_has_its_own(&self, here: &BTreeSet<Named>, later: Option<&Held>) -> Result<()> {
        let laid: BTreeSet<_> = self.person.records.iter().map(named).collect();
        let was_corrected = self.told.acknowledged.contains(&"corrected");
        let newer = self.plan.newer_version().filter(|_| was_corrected).map(|(held, _)| named(&held));
        let own: BTreeSet<_> = laid.iter().cloned().chain(later.map(named)).chain(newer).collect();
        // It can have lost what was done since the backup.
        let may_be_lost = self.source_was_restored() && *here == laid;
        ensure!(*here == own || may_be_lost, "the source has {} of {} records", here.len(), own.len());
        Ok(())
    }

    async fn nobody_else_has_any(&self, hospitals: &[Hospital]) -> Result<()> {
        for at in 0..hospitals.len() {
            for (is_own, belongs_at) in [(true, self.plan.source), (false, self.plan.destination)] {
                let is_stray =
                    at != belongs_at && !held(hospitals, at, &self.person.name, is_own).await?.is_empty();
                ensure!(!is_stray, "records of {} at {at}", self.person.name);
            }
        }
        Ok(())
    }
}

impl Brought {
    /// What a filed transfer brought, and the fee for it.
    fn take(&mut self, records: &[&Held], is_lost: bool) -> i64 {
        // What was filed and lost can come again, and was charged.
        let new = records.iter().filter(|it| self.charged.insert(it.id.clone()));
        let price_minor: i64 = new.map(|it| it.price_minor).sum();
        let into = if is_lost { &mut self.may_be } else { &mut self.has_to_be };
        into.extend(records.iter().map(|it| named(it)));
        price_minor / FEE_ONE_IN
    }

    fn is_there(&self, there: &BTreeSet<Named>) -> Result<()> {
        let is_whole = self.has_to_be.is_subset(there);
        let may_be = |it: &Named| self.has_to_be.contains(it) || self.may_be.contains(it);
        ensure!(
            is_whole && there.iter().all(may_be),
            "the destination has {} records, {} are in the consent",
            there.len(),
            self.has_to_be.len()
        );
        Ok(())
    }
}

fn named(held: &Held) -> Named {
    (format!("{}/{}", held.department, held.id), held.hash)
}

/// The patient's records at a hospital that are its own, or came, each opened.
pub(crate) async fn held(
    hospitals: &[Hospital],
    number: usize,
    patient: &str,
    is_own: bool,
) -> Result<BTreeSet<Named>> {
    let hospital = hospitals.get(number).context("one of the hospitals")?;
    let node = hospital.node().context("it runs")?;
    let local: LocalPatient = patient.parse()?;
    let (permit, now) = (permit(hospital, &node, &local).await?, hospital.now());
    let mut found = BTreeSet::new();
    for it in listed(hospital, &node, &local, is_own).await? {
        let (_, content) = node.records.read(&permit, now, it.reference).await?;
        let hash = Digest::sha256(&[&content.bytes(CONTENT_MAX_BYTES).await?]);
        let place = format!("{}/{}", it.department, it.resource_id);
        ensure!(found.insert((place, hash)), "{patient} has {} twice", it.resource_id);
    }
    Ok(found)
}

/// All versions of them; but for the Provenance of what came.
pub(crate) async fn listed(
    hospital: &Hospital,
    node: &Node,
    patient: &LocalPatient,
    is_own: bool,
) -> Result<Vec<RecordSummary>, RecordsError> {
    let (permit, now) = (permit(hospital, node, patient).await?, hospital.now());
    let filter = Filter { include_history: true, ..Filter::default() };
    let mut found = node.records.snapshot(&permit, now, patient, &filter).await?;
    found.retain(|it| it.resource_type != "Provenance" && matches!(it.origin, Origin::Local) == is_own);
    Ok(found)
}

async fn permit(hospital: &Hospital, node: &Node, patient: &LocalPatient) -> Result<Permit, RecordsError> {
    let subject = Subject::System("exchange".into());
    let request = GrantRequest::new(subject, Action::Export, Purpose::Transfer, Some(patient.clone()));
    node.records.audit().permit(request, hospital.now()).await
}
