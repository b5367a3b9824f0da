//! What is true of a move when a hospital's store came from a backup meanwhile: what was acknowledged since may be gone,
//! but nothing happens twice, both hospitals come to the same, and what is gone is named.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handover_core::TransferId;
use handover_core::transfer::{Phase, State};
use tokio::time::Instant;

use crate::model::{Played, Standing};
use crate::people::Decision;
use crate::places::Hospital;

/// What stands still for so long waits for the patient.
const STILL: Duration = Duration::from_secs(600);

impl Played<'_> {
    /// Whether something of it may be lost.
    pub(crate) fn may_lack(&self) -> bool {
        [self.plan.source, self.plan.destination].iter().any(|at| self.restored.contains(at))
    }

    /// Whether it stands the same at both hospitals, at an end or for good.
    pub(crate) async fn is_over_with_losses(&self, hospitals: &[Hospital]) -> Result<bool> {
        if self.told.transfer.is_none() {
            return Ok(true);
        }
        let [here, there] = [
            self.standing(hospitals, self.plan.source).await?,
            self.standing(hospitals, self.plan.destination).await?,
        ];
        for at in [self.plan.source, self.plan.destination] {
            let node = hospitals.get(at).and_then(Hospital::node).context("it runs")?;
            if node.exchange.rejoining().await?.is_some_and(|it| it.done.is_none()) {
                return Ok(false);
            }
        }
        if effects(&here) != effects(&there) {
            self.stood.take();
            return Ok(false);
        }
        let now = [here, there];
        let is_willing = !matches!(self.plan.decision, Decision::No | Decision::Nothing);
        for (_, state) in now.iter().flatten() {
            let may_be = is_willing || state.phase < Phase::Consented || state.phase.is_exit();
            ensure!(may_be, "{:?} came to {state:?} without a consent", self.plan);
        }
        let is_ended =
            now.iter().all(|it| !it.is_empty()) && now.iter().flatten().all(|(_, it)| it.phase.is_final());
        let since = match self.stood.take() {
            Some((since, before)) if before == now => since,
            _ => Instant::now(),
        };
        self.stood.replace(Some((since, now)));
        if is_ended {
            return Ok(!since.elapsed().is_zero() && self.is_corrected(hospitals).await?);
        }
        let is_still = since.elapsed() >= STILL;
        if is_still {
            self.waits_for_the_patient(hospitals).await?;
        }
        Ok(is_still)
    }

    /// What goes no further lacks the patient's word.
    async fn waits_for_the_patient(&self, hospitals: &[Hospital]) -> Result<()> {
        for view in self.all(hospitals, self.plan.destination).await? {
            let phase = view.row.state.phase;
            let is_waiting = phase <= Phase::Quoted || phase.is_final() || view.awaits_release;
            ensure!(is_waiting, "{:?} stands still at {phase} and waits for nobody", self.plan);
        }
        Ok(())
    }

    async fn standing(&self, hospitals: &[Hospital], at: usize) -> Result<Standing> {
        let all = self.all(hospitals, at).await?;
        Ok(all.into_iter().map(|view| (view.row.transfer, view.row.state)).collect())
    }

    /// Whether the destination says of a transfer that was filed there that its records are gone.
    pub(crate) async fn is_named_as_lost(
        &self,
        hospitals: &[Hospital],
        transfer: TransferId,
    ) -> Result<bool> {
        let node = hospitals.get(self.plan.destination).and_then(Hospital::node).context("it runs")?;
        Ok(node.exchange.rejoining().await?.is_some_and(|it| it.unfiled.contains(&transfer)))
    }
}

/// What can be open at the destination. What cannot ends by itself, at the latest when quote or consent run out, at each
/// hospital for the reason that it heard first.
fn effects(standing: &Standing) -> BTreeMap<TransferId, State> {
    standing
        .iter()
        .filter(|(_, state)| matches!(state.phase, Phase::Released | Phase::Filed))
        .cloned()
        .collect()
}
