//! The rogue as a destination that has everything and both halves of the key, reads, and says that what it got is
//! corrupt: its word frees it of nothing. The fee is held, the source keeps what it signed, and two operators settle it.

use anyhow::{Context, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::ShareRelease;
use handover_core::artefact::transfer::{KeyRelease, Refusal, Step};
use handover_core::codec::{self, Extensions};
use handover_core::message::{BooksAnswer, BooksQuestion, Verb};
use handover_core::verify::TransferFile;
use handover_core::{Code, rules};
use handover_tests::rogue::person::endpoint;
use handover_tests::rogue::until;
use handover_tests::rogue::wire::{Done, Have};
use serde_json::Value;

use super::buyer::{has_key, offered, quoted};
use super::stage::{LAKESIDE, Stage, hospital, refused, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (lakeside, _) = Stage::victims();
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("Ada's consent", || stage.rogue.post(&lakeside, yes.consent.envelope()))?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    drop(stream);
    let delivered = stage.rogue.delivered(&header);
    taken("delivery", || stage.rogue.bring(&lakeside, delivered.envelope()))?;
    stage.reserved(on.transfer)?;
    let release = stage.ada.release(&yes, &on.quote)?;
    endpoint(&stage.world, LAKESIDE)?.artefact(release.envelope())?;
    // It has both, and can read.
    stage.rogue.letter::<ShareRelease>(|it| it.transfer == on.transfer)?;
    stage.rogue.letter::<KeyRelease>(|it| it.transfer == on.transfer)?;
    let claim = stage.rogue.refusal(on.transfer, Step::Filing, Code::PackageDamaged);
    taken("the claim", || stage.rogue.post(&lakeside, claim.envelope()))?;
    let id = on.transfer.to_string();
    stage.comes_to(LAKESIDE, on.transfer, "filed", "failed (package-damaged)")?;
    until("its fee is held", || kinds(stage, &id).is_ok_and(|it| it == ["reserve", "hold"]))?;
    let held = stage.world.index(&["ledger", "holds"])?.json()?;
    ensure!(held["entries"][0]["transfer"] == id, "not among the holds: {held}");
    stage.world.node(LAKESIDE, &["fees", "reconcile"])?.done()?;
    ensure!(fee(stage, &id)?["held"] == "refused-after-delivery", "{}", fee(stage, &id)?);
    evidence(stage, &id, &["delivered", "key-release", "refusal"])?;
    settle(stage, &id)?;
    // Both are told, by the index's signature and the operators'.
    stage.world.node(LAKESIDE, &["fees", "reconcile"])?.done()?;
    let fee = fee(stage, &id)?;
    let told = ["settled", "standing"].map(|it| fee[it].as_str().unwrap_or_default());
    ensure!(told == ["settled-for-source", "agrees"], "{fee}");
    ensure!(fee["posted"] == fee["fee"] && fee["evidence"] == fee["fee"], "{fee}");
    let question = BooksQuestion { from: 0, seen: 0, extensions: Extensions::default() };
    let ask = |items| stage.rogue.ask(&stage.rogue.index(), Verb::Books, items);
    let answer = ask(vec![codec::encode(&question)]).map_err(|code| anyhow::anyhow!("{code}"))?;
    let answer: BooksAnswer = codec::decode(answer.first().context("an answer")?, codec::MAX_MESSAGE_BYTES)?;
    let page = stage.rogue.judge(|context| rules::ledger_page(&answer, stage.rogue.id(), context))?;
    let settled = page.orders.iter().find(|it| it.transfer == on.transfer).context("no order")?;
    let entries = page.entries.iter().filter(|(_, entry)| entry.transfer == on.transfer);
    ensure!(settled.reason == REASON && entries.count() == 4, "{page:?}");
    // It changes its mind, when it is too late.
    refused("another claim", Code::Conflict, || {
        let again = Refusal { code: Code::CannotOpen, ..(*claim).clone() };
        stage.rogue.post(&lakeside, Verified::sign(again, &stage.rogue.keys.signing).envelope())
    })?;
    ensure!(kinds(stage, &id)? == ["reserve", "hold", "post", "release"], "{:?}", kinds(stage, &id)?);
    Ok(())
}

const REASON: &str = "the source's package verifies byte for byte";

pub(crate) fn kinds(stage: &Stage, id: &str) -> Result<Vec<String>> {
    let entries = stage.world.entries(id)?;
    Ok(entries.iter().map(|it| it["kind"].as_str().unwrap_or_default().to_owned()).collect())
}

/// What Lakeside says of the fee.
pub(crate) fn fee(stage: &Stage, id: &str) -> Result<Value> {
    let listed = stage.world.node(LAKESIDE, &["fees", "list"])?.json()?;
    let found = listed["fees"].as_array().into_iter().flatten().find(|it| it["transfer"] == id);
    found.cloned().with_context(|| format!("not listed: {listed}"))
}

/// The source can show to anybody what the destination signed, and that it was given the key.
pub(crate) fn evidence(stage: &Stage, id: &str, artefacts: &[&str]) -> Result<()> {
    let path = stage.world.folder().join("claimed.transfer");
    let out = path.to_str().context("UTF-8")?;
    stage.world.node(LAKESIDE, &["transfer", "show", id, "--out", out])?.done()?;
    stage.world.verify(&path)?.done()?;
    let file: TransferFile = codec::decode(&std::fs::read(&path)?, codec::MAX_MESSAGE_BYTES)?;
    for artefact in artefacts {
        let label = format!("handover/{artefact}/1");
        let is_it = |it: &codec::Bytes| {
            handover_core::artefact::peek_type(it.as_ref()).is_ok_and(|found| found == label)
        };
        ensure!(file.artefacts.iter().any(is_it), "the source has no {artefact}");
    }
    Ok(())
}

/// One operator alone settles nothing, both say the same, and once.
fn settle(stage: &Stage, id: &str) -> Result<()> {
    let settle = |operator, whom, words: &[&str]| {
        let all: Vec<&str> = [id, "--for", whom].iter().chain(words).copied().collect();
        stage.world.settle(operator, &all)
    };
    let why = ["--reason", REASON];
    let problem = |answer: handover_scenarios::process::Answer| answer.problem().unwrap_or_default();
    ensure!(problem(settle(0, "source", &[])?) == "usage-invalid", "settled without a reason");
    for _ in 0..2 {
        ensure!(settle(0, "source", &why)?.json()?["outcome"] == "pending", "one operator settled it");
    }
    ensure!(kinds(stage, id)? == ["reserve", "hold"], "booked by one operator");
    let other = ["--reason", "no"];
    ensure!(problem(settle(1, "source", &other)?) == "conflict", "another reason was signed unseen");
    for _ in 0..2 {
        ensure!(
            settle(1, "source", &[])?.json()?["outcome"] == "effective",
            "two operators did not settle it"
        );
        ensure!(kinds(stage, id)? == ["reserve", "hold", "post", "release"], "{:?}", kinds(stage, id)?);
    }
    ensure!(problem(settle(0, "payer", &other)?) == "conflict", "settled a second time");
    let posted = stage.world.entries(id)?;
    ensure!(posted[2]["proof"] == "order", "posted on {}", posted[2]["proof"]);
    let held = stage.world.index(&["ledger", "holds"])?.json()?;
    let is_this = |it: &Value| it["transfer"] == id;
    ensure!(!held["entries"].as_array().into_iter().flatten().any(is_this), "still held: {held}");
    stage.world.index(&["check"])?.done()
}

/// It has everything and says that it is damaged: the transfer is over, and nobody gets a key.
pub(crate) fn damage_at_once(stage: &mut Stage) -> Result<()> {
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("a consent", || stage.rogue.post(&hospital(LAKESIDE), yes.consent.envelope()))?;
    let (mut stream, _, parts) = offered(stage, on.transfer, &yes.consent)?;
    let groups = vec![u64::MAX; parts.iter().count()];
    stream.put(&Have { problem: None, groups, extensions: Extensions::default() })?;
    let problem = Some(Code::PackageDamaged);
    stream.put(&Done { problem, delivered: None, extensions: Extensions::default() })?;
    stage.comes_to(LAKESIDE, on.transfer, "delivered", "refused (package-damaged)")?;
    ensure!(!has_key(stage, on.transfer), "the key was released for what is said to be damaged");
    Ok(())
}
