//! The index is away: the hospitals go on without it, and what they did reaches the ledger later, once, also if the
//! destination cannot reach it any more.

use anyhow::Result;
use handover_scenarios::signals::kill;
use handover_scenarios::story::Order;
use handover_scenarios::world::{World, is_due};

use crate::moves::{DESTINATION, LIMIT, Move, SOURCE, Victim, same, text, within};

/// The index goes after the source has one patient's consent; another patient begins when it is gone.
pub(crate) fn is_made_up_for(world: &mut World, begun: &mut Move, late: &mut Move) -> Result<()> {
    begun.ask(world)?;
    begun.request(world)?;
    begun.quoted(world)?;
    begun.wallet(world, "consent", &["--no-release"])?.done()?;
    begun.until(world, SOURCE, "consented")?;
    kill(Victim::Index.pid(world)?)?;
    begun.until(world, DESTINATION, "delivered")?;
    within("it is told that the patient's release is awaited", || {
        let shown = begun.show(world, DESTINATION)?;
        Ok(text(&shown["waits"][0], "code") == "release-awaited")
    })?;

    begun.wallet(world, "release", &[])?.done()?;
    late.ask(world)?;
    late.request(world)?;
    late.quoted(world)?;
    late.wallet(world, "consent", &[])?.done()?;
    for it in [&*begun, &*late] {
        for at in [SOURCE, DESTINATION] {
            same("the state without the index", &"filed", &text(&it.until(world, at, "filed")?, "state"))?;
        }
        let due = world.entries(&it.transfer)?.iter().filter(|entry| is_due(entry)).count();
        same("fees in the ledger of an index that was away", &0, &due)?;
    }

    // The destination, cut off from the index, keeps its copies; to whom the fee is due tells of its receipts.
    kill(Victim::Destination.pid(world)?)?;
    Victim::Index.restart(world)?;
    for it in [&*begun, &*late] {
        let fee = world.posted(&it.transfer, LIMIT)?;
        same("what the fee is due by", &"receipt", &text(&fee, "proof"))?;
    }
    Victim::Destination.restart(world)?;
    begun.ends_well(world)?;
    late.ends_well(world)
}

/// A hospital that was suspended meanwhile is told so, although those who shut it out only do not answer.
pub(crate) fn by_order_is_told(world: &World, it: &mut Move) -> Result<()> {
    it.ask(world)?;
    world.order(DESTINATION, Order::Suspend)?;
    it.request(world)?;
    within("it is told that this hospital is suspended", || {
        let shown = it.show(world, DESTINATION)?;
        Ok(text(&shown["waits"][0], "code") == "hospital-suspended")
    })
}
