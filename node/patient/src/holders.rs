//! Whether an answer to "who holds my records?" leaves somebody out: the wallet knows by itself where it was linked.
//!
//! Invariant: nobody is said to be left out whom the index was never seen to know: a link comes to it late if it was away,
//! or never if it refused it, and then the hospital can tell. A link that its hospital has ended is missed like any
//! other: the index forgets none, and "not linked" is only what somebody answered. Whose fault it is, the wallet does not
//! know: the index may hide a hospital, or have been restored from before the link, and who passes the answer on may
//! have exchanged it.

use handover_core::artefact::patient::Holder;
use handover_core::time::DAY_MS;
use handover_core::{HospitalId, Timestamp};

use crate::Wallet;

/// Hospitals tell the index of a link by themselves; by then it has been told, unless it was away all the time.
const NAMED_AFTER_MS: i64 = DAY_MS;

/// A hospital where this wallet is linked, and that an answer does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unnamed {
    /// The hospital.
    pub hospital: HospitalId,
    /// When its signature under the link came.
    pub linked: Timestamp,
    /// When an answer named it last, if one ever did.
    pub named: Option<Timestamp>,
    /// When somebody who answers for it said that there is no link any more.
    pub ended: Option<Timestamp>,
    /// What to make of it.
    pub missing: Missing,
}

/// What it means that an answer does not name a hospital.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It was linked a short time ago: the index need not know yet.
    Early,
    /// No answer ever named it, although the index should have been told by now: the hospital knows.
    Overdue,
    /// It was named before.
    LeftOut,
}

impl Wallet {
    /// Compares an answer to a question asked at a time with the wallet's own links, and remembers whom it names.
    pub fn compare_holders(&mut self, holders: &[Holder], asked: Timestamp) -> Vec<Unnamed> {
        let mut unnamed = Vec::new();
        for known in &mut self.state.links {
            let Some(linked) = known.linked else { continue };
            if holders.iter().any(|holder| holder.hospital == known.hospital) {
                (known.named, known.ended) = (known.named.max(Some(asked)), None);
                continue;
            }
            // A question that was carried about may be older than the link.
            let named = known.named.filter(|named| *named <= asked);
            let missing = match named {
                Some(_) => Missing::LeftOut,
                None if asked.since_ms(linked) > NAMED_AFTER_MS => Missing::Overdue,
                None => Missing::Early,
            };
            let (hospital, ended) = (known.hospital.clone(), known.ended);
            unnamed.push(Unnamed { hospital, linked, named, ended, missing });
        }
        unnamed.sort_by(|one, other| one.hospital.cmp(&other.hospital));
        unnamed
    }

    /// Remembers since when whoever answers for a hospital says that there is no link; none if it answers as linked.
    pub fn heard_of_link(&mut self, hospital: &HospitalId, ended: Option<Timestamp>) {
        let known = self.state.links.iter_mut().filter(|known| known.hospital == *hospital);
        known.for_each(|known| known.ended = ended.map(|now| known.ended.unwrap_or(now)));
    }
}

#[cfg(test)]
mod tests {
    use handover_core::codec::{Bytes, Extensions};
    use handover_core::time::MINUTE_MS;

    use super::*;
    use crate::state::KnownLink;
    use crate::testkit::{NOW, World, hospital};

    /// The link to hospital 0 came so long ago.
    fn linked(age_ms: i64) -> Wallet {
        let mut wallet = World::new().wallet();
        wallet.state.links.push(KnownLink {
            hospital: hospital(0),
            signed: Bytes(Vec::new()),
            countersigned: Some(Bytes(Vec::new())),
            named: None,
            ended: None,
            linked: Some(NOW.plus_ms(-age_ms)),
            extensions: Extensions::default(),
        });
        wallet
    }

    fn holder(which: usize) -> Holder {
        Holder {
            hospital: hospital(which),
            name: "A hospital".to_owned(),
            linked: NOW,
            extensions: Extensions::default(),
        }
    }

    /// What to make of it that hospital 0 is not named; `None` if it is.
    fn missing(wallet: &mut Wallet, holders: &[Holder], asked: Timestamp) -> Option<Missing> {
        wallet.compare_holders(holders, asked).first().map(|it| it.missing)
    }

    #[test]
    fn who_was_named_once_is_missed_at_once_and_a_new_link_is_given_a_day() {
        let mut wallet = linked(MINUTE_MS);
        assert_eq!(missing(&mut wallet, &[], NOW), Some(Missing::Early), "the index may not know yet");
        assert_eq!(missing(&mut wallet, &[holder(1), holder(0)], NOW), None);
        assert_eq!(missing(&mut wallet, &[holder(1)], NOW.plus_ms(1)), Some(Missing::LeftOut));
        // An answer to a question from before it was named.
        assert_eq!(missing(&mut wallet, &[], NOW.plus_ms(-1)), Some(Missing::Early));
        // The index may have been away all the time: nobody is accused of what was never seen.
        let mut wallet = linked(2 * DAY_MS);
        assert_eq!(missing(&mut wallet, &[], NOW), Some(Missing::Overdue), "never named");
        let before = NOW.plus_ms(-3 * DAY_MS);
        assert_eq!(missing(&mut wallet, &[], before), Some(Missing::Early), "asked before the link");
        let mut unsigned = linked(2 * DAY_MS);
        unsigned.state.links[0].linked = None;
        assert_eq!(missing(&mut unsigned, &[], NOW), None, "the hospital never signed it");
    }

    #[test]
    fn who_answers_that_there_is_no_link_silences_nobody() {
        let mut wallet = linked(2 * DAY_MS);
        assert_eq!(missing(&mut wallet, &[holder(0)], NOW), None);
        let ended = |wallet: &mut Wallet| {
            let unnamed = wallet.compare_holders(&[], NOW.plus_ms(1));
            assert_eq!(unnamed[0].missing, Missing::LeftOut);
            unnamed[0].ended
        };
        wallet.heard_of_link(&hospital(1), Some(NOW));
        assert_eq!(ended(&mut wallet), None);
        for later in [0, 5] {
            wallet.heard_of_link(&hospital(0), Some(NOW.plus_ms(later)));
            assert_eq!(ended(&mut wallet), Some(NOW));
        }
        // It was not so: the inbox opens again, or the index names it.
        wallet.heard_of_link(&hospital(0), None);
        assert_eq!(ended(&mut wallet), None);
        wallet.heard_of_link(&hospital(0), Some(NOW));
        wallet.compare_holders(&[holder(0)], NOW);
        assert_eq!(ended(&mut wallet), None);
    }
}
