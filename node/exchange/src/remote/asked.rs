//! A request as the old hospital keeps it.

use handover_core::artefact::remote::{RemoteLinkAnswer, RemoteLinkRequest, RemoteLinkState as State};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec::{Bytes, Extensions};
use handover_core::{Code, HospitalId, Timestamp, cbor_map, rules};
use handover_records::LocalPatient;
use handover_seal::{Remembered, SigningKey};
use handover_store::{StoreError, rows};

/// The hospital that answers, and its signing key.
pub(super) type By<'a> = (&'a HospitalId, &'a SigningKey);

cbor_map! {
    /// A request that another hospital vouches for.
    pub(super) struct InRow {
        /// Countersigned.
        1 => request: Bytes,
        /// How far it is.
        2 => state: State,
        /// Why not.
        3 => reason: Option<Code>,
        /// The patient here whom a clerk confirmed.
        4 => patient: Option<String>,
        /// The code, once confirmed.
        5 => code: Option<String>,
        /// Until when it is good.
        6 => code_expires: Option<Timestamp>,
        /// Wrong proofs.
        7 => wrong: u8,
        /// `RemoteLinkAnswer`, once there is one.
        8 => answer: Option<Bytes>,
    }
}

impl InRow {
    /// The request; it verified when it came.
    pub(super) fn request(&self) -> Result<Verified<RemoteLinkRequest>, StoreError> {
        let vouched = self.vouched()?;
        let request = rules::remote_link_claim(vouched.first(), &vouched.claim().vouching, &Remembered);
        request.map_err(|_| damaged())
    }

    /// What it says, for a look at many.
    pub(super) fn claim(&self) -> Result<RemoteLinkRequest, StoreError> {
        Ok(self.vouched()?.claim().clone())
    }

    fn vouched(&self) -> Result<Countersigned<RemoteLinkRequest>, StoreError> {
        Countersigned::read(self.request.as_ref()).map_err(|_| damaged())
    }

    /// The patient here whom a clerk confirmed.
    pub(super) fn local(&self) -> Result<Option<LocalPatient>, StoreError> {
        let read = |patient: &String| patient.parse().map_err(|_| rows::damaged("a patient's number"));
        self.patient.as_ref().map(read).transpose()
    }

    /// Goes on, and signs that.
    pub(super) fn answer(
        &mut self,
        (own, signing): By<'_>,
        state: State,
        reason: Option<Code>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let request = self.request()?;
        let answer = RemoteLinkAnswer {
            id: request.id,
            request: request.hash(),
            hospital: own.clone(),
            state,
            reason,
            issued: now,
            extensions: Extensions::default(),
        };
        let answer = Verified::sign(answer, signing);
        (self.state, self.reason) = (state, reason);
        self.answer = Some(answer.envelope().to_vec().into());
        Ok(())
    }

    /// What who vouches is answered.
    pub(super) fn items(&self) -> Vec<Vec<u8>> {
        self.answer.iter().map(|answer| answer.0.clone()).collect()
    }
}

fn damaged() -> StoreError {
    rows::damaged("a request for a remote link")
}
