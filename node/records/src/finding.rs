//! Finding patients by words that were filed with their records. What the words mean, who files says; here they are
//! keyed hashes, and go with the patient.
//!
//! Finding needs no permit: a permit is asked for with what is then read. An older word still finds, so whoever asks
//! compares with the records.

use handover_store::StoreError;

use crate::RecordsError;
use crate::model::LocalPatient;
use crate::records::Records;
use crate::rows::Places;

const PAGE: usize = 500;

/// The rows that a record's words put.
pub(crate) fn rows<'w>(
    places: &'w Places,
    patient: &'w LocalPatient,
    words: &'w [String],
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + 'w {
    words.iter().flat_map(move |word| {
        let found = places.found(word, patient);
        let own = (places.finder_of(patient, word), found.clone());
        [(found, patient.as_str().as_bytes().to_vec()), own]
    })
}

impl Records {
    /// The patients whom a word finds, at most `limit`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn found_by(&self, word: &str, limit: usize) -> Result<Vec<LocalPatient>, RecordsError> {
        let prefix = self.places.found_by(word);
        let read = self.store.read(move |txn| txn.scan(&prefix, None, limit));
        let page: Result<_, StoreError> = read.await;
        let patient = |(_, value): (Vec<u8>, Vec<u8>)| {
            let text = String::from_utf8(value).ok().and_then(|text| text.parse().ok());
            text.ok_or(RecordsError::Damaged { what: "found patient" })
        };
        page?.into_iter().map(patient).collect()
    }

    /// A page of the words that find a patient who is being forgotten; says whether there was one.
    pub(crate) async fn sweep_found(&self, patient: &LocalPatient) -> Result<bool, RecordsError> {
        let prefix = self.places.finders_of(patient);
        let write = self.store.write(move |txn| {
            let page = txn.scan(&prefix, None, PAGE)?;
            for (key, found) in &page {
                txn.remove(found)?;
                txn.remove(key)?;
            }
            Ok::<_, StoreError>(!page.is_empty())
        });
        Ok(write.await?)
    }
}
