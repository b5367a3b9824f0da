//! Who a patient is in the federation: codes given out at the desk, and links.
//!
//! A code's first half finds it and only its keyed hash is stored, so guesses at a code count against it: after five
//! it is dead, like after 24 hours. A code that was asked for with a request's identifier follows from it, the patient
//! and the hospital's key, so that the same request gives the same code again and nothing more is
//! stored. Looking up a link needs no permit: a permit is asked for with what it answers.

use handover_core::codec::Extensions;
use handover_core::time::DAY_MS;
use handover_core::{PatientRef, Random, Timestamp};
use handover_store::Txn;

use crate::RecordsError;
use crate::access::Action;
use crate::model::{Linked, LocalPatient, RequestId};
use crate::permit::Permit;
use crate::records::{Records, register_in};
use crate::rows::{self, CodeRequestRow, LinkCodeRow, LinkRow};

/// How long a link code is valid.
pub const LINK_CODE_LASTS_MS: i64 = DAY_MS;
/// After how many wrong tries a link code is dead.
pub const LINK_CODE_TRIES: u8 = 5;

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const HALF_CHARS: usize = 4;
const CODE_CHARS: usize = 2 * HALF_CHARS;
/// How many codes are drawn to find one whose first half is free.
const DRAWS: usize = 16;
/// The most links of one patient.
const LINKS_MAX: usize = 1_000;

/// The code of a request for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedCode {
    /// Like `K7QF-29XM`.
    pub code: String,
    /// Whether the patient has used it: nobody else can.
    pub is_used: bool,
}

impl Records {
    /// A code that a patient is given in person, like `K7QF-29XM`. Needs [`Action::Link`] on the patient, who is
    /// registered.
    ///
    /// # Errors
    /// [`RecordsError::Denied`], [`RecordsError::UnknownPatient`]; those of the store.
    pub async fn new_link_code(
        &self,
        permit: &Permit,
        now: Timestamp,
        patient: &LocalPatient,
        random: &mut (dyn Random + Send),
    ) -> Result<String, RecordsError> {
        permit.check(now, &[Action::Link])?;
        permit.check_patient(patient)?;
        let drawn: Vec<[u8; CODE_CHARS]> = (0..DRAWS)
            .map(|_| {
                let mut bytes = [0; CODE_CHARS];
                random.fill(&mut bytes);
                bytes
            })
            .collect();
        let (records, patient) = (self.clone(), patient.clone());
        let write = self.store.write(move |txn| {
            records.require_registered(txn, &patient)?;
            for bytes in &drawn {
                let code = LinkCode::of(bytes);
                if records.keep_code_in(txn, now, &patient, &code)? {
                    return Ok(code.shown());
                }
            }
            Err(RecordsError::TooManyLinkCodes)
        });
        write.await
    }

    /// Registers a patient and gives a code as [`Records::new_link_code`] does: the same again for the same request, as
    /// long as it is valid. Needs [`Action::Link`] on the patient.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; [`RecordsError::RequestOfAnother`], and nobody is registered;
    /// [`RecordsError::LinkCodeOver`] if its code has expired or was tried wrongly too often.
    pub async fn register_with_code(
        &self,
        permit: &Permit,
        now: Timestamp,
        patient: &LocalPatient,
        request: &RequestId,
    ) -> Result<RequestedCode, RecordsError> {
        permit.check(now, &[Action::Link])?;
        permit.check_patient(patient)?;
        let (records, patient, request) = (self.clone(), patient.clone(), request.clone());
        let write = self.store.write(move |txn| {
            let key = records.places.code_request(&request);
            let hash = records.vault.code_request_hash(&patient);
            if let Some(kept) = rows::get::<CodeRequestRow>(txn, &key, "request for a link code")? {
                if kept.patient != hash {
                    return Err(RecordsError::RequestOfAnother);
                }
                let code = LinkCode::of(&records.vault.requested_code(&request, &patient, kept.draw));
                let row: Option<LinkCodeRow> =
                    rows::get(txn, &records.places.link_code(code.handle()), "link code")?;
                let row = row.filter(|row| {
                    now < row.expires
                        && row.wrong_tries < LINK_CODE_TRIES
                        && row.code == records.vault.link_code_hash(&code.0)
                });
                let row = row.ok_or(RecordsError::LinkCodeOver)?;
                return Ok(RequestedCode { code: code.shown(), is_used: row.used_by.is_some() });
            }
            register_in(txn, &records.places, &patient, now)?;
            for draw in 0..DRAWS as u64 {
                let code = LinkCode::of(&records.vault.requested_code(&request, &patient, draw));
                if records.keep_code_in(txn, now, &patient, &code)? {
                    let row = CodeRequestRow { patient: hash, draw, extensions: Extensions::default() };
                    rows::put(txn, &key, &row)?;
                    return Ok(RequestedCode { code: code.shown(), is_used: false });
                }
            }
            Err(RecordsError::TooManyLinkCodes)
        });
        write.await
    }

