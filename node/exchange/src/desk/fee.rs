//! A fee that this hospital owes for a patient who was referred to it: what the desk sees of it, and its yes or no.

use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{FeeAcceptance, Payer, Quote, ReferralDetails, Step};
use handover_core::codec::Bytes;
use handover_core::rules::{self, Context};
use handover_core::transfer::{Phase, Role};
use handover_core::{Amount, Code, TransferId};
use handover_dossier::{Dossier, DossierError, Row};
use handover_seal::Remembered;

use crate::context::Came;
use crate::{Exchange, ExchangeError, fees, referrals};

/// What a referral says, and what the hospital that it is to owes.
#[derive(Clone, Debug)]
pub struct FeeOwed {
    /// Who refers, and why; none if it cannot be read, or the patient is not linked here any more.
    pub referral: Option<ReferralDetails>,
    /// The fee that was quoted.
    pub fee: Amount,
    /// Up to what it was accepted; none if it waits for a clerk.
    pub accepted: Option<Amount>,
}

struct Owed {
    row: Row,
    quote: Verified<Quote>,
    accepted: Option<Verified<FeeAcceptance>>,
}

impl Exchange {
    /// What this hospital owes for a transfer; none if it is not the one that pays.
    ///
    /// # Errors
    /// [`Code::UnknownTransfer`]; what opening fails with.
    pub async fn fee_owed(&self, transfer: TransferId) -> Result<Option<FeeOwed>, ExchangeError> {
        let Some(Owed { quote, accepted, .. }) = self.owed(transfer).await? else { return Ok(None) };
        let ring = &self.0.parts.identity.ring;
        let is_known = self.0.parts.records.by_ref(quote.patient).await?.is_some();
        let open = |referral: &Bytes| referrals::open(referral.as_ref(), ring).ok();
        Ok(Some(FeeOwed {
            referral: quote.referral.as_ref().filter(|_| is_known).and_then(open),
            fee: fees::offered(&quote, ring)?,
            accepted: accepted.map(|accepted| accepted.cap),
        }))
    }

    async fn owed(&self, transfer: TransferId) -> Result<Option<Owed>, ExchangeError> {
        let (keys, federation) = (self.0.keys(), self.0.federation()?);
        Ok(self
            .0
            .parts
            .store
            .read(move |txn| -> Result<_, DossierError> {
                let context = Context { federation: &federation, verifier: &Remembered };
                let mut dossier = Dossier::of(txn, &keys, transfer);
                let row = dossier.row()?.ok_or(Code::UnknownTransfer)?;
                if row.role != Role::Destination || dossier.get(handover_dossier::Kind::Quote)?.is_none() {
                    return Ok(None);
                }
                let quote = dossier.quote(context)?;
                if rules::payer(&quote) == Payer::Patient {
                    return Ok(None);
                }
                let accepted = dossier.fee_acceptance(context)?;
                Ok(Some(Owed { row, quote, accepted }))
            })
            .await?)
    }

    /// Accepts the fee, up to `cap`; up to what was quoted if absent. The same again changes nothing.
    ///
    /// # Errors
    /// [`Code::OutOfOrder`] for a transfer whose fee others owe, or that is over; [`Code::CapExceeded`] for a cap below
    /// the fee; [`Code::Conflict`] if another cap was accepted.
    pub async fn accept_fee(
        &self,
        transfer: TransferId,
        cap: Option<Amount>,
    ) -> Result<Amount, ExchangeError> {
        let Owed { row, quote, accepted } = self.owed(transfer).await?.ok_or(Code::OutOfOrder)?;
        let (inner, fee) = (&self.0, fees::offered(&quote, &self.0.parts.identity.ring)?);
        if let Some(accepted) = accepted {
            let same = cap.is_none_or(|cap| cap == accepted.cap);
            return if same { Ok(accepted.cap) } else { Err(Code::Conflict.into()) };
        }
        if row.state.phase.is_final() {
            return Err(Code::OutOfOrder.into());
        }
        let cap = cap.unwrap_or(fee);
        if !fees::is_within(Some(cap), fee) {
            return Err(Code::CapExceeded.into());
        }
        let accepted = fees::accept(&quote, cap, &inner.parts.identity.signing, inner.now());
        inner.take(accepted.envelope().to_vec(), Came::Own).await?;
        Ok(cap)
    }

    /// Says that this hospital does not pay: the transfer ends. The patient can ask for one that they pay themselves
    /// once the referral is withdrawn.
    ///
    /// # Errors
    /// [`Code::OutOfOrder`] for a transfer whose fee others owe, or that is sealed or over; [`Code::Conflict`] if it was
    /// accepted.
    pub async fn deny_fee(&self, transfer: TransferId) -> Result<(), ExchangeError> {
        let Owed { row, accepted, .. } = self.owed(transfer).await?.ok_or(Code::OutOfOrder)?;
        if row.state.reason == Some(Code::FeeDenied) {
            return Ok(());
        }
        if row.state.phase >= Phase::Sealed {
            return Err(Code::OutOfOrder.into());
        }
        if accepted.is_some() {
            return Err(Code::Conflict.into());
        }
        self.0.refuse(transfer, Step::Quote, Code::FeeDenied).await
    }
}
