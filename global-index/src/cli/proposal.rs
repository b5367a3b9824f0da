//! What two operators sign: the first one's signature proposes, the second one's puts it in force.

use handover_cli::CliError;
use handover_core::Code;
use handover_core::artefact::{ArtefactError, Payload, Signed, Verified};
use handover_core::id::SigningPublic;
use handover_seal::{Ed25519, SigningKey};

use super::OperatorKey;
use crate::keys::open_signing_key;
use crate::ops::Hex;
use crate::ops::views::OperatorView;

/// Opens an operator's key.
pub(super) fn open_operator(key: &OperatorKey) -> Result<SigningKey, CliError> {
    let passphrase = handover_cli::passphrase(
        key.operator_passphrase_file.as_deref(),
        "Passphrase of the operator's key: ",
    )?;
    Ok(open_signing_key(&key.operator_key, &passphrase)?)
}

/// What one operator signed and another one is to sign.
pub(super) struct Proposal<T> {
    pub(super) order: Verified<T>,
    pub(super) is_mine: bool,
}

/// What waits, if whoever proposed it is in office; else somebody has to propose it anew.
pub(super) fn proposal<T: Payload>(
    pending: Option<&Hex>,
    operators: &[SigningPublic],
    mine: &SigningKey,
) -> Result<Option<Proposal<T>>, CliError> {
    let stored = |fault: ArtefactError| CliError::new(fault.code(), fault.to_string());
    let Some(pending) = pending else { return Ok(None) };
    let pending = Signed::<T>::read(&pending.0).map_err(stored)?;
    let is_mine = *pending.kid() == mine.public().thumbprint();
    let by = operators.iter().find(|key| key.thumbprint() == *pending.kid());
    let Some(by) = by else { return Ok(None) };
    Ok(Some(Proposal { order: pending.verify(by, &Ed25519).map_err(stored)?, is_mine }))
}

/// The operators in office, of whom the one who signs has to be.
pub(super) fn in_office(
    operators: &[OperatorView],
    mine: &SigningKey,
) -> Result<Vec<SigningPublic>, CliError> {
    let keys: Vec<SigningPublic> =
        operators.iter().filter_map(|operator| operator.key.parse().ok()).collect();
    if keys.contains(&mine.public()) {
        return Ok(keys);
    }
    Err(CliError::new(Code::WrongSigner, "this key is no operator's in office")
        .with_next("Give its certificate first: operator add --certificate FILE."))
}
