//! Repairs: what they leave alone, what a kill of one leaves, and what is never repaired.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Stdio;

use handover_core::Timestamp;
use handover_disk::{Disk, Seeded};
use handover_store::{Place, Repaired, Store, StoreError};

use crate::damage::{self, Damage};
use crate::{ENOUGH, child, rounds, seed, setting, writer, written};

const BYTES: usize = 2_000;

pub(crate) fn repair(folder: &Path, progress: impl FnMut(u64)) -> Result<Repaired, StoreError> {
    let now = Timestamp::from_millis(1_800_000_000_000);
    Store::repair(folder, &writer::cell_key(), now, "who repairs", false, progress)
}

/// The child's part: repairs, and is killed where it says how far it is.
pub(crate) fn repair_and_be_killed(folder: &Path) {
    let at = setting("AT", 0);
    let done = repair(folder, |read| {
        if read >= at {
            std::process::abort();
        }
    });
    writer::tell(&format!("repaired {done:?}"));
    std::process::exit(0);
}

/// A store that lost a third of its end.
fn cut(folder: &Path) {
    let log = folder.join("db");
    let bytes = fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(log, &bytes[..used - used / 3]).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_was_killed_leaves_nothing_and_the_next_one_is_as_if_it_were_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    written(&store, BYTES, 60, 1, false);
    cut(&store);
    // Somebody's, whatever they mean by it.
    fs::create_dir(folder.path().join("store.damaged-1")).unwrap();
    fs::write(folder.path().join("store.copy-of-mine"), "theirs").unwrap();
    let before: Vec<_> = damage::files(&store).iter().map(|file| fs::read(file).unwrap()).collect();
    for at in [0, 1] {
        let mut killed =
            child("repair", &store, 0).env("AT", at.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(killed.stdout.take().unwrap()).lines().map(Result::unwrap);
        let done: Vec<_> = said.filter(|line| line.starts_with("repaired")).collect();
        assert!(done.is_empty(), "{at}: {done:?}");
        assert!(!killed.wait().unwrap().success());
        assert!(names(folder.path()).len() > 3, "something is left: {:?}", names(folder.path()));
        let now: Vec<_> = damage::files(&store).iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(now == before, "the damaged store was written to");
    }
    let repaired = repair(&store, |_| {}).unwrap();
    assert_eq!(repaired.aside.unwrap(), folder.path().canonicalize().unwrap().join("store.damaged-2"));
    assert_eq!(names(folder.path()), ["store", "store.copy-of-mine", "store.damaged-1", "store.damaged-2"]);
    assert!(!store.join("repair-not-complete").exists());
    // Cut off behind the exchange, the fresh one is in its place and still says that it is not complete.
    fs::write(store.join("repair-not-complete"), "").unwrap();
    assert!(repair(&store, |_| {}).unwrap().is_whole);
    written(&store, BYTES, 60, 1, false);
    cut(&store);
    let again = repair(&store, |_| {}).unwrap().aside.unwrap();
    assert!(again.ends_with("store.damaged-3"));
    assert!(repair(&store, |_| {}).unwrap().is_whole);
    assert!(again.join("db").exists(), "what was kept aside is kept");
    let store = Store::sled(&store, &writer::cell_key()).unwrap();
    let marks = store.repairs().await.unwrap();
    assert_eq!(marks.iter().map(|mark| mark.by.as_str()).collect::<Vec<_>>(), ["who repairs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_keeps_owner_and_mode() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    written(&store, BYTES, 40, 1, false);
    cut(&store);
    fs::set_permissions(&store, fs::Permissions::from_mode(0o750)).unwrap();
    // Only root can give files away, and repair those of others.
    let is_root = folder.path().metadata().unwrap().uid() == 0;
    let owner = if is_root {
        (4_711, 4_712)
    } else {
        (folder.path().metadata().unwrap().uid(), store.metadata().unwrap().gid())
    };
    for path in damage::files(&store).iter().map(AsRef::as_ref).chain([store.as_path()]) {
        chown(path, Some(owner.0), Some(owner.1)).unwrap();
    }
    assert!(repair(&store, |_| {}).unwrap().aside.is_some());
    assert_eq!(store.metadata().unwrap().mode() & 0o777, 0o750);
    for path in damage::files(&store).iter().map(AsRef::as_ref).chain([store.as_path()]) {
        let now = path.metadata().unwrap();
        assert_eq!((now.uid(), now.gid()), owner, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_a_mount_is_refused_before_anything_is_done() {
    let disk = Disk::mount(ENOUGH, None).unwrap();
    let store = disk.path().join("store");
    written(&store, BYTES, 20, 1, false);
    cut(&store);
    // The mount is the store's folder itself.
    for file in ["db", "conf", "commits"] {
        fs::rename(store.join(file), disk.path().join(file)).unwrap();
    }
    let beside = names(disk.path().parent().unwrap());
    let said = repair(disk.path(), |_| panic!("it reads")).unwrap_err().to_string();
    assert!(
        said.contains("mount that disk elsewhere") && said.contains("make") && said.contains("a link"),
        "{said}"
    );
    assert_eq!(
        names(disk.path().parent().unwrap())
            .iter()
            .filter(|name| !beside.contains(name) && name.contains("damaged"))
            .count(),
        0
    );
    // The way that is named: a link to a folder on that disk.
    for file in ["db", "conf", "commits"] {
        fs::rename(disk.path().join(file), store.join(file)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("store");
    std::os::unix::fs::symlink(&store, &link).unwrap();
    let repaired = repair(&link, |_| {});
    assert!(repaired.unwrap().aside.unwrap().join("db").exists());
    drop(Store::sled(&link, &writer::cell_key()).unwrap());
}

/// Whatever happens to a store that was moved: it never opens again, repaired or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_moved_is_not_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let (old, trial) = (folder.path().join("old"), folder.path().join("trial"));
    written(&old, BYTES, 60, 1, true);
    let place = |name: &str| Place::Folder(folder.path().join(name));
    handover_store::copy(&place("old"), &place("new"), &writer::cell_key(), |_, _, _| {}).await.unwrap();
    assert!(matches!(repair(&old, |_| {}), Err(StoreError::Moved { .. })));
    let mut seeded = Seeded(seed());
    for round in 0..rounds(4) {
        for damage in Damage::ALL {
            damage::copy(&old, &trial);
            let what = damage.strike(&trial, round, &mut seeded);
            let opened = Store::sled(&trial, &writer::cell_key()).map(drop);
            assert!(opened.is_err(), "{round} {damage:?} {what}: it opens");
            if let Ok(repaired) = repair(&trial, |_| {}) {
                let opened = Store::sled(&trial, &writer::cell_key()).map(drop);
                panic!("{round} {damage:?} {what}: repaired ({repaired:?}), and then {opened:?}");
            }
            fs::remove_dir_all(&trial).unwrap();
        }
    }
}
