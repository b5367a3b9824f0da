//! The edition of the formats that is in force. It only rises, by one, and once everybody who takes part reads the next.

use handover_core::artefact::federation::Status;
use handover_core::{Code, Edition};

use super::views::{EditionView, ReadsView};
use super::{Operations, OpsError};
use crate::desk::Changed;
use crate::registry::RegistryError;

impl Operations {
    /// What is in force, and who reads which.
    pub(super) fn edition(&self) -> EditionView {
        let current = self.desk.current();
        let members = current.federation().members();
        let active = members.filter(|member| member.order.status == Status::Active);
        let mut hospitals: Vec<ReadsView> = active
            .map(|member| ReadsView {
                hospital: member.certificate.hospital.clone(),
                reads: member.profile.reads.number(),
            })
            .collect();
        hospitals.sort_by(|one, other| one.hospital.cmp(&other.hospital));
        EditionView {
            in_force: current.edition().number(),
            reads: Edition::last().number(),
            settled: Edition::SETTLED.number(),
            hospitals,
        }
    }

    /// Puts the next one in force; nothing, if it is.
    pub(super) async fn raise(&self, wanted: u32) -> Result<EditionView, OpsError> {
        let desk = self.desk.clone();
        self.desk
            .change(move |_| {
                let in_force = desk.current().edition();
                if in_force.number() == wanted {
                    return Ok(((), Changed::Nothing));
                }
                let next = in_force.next();
                let refuse = |code, why| Err(RegistryError::Refused { code, why });
                if next.number() != wanted {
                    return refuse(Code::OutOfOrder, "editions come into force one after the other");
                }
                if next > Edition::last() {
                    return refuse(
                        Code::OlderEdition,
                        "this index does not read that edition: upgrade it first",
                    );
                }
                Ok::<_, RegistryError>(((), Changed::Edition(next)))
            })
            .await?;
        self.recheck(None).await;
        Ok(self.edition())
    }
}
