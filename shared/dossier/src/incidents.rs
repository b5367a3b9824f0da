//! What a hospital signed and was refused: kept, so that it can be shown to others, who come to the same refusal by the
//! rules alone.
//!
//! Only what its own signature proves is kept, and only if no honest hospital signs such: who was merely late, or away,
//! or brings what somebody else signed, or signs twice because it was restored from a backup, has proven nothing against
//! itself; and what stands in a part that one hospital alone can open is shown to nobody. The first [`PER_HOSPITAL_MAX`] of a hospital are kept until a person removes
//! them, so that nobody fills a disk, nor pushes out what was kept before.

use handover_core::artefact::transfer::Quote;
use handover_core::artefact::{Signed, peek_type, signed_by};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::rules::Context;
use handover_core::trust::{Federation, Member};
use handover_core::verify::{TRANSFER_FILE_MAX_BYTES, TransferFile, verify_artefacts};
use handover_core::{Code, Digest, Party, Timestamp, TransferId, cbor_map};
use handover_store::{KeyMaker, SCAN_MAX_CELLS, StoreError, Txn, rows};

use crate::{Dossier, DossierError, Kind, Row};

/// How many are kept of one hospital.
pub const PER_HOSPITAL_MAX: usize = 64;
const SPACE: &str = "incident";
const PROOF: &str = "incident-proof";
/// What a delivery stands on of the transfer that it continues.
const SHARED: [Kind; 4] = [Kind::Request, Kind::Quote, Kind::FinalQuote, Kind::Consent];

cbor_map! {
    /// What was refused, and whose signature it bears.
    pub struct Incident {
        /// Who signed it.
        1 => by: Party,
        /// Why it was refused.
        2 => code: Code,
        /// The artefact's type.
        3 => artefact: String,
        /// SHA-256 of the whole envelope: what the incident is called.
        4 => id: Digest,
        /// The transfer that it claims to belong to, if to one.
        5 => transfer: Option<TransferId>,
        /// When it first came.
        6 => at: Timestamp,
    }
}

cbor_map! {
    /// What shows it.
    struct Proof {
        /// Artefacts of the transfer, the refused one among them.
        1 => artefacts: Vec<Bytes>,
        /// The whole file, if it is another one than a transfer's.
        2 => file: Option<Bytes>,
    }
}

/// Whether an honest hospital signs nothing that is refused like this, whatever is late, lost or away.
const fn is_a_lie(code: Code) -> bool {
    matches!(
        code,
        Code::WrongSigner
            | Code::AskMismatch
            | Code::ReferralMismatch
            | Code::QuoteMismatch
            | Code::QuoteFalse
            | Code::AttemptMismatch
            | Code::ReleaseMismatch
            | Code::ConsentMismatch
            | Code::ConsentSpent
            | Code::CapExceeded
            | Code::PackageMismatch
            | Code::HeaderMismatch
            | Code::DeliveredMismatch
            | Code::SharesMismatch
            | Code::ReceiptMismatch
            | Code::RevocationMismatch
            | Code::RecallMismatch
            | Code::RecallUnknownRecord
            | Code::RecallFee
    )
}

/// Keeps what was refused, if it proves something against the hospital that signed it. Says what was new.
///
/// # Errors
/// The store's.
pub fn note(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    content: &[u8],
    code: Code,
    context: Context<'_>,
    now: Timestamp,
) -> Result<Option<Incident>, DossierError> {
    if !is_a_lie(code) {
        return Ok(None);
    }
    let members = || context.federation.members();
    let keys_of_all = members().flat_map(Member::keys);
    let Ok((artefact, key)) = signed_by(content, keys_of_all, context.verifier) else { return Ok(None) };
    let Some(member) = members().find(|it| it.keys().any(|own| *own == key)) else { return Ok(None) };
    let by = Party::Hospital(member.certificate.hospital.clone());
    let id = Digest::sha256(&[content]);
    let of_hospital = keys.space(SPACE).hashed(by.to_string());
    let key = of_hospital.clone().raw(id.as_bytes()).build();
    let is_full = txn.scan(&of_hospital.build(), None, PER_HOSPITAL_MAX)?.len() == PER_HOSPITAL_MAX;
    if is_full || txn.get(&key)?.is_some() {
        return Ok(None);
    }
    let transfer = crate::transfer_of(content).ok();
    let extensions = Extensions::default();
    let incident = Incident { by, code, artefact, id, transfer, at: now, extensions };
    // What a third signed belongs to another transfer, and somebody else has brought it here.
    let mut row = transfer.map(|transfer| Dossier::of(txn, keys, transfer).row()).transpose()?.flatten();
    let origin = if row.is_none() { origin_of(content) } else { None };
    if let Some(origin) = origin {
        row = Dossier::of(txn, keys, origin).row()?;
    }
    let takes_part =
        |row: &Row| [&row.source, &row.destination].iter().any(|it| **it == member.certificate.hospital);
    if !row.as_ref().is_none_or(takes_part) {
        return Ok(None);
    }
    let held = match (transfer, origin) {
        (Some(transfer), None) => Dossier::of(txn, keys, transfer).all()?,
        // A delivery that never began: what it would share with the transfer that it claims to continue.
        (_, Some(origin)) => {
            let mut all = Dossier::of(txn, keys, origin).all()?;
            all.retain(|(place, _)| SHARED.contains(&place.kind));
            all
        }
        (None, None) => Vec::new(),
    };
    let held = held.into_iter().filter(|(place, _)| place.kind != Kind::EarlyRevocation);
    let held: Vec<Bytes> = held.map(|(_, content)| Bytes(content)).collect();
    let Some(artefacts) = proof(&incident, held, content, context) else { return Ok(None) };
    rows::put(txn, &key, &incident)?;
    let proof = Proof { artefacts, file: None, extensions: Extensions::default() };
    rows::put_large(txn, &keys.space(PROOF).raw(id.as_bytes()), &proof)?;
    Ok(Some(incident))
}

