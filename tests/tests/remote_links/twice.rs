//! The same patient linked twice: each has a way through, and each needs a clerk.

use anyhow::{Result, ensure};
use handover_scenarios::json;
use handover_scenarios::world::World;

use super::{NEW, OLD, ask_link, confirmed, filed, link, link_by_letter, moved, records, refused, register};

pub(crate) fn all(world: &mut World) -> Result<()> {
    two_numbers(world)?;
    a_lost_wallet(world)?;
    two_wallets(world)
}

/// One person has two numbers at the old hospital.
fn two_numbers(world: &World) -> Result<()> {
    let (first, of_first) = records(world, OLD, 21)?;
    let (second, of_second) = records(world, OLD, 22)?;
    let wallet = world.new_wallet("cleo")?;
    let wallet = json::text(&wallet, "patient").to_owned();
    link(world, "cleo", NEW, "R-3")?;
    link(world, "cleo", OLD, &first)?;
    moved(world, "cleo", OLD)?;

    // The second number: the wallet is told what to do, in person and by letter, and the code stays good.
    let code = register(world, OLD, &second)?;
    let other = world.wallet_at("cleo", OLD, &["link", "--code", &code])?;
    refused(&other, "linked-otherwise")?;
    let asked = ask_link(world, "cleo", &second)?;
    let id = json::text(&asked, "remote_link").to_owned();
    world.node(NEW, &["link-remote", "vouch", &id])?.done()?;
    ensure!(ask_link(world, "cleo", &second)?["state"] == "asked", "it is not at the old hospital's desk");
    let confirm = world.node(OLD, &["link-remote", "confirm", &id, "--patient", &second])?;
    refused(&confirm, "linked-otherwise")?;
    world.node(OLD, &["link-remote", "refuse", &id, "--reason", "linked-otherwise"])?.done()?;
    let no = ask_link(world, "cleo", &second)?;
    ensure!(no["state"] == "refused" && no["reason"] == "linked-otherwise", "{no}");

    // A second wallet for the second number: both charts come together at the new hospital.
    world.new_wallet("cleo-2")?;
    world.wallet_at("cleo-2", OLD, &["link", "--code", &code])?.done()?;
    link(world, "cleo-2", NEW, "R-3")?;
    moved(world, "cleo-2", OLD)?;
    let both = &of_first | &of_second;
    ensure!(filed(world, "R-3", OLD)? == both, "not all records of both numbers came");

    // Or a clerk takes the older link away, and the same wallet goes on.
    let unlink = ["patient", "unlink", &first, "--wallet", &wallet];
    refused(&world.node(OLD, &["patient", "unlink", &second, "--wallet", &wallet])?, "linked-otherwise")?;
    ensure!(world.node(OLD, &unlink)?.json()?["was_linked"] == true, "there was no link");
    ensure!(world.node(OLD, &unlink)?.json()?["was_linked"] == false, "the link is still there");
    link(world, "cleo", OLD, &second)?;
    moved(world, "cleo", OLD)?;
    ensure!(filed(world, "R-3", OLD)? == both, "something else came");
    Ok(())
}

/// A wallet is lost without its recovery file: a second one takes its place, and the first is shut out by a clerk.
fn a_lost_wallet(world: &World) -> Result<()> {
    let (number, _) = records(world, OLD, 23)?;
    let lost = world.new_wallet("dora-lost")?;
    let lost = json::text(&lost, "patient").to_owned();
    world.new_wallet("dora")?;
    let code = link(world, "dora-lost", OLD, &number)?;
    link(world, "dora", OLD, &number)?;
    for wallet in ["dora-lost", "dora"] {
        link(world, wallet, NEW, "R-4")?;
    }
    let asked = world.wallet_at("dora-lost", NEW, &["ask", "--source", OLD])?.json()?;
    let transfer = json::text(&asked, "transfer");
    world.node(NEW, &["transfer", "request", transfer])?.done()?;
    let until = ["inbox", "--transfer", transfer, "--until", "quoted", "--wait", "60"];
    world.wallet_at("dora-lost", NEW, &until)?.done()?;
    let unlink = ["patient", "unlink", &number, "--wallet", &lost];
    refused(&world.node(OLD, &unlink)?, "transfer-open")?;
    world.wallet_at("dora-lost", NEW, &["refuse", "--transfer", transfer])?.done()?;
    super::within("the old hospital hears of the no", || Ok(world.node(OLD, &unlink)?.exit == Some(0)))?;
    let wallets = world.node(OLD, &["patient", "wallets", &number])?.json()?;
    ensure!(json::list(&wallets, "wallets").count() == 1, "{wallets}");
    refused(&world.wallet_at("dora-lost", OLD, &["inbox"])?, "not-linked")?;
    // Nor does the link that the hospital signed before bring it back.
    let again = world.wallet_at("dora-lost", OLD, &["link", "--code", &code])?;
    refused(&again, "link-code-wrong")?;
    moved(world, "dora", OLD)
}

/// One person, a wallet at each hospital: the one at hand is linked to the old number, too.
fn two_wallets(world: &World) -> Result<()> {
    let (number, at_old) = records(world, OLD, 24)?;
    world.new_wallet("eli-old")?;
    link(world, "eli-old", OLD, &number)?;
    world.new_wallet("eli")?;
    link(world, "eli", NEW, "R-5")?;
    let (_, code) = confirmed(world, "eli", &number)?;
    link_by_letter(world, "eli", &code)?.done()?;
    let wallets = world.node(OLD, &["patient", "wallets", &number])?.json()?;
    ensure!(json::list(&wallets, "wallets").count() == 2, "{wallets}");
    moved(world, "eli", OLD)?;
    ensure!(filed(world, "R-5", OLD)? == at_old, "not all records came");
    Ok(())
}
