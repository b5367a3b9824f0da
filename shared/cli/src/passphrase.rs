//! Passphrases: from a file's first line or a prompt on a terminal, never from an argument or the environment, where
//! other users and child processes can see them.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use handover_core::Code;
use zeroize::Zeroizing;

use crate::CliError;

/// The option that names the file, as every program declares it.
pub const PASSPHRASE_OPTION: &str = "--passphrase-file";
/// Bytes that are read of a passphrase file.
const MAX_FILE_BYTES: usize = 4096;

/// The passphrase of an existing key: the first line of `file`, else asked for on the terminal with `prompt`.
///
/// # Errors
/// Configuration: the file cannot be read, can be read by group or others, or holds no passphrase. Usage: no file
/// was given and there is no terminal, or another process is in front of it.
pub fn passphrase(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>, CliError> {
    match file {
        Some(path) => from_file(path),
        None => ask(prompt, is_listened_to()),
    }
}

/// The passphrase of a key that is being made: like [`passphrase`], but asked for twice.
///
/// # Errors
/// As [`passphrase`]; usage when the two differ.
pub fn new_passphrase(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>, CliError> {
    let first = passphrase(file, prompt)?;
    if file.is_none() && first != passphrase(None, "The same again: ")? {
        return Err(CliError::new(Code::UsageInvalid, "the two passphrases differ"));
    }
    Ok(first)
}

/// Whether somebody at a terminal can answer this process: one in the background would be stopped by asking.
fn is_listened_to() -> bool {
    let stdin = io::stdin();
    let in_front = rustix::termios::tcgetpgrp(&stdin);
    stdin.is_terminal() && in_front.is_ok_and(|group| group == rustix::process::getpgrp())
}

fn ask(prompt: &str, has_terminal: bool) -> Result<Zeroizing<String>, CliError> {
    if !has_terminal {
        return Err(CliError::new(
            Code::UsageInvalid,
            "a passphrase is needed and there is no terminal to ask on, or this runs in its background",
        )
        .with_next(format!("Give {PASSPHRASE_OPTION} with a file of mode 0600.")));
    }
    let answer = rpassword::prompt_password(prompt).map_err(|error| {
        CliError::new(Code::UsageInvalid, format!("the terminal cannot be read: {error}"))
    })?;
    let answer = Zeroizing::new(answer);
    if answer.is_empty() {
        return Err(CliError::new(Code::UsageInvalid, "the passphrase is empty"));
    }
    Ok(answer)
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let fault = |reason: &str| CliError::new(Code::ConfigInvalid, format!("{}: {reason}", path.display()));
    let unreadable = |error: io::Error| fault(&error.to_string());
    let file = fs::File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that it is the one that is read.
    if file.metadata().map_err(unreadable)?.permissions().mode() & 0o077 != 0 {
        return Err(fault("the passphrase file can be read by others").with_next("Set its mode to 0600."));
    }
    // Room for everything at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 64));
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(fault("the passphrase file is too large"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| fault("the passphrase file is not text"))?;
    match text.lines().next() {
        None | Some("") => Err(fault("the passphrase file's first line is empty")),
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        for (content, expected) in [
            ("correct horse\nsecond\n", Some("correct horse")),
            ("with return\r\n", Some("with return")),
            (" kept blanks ", Some(" kept blanks ")),
            ("", None),
            ("\nsecond", None),
            (&"x".repeat(MAX_FILE_BYTES + 1), None),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            match (passphrase(Some(&path), ""), expected) {
                (Ok(read), Some(expected)) => assert_eq!(*read, expected),
                (Err(error), None) => assert_eq!(error.code, Code::ConfigInvalid),
                (outcome, _) => panic!("{outcome:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        fs::write(&path, "correct horse").unwrap();
        for mode in [0o640, 0o604] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = passphrase(Some(&path), "").unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid);
            assert!(!error.detail.contains("horse"));
        }
        let absent = passphrase(Some(&folder.path().join("absent")), "").unwrap_err();
        assert_eq!(absent.code, Code::ConfigInvalid);
    }

    #[test]
    fn without_file_and_terminal_the_option_is_named() {
        let error = ask("Passphrase: ", false).unwrap_err();
        assert_eq!(error.code, Code::UsageInvalid);
        assert!(error.next.unwrap().contains(PASSPHRASE_OPTION));
    }
}
