//! Break-glass: in an emergency a clinician reads allergies, medication and problems of a patient from another hospital,
//! without the patient; and everything once a second clinician has signed.
//!
//! ```text
//!  clinician signs ─► own hospital countersigns ─► source: one patient fits? row and audit line, then the answer
//!  own hospital ◄─ answer: share for the hospital alone, pieces ─┘        └► the patient's inbox, or a letter
//!  clinician signs a wish to read ─► audit line ─► opened, until the window ends
//!  officer reviews ─ review ─► source, patient          both ─ note ─► index: that there was one
//! ```
//!
//! Invariants: at both hospitals a row and an audit line are durable before anything leaves; the same again gives the
//! same; whoever is not one patient is refused by one code; what came is read until the window ends and never filed;
//! reviews that are overdue throttle. It goes on for seven days past the directory's end. Must not know transfers, fees
//! and consents.

mod answers;
mod asking;
mod carry;
mod clinicians;
mod content;
mod fetching;
mod giving;
mod list;
mod matching;
mod notices;
mod reading;
mod reviews;
mod rows;
mod throttle;

use handover_core::Party;
use handover_core::artefact::break_glass::{BreakGlass, BreakGlassDetails, EmergencyScope, ReviewVerdict};
use handover_core::artefact::{Verified, peek_kid};
use handover_core::codec::{Bytes, Extensions};
use handover_core::id::SigningPublic;
use handover_core::message::break_glass_binding;
use handover_core::rules::{self, Broken};
use handover_core::{BreakGlassId, Code, Digest, HospitalId, PatientRef, Timestamp};
use handover_net::Route;
use handover_records::{Action, GrantRequest, LocalPatient, Permit, Purpose, Subject};
use handover_seal::cell::{open_cell, seal_cell};
use handover_seal::part::open_part;
use handover_seal::{OsRandom, Remembered};
use handover_store::{KeyBuilder, KeyMaker, Keyring, StoreError, Txn, rows as stored};

use crate::ExchangeError;
use crate::context::Inner;

pub use asking::Recipient;
pub(crate) use carry::carry;
pub use clinicians::Clinician;
pub(crate) use giving::{piece, take};
pub(crate) use notices::{forget, notices};
pub use reading::Opened;
pub use reviews::ReviewsOwed;

/// Those that this hospital asks with.
const OUT: &str = "glass-out";
/// Those that others ask with.
const IN: &str = "glass-in";
/// Pieces that came, and pieces that are given out.
const OUT_PIECE: &str = "glass-out-piece";
const IN_PIECE: &str = "glass-in-piece";
/// Something is left to be done about these.
const WORK: &str = "glass-work";
/// Reviews that are due, by hospital and time.
const DUE: &str = "glass-due";
/// Whose records were opened.
const OF_PATIENT: &str = "glass-of";
/// What pieces are kept under, so that they go for good when the window ends, from copies of the store, too.
const PIECES_KEY: &str = "break-glass";

/// A break-glass as a desk sees it.
#[derive(Clone, Debug)]
pub struct GlassView {
    /// Which.
    pub id: BreakGlassId,
    /// Whether this hospital asks; else it is asked.
    pub is_asking: bool,
    /// The other hospital; absent: the index was asked who holds the patient's records.
    pub other: Option<HospitalId>,
    /// The patient was forgotten here: neither who they are nor why is told any more.
    pub is_forgotten: bool,
    /// The patient in the federation, if known.
    pub patient: Option<PatientRef>,
    /// The patient here, if there is one.
    pub local: Option<LocalPatient>,
    /// Who broke the glass, and what they are.
    pub clinician: (String, String),
    /// The second person, and what they are.
    pub second: Option<(String, String)>,
    /// Why, and whom.
    pub details: BreakGlassDetails,
    /// When.
    pub issued: Timestamp,
    /// Until when what came may be read.
    pub until: Timestamp,
    /// How much was given out.
    pub given: Option<EmergencyScope>,
    /// Why nothing was.
    pub refused: Option<Code>,
    /// Why it has to wait, or why more was not given.
    pub waits: Option<Code>,
    /// Break-glasses whose reviews the source named as overdue.
    pub overdue_there: Vec<BreakGlassId>,
    /// What the review came to, and when.
    pub review: Option<(ReviewVerdict, Timestamp)>,
    /// Who reviewed, and what they say.
    pub reviewed_by: Option<(String, Option<String>)>,
    /// Until when it is to be reviewed, if it is.
    pub review_due: Option<Timestamp>,
    /// How the patient is told, where this hospital has to.
    pub told: Option<Told>,
    /// How often it was read here.
    pub reads: u32,
}

