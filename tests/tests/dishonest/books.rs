//! An index whose insider books as they like, under its real key and in a log that is sound in itself: both hospitals
//! find it by themselves, keep what the index signed, and go on.

use anyhow::{Context, Result, ensure};
use handover_core::{Code, TransferId};
use handover_tests::rogue::books::FalseBooks;
use handover_tests::rogue::index::FalseIndex;
use handover_tests::rogue::until;
use serde_json::Value;

use super::stage::{LAKESIDE, RIVERSIDE, Stage};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let filed = filed(stage)?;
    let (twice, other) = (filed[0], filed[1]);
    for hospital in [LAKESIDE, RIVERSIDE] {
        stage.world.posted(&twice.to_string(), handover_tests::rogue::LIMIT)?;
        stage.world.node(hospital, &["fees", "reconcile"])?.done()?;
        ensure!(standing(stage, hospital, twice)? == "agrees", "{hospital}: {}", listed(stage, hospital)?);
    }
    let held = stage.rogue.federation()?;
    stage.kill_index()?;
    let honest = FalseBooks::of(&stage.world)?;
    let (lakeside, riverside) = Stage::victims();
    let mut books = honest.clone();
    books.post_again(twice)?;
    let index = FalseIndex::start_saying(&stage.world, &held, &[&lakeside, &riverside], books.clone())?;
    // Nobody has asked them to: they ask whoever they are connected to.
    for hospital in [LAKESIDE, RIVERSIDE] {
        found(stage, hospital, twice, Code::FeePostedTwice)?;
        ensure!(differing(stage, hospital)? == 1, "{hospital}: {}", listed(stage, hospital)?);
    }
    // A fee of a transfer that nobody asked for.
    let invented: TransferId = "0190f5c0-0000-7000-8000-000000000001".parse()?;
    let mut entry = honest.posted(other)?;
    (entry.transfer, entry.about) = (invented, None);
    entry.kind = handover_core::ledger::EntryKind::PostDirect;
    books.book(entry);
    index.says(books.clone());
    for hospital in [LAKESIDE, RIVERSIDE] {
        reconciled(stage, hospital)?;
        // What it stands on may still come, and nobody could prove that it has not: it is given a day.
        ensure!(standing(stage, hospital, invented)? == "in-flight", "{}", listed(stage, hospital)?);
        let kept = stage.world.node(hospital, &["incident", "list"])?.json()?;
        ensure!(!kept.to_string().contains(&invented.to_string()), "{hospital}: {kept}");
    }
    // Another amount, over what was shown before: it was rewritten, and is not what was signed.
    books.rewrite(other, 1);
    index.says(books.clone());
    for hospital in [LAKESIDE, RIVERSIDE] {
        reconciled(stage, hospital)?;
        found(stage, hospital, other, Code::FeeDiffers)?;
        incident(stage, hospital, None, Code::LedgerRewritten)?;
        clear(stage, hospital)?;
    }
    // And one taken away.
    books.cut();
    index.says(books);
    for hospital in [LAKESIDE, RIVERSIDE] {
        reconciled(stage, hospital)?;
        incident(stage, hospital, None, Code::LedgerRewritten)?;
    }
    index.end();
    stage.world.restart_index(true)?;
    // It is itself again, which contradicts what was signed meanwhile; what stands in its books agrees.
    for hospital in [LAKESIDE, RIVERSIDE] {
        until(&format!("{hospital} has the true books"), || {
            stage.world.node(hospital, &["fees", "reconcile"]).is_ok()
                && differing(stage, hospital).is_ok_and(|count| count == 0)
        })?;
        ensure!(standing(stage, hospital, twice)? == "agrees", "{hospital}: {}", listed(stage, hospital)?);
        clear(stage, hospital)?;
        stage.world.node(hospital, &["fees", "reconcile"])?.done()?;
        ensure!(degraded(stage, hospital)?.is_none(), "{hospital} is still degraded");
    }
    stage.rogue.meets_everybody()
}

