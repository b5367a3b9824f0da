//! A hospital that is revoked while it is connected and in the middle of transfers.

use anyhow::{Result, ensure};
use handover_core::Code;
use handover_core::artefact::Verified;
use handover_core::message::Verb;
use handover_net::Presented;
use handover_scenarios::story::Order;
use handover_tests::rogue::person::endpoint;
use handover_tests::rogue::sale::travelling;
use handover_tests::rogue::wire::Done;
use handover_tests::rogue::{parcel, until};

use super::buyer;
use super::stage::{LAKESIDE, RIVERSIDE, Stage, refused};

pub(crate) fn all(stage: &mut Stage) -> Result<()> {
    let (lakeside, riverside) = Stage::victims();
    // A request that it is about to make, a transfer to it that was quoted, and one that it is sending.
    let ask = stage.ada.signed(stage.ada.asking(&lakeside, stage.rogue.id()));
    let request = Verified::sign(stage.rogue.request(&ask)?, &stage.rogue.keys.signing);
    let quoted = buyer::quoted(stage)?;
    let yes =
        stage.ada.consent(&quoted.quote, &quoted.body, stage.rogue.federation()?.as_ref(), |_, _| {})?;
    let sale = stage.rogue.agreed(&stage.world, &stage.pat, RIVERSIDE)?;
    let package = stage.rogue.sealed(&sale, &stage.rogue.goods(&sale)?, |_| {})?;
    let routes = [stage.rogue.index(), stage.rogue.route(&lakeside)?, stage.rogue.route(&riverside)?];
    for route in &routes {
        let presented = stage.rogue.connect(route);
        ensure!(presented == Ok(Presented::Accepted), "{} does not admit it: {presented:?}", route.party);
    }
    let (mut stream, have) = stage.rogue.offer(&riverside, &package.offer)?;
    ensure!(have.problem.is_none(), "the offer is refused: {have:?}");
    let before = stage.witness()?;

    stage.world.order(stage.rogue.id().as_str(), Order::Revoke)?;

    for route in &routes {
        let asked = || stage.rogue.ask(route, Verb::Deliver, vec![parcel(None, b"no artefact")]);
        until(&format!("{} refuses it", route.party), || asked() == Err(Code::NotAdmitted))?;
    }
    stage.rogue.renew_hello();
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
    let node = endpoint(&stage.world, LAKESIDE)?;
    refused("a consent to it", Code::HospitalRevoked, || {
        node.artefact(yes.consent.envelope()).map_err(|fault| fault.code())
    })?;
    stage.untouched_since(&before)?;
    // The stream that it had open: whatever still comes on it, the key for it is taken from nobody.
    for part in &package.parts {
        if stream.write(&travelling(part, 0)?).is_err() {
            break;
        }
    }
    let _ = stream.end();
    let _ = stream.get::<Done>();
    let key = Verified::sign(rogue.key_release(&package), &rogue.keys.signing);
    refused("the key", Code::NotAdmitted, || rogue.bring(&riverside, key.envelope()))?;
    refused("the key, by the index", Code::NotAdmitted, || rogue.post(&riverside, key.envelope()))?;
    let state = stage.state(RIVERSIDE, sale.transfer())?;
    ensure!(state == "sealed" || state == "delivered", "a revoked hospital's package is {state}");
    Ok(())
}
