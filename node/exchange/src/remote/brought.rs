//! A request as the hospital that vouches keeps it.

use handover_core::artefact::remote::{RemoteLinkRequest, RemoteLinkState as State, RemoteLinkStatus};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::{Code, cbor_map, rules};
use handover_seal::Remembered;
use handover_store::{StoreError, rows};

use crate::ExchangeError;
use crate::context::Inner;

cbor_map! {
    /// A request that a patient brought.
    pub(super) struct OutRow {
        /// As the patient signed it.
        1 => request: Bytes,
        /// How far it is.
        2 => state: State,
        /// Why not.
        3 => reason: Option<Code>,
        /// `RemoteLinkAnswer`.
        4 => answer: Option<Bytes>,
    }
}

impl OutRow {
    /// The request; it verified when it came.
    pub(super) fn request(&self, inner: &Inner) -> Result<Verified<RemoteLinkRequest>, ExchangeError> {
        Ok(rules::remote_link_claim(self.request.as_ref(), inner.own(), &Remembered)?)
    }

    /// What it says, for a look at many.
    pub(super) fn claim(&self) -> Result<RemoteLinkRequest, StoreError> {
        let request = Signed::<RemoteLinkRequest>::read(self.request.as_ref());
        Ok(request.map_err(|_| rows::damaged("a request for a remote link"))?.claim().clone())
    }

    /// Whether the old hospital has the last word.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.state, State::Vouched | State::Asked | State::Confirmed)
    }

    /// What the wallet is told.
    pub(super) fn status(&self) -> Vec<u8> {
        codec::encode(&RemoteLinkStatus {
            state: self.state,
            reason: self.reason,
            answer: self.answer.clone(),
            extensions: Extensions::default(),
        })
    }
}
