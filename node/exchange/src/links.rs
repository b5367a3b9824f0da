//! Link codes while they are out, and the links made with them.
//!
//! The patient proves the desk's code without carrying it, so the hospital must know which codes are out: each lies
//! in its own cell until it is used or a day has passed.

use handover_core::artefact::Verified;
use handover_core::artefact::patient::PatientLink;
use handover_core::codec::Extensions;
use handover_core::{Code, Timestamp, cbor_map, rules};
use handover_records::LINK_CODE_LASTS_MS;
use handover_store::{Store, StoreError, rows};

use crate::ExchangeError;

const CODES: &str = "link-code-out";
const SIGNED: &str = "link-signed";
const TO_INDEX: &str = "link-to-index";
/// Codes that can be out at once.
const CODES_MAX: usize = 1_000;

cbor_map! {
    /// A code that is out.
    pub(crate) struct CodeRow {
        /// The code.
        1 => code: String,
        /// Since when.
        2 => since: Timestamp,
    }
}

/// Keeps a code that was just given out.
pub(crate) async fn keep(store: &Store, code: &str, now: Timestamp) -> Result<(), ExchangeError> {
    let (keys, code) = (store.keys(), code.to_owned());
    store
        .write(move |txn| -> Result<(), ExchangeError> {
            let row = CodeRow { code: code.clone(), since: now, extensions: Extensions::default() };
            let out = txn.scan(&keys.space(CODES).build(), None, CODES_MAX)?;
            for (key, value) in &out {
                let other: CodeRow = rows::read(value)?;
                if now.since_ms(other.since) > LINK_CODE_LASTS_MS {
                    txn.remove(key)?;
                }
            }
            if out.len() >= CODES_MAX {
                return Err(Code::Busy.into());
            }
            Ok(rows::put(txn, &keys.space(CODES).hashed(&code).build(), &row)?)
        })
        .await
}

/// The code that a link proves.
pub(crate) async fn find(store: &Store, link: &PatientLink, now: Timestamp) -> Result<String, ExchangeError> {
    let keys = store.keys();
    let out = store
        .read(move |txn| -> Result<_, StoreError> { txn.scan(&keys.space(CODES).build(), None, CODES_MAX) })
        .await?;
    for (_, value) in out {
        let row: CodeRow = rows::read(&value)?;
        if now.since_ms(row.since) <= LINK_CODE_LASTS_MS && rules::link_code(link, &row.code) {
            return Ok(row.code);
        }
    }
    Err(Code::LinkCodeWrong.into())
}

/// The link as it was signed before, if it was.
pub(crate) async fn signed(
    store: &Store,
    link: &Verified<PatientLink>,
) -> Result<Option<Vec<u8>>, ExchangeError> {
    let (keys, hash) = (store.keys(), link.hash());
    Ok(store
        .read(move |txn| -> Result<_, StoreError> {
            txn.get(&keys.space(SIGNED).hashed(hash.as_bytes()).build())
        })
        .await?)
}

/// Keeps the signed link, uses up its code, and owes it to the index.
pub(crate) async fn finish(
    store: &Store,
    link: &Verified<PatientLink>,
    code: &str,
    signed: &[u8],
) -> Result<(), ExchangeError> {
    let (keys, hash, code, signed) = (store.keys(), link.hash(), code.to_owned(), signed.to_vec());
    Ok(store
        .write(move |txn| -> Result<(), StoreError> {
            txn.remove(&keys.space(CODES).hashed(&code).build())?;
            txn.put(&keys.space(SIGNED).hashed(hash.as_bytes()).build(), signed.clone())?;
            txn.put(&keys.space(TO_INDEX).hashed(hash.as_bytes()).build(), signed.clone())
        })
        .await?)
}

/// Links that the index does not know yet.
pub(crate) async fn owed(store: &Store, limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ExchangeError> {
    let keys = store.keys();
    Ok(store
        .read(move |txn| -> Result<_, StoreError> { txn.scan(&keys.space(TO_INDEX).build(), None, limit) })
        .await?)
}

/// The index knows it.
pub(crate) async fn told(store: &Store, key: Vec<u8>) -> Result<(), ExchangeError> {
    Ok(store.write(move |txn| -> Result<(), StoreError> { txn.remove(&key) }).await?)
}
