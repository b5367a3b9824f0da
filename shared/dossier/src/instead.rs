//! What a destination signs twice, once for its source and once for the index.
//!
//! An acceptance of the fee and a question for another attempt are the destination's own word, and the source acts on the
//! one that it was given. Were the other one the index's, the source's header or the patient's release would fit nothing
//! there, and no fee would ever be booked for what was read. So at the index the source's counts, as long as nothing that
//! stands on either is kept: sources pass on what they act on before what follows from it.

use handover_core::rules::{self, Context};
use handover_core::{Code, HospitalId, Timestamp};

use crate::kind::Claimed;
use crate::{Dossier, DossierError, Kind, Place, Taken};

impl Dossier<'_> {
    /// Takes what `by` passes on in the place of another one that the destination signed.
    ///
    /// # Errors
    /// [`Code::Conflict`] if `by` is not the source, for every other artefact, and once something follows from the one
    /// that is here; why it does not verify.
    pub fn take_instead(
        &mut self,
        by: &HospitalId,
        content: &[u8],
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let conflict = DossierError::Refused(Code::Conflict);
        let Some(mut row) = self.row()?.filter(|row| row.source == *by) else { return Err(conflict) };
        let (place, is_followed) = match Claimed::read(content)? {
            Claimed::FeeAcceptance(_) => {
                rules::fee_acceptance(content, &self.quote(context)?, context)?;
                (Place::from(Kind::FeeAcceptance), !self.attempts_with(Kind::Header)?.is_empty())
            }
            Claimed::NextAttempt(_) => {
                let next = rules::next_attempt(content, self.transfer(), &self.consent(context)?, context)?;
                let header = Kind::Header.of(next.attempt);
                (Kind::NextAttempt.of(next.attempt), self.get(header)?.is_some())
            }
            _ => return Err(conflict),
        };
        if is_followed {
            return Err(conflict);
        }
        row.updated = now;
        self.put_row(&row)?;
        self.put(place, content)?;
        Ok(Taken::of(place, row, true))
    }
}
