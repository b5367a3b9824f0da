//! What was sealed is lost at one end: at the source before it was delivered, or at the destination before it was
//! filed, with the package or with the key that opens it. The transfer goes on with the next attempt, under the same
//! consent and for one fee.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use handover_core::TransferId;
use handover_node::Config;
use handover_node::keys::Secrets;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_store::{Keyring, Store, StoreError};
use serde_json::Value;

use crate::damage::flip;
use crate::moves::{DESTINATION, Move, SOURCE, all_is_whole, close, patients, same, within};

/// Bytes of the scan that travels beside each manifest, so that a package has two parts.
const SCAN_BYTES: usize = 200_000;

#[test]
fn what_is_lost_before_it_is_filed_is_sealed_again() -> Result<()> {
    // A package that is left for who is away would not be missed at its source.
    let options = Options {
        index_more: "[folders]\nenabled = false\n".to_owned(),
        ..Options::of(&[SOURCE, DESTINATION])
    };
    let mut world = World::start(Programs::shared()?, &options)?;
    let outcome = play(&mut world);
    close(world, outcome)
}

fn play(world: &mut World) -> Result<()> {
    let mut moves = patients(world, &[SCAN_BYTES; 5])?;
    if let [gone, altered, damaged, keyless, doubted] = moves.as_mut_slice() {
        spooled_manifest(world, gone, |manifest| Ok(fs::remove_file(manifest)?))
            .context("a manifest gone")?;
        spooled_manifest(world, altered, |manifest| flip(manifest)).context("a manifest altered")?;
        received_package(world, damaged).context("a received package altered")?;
        request_key(world, keyless).context("a request key gone")?;
        clerk(world, doubted).context("a clerk who asks")?;
    }
    all_is_whole(world)
}

/// The blobs of a hospital.
fn blobs(world: &World, hospital: &str) -> Result<BTreeSet<PathBuf>> {
    let content = world.folder().join("hospitals").join(hospital).join("data/blobs/content");
    let mut blobs = BTreeSet::new();
    for fan in fs::read_dir(content)? {
        for blob in fs::read_dir(fan?.path())? {
            blobs.insert(blob?.path());
        }
    }
    Ok(blobs)
}

/// The smallest of the blobs that are new: the manifest, beside which a scan travels.
fn new_manifest(world: &World, hospital: &str, before: &BTreeSet<PathBuf>) -> Result<PathBuf> {
    let mut new = Vec::new();
    for blob in blobs(world, hospital)?.difference(before) {
        new.push((fs::metadata(blob)?.len(), blob.clone()));
    }
    Ok(new.into_iter().min().context("no manifest")?.1)
}

fn asked(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    it.request(world)?;
    it.quoted(world)
}

/// How it must have ended: filed in this attempt, once, and everything about it verifies.
fn ended(world: &World, it: &Move, attempt: u64) -> Result<()> {
    it.ends_well(world)?;
    for at in [SOURCE, DESTINATION] {
        let shown = it.show(world, at)?;
        same(&format!("the attempt at {at}"), &Some(attempt), &shown["attempt"].as_u64())?;
        same("what the patient still has to do", &Some(false), &shown["awaits_release"].as_bool())?;
        let file = world.records_folder().join(format!("{}-{at}.handover", it.transfer));
        let file = file.to_str().context("a file's name is no UTF-8")?;
        world.node(at, &["transfer", "show", &it.transfer, "--out", file])?.done()?;
        let verified = world.node(at, &["verify", file])?.json()?;
        same("the attempt that verifies", &Some(attempt), &verified["attempt"].as_u64())?;
        ensure!(verified["filed"].is_string(), "not filed by its file: {verified}");
    }
    let late = world.node(DESTINATION, &["transfer", "again", &it.transfer])?;
    same("asking again for what is filed", &Some("out-of-order".to_owned()), &late.problem())
}

/// The source's spool is damaged between sealing and delivery, while the destination is away.
fn spooled_manifest(world: &mut World, it: &mut Move, harm: fn(&PathBuf) -> Result<()>) -> Result<()> {
    asked(world, it)?;
    let before = blobs(world, SOURCE)?;
    world.stop(DESTINATION)?;
    world.wallet_at(&it.wallet, SOURCE, &["consent", "--transfer", &it.transfer])?.done()?;
    it.until(world, SOURCE, "sealed")?;
    let manifest = new_manifest(world, SOURCE, &before)?;
    harm(&manifest)?;
    world.restart(DESTINATION)?;
    // What the patient released holds on: nobody has to do anything.
    ended(world, it, 2)?;
    ensure!(!manifest.exists(), "the first manifest is left");
    Ok(())
}

/// Up to the delivery; the patient keeps their release back, so nothing is opened yet.
fn delivered(world: &World, it: &mut Move) -> Result<()> {
    asked(world, it)?;
    it.wallet(world, "consent", &["--no-release"])?.done()?;
    let shown = it.until(world, DESTINATION, "delivered")?;
    same("what the patient has to do", &Some(true), &shown["awaits_release"].as_bool())
}

