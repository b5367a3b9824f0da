//! Processes that are killed or frozen.

use std::thread::sleep;

use anyhow::Result;
use handover_scenarios::signals::{self, Signal};
use handover_tests::moves::Victim;

use crate::blows::Hand;

/// The longest that a killed process stays away, in milliseconds; every eighth for longer.
const AWAY_MS: u64 = 600;
const LONG_AWAY_MS: u64 = 4_000;
/// The longest that a process is frozen, in milliseconds.
const FROZEN_MS: u64 = 3_000;

pub(crate) fn kill(hand: &mut Hand<'_>) -> Result<()> {
    let victim = hand.victim();
    hand.kill(victim)?;
    let limit = if hand.dice.below(8) == 0 { LONG_AWAY_MS } else { AWAY_MS };
    sleep(hand.up_to(limit));
    hand.stage.start(victim)
}

pub(crate) fn kill_all(hand: &mut Hand<'_>) -> Result<()> {
    for victim in Victim::ALL {
        hand.kill(victim)?;
    }
    let mut left = Victim::ALL.to_vec();
    while !left.is_empty() {
        let next = left.swap_remove(hand.dice.below(left.len() as u64) as usize);
        hand.stage.start(next)?;
    }
    Ok(())
}

pub(crate) fn freeze(hand: &mut Hand<'_>) -> Result<()> {
    let pid = hand.victim().pid(&hand.stage.world())?;
    signals::send(pid, Signal::STOP)?;
    sleep(hand.up_to(FROZEN_MS));
    signals::send(pid, Signal::CONT)
}
