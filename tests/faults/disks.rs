//! Disks that are full, slow, or lose what was not flushed.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use handover_disk::{Seeded, Survives, Trouble};
use handover_tests::moves::Victim;

use crate::blows::Hand;

/// How long a disk is full or slow, in milliseconds.
const TROUBLE_MS: u64 = 3_000;
/// The slowest write or flush.
const SLOW_MS: u64 = 60;
/// What a disk that is full has left at most: less than a store keeps free.
const LEFT_BYTES: u64 = 32 << 20;

pub(crate) fn power_loss(hand: &mut Hand<'_>) -> Result<()> {
    let victim = hand.victim();
    lose_power(hand, victim)?;
    hand.stage.start(victim)
}

fn lose_power(hand: &mut Hand<'_>, victim: Victim) -> Result<()> {
    hand.kill(victim)?;
    let survives = match hand.dice.below(4) {
        0 => Survives::Nothing,
        1 => Survives::Everything,
        _ => Survives::Some(hand.dice.below(101)),
    };
    let mut seeded = Seeded(hand.dice.below(u64::MAX));
    hand.stage.disk(victim)?.lose_power(survives, &mut seeded);
    Ok(())
}

pub(crate) fn full(hand: &mut Hand<'_>) -> Result<()> {
    let victim = hand.victim();
    let trouble = Trouble::Full(hand.dice.below(LEFT_BYTES));
    hand.stage.disk(victim)?.begin(trouble);
    sleep(hand.up_to(TROUBLE_MS));
    hand.stage.disk(victim)?.begin(Trouble::None);
    Ok(())
}

/// What was begun and could not be finished leaves the store shut until it is opened again, so somebody does that;
/// half of the time after a loss of power.
pub(crate) fn full_unsaid(hand: &mut Hand<'_>) -> Result<()> {
    let victim = hand.victim();
    hand.stage.disk(victim)?.begin(Trouble::FullUnsaid);
    sleep(hand.up_to(TROUBLE_MS));
    if hand.dice.below(2) == 0 {
        hand.kill(victim)?
    } else {
        lose_power(hand, victim)?
    }
    hand.stage.disk(victim)?.begin(Trouble::None);
    hand.stage.start(victim)
}

pub(crate) fn slow(hand: &mut Hand<'_>) -> Result<()> {
    let victim = hand.victim();
    let delay = Duration::from_millis(1 + hand.dice.below(SLOW_MS));
    hand.stage.disk(victim)?.begin(Trouble::Slow(delay));
    sleep(hand.up_to(TROUBLE_MS));
    let is_killed = hand.dice.below(3) == 0;
    if is_killed {
        hand.kill(victim)?;
    }
    hand.stage.disk(victim)?.begin(Trouble::None);
    if is_killed { hand.stage.start(victim) } else { Ok(()) }
}
