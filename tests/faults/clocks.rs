//! Clocks that jump.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use handover_tests::moves::Victim;

use crate::blows::Hand;

/// What is signed may not be further from the future than five minutes.
const MINUTES_SECONDS: u64 = 4 * 60;
/// How far one clock jumps, in hours. Not further: consents and directories end after 72, and a fee is due by silence
/// after seven days, which an index that is ahead by so much cannot know better.
const HOURS: u64 = 12;
const HOUR_SECONDS: i64 = 3_600;
/// How long it is ahead, in milliseconds, and how long nobody knows why what it signed is of later.
const AHEAD_MS: u64 = 2_500;
const BACK_MS: u64 = 1_000;

/// Everybody's clock together, or each by itself.
pub(crate) fn minutes(hand: &mut Hand<'_>) -> Result<()> {
    let (stage, ahead) = (hand.stage, hand.stage.ahead());
    if hand.dice.below(2) == 0 {
        return stage.world().set_clock(ahead + i64::try_from(hand.dice.below(MINUTES_SECONDS))?);
    }
    for victim in Victim::ALL {
        let seconds = i64::try_from(hand.dice.below(MINUTES_SECONDS))?;
        stage.world().set_clock_of(victim.name(), ahead + seconds)?;
    }
    Ok(())
}

/// One clock jumps ahead for a while, and back; what was signed meanwhile is of later for everybody. Then the time
/// comes, because nobody has hours: everybody's clock is where the one was.
pub(crate) fn hours(hand: &mut Hand<'_>) -> Result<()> {
    let (stage, ahead) = (hand.stage, hand.stage.ahead());
    let seconds = HOUR_SECONDS * i64::try_from(1 + hand.dice.below(HOURS))?;
    let victim = hand.victim();
    stage.world().set_clock_of(victim.name(), ahead + seconds)?;
    sleep(Duration::from_millis(500) + hand.up_to(AHEAD_MS));
    stage.world().set_clock_of(victim.name(), ahead)?;
    sleep(hand.up_to(BACK_MS));
    stage.set_clocks(ahead + seconds + i64::try_from(MINUTES_SECONDS)?)
}