/// Two transfers that both hospitals have filed, with a fee.
fn filed(stage: &mut Stage) -> Result<Vec<TransferId>> {
    stage.honest()?;
    stage.honest()?;
    stage.world.node(LAKESIDE, &["fees", "reconcile"])?.done()?;
    let here = listed(stage, LAKESIDE)?;
    let agrees = here["fees"].as_array().into_iter().flatten();
    let agrees = agrees.filter(|fee| fee["hospital"] == RIVERSIDE && fee["evidence"] == fee["fee"]);
    let found: Vec<TransferId> = agrees.filter_map(|fee| fee["transfer"].as_str()?.parse().ok()).collect();
    ensure!(found.len() >= 2, "too few transfers with a fee: {here}");
    Ok(found)
}

fn listed(stage: &Stage, hospital: &str) -> Result<Value> {
    stage.world.node(hospital, &["fees", "list"])?.json()
}

/// How a transfer's fee stands at a hospital.
fn standing(stage: &Stage, hospital: &str, transfer: TransferId) -> Result<String> {
    let listed = listed(stage, hospital)?;
    let fee =
        listed["fees"].as_array().into_iter().flatten().find(|it| it["transfer"] == transfer.to_string());
    Ok(fee.and_then(|fee| fee["standing"].as_str()).context("it is not listed")?.to_owned())
}

fn differing(stage: &Stage, hospital: &str) -> Result<usize> {
    let listed = listed(stage, hospital)?;
    let fees = listed["fees"].as_array().context("fees")?;
    Ok(fees.iter().filter(|fee| fee["standing"] != "agrees" && fee["standing"] != "in-flight").count())
}

/// What `status` says of the books.
fn degraded(stage: &Stage, hospital: &str) -> Result<Option<String>> {
    let status = stage.world.node(hospital, &["status"])?.json()?;
    let books =
        status["degraded"].as_array().context("degraded")?.iter().find(|it| it["component"] == "books");
    Ok(books.and_then(|it| it["code"].as_str()).map(str::to_owned))
}

/// The command says that something differs, and ends so.
fn reconciled(stage: &Stage, hospital: &str) -> Result<()> {
    let answer = stage.world.node(hospital, &["fees", "reconcile"])?;
    ensure!(answer.problem().is_some(), "{hospital} finds nothing: {}", answer.ended());
    Ok(())
}

/// A hospital sees that a transfer's fee is wrong, says so in its status, and has kept what shows it.
fn found(stage: &Stage, hospital: &str, transfer: TransferId, code: Code) -> Result<()> {
    until(&format!("{hospital} finds {code}"), || {
        standing(stage, hospital, transfer).is_ok_and(|it| it == code.as_str())
    })?;
    ensure!(degraded(stage, hospital)?.is_some(), "{hospital} says nothing of it in its status");
    incident(stage, hospital, Some(transfer), code)
}

/// It is kept with a file on which anybody comes to the same.
fn incident(stage: &Stage, hospital: &str, transfer: Option<TransferId>, code: Code) -> Result<()> {
    let kept = stage.world.node(hospital, &["incident", "list"])?.json()?;
    let about = transfer.map(|transfer| transfer.to_string());
    let is_it = |it: &&Value| {
        it["by"] == "index" && it["code"] == code.as_str() && it["transfer"].as_str() == about.as_deref()
    };
    let found = kept["incidents"].as_array().into_iter().flatten().find(is_it);
    let id =
        found.and_then(|it| it["id"].as_str()).with_context(|| format!("{hospital}: no {code}: {kept}"))?;
    let path = stage.world.records_folder().join("books.handover");
    let out = path.to_str().context("UTF-8")?;
    stage.world.node(hospital, &["incident", "show", id, "--out", out])?.done()?;
    let verified = stage.world.verify(&path)?;
    ensure!(verified.problem().as_deref() == Some(code.as_str()), "verify says: {}", verified.ended());
    let log = std::fs::read_to_string(stage.world.logs().join(format!("{hospital}.log")))?;
    ensure!(log.contains(code.as_str()), "{hospital}'s log says nothing of {code}");
    Ok(())
}

/// A person has dealt with what is kept of the books.
fn clear(stage: &Stage, hospital: &str) -> Result<()> {
    let kept = stage.world.node(hospital, &["incident", "list"])?.json()?;
    let pages = kept["incidents"].as_array().into_iter().flatten();
    for incident in pages.filter(|it| it["artefact"] == "handover/ledger-page/1") {
        let id = incident["id"].as_str().context("an incident")?;
        stage.world.node(hospital, &["incident", "remove", id])?.done()?;
    }
    Ok(())
}
