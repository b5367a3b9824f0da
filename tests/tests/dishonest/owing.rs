//! The rogue as a hospital that a patient was referred to: it owes the fee, and tells as few as it can that it said so.

use anyhow::{Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::transfer::{FeeAcceptance, KeyRelease, Payer};
use handover_core::codec::Extensions;
use handover_core::{Amount, Code, Digest};
use handover_tests::fixture::{World, altered};
use handover_tests::rogue::person::endpoint;
use handover_tests::rogue::{LIMIT, now};

use super::buyer::{offered, quoted};
use super::stage::{LAKESIDE, Stage, refused, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (lakeside, _) = Stage::victims();
    let (patient, rogue) = (stage.ada.local.clone(), stage.rogue.id().clone());
    let referral = ["referral", "make", &patient, "--to", rogue.as_str(), "--doctor", "Dr. Vera Lind"];
    stage.world.node(LAKESIDE, &referral)?.done()?;
    let on = quoted(stage)?;
    ensure!(on.body.payer == Payer::Hospital, "the quote is at the {}'s cost", on.body.payer);
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("Ada's consent", || stage.rogue.post(&lakeside, yes.consent.envelope()))?;

    let acceptance = FeeAcceptance {
        transfer: on.transfer,
        quote: on.quote.hash(),
        cap: on.body.fee,
        issued: now(),
        extensions: Extensions::default(),
    };
    let acceptance = Verified::sign(acceptance, &stage.rogue.keys.signing);
    let before = stage.witness()?;
    let own = &stage.rogue.keys.signing;
    for (what, code, envelope) in [
        (
            "another member's acceptance",
            Code::WrongSigner,
            altered(&acceptance, &World::shared().seaside.signing, |_| {}),
        ),
        (
            "an acceptance of another quote",
            Code::QuoteMismatch,
            altered(&acceptance, own, |it| it.quote = Digest::from_bytes([7; 32])),
        ),
        (
            "an acceptance of less than nothing",
            Code::Malformed,
            altered(&acceptance, own, |it| it.cap = Amount::from_minor(-1, it.cap.currency())),
        ),
    ] {
        refused(what, code, || stage.rogue.bring(&lakeside, &envelope))?;
        refused(what, code, || stage.rogue.post(&lakeside, &envelope))?;
    }
    stage.untouched_since(&before)?;
    // To the source alone, which seals on it; so is all that follows.
    taken("its acceptance", || stage.rogue.bring(&lakeside, acceptance.envelope()))?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    drop(stream);
    ensure!(header.payer == Payer::Hospital, "the header makes the {} pay", header.payer);
    let delivered = stage.rogue.delivered(&header);
    taken("delivery", || stage.rogue.bring(&lakeside, delivered.envelope()))?;
    let release = stage.ada.release(&yes, &on.quote)?;
    endpoint(&stage.world, LAKESIDE)?.artefact(release.envelope())?;
    stage.rogue.letter::<KeyRelease>(|it| it.transfer == on.transfer)?;
    let fee = stage.world.posted(&on.transfer.to_string(), LIMIT)?;
    ensure!(fee["proof"] == "silence" && fee["payer"] == rogue.as_str(), "posted: {fee}");
    stage.world.node(LAKESIDE, &["referral", "withdraw", &patient, "--to", rogue.as_str()])?.done()
}
