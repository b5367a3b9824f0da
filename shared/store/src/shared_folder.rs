//! The folder that belongs to a store which lies in a database: each bears the other's mark.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use handover_seal::{OsRandom, Secret32};

use crate::sled_files::{make_private_folder, sync_folder};
use crate::{Store, StoreError};

/// Says in a folder which store it belongs to, and in the store, which folder.
const MARK_FILE: &str = "of-store";
const MARK_SPACE: &str = "shared-folder";

impl Store {
    /// Refuses a folder that does not belong to this store: on another machine it may not be mounted, and what it holds
    /// must not look as if it were gone. The first one that is shown belongs to it, unless it is another store's, or
    /// what belongs there still lies in the folder `data`.
    ///
    /// # Errors
    /// [`StoreError::Lost`], [`StoreError::NotMoved`]; those of the store.
    pub async fn check_folder(&self, folder: &Path, data: &Path) -> Result<(), StoreError> {
        let key = self.keys().space(MARK_SPACE).build();
        let found = mark_of(folder)?;
        let is_own = folder == data;
        if !is_own && has_blobs(data)? && !has_blobs(folder)? {
            let (from, to) = (data.display(), folder.display());
            let reason = format!(
                "blobs lie in {from}, and none in {to}, which `shared` names: move blobs, incoming, epoch-keys and \
                 of-store there, as far as they are in {from}, or take `shared` away"
            );
            return Err(StoreError::NotMoved { reason });
        }
        let asked = key.clone();
        let (known, is_new) = self
            .read::<_, StoreError, _>(move |txn| Ok((txn.get(&asked)?, txn.scan(&[], None, 1)?.is_empty())))
            .await?;
        if let Some(known) = known {
            return if Some(&known) == found.as_ref() { Ok(()) } else { Err(not_its_own(folder)) };
        }
        // A store that was moved here has its data folder, whatever that bore before.
        if (found.is_some() && (is_new || !is_own)) || (is_new && has_blobs(folder)?) {
            return Err(StoreError::Lost {
                what: format!("{} belongs to another store, and this one is new to it", folder.display()),
                advice: "check url_file and schema of [store] and `shared`; for a new store, name an empty folder",
            });
        }
        let (mark, path) =
            (hex::encode(Secret32::generate(&mut OsRandom).expose()).into_bytes(), folder.join(MARK_FILE));
        let io = StoreError::io("write the mark of a folder");
        make_private_folder(folder)?;
        fs::write(&path, &mark).and_then(|()| fs::File::open(&path)?.sync_all()).map_err(&io)?;
        sync_folder(folder)?;
        self.write(move |txn| txn.put(&key, mark.clone())).await
    }
}

fn not_its_own(folder: &Path) -> StoreError {
    StoreError::Lost {
        what: format!("{} is not the folder that belongs to it", folder.display()),
        advice: "mount the folder that all processes share, or set `shared` to it; of a restored one, the file \
                 of-store belongs to it",
    }
}

/// What a folder says of whose it is.
fn mark_of(folder: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(folder.join(MARK_FILE)) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(StoreError::io("read the mark of a folder")),
    }
}

/// Whether blobs lie below a folder. One that is made has folders by the first letters of their names.
pub(crate) fn has_blobs(folder: &Path) -> Result<bool, StoreError> {
    let io = StoreError::io("look for blobs");
    let entries = match fs::read_dir(folder.join("blobs").join("content")) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(false),
        read => read.map_err(&io)?,
    };
    for entry in entries {
        if fs::read_dir(entry.map_err(&io)?.path()).map_err(&io)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_folder_is_refused() {
        let store = Store::memory(&crate::CellKey::from_bytes([1; 32]));
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            store.check_folder(own.path(), data.path()).await.unwrap();
        }
        let refused = store.check_folder(other.path(), data.path()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Lost { .. }), "{refused}");
        assert!(refused.to_string().contains("mount the folder"), "{refused}");
    }

    async fn store(has_cells: bool) -> Store {
        let (engine, _) = crate::memory::Memory::new();
        let store = Store::over(std::sync::Arc::new(engine), &crate::CellKey::from_bytes([1; 32]));
        if has_cells {
            store.write::<_, StoreError, _>(|txn| txn.put(b"cell", vec![1])).await.unwrap();
        }
        store
    }

    fn with_blobs() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/content/ab");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join("abcd"), b"blob").unwrap();
        folder
    }

    #[tokio::test]
    async fn a_new_store_takes_no_folder_that_is_anothers() {
        let (data, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        store(false).await.check_folder(shared.path(), data.path()).await.unwrap();
        let mark = fs::read(shared.path().join(MARK_FILE)).unwrap();
        for (has_cells, folder) in
            [(false, shared.path()), (true, shared.path()), (false, with_blobs().path())]
        {
            let refused = store(has_cells).await.check_folder(folder, data.path()).await.unwrap_err();
            assert!(refused.to_string().contains("name an empty folder"), "{refused}");
        }
        let own = with_blobs();
        assert!(store(false).await.check_folder(own.path(), own.path()).await.is_err());
        assert_eq!(fs::read(shared.path().join(MARK_FILE)).unwrap(), mark);
    }

    #[tokio::test]
    async fn a_store_that_was_moved_to_a_database_keeps_its_blobs() {
        let data = with_blobs();
        let parent = tempfile::tempdir().unwrap();
        let (shared, moved) = (parent.path().join("shared"), store(true).await);
        for _ in 0..2 {
            let refused = moved.check_folder(&shared, data.path()).await.unwrap_err();
            assert!(matches!(refused, StoreError::NotMoved { .. }), "{refused}");
            assert!(refused.to_string().contains("move blobs, incoming, epoch-keys"), "{refused}");
            assert!(!shared.exists());
        }
        fs::create_dir(&shared).unwrap();
        fs::rename(data.path().join("blobs"), shared.join("blobs")).unwrap();
        moved.check_folder(&shared, data.path()).await.unwrap();
        // Or in its data folder, and from there to another one.
        let (data, moved) = (with_blobs(), store(true).await);
        moved.check_folder(data.path(), data.path()).await.unwrap();
        let shared = parent.path().join("later");
        assert!(moved.check_folder(&shared, data.path()).await.is_err());
        fs::create_dir(&shared).unwrap();
        for name in ["blobs", MARK_FILE] {
            fs::rename(data.path().join(name), shared.join(name)).unwrap();
        }
        moved.check_folder(&shared, data.path()).await.unwrap();
    }
}
