use super::super::samples::{
    agreed, handed_over, hash, hold, post, reserve, reverse, settle, step, terms, told, usd, void,
};
use crate::ledger::{Command, EntryKind, Evidence, LedgerError, Reason, Terms, TransferLedger};

/// A hold moves nothing, is settled once, and whatever it is settled as is booked in the same step.
#[test]
fn holds_are_settled_once() {
    let reserved = || (0, reserve(terms()));
    let held = || (2, hold(None));
    let out_of_order = |why| Err(LedgerError::OutOfOrder(why));
    type Case = (&'static str, Vec<(i64, Command)>, &'static str, Result<EntryKind, LedgerError>);
    let cases: Vec<Case> = vec![
        ("held", vec![reserved(), held()], "reserve hold", Ok(EntryKind::Hold)),
        (
            "held again",
            vec![reserved(), held(), (3, hold(Some(usd(1))))],
            "reserve hold",
            Ok(EntryKind::Hold),
        ),
        (
            "for the source",
            vec![reserved(), held(), (3, settle(true))],
            "reserve hold post release",
            Ok(EntryKind::Release),
        ),
        (
            "for the source, again",
            vec![reserved(), held(), (3, settle(true)), (4, settle(true))],
            "reserve hold post release",
            Ok(EntryKind::Release),
        ),
        (
            "and then for the payer",
            vec![reserved(), held(), (3, settle(true)), (4, settle(false))],
            "reserve hold post release",
            Err(LedgerError::Conflict { field: "order" }),
        ),
        (
            "for the payer",
            vec![reserved(), held(), (3, settle(false))],
            "reserve hold void release",
            Ok(EntryKind::Release),
        ),
        (
            "for the source, after the reservation expired",
            vec![reserved(), held(), (70, settle(true))],
            "reserve hold void post-direct release",
            Ok(EntryKind::Release),
        ),
        (
            "it does not end by time alone",
            vec![reserved(), held(), (70, void(Reason::ReservationExpired))],
            "reserve hold",
            out_of_order("the fee is held: it does not end by time alone"),
        ),
        (
            "the destination's own receipt",
            vec![reserved(), held(), (3, post(terms())), (4, settle(false))],
            "reserve hold post",
            out_of_order("the hold is settled by what was booked since"),
        ),
        (
            "the receipt comes after it was settled for the payer",
            vec![reserved(), held(), (3, settle(false)), (4, post(terms()))],
            "reserve hold void release",
            Ok(EntryKind::Release),
        ),
        (
            "so does silence",
            vec![
                reserved(),
                held(),
                (3, settle(false)),
                (4, Command::Post { terms: terms(), evidence: handed_over() }),
            ],
            "reserve hold void release",
            Ok(EntryKind::Release),
        ),
        (
            "the receipt of another agreement",
            vec![reserved(), held(), (3, settle(false)), (4, post(Terms { amount: usd(1), ..terms() }))],
            "reserve hold void release",
            Err(LedgerError::Conflict { field: "amount" }),
        ),
        (
            "and what would give it back",
            vec![reserved(), held(), (3, settle(false)), (4, reverse(1, usd(1)))],
            "reserve hold void release",
            out_of_order("no fee is posted for this transfer"),
        ),
        (
            "without a reservation, for the payer, and the receipt",
            vec![held(), (3, settle(false)), (4, reserve(terms())), (5, post(terms()))],
            "hold release",
            Ok(EntryKind::Release),
        ),
        ("a reservation after the hold", vec![held(), (3, reserve(terms()))], "hold", Ok(EntryKind::Hold)),
        (
            "a posted fee, for the payer, and the receipt again",
            vec![
                reserved(),
                (1, post(terms())),
                (2, hold(Some(usd(1)))),
                (3, settle(false)),
                (4, post(terms())),
                (5, reverse(1, usd(1))),
            ],
            "reserve post hold reverse release",
            Err(LedgerError::ReversalExceeds),
        ),
        (
            "a posted fee, for the payer",
            vec![reserved(), (1, post(terms())), (2, hold(Some(usd(1)))), (3, settle(false))],
            "reserve post hold reverse release",
            Ok(EntryKind::Release),
        ),
        (
            "a posted fee, for the source",
            vec![reserved(), (1, post(terms())), (2, hold(Some(usd(1)))), (3, settle(true))],
            "reserve post hold release",
            Ok(EntryKind::Release),
        ),
        (
            "without a reservation, for the payer",
            vec![held(), (3, settle(false))],
            "hold release",
            Ok(EntryKind::Release),
        ),
        (
            "nothing is held",
            vec![reserved(), (3, settle(true))],
            "reserve",
            out_of_order("no hold on this fee"),
        ),
    ];
    for (name, steps, wanted, answer) in cases {
        let mut ledger = TransferLedger::default();
        let mut last = None;
        for (on_day, command) in &steps {
            last = Some(step(&mut ledger, *on_day, command));
        }
        assert_eq!(told(&ledger), wanted, "{name}");
        let came = last.unwrap().map(|decision| decision.answer().unwrap().kind);
        assert_eq!(came, answer, "{name}");
        let fees = ledger.entries().iter().filter(|entry| entry.proof().is_some());
        assert!(fees.count() <= 1, "{name}");
    }
}

