//! The reference model: what must be true of a story, said as plainly as can be, and compared with what the processes
//! have.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use handover_core::transfer::{Phase, State};
use handover_core::{Code, Digest, HospitalId, TransferId};
use handover_dossier::Kind;
use handover_exchange::TransferView;
use handover_records::{Action, Filter, GrantRequest, LocalPatient, Origin, Purpose, Subject};
use serde_json::json;

use crate::ground::{Held, Person};
use crate::people::{Decision, Move, Told};
use crate::places::{Hospital, IndexSeat};

/// Rows that are read at once; no story has as many transfers.
const ROWS: usize = 100;

/// What was seen of transfers: nothing goes back.
#[derive(Default)]
pub(crate) struct Seen(RefCell<BTreeMap<(HospitalId, TransferId), State>>);

fn is_final(phase: Phase) -> bool {
    phase >= Phase::Filed
}

impl Seen {
    /// Looks at every hospital that runs.
    pub(crate) async fn look(&self, hospitals: &[Hospital]) -> Result<()> {
        for hospital in hospitals {
            let Some(node) = hospital.node() else { continue };
            // It may be killed while it is asked.
            let Ok(rows) = node.exchange.transfers(None, ROWS).await else { continue };
            let mut seen = self.0.borrow_mut();
            for row in rows {
                let key = (hospital.id.clone(), row.transfer);
                if let Some(before) = seen.insert(key, row.state.clone()) {
                    let now = &row.state;
                    let goes_on = (before.attempt, before.phase) <= (now.attempt, now.phase);
                    ensure!(
                        if is_final(before.phase) { before == *now } else { goes_on },
                        "{} at {} went from {before:?} to {now:?}",
                        row.transfer,
                        hospital.id
                    );
                }
            }
        }
        Ok(())
    }
}

/// One move and all that is known of it.
pub(crate) struct Played<'a> {
    pub(crate) plan: &'a Move,
    pub(crate) person: &'a Person,
    pub(crate) told: Told,
}

