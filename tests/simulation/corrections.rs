//! What turns out to be wrong after it was consented to: its source corrects it, whoever has it by then marks it and says
//! so, and the fee for what should not stand goes back once.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use handover_core::artefact::recall::RecallReason;
use handover_core::transfer::Phase;
use handover_core::{Code, TransferId};
use handover_exchange::{RecallWish, Recalled, TransferView};
use handover_records::LocalPatient;

use crate::ground::{DEPARTMENTS, Held, amended, name, retracted};
use crate::model::Played;
use crate::people::{Move, Mover};
use crate::places::{Hospital, Node, TESTS};
use crate::records::{FEE_ONE_IN, listed};

/// The test that is corrected.
const TEST: (&str, i64) = TESTS[1];

/// How something is corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// A newer report comes.
    Amended,
    /// A newer report says that there was no such test.
    Retracted,
    /// A clerk says that it is another patient's.
    Misfiled,
}

/// How much less is due for a transfer than for all of its records.
#[derive(Clone, Copy, Default)]
pub(crate) struct Less {
    /// It is not charged at all.
    pub(crate) never_minor: i64,
    /// It goes back.
    pub(crate) back_minor: i64,
}

impl Correction {
    const fn reason(self) -> RecallReason {
        match self {
            Self::Amended => RecallReason::Amended,
            Self::Retracted => RecallReason::Retracted,
            Self::Misfiled => RecallReason::WrongPatient,
        }
    }
}

impl Move {
    fn wrong(&self) -> (String, &'static str) {
        let department = self.departments.as_ref().and_then(|few| few.first()).copied();
        let department = department.unwrap_or(DEPARTMENTS[0]);
        (format!("{}-{department}-{}", name(self.person), TEST.0), department)
    }

    /// What a clerk will say is another patient's.
    pub(crate) fn misfiled(&self) -> Option<String> {
        (self.correction == Some(Correction::Misfiled)).then(|| self.wrong().0)
    }

    /// What is imported of what was wrong.
    pub(crate) fn newer_version(&self) -> Option<(Held, Vec<u8>)> {
        let (id, department) = self.wrong();
        match self.correction? {
            Correction::Amended => Some(amended(id, department, TEST)),
            Correction::Retracted => Some(retracted(id, department, TEST)),
            Correction::Misfiled => None,
        }
    }
}

impl Mover<'_> {
    /// The source says that something is wrong.
    pub(crate) async fn correct(&self) -> Result<()> {
        match self.plan.newer_version() {
            Some((held, content)) => self.import("corrected", &held, content).await,
            None => self.recall().await,
        }
    }

    /// A clerk does, who finds it among what was sent, or is to be.
    async fn recall(&self) -> Result<()> {
        let source = self.trying.hospital(self.plan.source)?;
        let (id, _) = self.plan.wrong();
        let patient: LocalPatient = name(self.plan.person).parse()?;
        let recall = async |node: Rc<Node>| {
            let there = listed(source, &node, &patient, true).await?;
            let wrong = there.iter().filter(|it| it.resource_id == id);
            let wish = RecallWish {
                patient: patient.clone(),
                records: wrong.map(|it| it.reference.record).collect(),
                reason: RecallReason::WrongPatient,
                transfer: None,
            };
            node.exchange.recall("desk", wish, false).await.map(drop)
        };
        match self.trying.at(self.plan.source, "a recall", recall).await? {
            Ok(()) => self.told.borrow_mut().acknowledged.push("corrected"),
            // It has come to nothing, or is lost.
            Err(Code::NothingToRecall) => {}
            Err(code) => bail!("the recall was refused: {code}"),
        }
        Ok(())
    }
}

