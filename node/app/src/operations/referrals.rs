//! Referrals, and the fees that this hospital owes for patients who were referred to it.

use handover_core::time::DAY_MS;
use handover_core::{Amount, Code, HospitalId, TransferId};
use handover_exchange::Referred;
use serde::{Deserialize, Serialize};

use super::patients::local;
use super::transfers::TransferShown;
use crate::Node;
use crate::error::NodeError;

/// A referral that stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReferralShown {
    /// The hospital's own identifier of the patient.
    pub patient: String,
    /// To whom.
    pub destination: String,
    /// Who refers.
    pub doctor: String,
    /// Why.
    pub reason: Option<String>,
    /// When (RFC 3339).
    pub issued: String,
    /// Until when quotes are made on it (RFC 3339).
    pub expires: String,
}

/// The referrals that stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReferralsListed {
    /// In no order that says anything.
    pub referrals: Vec<ReferralShown>,
}

/// A referral was withdrawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReferralWithdrawn {
    /// The hospital's own identifier of the patient.
    pub patient: String,
    /// To whom it was.
    pub destination: String,
}

impl ReferralShown {
    fn of(referred: Referred) -> Self {
        Self {
            patient: referred.patient.to_string(),
            destination: referred.destination.to_string(),
            doctor: referred.doctor,
            reason: referred.reason,
            issued: referred.issued.to_string(),
            expires: referred.expires.to_string(),
        }
    }
}

pub(super) async fn make(
    node: &Node,
    staff: &str,
    (patient, destination): (&str, &HospitalId),
    (doctor, reason): (&str, Option<&str>),
    days: u32,
) -> Result<ReferralShown, NodeError> {
    let life_ms = i64::from(days).saturating_mul(DAY_MS);
    let referred =
        node.exchange.refer(staff, &local(patient)?, destination, (doctor, reason), life_ms).await?;
    Ok(ReferralShown::of(referred))
}

pub(super) async fn list(node: &Node) -> Result<ReferralsListed, NodeError> {
    let referrals = node.exchange.referrals().await?;
    Ok(ReferralsListed { referrals: referrals.into_iter().map(ReferralShown::of).collect() })
}

pub(super) async fn withdraw(
    node: &Node,
    staff: &str,
    patient: &str,
    destination: &HospitalId,
) -> Result<ReferralWithdrawn, NodeError> {
    node.exchange.withdraw_referral(staff, &local(patient)?, destination).await?;
    Ok(ReferralWithdrawn { patient: patient.to_owned(), destination: destination.to_string() })
}

/// Accepts a fee; shows the transfer.
pub(super) async fn accept(
    node: &Node,
    transfer: TransferId,
    max_fee: Option<&str>,
) -> Result<TransferShown, NodeError> {
    let cap = max_fee.map(str::parse::<Amount>).transpose();
    let cap = cap.map_err(|fault| NodeError::refused(Code::UsageInvalid, format!("--max-fee: {fault}")))?;
    node.exchange.accept_fee(transfer, cap).await?;
    Ok(TransferShown::of_view(node.exchange.transfer(transfer).await?, node.now()))
}

/// Says that this hospital does not pay; shows the transfer.
pub(super) async fn deny(node: &Node, transfer: TransferId) -> Result<TransferShown, NodeError> {
    node.exchange.deny_fee(transfer).await?;
    Ok(TransferShown::of_view(node.exchange.transfer(transfer).await?, node.now()))
}