    /// Keeps a code, unless its first half is taken by one that is out.
    fn keep_code_in(
        &self,
        txn: &mut dyn Txn,
        now: Timestamp,
        patient: &LocalPatient,
        code: &LinkCode,
    ) -> Result<bool, RecordsError> {
        let key = self.places.link_code(code.handle());
        let taken: Option<LinkCodeRow> = rows::get(txn, &key, "link code")?;
        if taken.is_some_and(|taken| now < taken.expires) {
            return Ok(false);
        }
        let row = LinkCodeRow {
            code: self.vault.link_code_hash(&code.0),
            patient: patient.as_str().to_owned(),
            expires: now.plus_ms(LINK_CODE_LASTS_MS),
            wrong_tries: 0,
            used_by: None,
            extensions: Extensions::default(),
        };
        rows::put(txn, &key, &row)?;
        Ok(true)
    }

    /// Uses a code up for a patient reference. The same reference may repeat it until it expires.
    ///
    /// # Errors
    /// [`RecordsError::LinkCodeWrong`]; [`RecordsError::LinkedOtherwise`] for a reference that is linked to another
    /// patient, and the code is not used up; those of the store.
    pub async fn redeem(
        &self,
        code: &str,
        patient_ref: PatientRef,
        now: Timestamp,
    ) -> Result<LocalPatient, RecordsError> {
        let (records, code) = (self.clone(), code.to_owned());
        let write = self.store.write(move |txn| records.redeem_in(txn, &code, patient_ref, now));
        write.await?.ok_or(RecordsError::LinkCodeWrong)
    }

    /// As [`Records::redeem`], in a transaction of the caller's. `None` for a code that is wrong, used or expired:
    /// the transaction must be kept then, because it counts the try.
    ///
    /// # Errors
    /// [`RecordsError::LinkedOtherwise`]; those of the store.
    pub fn redeem_in(
        &self,
        txn: &mut dyn Txn,
        code: &str,
        patient_ref: PatientRef,
        now: Timestamp,
    ) -> Result<Option<LocalPatient>, RecordsError> {
        let Some(code) = normal_form(code) else { return Ok(None) };
        let key = self.places.link_code(code.get(..HALF_CHARS).unwrap_or_default());
        let Some(mut row) = rows::get::<LinkCodeRow>(txn, &key, "link code")? else { return Ok(None) };
        if now >= row.expires
            || row.wrong_tries >= LINK_CODE_TRIES
            || row.used_by.is_some_and(|used_by| used_by != patient_ref)
        {
            return Ok(None);
        }
        // Both sides are keyed hashes: what a comparison's time tells of them says nothing about the code.
        if self.vault.link_code_hash(&code) != row.code {
            row.wrong_tries = row.wrong_tries.saturating_add(1);
            rows::put(txn, &key, &row)?;
            return Ok(None);
        }
        // Not used up by who cannot be linked with it: another wallet can, or the same one later.
        let held: Option<LinkRow> = rows::get(txn, &self.places.link(&patient_ref), "link")?;
        if held.is_some_and(|held| held.patient != row.patient) {
            return Err(RecordsError::LinkedOtherwise);
        }
        row.used_by = Some(patient_ref);
        rows::put(txn, &key, &row)?;
        row.patient.parse().map(Some).map_err(|_| RecordsError::Damaged { what: "link code" })
    }

