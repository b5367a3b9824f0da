//! Forgetting a patient, and the epochs that make forgetting complete in every copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use handover_records::{Action, LocalPatient, Purpose, Swept};
use handover_store::DamagedSecrets;
use handover_web::CancellationToken;
use serde::{Deserialize, Serialize};

use super::patients::local;
use super::{Event, Events};
use crate::Node;
use crate::error::NodeError;
use crate::import::encounters;

/// A patient was forgotten here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatientForgotten {
    /// The hospital's own identifier.
    pub patient: String,
    /// Records that were removed.
    pub records: u64,
    /// Versions of them.
    pub versions: u64,
    /// Blobs that nobody else's records name.
    pub blobs: u64,
    /// Whether copies of the store still open, until the epoch is rotated.
    pub rotation_due: bool,
}

/// How it stands with the epochs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochsListed {
    /// Ascending; more than one only while a rotation is not complete.
    pub epochs: Vec<EpochLine>,
    /// Where their keys lie.
    pub folder: String,
    /// Secrets that can be forgotten, by kind.
    pub secrets: BTreeMap<String, u64>,
    /// Those of them that do not open.
    pub damaged: u64,
    /// Those that were given up by a rotation.
    pub given_up: u64,
    /// What was forgotten since the newest epoch began, by kind.
    pub forgotten: BTreeMap<String, u64>,
    /// Whether something that was forgotten may still be opened in a copy.
    pub rotation_due: bool,
}

/// An epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochLine {
    /// Its number.
    pub epoch: u64,
    /// When it began (RFC 3339, UTC).
    pub since: String,
    /// Secrets under it.
    pub secrets: u64,
}

/// The epoch was rotated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochRotated {
    /// The epoch that holds now.
    pub epoch: u64,
    /// Secrets that were moved to it.
    pub moved: u64,
    /// Epochs whose keys were destroyed.
    pub destroyed: Vec<u64>,
    /// Secrets that did not open and were given up.
    pub given_up: u64,
    /// Where the key lies that is needed from now on.
    pub folder: String,
}

pub(super) async fn forget(node: &Node, staff: &str, patient: &str) -> Result<PatientForgotten, NodeError> {
    let wanted = local(patient)?;
    node.exchange.forget_patient(staff, &wanted).await?;
    let swept = complete(node).await?.remove(&wanted).unwrap_or_default();
    Ok(PatientForgotten {
        patient: patient.to_owned(),
        records: swept.records,
        versions: swept.versions,
        blobs: swept.blobs,
        rotation_due: node.keyring.is_rotation_due().await?,
    })
}

/// Sweeps whatever is left of patients whose keys are gone.
pub(super) async fn complete(node: &Node) -> Result<BTreeMap<LocalPatient, Swept>, NodeError> {
    let mut done = BTreeMap::new();
    loop {
        let page = node.records.being_forgotten().await?;
        if page.is_empty() {
            return Ok(done);
        }
        for gone in page {
            encounters::forget(&node.store, &gone.patient).await?;
            let swept = node.exchange.sweep_forgotten(&gone).await?;
            done.insert(gone.patient, swept);
        }
    }
}

/// What a stop interrupted goes on at the next start.
pub(crate) async fn resume(node: Arc<Node>, shutdown: CancellationToken) {
    let work = async {
        let patients = complete(&node).await?.len();
        let rotated = node.keyring.complete(|_| {}).await?;
        Ok::<_, NodeError>((patients, rotated))
    };
    let done = tokio::select! {
        () = shutdown.cancelled() => return,
        done = work => done,
    };
    match done {
        Ok((0, None)) => {}
        Ok((patients, rotated)) => {
            tracing::info!(
                patients,
                epoch = rotated.map(|it| it.epoch),
                "what was being forgotten is complete"
            );
        }
        Err(error) => tracing::error!(code = %error.code(), "what was being forgotten cannot be completed"),
    }
}

pub(super) async fn list(node: &Node) -> Result<EpochsListed, NodeError> {
    let report = node.keyring.report().await?;
    let line = |epoch: &handover_store::Epoch| EpochLine {
        epoch: epoch.number,
        since: epoch.since.to_string(),
        secrets: epoch.secrets,
    };
    Ok(EpochsListed {
        epochs: report.epochs.iter().map(line).collect(),
        folder: folder(node),
        rotation_due: report.is_rotation_due(),
        secrets: report.secrets,
        damaged: report.damaged,
        given_up: report.given_up,
        forgotten: report.forgotten,
    })
}

pub(super) async fn rotate(
    node: &Node,
    staff: &str,
    give_up_damaged: bool,
    events: &Events,
) -> Result<EpochRotated, NodeError> {
    node.permit(staff, Action::Rotate, Purpose::Administration, None).await?;
    let tell = |done| events.mention(Event::Progress { done, total: None });
    let damaged = if give_up_damaged { DamagedSecrets::GiveUp } else { DamagedSecrets::Keep };
    let rotated = node.keyring.rotate(node.now(), damaged, tell).await?;
    tracing::info!(epoch = rotated.epoch, moved = rotated.moved, "the epoch was rotated");
    Ok(EpochRotated {
        epoch: rotated.epoch,
        moved: rotated.moved,
        destroyed: rotated.destroyed,
        given_up: rotated.given_up,
        folder: folder(node),
    })
}

fn folder(node: &Node) -> String {
    node.config.epoch_keys.display().to_string()
}
