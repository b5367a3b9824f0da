//! Wires that are cut, slow, or broken off.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use handover_tests::moves::Victim;

use crate::blows::Hand;
use crate::wires::{End, Way};

/// How long wires are cut or slow, in milliseconds; in a long run every ninth cut lasts until both sides have given
/// their connections up.
const SHORT_MS: u64 = 3_000;
const LONG_MS: (u64, u64) = (20_000, 20_000);
/// The slowest wire, for each piece.
const SLOW_MS: u64 = 300;
/// Every end of a wire.
const ENDS: [End; 4] = [Some(Victim::Source), Some(Victim::Destination), Some(Victim::Index), None];

pub(crate) fn both_ways(hand: &mut Hand<'_>) -> Result<()> {
    let between = between(hand);
    let ways = between.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]);
    cut(hand, ways.collect())
}

pub(crate) fn one_way(hand: &mut Hand<'_>) -> Result<()> {
    let is_out = hand.dice.below(2) == 0;
    let between = between(hand);
    let ways = between.into_iter().map(|(one, other)| if is_out { (one, other) } else { (other, one) });
    cut(hand, ways.collect())
}

/// One process and one other end, or all others.
fn between(hand: &mut Hand<'_>) -> Vec<(End, End)> {
    let one = Some(hand.victim());
    let others: Vec<End> = ENDS.into_iter().filter(|end| *end != one).collect();
    let others = if hand.dice.below(2) == 0 { others } else { vec![hand.dice.one_of(&others)] };
    others.into_iter().map(|other| (one, other)).collect()
}

fn cut(hand: &mut Hand<'_>, ways: Vec<(End, End)>) -> Result<()> {
    // Who waits for a hospital keeps everybody from starting one again.
    let is_between_processes = ways.iter().all(|(one, other)| one.is_some() && other.is_some());
    hand.stage.wires.set(ways.into_iter().map(|way| (way, Way::Held)));
    let done = meanwhile(hand, is_between_processes);
    hand.stage.wires.heal();
    done
}

/// Every second time that may be, a process is killed and comes back while it lasts.
fn meanwhile(hand: &mut Hand<'_>, may_kill: bool) -> Result<()> {
    if hand.is_long && hand.dice.below(9) == 0 {
        hand.count("wires cut for more than 20 s", 1);
        let more = hand.up_to(LONG_MS.1);
        sleep(Duration::from_millis(LONG_MS.0) + more);
        return Ok(());
    }
    sleep(hand.up_to(SHORT_MS));
    if may_kill && hand.dice.below(2) == 0 {
        let victim = hand.victim();
        hand.kill(victim)?;
        hand.stage.start(victim)?;
        hand.count("processes killed while wires were cut", 1);
        sleep(hand.up_to(SHORT_MS / 2));
    }
    Ok(())
}

pub(crate) fn reset(hand: &mut Hand<'_>) -> Result<()> {
    let victims: Vec<End> = ENDS.to_vec();
    // Nobody's in particular: everybody's.
    let end = hand.dice.one_of(&victims);
    let times = 1 + hand.dice.below(3);
    for _ in 0..times {
        let broken = hand.stage.wires.reset(end);
        hand.count("connections that were reset", broken as u64);
        sleep(hand.up_to(400));
    }
    Ok(())
}

pub(crate) fn slow(hand: &mut Hand<'_>) -> Result<()> {
    let delay = Duration::from_millis(1 + hand.dice.below(SLOW_MS));
    let all = ENDS.into_iter().flat_map(|one| ENDS.map(|other| (one, other)));
    hand.stage.wires.set(all.map(|way| (way, Way::Slow(delay))));
    sleep(hand.up_to(SHORT_MS));
    hand.stage.wires.heal();
    Ok(())
}
