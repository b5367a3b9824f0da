//! A consent for one transfer that is used for more, and one that the patient took back: the rogue tries both as
//! destination and as source.

use anyhow::{Context, Result, ensure};
use handover_core::artefact::patient::ConsentMode;
use handover_core::artefact::transfer::{Continues, KeyRelease, NextAttempt, Quote, Receipt};
use handover_core::artefact::{Payload as _, Verified};
use handover_core::codec::{self, Extensions};
use handover_core::{Code, Random as _, TransferId};
use handover_seal::OsRandom;
use handover_tests::fixture::altered;
use handover_tests::rogue::person::{Yes, endpoint};
use handover_tests::rogue::sale::{Package, Sale};
use handover_tests::rogue::wire::Offer;
use handover_tests::rogue::{LIMIT, Rogue, now};

use super::buyer::{Quoted, has_key, offered, quoted};
use super::stage::{LAKESIDE, RIVERSIDE, Stage, hospital, refused, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    used_again_by_a_destination(stage).context("used again, by a destination")?;
    used_again_by_a_source(stage).context("used again, by a source")?;
    revoked_at_the_source(stage).context("revoked, by a destination")?;
    revoked_at_the_destination(stage).context("revoked, by a source")
}

fn consented(stage: &mut Stage) -> Result<(Quoted, Yes)> {
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("Ada's consent", || stage.rogue.post(&hospital(LAKESIDE), yes.consent.envelope()))?;
    Ok((on, yes))
}

/// A whole honest transfer, paid for, under a one-time consent.
fn bought(stage: &mut Stage) -> Result<Yes> {
    let lakeside = hospital(LAKESIDE);
    let (on, yes) = consented(stage)?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    drop(stream);
    let there = stage.rogue.delivered(&header);
    taken("delivery", || stage.rogue.bring(&lakeside, there.envelope()))?;
    stage.waits_for_the_patient(on.transfer)?;
    let release = stage.ada.release(&yes, &on.quote)?;
    taken("Ada's release", || stage.rogue.bring(&lakeside, release.envelope()))?;
    stage.rogue.letter::<KeyRelease>(|it| it.transfer == on.transfer)?;
    let receipt = Receipt {
        transfer: on.transfer,
        attempt: 1,
        header: header.hash(),
        consent: yes.consent.hash(),
        record_root: header.record_root,
        fee: header.fee,
        issued: now(),
        extensions: Extensions::default(),
    };
    let receipt = Verified::sign(receipt, &stage.rogue.keys.signing);
    taken("the receipt", || stage.rogue.bring(&lakeside, receipt.envelope()))?;
    taken("its copy for the index", || stage.rogue.post(&lakeside, receipt.envelope()))?;
    stage.comes_to(LAKESIDE, on.transfer, "filed", "filed")?;
    stage.world.posted(&on.transfer.to_string(), LIMIT)?;
    Ok(yes)
}

