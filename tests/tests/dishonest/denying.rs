//! The rogue as a hospital that a patient was referred to, and that denies what it owes: before it has signed for the
//! fee, where nothing is sealed; by signing for less, to the index or afterwards, which changes nothing; and by a no to
//! what it has the key to. That frees it of nothing: the fee is held, both know on what, and two operators settle it.

use anyhow::{Context, Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::ShareRelease;
use handover_core::artefact::transfer::{FeeAcceptance, KeyRelease, Payer, Step};
use handover_core::codec::Extensions;
use handover_core::message::Verb;
use handover_core::{Amount, Code, TransferId};
use handover_tests::rogue::person::{Yes, endpoint};
use handover_tests::rogue::{Rogue, now, parcel, until};

use super::buyer::{Quoted, has_key, offered, quoted};
use super::claims::{evidence, fee, kinds};
use super::stage::{LAKESIDE, Stage, refused, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    // Nobody has charged her tests to the rogue yet, nor may what follows.
    let other = stage.patient(4_712, 671)?;
    let ada = std::mem::replace(&mut stage.ada, other);
    let (patient, rogue) = (stage.ada.local.clone(), stage.rogue.id().clone());
    let referral = ["referral", "make", &patient, "--to", rogue.as_str(), "--doctor", "Dr. Vera Lind"];
    stage.world.node(LAKESIDE, &referral)?.done()?;
    unsigned(stage)?;
    before_the_key(stage)?;
    after_the_key(stage)?;
    stage.ada = ada;
    stage.world.node(LAKESIDE, &["referral", "withdraw", &patient, "--to", rogue.as_str()])?.done()
}

/// A quote at the rogue's cost, with the patient's consent at Lakeside.
fn consented(stage: &mut Stage) -> Result<(Quoted, Yes)> {
    let on = quoted(stage)?;
    ensure!(on.body.payer == Payer::Hospital, "the quote is at the {}'s cost", on.body.payer);
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("the consent", || stage.rogue.post(&Stage::victims().0, yes.consent.envelope()))?;
    Ok((on, yes))
}

/// The rogue's word that it pays so much.
fn acceptance(stage: &Stage, on: &Quoted, cap: Amount) -> Verified<FeeAcceptance> {
    let (transfer, quote) = (on.transfer, on.quote.hash());
    let accepted = FeeAcceptance { transfer, quote, cap, issued: now(), extensions: Extensions::default() };
    Verified::sign(accepted, &stage.rogue.keys.signing)
}

/// Shows the index, and nobody else.
fn show_the_index(rogue: &Rogue, content: &[u8]) -> Result<(), Code> {
    rogue.ask(&rogue.index(), Verb::Deliver, vec![parcel(None, content)]).map(drop)
}

/// It brings the consent and does not sign for the fee: nothing is sealed, however long, and its no ends it.
fn unsigned(stage: &mut Stage) -> Result<()> {
    let (on, _) = consented(stage)?;
    let id = on.transfer.to_string();
    until("it waits until the fee is accepted", || {
        let shown = stage.world.node(LAKESIDE, &["transfer", "show", &id]).and_then(|it| it.json());
        shown.is_ok_and(|it| it["waits"][0]["code"] == Code::FeeNotAccepted.as_str())
    })?;
    ensure!(stage.state(LAKESIDE, on.transfer)? == "consented", "sealed for nobody's fee");
    let no = stage.rogue.refusal(on.transfer, Step::Quote, Code::FeeDenied);
    taken("its no", || stage.rogue.post(&Stage::victims().0, no.envelope()))?;
    stage.comes_to(LAKESIDE, on.transfer, "sealed", "refused (fee-denied)")?;
    ensure!(stage.world.entries(&id)?.is_empty(), "a fee that nobody signed for is booked");
    let late = acceptance(stage, &on, on.body.fee);
    taken("its acceptance, after its no", || stage.rogue.bring(&Stage::victims().0, late.envelope()))?;
    ensure!(stage.state(LAKESIDE, on.transfer)? == "refused (fee-denied)", "it goes on");
    Ok(())
}

/// It signs for less at the index, for the fee at Lakeside, which counts; then for less at both.
fn sealed(stage: &mut Stage) -> Result<(Quoted, Yes)> {
    let (lakeside, _) = Stage::victims();
    let (on, yes) = consented(stage)?;
    let less = acceptance(stage, &on, Amount::from_minor(1, on.body.fee.currency()));
    taken("less, to the index", || show_the_index(&stage.rogue, less.envelope()))?;
    let all = acceptance(stage, &on, on.body.fee);
    taken("its acceptance", || stage.rogue.bring(&lakeside, all.envelope()))?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    drop(stream);
    ensure!(header.fee == on.body.fee, "sealed for {}", header.fee);
    stage.reserved(on.transfer)?;
    for told in [Rogue::bring, Rogue::post] {
        refused("less, after the header", Code::Conflict, || told(&stage.rogue, &lakeside, less.envelope()))?;
    }
    refused("less, to the index", Code::Conflict, || show_the_index(&stage.rogue, less.envelope()))?;
    let delivered = stage.rogue.delivered(&header);
    taken("delivery", || stage.rogue.bring(&lakeside, delivered.envelope()))?;
    stage.comes_to(LAKESIDE, on.transfer, "delivered", "delivered")?;
    let id = on.transfer.to_string();
    until("the index has what Lakeside tells it", || {
        let shown = stage.world.node(LAKESIDE, &["transfer", "show", &id]).and_then(|it| it.json());
        shown.is_ok_and(|it| it["waiting"] == 0)
    })?;
    Ok((on, yes))
}

/// Two operators settle a fee that is held.
fn settle(stage: &Stage, id: &str, whom: &str) -> Result<()> {
    let words = [id, "--for", whom];
    let why = ["--reason", "what both have signed"];
    stage.world.settle(0, &[&words[..], &why].concat())?.done()?;
    let settled = stage.world.settle(1, &words)?.json()?;
    ensure!(settled["outcome"] == "effective", "two operators did not settle it: {settled}");
    Ok(())
}

fn denial(stage: &Stage, transfer: TransferId) -> Vec<u8> {
    stage.rogue.refusal(transfer, Step::Quote, Code::FeeDenied).envelope().to_vec()
}

/// It has the package and says no to the index alone, before the patient has released: Lakeside is told, and keeps its
/// share.
fn before_the_key(stage: &mut Stage) -> Result<()> {
    let (on, yes) = sealed(stage)?;
    let no = denial(stage, on.transfer);
    taken("its no, to the index", || show_the_index(&stage.rogue, &no))?;
    stage.comes_to(LAKESIDE, on.transfer, "released", "refused (fee-denied)")?;
    let release = stage.ada.release(&yes, &on.quote)?;
    endpoint(&stage.world, LAKESIDE)?.artefact(release.envelope())?;
    let id = on.transfer.to_string();
    ensure!(kinds(stage, &id)? == ["reserve", "hold"], "booked: {:?}", kinds(stage, &id)?);
    settle(stage, &id, "payer")?;
    ensure!(!has_key(stage, on.transfer), "it has the key");
    stage.world.node(LAKESIDE, &["fees", "reconcile"])?.done()?;
    ensure!(fee(stage, &id)?["standing"] == "agrees", "{}", fee(stage, &id)?);
    Ok(())
}

/// It has the key and denies: to Lakeside, which keeps its word, and to the index.
fn after_the_key(stage: &mut Stage) -> Result<()> {
    let (lakeside, _) = Stage::victims();
    let (on, yes) = sealed(stage)?;
    let release = stage.ada.release(&yes, &on.quote)?;
    endpoint(&stage.world, LAKESIDE)?.artefact(release.envelope())?;
    stage.rogue.letter::<ShareRelease>(|it| it.transfer == on.transfer)?;
    stage.rogue.letter::<KeyRelease>(|it| it.transfer == on.transfer)?;
    let no = denial(stage, on.transfer);
    taken("its no", || stage.rogue.bring(&lakeside, &no))?;
    let id = on.transfer.to_string();
    // Lakeside tells the index of it, whom the rogue has told nothing.
    until("its fee is held", || kinds(stage, &id).is_ok_and(|it| it == ["reserve", "hold"]))?;
    taken("its no, by the index", || stage.rogue.post(&lakeside, &no))?;
    ensure!(
        stage.state(LAKESIDE, on.transfer)? == "released",
        "it comes to {}",
        stage.state(LAKESIDE, on.transfer)?
    );
    let again = stage.rogue.refusal(on.transfer, Step::Filing, Code::PackageDamaged);
    refused("another no", Code::Conflict, || stage.rogue.bring(&lakeside, again.envelope()))?;
    stage.world.node(LAKESIDE, &["fees", "reconcile"])?.done()?;
    ensure!(fee(stage, &id)?["held"] == "refused-after-delivery", "{}", fee(stage, &id)?);
    evidence(stage, &id, &["fee-acceptance", "delivered", "key-release", "refusal"])?;
    settle(stage, &id, "source")?;
    stage.world.node(LAKESIDE, &["fees", "reconcile"])?.done()?;
    let fee = fee(stage, &id)?;
    ensure!(fee["standing"] == "agrees" && fee["posted"] == fee["fee"], "{fee}");
    let booked = stage.world.entries(&id)?.into_iter().find(|it| it["kind"] == "post");
    let payer = booked.context("nothing is posted")?["payer"].clone();
    ensure!(payer == stage.rogue.id().as_str(), "posted at the cost of {payer}");
    Ok(())
}
