//! The directory: made from the registry's rows, signed by the index, and proved up to the root before it is in
//! force. Every change or refresh is a new version, stored with what it changed; versions never fall, and no hospital
//! that stood in one is missing from the next.
//!
//! Nothing here knows who asks for it or how it travels.

mod pieces;
mod rows;

use handover_core::artefact::federation::{DIRECTORY_LIFE_MS, Directory, Status};
use handover_core::artefact::{Signed, Verified};
use handover_core::codec::{Bytes, Extensions, MAX_MESSAGE_BYTES};
use handover_core::time::HOUR_MS;
use handover_core::trust::{Federation, Head, TrustError};
use handover_core::{Code, Digest, Edition, HospitalId, Timestamp};
use handover_dossier::directories;
use handover_seal::Remembered;
use handover_store::{KeyMaker, StoreError, Txn};

use self::rows::{Addresses, Counted};
use crate::desk::Seat;
use crate::ledger::{Book, BooksError};
use crate::registry;
use handover_store::rows as cells;

/// The most bytes of a directory's head without its signature: it travels as one item of one control message.
const MAX_HEAD_BYTES: usize = MAX_MESSAGE_BYTES - 2048;
/// A directory older than this is made anew, in milliseconds.
pub(crate) const REFRESH_AFTER_MS: i64 = HOUR_MS;

/// Why there is no new directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// With this change the directory would be larger than one may be.
    #[error("the directory would have {found} {what}, at most {max} fit: no more hospitals can be admitted")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many fit.
        max: usize,
    },
    /// A hospital of the version before would be missing: its orders and evidence would hang in the air.
    #[error("the directory would lose {0}, which the version before has")]
    Dropped(HospitalId),
    /// A hospital that takes part would not understand the edition in force.
    #[error(
        "the programs of {hospital} read edition {reads} of the formats, and {in_force} would be in force"
    )]
    Older {
        /// Which.
        hospital: HospitalId,
        /// The last edition that they read.
        reads: Edition,
        /// The one in force.
        in_force: Edition,
    },
    /// A part does not lead up to the root.
    #[error("a part of the directory does not lead up to the root: {0}")]
    Trust(#[from] TrustError),
    /// The ledger's log could not be read.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// This index may not speak now.
    #[error("{0}")]
    Silent(Code),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DirectoryError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Full { .. } => Code::TooLarge,
            Self::Dropped(_) => Code::StoreDamaged,
            Self::Older { .. } => Code::OlderEdition,
            Self::Trust(fault) => fault.code(),
            Self::Books(fault) => fault.code(),
            Self::Silent(code) => *code,
            Self::Store(fault) => fault.code(),
        }
    }
}

/// A directory in force.
#[derive(Clone)]
pub(crate) struct Current {
    federation: Federation,
}

impl Current {
    /// Its head as it is sent.
    pub(crate) fn envelope(&self) -> &[u8] {
        self.federation.directory().envelope()
    }

    /// Verified.
    pub(crate) const fn federation(&self) -> &Federation {
        &self.federation
    }

    pub(crate) fn version(&self) -> u64 {
        self.federation.directory().version
    }

    /// The edition that everybody signs in.
    pub(crate) fn edition(&self) -> Edition {
        self.federation.directory().edition
    }

    /// Whether it should be made anew, so that it always has most of its life before it.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        now.since_ms(self.federation.directory().issued) >= REFRESH_AFTER_MS
    }
}

fn head_key(keys: &KeyMaker) -> Vec<u8> {
    keys.space("directory").raw("head").build()
}

fn addresses_key(keys: &KeyMaker) -> Vec<u8> {
    keys.space("directory").raw("addresses").build()
}

/// The directory that was in force last, verified again. If the index's certificate of then has run out meanwhile, it still
/// tells who is who: a new one is made once the index may speak.
pub(crate) fn load(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    seat: &Seat,
    now: Timestamp,
) -> Result<Option<Current>, DirectoryError> {
    let Some(envelope) = directories::head(txn, keys)? else { return Ok(None) };
    let head = match Head::verify(&envelope, &seat.root, now, &Remembered) {
        Err(TrustError::Expired) => {
            let issued = Signed::<Directory>::read(&envelope).map_err(TrustError::from)?.claim().issued;
            Head::verify(&envelope, &seat.root, issued, &Remembered)?
        }
        verified => verified?,
    };
    let pieces = directories::pieces(txn, keys, &head.directory().pieces)?;
    Ok(Some(Current { federation: head.complete(&pieces, None, &Remembered)? }))
}

