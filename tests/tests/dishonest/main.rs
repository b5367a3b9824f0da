//! Dishonest peers against real processes: a real index and two real nodes, and a rogue hospital that says whatever
//! it likes to them over real sockets.
//!
//! Every attempt has to be refused with its own code, twice the same; the victims' transfers, records and books stay
//! as they were; and after each group an honest transfer goes through. One world serves all groups, in sequence,
//! because starting one takes seconds; the last group costs the rogue its membership.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "the helpers of tests"
)]

mod books;
mod buyer;
mod claims;
mod consents;
mod denying;
mod doors;
mod flood;
mod gates;
mod handed;
mod hiding;
mod incidents;
mod index;
mod inside;
mod large;
mod noise;
mod owing;
mod patients;
mod recaller;
mod revoked;
mod seller;
mod silent;
mod stage;
mod unknown;

use std::time::Instant;

use anyhow::{Context, Result};
use stage::Stage;

/// What is tried: a group's name, and the group.
type Group = (&'static str, fn(&mut Stage) -> Result<()>);

const GROUPS: [Group; 21] = [
    ("an unknown hospital", unknown::all),
    ("patients and strangers over HTTPS", patients::all),
    ("a dishonest destination", buyer::all),
    ("a dishonest source", seller::all),
    ("packages that are not what they say inside", inside::all),
    ("consents that are spent or taken back", consents::all),
    ("noise", noise::all),
    ("every door", doors::all),
    ("what is handed back", handed::all),
    ("floods", flood::all),
    // Before the next but one: from then on nobody waits for silence.
    ("a destination that claims corruption", claims::all),
    ("a destination that denies the fee", denying::all),
    ("a destination that keeps its receipt", silent::all),
    ("a destination that owes the fee", owing::all),
    ("an index that was broken into", index::all),
    ("an index that hides a hospital", hiding::all),
    ("an index that books as it likes", books::all),
    ("large content, and a destination that never reads", large::all),
    ("large gates", gates::all),
    ("what is kept of it", incidents::all),
    ("a revoked hospital", revoked::all),
];

/// Plays only groups whose name holds this, after the first, which makes the rogue a member.
const GROUP_VARIABLE: &str = "HANDOVER_GROUP";

#[test]
fn dishonest_peers_are_refused_and_harm_nobody() -> Result<()> {
    let mut stage = Stage::set()?;
    let only = std::env::var(GROUP_VARIABLE).unwrap_or_default();
    let played = GROUPS.iter().enumerate().filter(|(number, (name, _))| *number == 0 || name.contains(&only));
    for (_, (name, group)) in played {
        let begun = Instant::now();
        let played = group(&mut stage).and_then(|()| stage.honest());
        if let Err(error) = played {
            stage.keep();
            return Err(error).with_context(|| format!("with {name}"));
        }
        // Only a test that fails or runs with --nocapture shows this.
        println!("{name}: {} ms", begun.elapsed().as_millis());
    }
    stage.sound()
}
