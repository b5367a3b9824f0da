//! Reading one file, on a thread that may wait: first its outline, then its resources in bounded batches.
//!
//! Knows no store: what it finds goes over a channel. Dropping the other end stops it.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use handover_core::Department;
use handover_ingest::attachment::Attachment;
use handover_ingest::department::Mapping;
use handover_ingest::source::{Item, Kind, MAX_RESOURCE_BYTES, Place, read};
use handover_ingest::{Facts, Outline, minified_hash, person};
use handover_records::{BATCH_MAX_RECORDS, LocalPatient, NewRecord, Origin};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::owners::Owners;
use super::{HOSPITAL_WIDE, date};

const BUFFER_BYTES: usize = 256 * 1024;
/// A batch is full at this many bytes of content, however few records they are. One transaction takes them all.
const BATCH_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Progress of the first pass is told this often.
const TELL_EVERY_BYTES: u64 = 1024 * 1024;

/// What reading comes upon.
pub(super) enum Step {
    /// So many bytes more were gone through.
    Read(u64),
    /// Resources to be filed, at most 100.
    Batch(Vec<Pending>),
    /// Something that cannot be read.
    Aside(Aside),
}

/// A resource to be filed.
pub(super) struct Pending {
    pub(super) record: NewRecord,
    /// Encounters (`Encounter/id`) to ask the store for, when nothing in the file gave a department.
    pub(super) elsewhere: Vec<String>,
    /// Files that it refers to.
    pub(super) attachments: Vec<Attachment>,
    /// Who was replaced by whom, if it says so.
    pub(super) merged: Vec<(LocalPatient, LocalPatient)>,
}

/// Input that cannot be read.
pub(super) struct Aside {
    /// Which entry, for people.
    pub(super) entry: String,
    /// Why.
    pub(super) reason: String,
    /// Its bytes; none if they are too many to be kept.
    pub(super) bytes: Option<Vec<u8>>,
}

impl Aside {
    /// What could not be read for a reason outside its content: there are no bytes to keep.
    pub(super) fn lost(entry: &str, reason: String) -> Self {
        Self { entry: entry.to_owned(), reason, bytes: None }
    }
}

/// A file as it is called in reports.
pub(super) fn label(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// As much of a resource as tells a Patient.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "resourceType")]
    resource_type: String,
}

/// What a file says about itself.
#[derive(Default)]
pub(super) struct Sketch {
    outline: Outline,
    owners: Owners,
}

impl Sketch {
    /// Adds an item of the first pass.
    pub(super) fn see(&mut self, item: &Item<'_>, mapping: &Mapping) {
        match item {
            Item::Unreadable { place, .. } => self.owners.see(place.entry, None),
            Item::Resource { place, full_url, json } => {
                self.outline.add(full_url.as_deref(), json, mapping);
                self.owners.see(place.entry, patient_itself(json));
            }
        }
    }
}

impl Sketch {
    /// The second pass begins.
    pub(super) fn rewind(&mut self) {
        self.owners.rewind();
    }
}

/// The identifier of a Patient resource; of another, `None`.
fn patient_itself(json: &str) -> Option<LocalPatient> {
    // Most resources are passed over without being parsed.
    if !json.contains("\"Patient\"") {
        return None;
    }
    let head: Head = serde_json::from_str(json).ok()?;
    if head.resource_type != "Patient" {
        return None;
    }
    Facts::of(json).ok()?.id.parse().ok()
}

/// Reads a file into `steps`.
pub(super) fn run(path: &Path, mapping: &Mapping, steps: &mpsc::Sender<Step>) -> io::Result<()> {
    let kind = Kind::of_name(&label(path));
    let open = || File::open(path).map(|file| BufReader::with_capacity(BUFFER_BYTES, file));
    let mut sketch = Sketch::default();
    let mut told: u64 = 0;
    let summary = read(open()?, kind, |item| {
        let (Item::Resource { place, .. } | Item::Unreadable { place, .. }) = &item;
        let more = place.consumed().saturating_sub(told);
        sketch.see(&item, mapping);
        if more < TELL_EVERY_BYTES {
            return ControlFlow::Continue(());
        }
        told = place.consumed();
        send(steps, Step::Read(more))
    })?;
    if summary.stopped || send(steps, Step::Read(summary.bytes.saturating_sub(told))).is_break() {
        return Ok(());
    }
    let mut batches = Batches { sketch, mapping, steps, batch: Vec::new(), bytes: 0, told: 0 };
    batches.sketch.rewind();
    let summary = read(open()?, kind, |item| match item {
        Item::Resource { place, full_url: _, json } => batches.resource(place, json),
        Item::Unreadable { place, reason, raw } => {
            // Only counted: what cannot be read has no owner.
            let _ = batches.sketch.owners.owner(place.entry);
            let bytes = match raw {
                Some(raw) => Some(raw.to_vec()),
                None => rest(path, place),
            };
            batches.give(Step::Aside(Aside { entry: entry(place), reason: reason.to_string(), bytes }))
        }
    })?;
    if !summary.stopped {
        let _ = batches.flush(summary.bytes);
    }
    Ok(())
}

