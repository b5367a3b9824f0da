//! A patient who is forgotten at one of the hospitals once their transfers are over: nothing of them is left there, and
//! what others have to know is known all the same.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Result, bail, ensure};
use handover_core::Code;
use handover_records::LocalPatient;

use crate::ground::name;
use crate::model::Played;
use crate::people::Mover;
use crate::places::Node;
use crate::records::Named;

impl Mover<'_> {
    /// A clerk forgets the patient, as soon as that may be; whoever was stopped goes on.
    pub(crate) async fn forget(&self, at: usize) -> Result<()> {
        let patient: LocalPatient = name(self.plan.person).parse()?;
        let forget = async |node: Rc<Node>| {
            let gone = node.exchange.forget_patient("desk", &patient).await?;
            node.exchange.sweep_forgotten(&gone).await.map(drop)
        };
        loop {
            match self.trying.at(at, "forgetting", forget).await? {
                // It was done, and the answer got lost.
                Ok(()) | Err(Code::UnknownPatient) => break,
                Err(Code::TransferOpen) => self.trying.pause(8_000).await,
                Err(code) => bail!("forgetting was refused: {code}"),
            }
        }
        self.told.borrow_mut().acknowledged.push("forgotten");
        Ok(())
    }
}

impl Played<'_> {
    /// Whether the patient was forgotten there.
    pub(crate) fn is_forgotten_at(&self, number: usize) -> bool {
        self.plan.forgets == Some(number) && self.told.acknowledged.contains(&"forgotten")
    }

    /// Whether the patient was forgotten there, and nothing of them is found; a backup from before may have brought all
    /// back.
    pub(crate) fn is_gone(&self, number: usize, found: &BTreeSet<Named>) -> Result<bool> {
        if !self.is_forgotten_at(number) {
            return Ok(false);
        }
        let may_be_back = self.restored.contains(&number);
        ensure!(found.is_empty() || may_be_back, "{} records of who was forgotten", found.len());
        Ok(found.is_empty())
    }
}
