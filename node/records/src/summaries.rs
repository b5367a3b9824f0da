//! Summaries at rest: which kind of thing a version is, of which department and when, sealed under its patient's key,
//! because it tells of the patient too. Whose it is and its number stand beside it, in the store's cell only.

use handover_core::Random;
use handover_core::codec::{self, Extensions};
use handover_seal::Secret32;
use handover_seal::cell::{open_cell, seal_cell};
use handover_store::VALUE_MAX_BYTES;

use crate::RecordsError;
use crate::keys::place;
use crate::model::{RecordRef, RecordSummary};
use crate::rows::{SealedSummaryRow, SummaryRow};

/// Seals a summary for its place.
pub(crate) fn seal(
    key: &Secret32,
    summary: &RecordSummary,
    random: &mut dyn Random,
) -> Result<SealedSummaryRow, RecordsError> {
    let RecordRef { record, version } = summary.reference;
    let mut row = SealedSummaryRow {
        record: record.0,
        version,
        patient: summary.patient.as_str().to_owned(),
        sealed: Vec::new().into(),
        extensions: Extensions::default(),
    };
    let told = codec::encode(&SummaryRow::new(summary));
    row.sealed = seal_cell(key, &bound(&row), &told, random).map_err(RecordsError::Seal)?.into();
    Ok(row)
}

/// Opens what [`seal`] made.
pub(crate) fn open(key: &Secret32, row: &SealedSummaryRow) -> Result<RecordSummary, RecordsError> {
    let told = open_cell(key, &bound(row), row.sealed.as_ref()).map_err(RecordsError::damaged("record"))?;
    let told: SummaryRow =
        codec::decode(&told, VALUE_MAX_BYTES).map_err(RecordsError::undecodable("record"))?;
    told.summary()
}

fn bound(row: &SealedSummaryRow) -> Vec<u8> {
    place("handover/summary/1", &[row.patient.as_bytes(), &row.record, &row.version.to_be_bytes()])
}
