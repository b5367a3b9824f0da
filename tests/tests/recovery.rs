//! A patient's devices come and go, on real processes: a stolen phone is shut out everywhere within seconds, and
//! everything else stays the patient's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use handover_scenarios::process::Answer;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::{Options, World};
use handover_scenarios::{generator, json};

const OLD: &str = "lakeside";
const NEW: &str = "riverside";
const OUTDATED: &str = "key-record-outdated";
const FORKED: &str = "key-record-forked";
/// How long what one hospital was told may take to the others.
const REACHES_ALL: Duration = Duration::from_secs(20);

/// A patient at both hospitals, with records at the old one, and a wallet.
fn start(wallet: &str) -> Result<World> {
    let world = World::start(Programs::shared()?, &Options::of(&[OLD, NEW]))?;
    let records = world.records_folder().join("patient.json");
    let written =
        generator::write_patient(71, &generator::Options::default(), &mut std::fs::File::create(&records)?)?;
    world.node(OLD, &["import", records.to_str().context("UTF-8")?])?.done()?;
    world.new_wallet(wallet)?;
    for (hospital, patient) in [(OLD, written.id.as_str()), (NEW, "the same person")] {
        let registered = world.node(hospital, &["patient", "register", patient])?.json()?;
        let code = json::text(&registered, "link_code");
        world.wallet_at(wallet, hospital, &["link", "--code", code])?.done()?;
    }
    Ok(world)
}

fn quoted(world: &World, wallet: &str) -> Result<String> {
    let asked = world.wallet_at(wallet, NEW, &["ask", "--source", OLD])?.json()?;
    let transfer = json::text(&asked, "transfer").to_owned();
    world.node(NEW, &["transfer", "request", &transfer])?.done()?;
    world
        .wallet_at(wallet, NEW, &["inbox", "--transfer", &transfer, "--until", "quoted", "--wait", "60"])?
        .done()?;
    Ok(transfer)
}

fn filed(world: &World, wallet: &str, transfer: &str) -> Result<()> {
    world.wallet_at(wallet, NEW, &["consent", "--transfer", transfer])?.done()?;
    let until = ["inbox", "--transfer", transfer, "--until", "filed", "--wait", "60"];
    world.wallet_at(wallet, NEW, &until)?.done()
}

/// The command is refused by name, as soon as it is known where it is given.
fn refused_soon(code: &str, command: impl Fn() -> Result<Answer>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = command()?;
        if answer.problem().as_deref() == Some(code) {
            return Ok(());
        }
        if begun.elapsed() > REACHES_ALL {
            bail!("not refused as {code}: {} {}", answer.command, answer.stderr);
        }
    }
}

/// Locate is answered by the index alone.
fn shut_out(world: &World, wallet: &str, code: &str) -> Result<()> {
    for hospital in [OLD, NEW] {
        refused_soon(code, || world.wallet_at(wallet, hospital, &["locate"]))?;
        refused_soon(code, || world.wallet_at(wallet, hospital, &["inbox"]))?;
    }
    let ask = world.wallet_at(wallet, NEW, &["ask", "--source", OLD])?;
    ensure!(ask.problem().as_deref() == Some(code), "an ask is taken: {}", ask.stderr);
    let shown = world.wallet(wallet, &["show"])?.json()?;
    ensure!(json::text(&shown, "replaced") == code, "the wallet does not say that it was replaced: {shown}");
    Ok(())
}

fn recover(world: &World, wallet: &str, lost: &str, at: &str) -> Result<()> {
    let recovery = world.folder().join("wallets").join(format!("{lost}.recovery"));
    let recovery = recovery.to_str().context("UTF-8")?;
    let words = ["recover", "--root", world.root(), "--recovery-file", recovery];
    let first = world.wallet_at(wallet, at, &words)?.json()?;
    // Again: nothing else comes of it.
    ensure!(world.wallet_at(wallet, at, &words)?.json()? == first, "recovering again is something else");
    ensure!(json::at(&first, "told") == true && json::at(&first, "key_record") == 2, "{first}");
    // Never over a wallet that was not recovered.
    let over = world.wallet_at(lost, at, &words)?;
    ensure!(over.problem().as_deref() == Some("conflict"), "{}", over.stderr);
    Ok(())
}

