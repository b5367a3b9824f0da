//! The same command again: the first answer, and nothing changes.

use anyhow::{Context as _, Result, ensure};
use handover_scenarios::process::Answer;
use handover_scenarios::world::World;
use serde_json::Value;

use crate::moves::{DESTINATION, Move, SOURCE, same, text};

/// An answer without what tells that it was repeated.
fn told(mut answer: Value) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("repeated");
    }
    answer
}

/// Everything that could have changed.
fn everything(world: &World, it: &Move) -> Result<Vec<Value>> {
    let mut all = vec![it.show(world, SOURCE)?, it.show(world, DESTINATION)?];
    all.extend(world.entries(&it.transfer)?);
    all.extend(it.records(world, SOURCE)?);
    all.extend(it.records(world, DESTINATION)?);
    Ok(all)
}

/// Runs a step twice; the first answer.
fn twice(what: &str, step: impl Fn() -> Result<Value>) -> Result<Value> {
    let first = told(step().with_context(|| format!("{what}, first"))?);
    let again = told(step().with_context(|| format!("{what}, again"))?);
    same(&format!("the answer to {what}, given again"), &first, &again)?;
    Ok(first)
}

/// A step whose identity stands for other content is refused, and what differs is named.
fn differs(answer: &Answer, what: &str) -> Result<()> {
    same("the code of a step repeated otherwise", &Some("conflict".to_owned()), &answer.problem())?;
    ensure!(answer.stderr.contains(what), "{what:?} is not named: {}", answer.stderr);
    Ok(())
}

pub(crate) fn change_nothing(world: &World, it: &mut Move) -> Result<()> {
    let file = it.file.to_str().context("a file's name is no UTF-8")?.to_owned();
    let import = || world.node(SOURCE, &["import", &file])?.json();
    let imported = twice("import", import)?;
    same("records that an import given again brings", &Some(0), &imported["records"]["new"].as_u64())?;
    for hospital in [SOURCE, DESTINATION] {
        let register = |patient: &str| {
            world.node(hospital, &["patient", "register", patient, "--request-id", "first visit"])
        };
        let registered = twice("register", || register(&it.patient)?.json())?;
        differs(&register("somebody else")?, "another patient")?;
        let code = text(&registered, "link_code");
        twice("link", || world.wallet_at(&it.wallet, hospital, &["link", "--code", code])?.json())?;
        same("the answer to register, after the link", &registered, &register(&it.patient)?.json()?)?;
    }

    it.ask(world)?;
    let it = &*it;
    let at_the_desk =
        || Ok::<_, anyhow::Error>(world.node(DESTINATION, &["status"])?.json()?["asks"].as_u64());
    same("asks that wait for the desk", &Some(1), &at_the_desk()?)?;
    let ask = |source: &str| {
        let args = ["ask", "--source", source, "--request-id", &it.transfer];
        world.wallet_at(&it.wallet, DESTINATION, &args)
    };
    twice("ask", || ask(SOURCE)?.json())?;
    ensure!(ask(DESTINATION)?.exit != Some(0), "a transfer's identifier was taken for other hospitals");
    let first = it.request(world)?;
    same("asks that wait for the desk, which has asked", &Some(0), &at_the_desk()?)?;
    let again = it.request(world)?;
    same("when the request was made", &first["created"], &again["created"])?;
    let scope = ["--departments", "laboratory", "--until", "2020-01-01"];
    let other = world.node(DESTINATION, &[&["transfer", "request", &it.transfer], &scope[..]].concat())?;
    differs(&other, "departments (asked for: all), until (asked for: no limit)")?;
    it.quoted(world)?;
    twice("consent", || it.wallet(world, "consent", &["--no-release"])?.json())?;
    let other = it.wallet(world, "consent", &["--no-release", "--max-fee", "1000000.00 USD"])?;
    differs(&other, "the highest fee")?;
    it.until(world, DESTINATION, "delivered")?;
    twice("release", || it.wallet(world, "release", &[])?.json())?;
    it.ends_well(world)?;

    let before = everything(world, it)?;
    twice("import", import)?;
    twice("ask", || ask(SOURCE)?.json())?;
    twice("request", || it.request(world))?;
    twice("consent", || it.wallet(world, "consent", &[])?.json())?;
    twice("release", || it.wallet(world, "release", &[])?.json())?;
    for at in [SOURCE, DESTINATION] {
        let resent = twice("resend", || world.node(at, &["transfer", "resend", &it.transfer])?.json())?;
        same("what is sent again of a transfer that is done", &Some(0), &resent["resent"].as_u64())?;
    }
    same("everything about a transfer that is done", &before, &everything(world, it)?)?;
    it.ends_well(world)
}