/// The transfer that a quote claims to continue.
fn origin_of(content: &[u8]) -> Option<TransferId> {
    Some(Signed::<Quote>::read(content).ok()?.claim().continues.as_ref()?.origin)
}

/// Keeps what somebody signed and what shows that it is false, found by other rules than those of an intake, unless there
/// is no room: so many of each code, so that one does not take another's. Whether it is kept now.
///
/// # Errors
/// The store's.
pub fn keep(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    incident: &Incident,
    file: Vec<u8>,
) -> Result<bool, StoreError> {
    let of_party = keys.space(SPACE).hashed(incident.by.to_string());
    let key = of_party.clone().raw(incident.id.as_bytes()).build();
    if txn.get(&key)?.is_some() {
        return Ok(true);
    }
    let mut alike = 0;
    for (_, row) in txn.scan(&of_party.build(), None, SCAN_MAX_CELLS)? {
        alike += usize::from(rows::read::<Incident>(&row)?.code == incident.code);
    }
    if alike >= PER_HOSPITAL_MAX {
        return Ok(false);
    }
    rows::put(txn, &key, incident)?;
    let proof = Proof { artefacts: Vec::new(), file: Some(Bytes(file)), extensions: Extensions::default() };
    rows::put_large(txn, &keys.space(PROOF).raw(incident.id.as_bytes()), &proof)?;
    Ok(true)
}

/// Artefacts on which everybody comes to the same refusal: what was refused in the place of what holds here, or beside
/// it. None if it takes what only this party can open.
fn proof(incident: &Incident, held: Vec<Bytes>, refused: &[u8], context: Context<'_>) -> Option<Vec<Bytes>> {
    let is_shown = |artefacts: &[Bytes]| {
        verify_artefacts(artefacts, context)
            .is_err_and(|fault| fault.code == incident.code && fault.artefact == incident.artefact)
    };
    let is_of_another_type =
        |it: &&Bytes| peek_type(it.as_ref()).is_ok_and(|label| label != incident.artefact);
    let refused = std::iter::once(Bytes(refused.to_vec()));
    let instead: Vec<Bytes> =
        refused.clone().chain(held.iter().filter(is_of_another_type).cloned()).collect();
    if is_shown(&instead) {
        return Some(instead);
    }
    let beside: Vec<Bytes> = held.into_iter().chain(refused).collect();
    is_shown(&beside).then_some(beside)
}

/// All that are kept, by hospital.
///
/// # Errors
/// The store's.
pub fn list(txn: &mut dyn Txn, keys: &KeyMaker) -> Result<Vec<Incident>, StoreError> {
    let (space, mut all, mut after) = (keys.space(SPACE).build(), Vec::new(), None);
    loop {
        let cells = txn.scan(&space, after.as_deref(), SCAN_MAX_CELLS)?;
        let is_last = cells.len() < SCAN_MAX_CELLS;
        after = cells.last().map(|(key, _)| key.clone());
        for (_, value) in cells {
            all.push(rows::read::<Incident>(&value)?);
        }
        if is_last {
            return Ok(all);
        }
    }
}

fn find(txn: &mut dyn Txn, keys: &KeyMaker, id: &Digest) -> Result<Incident, DossierError> {
    let found = list(txn, keys)?.into_iter().find(|incident| incident.id == *id);
    found.ok_or(DossierError::Refused(Code::UnknownIncident))
}

/// One of them as others are shown it: a transfer's file under a directory, on which
/// [`handover_core::verify::verify`] comes to the same refusal.
///
/// # Errors
/// [`Code::UnknownIncident`]; the store's.
pub fn file(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    id: &Digest,
    federation: &Federation,
) -> Result<(Incident, Vec<u8>), DossierError> {
    let incident = find(txn, keys, id)?;
    let proof: Option<Proof> =
        rows::get_large(txn, &keys.space(PROOF).raw(id.as_bytes()), TRANSFER_FILE_MAX_BYTES)?;
    let Proof { artefacts, file, .. } = proof.ok_or_else(|| rows::damaged("an incident's proof"))?;
    if let Some(file) = file {
        return Ok((incident, file.0));
    }
    Ok((incident, codec::encode(&TransferFile::of(federation, artefacts))))
}

/// Removes one, so that there is room for others of its hospital.
///
/// # Errors
/// [`Code::UnknownIncident`]; the store's.
pub fn remove(txn: &mut dyn Txn, keys: &KeyMaker, id: &Digest) -> Result<(), DossierError> {
    let incident = find(txn, keys, id)?;
    let of_hospital = keys.space(SPACE).hashed(incident.by.to_string());
    txn.remove(&of_hospital.raw(id.as_bytes()).build())?;
    Ok(rows::remove_pieces(txn, &keys.space(PROOF).raw(id.as_bytes()))?)
}
