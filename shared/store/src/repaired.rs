//! What stands in a store that was repaired: when, and how much was known to be gone. It stays for good; a store that
//! is restored from a backup has none.

use std::fmt;

use handover_core::Timestamp;

use crate::txn::View;
use crate::{Store, StoreError};

const KEY_START: &[u8] = b"\0repaired-";
const VERSION: u8 = 1;
/// Repairs that are listed.
const LISTED: usize = 100;

/// One repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairMark {
    /// When.
    pub at: Timestamp,
    /// By whom, as they were named.
    pub by: String,
    /// Acknowledged commits that were gone; absent if nobody could tell.
    pub commits_lost: Option<u64>,
    /// Values that were known to be gone.
    pub values_lost: u64,
}

impl fmt::Display for RepairMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.commits_lost {
            Some(commits) => write!(f, "at {}: the last {commits} commits were gone", self.at)?,
            None => write!(f, "at {}: an unknown number of commits were gone", self.at)?,
        }
        write!(f, ", and of the others {} values", self.values_lost)
    }
}

impl RepairMark {
    pub(crate) fn key(&self) -> Vec<u8> {
        [KEY_START, &self.at.as_millis().to_be_bytes()].concat()
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = vec![VERSION, u8::from(self.commits_lost.is_some())];
        value.extend(self.commits_lost.unwrap_or(0).to_be_bytes());
        value.extend(self.values_lost.to_be_bytes());
        value.extend(self.by.as_bytes());
        value
    }

    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let at = <[u8; 8]>::try_from(key.strip_prefix(KEY_START)?).ok()?;
        let (&VERSION, rest) = value.split_first()? else { return None };
        let (&is_known, rest) = rest.split_first()?;
        let (commits, rest) = rest.split_first_chunk::<8>()?;
        let (values, by) = rest.split_first_chunk::<8>()?;
        Some(Self {
            at: Timestamp::from_millis(i64::from_be_bytes(at)),
            commits_lost: (is_known == 1).then_some(u64::from_be_bytes(*commits)),
            values_lost: u64::from_be_bytes(*values),
            by: String::from_utf8_lossy(by).into_owned(),
        })
    }

    pub(crate) fn all_in(view: &dyn View) -> Result<Vec<Self>, StoreError> {
        let page = view.scan(KEY_START, None, LISTED)?;
        Ok(page.iter().filter_map(|(key, value)| Self::read(key, value)).collect())
    }
}

impl Store {
    /// The repairs that this store has been through, the oldest first.
    ///
    /// # Errors
    /// Those of a read.
    pub async fn repairs(&self) -> Result<Vec<RepairMark>, StoreError> {
        let page = self.stored(KEY_START, Vec::new(), LISTED).await?;
        Ok(page.iter().filter_map(|(key, value)| RepairMark::read(key, value)).collect())
    }
}
