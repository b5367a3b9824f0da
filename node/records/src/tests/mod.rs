//! Tests of the room as its users see it, mostly on the memory engine.

mod access;
mod disk;
mod filing;
mod forgetting;
mod links;
mod marking;

use std::collections::BTreeMap;
use std::path::Path;

use handover_core::{Department, Digest, PatientRef, Timestamp, TransferId};
use handover_seal::Secret32;
use handover_store::{Blobs, CellKey, Faults, Keyring, Store};
use tempfile::TempDir;

use crate::*;

const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_000);
const MAX: u64 = 64 * 1024 * 1024;

struct House {
    records: Records,
    faults: Faults,
    store: Store,
    folder: TempDir,
}

async fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let (store, faults) = Store::memory_with_faults(&CellKey::from_bytes([7; 32]));
    let records = opened(&store, folder.path(), &Secret32::from_bytes([8; 32])).await.unwrap();
    House { records, faults, store, folder }
}

/// Records over `blobs` and `epochs` below a folder.
async fn opened(store: &Store, folder: &Path, hospital_key: &Secret32) -> Result<Records, RecordsError> {
    let keyring = Keyring::open(store.clone(), &folder.join("epochs"), hospital_key, NOW).await?;
    let blobs = Blobs::open(&folder.join("blobs")).unwrap();
    Records::open(store.clone(), blobs, keyring, hospital_key.clone()).await
}

fn patient(name: &str) -> LocalPatient {
    name.parse().unwrap()
}

fn department(name: &str) -> Department {
    name.parse().unwrap()
}

fn staff() -> Subject {
    Subject::staff("meyer")
}

fn system() -> Subject {
    Subject::System("exchange".into())
}

fn request(
    subject: Subject,
    action: Action,
    purpose: Purpose,
    patient: Option<&LocalPatient>,
) -> GrantRequest {
    GrantRequest::new(subject, action, purpose, patient.cloned())
}

impl Records {
    async fn leave(
        &self,
        subject: Subject,
        action: Action,
        purpose: Purpose,
        on: Option<&LocalPatient>,
    ) -> Permit {
        self.audit().permit(request(subject, action, purpose, on), NOW).await.unwrap()
    }

    async fn to_import(&self) -> Permit {
        self.leave(system(), Action::Import, Purpose::Import, None).await
    }

    async fn to_read(&self, on: &LocalPatient) -> Permit {
        self.leave(staff(), Action::Read, Purpose::Treatment, Some(on)).await
    }

    async fn to_export(&self, on: &LocalPatient) -> Permit {
        self.leave(system(), Action::Export, Purpose::Transfer, Some(on)).await
    }

    async fn bytes_of(&self, permit: &Permit, at: RecordRef) -> Vec<u8> {
        self.read(permit, NOW, at).await.unwrap().1.bytes(MAX).await.unwrap().to_vec()
    }

    async fn everything(&self, on: &LocalPatient) -> Vec<RecordSummary> {
        let filter = Filter { include_history: true, ..Filter::default() };
        self.snapshot(&self.to_export(on).await, NOW, on, &filter).await.unwrap()
    }

    async fn is_whole(&self) -> CheckReport {
        let permit = self.leave(staff(), Action::Check, Purpose::Administration, None).await;
        let report = self.check(&permit, NOW, |_| {}).await.unwrap();
        assert!(report.is_whole(), "{report:?}");
        report
    }
}

fn record(patient: &LocalPatient, id: &str, in_department: &str, content: &[u8]) -> NewRecord {
    NewRecord {
        patient: patient.clone(),
        department: department(in_department),
        resource_type: "Observation".into(),
        resource_id: id.into(),
        content_hash: Digest::sha256(&[content]),
        date: None,
        is_restricted: false,
        file: None,
        content: content.to_vec().into(),
        origin: Origin::Local,
        mark: None,
        found_by: Vec::new(),
    }
}

fn received(mut record: NewRecord) -> NewRecord {
    record.origin = Origin::Received {
        source: "lakeside".parse().unwrap(),
        origin: "lakeside".parse().unwrap(),
        transfer: TransferId::new(NOW, [3; 10]),
    };
    record
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<Department, u64> {
    of.iter().map(|(name, count)| (department(name), *count)).collect()
}

fn a_ref(byte: u8) -> PatientRef {
    PatientRef::from_bytes([byte; 32])
}
