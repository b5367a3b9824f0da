//! Who is not certified, not one person, or not a member, gets nothing, and hears why.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::json;
use handover_scenarios::story::Order;
use handover_scenarios::world::World;

use super::people::{
    ADA_BY_NAME, TWINS, audit, certify, clinician, new_key, open, opened, person, refused, shown, signed,
};
use super::{NEW, OLD, OTHER};

pub(crate) fn all(world: &mut World) -> Result<()> {
    clinicians(world)?;
    people(world)
}

/// Keys that count for nothing: never certified, withdrawn, of another hospital, with another passphrase.
fn clinicians(world: &World) -> Result<()> {
    let at = ["--at", OLD];
    let public = new_key(world, NEW, "nobody")?;
    refused(&open(world, "nobody", &ADA_BY_NAME, &at)?, "clinician-unknown")?;
    let number = certify(world, NEW, &public, "Dr. Nobody", "1")?;
    let again = certify(world, NEW, &public, "Dr. Nobody", "1")?;
    ensure!(number == again, "the same again is another certificate");
    let other = ["clinician", "certify", "--public-key", &public, "--name", "Dr. Else", "--role", "surgeon"];
    refused(&world.node(NEW, &other)?, "conflict")?;
    let id = opened(world, "nobody", &ADA_BY_NAME, &at)?;
    let number = number.to_string();
    world.node(NEW, &["clinician", "withdraw", &number])?.done()?;
    world.node(NEW, &["clinician", "withdraw", &number])?.done()?;
    // Nothing any more: neither asked, nor read, nor signed as the second.
    refused(&open(world, "nobody", &ADA_BY_NAME, &at)?, "clinician-unknown")?;
    refused(&signed(world, NEW, "nobody", &["read", &id])?, "clinician-unknown")?;
    refused(&signed(world, NEW, "nobody", &["more", &id])?, "clinician-unknown")?;
    clinician(world, OLD, "foreign")?;
    refused(&signed(world, NEW, "foreign", &["read", &id])?, "clinician-unknown")?;
    refused(&world.node(NEW, &["clinician", "withdraw", "99"])?, "clinician-unknown")?;
    world
        .node(NEW, &["--staff", "officer", "break-glass", "review", &id, "--verdict", "justified"])?
        .done()?;
    let [key, _] = super::people::key(world, "mira")?;
    let [_, wrong] = super::people::key(world, "noor")?;
    let words = ["break-glass", "read", &id, "--key", &key, "--clinician-passphrase-file", &wrong];
    refused(&world.node(NEW, &words)?, "key-unavailable")
}

/// Nobody, several and one detail wrong are refused alike, and count.
fn people(world: &World) -> Result<()> {
    let at = ["--at", OLD];
    let nobody = person("Quill-Reed", "Ada", "1980-02-28");
    let wrong_sex = [&ADA_BY_NAME[..], &["--sex", "male"]].concat();
    let twins = person("Marsh", "Eva", "1991-07-04");
    let mut ids = Vec::new();
    for whom in [&nobody[..], &twins[..], &wrong_sex[..]] {
        let answer = open(world, "mira", whom, &at)?;
        refused(&answer, "break-glass-unmatched")?;
        let shown: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
        let glass = shown["break_glasses"][0].clone();
        ensure!(glass["state"] == "refused" && glass["scope"].is_null(), "{glass}");
        ids.push(json::text(&glass, "break_glass").to_owned());
    }
    // Neither side says more of one than of another.
    for id in &ids {
        let there = shown(world, OLD, id)?;
        ensure!(there["local_patient"].is_null() && there["review_due"].is_null(), "{there}");
        ensure!(audit(&there).iter().any(|it| it == "hospital riverside break-glass"), "{there}");
        refused(&signed(world, NEW, "mira", &["read", id])?, "out-of-order")?;
        refused(&signed(world, NEW, "noor", &["more", id])?, "out-of-order")?;
    }
    // With one thing more, one of two is found.
    let one = [&twins[..], &["--record-number", TWINS[1]]].concat();
    let id = opened(world, "noor", &one, &at)?;
    ensure!(shown(world, OLD, &id)?["local_patient"] == TWINS[1], "another one was found");
    world
        .node(NEW, &["--staff", "officer", "break-glass", "review", &id, "--verdict", "justified"])?
        .done()?;
    // A hospital does not ask itself, and a name needs a hospital.
    refused(&open(world, "mira", &ADA_BY_NAME, &["--at", NEW])?, "usage-invalid")?;
    ensure!(
        open(world, "mira", &ADA_BY_NAME, &[])?.exit == Some(2),
        "a name without a hospital was asked for"
    );
    // Two more wrong guesses, and the hour is full: of right ones, too.
    for _ in 0..2 {
        refused(&open(world, "noor", &nobody, &at)?, "break-glass-unmatched")?;
    }
    let answer = open(world, "noor", &ADA_BY_NAME, &at)?;
    refused(&answer, "break-glass-throttled")?;
    let waits: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    ensure!(waits["break_glasses"][0]["state"] == "waiting", "it is dropped: {waits}");
    Ok(())
}

/// A suspended hospital gives nothing and gets nothing, though both know each other's keys.
pub(crate) fn suspended(world: &mut World) -> Result<()> {
    clinician(world, OTHER, "olaf")?;
    let given = |world: &World| {
        let [key, secret] = super::people::key(world, "olaf")?;
        let mut words = vec!["break-glass", "open", "--reason", "r", "--at", OLD, "--key", &key];
        words.extend(ADA_BY_NAME);
        words.extend(["--clinician-passphrase-file", &secret]);
        world.node(OTHER, &words)
    };
    let first = given(world)?.json()?;
    let id = first["break_glasses"][0]["break_glass"].as_str().context("no identifier")?.to_owned();
    world.order(OTHER, Order::Suspend)?;
    super::people::within("it is known to be suspended", || {
        Ok(open(world, "mira", &ADA_BY_NAME, &["--at", OTHER])?.problem().as_deref()
            == Some("hospital-suspended"))
    })?;
    // The review of this one stays with the officer: one hospital that is out keeps nobody from asking the others.
    let both = format!("{OTHER},{OLD}");
    let answer = open(world, "mira", &ADA_BY_NAME, &["--at", &both])?;
    let asked: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    ensure!(asked["not_asked"][0]["hospital"] == OTHER, "it is not said who is not asked: {asked}");
    ensure!(asked["break_glasses"].as_array().is_some_and(|all| all.len() == 1), "{asked}");
    super::people::within("it gets nothing any more", || {
        let answer = given(world)?;
        Ok(answer.exit != Some(0))
    })?;
    ensure!(shown(world, OLD, &id)?["hospital"] == OTHER, "the evidence is gone");
    Ok(())
}
