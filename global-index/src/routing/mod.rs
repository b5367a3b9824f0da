//! Artefacts of transfers on their way: taken in by the one path that verifies them, booked, and put into the
//! mailbox of the hospital that they are for, all in one transaction.
//!
//! Invariants: a parcel is answered only when it is durable; each artefact is put into a mailbox once, however often
//! it comes; what the books do not take is not kept either. Nothing here reads what is sealed.

mod back;
mod booking;
mod courier;
mod mailbox;
mod recalls;
mod rows;
mod settlement;
mod silence;
mod telling;

use handover_core::message::{Parcel, Tally};
use handover_core::rules::Context;
use handover_core::transfer::Role;
use handover_core::{Code, HospitalId, Party, Timestamp};
use handover_dossier::incidents::{self, Incident};
use handover_dossier::{Dossier, DossierError, Kind, Taken, tally, transfer_of};
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn};

pub(crate) use self::back::pass_on_again;
pub(crate) use self::courier::Courier;
pub(crate) use self::mailbox::{dead_letters, waiting};
pub(crate) use self::settlement::{held, order_of, settle, take_order_back};
pub(crate) use self::silence::look;
pub(crate) use self::telling::{push_by, push_to, recheck};
use crate::directory::Current;
use crate::ledger::{Book, Booking, BooksError};
use crate::locator;
use crate::registry::RegistryError;

/// Why a parcel is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoutingError {
    /// A rule says no.
    #[error("{0}")]
    Refused(Code),
    /// The artefact does not fit those before it.
    #[error(transparent)]
    Dossier(#[from] DossierError),
    /// Operators may not order this.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The books do not take what follows from it.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Code> for RoutingError {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

impl RoutingError {
    /// The stable code.
    #[must_use]
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Refused(code) => *code,
            Self::Dossier(fault) => fault.code(),
            Self::Registry(fault) => fault.code(),
            Self::Books(fault) => fault.code(),
            Self::Store(fault) => fault.code(),
        }
    }
}

/// What every parcel of a message is taken in with.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) keys: KeyMaker,
    pub(crate) book: Book,
    pub(crate) current: std::sync::Arc<Current>,
    pub(crate) sender: HospitalId,
    pub(crate) now: Timestamp,
}

/// What taking a parcel in did.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    /// The hospitals for which something is new: this, or the keys of its patient.
    pub(crate) to: Vec<HospitalId>,
    /// Whether the artefact was new.
    pub(crate) is_new: bool,
    /// Whose package its transfer brings.
    pub(crate) destination: Option<HospitalId>,
    /// How much was taken of the sender's by now.
    pub(crate) tally: Tally,
}

impl Intake {
    /// Takes one parcel in. Sender and receiver are the transfer's two hospitals; the sender takes part now.
    pub(crate) fn take(
        &self,
        txn: &mut dyn Txn,
        parcel: &Parcel,
        salt_seed: [u8; 32],
    ) -> Result<Passed, RoutingError> {
        let federation = self.current.federation();
        federation.active(&self.sender, self.now)?;
        let content = parcel.content.as_ref();
        let transfer = transfer_of(content)?;
        federation.check_edition(content)?;
        let context = Context { federation, verifier: &Remembered };
        let mut dossier = Dossier::of(txn, &self.keys, transfer);
        dossier.check_bringer(content, &Party::Hospital(self.sender.clone()), context)?;
        // A copy for the index alone is evidence of what the hospitals did; it goes on to nobody.
        let taken = match &parcel.to {
            Some(_) => dossier.take_in(Role::Index, content, context, self.now)?,
            None => match dossier.take_copy(content, context, self.now) {
                Err(DossierError::Refused(Code::Conflict)) => {
                    dossier.take_instead(&self.sender, content, context, self.now)?
                }
                taken => taken?,
            },
        };
        let both = [&taken.row.source, &taken.row.destination];
        if !both.contains(&&self.sender) {
            return Err(Code::AccessDenied.into());
        }
        if taken.is_new {
            let booking = Booking { now: self.now, salt_seed };
            booking::consequence(txn, &self.keys, &self.book, &booking, &taken, context)?;
        }
        mailbox::mark(txn, &self.keys, &self.sender, transfer, taken.place)?;
        let offered = offered(&taken).into_iter().filter(|it| Some(*it) != parcel.to.as_ref());
        let mut to = Vec::new();
        for receiver in parcel.to.iter().chain(offered).filter(|receiver| **receiver != self.sender) {
            if !both.contains(&receiver) {
                return Err(Code::AccessDenied.into());
            }
            if mailbox::post(txn, &self.keys, receiver, transfer, taken.place)? {
                to.push(receiver.clone());
            }
        }
        if taken.is_new && matches!(taken.kind(), Kind::Request | Kind::Consent) {
            to.extend(locator::pass_on(txn, &self.keys, &taken.row.patient, &self.sender)?);
        }
        let of = Party::Hospital(self.sender.clone());
        let count = if taken.was_kept { tally::taken } else { tally::add };
        let tally = count(txn, &self.keys, &of)?;
        Ok(Passed { to, is_new: taken.is_new, destination: Some(taken.row.destination), tally })
    }

    /// Keeps what was refused, if it proves something against the hospital that signed it.
    pub(crate) fn note(
        &self,
        txn: &mut dyn Txn,
        parcel: &Parcel,
        code: Code,
    ) -> Result<Option<Incident>, DossierError> {
        let context = Context { federation: self.current.federation(), verifier: &Remembered };
        incidents::note(txn, &self.keys, parcel.content.as_ref(), code, context, self.now)
    }
}

/// Who is offered an artefact whoever brings it, and whomever for: releases the destination, whose silence is to mean
/// something; a refusal both, as a fee may be held on it.
fn offered(taken: &Taken) -> Vec<&HospitalId> {
    match taken.kind() {
        Kind::KeyRelease | Kind::ShareRelease => vec![&taken.row.destination],
        Kind::Refusal => vec![&taken.row.source, &taken.row.destination],
        _ => Vec::new(),
    }
}

/// Takes in a `KeyRelease` that a source has left here, once `Delivered` of its attempt is here, and puts both where
/// they are owed: the release to the destination, both to the source. The hospitals for which something is new.
pub(crate) fn hand_out(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    book: &Book,
    attempt: u32,
    release: &[u8],
    context: Context<'_>,
    (now, salt_seed): (Timestamp, [u8; 32]),
) -> Result<Vec<HospitalId>, RoutingError> {
    let transfer = transfer_of(release)?;
    let mut dossier = Dossier::of(txn, keys, transfer);
    if dossier.get(Kind::Delivered.of(attempt))?.is_none() {
        return Err(Code::EvidenceMissing.into());
    }
    let taken = dossier.take_copy(release, context, now)?;
    if taken.is_new {
        booking::consequence(txn, keys, book, &Booking { now, salt_seed }, &taken, context)?;
    }
    let (source, destination) = (&taken.row.source, &taken.row.destination);
    let mut told = Vec::new();
    for (hospital, kind) in
        [(destination, Kind::KeyRelease), (source, Kind::Delivered), (source, Kind::KeyRelease)]
    {
        if mailbox::post(txn, keys, hospital, transfer, kind.of(attempt))? {
            told.push(hospital.clone());
        }
    }
    Ok(told)
}