    /// Links a patient of the federation with one here. Linking again changes nothing. Needs [`Action::Link`] on the
    /// patient.
    ///
    /// # Errors
    /// [`RecordsError::Denied`], [`RecordsError::UnknownPatient`]; [`RecordsError::LinkedOtherwise`] if the reference
    /// is linked to another patient.
    pub async fn link(
        &self,
        permit: &Permit,
        now: Timestamp,
        patient_ref: PatientRef,
        patient: &LocalPatient,
    ) -> Result<(), RecordsError> {
        let (records, permit, patient) = (self.clone(), permit.clone(), patient.clone());
        let write = self.store.write(move |txn| records.link_in(txn, &permit, now, patient_ref, &patient));
        write.await
    }

    /// As [`Records::link`], in a transaction of the caller's.
    ///
    /// # Errors
    /// As [`Records::link`].
    pub fn link_in(
        &self,
        txn: &mut dyn Txn,
        permit: &Permit,
        now: Timestamp,
        patient_ref: PatientRef,
        patient: &LocalPatient,
    ) -> Result<(), RecordsError> {
        permit.check(now, &[Action::Link])?;
        permit.check_patient(patient)?;
        self.require_registered(txn, patient)?;
        let key = self.places.link(&patient_ref);
        if let Some(held) = rows::get::<LinkRow>(txn, &key, "link")? {
            return if held.patient == patient.as_str() {
                Ok(())
            } else {
                Err(RecordsError::LinkedOtherwise)
            };
        }
        let row = LinkRow {
            patient_ref,
            patient: patient.as_str().to_owned(),
            since: now,
            extensions: Extensions::default(),
        };
        rows::put(txn, &key, &row)?;
        Ok(txn.put(&self.places.link_of(patient, &patient_ref), patient_ref.as_bytes().to_vec())?)
    }

    /// Takes a link away, in a transaction of the caller's. Needs [`Action::Unlink`] on the patient. Says whether it was
    /// there.
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; [`RecordsError::LinkedOtherwise`] if the reference is linked to another patient.
    pub fn unlink_in(
        &self,
        txn: &mut dyn Txn,
        permit: &Permit,
        now: Timestamp,
        patient_ref: PatientRef,
    ) -> Result<bool, RecordsError> {
        permit.check(now, &[Action::Unlink])?;
        let patient = permit.one_patient()?;
        let key = self.places.link(&patient_ref);
        let Some(held) = rows::get::<LinkRow>(txn, &key, "link")? else { return Ok(false) };
        if held.patient != patient.as_str() {
            return Err(RecordsError::LinkedOtherwise);
        }
        txn.remove(&key)?;
        txn.remove(&self.places.link_of(patient, &patient_ref))?;
        txn.put(&self.places.was_linked(patient), vec![1])?;
        Ok(true)
    }

