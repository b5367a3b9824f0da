//! Checking that everything stored is whole: every version opens, every blob has its root, every secret that can be
//! forgotten opens, the audit chain holds.
//!
//! Contents are opened and thrown away; nothing is shown. Damage below a cell is the store's own check.

use handover_core::{Code, Timestamp};

use crate::RecordsError;
use crate::access::Action;
use crate::content::{self, Opened, blocking};
use crate::keys::record_place;
use crate::model::{BlobRef, RecordId, RecordRef};
use crate::permit::Permit;
use crate::records::Records;
use crate::rows::{self, HeadRow, SealedSummaryRow, VersionRow};
use handover_seal::stream::OpenReader;
use handover_store::StoreError;

const VERSIONS_AT_ONCE: usize = 50;
const HEADS_AT_ONCE: usize = 500;
/// The most faults that are listed; all are counted.
const FAULTS_LISTED: usize = 1_000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Patients.
    pub patients: u64,
    /// Records.
    pub records: u64,
    /// Versions of records.
    pub versions: u64,
    /// Blobs that records and input kept aside name.
    pub blobs: u64,
    /// Bytes of plaintext of all versions.
    pub bytes: u64,
    /// Input kept aside.
    pub quarantined: u64,
    /// Secrets that can be forgotten.
    pub secrets: u64,
    /// Patients who are being forgotten: their keys are gone, what is left of their rows is still to be swept.
    pub being_forgotten: u64,
    /// Audit lines.
    pub audit_lines: u64,
    /// The first audit line that does not follow.
    pub audit_broken_at: Option<u64>,
    /// Versions that do not open, and their codes; the first 1,000.
    pub faults: Vec<(RecordRef, Code)>,
    /// All faults, also of input kept aside and of secrets.
    pub fault_count: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.fault_count == 0 && self.audit_broken_at.is_none()
    }

    fn fault(&mut self, reference: RecordRef, code: Code) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_LISTED {
            self.faults.push((reference, code));
        }
    }
}

impl Records {
    /// Checks everything; `progress` is called now and then with what was found so far. Needs [`Action::Check`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store. What does not open is no error but stands in the report.
    pub async fn check(
        &self,
        permit: &Permit,
        now: Timestamp,
        mut progress: impl FnMut(&CheckReport) + Send,
    ) -> Result<CheckReport, RecordsError> {
        permit.check(now, &[Action::Check])?;
        let mut report = CheckReport::default();
        self.check_heads(&mut report).await?;
        progress(&report);
        let mut after = None;
        loop {
            let (prefix, from) = (self.places.all_versions(), after.take());
            let read = self.store.read(move |txn| txn.scan(&prefix, from.as_deref(), VERSIONS_AT_ONCE));
            let page: Result<_, StoreError> = read.await;
            let page = page?;
            after = page.last().filter(|_| page.len() == VERSIONS_AT_ONCE).map(|(key, _)| key.clone());
            for (_, bytes) in page {
                self.check_version(&bytes, &mut report).await?;
            }
            progress(&report);
            if after.is_none() {
                break;
            }
        }
        self.check_asides(&mut report).await?;
        let ring = self.keyring.report().await?;
        report.secrets = ring.secrets.values().sum();
        report.fault_count += ring.damaged;
        report.being_forgotten = self.being_forgotten().await?.len() as u64;
        let audit = self.audit().check().await?;
        (report.audit_lines, report.audit_broken_at) = (audit.lines, audit.broken_at);
        progress(&report);
        Ok(report)
    }

