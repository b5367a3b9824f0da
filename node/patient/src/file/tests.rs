use handover_core::Code;
use handover_seal::OsRandom;

use super::*;
use crate::testkit::World;

const WEAK: KdfParams = KdfParams { memory_kib: 64, passes: 1, lanes: 1 };

fn made() -> (tempfile::TempDir, PathBuf, WalletFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet");
    let file =
        WalletFile::create(&path, "correct horse", &World::new().wallet(), WEAK, &mut OsRandom).unwrap();
    (folder, path, file)
}

fn trust(file: &WalletFile, url: &str) {
    file.update(&mut OsRandom, |wallet, _| {
        wallet.trust(url, "certificate");
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_is_kept_comes_back() {
    let (_folder, path, file) = made();
    trust(&file, "https://one/");
    let again = WalletFile::open(&path, "correct horse").unwrap();
    let (one, other) = (file.read().unwrap(), again.read().unwrap());
    assert_eq!(one.keys.patient(), other.keys.patient());
    assert_eq!(other.certificate("https://one"), Some("certificate"));
    assert_eq!(*one.to_bytes(), *other.to_bytes());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn another_passphrase_or_an_altered_file_is_refused() {
    let (_folder, path, file) = made();
    let wrong = WalletFile::open(&path, "correct house").unwrap_err();
    assert_eq!(wrong.code(), Code::KeyUnavailable);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(file.read().unwrap_err().code(), Code::StoreDamaged);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(WalletFile::open(&path, "correct horse").unwrap_err().code(), Code::KeyUnavailable);
}

#[test]
fn a_wallet_is_never_overwritten_by_a_new_one() {
    let (_folder, path, file) = made();
    let patient = file.read().unwrap().keys.patient();
    let wallet = World::new().wallet();
    let refused = WalletFile::create(&path, "x", &wallet, WEAK, &mut OsRandom).unwrap_err();
    assert!(matches!(refused, WalletError::Exists(_)));
    assert_eq!(file.read().unwrap().keys.patient(), patient);
}

#[test]
fn a_crash_leaves_the_old_wallet() {
    let (folder, path, file) = made();
    let before = fs::read(&path).unwrap();
    // A crash between writing and renaming: the half-written file lies beside.
    fs::write(folder.path().join("wallet.part"), b"half").unwrap();
    assert!(file.read().is_ok());
    // A failing change writes nothing.
    let failed: Result<(), _> = file.update(&mut OsRandom, |wallet, _| {
        wallet.trust("https://one", "certificate");
        Err(WalletError::UnknownTransfer)
    });
    assert!(failed.is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    trust(&file, "https://one");
    assert_eq!(file.read().unwrap().certificate("https://one"), Some("certificate"));
    assert!(!folder.path().join("wallet.part").exists());
}

#[test]
fn commands_at_once_lose_nothing() {
    let (_folder, path, _file) = made();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let file = WalletFile::open(path, "correct horse").unwrap();
                for round in 0..8 {
                    trust(&file, &format!("https://{worker}-{round}"));
                }
            });
        }
    });
    assert_eq!(WalletFile::open(&path, "correct horse").unwrap().read().unwrap().state.nodes.len(), 32);
}