/// Sets the addresses that the next directories tell; whether they changed.
pub(crate) fn set_addresses(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    addresses: &[String],
) -> Result<bool, StoreError> {
    let key = addresses_key(keys);
    let row = Addresses { addresses: addresses.to_vec(), extensions: Extensions::default() };
    if cells::get::<Addresses>(txn, &key)?.as_ref() == Some(&row) {
        return Ok(false);
    }
    cells::put(txn, &key, &row)?;
    Ok(true)
}

/// Puts a directory back that this index has signed and lost; nothing, if one as new is here.
pub(crate) fn put_back(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    federation: &Federation,
) -> Result<Option<Current>, DirectoryError> {
    let (version, edition) = (federation.directory().version, federation.directory().edition);
    let head = cells::get::<Counted>(txn, &head_key(keys))?;
    let is_newest = head.as_ref().is_none_or(|head| head.version < version);
    // An edition that was in force is so again, also if the directory has to be made anew.
    let next = Counted {
        version: head.as_ref().map_or(version, |head| head.version.max(version)),
        edition: head.map_or(edition, |head| head.edition.max(edition)),
        extensions: Extensions::default(),
    };
    cells::put(txn, &head_key(keys), &next)?;
    if !is_newest {
        return Ok(None);
    }
    directories::keep(txn, keys, federation)?;
    Ok(Some(Current { federation: federation.clone() }))
}

/// Makes, signs, verifies and stores the next version; with another edition in force, if one is given. It is signed in
/// the edition of the one before, so that everybody can read of the change. Pieces that `known` has are not verified again.
pub(crate) fn rebuild(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    seat: &Seat,
    book: &Book,
    known: Option<&Current>,
    (raised, now): (Option<Edition>, Timestamp),
) -> Result<Current, DirectoryError> {
    let head: Option<Counted> = cells::get(txn, &head_key(keys))?;
    // The time, so that it is above whatever a thief of this key has signed until now, and never the same twice.
    let time = u64::try_from(now.as_millis()).unwrap_or_default();
    let version = head.as_ref().map_or(0, |head| head.version).saturating_add(1).max(time);
    let edition = raised.or(head.map(|head| head.edition)).unwrap_or(Edition::FIRST);
    let addresses =
        cells::get::<Addresses>(txn, &addresses_key(keys))?.map_or_else(Vec::new, |row| row.addresses);
    let tree = book.stated(txn)?;
    let entries = registry::directory_entries(txn, keys)?;
    let hospitals = entries.iter().map(|(hospital, _)| hospital.clone()).collect();
    let pieces = pieces::divided(entries)?;
    let digests: Vec<Digest> = pieces.iter().map(|piece| Digest::sha256(&[piece])).collect();
    pieces::none_dropped(txn, keys, &hospitals, &digests)?;
    let directory = Directory {
        version,
        issued: now,
        expires: now.plus_ms(DIRECTORY_LIFE_MS),
        indexes: vec![Bytes(seat.certificate.clone())],
        operators: registry::operator_certificates(txn, keys)?,
        pieces: digests,
        schedules: registry::schedule_envelopes(txn, keys)?,
        log_size: tree.size,
        log_root: tree.root,
        addresses,
        edition,
        extensions: Extensions::default(),
    };
    let bytes = handover_core::codec::encode(&directory).len();
    if bytes > MAX_HEAD_BYTES {
        return Err(DirectoryError::Full { what: "bytes in its head", found: bytes, max: MAX_HEAD_BYTES });
    }
    let envelope = Verified::sign(directory, &*seat.signer).envelope().to_vec();
    // What the nodes will check is checked here first: a directory that they would refuse never comes into force.
    let head = Head::verify(&envelope, &seat.root, now, &Remembered)?;
    let federation = head.complete(&pieces, known.map(Current::federation), &Remembered)?;
    everybody_reads(&federation)?;
    cells::put(txn, &head_key(keys), &Counted { version, edition, extensions: Extensions::default() })?;
    directories::keep(txn, keys, &federation)?;
    Ok(Current { federation })
}

/// Refuses an edition that somebody who takes part does not read.
fn everybody_reads(federation: &Federation) -> Result<(), DirectoryError> {
    let in_force = federation.directory().edition;
    let mut active = federation.members().filter(|member| member.order.status == Status::Active);
    match active.find(|member| member.profile.reads < in_force) {
        Some(member) => Err(DirectoryError::Older {
            hospital: member.certificate.hospital.clone(),
            reads: member.profile.reads,
            in_force,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
