//! The rogue as a destination that takes everything, reads it, and keeps its receipt to itself.

use anyhow::{Result, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::patient::ShareRelease;
use handover_core::artefact::transfer::{Delivered, KeyRelease};
use handover_core::codec::Extensions;
use handover_tests::rogue::person::endpoint;
use handover_tests::rogue::{LIMIT, now};

use super::buyer::{offered, quoted};
use super::stage::{LAKESIDE, Stage, taken};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    // Nobody waits a week here: where Lakeside is, fees are due when everything was handed over.
    stage.world.schedule(&["--jurisdiction", "US", "--silence-days", "0"])?;
    stage.rogue.refresh()?;
    let on = quoted(stage)?;
    let yes = stage.ada.consent(&on.quote, &on.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    taken("Ada's consent", || stage.rogue.post(&Stage::victims().0, yes.consent.envelope()))?;
    let (stream, header, _) = offered(stage, on.transfer, &yes.consent)?;
    drop(stream);
    let delivered = Delivered {
        transfer: on.transfer,
        attempt: 1,
        header: header.hash(),
        destination: stage.rogue.id().clone(),
        issued: now(),
        extensions: Extensions::default(),
    };
    let delivered = Verified::sign(delivered, &stage.rogue.keys.signing);
    // To the source alone: it tells the index.
    taken("delivery", || stage.rogue.bring(&Stage::victims().0, delivered.envelope()))?;
    stage.rogue.letter::<KeyRelease>(|it| it.transfer == on.transfer)?;
    let transfer = on.transfer.to_string();
    let kinds = |stage: &Stage| -> Result<Vec<String>> {
        let entries = stage.world.entries(&transfer)?;
        Ok(entries.iter().map(|it| it["kind"].as_str().unwrap_or_default().to_owned()).collect())
    };
    ensure!(kinds(stage)? == ["reserve"], "it pays for what it cannot open: {:?}", kinds(stage)?);

    // Ada releases her share at the hospital that she leaves.
    let release = stage.ada.release(&yes, &on.quote)?;
    endpoint(&stage.world, LAKESIDE)?.artefact(release.envelope())?;
    stage.rogue.letter::<ShareRelease>(|it| it.transfer == on.transfer)?;
    let fee = stage.world.posted(&transfer, LIMIT)?;
    ensure!(fee["proof"] == "silence", "posted by {}", fee["proof"]);
    ensure!(kinds(stage)? == ["reserve", "post"], "{:?}", kinds(stage)?);
    Ok(())
}
