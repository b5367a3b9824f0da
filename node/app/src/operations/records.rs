//! Listing and showing a patient's records to staff, on permits.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handover_core::Code;
use handover_core::id::Department;
use handover_records::{
    Action, Content, Filter, Mark, Origin, PAGE_MAX, Purpose, RecordId, RecordRef, RecordSummary,
};
use handover_seal::Zeroizing;
use serde::{Deserialize, Serialize};

use super::patients::local;
use super::{Event, Events};
use crate::Node;
use crate::error::NodeError;

/// The most bytes of a record that is shown.
const SHOW_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of one piece of shown content.
const PIECE_BYTES: usize = 256 * 1024;
const FILE_PIECE_BYTES: u64 = 192 * 1024;

/// A patient's records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordsListed {
    /// By department, type and date.
    pub records: Vec<RecordLine>,
    /// How many there are in each department.
    pub departments: BTreeMap<String, u64>,
}

/// A record without its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordLine {
    /// What it is called here.
    pub record: String,
    /// Its current version.
    pub version: u32,
    /// Where it belongs.
    pub department: String,
    /// FHIR resource type.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// The resource's id.
    pub id: String,
    /// When it was, clinically (RFC 3339, UTC).
    pub date: Option<String>,
    /// If it is a file and no FHIR JSON: its media type.
    pub media_type: Option<String>,
    /// And how the resource that it belongs to calls it.
    pub file_name: Option<String>,
    /// Bytes of its content.
    pub bytes: u64,
    /// Whether a security label in it restricts it.
    pub restricted: bool,
    /// `local`, or the hospital that made it.
    pub origin: String,
    /// What is said against it: it was recalled.
    pub recalled: Option<MarkShown>,
}

/// What is said against a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkShown {
    /// `amended`, `retracted` or `wrong-patient`.
    pub reason: String,
    /// The hospital that says so.
    pub by: String,
    /// Since when it is marked here (RFC 3339).
    pub since: String,
    /// When the newer version was recorded, if there is one (RFC 3339).
    pub replaced: Option<String>,
}