/// The bytes at a place, if they are not too many.
fn rest(path: &Path, place: Place) -> Option<Vec<u8>> {
    if place.bytes > MAX_RESOURCE_BYTES as u64 {
        return None;
    }
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(place.offset)).ok()?;
    let mut bytes = Vec::new();
    file.take(place.bytes).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn entry(place: Place) -> String {
    match place.entry {
        Some(entry) => format!("line {}, entry {entry}", place.line),
        None => format!("line {}", place.line),
    }
}

fn send(steps: &mpsc::Sender<Step>, step: Step) -> ControlFlow<()> {
    if steps.blocking_send(step).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// The second pass.
struct Batches<'a> {
    sketch: Sketch,
    mapping: &'a Mapping,
    steps: &'a mpsc::Sender<Step>,
    batch: Vec<Pending>,
    bytes: usize,
    told: u64,
}

impl Batches<'_> {
    fn resource(&mut self, place: Place, json: &str) -> ControlFlow<()> {
        match pending(&mut self.sketch, place, json, self.mapping) {
            Err(reason) => {
                let bytes = Some(json.as_bytes().to_vec());
                self.give(Step::Aside(Aside { entry: entry(place), reason, bytes }))
            }
            Ok(pending) => {
                self.bytes = self.bytes.saturating_add(json.len());
                self.batch.push(pending);
                if self.batch.len() < BATCH_MAX_RECORDS && self.bytes < BATCH_MAX_BYTES {
                    return ControlFlow::Continue(());
                }
                self.flush(place.consumed())
            }
        }
    }

    fn flush(&mut self, consumed: u64) -> ControlFlow<()> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            self.give(Step::Batch(batch))?;
        }
        let more = consumed.saturating_sub(self.told);
        self.told = consumed;
        self.give(Step::Read(more))
    }

    fn give(&self, step: Step) -> ControlFlow<()> {
        send(self.steps, step)
    }
}

/// What is to be filed of a resource.
pub(super) fn pending(
    sketch: &mut Sketch,
    place: Place,
    json: &str,
    mapping: &Mapping,
) -> Result<Pending, String> {
    let owner = sketch.owners.owner(place.entry);
    let facts = Facts::of(json).map_err(|fault| fault.to_string())?;
    let own = facts.patient.as_ref().and_then(|reference| sketch.outline.resolve(reference, "Patient"));
    let own = own.as_deref().and_then(|known| known.strip_prefix("Patient/")).and_then(|id| id.parse().ok());
    let hospital_wide = || HOSPITAL_WIDE.parse::<LocalPatient>().map_err(|fault| fault.to_string());
    let patient = match own.or(owner) {
        Some(patient) => patient,
        None => hospital_wide()?,
    };
    let department = mapping.own(&facts).or_else(|| sketch.outline.department(&facts));
    let elsewhere = match department {
        Some(_) => Vec::new(),
        None => facts
            .encounters
            .iter()
            .filter_map(|encounter| sketch.outline.resolve(encounter, "Encounter"))
            .collect(),
    };
    let record = NewRecord {
        patient,
        department: department.cloned().unwrap_or_else(Department::unassigned),
        resource_type: facts.resource_type.to_string(),
        content_hash: minified_hash(json),
        date: facts.date.as_deref().and_then(date::timestamp),
        is_restricted: facts.is_restricted,
        file: None,
        content: json.as_bytes().to_vec().into(),
        origin: Origin::Local,
        mark: None,
        found_by: person::found_by(facts.resource_type.as_str(), json.as_bytes()),
        resource_id: facts.id,
    };
    let merged = merged(sketch, &record, json);
    Ok(Pending { record, elsewhere, attachments: facts.attachments, merged })
}

/// Who was replaced by whom, as far as a Patient resource says so.
fn merged(sketch: &Sketch, record: &NewRecord, json: &str) -> Vec<(LocalPatient, LocalPatient)> {
    let all = person::merged(&record.resource_type, json.as_bytes());
    let pairs = all.into_iter().filter_map(|merged| {
        let other = sketch.outline.resolve(&merged.other, person::TYPE)?;
        let other: LocalPatient = other.strip_prefix("Patient/")?.parse().ok()?;
        let own = record.patient.clone();
        Some(if merged.by_other { (own, other) } else { (other, own) })
    });
    pairs.filter(|(replaced, by)| replaced != by).collect()
}
