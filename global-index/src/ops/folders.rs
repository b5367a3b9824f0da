//! What waits in hospitals' folders.

use std::collections::BTreeMap;

use handover_core::HospitalId;

use super::views::{FolderView, FoldersView};
use super::{Operations, OpsError};
use crate::folders::{self, Left};

impl Operations {
    pub(super) async fn folders(&self) -> Result<FoldersView, OpsError> {
        let keys = self.desk.keys.clone();
        let packages = self.desk.store.read(move |txn| folders::all(txn, &keys)).await?;
        let mut by_hospital: BTreeMap<HospitalId, Vec<Left>> = BTreeMap::new();
        for left in packages {
            by_hospital.entry(left.destination.clone()).or_default().push(left);
        }
        Ok(FoldersView {
            enabled: self.folders.is_on,
            quota_bytes: self.folders.quota_bytes,
            share_bytes: self.folders.share_bytes(),
            folders: by_hospital.into_iter().map(|(hospital, packages)| view(hospital, &packages)).collect(),
        })
    }
}

fn view(hospital: HospitalId, packages: &[Left]) -> FolderView {
    FolderView {
        hospital,
        packages: packages.len(),
        arriving: packages.iter().filter(|left| left.left.is_none()).count(),
        bytes: packages.iter().fold(0, |sum: u64, left| sum.saturating_add(left.bytes)),
        oldest: packages.iter().map(|left| left.begun).min().map(|time| time.to_string()),
        next_expiry: packages.iter().map(|left| left.expires).min().map(|time| time.to_string()),
    }
}
