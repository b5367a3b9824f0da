//! What a directory says that this index signed, and the registry has lost.
//!
//! Invariant: nothing falls, however old the directory is: of an order, a profile or a schedule the one with the higher number
//! stays, of certificates the one that lasts longer, of keys the one that was ordered last.

use handover_core::artefact::federation::{DirectoryEntry, FeeSchedule, HospitalCertificate};
use handover_core::artefact::{ArtefactError, Countersigned, Signed};
use handover_core::codec::{Bytes, Extensions};
use handover_core::trust::{Federation, Member};
use handover_core::{Digest, Timestamp};
use handover_seal::RsaPublicKey;
use handover_store::rows as cells;
use handover_store::{KeyMaker, Txn};

use super::rows::{Hospital, Operator, Schedule};
use super::schedules::schedule_key;
use super::{RegistryError, hospital, operator_key, put_hospital, succession};

/// Puts back what stands in the head of a directory, which was verified up to the root.
pub(crate) fn put_back_head(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    federation: &Federation,
) -> Result<(), RegistryError> {
    let directory = federation.directory();
    for certificate in &directory.operators {
        let row = Operator { certificate: certificate.clone(), extensions: Extensions::default() };
        cells::put(txn, &operator_key(keys, certificate.as_ref()), &row)?;
    }
    for envelope in &directory.schedules {
        let schedule = Countersigned::<FeeSchedule>::read(envelope.as_ref())?.claim().clone();
        let row = Schedule { envelope: envelope.clone(), extensions: Extensions::default() };
        cells::put(txn, &schedule_key(keys, &schedule), &row)?;
    }
    Ok(())
}

/// Puts back the hospitals of the directory's piece at a place.
pub(crate) fn put_back_piece(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (federation, place): (&Federation, usize),
    now: Timestamp,
) -> Result<(), RegistryError> {
    for (entry, member) in federation.entries(place).map_err(ArtefactError::from)? {
        put_back_hospital(txn, keys, (&entry, member), now)?;
    }
    Ok(())
}

fn put_back_hospital(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    (entry, member): (&DirectoryEntry, &Member),
    now: Timestamp,
) -> Result<(), RegistryError> {
    let id = &member.certificate.hospital;
    let mut row = match hospital(txn, keys, id)? {
        Some(row) if row.key == member.certificate.key => row,
        // Another key spoke for it later.
        Some(row) if row.order.is_some() && row.number >= member.order.number => return Ok(()),
        known => {
            if known.is_some() {
                succession::drop_all(txn, keys, id)?;
            }
            bare(member, now)
        }
    };
    if ends(row.certificate.as_ref())? <= Some(member.certificate.not_after) {
        row.certificate = Some(entry.certificate.clone());
    }
    if row.former.is_none() {
        row.former.clone_from(&entry.former);
    }
    if row.order.is_none() || member.order.number > row.number {
        row.order = Some(entry.status.clone());
        (row.status, row.number, row.pending) = (Some(member.order.status), member.order.number, None);
    }
    if row.profile.as_ref().is_empty() || member.profile.number > row.profile_number {
        row.profile = entry.profile.clone();
        row.profile_number = member.profile.number;
        row.rsa_key = RsaPublicKey::from_spki_der(member.profile.rsa_key.as_ref())?.thumbprint();
    }
    Ok(put_hospital(txn, keys, &row)?)
}

/// Until when a certificate lasts.
fn ends(certificate: Option<&Bytes>) -> Result<Option<Timestamp>, RegistryError> {
    let Some(envelope) = certificate else { return Ok(None) };
    Ok(Some(Signed::<HospitalCertificate>::read(envelope.as_ref())?.claim().not_after))
}

/// A hospital that was admitted since. What it enrolled with is gone: nobody needs that once it is certified.
fn bare(member: &Member, now: Timestamp) -> Hospital {
    Hospital {
        hospital: member.certificate.hospital.clone(),
        name: member.profile.name.clone(),
        key: member.certificate.key,
        request: Digest::sha256(&[]),
        certificate_request: Bytes::default(),
        profile: Bytes::default(),
        profile_number: 0,
        rsa_key: Digest::sha256(&[]),
        certificate: None,
        order: None,
        status: None,
        number: 0,
        pending: None,
        since: now,
        former: None,
        extensions: Extensions::default(),
    }
}

#[cfg(test)]
mod tests {
    use handover_core::artefact::Verified;
    use handover_core::artefact::federation::{Authority, AuthorityCertificate, Status, StatusOrder};
    use handover_core::id::SigningPublic;
    use handover_core::time::DAY_MS;
    use handover_seal::Secret32;
    use handover_store::{CellKey, Store};

    use super::super::tests::{NOW, certified, key};
    use super::super::{
        add_operator, directory_entries, known_hospital, operator_certificates, submit_order,
    };
    use super::*;
    use crate::desk::Seat;
    use crate::keepsakes::Keepsakes;
    use crate::ledger::Book;

    fn authority(authority: Authority, key: SigningPublic) -> Verified<AuthorityCertificate> {
        let certificate = AuthorityCertificate {
            authority,
            name: "somebody".to_owned(),
            key,
            not_before: NOW,
            not_after: NOW.plus_ms(DAY_MS),
            extensions: Extensions::default(),
        };
        Verified::sign(certificate, &self::key(9))
    }

    fn seat() -> Seat {
        let certificate = authority(Authority::Index, key(2).public());
        Seat {
            root: key(9).public(),
            signer: std::sync::Arc::new(key(2)),
            certificate: certificate.envelope().to_vec(),
            authority: (*certificate).clone(),
            keepsakes: Keepsakes::of(&Secret32::from_bytes([3; 32])),
        }
    }

