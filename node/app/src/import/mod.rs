//! `import`: FHIR files into records, in constant memory, file by file.
//!
//! A file is read twice on a thread of its own ([`reading`]): once for what its references lead to, once for its
//! resources, which come over a bounded channel in batches and are filed here, each batch in one durable
//! transaction. So an import that was killed is simply given again: what is here already is unchanged. What cannot
//! be read is named, kept aside, and stops nothing else. Files that resources refer to come with them ([`files`]).

mod counts;
mod date;
pub(crate) mod encounters;
mod files;
mod merges;
mod owners;
mod reading;
mod retry;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handover_core::time::MINUTE_MS;
use handover_records::{Action, Filed, LocalPatient, NewRecord, Permit, Purpose};
use tokio::sync::mpsc;

pub use counts::{Imported, Merged, RecordCounts, SentBefore};
pub(crate) use date::timestamp;

use crate::Node;
use crate::error::NodeError;
use crate::operations::{Event, Events};
use reading::{Aside, Pending, Step};

/// Steps that may wait between reading and filing; a batch is bounded in bytes.
const STEPS_WAITING: usize = 2;
/// A permit that ends within this is renewed.
const PERMIT_SPARE_MS: i64 = 10 * MINUTE_MS;

/// Under whom resources are filed that no patient can be found for. Not a FHIR id, so no patient has it.
pub const HOSPITAL_WIDE: &str = "_hospital";

/// Imports files, and with `retry` what was kept aside before.
///
/// # Errors
/// The store's faults, and that the node stops. A file that cannot be opened is named and stops nothing else.
pub(crate) async fn import(
    node: &Node,
    staff: &str,
    mut files: Vec<PathBuf>,
    retry: bool,
    events: &Events,
) -> Result<Imported, NodeError> {
    // Of a bulk export's files by type, encounters come first: what refers to them finds its department at once.
    files.sort_by_key(|file| !reading::label(file).to_ascii_lowercase().contains("encounter"));
    let total_bytes: u64 = files.iter().filter_map(|file| readable(file).ok()).sum();
    let _turn = node.importing.acquire().await.map_err(|_| NodeError::Stopping)?;
    if node.stopping.is_cancelled() {
        return Err(NodeError::Stopping);
    }
    let permit = node.permit(staff, Action::Import, Purpose::Import, None).await?;
    let progress = Progress { done: 0, total: total_bytes.saturating_mul(2) };
    let imported = Imported::default();
    let (label, merged) = (String::new(), BTreeSet::new());
    let mut filing = Filing { node, staff, permit, events, imported, progress, label, folder: None, merged };
    if retry {
        retry::run(&mut filing).await?;
    }
    for file in files {
        filing.file(&file).await?;
    }
    // All is filed: what follows from it comes first, and no fault in telling more takes the report away.
    node.exchange.import_ended();
    filing.tell_merges().await;
    Ok(filing.imported)
}

/// Opens a file; gives its bytes. What is no regular file is never read: it may have no end.
fn readable(file: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    fs::File::open(file)?;
    Ok(metadata.len())
}

struct Progress {
    done: u64,
    total: u64,
}

/// An import under way.
struct Filing<'a> {
    node: &'a Node,
    staff: &'a str,
    permit: Permit,
    events: &'a Events,
    imported: Imported,
    progress: Progress,
    /// What is being read, and where it lies; nowhere if it was kept aside before.
    label: String,
    folder: Option<PathBuf>,
    /// Who was replaced by whom.
    merged: BTreeSet<(LocalPatient, LocalPatient)>,
}

impl Filing<'_> {
    async fn file(&mut self, file: &Path) -> Result<(), NodeError> {
        let label = reading::label(file);
        self.label.clone_from(&label);
        self.folder = Some(file.parent().unwrap_or(Path::new("")).to_owned());
        if let Err(error) = readable(file) {
            self.aside(&label, Aside::lost("the whole file", error.to_string())).await?;
            self.imported.unreadable_files.push(label);
            return Ok(());
        }
        let (sender, mut steps) = mpsc::channel(STEPS_WAITING);
        let (path, mapping) = (file.to_owned(), Arc::clone(&self.node.mapping));
        let reading = tokio::task::spawn_blocking(move || reading::run(&path, &mapping, &sender));
        let before = self.imported.records.all();
        let aside_before = self.imported.kept_aside;
        while let Some(step) = steps.recv().await {
            self.step(&label, step).await?;
            if self.node.stopping.is_cancelled() {
                return Err(NodeError::Stopping);
            }
        }
        if let Err(error) = reading.await? {
            self.aside(&label, Aside::lost("the rest of the file", error.to_string())).await?;
        }
        self.imported.files += 1;
        if self.imported.records.all() > before {
            return Ok(());
        }
        if self.imported.kept_aside == aside_before {
            // As a full disk or a copy that broke off leaves it: nobody meant to import nothing.
            self.aside(&label, Aside::lost("the whole file", "holds no resource".to_owned())).await?;
        }
        self.imported.unreadable_files.push(label);
        Ok(())
    }

    async fn step(&mut self, label: &str, step: Step) -> Result<(), NodeError> {
        match step {
            Step::Read(bytes) => {
                self.progress.done = self.progress.done.saturating_add(bytes);
                let Progress { done, total } = self.progress;
                self.events.mention(Event::Progress { done: done.min(total), total: Some(total) });
                Ok(())
            }
            Step::Batch(batch) => self.batch(batch).await,
            Step::Aside(aside) => self.aside(label, aside).await,
        }
    }

    /// Files a batch in one durable transaction.
    async fn batch(&mut self, mut batch: Vec<Pending>) -> Result<(), NodeError> {
        encounters::place(&self.node.store, &mut batch).await?;
        self.note_merges(&batch);
        // Before the resources that name them, so that none stands here without what it names.
        self.attached(&batch).await?;
        let encounters = encounters::of(&batch);
        self.records(batch.into_iter().map(|pending| pending.record).collect()).await?;
        encounters::keep(&self.node.store, encounters).await
    }

    async fn records(&mut self, records: Vec<NewRecord>) -> Result<(), NodeError> {
        self.renew().await?;
        self.imported.count(&records);
        let patients: Vec<_> = records.iter().map(|record| record.patient.clone()).collect();
        let filed = self.node.records.import(&self.permit, self.node.now(), records).await?;
        self.imported.count_filed(&filed);
        let changed = patients.into_iter().zip(&filed).filter(|(_, filed)| **filed != Filed::Unchanged);
        self.node.exchange.records_changed(changed.map(|(patient, _)| patient));
        Ok(())
    }

    /// Keeps input aside and tells of it.
    async fn aside(&mut self, file: &str, aside: Aside) -> Result<(), NodeError> {
        self.renew().await?;
        let Aside { entry, reason, bytes } = aside;
        let kept = bytes.is_some();
        if let Some(bytes) = bytes {
            let now = self.node.now();
            self.node.records.quarantine(&self.permit, now, file, &entry, &reason, bytes).await?;
        }
        self.imported.kept_aside += 1;
        self.events.tell(Event::KeptAside { file: file.to_owned(), entry, reason, kept }).await;
        Ok(())
    }

    /// An import may last longer than a permit.
    async fn renew(&mut self) -> Result<(), NodeError> {
        if self.permit.expires().since_ms(self.node.now()) < PERMIT_SPARE_MS {
            self.permit = self.node.permit(self.staff, Action::Import, Purpose::Import, None).await?;
        }
        Ok(())
    }
}
