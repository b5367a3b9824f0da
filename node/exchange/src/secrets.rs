//! What a hospital keeps secret for one transfer until the transfer is over: at the destination the request's secret
//! key, in the keyring, so that no copy of the store opens it after the next rotation, and what was asked for, which
//! travels sealed to the source. The source keeps shares only sealed. Under a continuous consent the destination keeps the
//! patient's share until the consent has ended.

use handover_core::artefact::patient::Scope;
use handover_core::codec::Extensions;
use handover_core::{TransferId, cbor_map};
use handover_seal::SealingKey;
use handover_store::{KeyMaker, Keyring, StoreError, Txn, rows};

const REQUEST_KEY: &str = "request-key";
const GRANT_KEY: &str = "grant-key";
const REQUEST_SCOPE: &str = "request-scope";
const SEALED_SHARES: &str = "sealed-shares";

cbor_map! {
    /// What the desk asked for.
    struct ScopeRow {
        /// The scope as it was sealed.
        1 => scope: Scope,
    }
}

/// Keeps the request's secret key.
pub(crate) fn put_request_key(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    transfer: TransferId,
    key: &SealingKey,
) -> Result<(), StoreError> {
    keyring.put(txn, REQUEST_KEY, transfer.as_bytes(), key.secret())
}

/// The request's secret key.
pub(crate) fn request_key(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    transfer: TransferId,
) -> Result<Option<SealingKey>, StoreError> {
    Ok(keyring.get(txn, REQUEST_KEY, transfer.as_bytes())?.map(SealingKey::from_bytes))
}

/// Keeps the patient's share under a continuous consent, by the transfer that it was given for: it opens every delivery.
pub(crate) fn put_grant_key(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    origin: TransferId,
    key: &SealingKey,
) -> Result<(), StoreError> {
    keyring.put(txn, GRANT_KEY, origin.as_bytes(), key.secret())
}

/// The patient's share under a continuous consent.
pub(crate) fn grant_key(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    origin: TransferId,
) -> Result<Option<SealingKey>, StoreError> {
    Ok(keyring.get(txn, GRANT_KEY, origin.as_bytes())?.map(SealingKey::from_bytes))
}

/// Forgets it: the consent has ended.
pub(crate) fn forget_grant_key(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    origin: TransferId,
) -> Result<(), StoreError> {
    keyring.remove(txn, GRANT_KEY, origin.as_bytes())?;
    Ok(())
}

/// Keeps what was asked for, so that asking again can be compared with it.
pub(crate) fn put_request_scope(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    scope: &Scope,
) -> Result<(), StoreError> {
    let row = ScopeRow { scope: scope.clone(), extensions: Extensions::default() };
    rows::put(txn, &keys.space(REQUEST_SCOPE).hashed(transfer.as_bytes()).build(), &row)
}

/// What was asked for; none once the transfer is over.
pub(crate) fn request_scope(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<Scope>, StoreError> {
    let row: Option<ScopeRow> =
        rows::get(txn, &keys.space(REQUEST_SCOPE).hashed(transfer.as_bytes()).build())?;
    Ok(row.map(|row| row.scope))
}

/// Keeps the sealed shares of a package until they may be released.
pub(crate) fn put_sealed_shares(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
    shares: &[u8],
) -> Result<(), StoreError> {
    txn.put(&keys.space(SEALED_SHARES).hashed(transfer.as_bytes()).build(), shares.to_vec())
}

/// The sealed shares.
pub(crate) fn sealed_shares(
    txn: &mut dyn Txn,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<Option<Vec<u8>>, StoreError> {
    txn.get(&keys.space(SEALED_SHARES).hashed(transfer.as_bytes()).build())
}

/// Forgets everything: the transfer is over.
pub(crate) fn forget(
    txn: &mut dyn Txn,
    keyring: &Keyring,
    keys: &KeyMaker,
    transfer: TransferId,
) -> Result<(), StoreError> {
    keyring.remove(txn, REQUEST_KEY, transfer.as_bytes())?;
    for space in [REQUEST_SCOPE, SEALED_SHARES] {
        txn.remove(&keys.space(space).hashed(transfer.as_bytes()).build())?;
    }
    Ok(())
}
