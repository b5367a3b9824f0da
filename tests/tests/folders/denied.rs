//! A destination that says no to its source and takes the package from its folder: the source ends nothing before the
//! index has said whether the key is out. The rogue is the destination.

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::Signed;
use handover_core::artefact::transfer::{KeyRelease, PackageHeader, Step};
use handover_core::codec::Extensions;
use handover_core::{Code, HospitalId, TransferId};
use handover_net::Presented;
use handover_scenarios::programs::Programs;
use handover_scenarios::signals::kill;
use handover_scenarios::world::World;
use handover_tests::fixture;
use handover_tests::rogue::person::Person;
use handover_tests::rogue::stream::Stream;
use handover_tests::rogue::wire::{Done, Have, Offer};
use handover_tests::rogue::{Rogue, until};
use serde_json::Value;

use crate::moves::{SOURCE, Victim, same, text, within};
use crate::opens::{agreed, records_of_ada};
use crate::stage::folder_of;

pub(crate) fn ends_nothing_by_itself(world: &mut World) -> Result<()> {
    let rogue = rogue(world)?;
    rogue.join(world, Programs::shared()?)?;
    let ada = records_of_ada(world)?;
    in_time(world, rogue, &ada).context("before the key is out")?;
    let rogue = self::rogue(world)?;
    too_late(world, rogue, &ada).context("with the key")
}

/// It says no while the package waits: nothing is handed out any more.
fn in_time(world: &mut World, rogue: Rogue, ada: &Person) -> Result<()> {
    let transfer = left(world, rogue, ada)?;
    let mut rogue = self::rogue(world)?;
    let _offered = rogue.opened()?;
    denies(&rogue, transfer)?;
    let shown = comes_to(world, transfer, "refused")?;
    same("why it is refused", &"fee-denied", &text(&shown, "reason"))?;
    within("the folder is empty", || Ok(folder_of(world, rogue.id().as_str())?.is_null()))?;
    ensure!(!rogue.has_letter::<KeyRelease>(|it| it.transfer == transfer), "the key was handed out");
    Ok(())
}

/// It has the package and the key from the index, and says no before its source hears of that.
fn too_late(world: &mut World, rogue: Rogue, ada: &Person) -> Result<()> {
    let transfer = left(world, rogue, ada)?;
    world.stop(SOURCE)?;
    let mut rogue = self::rogue(world)?;
    let stream = rogue.opened()?;
    takes(&rogue, stream)?;
    rogue.letter::<KeyRelease>(|it| it.transfer == transfer)?;
    kill(Victim::Index.pid(world)?)?;
    world.restart(SOURCE)?;
    denies(&rogue, transfer)?;
    same("the state at the source", &"sealed", &text(&show(world, transfer)?, "state"))?;
    Victim::Index.restart(world)?;
    let shown = comes_to(world, transfer, "released")?;
    same("dead letters", &Some(0), &shown["dead_letters"].as_u64())?;
    within("the fee is held", || {
        let entries = world.entries(&transfer.to_string())?;
        Ok(entries.iter().map(|entry| text(entry, "kind")).eq(["reserve", "hold"]))
    })
}

/// The rogue, as it comes back after it was gone.
fn rogue(world: &World) -> Result<Rogue> {
    let index = serde_json::from_value(world.index_ready()["net"].clone())?;
    let rogue = Rogue::start(&fixture::World::shared().hillcrest, world.root().parse()?, index)?;
    rogue.refresh()?;
    Ok(rogue)
}

/// A package that was left for the rogue, which is gone.
fn left(world: &mut World, rogue: Rogue, ada: &Person) -> Result<TransferId> {
    let (transfer, _) = agreed(world, rogue, ada)?;
    within(
        "the package is left in the folder",
        || Ok(show(world, transfer)?["folder"]["until"].is_string()),
    )?;
    Ok(transfer)
}

/// Says that it has everything that it is offered.
fn takes(rogue: &Rogue, mut stream: Stream) -> Result<()> {
    let offer = stream.get::<Offer>()?;
    let header = Signed::<PackageHeader>::read(offer.header.as_ref())?;
    let groups = vec![u64::MAX; offer.parts.iter().count()];
    stream.put(&Have { problem: None, groups, extensions: Extensions::default() })?;
    let header = rogue.judge(|context| {
        context.federation.verify_from(&header.claim().source.clone(), header, context.verifier)
    })?;
    let delivered = Some(rogue.delivered(&header).envelope().to_vec().into());
    stream.put(&Done { problem: None, delivered, extensions: Extensions::default() })
}

/// Tells the source, and nobody else, that it does not pay.
fn denies(rogue: &Rogue, transfer: TransferId) -> Result<()> {
    let source: HospitalId = SOURCE.parse()?;
    let route = rogue.route(&source)?;
    until("the source admits it", || rogue.connect(&route) == Ok(Presented::Accepted))?;
    let no = rogue.refusal(transfer, Step::Quote, Code::FeeDenied);
    rogue.bring(&source, no.envelope()).map_err(|code| anyhow!("its no: {code}"))
}

fn show(world: &World, transfer: TransferId) -> Result<Value> {
    world.node(SOURCE, &["transfer", "show", &transfer.to_string()])?.json()
}

fn comes_to(world: &World, transfer: TransferId, state: &str) -> Result<Value> {
    let mut shown = Value::Null;
    within(&format!("it is {state} at the source"), || {
        shown = show(world, transfer)?;
        Ok(text(&shown, "state") == state)
    })?;
    Ok(shown)
}
