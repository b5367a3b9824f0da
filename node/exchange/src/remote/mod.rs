//! Remote links: a patient of an old hospital that never linked them asks it for a link by way of a hospital that knows
//! who they are.
//!
//! ```text
//!  wallet ─ request ─► new hospital: a clerk vouches ─ request, countersigned ─► old hospital: a clerk confirms
//!  contact on file ◄─ code ────────────────────────────────────────────────────────────┘
//!  wallet ─ link, proving the code ─► new hospital ─ link ─► old hospital: linked
//! ```
//!
//! Everything goes from hospital to hospital: the index need not know who looks for old records. The old hospital never
//! sends by itself: the same request again gives its answer.
//!
//! Invariants: nobody is linked without a clerk's act at the old hospital; a code is good for the one patient reference
//! that the clerk saw, and five wrong ones end the request; who vouches is who the patient named. What is sealed is
//! opened after both signatures verified. Rows go when their time is over. Must not know the index.

mod asked;
mod brought;
mod holder;
mod voucher;

use handover_core::artefact::Verified;
use handover_core::artefact::remote::{
    REMOTE_LINK_LIFE_MS, RemoteLinkDetails, RemoteLinkRequest, RemoteLinkState,
};
use handover_core::message::remote_link_binding;
use handover_core::rules;
use handover_core::{Code, HospitalId, PatientRef, RemoteLinkId, Timestamp};
use handover_records::{Action, GrantRequest, LocalPatient, Permit, Purpose, Subject};
use handover_seal::part::open_part;
use handover_store::{Cell, KeyMaker, SCAN_MAX_CELLS, StoreError, Txn};

use crate::context::Inner;
use crate::{Exchange, ExchangeError, links};

pub use holder::Confirmed;
pub(crate) use holder::take;
pub(crate) use voucher::{carry, pass_link};

/// Requests that this hospital is asked to vouch for.
const OUT: &str = "remote-link-out";
/// Requests that others vouch for, to link a patient here.
const IN: &str = "remote-link-in";
/// How long the code in a letter is good: as long as the request itself, once more.
const CODE_LASTS_MS: i64 = REMOTE_LINK_LIFE_MS;
/// Rows on either side.
const ROWS_MAX: usize = 1_000;
/// The most bytes of a request: the key records, two sealed parts and a little more.
const REQUEST_MAX_BYTES: usize = links::LINK_MAX_BYTES + 16 * 1024;

/// A request as a desk sees it.
#[derive(Clone, Debug)]
pub struct RemoteLink {
    /// Which.
    pub id: RemoteLinkId,
    /// Whether this hospital vouches; else it is the one that is to link the patient.
    pub is_vouching: bool,
    /// Who asks.
    pub patient: PatientRef,
    /// The other hospital: the old one, or the one that vouches.
    pub other: HospitalId,
    /// Who the patient says to be there.
    pub details: RemoteLinkDetails,
    /// How far it is.
    pub state: RemoteLinkState,
    /// Why not, if somebody said no.
    pub reason: Option<Code>,
    /// Until when it can be vouched for and confirmed.
    pub expires: Timestamp,
    /// The patient here: whom the clerk confirmed, or who is linked to the reference.
    pub local: Option<LocalPatient>,
}

impl Exchange {
    /// The requests that are not over: those that this hospital vouches for, and those that others do. Leaves an audit
    /// line: they name people.
    ///
    /// # Errors
    /// The audit log's, the store's.
    pub async fn remote_links(&self, staff: &str) -> Result<Vec<RemoteLink>, ExchangeError> {
        let _permit = permit(&self.0, Subject::staff(staff), Action::ListPatients, None).await?;
        let mut found = voucher::list(&self.0).await?;
        found.extend(holder::list(&self.0).await?);
        found.sort_by_key(|it| it.id);
        Ok(found)
    }

    /// A clerk says no. Again, it changes nothing.
    ///
    /// # Errors
    /// [`Code::UnknownRemoteLink`]; [`Code::OutOfOrder`] for what was vouched for or linked already.
    pub async fn refuse_remote_link(
        &self,
        staff: &str,
        id: RemoteLinkId,
        reason: Code,
    ) -> Result<RemoteLink, ExchangeError> {
        let _permit = permit(&self.0, Subject::staff(staff), Action::ListPatients, None).await?;
        match holder::refuse(&self.0, id, reason).await {
            Err(fault) if fault.code() == Code::UnknownRemoteLink => {
                voucher::refuse(&self.0, id, reason).await
            }
            outcome => outcome,
        }
    }
}

/// Removes what is kept of these patients, and of this one here.
pub(crate) fn forget(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    refs: &[PatientRef],
    local: Option<&LocalPatient>,
) -> Result<(), StoreError> {
    voucher::forget(txn, keys, refs)?;
    holder::forget(txn, keys, refs, local)
}

/// Removes what is past its time on either side.
async fn sweep(inner: &Inner) -> Result<(), ExchangeError> {
    let (keys, now) = (inner.keys(), inner.now());
    let write = inner.parts.store.write(move |txn| -> Result<(), StoreError> {
        voucher::left(txn, &keys, now)?;
        holder::left(txn, &keys, now)?;
        Ok(())
    });
    Ok(write.await?)
}

/// Leave for what is done with a request; its audit line is durable.
async fn permit(
    inner: &Inner,
    subject: Subject,
    action: Action,
    patient: Option<&LocalPatient>,
) -> Result<Permit, ExchangeError> {
    let purpose = match subject {
        Subject::Staff { .. } => Purpose::Administration,
        _ => Purpose::PatientAccess,
    };
    let request = GrantRequest::new(subject, action, purpose, patient.cloned());
    Ok(inner.parts.records.audit().permit(request, inner.now()).await?)
}

/// What the two hospitals read of a request.
fn details(
    inner: &Inner,
    request: &Verified<RemoteLinkRequest>,
    sealed: &[u8],
) -> Result<RemoteLinkDetails, ExchangeError> {
    let plain = open_part(&inner.parts.identity.ring, &remote_link_binding(&request.id), sealed)?;
    Ok(rules::remote_link_details(&plain, request)?)
}

fn place(keys: &KeyMaker, space: &'static str, id: &RemoteLinkId) -> Vec<u8> {
    keys.space(space).raw(id.as_bytes()).build()
}

/// Rows, at most [`ROWS_MAX`] of which there are.
fn cells(txn: &mut dyn Txn, keys: &KeyMaker, space: &'static str) -> Result<Vec<Cell>, StoreError> {
    txn.scan(&keys.space(space).build(), None, SCAN_MAX_CELLS)
}

/// Removes the rows of a space that are past their time; the requests of those that are left.
fn left_of(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    space: &'static str,
    now: Timestamp,
    request_of: impl Fn(&[u8]) -> Result<RemoteLinkRequest, StoreError>,
) -> Result<Vec<RemoteLinkRequest>, StoreError> {
    let mut left = Vec::new();
    for (key, value) in cells(txn, keys, space)? {
        let request = request_of(&value)?;
        if now < kept_until(&request) {
            left.push(request);
        } else {
            txn.remove(&key)?;
        }
    }
    Ok(left)
}

/// Until when a request's row is kept: a code that was given out on its last day is good that much longer.
fn kept_until(request: &RemoteLinkRequest) -> Timestamp {
    request.expires.plus_ms(CODE_LASTS_MS)
}
