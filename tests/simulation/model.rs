//! The reference model: what must be true of a story, said as plainly as can be, and compared with what the processes
//! have.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use handover_core::transfer::{Phase, State};
use handover_core::{Code, HospitalId, TransferId};
use handover_dossier::Kind;
use handover_exchange::TransferView;
use tokio::time::Instant;

use crate::ground::{Held, Person};
use crate::people::{Decision, Move, Told};
use crate::places::Hospital;

/// Rows that are read at once; no story has as many transfers.
const ROWS: usize = 100;

/// What was seen of transfers: nothing goes back.
#[derive(Default)]
pub(crate) struct Seen(RefCell<BTreeMap<(HospitalId, TransferId), State>>);

impl Seen {
    /// A hospital's store came from a backup: it may be anywhere that it was before.
    pub(crate) fn forget(&self, hospital: &HospitalId) {
        self.0.borrow_mut().retain(|(at, _), _| at != hospital);
    }

    /// Looks at every hospital that runs.
    pub(crate) async fn look(&self, hospitals: &[Hospital]) -> Result<()> {
        for hospital in hospitals {
            let Some(node) = hospital.node() else { continue };
            // It may be killed while it is asked.
            let Ok(rows) = node.exchange.transfers(None, ROWS).await else { continue };
            // What it has back is not all there yet.
            let Ok(rejoining) = node.exchange.rejoining().await else { continue };
            if rejoining.is_some_and(|it| it.done.is_none()) {
                continue;
            }
            let mut seen = self.0.borrow_mut();
            let is_there = |transfer| rows.iter().any(|row| row.transfer == transfer);
            let mut known = seen.keys().filter(|(at, _)| *at == hospital.id);
            ensure!(known.all(|(_, transfer)| is_there(*transfer)), "a transfer is gone at {}", hospital.id);
            for row in rows {
                let key = (hospital.id.clone(), row.transfer);
                if let Some(before) = seen.insert(key, row.state.clone()) {
                    let now = &row.state;
                    let goes_on = (before.attempt, before.phase) <= (now.attempt, now.phase);
                    ensure!(
                        if before.phase.is_final() { before == *now } else { goes_on },
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
    /// Whose store came from a backup, hospitals and index.
    pub(crate) restored: BTreeSet<usize>,
    /// Since when it stands as it does, where something of it may be lost.
    pub(crate) stood: RefCell<Option<(Instant, [Standing; 2])>>,
}

/// The transfer and what was delivered under its consent, as a hospital has them.
pub(crate) type Standing = Vec<(TransferId, State)>;

impl Played<'_> {
    /// What the consent is to.
    pub(crate) fn scope(&self) -> impl Iterator<Item = &Held> {
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
            // The hospital had not known of the yes; or it had, and said that a no comes too late.
            (Decision::YesAndNo(_), None | Some(("consented" | "released", Code::PatientRefused))) => {
                &[Phase::Refused]
            }
            (Decision::YesAndNo(_), Some(("said no, too", Code::OutOfOrder))) => &[Phase::Filed],
            (_, Some((what, code))) => bail!("{what} was refused: {code}"),
        })
    }

    /// Whether it stands where it has to, at both hospitals.
    pub(crate) async fn is_over(&self, hospitals: &[Hospital]) -> Result<bool> {
        if self.may_lack() {
            return self.is_over_with_losses(hospitals).await;
        }
        let ends = self.ends()?;
        let [source, destination] = [
            self.state(hospitals, self.plan.source).await?,
            self.state(hospitals, self.plan.destination).await?,
        ];
        for state in [&source, &destination].into_iter().flatten() {
            let may_be = !state.phase.is_final() || ends.contains(&state.phase);
            ensure!(may_be, "{:?} ended as {state:?}", self.plan);
        }
        if source.as_ref().map(outcome) != destination.as_ref().map(outcome)
            || source.is_none_or(|state| !ends.contains(&state.phase))
        {
            return Ok(false);
        }
        Ok(self.is_heard(hospitals).await?
            && self.is_corrected(hospitals).await?
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
        let (source, destination) = (source.context("a transfer")?, destination.context("a transfer")?);
        let [here, there] = [&source, &destination].map(delivered);
        for (_, state) in here.iter().chain(&there) {
            let may_be = matches!(state.phase, Phase::Filed | Phase::Revoked) || !state.phase.is_final();
            ensure!(may_be, "a delivery of {:?} ended as {state:?}", self.plan);
        }
        let outcomes = |of: &Standing| -> Vec<_> {
            of.iter().map(|(transfer, state)| (*transfer, outcome(state))).collect()
        };
        let is_settled =
            outcomes(&here) == outcomes(&there) && here.iter().all(|(_, state)| state.phase.is_final());
        Ok(is_settled
            && match self.plan.decision {
                _ if source.row.state.phase != Phase::Filed => here.is_empty(),
                Decision::TakenBack => here.len() <= 1,
                _ => {
                    here.len() == usize::from(self.comes_later().is_some())
                        && here.iter().all(|(_, state)| state.phase == Phase::Filed)
                }
            })
    }

    async fn view(&self, hospitals: &[Hospital], number: usize) -> Result<Option<TransferView>> {
        view(hospitals, number, self.told.transfer.context("a transfer")?).await
    }

    /// The transfer that was asked for, and what was delivered under its consent, as a hospital has them.
    pub(crate) async fn all(&self, hospitals: &[Hospital], number: usize) -> Result<Vec<TransferView>> {
        let mut all: Vec<TransferView> = self.view(hospitals, number).await?.into_iter().collect();
        let delivered: Vec<TransferId> =
            all.iter().flat_map(|view| &view.deliveries).map(|row| row.transfer).collect();
        for transfer in delivered {
            all.extend(view(hospitals, number, transfer).await?);
        }
        Ok(all)
    }

    pub(crate) async fn state(&self, hospitals: &[Hospital], number: usize) -> Result<Option<State>> {
        Ok(self.view(hospitals, number).await?.map(|view| view.row.state))
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
            if let Ok(Some(rejoining)) = node.exchange.rejoining().await {
                said += &format!("\n  {}: {rejoining:?}", hospital.id);
            }
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
                let recalls = node.exchange.recalls().await.unwrap_or_default();
                for it in recalls.iter().filter(|it| it.transfer == transfer) {
                    said += &format!("\n    recall {} {} marked {:?}", it.number, it.hash, it.marked);
                }
            }
        }
        said
    }
}

/// What both have to agree about: of what came to nothing not, how often it was sealed.
fn outcome(state: &State) -> (Phase, Option<Code>, Option<u32>) {
    (state.phase, state.reason, (!state.phase.is_exit()).then_some(state.attempt))
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

pub(crate) fn has(view: &TransferView, kind: Kind) -> bool {
    view.artefacts.iter().any(|(place, _)| place.kind == kind)
}