/// Manifest and scan are altered where they arrived.
fn received_package(world: &mut World, it: &mut Move) -> Result<()> {
    let before = blobs(world, DESTINATION)?;
    delivered(world, it)?;
    world.stop(DESTINATION)?;
    for blob in blobs(world, DESTINATION)?.difference(&before) {
        flip(blob)?;
    }
    world.restart(DESTINATION)?;
    it.wallet(world, "release", &[])?.done()?;
    // The key that they released to is still here.
    ended(world, it, 2)
}

/// Removes the request's secret key from the destination's store, as a disk might.
fn lose_request_key(world: &World, transfer: &str) -> Result<()> {
    let folder = world.folder().join("hospitals").join(DESTINATION);
    let config = Config::load(&folder.join("node.toml"))?;
    let passphrase = fs::read_to_string(world.folder().join("secrets").join(DESTINATION))?;
    let secrets = Secrets::load(&config.keys_file(), passphrase.trim_end())?;
    let transfer: TransferId = transfer.parse()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let store = Store::sled(&config.data.join("store"), &secrets.cell_key())?;
        let now = handover_core::Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
        let keyring = Keyring::open(store.clone(), &config.epoch_keys, &secrets.hospital_key(), now).await?;
        let removed = store.write(move |txn| -> Result<bool, StoreError> {
            keyring.remove(txn, "request-key", transfer.as_bytes())
        });
        ensure!(removed.await?, "there was no request key");
        Ok(())
    })
}

fn attempt(world: &World, it: &Move, at: &str, attempt: u64) -> Result<Value> {
    let mut shown = Value::Null;
    within(&format!("attempt {attempt} at {at}"), || {
        shown = it.show(world, at)?;
        Ok(shown["attempt"].as_u64() == Some(attempt))
    })?;
    Ok(shown)
}

/// The patient is told, and releases again.
fn release_again(world: &World, it: &Move, attempt: u64) -> Result<()> {
    let inbox = it.wallet(world, "inbox", &["--wait", "60"])?.json()?;
    let told = &inbox["transfers"][0];
    same("what needs an answer", &Some(true), &told["needs_answer"].as_bool())?;
    same("the attempt that is asked for", &Some(attempt), &told["asked_again"].as_u64())?;
    let shown = world.wallet(&it.wallet, &["show", "--transfer", &it.transfer])?.json()?;
    same("what the wallet has released", &Some(false), &shown["transfers"][0]["released"].as_bool())?;
    it.wallet(world, "release", &[])?.done()?;
    it.wallet(world, "release", &[])?.done()
}

fn request_key(world: &mut World, it: &mut Move) -> Result<()> {
    delivered(world, it)?;
    world.stop(DESTINATION)?;
    lose_request_key(world, &it.transfer)?;
    world.restart(DESTINATION)?;
    let shown = attempt(world, it, DESTINATION, 2)?;
    same("what the patient has to do", &Some(true), &shown["awaits_release"].as_bool())?;
    // A wallet that has not heard of it releases to the key that is lost: it opens nothing.
    let file = world.records_folder().join("to-the-lost-key.release");
    let file = file.to_str().context("a file's name is no UTF-8")?;
    world.wallet(&it.wallet, &["release", "--transfer", &it.transfer, "--out", file])?.done()?;
    world.node(DESTINATION, &["patient", "take", "--file", file])?.done()?;
    it.until(world, DESTINATION, "released")?;
    let shown = it.show(world, DESTINATION)?;
    same("what the patient has to do", &Some(true), &shown["awaits_release"].as_bool())?;
    release_again(world, it, 2)?;
    ended(world, it, 2)
}

fn clerk(world: &mut World, it: &mut Move) -> Result<()> {
    let again = |it: &Move, at: &str, more: &[&str]| {
        world.node(at, &[&["transfer", "again", it.transfer.as_str()], more].concat())
    };
    asked(world, it)?;
    let early = again(it, DESTINATION, &[])?;
    same("asking again for what is not sealed", &Some("out-of-order".to_owned()), &early.problem())?;
    it.wallet(world, "consent", &["--no-release"])?.done()?;
    it.until(world, DESTINATION, "delivered")?;
    for _ in 0..3 {
        let shown = again(it, DESTINATION, &["--attempt", "2"])?.json()?;
        same("the attempt", &Some(2), &shown["attempt"].as_u64())?;
        same("what the patient has to do", &Some(true), &shown["awaits_release"].as_bool())?;
    }
    let skipped = again(it, DESTINATION, &["--attempt", "4"])?;
    same("an attempt that is skipped", &Some("out-of-order".to_owned()), &skipped.problem())?;
    let elsewhere = again(it, SOURCE, &["--attempt", "3"])?;
    same("asking again at the source", &Some("access-denied".to_owned()), &elsewhere.problem())?;
    let is_delivered = |attempt: u64| {
        within(&format!("attempt {attempt} is delivered"), || {
            let shown = it.show(world, DESTINATION)?;
            Ok(shown["attempt"].as_u64() == Some(attempt) && shown["state"] == "delivered")
        })
    };
    for attempt in 3..=5 {
        is_delivered(attempt - 1)?;
        again(it, DESTINATION, &["--attempt", &attempt.to_string()])?.done()?;
    }
    is_delivered(5)?;
    let sixth = again(it, DESTINATION, &[])?;
    same("a sixth attempt", &Some("attempts-exhausted".to_owned()), &sixth.problem())?;
    release_again(world, it, 5)?;
    ended(world, it, 5)
}