    /// The hospital's key has the seed.
    fn order((hospital, seed): (&str, u8), (status, number): (Status, u64)) -> Verified<StatusOrder> {
        let order = StatusOrder {
            hospital: hospital.parse().unwrap(),
            key: key(seed).public().thumbprint(),
            status,
            number,
            reason: String::new(),
            issued: NOW,
            extensions: Extensions::default(),
        };
        Verified::sign(order, &key(7))
    }

    fn submitted(txn: &mut dyn Txn, keys: &KeyMaker, envelope: &[u8]) -> Result<(), RegistryError> {
        let operators = [7, 8].map(|it| (*authority(Authority::Operator, key(it).public())).clone());
        submit_order(txn, keys, envelope, &operators, NOW).map(drop)
    }

    /// Two operators order it.
    fn ordered(
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        hospital: (&str, u8),
        what: (Status, u64),
    ) -> Result<(), RegistryError> {
        submitted(txn, keys, &Countersigned::sign(&order(hospital, what), &key(8)))
    }

    fn begun(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<(), RegistryError> {
        certified(txn, keys, "member", 3)?;
        let first = authority(Authority::Operator, key(7).public());
        add_operator(txn, keys, first.envelope(), &key(9).public(), NOW)?;
        ordered(txn, keys, ("member", 3), (Status::Active, 1))
    }

    fn put_back(txn: &mut dyn Txn, keys: &KeyMaker, federation: &Federation) -> Result<(), RegistryError> {
        put_back_head(txn, keys, federation)?;
        federation.places().try_for_each(|place| put_back_piece(txn, keys, (federation, place), NOW))
    }

    /// Of two keys the one stays that was ordered last, whichever directory is newer.
    #[tokio::test]
    async fn a_key_that_was_replaced_does_not_come_back() {
        let whole = Store::memory(&CellKey::from_bytes([1; 32]));
        let (keys, book) = (whole.keys(), Book::new(whole.keys()));
        let made = whole.write::<_, RegistryError, _>(move |txn| {
            begun(txn, &keys)?;
            let second = authority(Authority::Operator, key(8).public());
            add_operator(txn, &keys, second.envelope(), &key(9).public(), NOW)?;
            crate::directory::rebuild(txn, &keys, &seat(), &book, None, (None, NOW)).map_err(Into::into)
        });
        let federation = made.await.unwrap().federation().clone();
        for (number, stays) in [(2, true), (1, true), (0, false)] {
            let store = Store::memory(&CellKey::from_bytes([1; 32]));
            let (keys, federation) = (store.keys(), federation.clone());
            let back = store.write::<_, RegistryError, _>(move |txn| {
                begun(txn, &keys)?;
                let id = "member".parse().unwrap();
                let held = known_hospital(txn, &keys, &id)?;
                let row = Hospital { key: key(5).public(), number, ..held };
                put_hospital(txn, &keys, &row)?;
                let next = Hospital { key: key(6).public(), ..row.clone() };
                succession::put(txn, &keys, &next)?;
                put_back(txn, &keys, &federation)?;
                let now = known_hospital(txn, &keys, &id)?;
                assert_eq!(now.key == row.key, stays, "{number}");
                // Who waits to succeed a key that does not speak any more waits for nothing.
                assert_eq!(succession::successors(txn, &keys, &id)?.is_empty(), !stays);
                Ok(())
            });
            back.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_stands_in_the_directory_is_back_and_nothing_falls() {
        let whole = Store::memory(&CellKey::from_bytes([1; 32]));
        let (keys, book) = (whole.keys(), Book::new(whole.keys()));
        let made = whole.write::<_, RegistryError, _>(move |txn| {
            begun(txn, &keys)?;
            let second = authority(Authority::Operator, key(8).public());
            add_operator(txn, &keys, second.envelope(), &key(9).public(), NOW)?;
            ordered(txn, &keys, ("member", 3), (Status::Suspended, 2))?;
            certified(txn, &keys, "later", 4)?;
            ordered(txn, &keys, ("later", 4), (Status::Active, 1))?;
            let current = crate::directory::rebuild(txn, &keys, &seat(), &book, None, (None, NOW))?;
            Ok((current, directory_entries(txn, &keys)?, operator_certificates(txn, &keys)?))
        });
        let (current, entries, operators) = made.await.unwrap();
        let federation = current.federation().clone();

        let restored = Store::memory(&CellKey::from_bytes([1; 32]));
        let keys = restored.keys();
        let back = restored.write::<_, RegistryError, _>(move |txn| {
            begun(txn, &keys)?;
            put_back(txn, &keys, &federation)?;
            assert_eq!(directory_entries(txn, &keys)?, entries);
            assert_eq!(operator_certificates(txn, &keys)?, operators);
            // Numbers go on where they were, also of who was admitted since.
            let skipped = ordered(txn, &keys, ("later", 4), (Status::Suspended, 3)).unwrap_err();
            assert_eq!(skipped.code(), handover_core::Code::OutOfOrder);
            ordered(txn, &keys, ("later", 4), (Status::Suspended, 2))?;
            ordered(txn, &keys, ("member", 3), (Status::Active, 3))?;
            // What one operator has signed since waits on.
            let wish = order(("member", 3), (Status::Suspended, 4));
            submitted(txn, &keys, wish.envelope())?;
            put_back(txn, &keys, &federation)?;
            assert!(known_hospital(txn, &keys, &"member".parse().unwrap())?.pending.is_some());
            for (hospital, number) in [("member", 3), ("later", 2)] {
                assert_eq!(known_hospital(txn, &keys, &hospital.parse().unwrap())?.number, number);
            }
            Ok(())
        });
        back.await.unwrap();
    }
}