/// It asks for the records a second time, and has only the consent of the first.
fn used_again_by_a_destination(stage: &mut Stage) -> Result<()> {
    let lakeside = hospital(LAKESIDE);
    let old = bought(stage)?.consent;
    let fresh = quoted(stage)?;
    let before = stage.witness()?;
    // What it names is the first transfer, and that has it already.
    taken("the old consent", || stage.rogue.bring(&lakeside, old.envelope()))?;
    taken("the old consent, by the index", || stage.rogue.post(&lakeside, old.envelope()))?;
    let own = &stage.rogue.keys.signing;
    let again = stage.rogue.next_attempt(&old, 2);
    refused("the old package anew", Code::OutOfOrder, || stage.rogue.bring(&lakeside, again.envelope()))?;
    let moved = altered(&again, own, |it: &mut NextAttempt| it.transfer = fresh.transfer);
    refused("the new package under nobody's consent", Code::EvidenceMissing, || {
        stage.rogue.bring(&lakeside, &moved)
    })?;
    stage.untouched_since(&before)?;
    // The patient says yes to the new one, too, and goes no further: neither consent stands for the other.
    let yes = stage.ada.consent(&fresh.quote, &fresh.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("Ada's other consent", || stage.rogue.post(&lakeside, yes.consent.envelope()))?;
    let (stream, header, _) = offered(stage, fresh.transfer, &yes.consent)?;
    drop(stream);
    ensure!(header.consent == yes.consent.hash(), "sealed under the old consent");
    refused("the new package under the old consent", Code::AttemptMismatch, || {
        stage.rogue.bring(&lakeside, &moved)
    })?;
    ensure!(!has_key(stage, fresh.transfer), "the key is out");
    revoke(stage, LAKESIDE, &yes)?;
    stage.comes_to(LAKESIDE, fresh.transfer, "delivered", "revoked (consent-revoked)")
}

/// It begins a delivery under a one-time consent, as if that went on for ever; and brings another transfer's package under
/// it.
fn used_again_by_a_source(stage: &mut Stage) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    deliver(stage, &package)?;
    let key = Verified::sign(stage.rogue.key_release(&package), &stage.rogue.keys.signing);
    taken("the key", || stage.rogue.bring(&riverside, key.envelope()))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", "filed")?;
    let before = stage.witness()?;
    let more = delivery(stage, &sale)?;
    for told in [Rogue::bring, Rogue::post] {
        refused("a delivery under a one-time consent", Code::ConsentSpent, || {
            told(&stage.rogue, &riverside, more.envelope())
        })?;
    }
    stage.untouched_since(&before)?;
    kept(stage, Quote::TYPE, Code::ConsentSpent)?;

    // A second transfer whose package names the consent of the first, and brings it along.
    let second = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let before = stage.witness()?;
    let other = stage.rogue.sealed(&second, &stage.rogue.goods(&second)?, |_| {})?;
    let spent = sale.yes.as_ref().context("agreed")?.consent.clone();
    let header = altered(&other.header, &stage.rogue.keys.signing, |it| it.consent = spent.hash());
    let offer =
        Offer { header: header.into(), consent: spent.envelope().to_vec().into(), ..other.offer.clone() };
    refused("a package under another transfer's consent", Code::HeaderMismatch, || offers(stage, &offer))?;
    stage.untouched_since(&before)?;
    revoke(stage, RIVERSIDE, second.yes.as_ref().context("agreed")?)
}

/// The quote with which a delivery begins, as if the consent were a continuous one.
fn delivery(stage: &Stage, sale: &Sale) -> Result<Verified<Quote>> {
    let consent = sale.yes.as_ref().context("agreed")?.consent.hash();
    let origin = sale.transfer();
    let mut quote = (*stage.rogue.quote(&sale.request, &sale.body)?).clone();
    quote.transfer = TransferId::new(now(), OsRandom.array());
    quote.continues = Some(Continues { consent, origin, extensions: Extensions::default() });
    Ok(Verified::sign(quote, &stage.rogue.keys.signing))
}

fn offers(stage: &Stage, offer: &Offer) -> Result<(), Code> {
    let (_, have) = stage.rogue.offer(&hospital(RIVERSIDE), offer).map_err(|_| Code::Internal)?;
    have.problem.map_or(Ok(()), Err)
}

fn deliver(stage: &Stage, package: &Package) -> Result<()> {
    let done = stage.rogue.deliver(&hospital(RIVERSIDE), package, |_| {})?;
    ensure!(done.delivered.is_some(), "not delivered: {:?}", done.problem);
    Ok(())
}

/// Riverside keeps it as what the rogue may not have signed, and anybody's `verify` refuses it alike.
fn kept(stage: &Stage, artefact: &str, code: Code) -> Result<()> {
    let listed = stage.world.node(RIVERSIDE, &["incident", "list"])?.json()?;
    let all = listed["incidents"].as_array().context("no list")?;
    let is_it =
        |it: &&serde_json::Value| it["code"] == code.as_str() && it["artefact"].as_str() == Some(artefact);
    let incident = all.iter().find(is_it).with_context(|| format!("no incident of {code}: {listed}"))?;
    let path = stage.world.records_folder().join("kept.handover");
    let id = incident["id"].as_str().context("an identifier")?;
    stage
        .world
        .node(RIVERSIDE, &["incident", "show", id, "--out", path.to_str().context("UTF-8")?])?
        .done()?;
    ensure!(stage.world.verify(&path)?.problem().as_deref() == Some(code.as_str()), "verify says otherwise");
    Ok(())
}

/// The patient takes a consent back, at a hospital.
fn revoke(stage: &Stage, at: &str, yes: &Yes) -> Result<()> {
    Ok(endpoint(&stage.world, at)?.artefact(&codec::encode(&yes.revocation))?)
}

