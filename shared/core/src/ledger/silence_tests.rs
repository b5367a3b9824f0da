//! What becomes of a fee without a receipt.

use proptest::prelude::*;

use super::*;
use crate::ledger::samples::{agreed, day, handed_over, hold, post, settle, step, terms, void};
use crate::ledger::{Command, Decision};

/// The consent of these tests ends on this day.
const CONSENT_DAYS: i64 = 5;
/// Copies of it are waited for until this day.
const COPIES_DAY: i64 = CONSENT_DAYS + LATE_COPIES_MS / DAY_MS;

fn reserve() -> Command {
    let expires = day(CONSENT_DAYS).plus_ms(RESERVATION_AFTER_CONSENT_MS);
    Command::Reserve { terms: terms(), expires, evidence: agreed() }
}

fn reserved() -> TransferLedger {
    let mut ledger = TransferLedger::default();
    step(&mut ledger, 0, &reserve()).unwrap();
    ledger
}

/// Delivered and released on day 1, offered at once, seven days of silence.
fn handover() -> Handover {
    Handover {
        consent_expires: day(CONSENT_DAYS),
        is_delivered: true,
        released: Some(day(1)),
        silent_until: Some(day(8)),
        is_ended: false,
    }
}

#[test]
fn silence_makes_the_fee_due_and_not_a_moment_earlier() {
    let (ledger, handover) = (reserved(), handover());
    for now in [day(1), day(CONSENT_DAYS), day(8).plus_ms(-1)] {
        assert_eq!(handover.due(&ledger, now), Due::Later(day(8)));
    }
    for now in [day(8), day(60), day(1_000)] {
        assert_eq!(handover.due(&ledger, now), Due::Post);
    }
}

#[test]
fn what_is_incomplete_is_let_go_after_the_consent_and_the_late_copies() {
    let copies = day(COPIES_DAY);
    for (what, handover, reason) in [
        ("no key", Handover { released: None, silent_until: None, ..handover() }, Reason::ConsentExpired),
        (
            "a key after the consent's end",
            Handover { released: Some(day(CONSENT_DAYS)), ..handover() },
            Reason::ConsentExpired,
        ),
        (
            "nothing delivered",
            Handover { is_delivered: false, silent_until: None, ..handover() },
            Reason::NotDelivered,
        ),
        ("ended by somebody", Handover { is_ended: true, ..handover() }, Reason::NotDelivered),
    ] {
        assert_eq!(handover.due(&reserved(), copies.plus_ms(-1)), Due::Later(copies), "{what}");
        assert_eq!(handover.due(&reserved(), copies), Due::Void(reason), "{what}");
        assert_eq!(handover.due(&TransferLedger::default(), copies), Due::Nothing, "{what}, not reserved");
    }
}

#[test]
fn what_people_look_at_is_no_matter_of_time() {
    let mut ledger = reserved();
    step(&mut ledger, 2, &hold(None)).unwrap();
    let expires = ledger.open_reservation().unwrap().expires.unwrap();
    for now in [day(8), expires, expires.plus_ms(1_000 * DAY_MS)] {
        assert_eq!(handover().due(&ledger, now), Due::Nothing);
    }
    // What they have settled for the payer is not posted by silence after all.
    step(&mut ledger, 90, &settle(false)).unwrap();
    assert_eq!(handover().due(&ledger, day(1_000)), Due::Nothing);
}

#[test]
fn a_fee_that_stands_is_the_answer_and_a_voided_one_is_posted_after_it() {
    let mut ledger = reserved();
    step(&mut ledger, COPIES_DAY, &void(Reason::ConsentExpired)).unwrap();
    // The copies come late: what was done was done in time.
    let late = Handover { silent_until: Some(day(30)), ..handover() };
    assert_eq!(late.due(&ledger, day(29)), Due::Later(day(30)));
    assert_eq!(late.due(&ledger, day(30)), Due::Post);
    let silence = Command::Post { terms: terms(), evidence: handed_over() };
    let Decision::Append(entries) = step(&mut ledger, 30, &silence).unwrap() else { panic!("nothing") };
    assert_eq!(entries[0].about, ledger.void().map(|void| void.id));
    assert_eq!(late.due(&ledger, day(31)), Due::Nothing);
    // The receipt after it changes nothing.
    assert!(matches!(step(&mut ledger, 32, &post(terms())).unwrap(), Decision::AlreadyDone(_)));
}

/// The day on which something comes, if it comes.
fn arrival() -> impl Strategy<Value = Option<i64>> {
    proptest::option::weighted(0.8, 1..40_i64)
}

proptest! {
    #[test]
    fn whatever_comes_when_the_fee_is_decided_before_the_reservation_expires(
        delivered in arrival(),
        released in arrival(),
        released_on in 0..CONSENT_DAYS * 2,
        ended in proptest::option::weighted(0.2, 1..40_i64),
        held in proptest::option::weighted(0.2, 1..40_i64),
        receipt in proptest::option::weighted(0.3, 1..120_i64),
        silence_days in 0..=SILENCE_MAX_MS / DAY_MS,
    ) {
        let mut ledger = reserved();
        let has = |what: Option<i64>, today| what.is_some_and(|on| on <= today);
        let offered = delivered.zip(released).map(|(delivered, released)| delivered.max(released));
        let last = CONSENT_DAYS + RESERVATION_AFTER_CONSENT_MS / DAY_MS;
        for today in 0..=last {
            if held == Some(today) && ledger.posted().is_none() {
                step(&mut ledger, today, &hold(None)).unwrap();
            }
            if receipt == Some(today) {
                step(&mut ledger, today, &post(terms())).unwrap();
            }
            let known = Handover {
                consent_expires: day(CONSENT_DAYS),
                is_delivered: has(delivered, today),
                released: released.filter(|on| *on <= today).map(|_| day(released_on)),
                silent_until: offered.filter(|on| *on <= today).map(|on| day(on + silence_days)),
                is_ended: has(ended, today),
            };
            match known.due(&ledger, day(today)) {
                Due::Nothing => {}
                // Whoever looks again then does so in finite time, and no silence outlives its reservation.
                Due::Later(at) => {
                    prop_assert!(day(today) < at);
                    prop_assert!(ledger.open_reservation().is_none_or(|it| Some(at) <= it.expires));
                }
                Due::Post => {
                    prop_assert!(known.is_delivered && !known.is_ended && ledger.open_hold().is_none());
                    prop_assert!(released_on < CONSENT_DAYS && offered.unwrap() + silence_days <= today);
                    let silence = Command::Post { terms: terms(), evidence: handed_over() };
                    prop_assert!(matches!(step(&mut ledger, today, &silence), Ok(Decision::Append(_))));
                }
                Due::Void(reason) => {
                    prop_assert!(today >= COPIES_DAY);
                    prop_assert!(matches!(step(&mut ledger, today, &void(reason)), Ok(Decision::Append(_))));
                }
            }
        }
        // Only what people have to look at is left.
        prop_assert!(ledger.open_reservation().is_none() || ledger.open_hold().is_some());
        let fees = ledger.entries().iter().filter(|entry| matches!(entry.kind.as_str(), "post" | "post-direct"));
        prop_assert!(fees.count() <= 1);
        prop_assert!(receipt.is_none_or(|on| on > last) || ledger.posted().is_some());
    }
}