impl Played<'_> {
    fn may_not_recall(&self) -> bool {
        self.source_was_restored() || self.is_forgotten_at(self.plan.source)
    }

    fn correction(&self) -> Option<Correction> {
        self.plan.correction.filter(|_| self.told.acknowledged.contains(&"corrected"))
    }

    /// Whether everybody who has what was corrected says that it is marked.
    pub(crate) async fn is_corrected(&self, hospitals: &[Hospital]) -> Result<bool> {
        let (Some(_), Some(transfer)) = (self.correction(), self.told.transfer) else { return Ok(true) };
        let [here, there] = [
            recalls(hospitals, self.plan.source, transfer).await?,
            recalls(hospitals, self.plan.destination, transfer).await?,
        ];
        let state = self.state(hospitals, self.plan.destination).await?;
        let is_filed = state.is_some_and(|state| state.phase == Phase::Filed);
        // Who forgot the patient knows no more what to recall.
        let is_due = is_filed && !self.may_not_recall();
        let known = |of: &[Recalled]| of.iter().map(|it| it.hash).collect::<BTreeSet<_>>();
        let is_marked = here.iter().chain(&there).all(|it| it.marked.is_some());
        Ok(known(&here) == known(&there) && is_marked && (!is_due || !here.is_empty()))
    }

    /// What correcting a transfer's records comes to: what was wrong is recalled once, for its reason, and marked where it
    /// lies.
    pub(crate) async fn corrected(&self, hospitals: &[Hospital], view: &TransferView) -> Result<Less> {
        let recalls = recalls(hospitals, self.plan.destination, view.row.transfer).await?;
        if view.row.origin.is_some() {
            ensure!(recalls.is_empty(), "what was delivered is as it should be: {recalls:?}");
            return Ok(Less::default());
        }
        let marked = self.marked(hospitals).await?;
        let is_due = view.row.state.phase == Phase::Filed;
        let Some(correction) = self.correction().filter(|_| is_due) else {
            ensure!(recalls.is_empty() && marked.is_empty(), "nothing was corrected: {recalls:?}");
            return Ok(Less::default());
        };
        // A source that lost what a recall was about makes it once more, and gives back nothing more.
        let is_counted = recalls.len() == 1
            || self.source_was_restored()
            || (recalls.is_empty() && self.is_forgotten_at(self.plan.source));
        ensure!(is_counted, "recalled otherwise: {recalls:?}");
        if recalls.is_empty() {
            return Ok(Less::default());
        }
        let is_forgotten = self.is_forgotten_at(self.plan.destination);
        let knows_less = is_forgotten || self.is_named_as_lost(hospitals, view.row.transfer).await?;
        let reason = correction.reason();
        for recall in &recalls {
            // A destination that lost what was quoted, too, computes nothing.
            let is_agreed = recall.fee_computed.map_or(knows_less, |computed| computed == recall.fee_back);
            let is_told = recall.reason.map_or(is_forgotten, |told| told == reason);
            ensure!(is_told && is_agreed, "{correction:?} came to {recall:?}");
        }
        let wanted = BTreeSet::from([(self.plan.wrong().0, reason)]);
        ensure!(marked == wanted || knows_less, "marked {marked:?}");
        let fee_minor = if reason.keeps_fee() { 0 } else { TEST.1 / FEE_ONE_IN };
        match recalls.iter().map(|it| it.fee_back.minor()).sum() {
            back_minor if back_minor == fee_minor => Ok(Less { never_minor: 0, back_minor }),
            // What is quoted anew, as the consent narrows it, leaves out what a clerk has spoken against by then.
            0 if self.plan.departments.is_some() && correction == Correction::Misfiled => {
                Ok(Less { never_minor: fee_minor, back_minor: 0 })
            }
            other => bail!("{other} goes back of {fee_minor}"),
        }
    }

    /// What bears a mark at the destination, and for what reason.
    async fn marked(&self, hospitals: &[Hospital]) -> Result<BTreeSet<(String, RecallReason)>> {
        let hospital = hospitals.get(self.plan.destination).context("one of the hospitals")?;
        let node = hospital.node().context("it runs")?;
        let there = listed(hospital, &node, &self.person.name.parse()?, false).await?;
        Ok(there.into_iter().filter_map(|it| Some((it.resource_id, it.mark?.reason))).collect())
    }
}

async fn recalls(hospitals: &[Hospital], at: usize, transfer: TransferId) -> Result<Vec<Recalled>> {
    let node = hospitals.get(at).and_then(Hospital::node).context("it runs")?;
    let all = node.exchange.recalls().await?;
    Ok(all.into_iter().filter(|it| it.transfer == transfer).collect())
}
