//! How a dossier lies in the store: a row with the state, and each artefact in its place.

use handover_core::codec::Extensions;
use handover_core::rules::Context;
use handover_core::transfer::{Phase, Role, State};
use handover_core::{Code, HospitalId, Party, PatientRef, Timestamp, TransferId, cbor_map};
use handover_store::{KeyBuilder, KeyMaker, StoreError, Txn, rows};

use crate::evidence::AlreadyVerified;
use crate::kind::Claimed;
use crate::{DossierError, Kind, Place};

cbor_map! {
    /// What is known of a transfer at a glance.
    pub struct Row {
        /// The transfer.
        1 => transfer: TransferId,
        /// Whose copy this is.
        2 => role: Role,
        /// Where it stands.
        3 => state: State,
        /// Whose records.
        4 => patient: PatientRef,
        /// Who holds them.
        5 => source: HospitalId,
        /// Who gets them.
        6 => destination: HospitalId,
        /// When it began here.
        7 => created: Timestamp,
        /// When its state last changed here, or something of it came.
        8 => updated: Timestamp,
        /// The transfer that it continues, if it is a delivery under that one's consent.
        9 => origin: Option<TransferId>,
    }
}

impl Row {
    pub(crate) fn new(
        transfer: TransferId,
        role: Role,
        state: State,
        patient: PatientRef,
        source: HospitalId,
        destination: HospitalId,
        now: Timestamp,
    ) -> Self {
        Self {
            transfer,
            role,
            state,
            patient,
            source,
            destination,
            created: now,
            updated: now,
            origin: None,
            extensions: Extensions::default(),
        }
    }

    /// Whether the transfer has come to nothing here and, as somebody says who refuses what belongs to it with this code,
    /// there: for the very reason, or for another no that crossed this one. That something could not be filed is nothing
    /// that crosses a no.
    #[must_use]
    pub fn makes_moot(&self, code: Code) -> bool {
        let is_no = matches!(code, Code::ConsentRevoked | Code::ConsentExpired | Code::PatientRefused);
        let may_cross = matches!(self.state.phase, Phase::Refused | Phase::Expired | Phase::Revoked);
        self.state.phase.is_exit() && (self.state.reason == Some(code) || (is_no && may_cross))
    }

    /// The hospital that this one deals with; at the index the destination.
    #[must_use]
    pub const fn other(&self) -> &HospitalId {
        match self.role {
            Role::Destination => &self.source,
            Role::Source | Role::Index => &self.destination,
        }
    }
}

/// One transfer's dossier inside a transaction.
pub struct Dossier<'t> {
    pub(crate) txn: &'t mut dyn Txn,
    pub(crate) keys: KeyMaker,
    pub(crate) verified: AlreadyVerified,
    transfer: TransferId,
    /// Whether a no is only kept.
    pub(crate) holds_no: bool,
    /// What the row says of it, once there is one; it never changes.
    origin: Option<Option<TransferId>>,
}

impl<'t> Dossier<'t> {
    /// The dossier of `transfer`, whether or not there is anything in it yet.
    pub fn of(txn: &'t mut dyn Txn, keys: &KeyMaker, transfer: TransferId) -> Self {
        Self {
            txn,
            keys: keys.clone(),
            verified: AlreadyVerified::default(),
            transfer,
            holds_no: false,
            origin: None,
        }
    }

    /// A no to this source (the patient's revocation or refusal, the destination's refusal) is verified and kept, but does
    /// not end the transfer: somebody has to be asked first whether it came in time. [`Self::end`] ends it then.
    pub const fn hold_no(&mut self, holds: bool) {
        self.holds_no = holds;
    }

    /// The transfer.
    #[must_use]
    pub const fn transfer(&self) -> TransferId {
        self.transfer
    }

    fn row_key(&self) -> Vec<u8> {
        self.keys.space("transfer").raw(self.transfer.as_bytes()).build()
    }

    fn active_key(&self) -> Vec<u8> {
        self.keys.space("transfer-active").raw(self.transfer.as_bytes()).build()
    }

    fn key(&self, place: Place) -> KeyBuilder {
        let of_kind = self.keys.space("artefact").raw(self.transfer.as_bytes()).u64(place.kind as u64);
        of_kind.u64(u64::from(place.attempt))
    }

    /// The row.
    ///
    /// # Errors
    /// [`DossierError::Store`].
    pub fn row(&mut self) -> Result<Option<Row>, DossierError> {
        let key = self.row_key();
        let row: Option<Row> = rows::get(self.txn, &key)?;
        self.origin = row.as_ref().map(|row| row.origin);
        Ok(row)
    }