    /// The patient here who is linked to a reference.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn by_ref(&self, patient_ref: PatientRef) -> Result<Option<Linked>, RecordsError> {
        let key = self.places.link(&patient_ref);
        let row: Option<LinkRow> = self.store.read(move |txn| rows::get(txn, &key, "link")).await?;
        row.map(linked).transpose()
    }

    /// As [`Records::by_ref`], the patient alone, in a transaction of the caller's.
    ///
    /// # Errors
    /// Those of the store.
    pub fn by_ref_in(
        &self,
        txn: &mut dyn Txn,
        patient_ref: &PatientRef,
    ) -> Result<Option<LocalPatient>, RecordsError> {
        let row: Option<LinkRow> = rows::get(txn, &self.places.link(patient_ref), "link")?;
        Ok(row.map(linked).transpose()?.map(|linked| linked.patient))
    }

    /// The references that a patient here is linked to.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn refs_of(&self, patient: &LocalPatient) -> Result<Vec<Linked>, RecordsError> {
        let (records, patient) = (self.clone(), patient.clone());
        let read = self.store.read(move |txn| {
            let mut found = Vec::new();
            for patient_ref in records.refs_in(txn, &patient)? {
                let row: Option<LinkRow> = rows::get(txn, &records.places.link(&patient_ref), "link")?;
                found.push(linked(row.ok_or(RecordsError::Damaged { what: "link" })?)?);
            }
            Ok::<_, RecordsError>(found)
        });
        read.await
    }

    /// As [`Records::refs_of`], the references alone, in a transaction of the caller's.
    ///
    /// # Errors
    /// Those of the store.
    pub fn refs_in(
        &self,
        txn: &mut dyn Txn,
        patient: &LocalPatient,
    ) -> Result<Vec<PatientRef>, RecordsError> {
        let page = txn.scan(&self.places.links_of(patient), None, LINKS_MAX)?;
        let read = |(_, bytes): &(Vec<u8>, Vec<u8>)| {
            PatientRef::try_from(bytes.as_slice()).map_err(|_| RecordsError::Damaged { what: "link" })
        };
        page.iter().map(read).collect()
    }

    /// Whether a patient is registered here, in a transaction of the caller's.
    ///
    /// # Errors
    /// [`RecordsError::UnknownPatient`]; those of the store.
    pub fn require_registered(&self, txn: &mut dyn Txn, patient: &LocalPatient) -> Result<(), RecordsError> {
        match txn.get(&self.places.patient(patient))? {
            Some(_) => Ok(()),
            None => Err(RecordsError::UnknownPatient),
        }
    }
}

/// A code that nobody else was given, for who keeps it elsewhere, like `K7QF-29XM`.
#[must_use]
pub fn draw_link_code(random: &mut dyn Random) -> String {
    let mut bytes = [0; CODE_CHARS];
    random.fill(&mut bytes);
    LinkCode::of(&bytes).shown()
}

fn linked(row: LinkRow) -> Result<Linked, RecordsError> {
    Ok(Linked {
        patient_ref: row.patient_ref,
        patient: row.patient.parse().map_err(|_| RecordsError::Damaged { what: "link" })?,
        since: row.since,
    })
}

/// A code's eight characters: 40 bits.
struct LinkCode(String);

impl LinkCode {
    /// From as many random bytes.
    fn of(bytes: &[u8; CODE_CHARS]) -> Self {
        let chars = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
        Self(chars.map(|&char| char::from(char)).collect())
    }

    /// The half that finds it.
    fn handle(&self) -> &str {
        self.0.get(..HALF_CHARS).unwrap_or_default()
    }

    /// As people read it.
    fn shown(&self) -> String {
        format!("{}-{}", self.handle(), self.0.get(HALF_CHARS..).unwrap_or_default())
    }
}

/// The eight characters of a code as people type it: any case, with or without hyphen and spaces, O for 0, I or L
/// for 1.
fn normal_form(code: &str) -> Option<String> {
    let mut normal = String::with_capacity(CODE_CHARS);
    for char in code.chars().filter(|char| !matches!(char, '-' | ' ')).take(CODE_CHARS + 1) {
        let char = match char.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        if !char.is_ascii() || !ALPHABET.contains(&(char as u8)) {
            return None;
        }
        normal.push(char);
    }
    (normal.len() == CODE_CHARS).then_some(normal)
}

#[cfg(test)]
mod tests {
    use super::normal_form;

    #[test]
    fn codes_are_read_as_people_type_them() {
        for typed in ["K7QF-29X1", "k7qf29x1", " k7qf 29xl", "K7QF-29Xi"] {
            assert_eq!(normal_form(typed).as_deref(), Some("K7QF29X1"), "{typed}");
        }
        for bad in ["", "K7QF-29X", "K7QF-29X11", "K7QF-29XU", "K7QF-29Xé"] {
            assert_eq!(normal_form(bad), None, "{bad}");
        }
    }
}
