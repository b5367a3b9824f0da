//! The file on which everybody comes to the difference that a hospital found in the index's books.
//!
//! Invariant: it proves by what was signed, and never by what it leaves out.

use std::collections::BTreeMap;

use super::books::{Looked, Standing, standing};
use super::{TRANSFER_FILE_MAX_BYTES, VerifyError, fault, federation, verify_artefacts};
use crate::artefact::books::LedgerPage;
use crate::artefact::federation::WholeDirectory;
use crate::artefact::{Payload, SignatureVerifier, Signed};
use crate::codec::{self, Bytes};
use crate::id::{HospitalId, SigningPublic, TransferId};
use crate::ledger::Entry;
use crate::message::BooksAnswer;
use crate::rules::{self, Context};
use crate::{Code, cbor_map};

cbor_map! {
    /// What a hospital shows of a difference.
    pub struct BooksFile {
        /// The directory that everything verifies under, with the pieces of the hospitals that it is about.
        1 => directory: WholeDirectory,
        /// What the hospital has of the transfer.
        2 => artefacts: Vec<Bytes>,
        /// The hospital.
        3 => hospital: HospitalId,
        /// The transfer, if it is about one.
        4 => transfer: Option<TransferId>,
        /// The page that the first answer has to continue, if it is about that.
        5 => before: Option<Bytes>,
        /// What the index signed, oldest first, with the transfer's entries opened.
        6 => answers: Vec<BooksAnswer>,
    }
}

/// What a file says in which nothing differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BooksReport {
    /// The hospital.
    pub hospital: HospitalId,
    /// The transfer, if it is about one.
    pub transfer: Option<TransferId>,
    /// The entries that it opens.
    pub entries: usize,
    /// Whether something is to come.
    pub in_flight: bool,
}

/// Whether a file is about the index's books, as far as can be seen without believing anything in it.
#[must_use]
pub fn is_books(file: &[u8]) -> bool {
    codec::decode::<BooksFile>(file, TRANSFER_FILE_MAX_BYTES).is_ok()
}

/// Verifies what a hospital shows of the index's books under the root's public key.
///
/// # Errors
/// [`VerifyError`]: the difference, as the hospital found it; or what does not hold in the file.
pub fn verify_books(
    file: &[u8],
    root: &SigningPublic,
    verifier: &dyn SignatureVerifier,
) -> Result<BooksReport, VerifyError> {
    let page_fault = |code| fault(LedgerPage::TYPE, code);
    let file: BooksFile =
        codec::decode(file, TRANSFER_FILE_MAX_BYTES).map_err(|_| fault("file", Code::Malformed))?;
    let federation = federation(&file.directory, root, verifier)?;
    let context = Context { federation: &federation, verifier };
    let (mut entries, mut orders) = (BTreeMap::new(), Vec::new());
    let mut at = None;
    for (number, answer) in file.answers.iter().enumerate() {
        let page = rules::ledger_page(answer, &file.hospital, context).map_err(page_fault)?;
        if let Some(before) = file.before.as_ref().filter(|_| number == 0) {
            let before = Signed::<LedgerPage>::read(before.as_ref()).map_err(|it| page_fault(it.code()))?;
            let before = federation.verify_from_index(before, verifier).map_err(page_fault)?;
            rules::continues(&before, &page.page, answer).map_err(page_fault)?;
        }
        at = at.max(Some(page.page.issued));
        entries.extend(page.entries);
        orders.extend(page.orders);
    }
    let mut report = BooksReport {
        hospital: file.hospital.clone(),
        transfer: file.transfer,
        entries: entries.len(),
        in_flight: false,
    };
    let (Some(transfer), Some(at)) = (file.transfer, at) else { return Ok(report) };
    let own = match file.artefacts.as_slice() {
        [] => None,
        artefacts => Some(verify_artefacts(artefacts, context)?),
    };
    if own.as_ref().is_some_and(|own| own.transfer != transfer) {
        return Err(fault("file", Code::EvidenceMissing));
    }
    let entries: Vec<Entry> = entries.into_values().filter(|it| it.transfer == transfer).collect();
    // A file may leave entries out: what is missing is not seen by it.
    let looked = Looked { by: &file.hospital, at, is_all: false, orders: &orders };
    match standing(&entries, own.as_ref(), looked) {
        Standing::Differs(code) => Err(page_fault(code)),
        Standing::InFlight | Standing::Late(_) => {
            report.in_flight = true;
            Ok(report)
        }
        Standing::Agrees => Ok(report),
    }
}