/// The package is there, and the patient takes the consent back before anything was released: the rogue gets no key,
/// whatever it says that it has.
fn revoked_at_the_source(stage: &mut Stage) -> Result<()> {
    let lakeside = hospital(LAKESIDE);
    let (on, yes) = consented(stage)?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    stage.reserved(on.transfer)?;
    revoke(stage, LAKESIDE, &yes)?;
    stage.comes_to(LAKESIDE, on.transfer, "delivered", "revoked (consent-revoked)")?;
    let before = stage.witness()?;
    drop(stream);
    let told = |what: &str, envelope: &[u8]| {
        refused(what, Code::ConsentRevoked, || stage.rogue.bring(&lakeside, envelope))
    };
    told("delivery under it", stage.rogue.delivered(&header).envelope())?;
    told("another attempt under it", stage.rogue.next_attempt(&yes.consent, 2).envelope())?;
    taken("the consent itself, once more", || stage.rogue.bring(&lakeside, yes.consent.envelope()))?;
    stage.untouched_since(&before)?;
    // The patient's half, wherever it has that from, moves nothing either.
    let release = stage.ada.release(&yes, &on.quote)?;
    taken("the patient's half", || stage.rogue.bring(&lakeside, release.envelope()))?;
    ensure!(stage.state(LAKESIDE, on.transfer)? == "revoked (consent-revoked)", "it goes on");
    ensure!(!has_key(stage, on.transfer), "the key is out");
    let entries = stage.world.entries(&on.transfer.to_string())?;
    ensure!(entries.iter().all(|it| it["kind"] != "post"), "a fee for nothing: {entries:?}");
    // One that was taken back before it was presented.
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    revoke(stage, LAKESIDE, &yes)?;
    taken("a consent that was taken back before", || stage.rogue.bring(&lakeside, yes.consent.envelope()))?;
    stage.comes_to(LAKESIDE, on.transfer, "sealed", "revoked (consent-revoked)")?;
    ensure!(stage.world.entries(&on.transfer.to_string())?.is_empty(), "it stands in the books");
    Ok(())
}

/// The patient takes it back where they are: the rogue's package and its key are not taken any more, and no delivery under
/// one that went on is begun.
fn revoked_at_the_destination(stage: &mut Stage) -> Result<()> {
    let riverside = hospital(RIVERSIDE);
    let taken_back = |stage: &Stage, sale: &Sale| -> Result<()> {
        revoke(stage, RIVERSIDE, sale.yes.as_ref().context("agreed")?)?;
        stage.comes_to(RIVERSIDE, sale.transfer(), "revoked", "revoked (consent-revoked)")
    };
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    taken_back(stage, &sale)?;
    let before = stage.witness()?;
    refused("a package under it", Code::ConsentRevoked, || offers(stage, &package.offer))?;
    refused("its header", Code::ConsentRevoked, || stage.rogue.bring(&riverside, package.header.envelope()))?;
    stage.untouched_since(&before)?;

    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    deliver(stage, &package)?;
    taken_back(stage, &sale)?;
    let before = stage.records_of_pat()?;
    let key = Verified::sign(stage.rogue.key_release(&package), &stage.rogue.keys.signing);
    // An honest source may have released it before it knew; it is kept, and opens nothing.
    taken("its key", || stage.rogue.bring(&riverside, key.envelope()))?;
    ensure!(stage.records_of_pat()? == before, "something was filed");
    stage.comes_to(RIVERSIDE, sale.transfer(), "revoked", "revoked (consent-revoked)")?;

    let (_, mut sale) = stage.rogue.requested(&stage.world, &stage.pat, RIVERSIDE)?;
    stage.rogue.agree_for(&stage.world, &stage.pat, &mut sale, ConsentMode::Continuous)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    deliver(stage, &package)?;
    let key = Verified::sign(stage.rogue.key_release(&package), &stage.rogue.keys.signing);
    taken("the key", || stage.rogue.bring(&riverside, key.envelope()))?;
    stage.comes_to(RIVERSIDE, sale.transfer(), "filed", "filed")?;
    revoke(stage, RIVERSIDE, sale.yes.as_ref().context("agreed")?)?;
    let more = delivery(stage, &sale)?;
    taken("the quote of a delivery under it", || stage.rogue.bring(&riverside, more.envelope()))?;
    stage.comes_to(RIVERSIDE, more.transfer, "revoked", "revoked (consent-revoked)")
}