/// How a patient is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By every wallet that is linked to them.
    Wallet,
    /// No wallet is linked: a letter has to be written.
    LetterDue,
    /// A letter was written.
    Letter(Timestamp),
}

fn place(keys: &KeyMaker, space: &'static str, id: &BreakGlassId) -> Vec<u8> {
    keys.space(space).raw(id.as_bytes()).build()
}

/// Where the pieces of what was asked with `asked` lie.
fn pieces_of(keys: &KeyMaker, space: &'static str, asked: &Digest) -> KeyBuilder {
    keys.space(space).raw(asked.as_bytes())
}

/// Keeps one piece of what was asked with `asked`.
fn put_piece(
    txn: &mut dyn Txn,
    inner: &Inner,
    space: &'static str,
    (asked, number): (&Digest, u32),
    piece: &[u8],
) -> Result<(), ExchangeError> {
    let key = inner.parts.keyring.get_or_make(txn, PIECES_KEY, asked.as_bytes(), &mut OsRandom)?;
    let sealed = seal_cell(&key, &number.to_be_bytes(), piece, &mut OsRandom)?;
    Ok(stored::put_pieces(txn, &pieces_of(&inner.keys(), space, asked).u64(number.into()), &sealed)?)
}

/// One piece of what was asked with `asked`, unless it is gone.
fn get_piece(
    txn: &mut dyn Txn,
    inner: &Inner,
    space: &'static str,
    (asked, number): (&Digest, u32),
) -> Result<Option<Vec<u8>>, ExchangeError> {
    let Some(key) = inner.parts.keyring.get(txn, PIECES_KEY, asked.as_bytes())? else { return Ok(None) };
    let sealed = stored::get_pieces(txn, &pieces_of(&inner.keys(), space, asked).u64(number.into()))?;
    let Some(sealed) = sealed else { return Ok(None) };
    Ok(Some(open_cell(&key, &number.to_be_bytes(), &sealed)?.to_vec()))
}

/// Removes the pieces of what was asked with `asked`: first what they are kept under.
fn remove_pieces(
    txn: &mut dyn Txn,
    (keys, keyring): (&KeyMaker, &Keyring),
    space: &'static str,
    asked: &Digest,
) -> Result<(), ExchangeError> {
    keyring.remove(txn, PIECES_KEY, asked.as_bytes())?;
    loop {
        let page = txn.scan(&pieces_of(keys, space, asked).build(), None, 100)?;
        if page.is_empty() {
            return Ok(());
        }
        page.iter().try_for_each(|(key, _)| txn.remove(key))?;
    }
}

/// Notes that something is left to be done.
fn owe(txn: &mut dyn Txn, keys: &KeyMaker, side: &'static str, id: &BreakGlassId) -> Result<(), StoreError> {
    txn.put(&keys.space(WORK).raw(side).raw(id.as_bytes()).build(), id.as_bytes().to_vec())
}

fn due_place(
    keys: &KeyMaker,
    side: &'static str,
    by: &HospitalId,
    due: Timestamp,
    id: &BreakGlassId,
) -> Vec<u8> {
    let due = u64::try_from(due.as_millis()).unwrap_or_default();
    keys.space(DUE).raw(side).raw(by.as_str()).u64(due).raw(id.as_bytes()).build()
}

