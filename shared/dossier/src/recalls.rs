//! Recalls in a dossier: numbered from 1 without a gap, each about a package whose shares are out, together giving back
//! no more than the fee.

use handover_core::Code;
use handover_core::artefact::recall::{Recall, RecallConfirmed};
use handover_core::artefact::transfer::PackageHeader;
use handover_core::artefact::{Signed, Verified};
use handover_core::rules::{self, Context};
use handover_core::transfer::{Phase, Role};

use crate::intake::Way;
use crate::{Dossier, DossierError, Kind, Row};

impl Dossier<'_> {
    /// A recall, and the header of what it recalls.
    ///
    /// # Errors
    /// [`Code::EvidenceMissing`], or why it does not verify.
    pub fn recall(
        &mut self,
        number: u32,
        context: Context<'_>,
    ) -> Result<(Verified<Recall>, Verified<PackageHeader>), DossierError> {
        let kept = self.get(Kind::Recall.of(number))?.ok_or(Code::EvidenceMissing)?;
        self.read_recall(&kept, context)
    }

    /// The destination's confirmation of a recall, if it is here.
    ///
    /// # Errors
    /// As [`Self::recall`].
    pub fn recall_confirmed(
        &mut self,
        number: u32,
        context: Context<'_>,
    ) -> Result<Option<Verified<RecallConfirmed>>, DossierError> {
        let Some(kept) = self.get(Kind::RecallConfirmed.of(number))? else { return Ok(None) };
        let (recall, header) = self.recall(number, context)?;
        Ok(Some(rules::recall_confirmed(&kept, &recall, &header, context)?))
    }

    /// The number of the last recall that is here; 0 without one.
    ///
    /// # Errors
    /// The store's.
    pub fn last_recall(&mut self) -> Result<u32, DossierError> {
        Ok(self.attempts_with(Kind::Recall)?.pop().unwrap_or(0))
    }

    /// What the recalls with numbers below `number` give back, in minor units. They verified when they were kept.
    fn given_back_before(&mut self, number: u32) -> Result<i64, DossierError> {
        let mut sum_minor: i64 = 0;
        for earlier in 1..number {
            let kept = self.get(Kind::Recall.of(earlier))?.ok_or(Code::EvidenceMissing)?;
            let recall = Signed::<Recall>::read(&kept).map_err(|fault| fault.code())?;
            sum_minor = sum_minor.checked_add(recall.claim().fee_back.minor()).ok_or(Code::RecallFee)?;
        }
        Ok(sum_minor)
    }

    /// Checks a recall that comes in. What was filed of the package has to be known at the destination: only then is
    /// there something to be marked. One that comes early waits at its sender; where it is taken back, for the receipt.
    pub(crate) fn check_recall(
        &mut self,
        content: &[u8],
        row: &Row,
        way: Way,
        context: Context<'_>,
    ) -> Result<Verified<Recall>, DossierError> {
        let (recall, header) = self.read_recall(content, context)?;
        if self.get(Kind::KeyRelease.of(header.attempt))?.is_none() {
            return Err(Code::EvidenceMissing.into());
        }
        if row.role == Role::Destination && self.get(Kind::Receipt.of(header.attempt))?.is_none() {
            let is_over = way != Way::Back && row.state.phase.is_final() && row.state.phase != Phase::Filed;
            return Err(if is_over { Code::OutOfOrder } else { Code::EvidenceMissing }.into());
        }
        let given_back = self.given_back_before(recall.number)?;
        Ok(rules::recall(content, &header, given_back, context)?)
    }

    /// A recall by itself, with the header of this transfer that it names.
    fn read_recall(
        &mut self,
        content: &[u8],
        context: Context<'_>,
    ) -> Result<(Verified<Recall>, Verified<PackageHeader>), DossierError> {
        let mut fault = Code::EvidenceMissing;
        for attempt in self.attempts_with(Kind::Header)? {
            let header = self.header(attempt, context)?;
            match rules::recall(content, &header, 0, context) {
                Ok(recall) => return Ok((recall, header)),
                Err(code) => fault = code,
            }
        }
        Err(fault.into())
    }
}