#[test]
fn a_patient_who_lost_the_phone_recovers_and_the_thief_is_shut_out() -> Result<()> {
    let mut world = start("phone")?;
    // The thief has the phone and its passphrase, sees a quote, and lets a device of his own follow.
    let pending = quoted(&world, "phone")?;
    ensure!(world.wallet("thief", &["show"])?.exit != Some(0), "there is no such wallet yet");
    let (thief, secret) = (world.wallet_path("thief"), world.folder().join("secrets/thief"));
    let (thief, secret) = (thief.to_str().context("UTF-8")?, secret.to_str().context("UTF-8")?);
    let renew = ["renew", "--new-wallet", thief, "--new-passphrase-file", secret];
    world.wallet_at("phone", NEW, &renew)?.done()?;
    ensure!(world.wallet_at("phone", NEW, &renew)?.json()?["key_record"] == 2, "renewing again fails");
    shut_out(&world, "phone", OUTDATED)?;
    world.wallet_at("thief", NEW, &["inbox"])?.done()?;
    world.wallet_at("thief", OLD, &["locate"])?.done()?;

    // The patient has nothing but the recovery text, and goes to the old hospital.
    recover(&world, "tablet", "phone", OLD)?;
    shut_out(&world, "thief", FORKED)?;
    shut_out(&world, "phone", OUTDATED)?;
    let yes = world.wallet_at("phone", NEW, &["consent", "--transfer", &pending])?;
    ensure!(yes.exit == Some(1), "the thief consents: {}", yes.stderr);

    // Links and references hold; what was known of hospitals and index survives their restart.
    let located = world.wallet_at("tablet", NEW, &["locate"])?.json()?;
    ensure!(json::list(&located, "hospitals").count() == 2, "the links are gone: {located}");
    world.restart(NEW)?;
    world.restart_index(true)?;
    shut_out(&world, "thief", FORKED)?;
    let transfer = quoted(&world, "tablet")?;
    filed(&world, "tablet", &transfer)?;
    let file = world.folder().join("transfer.handover");
    let file = file.to_str().context("UTF-8")?;
    world.node(NEW, &["transfer", "show", &transfer, "--out", file])?.done()?;
    world.verify(file.as_ref())?.done()?;

    // The tablet is stolen, too: the same text recovers again.
    recover(&world, "laptop", "phone", NEW)?;
    shut_out(&world, "tablet", FORKED)?;
    world.wallet_at("laptop", OLD, &["locate"])?.done()
}

#[test]
fn what_was_consented_to_goes_on_under_the_next_device() -> Result<()> {
    let world = start("old")?;
    let transfer = quoted(&world, "old")?;
    world.wallet_at("old", NEW, &["consent", "--transfer", &transfer])?.done()?;
    ensure!(world.wallet("new", &["show"])?.exit != Some(0), "there is no such wallet yet");
    let (new, secret) = (world.wallet_path("new"), world.folder().join("secrets/new"));
    let (new, secret) = (new.to_str().context("UTF-8")?, secret.to_str().context("UTF-8")?);
    let keys = world.folder().join("new.keys");
    let keys = keys.to_str().context("UTF-8")?;
    // Carried to the desk in a file.
    let renew = ["renew", "--new-wallet", new, "--new-passphrase-file", secret, "--out", keys];
    world.wallet("old", &renew)?.done()?;
    let taken = world.node(OLD, &["patient", "take", "--file", keys])?.json()?;
    ensure!(taken["kind"] == "handover/key-records/1", "{taken}");
    shut_out(&world, "old", OUTDATED)?;
    let until = ["inbox", "--transfer", &transfer, "--until", "filed", "--wait", "60"];
    let seen = world.wallet_at("new", NEW, &until)?.json()?;
    ensure!(seen["transfers"][0]["phase"] == "filed", "{seen}");
    let shown = world.wallet("new", &["show"])?.json()?;
    ensure!(shown["transfers"][0]["released"] == true && shown["key_record"] == 2, "{shown}");
    Ok(())
}