    /// Counts patients and records; a head's current version must be here.
    async fn check_heads(&self, report: &mut CheckReport) -> Result<(), RecordsError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (records, from) = (self.clone(), after.take());
            let read = self.store.read(move |txn| {
                let page = txn.scan(&records.places.all_heads(), from.as_deref(), HEADS_AT_ONCE)?;
                let mut missing = Vec::new();
                for (_, bytes) in &page {
                    let Ok(head) = rows::from_bytes::<HeadRow>(bytes, "record") else {
                        missing.push(nameless());
                        continue;
                    };
                    let reference = reference_of(&head.current);
                    match records.summary_in(txn, &head.current) {
                        Ok(Some((current, _))) => {
                            let version = records.places.version(&current.patient, reference);
                            if txn.get(&version)?.is_none() {
                                missing.push(reference);
                            }
                        }
                        // Being forgotten: it is not to open any more.
                        Ok(None) => {}
                        Err(_) => missing.push(reference),
                    }
                }
                Ok::<_, RecordsError>((page.len(), page.last().map(|(key, _)| key.clone()), missing))
            });
            let (count, last, missing) = read.await?;
            report.records += count as u64;
            missing.into_iter().for_each(|reference| report.fault(reference, Code::StoreDamaged));
            if count < HEADS_AT_ONCE {
                break;
            }
            after = last;
        }
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (prefix, from) = (self.places.patients(), after.take());
            let read = self.store.read(move |txn| txn.scan(&prefix, from.as_deref(), HEADS_AT_ONCE));
            let page: Result<_, StoreError> = read.await;
            let page = page?;
            report.patients += page.len() as u64;
            if page.len() < HEADS_AT_ONCE {
                return Ok(());
            }
            after = page.last().map(|(key, _)| key.clone());
        }
    }

    async fn check_version(&self, bytes: &[u8], report: &mut CheckReport) -> Result<(), RecordsError> {
        report.versions += 1;
        let Ok(row) = rows::from_bytes::<VersionRow>(bytes, "version") else {
            report.fault(nameless(), Code::StoreDamaged);
            return Ok(());
        };
        let reference = reference_of(&row.summary);
        let (records, sealed) = (self.clone(), row.summary.clone());
        let (summary, key) = match self.store.read(move |txn| records.summary_in(txn, &sealed)).await {
            // Being forgotten: it is not to open any more.
            Ok(None) => return Ok(()),
            Ok(Some(found)) => found,
            Err(error) => {
                report.fault(reference, error.code());
                return Ok(());
            }
        };
        report.bytes = report.bytes.saturating_add(summary.bytes);
        let opened = content::open(&key, &record_place(&summary.department, reference), &row.content);
        let checked = match opened {
            Ok(Opened::Inline(content)) if content.len() as u64 == summary.bytes => Ok(()),
            Ok(Opened::Inline(_)) => Err(Code::StoreDamaged),
            Ok(Opened::Blob(blob)) => {
                report.blobs += 1;
                self.check_blob(blob, summary.bytes).await
            }
            Err(error) => Err(error.code()),
        };
        if let Err(code) = checked {
            self.require_blobs()?;
            report.fault(reference, code);
        }
        Ok(())
    }

    /// A bucket that is away says nothing of what lies there.
    fn require_blobs(&self) -> Result<(), RecordsError> {
        if self.blobs.is_away() {
            let reason = "the bucket does not answer".to_owned();
            return Err(StoreError::Unavailable { doing: "look at the blobs", reason }.into());
        }
        Ok(())
    }

    async fn check_asides(&self, report: &mut CheckReport) -> Result<(), RecordsError> {
        let mut after = None;
        loop {
            let page = self.aside_page(after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            for row in page {
                report.quarantined += 1;
                let (records, looked) = (self.clone(), row.clone());
                let opened = self.store.read(move |txn| records.open_aside(txn, &looked)).await;
                let is_whole = match opened {
                    Ok(Opened::Inline(_)) => true,
                    Ok(Opened::Blob(blob)) => {
                        report.blobs += 1;
                        self.check_blob(blob, row.bytes).await.is_ok()
                    }
                    Err(_) => false,
                };
                if !is_whole {
                    self.require_blobs()?;
                }
                report.fault_count += u64::from(!is_whole);
            }
        }
    }

    /// The root is right, and it opens to as much as it should.
    async fn check_blob(&self, blob: BlobRef, plain_bytes: u64) -> Result<(), Code> {
        if !self.blobs.verify(blob.root).await.map_err(|error| error.code())? {
            return Err(Code::StoreDamaged);
        }
        let file = self.blobs.reader(blob.root).await.map_err(|error| error.code())?;
        let opened = blocking(move || {
            std::io::copy(&mut OpenReader::new(file, &blob.key), &mut std::io::sink())
                .map_err(RecordsError::io("read content"))
        });
        match opened.await {
            Ok(bytes) if bytes == plain_bytes => Ok(()),
            _ => Err(Code::StoreDamaged),
        }
    }
}

const fn reference_of(row: &SealedSummaryRow) -> RecordRef {
    RecordRef { record: RecordId(row.record), version: row.version }
}

/// Stands for a row that does not say which record it is.
const fn nameless() -> RecordRef {
    RecordRef { record: RecordId([0; 16]), version: 0 }
}
