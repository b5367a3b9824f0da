//! The commands that make wallets: a patient's first, another device's, and one in the place of a lost one.

use std::path::Path;

use handover_cli::{CliError, Output, new_passphrase, passphrase};
use handover_core::id::SigningPublic;
use handover_core::{Code, PatientRef};
use handover_patient::{PatientKeys, Recovery, Wallet, WalletFile};
use handover_seal::keyfile::KdfParams;
use handover_seal::{OsRandom, SigningKey, Zeroizing};
use serde_json::json;

use crate::args::{self, Common, Way};
use crate::session::{Session, now, read_text, wallet_path, write_new};
use crate::show::line_of_files;

pub(crate) fn new(common: &Common, options: &args::New, output: Output) -> Result<(), CliError> {
    let path = wallet_path(common)?;
    if path.exists() {
        return new_again(common, options, output);
    }
    let secret = new_passphrase(common.passphrase_file.as_deref(), "Passphrase for the new wallet: ")?;
    let recovery = SigningKey::generate(&mut OsRandom);
    let keys = PatientKeys::generate(recovery.public(), now(), &mut OsRandom)?;
    let text = Recovery::text(&recovery, &keys);
    if let Some(file) = &options.recovery_file {
        // Before the wallet: keys whose recovery key was lost must not come into use.
        write_new(file, text.as_bytes()).map_err(|fault| {
            fault.with_next("Give another --recovery-file, or remove that one if no wallet was made with it.")
        })?;
    }
    let patient = keys.patient();
    let wallet = Wallet::new(keys, options.root);
    WalletFile::create(path, &secret, &wallet, KdfParams::default(), &mut OsRandom)?;
    made(options, output, &patient, options.recovery_file.is_none().then_some(text))
}

/// The wallet is there: its patient again, if it is what is asked for.
fn new_again(common: &Common, options: &args::New, output: Output) -> Result<(), CliError> {
    let wallet = Session::open(common)?.file.read()?;
    check_root(&wallet, &options.root)?;
    if let Some(file) = &options.recovery_file {
        let recovery = Recovery::read(&Zeroizing::new(read_text(file)?))?;
        if recovery.chain.patient() != wallet.keys.patient() {
            return Err(other("another recovery key than the one in --recovery-file"));
        }
    }
    output.note("The wallet is there already: nothing was changed. It does not hold the recovery key.");
    made(options, output, &wallet.keys.patient(), None)
}

fn other(what: &str) -> CliError {
    CliError::new(Code::Conflict, format!("the wallet there has {what}"))
}

fn check_root(wallet: &Wallet, root: &SigningPublic) -> Result<(), CliError> {
    if wallet.state.root == *root {
        Ok(())
    } else {
        Err(other(&format!("another --root: {}", wallet.state.root)))
    }
}

fn made(
    options: &args::New,
    output: Output,
    patient: &PatientRef,
    printed: Option<Zeroizing<String>>,
) -> Result<(), CliError> {
    let mut lines = printed.as_deref().map(|text| text.lines()).into_iter().flatten();
    let (key, record) = (lines.next(), lines.next());
    let data = json!({
        "patient": patient, "recovery_key": key, "first_record": record,
        "recovery_file": options.recovery_file,
    });
    output.emit("handover/patient-new/1", &data, |out| {
        writeln!(out, "Patient: {patient}")?;
        let (Some(key), Some(record)) = (key, record) else { return Ok(()) };
        writeln!(out, "Recovery key, shown only now (write it down, keep it apart): {key}")?;
        writeln!(out, "First key record, to be kept with it as a second line (not secret): {record}")
    })
}

/// Another device takes this one's place, by this one's own word.
pub(crate) fn renew(common: &Common, options: &args::Renew, output: Output) -> Result<(), CliError> {
    let old = Session::open(common)?;
    let held = old.file.read()?;
    let (path, secret_file) = (&options.new_wallet, options.new_passphrase_file.as_deref());
    let file = if path.exists() {
        let secret = passphrase(secret_file, "Passphrase of the new wallet: ")?;
        let file = WalletFile::open(path, &secret)?;
        let there = file.read()?;
        check_root(&there, &held.state.root)?;
        let is_next = there.keys.number() == held.keys.number().saturating_add(1);
        if !is_next || !there.keys.follow_from(&held.keys) {
            return Err(
                other("keys that do not follow from this wallet's").with_next("Give another --new-wallet.")
            );
        }
        file
    } else {
        let secret = new_passphrase(secret_file, "Passphrase for the new wallet: ")?;
        let wallet = held.with_keys(held.keys.renewed(now(), &mut OsRandom)?);
        WalletFile::create(path, &secret, &wallet, KdfParams::default(), &mut OsRandom)?
    };
    old.replaced(Code::KeyRecordOutdated)?;
    tell(&Session { output, file }, path, &options.way, "handover/patient-renew/1")
}

/// A new device takes the place of a lost one, by the recovery key's word.
pub(crate) fn recover(common: &Common, options: &args::Recover, output: Output) -> Result<(), CliError> {
    let path = wallet_path(common)?;
    let recovery = Recovery::read(&Zeroizing::new(read_text(&options.recovery_file)?))?;
    let file = if path.exists() {
        let session = Session::open(common)?;
        let there = session.file.read()?;
        check_root(&there, &options.root)?;
        if there.keys.patient() != recovery.chain.patient() || !there.keys.is_recovered() {
            return Err(other("keys that were not recovered with this recovery key")
                .with_next("Give another --wallet: the recovered one is a new file."));
        }
        session.file
    } else {
        let secret = new_passphrase(common.passphrase_file.as_deref(), "Passphrase for the new wallet: ")?;
        let keys = PatientKeys::recovered(&recovery.chain, &recovery.key, now(), &mut OsRandom)?;
        let wallet = Wallet::new(keys, options.root);
        WalletFile::create(path, &secret, &wallet, KdfParams::default(), &mut OsRandom)?
    };
    tell(&Session { output, file }, path, &options.way, "handover/patient-recover/1")
}

/// Tells a hospital of a wallet's keys, if one is named; any that the patient is linked to will do. The same command
/// again tells it again.
fn tell(session: &Session, path: &Path, way: &Way, schema: &str) -> Result<(), CliError> {
    let keys = session.file.read()?.keys;
    let (patient, number) = (keys.patient(), keys.number());
    let is_named = way.node.node.is_some() || way.out.is_some();
    let files = if is_named {
        let sent = session.channel(way).and_then(|channel| channel.send(&[("", &keys.message())]));
        session.heed(sent).map_err(|fault| {
            let next = format!(
                "The new wallet is {}: give the same command again to tell the hospital.",
                path.display()
            );
            if fault.code == Code::KeyRecordOutdated { fault } else { fault.with_next(next) }
        })?
    } else {
        session.output.note(
            "No hospital was told yet. Give the same command with --node URL: the old keys hold until then.",
        );
        Vec::new()
    };
    let is_told = way.node.node.is_some();
    let data =
        json!({ "patient": patient, "key_record": number, "wallet": path, "told": is_told, "files": files });
    session.output.emit(schema, &data, |out| {
        writeln!(out, "Patient: {patient}")?;
        writeln!(out, "Key record {number}, in {}", path.display())?;
        if is_told {
            writeln!(
                out,
                "The hospital knows; it tells the index and every other hospital that you are linked to."
            )?;
        }
        line_of_files(out, &files)
    })
}