    pub(crate) fn put_row(&mut self, row: &Row) -> Result<(), StoreError> {
        let (key, active) = (self.row_key(), self.active_key());
        self.origin = Some(row.origin);
        if row.state.phase.is_final() {
            self.txn.remove(&active)?;
        } else {
            self.txn.put(&active, self.transfer.as_bytes().to_vec())?;
        }
        if let Some(origin) = row.origin {
            let active = self.keys.space("delivery-active").raw(origin.as_bytes());
            let active = active.raw(self.transfer.as_bytes()).build();
            if row.state.phase.is_final() {
                self.txn.remove(&active)?;
            } else {
                self.txn.put(&active, self.transfer.as_bytes().to_vec())?;
            }
        }
        rows::put(self.txn, &key, row)
    }

    /// The transfer that this one continues, if it is a delivery.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn origin(&mut self) -> Result<Option<TransferId>, StoreError> {
        if self.origin.is_none() {
            let key = self.row_key();
            self.origin = rows::get::<Row>(self.txn, &key)?.map(|row| row.origin);
        }
        Ok(self.origin.flatten())
    }

    /// The artefact in a place. A delivery has request, consent and what belongs to them from the transfer that it
    /// continues: so every rule holds for it as for that one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&mut self, place: impl Into<Place>) -> Result<Option<Vec<u8>>, StoreError> {
        let place = place.into();
        let origin = self.origin()?;
        let key = match (origin, place.kind.of_origin()) {
            (Some(origin), Some(kind)) => {
                Dossier::of(self.txn, &self.keys, origin).key(kind.of(place.attempt))
            }
            (None, Some(kind)) if kind != place.kind => return Ok(None),
            _ => self.key(place),
        };
        rows::get_pieces(self.txn, &key)
    }

    /// As [`Self::get`], but nothing of the transfer that a delivery continues.
    ///
    /// # Errors
    /// The store's.
    pub fn get_own(&mut self, place: Place) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.key(place);
        rows::get_pieces(self.txn, &key)
    }

    /// Whether this very artefact is kept.
    ///
    /// # Errors
    /// [`handover_core::Code::Malformed`] if it is none of a transfer.
    pub fn keeps(&mut self, content: &[u8]) -> Result<bool, DossierError> {
        let claimed = Claimed::read(content)?;
        if claimed.transfer() != self.transfer {
            return Ok(false);
        }
        for place in claimed.places() {
            if self.get_own(place)?.is_some_and(|kept| kept == content) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses what a key signed that its hospital has replaced since, unless that hospital itself brings it or this very
    /// artefact is kept here already.
    ///
    /// # Errors
    /// [`handover_core::Code::KeyReplaced`]; [`handover_core::Code::Malformed`] if it is no artefact of a transfer.
    pub fn check_bringer(
        &mut self,
        content: &[u8],
        bringer: &Party,
        context: Context<'_>,
    ) -> Result<(), DossierError> {
        match context.federation.check_bringer(content, bringer) {
            Err(code) if !self.keeps(content)? => Err(code.into()),
            _ => Ok(()),
        }
    }

    /// Everything that is kept, by kind and attempt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn all(&mut self) -> Result<Vec<(Place, Vec<u8>)>, StoreError> {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            for place in kind.places() {
                match self.get(place)? {
                    Some(content) => all.push((place, content)),
                    None if kind.is_numbered() => break,
                    None => {}
                }
            }
        }
        Ok(all)
    }

    /// The attempts, or numbers, of which an artefact of this kind is here, ascending.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn attempts_with(&mut self, kind: Kind) -> Result<Vec<u32>, StoreError> {
        let mut attempts = Vec::new();
        for place in kind.places() {
            if self.get(place)?.is_some() {
                attempts.push(place.attempt);
            } else if kind.is_numbered() {
                break;
            }
        }
        Ok(attempts)
    }

    pub(crate) fn put(&mut self, place: Place, content: &[u8]) -> Result<(), StoreError> {
        let key = self.key(place);
        rows::put_pieces(self.txn, &key, content)
    }
}

/// Transfers that are not final, ascending; `after` pages on.
///
/// # Errors
/// [`DossierError`].
pub fn active(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<TransferId>,
    limit: usize,
) -> Result<Vec<Row>, DossierError> {
    let prefix = keys.space("transfer-active").build();
    let after = after.map(|id| keys.space("transfer-active").raw(id.as_bytes()).build());
    let found = txn.scan(&prefix, after.as_deref(), limit)?;
    let mut rows = Vec::with_capacity(found.len());
    for (_, id) in found {
        let id = TransferId::try_from(id.as_slice()).map_err(|_| rows::damaged("an active transfer"))?;
        rows.extend(Dossier::of(txn, keys, id).row()?);
    }
    Ok(rows)
}

/// All transfers, ascending (oldest first); `after` pages on.
///
/// # Errors
/// [`DossierError`].
pub fn list(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    after: Option<TransferId>,
    limit: usize,
) -> Result<Vec<Row>, DossierError> {
    let prefix = keys.space("transfer").build();
    let after = after.map(|id| keys.space("transfer").raw(id.as_bytes()).build());
    let found = txn.scan(&prefix, after.as_deref(), limit)?;
    found.into_iter().map(|(_, bytes)| Ok(rows::read(&bytes)?)).collect()
}