impl MarkShown {
    fn of(mark: &Mark) -> Self {
        Self {
            reason: mark.reason.to_string(),
            by: mark.by.to_string(),
            since: mark.since.to_string(),
            replaced: mark.replaced.map(|at| at.to_string()),
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let Self { reason, by, since, replaced } = self;
        let newer = replaced.as_ref().map(|at| format!(", a newer version is of {at}")).unwrap_or_default();
        format!("RECALLED: {reason}, by {by}, marked {since}{newer}")
    }
}

impl RecordLine {
    fn of(record: &RecordSummary) -> Self {
        Self {
            record: record.reference.record.to_string(),
            version: record.reference.version,
            department: record.department.to_string(),
            resource_type: record.resource_type.clone(),
            id: record.resource_id.clone(),
            date: record.date.map(|date| date.to_string()),
            media_type: record.file.as_ref().map(|file| file.media_type.clone()),
            file_name: record.file.as_ref().map(|file| file.name.clone()),
            bytes: record.bytes,
            restricted: record.is_restricted,
            origin: match &record.origin {
                Origin::Local => "local".to_owned(),
                Origin::Received { origin, .. } => origin.to_string(),
            },
            recalled: record.mark.as_ref().map(MarkShown::of),
        }
    }
}

pub(super) async fn list(
    node: &Node,
    staff: &str,
    patient: &str,
    departments: Vec<Department>,
) -> Result<RecordsListed, NodeError> {
    let patient = local(patient)?;
    let permit = node.permit(staff, Action::List, Purpose::Treatment, Some(&patient)).await?;
    let filter =
        Filter { departments: (!departments.is_empty()).then_some(departments), ..Filter::default() };
    let mut listed = RecordsListed { records: Vec::new(), departments: BTreeMap::new() };
    let mut after = None;
    loop {
        let page = node.records.list(&permit, node.now(), &patient, &filter, after, PAGE_MAX).await?;
        after = page.last().map(|record| record.reference);
        for record in &page {
            *listed.departments.entry(record.department.to_string()).or_default() += 1;
            listed.records.push(RecordLine::of(record));
        }
        if page.len() < PAGE_MAX {
            break;
        }
    }
    let key = |line: &RecordLine| {
        (line.department.clone(), line.resource_type.clone(), line.date.clone(), line.id.clone())
    };
    listed.records.sort_by_cached_key(key);
    Ok(listed)
}

pub(super) async fn show(
    node: &Node,
    staff: &str,
    patient: &str,
    record: &str,
    events: &Events,
) -> Result<RecordLine, NodeError> {
    let patient = local(patient)?;
    let permit = node.permit(staff, Action::Read, Purpose::Treatment, Some(&patient)).await?;
    let reference = match record.parse::<RecordRef>() {
        Ok(reference) => reference,
        Err(_) => {
            let wanted: RecordId = record.parse().map_err(|fault: handover_core::id::InvalidId| {
                NodeError::refused(Code::UsageInvalid, fault.to_string())
            })?;
            current(node, &permit, &patient, wanted).await?
        }
    };
    let (summary, content) = node.records.read(&permit, node.now(), reference).await?;
    let line = RecordLine::of(&summary);
    if let Some(mark) = &line.recalled {
        events.tell(Event::Recalled { mark: mark.clone() }).await;
    }
    if summary.file.is_some() {
        show_file(content, events).await?;
        return Ok(line);
    }
    let bytes = content.bytes(SHOW_MAX_BYTES).await?;
    for text in pieces(&bytes)? {
        events.tell(Event::Content { text: text.to_owned() }).await;
    }
    Ok(line)
}

/// A file of any length, piece by piece. What was told is authentic; that it was all, only the end says.
async fn show_file(content: Content, events: &Events) -> Result<(), NodeError> {
    let mut reader: Box<dyn Read + Send> = match content {
        Content::Inline(bytes) => Box::new(Cursor::new(bytes.to_vec())),
        Content::Blob(blob) => Box::new(blob.reader().await?),
    };
    loop {
        let (back, piece) = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            let read = reader.by_ref().take(FILE_PIECE_BYTES).read_to_end(&mut piece);
            (reader, read.map(|_| piece))
        })
        .await?;
        let piece = piece.map_err(|_| NodeError::from(Code::StoreDamaged))?;
        if piece.is_empty() {
            return Ok(());
        }
        events.tell(Event::Bytes { base64: STANDARD.encode(piece) }).await;
        reader = back;
    }
}

async fn current(
    node: &Node,
    permit: &handover_records::Permit,
    patient: &handover_records::LocalPatient,
    wanted: RecordId,
) -> Result<RecordRef, NodeError> {
    let mut after = None;
    loop {
        let page =
            node.records.list(permit, node.now(), patient, &Filter::default(), after, PAGE_MAX).await?;
        if let Some(found) = page.iter().find(|record| record.reference.record == wanted) {
            return Ok(found.reference);
        }
        after = page.last().map(|record| record.reference);
        if page.len() < PAGE_MAX {
            return Err(Code::UnknownRecord.into());
        }
    }
}

/// Text in pieces that end between characters.
fn pieces(bytes: &Zeroizing<Vec<u8>>) -> Result<Vec<&str>, NodeError> {
    let mut rest = std::str::from_utf8(bytes).map_err(|_| NodeError::from(Code::StoreDamaged))?;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        pieces.push(piece);
        rest = after;
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_between_characters() {
        let text = "é".repeat(PIECE_BYTES);
        let bytes = Zeroizing::new(text.clone().into_bytes());
        let pieces = pieces(&bytes).unwrap();
        assert!(pieces.len() > 1);
        assert_eq!(pieces.concat(), text);
    }
}
