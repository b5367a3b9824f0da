use handover_disk::{Disk, Seeded, Survives};

use super::*;
use crate::OsRandom;

const FAST: KdfParams = KdfParams { memory_kib: 64, passes: 1, lanes: 1 };

#[test]
fn opens_with_the_same_passphrase_or_secret_only() {
    let secret = Secret32::generate(&mut OsRandom);
    let other = Secret32::generate(&mut OsRandom);
    let right = [Unlock::Passphrase("correct horse"), Unlock::Secret(&secret)];
    let wrong = [Unlock::Passphrase("correct horsf"), Unlock::Secret(&other)];
    for (kind, unlock) in right.iter().enumerate() {
        let sealed = seal_keyfile(unlock, b"private key", FAST, &mut OsRandom).unwrap();
        assert_eq!(open_keyfile(unlock, &sealed).unwrap().as_slice(), b"private key");
        for bad in [&wrong[0], &wrong[1], &right[1 - kind]] {
            assert!(matches!(open_keyfile(bad, &sealed), Err(SealError::KeyFile)));
        }
    }
}

#[test]
fn every_altered_byte_is_refused() {
    let secret = Secret32::generate(&mut OsRandom);
    let sealed = seal_keyfile(&Unlock::Secret(&secret), b"private key", FAST, &mut OsRandom).unwrap();
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        assert!(open_keyfile(&Unlock::Secret(&secret), &altered).is_err(), "byte {at}");
        assert!(open_keyfile(&Unlock::Secret(&secret), &sealed[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn parameters_are_bounded_before_they_are_computed() {
    let sealed = seal_keyfile(&Unlock::Passphrase("p"), b"k", FAST, &mut OsRandom).unwrap();
    let file: KeyFile = codec::decode(&sealed, MAX_BYTES).unwrap();
    for bad in [
        KeyFile { memory_kib: Some(u32::MAX), ..file.clone() },
        KeyFile { passes: Some(17), ..file.clone() },
        KeyFile { lanes: Some(9), ..file.clone() },
        KeyFile { lanes: None, ..file.clone() },
        KeyFile { format: 2, ..file.clone() },
    ] {
        let opened = open_keyfile(&Unlock::Passphrase("p"), &codec::encode(&bad));
        assert!(matches!(opened, Err(SealError::KeyFileParameters)));
    }
    // Other parameters within the bounds are authenticated.
    let other = KeyFile { passes: Some(2), ..file };
    let opened = open_keyfile(&Unlock::Passphrase("p"), &codec::encode(&other));
    assert!(matches!(opened, Err(SealError::KeyFile)));
}

#[test]
fn default_parameters_work() {
    let unlock = Unlock::Passphrase("p");
    let sealed = seal_keyfile(&unlock, b"k", KdfParams::default(), &mut OsRandom).unwrap();
    assert_eq!(open_keyfile(&unlock, &sealed).unwrap().as_slice(), b"k");
}

#[test]
fn private_files_are_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hospital.key");
    write_private(&path, b"one").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(
        write_private(&path, b"two"),
        Err(SealError::Io(fault)) if fault.kind() == std::io::ErrorKind::AlreadyExists
    ));
    assert_eq!(read_private(&path).unwrap().as_slice(), b"one");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(read_private(&path), Err(SealError::NotPrivate)));
}

#[test]
fn a_key_outlives_a_loss_of_power_with_the_folders_that_it_lies_in() {
    let disk = Disk::mount_for_long(1 << 20).unwrap();
    let folder = disk.path().join("data").join("keys");
    make_private_folder(&folder).unwrap();
    make_private_folder(&folder).unwrap();
    write_private(&folder.join("key"), b"sealed").unwrap();
    disk.lose_power(Survives::Nothing, &mut Seeded(1));
    assert_eq!(read_private(&folder.join("key")).unwrap().as_slice(), b"sealed");
    for folder in [&folder, folder.parent().unwrap()] {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
    fs::write(disk.path().join("file"), "x").unwrap();
    assert!(matches!(make_private_folder(&disk.path().join("file").join("in")), Err(SealError::Io(_))));
}