impl Played<'_> {
    /// What the consent is to.
    fn scope(&self) -> impl Iterator<Item = &Held> {
        let wanted = self.plan.departments.as_ref();
        self.person.records.iter().filter(move |it| wanted.is_none_or(|few| few.contains(&it.department)))
    }

    /// 5 % of the prices in scope, in minor units.
    fn fee_minor(&self) -> i64 {
        self.scope().map(|it| it.price_minor).sum::<i64>() / 20
    }

    /// The phases that it may end in.
    fn ends(&self) -> Result<&'static [Phase]> {
        if self.told.acknowledged.last() == Some(&"asked") {
            bail!("the desk could not ask: {:?}", self.told);
        }
        Ok(match (self.plan.decision, self.told.refused) {
            (Decision::Nothing, None) => &[Phase::Quoted],
            (Decision::No, None) => &[Phase::Refused],
            (Decision::Yes, None) => &[Phase::Filed],
            // It may have been too late.
            (Decision::TakenBack, None) => &[Phase::Revoked, Phase::Filed],
            (Decision::TakenBack, Some(("taken back", Code::OutOfOrder))) => &[Phase::Filed],
            (_, Some((what, code))) => bail!("{what} was refused: {code}"),
        })
    }

    /// Whether it stands where it has to, at both hospitals.
    pub(crate) async fn is_over(&self, hospitals: &[Hospital]) -> Result<bool> {
        let ends = self.ends()?;
        let [source, destination] = [
            self.state(hospitals, self.plan.source).await?,
            self.state(hospitals, self.plan.destination).await?,
        ];
        for state in [&source, &destination].into_iter().flatten() {
            let may_be = !is_final(state.phase) || ends.contains(&state.phase);
            ensure!(may_be, "{:?} ended as {state:?}", self.plan);
        }
        if source != destination || source.is_none_or(|state| !ends.contains(&state.phase)) {
            return Ok(false);
        }
        Ok(!self.plan.is_continuous || self.is_continued(hospitals).await?)
    }

    /// Whether what is delivered under a continuous consent stands where it has to, at both hospitals.
    async fn is_continued(&self, hospitals: &[Hospital]) -> Result<bool> {
        let [source, destination] = [
            self.view(hospitals, self.plan.source).await?,
            self.view(hospitals, self.plan.destination).await?,
        ];
        let (Some(source), Some(destination)) = (source, destination) else { return Ok(true) };
        let [here, there] = [&source, &destination].map(delivered);
        for (_, state) in here.iter().chain(&there) {
            let may_be = matches!(state.phase, Phase::Filed | Phase::Revoked) || !is_final(state.phase);
            ensure!(may_be, "a delivery of {:?} ended as {state:?}", self.plan);
        }
        let is_settled = here == there && here.iter().all(|(_, state)| is_final(state.phase));
        Ok(is_settled
            && match self.plan.decision {
                _ if source.row.state.phase != Phase::Filed => here.is_empty(),
                // Each has said that nothing more comes, and the other one knows.
                Decision::TakenBack => {
                    [&source, &destination].into_iter().all(is_confirmed) && here.len() <= 1
                }
                _ => here.len() == 1 && here.iter().all(|(_, state)| state.phase == Phase::Filed),
            })
    }

    async fn view(&self, hospitals: &[Hospital], number: usize) -> Result<Option<TransferView>> {
        let transfer = self.told.transfer.context("a transfer")?;
        let node = hospitals.get(number).and_then(Hospital::node).context("it runs")?;
        match node.exchange.transfer(transfer).await {
            Ok(view) => Ok(Some(view)),
            Err(fault) if fault.code() == Code::UnknownTransfer => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn state(&self, hospitals: &[Hospital], number: usize) -> Result<Option<State>> {
        Ok(self.view(hospitals, number).await?.map(|view| view.row.state))
    }

    /// Both ends have the records that they should have, and no others; the fees that are due for that.
    pub(crate) async fn has_its_records(&self, hospitals: &[Hospital]) -> Result<Vec<Due>> {
        let (mut wanted, mut due) = (BTreeSet::new(), Vec::new());
        let later = self.told.acknowledged.contains(&"another test").then(|| self.plan.later_test().0);
        let there = self.view(hospitals, self.plan.destination).await?;
        if let Some(there) = there.filter(|there| there.row.state.phase == Phase::Filed) {
            wanted.extend(self.scope().map(named));
            due.push((there.row.transfer, self.fee_minor()));
            for (transfer, _) in delivered(&there).iter().filter(|(_, state)| state.phase == Phase::Filed) {
                let later = later.as_ref().context("something to deliver")?;
                wanted.insert(named(later));
                due.push((*transfer, later.price_minor / 20));
            }
        }
        let own: BTreeSet<_> = self.person.records.iter().chain(&later).map(named).collect();
        let here = held(hospitals, self.plan.source, &self.person.name, true).await?;
        ensure!(here == own, "the source has {} of {} records", here.len(), own.len());
        let there = held(hospitals, self.plan.destination, &self.person.name, false).await?;
        ensure!(
            there == wanted,
            "{:?}: the destination has {} records, {} are in the consent",
            self.plan,
            there.len(),
            wanted.len()
        );
        Ok(due)
    }

    /// How the last transfer of it ended, as its destination has it: a delivery, or that which was asked for.
    pub(crate) async fn last_end(&self, hospitals: &[Hospital]) -> Result<Option<Phase>> {
        let Some(view) = self.view(hospitals, self.plan.destination).await? else { return Ok(None) };
        let last = view.deliveries.last().unwrap_or(&view.row);
        Ok(Some(last.state.phase))
    }

    /// What dumps say of it.
    pub(crate) async fn stands(&self, hospitals: &[Hospital]) -> String {
        let mut said = format!("{:?}\n  {:?}", self.plan, self.told);
        let Some(transfer) = self.told.transfer else { return said };
        for hospital in hospitals {
            let Some(node) = hospital.node() else { continue };
            if let Ok(view) = node.exchange.transfer(transfer).await {
                let kinds: Vec<_> = view
                    .artefacts
                    .iter()
                    .map(|(place, _)| format!("{}-{}", place.kind, place.attempt))
                    .collect();
                said += &format!(
                    "\n  {}: {:?} deliveries {:?} waiting {} waits {:?} refused {:?} folder {:?}\n    {kinds:?}",
                    hospital.id,
                    view.row.state,
                    delivered(&view),
                    view.waiting,
                    view.waits,
                    view.refused,
                    view.folder
                );
            }
        }
        said
    }
}

/// A fee that is due: which transfer's, in minor units.
pub(crate) type Due = (TransferId, i64);

/// What was delivered under a transfer's consent.
fn delivered(view: &TransferView) -> Vec<(TransferId, State)> {
    view.deliveries.iter().map(|row| (row.transfer, row.state.clone())).collect()
}

/// Whether both hospitals' words on a revocation are there.
fn is_confirmed(view: &TransferView) -> bool {
    let has = |kind: Kind| view.artefacts.iter().any(|(place, _)| place.kind == kind);
    has(Kind::ConfirmedBySource) && has(Kind::ConfirmedByDestination)
}

fn named(held: &Held) -> (String, Digest) {
    (format!("{}/{}", held.department, held.id), held.hash)
}

/// The patient's records at a hospital that are its own, or came; but for the Provenance of what came.
async fn held(
    hospitals: &[Hospital],
    number: usize,
    patient: &str,
    is_own: bool,
) -> Result<BTreeSet<(String, Digest)>> {
    let hospital = hospitals.get(number).context("one of the hospitals")?;
    let node = hospital.node().context("it runs")?;
    let patient: LocalPatient = patient.parse()?;
    let subject = Subject::System("exchange".into());
    let request = GrantRequest::new(subject, Action::Export, Purpose::Transfer, Some(patient.clone()));
    let now = hospital.now();
    let permit = node.records.audit().permit(request, now).await?;
    let all = node.records.snapshot(&permit, now, &patient, &Filter::default()).await?;
    let wanted = all
        .into_iter()
        .filter(|it| it.resource_type != "Provenance" && matches!(it.origin, Origin::Local) == is_own);
    Ok(wanted.map(|it| (format!("{}/{}", it.department, it.resource_id), it.content_hash)).collect())
}

/// The index's books say what the moves say: each fee that is due once, nobody else's.
pub(crate) async fn books_agree(index: &IndexSeat, due: &[Due]) -> Result<()> {
    let checked = index.op(json!({"op": "check"})).await?;
    ensure!(checked["sound"] == true, "the index's check: {checked}");
    let balances = index.op(json!({"op": "ledger-balances"})).await?;
    ensure!(balances["balanced"] == true, "{balances}");
    let entries = index.op(json!({"op": "ledger-entries", "after": null})).await?;
    let mut posted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut pending = BTreeSet::new();
    for entry in entries["entries"].as_array().context("entries")? {
        // Those that follow post it, let it go or have people look at it.
        match entry["kind"] == "reserve" {
            true => pending.insert(entry["transfer"].to_string()),
            false => pending.remove(&entry["transfer"].to_string()),
        };
        // One that was let go before its receipt came is posted directly.
        if entry["kind"] == "post" || entry["kind"] == "post-direct" {
            let amount = entry["amount"].as_str().context("an amount")?.replace('.', "");
            posted.entry(entry["transfer"].to_string()).or_default().push(amount.parse()?);
        }
    }
    for (transfer, fee_minor) in due {
        let found = posted.remove(&json!(transfer.to_string()).to_string()).unwrap_or_default();
        ensure!(found == [*fee_minor], "{transfer}: posted {found:?}, due {fee_minor}");
    }
    ensure!(posted.is_empty(), "nobody's fees: {posted:?}");
    ensure!(pending.is_empty(), "fees that are reserved for good: {pending:?}");
    Ok(())
}
