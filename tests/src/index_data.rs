//! Everything that an index has, opened with its own keys: what a thief of the whole machine holds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use handover_index::keys::IndexKeys;
use handover_scenarios::signals::{self, Signal};
use handover_scenarios::world::World;
use handover_store::{SCAN_MAX_CELLS, Store, StoreError};

const LIMIT: Duration = Duration::from_secs(60);

/// The index's data folder.
#[must_use]
pub fn folder(world: &World) -> PathBuf {
    world.folder().join("federation/index")
}

/// The index's keys.
///
/// # Errors
/// They do not open.
pub fn keys_of(world: &World) -> Result<IndexKeys> {
    let secret = std::fs::read_to_string(world.folder().join("secrets/index"))?;
    let passphrase = secret.lines().next().context("an empty passphrase file")?;
    Ok(IndexKeys::open(&folder(world), passphrase)?)
}

/// The index comes to its end; then its store opens.
///
/// # Errors
/// It does not.
pub fn store_of(world: &World) -> Result<Store> {
    let pid = world.index_pid().context("the index does not run")?;
    signals::send(pid, Signal::TERM)?;
    let (keys, path) = (keys_of(world)?, folder(world).join("store"));
    let begun = Instant::now();
    loop {
        match Store::sled(&path, &keys.cell_key()) {
            Ok(store) => return Ok(store),
            Err(_) if begun.elapsed() < LIMIT => std::thread::yield_now(),
            Err(fault) => bail!("the index's store does not open: {fault}"),
        }
    }
}

/// Every key and value in the clear, in order: what lies in pieces lies together. And how many there are.
///
/// # Errors
/// The store's.
pub async fn everything(store: &Store) -> Result<(usize, Vec<u8>)> {
    let cells = cells(store).await?;
    let count = cells.len();
    let (keys, values): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
    Ok((count, [values.concat(), keys.concat()].concat()))
}

/// Every key with its value in the clear, in order.
///
/// # Errors
/// The store's.
pub async fn cells(store: &Store) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let (mut all, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let from = after.take();
        let page = store
            .read(move |txn| -> Result<_, StoreError> { txn.scan(&[], from.as_deref(), SCAN_MAX_CELLS) });
        let page = page.await?;
        after = page.get(SCAN_MAX_CELLS - 1).map(|(key, _)| key.clone());
        all.extend(page);
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Every file below a folder.
///
/// # Errors
/// The file system's.
pub fn files_below(folder: &Path, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files_below(&path, each)? } else { each(&path)? }
    }
    Ok(())
}
