//! A hospital that nobody has admitted; at the end of this group it is a member.

use anyhow::{Result, ensure};
use handover_core::Code;
use handover_core::message::Verb;
use handover_net::Presented;
use handover_tests::fixture::World;
use handover_tests::rogue::Rogue;

use super::stage::{Stage, refused};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let before = stage.witness()?;
    let (lakeside, riverside) = Stage::victims();
    let rogue = &stage.rogue;
    for hospital in [&lakeside, &riverside] {
        let presented = rogue.connect(&rogue.route(hospital)?);
        let expected = Ok(Presented::Refused(Code::UnknownHospital));
        ensure!(presented == expected, "{hospital}: its hello is taken: {presented:?}");
        refused("an artefact from nobody", Code::NotAdmitted, || rogue.bring(hospital, b"anything"))?;
        refused("a package from nobody", Code::UnknownHospital, || rogue.open(hospital).map(drop))?;
    }
    let presented = rogue.connect(&rogue.index());
    ensure!(presented == Ok(Presented::Refused(Code::UnknownHospital)), "the index: {presented:?}");
    let ask = stage.pat.signed(stage.pat.question(None)).envelope().to_vec();
    refused("a parcel to the index", Code::NotAdmitted, || rogue.post(&lakeside, b"anything"))?;
    refused("somebody's question", Code::NotAdmitted, || {
        rogue.ask(&rogue.index(), Verb::Locate, vec![ask.clone()])
    })?;
    // What it may do is to ask for the directory and to enrol; an enrolment that stays at that changes nothing.
    let (items, _) = rogue.enrolment();
    rogue.ask(&rogue.index(), Verb::Enrol, items).map_err(|code| anyhow::anyhow!("enrol: {code}"))?;
    stage.untouched_since(&before)?;
    stage.rogue.join(&stage.world, &stage.programs)?;
    // A third member, in whose name others' artefacts are signed.
    let third =
        Rogue::start(&World::shared().seaside, stage.world.root().parse()?, stage.rogue.index().addresses)?;
    third.refresh()?;
    third.join(&stage.world, &stage.programs)
}