/// A release stands on what it settles, and after one for the payer no fee is read back either.
#[test]
fn a_settlement_stands_whole_and_alone() {
    let mut ledger = TransferLedger::default();
    for (on_day, command) in [(0, reserve(terms())), (2, hold(None))] {
        step(&mut ledger, on_day, &command).unwrap();
    }
    let mut unsettled = ledger.clone();
    for is_due in [true, false] {
        let mut settled = ledger.clone();
        step(&mut settled, 3, &settle(is_due)).unwrap();
        let release = settled.release().unwrap().clone();
        assert!(unsettled.push(release).is_err(), "nothing is booked");
    }
    step(&mut ledger, 3, &settle(false)).unwrap();
    // An earlier void, by time, say, would have let the receipt be posted after it.
    step(&mut unsettled, 2, &void(Reason::NotDelivered)).unwrap();
    step(&mut unsettled, 4, &post(terms())).unwrap();
    let posted = unsettled.posted().unwrap().clone();
    assert_eq!(posted.about, ledger.void().map(|void| void.id));
    let refused = Err(LedgerError::Damaged("a fee after it was settled for its payer"));
    assert_eq!(ledger.push(posted), refused);
}

fn signed_by_others(is_due: bool) -> Command {
    let evidence = Evidence { order: Some(hash("by others")), ..agreed() };
    Command::Settle { terms: terms(), is_due, evidence }
}

/// Books that were restored can end anywhere between what an order booked: the order books the rest.
#[test]
fn an_order_that_was_booked_in_part_books_the_rest() {
    let before = [
        vec![(0, reserve(terms())), (2, hold(None))],
        vec![(0, reserve(terms())), (1, post(terms())), (2, hold(Some(usd(1))))],
        vec![(2, hold(None))],
    ];
    // On the second of these days the reservation has expired.
    for (steps, is_due, on_day) in before
        .iter()
        .flat_map(|it| [true, false].map(|is_due| (it, is_due)))
        .flat_map(|(it, is_due)| [3, 70].map(|day| (it, is_due, day)))
    {
        let mut held = TransferLedger::default();
        for (on_day, command) in steps {
            step(&mut held, *on_day, command).unwrap();
        }
        let mut whole = held.clone();
        step(&mut whole, on_day, &settle(is_due)).unwrap();
        for cut in held.entries().len()..whole.entries().len() {
            let mut ledger = TransferLedger::default();
            whole.entries()[..cut].iter().for_each(|entry| ledger.push(entry.clone()).unwrap());
            assert!(ledger.open_hold().is_some(), "{}: nobody has settled it", told(&ledger));
            // That a reservation expired, nobody ordered.
            if ledger.order().is_some() {
                // Also one of the same content that others have signed: each entry names one order.
                for other in [settle(!is_due), signed_by_others(is_due)] {
                    let before = ledger.clone();
                    let refused = step(&mut ledger, on_day, &other);
                    assert_eq!(refused, Err(LedgerError::Conflict { field: "order" }), "{}", told(&before));
                    assert_eq!(ledger, before);
                }
                assert_eq!(ledger.is_let_go(), !is_due);
            }
            step(&mut ledger, on_day, &settle(is_due)).unwrap();
            assert_eq!(ledger, whole);
        }
    }
}
