//! The rogue as a destination that takes everything, reads it, and keeps its receipt to itself; whom the patient may
//! have given their half of the key without telling anybody; and that asks for attempts that it may not have, and for
//! one that it may.

use anyhow::{Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ShareRelease};
use handover_core::artefact::transfer::{KeyRelease, NextAttempt};
use handover_core::time::DAY_MS;
use handover_core::{Code, Digest};
use handover_tests::fixture::{World, altered};
use handover_tests::rogue::person::endpoint;
use handover_tests::rogue::{LIMIT, now};

use super::buyer::{has_key, offered, quoted};
use super::stage::{LAKESIDE, Stage, refused, taken};

/// How long a consent holds that nobody follows up; longer than it takes to seal and deliver.
const CONSENT_MS: i64 = 15_000;

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    // Nobody waits a week here: where Lakeside is, fees are due when everything was handed over.
    stage.world.schedule("US", &["--silence-days", "0"])?;
    stage.rogue.refresh()?;
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("Ada's consent", || stage.rogue.post(&Stage::victims().0, yes.consent.envelope()))?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    drop(stream);
    let delivered = stage.rogue.delivered(&header);
    // To the source alone: it tells the index.
    taken("delivery", || stage.rogue.bring(&Stage::victims().0, delivered.envelope()))?;
    // Whatever the two have agreed on: the source waits for the patient's release, and the index sees both.
    stage.waits_for_the_patient(on.transfer)?;
    ensure!(!has_key(stage, on.transfer), "released to a patient who keeps theirs from everybody");
    let transfer = on.transfer.to_string();
    let kinds = |stage: &Stage| -> Result<Vec<String>> {
        let entries = stage.world.entries(&transfer)?;
        Ok(entries.iter().map(|it| it["kind"].as_str().unwrap_or_default().to_owned()).collect())
    };
    stage.reserved(on.transfer)?;
    ensure!(kinds(stage)? == ["reserve"], "it pays for what it cannot open: {:?}", kinds(stage)?);

    // Ada releases her share at the hospital that she leaves.
    let release = stage.ada.release(&yes, &on.quote)?;
    endpoint(&stage.world, LAKESIDE)?.artefact(release.envelope())?;
    stage.rogue.letter::<ShareRelease>(|it| it.transfer == on.transfer)?;
    stage.rogue.letter::<KeyRelease>(|it| it.transfer == on.transfer)?;
    let fee = stage.world.posted(&transfer, LIMIT)?;
    ensure!(fee["proof"] == "silence", "posted by {}", fee["proof"]);
    further_attempts(stage, &yes.consent)?;
    ensure!(kinds(stage)? == ["reserve", "post"], "{:?}", kinds(stage)?);
    waited_for(stage)
}

/// The patient never releases: the source waits for as long as the consent holds.
fn waited_for(stage: &mut Stage) -> Result<()> {
    let on = quoted(stage)?;
    let soon = |_: &mut _, it: &mut Consent| it.expires = now().plus_ms(CONSENT_MS);
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), soon)?;
    taken("a short consent", || stage.rogue.post(&Stage::victims().0, yes.consent.envelope()))?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    drop(stream);
    let delivered = stage.rogue.delivered(&header);
    taken("delivery", || stage.rogue.bring(&Stage::victims().0, delivered.envelope()))?;
    stage.waits_for_the_patient(on.transfer)?;
    stage.comes_to(LAKESIDE, on.transfer, "released", "refused (consent-expired)")
}

/// That it asks for another attempt frees it of nothing.
fn further_attempts(stage: &mut Stage, consent: &Verified<Consent>) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    let before = stage.witness()?;
    let honest = stage.rogue.next_attempt(consent, 2);
    let own = &stage.rogue.keys.signing;
    let third = &World::shared().seaside.signing;
    let wrong = |change: fn(&mut NextAttempt)| altered(&honest, own, change);
    for (what, code, envelope) in [
        ("an attempt asked for by a third", Code::WrongSigner, altered(&honest, third, |_| {})),
        ("the first attempt", Code::AttemptMismatch, wrong(|it| it.attempt = 1)),
        ("the sixth attempt", Code::AttemptsExhausted, wrong(|it| it.attempt = 6)),
        (
            "an attempt under another consent",
            Code::AttemptMismatch,
            wrong(|it| it.consent = Digest::from_bytes([7; 32])),
        ),
        (
            "an attempt after the consent",
            Code::ConsentExpired,
            wrong(|it| it.issued = it.issued.plus_ms(1_000 * DAY_MS)),
        ),
    ] {
        refused(what, code, || stage.rogue.bring(&lakeside, &envelope))?;
        refused(what, code, || stage.rogue.post(&lakeside, &envelope))?;
    }
    // The index sees copies in any order; the source does not skip.
    let skipped = wrong(|it| it.attempt = 3);
    refused("an attempt that is skipped", Code::OutOfOrder, || stage.rogue.bring(&lakeside, &skipped))?;
    refused("somebody else's attempt", Code::EvidenceMissing, || {
        stage.rogue.bring(&riverside, honest.envelope())
    })?;
    stage.untouched_since(&before)?;
    taken("another attempt", || stage.rogue.post(&lakeside, honest.envelope()))?;
    // Streams of the first may have come before its delivery.
    while offered(stage, consent.transfer, consent)?.1.attempt != 2 {}
    Ok(())
}
