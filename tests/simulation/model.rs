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
use serde_json::{Value, json};

use crate::ground::{HOSPITALS, Held, Person};
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
        Ok(self.is_heard(hospitals).await?
            && (!self.plan.is_continuous || self.is_continued(hospitals).await?))
    }

    /// Whether each hospital has said what a consent that was taken back has come to, and the other one knows.
    async fn is_heard(&self, hospitals: &[Hospital]) -> Result<bool> {
        for at in [self.plan.source, self.plan.destination] {
            let view = self.view(hospitals, at).await?.context("a transfer")?;
            let is_confirmed =
                has(&view, Kind::ConfirmedBySource) && has(&view, Kind::ConfirmedByDestination);
            if self.told.acknowledged.contains(&"taken back") && !is_confirmed {
                return Ok(false);
            }
        }
        Ok(true)
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
                Decision::TakenBack => here.len() <= 1,
                _ => here.len() == 1 && here.iter().all(|(_, state)| state.phase == Phase::Filed),
            })
    }

    async fn view(&self, hospitals: &[Hospital], number: usize) -> Result<Option<TransferView>> {
        view(hospitals, number, self.told.transfer.context("a transfer")?).await
    }

    /// The transfer that was asked for, and what was delivered under its consent, as a hospital has them.
    async fn all(&self, hospitals: &[Hospital], number: usize) -> Result<Vec<TransferView>> {
        let mut all: Vec<TransferView> = self.view(hospitals, number).await?.into_iter().collect();
        let delivered: Vec<TransferId> =
            all.iter().flat_map(|view| &view.deliveries).map(|row| row.transfer).collect();
        for transfer in delivered {
            all.extend(view(hospitals, number, transfer).await?);
        }
        Ok(all)
    }

    async fn state(&self, hospitals: &[Hospital], number: usize) -> Result<Option<State>> {
        Ok(self.view(hospitals, number).await?.map(|view| view.row.state))
    }

    /// Both ends have the records that they should have, and no others; what has to stand in the books for that.
    pub(crate) async fn has_its_records(&self, hospitals: &[Hospital]) -> Result<Vec<Due>> {
        let (mut wanted, mut due) = (BTreeSet::new(), Vec::new());
        let later = self.told.acknowledged.contains(&"another test").then(|| self.plan.later_test().0);
        for view in self.all(hospitals, self.plan.destination).await? {
            let mut fee_minor = None;
            if view.row.state.phase == Phase::Filed {
                let brings: Vec<&Held> = match view.row.origin {
                    None => self.scope().collect(),
                    Some(_) => later.iter().collect(),
                };
                fee_minor = Some(brings.iter().map(|it| it.price_minor).sum::<i64>() / 20);
                wanted.extend(brings.into_iter().map(named));
            }
            let may_be_held = view.row.state.phase == Phase::Revoked && has(&view, Kind::Refusal);
            let payer = self.plan.is_referred.then(|| view.row.destination.clone());
            due.push(Due { transfer: view.row.transfer, fee_minor, payer, may_be_held });
        }
        for at in [self.plan.source, self.plan.destination] {
            for view in self.all(hospitals, at).await? {
                ensure!(view.refused.is_empty(), "{:?}: dead letters {:?}", self.plan, view.refused);
            }
            let node = hospitals.get(at).and_then(Hospital::node).context("it runs")?;
            let incidents = node.exchange.incidents().await?;
            ensure!(incidents.is_empty(), "somebody honest is accused: {incidents:?}");
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

    /// The last transfer of it, a delivery or that which was asked for, ended like this at both; if it was revoked, while
    /// its release was under way.
    pub(crate) async fn has_ended_as(&self, hospitals: &[Hospital], wanted: Phase) -> Result<()> {
        for at in [self.plan.source, self.plan.destination] {
            let last = self.all(hospitals, at).await?.pop().context("a transfer")?;
            let phase = last.row.state.phase;
            ensure!(phase == wanted, "it ended as {phase}, and not as {wanted}");
            let was_late = has(&last, Kind::KeyRelease) && has(&last, Kind::Refusal);
            ensure!(wanted != Phase::Revoked || was_late, "nothing was released when it was taken back");
        }
        Ok(())
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

/// What has to stand in the books of a transfer.
pub(crate) struct Due {
    transfer: TransferId,
    /// The fee that is due, if one is.
    pub(crate) fee_minor: Option<i64>,
    /// Which hospital owes it; else the patient.
    payer: Option<HospitalId>,
    /// Whether people may have to look at it.
    may_be_held: bool,
}

async fn view(hospitals: &[Hospital], number: usize, transfer: TransferId) -> Result<Option<TransferView>> {
    let node = hospitals.get(number).and_then(Hospital::node).context("it runs")?;
    match node.exchange.transfer(transfer).await {
        Ok(view) => Ok(Some(view)),
        Err(fault) if fault.code() == Code::UnknownTransfer => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// What was delivered under a transfer's consent.
fn delivered(view: &TransferView) -> Vec<(TransferId, State)> {
    view.deliveries.iter().map(|row| (row.transfer, row.state.clone())).collect()
}

fn has(view: &TransferView, kind: Kind) -> bool {
    view.artefacts.iter().any(|(place, _)| place.kind == kind)
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
    let incidents = index.op(json!({"op": "incident-list"})).await?;
    ensure!(incidents["incidents"] == json!([]), "the index accuses somebody honest: {incidents}");
    let mut booked: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in entries["entries"].as_array().context("entries")? {
        let transfer = entry["transfer"].as_str().context("a transfer")?;
        booked.entry(transfer.to_owned()).or_default().push(entry.clone());
    }
    for due in due {
        let booked = booked.remove(&due.transfer.to_string()).unwrap_or_default();
        due.is_met(&booked).with_context(|| format!("{}: {booked:?}", due.transfer))?;
    }
    ensure!(booked.is_empty(), "nobody's fees: {booked:?}");
    Ok(())
}

impl Due {
    /// The entries of the transfer are those that it may have, and nothing stays reserved.
    fn is_met(&self, booked: &[Value]) -> Result<()> {
        let (mut posted, mut is_pending) = (Vec::new(), false);
        for entry in booked {
            is_pending = false;
            match entry["kind"].as_str().context("a kind")? {
                "reserve" => is_pending = true,
                "void" => {}
                "hold" => ensure!(self.may_be_held, "nobody is to look at it"),
                // One that was let go before its receipt came is posted directly.
                "post" | "post-direct" => {
                    let amount = entry["amount"].as_str().context("an amount")?.replace('.', "");
                    posted.push(amount.parse::<i64>()?);
                    let is_hospitals = HOSPITALS.iter().any(|hospital| entry["payer"] == *hospital);
                    let is_payers = match &self.payer {
                        Some(payer) => entry["payer"] == payer.as_str(),
                        None => !is_hospitals,
                    };
                    ensure!(is_payers, "it is owed by another");
                }
                other => bail!("nobody ordered a {other}"),
            }
        }
        let wanted: Vec<i64> = self.fee_minor.into_iter().collect();
        ensure!(posted == wanted, "posted {posted:?}, due {wanted:?}");
        ensure!(!is_pending, "reserved for good");
        Ok(())
    }
}
