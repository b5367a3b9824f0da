//! Input that could not be read, kept aside for a second try: encrypted like records, each under a secret of its own
//! that is forgotten with it.

use handover_core::codec::Extensions;
use handover_core::{Digest, Timestamp};
use handover_seal::Secret32;
use handover_store::Txn;

use crate::RecordsError;
use crate::access::Action;
use crate::content::{self, BlobContent, Content, Opened, blocking};
use crate::keys::{ASIDE_KEY, place};
use crate::model::NewContent;
use crate::permit::Permit;
use crate::reading::PAGE_MAX;
use crate::records::Records;
use crate::rows::{self, AsideRow};

/// The most bytes of a file's label, an entry's label and a reason; what is longer is cut.
const LABEL_MAX_BYTES: usize = 1_024;
/// How many rows are read at once; each may bring its content with it.
const ROWS_AT_ONCE: usize = 50;

/// Input that was kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// What it is called; the same for the same bytes of the same entry.
    pub id: [u8; 16],
    /// The file it came in.
    pub file: String,
    /// Which entry of the file.
    pub entry: String,
    /// Why it could not be read.
    pub reason: String,
    /// Its length.
    pub bytes: u64,
    /// Since when.
    pub since: Timestamp,
}

impl Records {
    /// Keeps unreadable input aside and says what it is called. The same again changes nothing. Needs
    /// [`Action::Import`] or [`Action::Quarantine`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of store and blobs.
    pub async fn quarantine(
        &self,
        permit: &Permit,
        now: Timestamp,
        file: &str,
        entry: &str,
        reason: &str,
        bytes: Vec<u8>,
    ) -> Result<[u8; 16], RecordsError> {
        permit.check(now, &[Action::Import, Action::Quarantine])?;
        let (file, entry, reason) = (cut(file), cut(entry), cut(reason));
        let hash = Digest::sha256(&[&bytes]);
        let id = self.vault.aside_id(&[file.as_bytes(), entry.as_bytes(), hash.as_bytes()]);
        let key = self.places.aside(id);
        let probe = key.clone();
        if self.store.read(move |txn| Ok::<_, RecordsError>(txn.get(&probe)?.is_some())).await? {
            return Ok(id);
        }
        let length = bytes.len() as u64;
        let (blobs, mut random) = (self.blobs.clone(), self.random.clone());
        let secret = Secret32::generate(&mut random);
        let wrap_key = self.vault.aside_wrap_key(&secret);
        let sealed = blocking(move || {
            content::seal(&blobs, &wrap_key, &aside_place(id), &NewContent::Bytes(bytes), &mut random)
        });
        let (content, _) = sealed.await?.store(&self.blobs).await?;
        let row = AsideRow {
            id,
            file,
            entry,
            reason,
            bytes: length,
            since: now,
            content,
            extensions: Extensions::default(),
        };
        let keyring = self.keyring.clone();
        let write = self.store.write(move |txn| {
            keyring.put(txn, ASIDE_KEY, &id, &secret)?;
            rows::put(txn, &key, &row)
        });
        write.await?;
        Ok(id)
    }

    /// What was kept aside, after `after`; at most `limit` (up to 1,000). Needs [`Action::Quarantine`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of the store.
    pub async fn quarantined(
        &self,
        permit: &Permit,
        now: Timestamp,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Vec<Quarantined>, RecordsError> {
        permit.check(now, &[Action::Quarantine])?;
        let limit = limit.min(PAGE_MAX);
        let mut found: Vec<Quarantined> = Vec::new();
        let mut after = after;
        while found.len() < limit {
            let page = self.aside_page(after).await?;
            let is_last = page.len() < ROWS_AT_ONCE;
            found.extend(page.into_iter().map(|row| Quarantined {
                id: row.id,
                file: row.file,
                entry: row.entry,
                reason: row.reason,
                bytes: row.bytes,
                since: row.since,
            }));
            after = found.last().map(|last| last.id);
            if is_last {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The bytes of something kept aside, for a second try. Needs [`Action::Quarantine`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; [`RecordsError::UnknownRecord`]; those of store and blobs.
    pub async fn quarantined_content(
        &self,
        permit: &Permit,
        now: Timestamp,
        id: [u8; 16],
    ) -> Result<Content, RecordsError> {
        permit.check(now, &[Action::Quarantine])?;
        let (key, records) = (self.places.aside(id), self.clone());
        let read = self.store.read(move |txn| {
            let row: AsideRow = rows::get(txn, &key, "kept aside")?.ok_or(RecordsError::UnknownRecord)?;
            let opened = records.open_aside(txn, &row)?;
            Ok::<_, RecordsError>((row, opened))
        });
        let (row, opened) = read.await?;
        Ok(match opened {
            Opened::Inline(bytes) => Content::Inline(bytes),
            Opened::Blob(blob) => {
                Content::Blob(BlobContent { blobs: self.blobs.clone(), blob, plain_bytes: row.bytes })
            }
        })
    }

    /// Forgets something kept aside, once it was read after all or is not wanted. Nothing happens if it is not
    /// here. Needs [`Action::Quarantine`].
    ///
    /// # Errors
    /// [`RecordsError::Denied`]; those of store and blobs.
    pub async fn release(&self, permit: &Permit, now: Timestamp, id: [u8; 16]) -> Result<(), RecordsError> {
        permit.check(now, &[Action::Quarantine])?;
        let (key, keyring) = (self.places.aside(id), self.keyring.clone());
        let write = self.store.write(move |txn| {
            let row: Option<AsideRow> = rows::get(txn, &key, "kept aside")?;
            txn.remove(&key)?;
            keyring.remove(txn, ASIDE_KEY, &id)?;
            Ok::<_, RecordsError>(row.and_then(|row| row.content.root))
        });
        match write.await? {
            Some(root) => Ok(self.blobs.delete(root).await?),
            None => Ok(()),
        }
    }

    pub(crate) async fn aside_page(&self, after: Option<[u8; 16]>) -> Result<Vec<AsideRow>, RecordsError> {
        let (prefix, after) = (self.places.asides(), after.map(|id| self.places.aside(id)));
        let read = self.store.read(move |txn| {
            let page = txn.scan(&prefix, after.as_deref(), ROWS_AT_ONCE)?;
            page.iter().map(|(_, bytes)| rows::from_bytes(bytes, "kept aside")).collect()
        });
        read.await
    }

    pub(crate) fn open_aside(&self, txn: &mut dyn Txn, row: &AsideRow) -> Result<Opened, RecordsError> {
        let secret = self.keyring.get(txn, ASIDE_KEY, &row.id)?;
        let secret = secret.ok_or(RecordsError::Damaged { what: "key of input kept aside" })?;
        content::open(&self.vault.aside_wrap_key(&secret), &aside_place(row.id), &row.content)
    }
}

fn aside_place(id: [u8; 16]) -> Vec<u8> {
    place("handover/aside/1", &[&id])
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(LABEL_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}