/// The break-glasses of a hospital whose reviews were due before `now`, the longest first; at most `limit`.
fn due_before(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (side, by): (&'static str, &HospitalId),
    now: Timestamp,
    limit: usize,
) -> Result<Vec<BreakGlassId>, StoreError> {
    let prefix = keys.space(DUE).raw(side).raw(by.as_str());
    let end = prefix.clone().u64(u64::try_from(now.as_millis()).unwrap_or_default()).build();
    let page = txn.scan(&prefix.build(), None, limit)?;
    let due = page.into_iter().take_while(|(key, _)| *key < end);
    due.map(|(_, id)| read_id(&id)).collect()
}

fn read_id(bytes: &[u8]) -> Result<BreakGlassId, StoreError> {
    BreakGlassId::try_from(bytes).map_err(|_| handover_store::rows::damaged("a break-glass"))
}

/// The way to a hospital in an emergency: also on a directory that has expired.
fn route(inner: &Inner, hospital: &HospitalId) -> Result<Route, Code> {
    let federation = inner.federation()?;
    let member = rules::emergency_member(&federation, hospital, inner.now())?;
    Ok(Route { party: Party::Hospital(hospital.clone()), addresses: member.profile.addresses.clone() })
}

/// A kept break-glass, verified again.
fn broken(inner: &Inner, request: &[u8], requesting: &HospitalId) -> Result<Broken, ExchangeError> {
    let key = key_of(inner, request, requesting)?;
    Ok(rules::break_glass(request, &key, true, &Remembered)?)
}

/// The key of a hospital that an envelope says to be signed with: the one of now, or one that it has replaced.
fn key_of(inner: &Inner, envelope: &[u8], hospital: &HospitalId) -> Result<SigningPublic, Code> {
    let (kid, own) =
        (peek_kid(envelope).map_err(|fault| fault.code())?, inner.parts.identity.signing.public());
    if hospital == inner.own() && own.thumbprint() == kid {
        return Ok(own);
    }
    Ok(inner.federation()?.member(hospital)?.key(&kid))
}

/// The second person's signature, kept, verified again: its hash, and who it is.
fn second(inner: &Inner, more: &Bytes, broken: &Broken) -> Result<(Digest, (String, String)), Code> {
    let key = key_of(inner, more.as_ref(), &broken.request.requesting)?;
    let (more, who) = rules::break_glass_more(more.as_ref(), broken, &key, true, &Remembered)?;
    Ok((more.hash(), (who.name, who.role)))
}

/// Why, and whom; opened with this hospital's key.
fn details(inner: &Inner, request: &Verified<BreakGlass>) -> Result<BreakGlassDetails, ExchangeError> {
    let sealed = if request.requesting == *inner.own() {
        &request.sealed_to_requesting
    } else {
        request.sealed_to_source.as_ref().ok_or(Code::BreakGlassMismatch)?
    };
    let plain = open_part(&inner.parts.identity.ring, &break_glass_binding(&request.id), sealed.as_ref())?;
    Ok(rules::break_glass_details(&plain, request)?)
}

fn grant(
    subject: Subject,
    (action, purpose): (Action, Purpose),
    patient: Option<LocalPatient>,
    id: Option<BreakGlassId>,
) -> GrantRequest {
    GrantRequest { break_glass: id, ..GrantRequest::new(subject, action, purpose, patient) }
}

/// Leave for who looks after break-glasses; its audit line is durable.
async fn desk(inner: &Inner, staff: &str, id: Option<BreakGlassId>) -> Result<Permit, ExchangeError> {
    let subject = Subject::staff(staff);
    let request = grant(subject, (Action::ReviewEmergency, Purpose::Administration), None, id);
    Ok(inner.parts.records.audit().permit(request, inner.now()).await?)
}

fn none() -> Extensions {
    Extensions::default()
}
