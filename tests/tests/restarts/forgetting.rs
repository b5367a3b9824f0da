//! A patient who was moved is forgotten where they came from: not before the transfer is over, then all of it, while
//! the other hospital keeps what it received; and the keys of transfers are forgotten too.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::world::World;

use crate::moves::{DESTINATION, Move, SOURCE, same, text};

pub(crate) fn leaves_nothing(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    let it = &*it;
    it.request(world)?;
    it.quoted(world)?;
    let forget = || world.node(SOURCE, &["patient", "forget", &it.patient]);
    let refused = forget()?;
    let said = &refused.stderr;
    ensure!(refused.exit == Some(1) && said.contains("transfer-open"), "forgotten in a transfer: {said}");
    it.wallet(world, "consent", &[])?.done()?;
    it.ends_well(world)?;

    let sent = it.records(world, SOURCE)?;
    let gone = forget()?.json()?;
    same("records that were forgotten", &Some(sent.len() as u64), &gone["records"].as_u64())?;
    same("records that are left", &0, &it.records(world, SOURCE)?.len())?;
    let shown = it.show(world, SOURCE)?;
    same("the state of the transfer", &"filed", &text(&shown, "state"))?;
    ensure!(shown["departments"].is_null(), "what was moved is still told: {shown}");
    let file = world.records_folder().join("forgotten.handover");
    let file = file.to_str().context("a file's name is no UTF-8")?;
    world.node(SOURCE, &["transfer", "show", &it.transfer, "--out", file])?.done()?;
    world.node(SOURCE, &["verify", file])?.done().context("the artefacts stay, whole")?;
    let again = world.wallet_at(&it.wallet, DESTINATION, &["ask", "--source", SOURCE])?.json()?;
    let again = text(&again, "transfer").to_owned();
    world.node(DESTINATION, &["transfer", "request", &again])?.done()?;
    let over = ["transfer", "show", &again, "--wait", "60", "--until", "filed"];
    let over = world.node(DESTINATION, &over)?.json()?;
    same("a transfer of a forgotten patient", &"refused", &text(&over, "state"))?;

    let listed = world.node(DESTINATION, &["epoch", "list"])?.json()?;
    ensure!(
        listed["forgotten"]["request-key"].as_u64() > Some(0),
        "no request's key was forgotten: {listed}"
    );
    for at in [SOURCE, DESTINATION] {
        let rotated = world.node(at, &["epoch", "rotate"])?.json()?;
        ensure!(rotated["epoch"] == 2, "{rotated}");
        let listed = world.node(at, &["epoch", "list"])?.json()?;
        ensure!(listed["rotation_due"] == false, "{listed}");
    }
    // With the Provenance.
    same("records at the other hospital", &(sent.len() + 1), &it.records(world, DESTINATION)?.len())
}
