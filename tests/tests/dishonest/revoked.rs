//! A hospital that is revoked while it is connected and in the middle of transfers.

use anyhow::{Result, ensure};
use handover_core::artefact::Verified;
use handover_core::message::Verb;
use handover_core::{Code, Party};
use handover_net::Presented;
use handover_scenarios::story::Order;
use handover_tests::rogue::person::endpoint;

use super::stage::{RIVERSIDE, Stage, refused};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    // One transfer it asked for, one it is to send.
    let ask = stage.ada.signed(stage.ada.asking(&lakeside, stage.rogue.id()));
    let request = Verified::sign(stage.rogue.request(&ask)?, &stage.rogue.keys.signing);
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    let parties = [Party::Index, Party::Hospital(lakeside.clone()), Party::Hospital(riverside.clone())];
    for party in &parties[1..] {
        let Party::Hospital(hospital) = party else { continue };
        let route = stage.rogue.route(hospital)?;
        ensure!(stage.rogue.connect(&route) == Ok(Presented::Accepted), "{hospital} does not admit it");
    }
    stage.rogue.forget_partings();
    let before = stage.witness()?;

    stage.world.order(stage.rogue.id().as_str(), Order::Revoke)?;

    for party in &parties {
        stage.rogue.parted_from(party)?;
    }
    let rogue = &stage.rogue;
    for hospital in [&lakeside, &riverside] {
        let presented = rogue.connect(&rogue.route(hospital)?);
        ensure!(
            presented == Ok(Presented::Refused(Code::HospitalRevoked)),
            "{hospital} does not refuse it by name: {presented:?}"
        );
        refused("an artefact", Code::NotAdmitted, || rogue.bring(hospital, request.envelope()))?;
        refused("a package", Code::HospitalRevoked, || rogue.open(hospital).map(drop))?;
    }
    let presented = rogue.connect(&rogue.index());
    ensure!(presented == Ok(Presented::Refused(Code::HospitalRevoked)), "the index: {presented:?}");
    refused("a request by the index", Code::NotAdmitted, || rogue.post(&lakeside, request.envelope()))?;
    refused("a header by the index", Code::NotAdmitted, || {
        rogue.post(&riverside, package.header.envelope())
    })?;
    // To come back under another key is as futile as under its own.
    let (items, _) = rogue.enrolment();
    refused("to enrol again", Code::HospitalRevoked, || {
        rogue.ask(&rogue.index(), Verb::Enrol, items.clone())
    })?;
    // Nobody honest deals with it any more, and is told why.
    let ask = stage.pat.signed(stage.pat.asking(rogue.id(), &riverside));
    let node = endpoint(&stage.world, RIVERSIDE)?;
    refused("an ask for its records", Code::HospitalRevoked, || {
        node.artefact(ask.envelope()).map_err(|fault| fault.code())
    })?;
    stage.untouched_since(&before)
}
