use super::super::samples::{
    agreed, day, handed_over, hash, patient, post, receipt, reserve, reverse, step, terms, terms_with, told,
    usd, void,
};
use super::*;
use crate::codec::{decode, encode};
use crate::ledger::MAX_ENTRY_BYTES;

/// Steps (day, command), what the books tell after them, and what the last step answered: the kind of the entry, or
/// the refusal.
#[test]
fn what_follows_from_what() {
    let reserved = || (0, reserve(terms()));
    let posted = || (1, post(terms()));
    let voided = || (2, void(Reason::ConsentRevoked));
    let out_of_order = |why| Err(LedgerError::OutOfOrder(why));
    type Case = (&'static str, Vec<(i64, Command)>, &'static str, Result<EntryKind, LedgerError>);
    let cases: Vec<Case> = vec![
        ("reserved", vec![reserved()], "reserve", Ok(EntryKind::Reserve)),
        ("posted", vec![reserved(), posted()], "reserve post", Ok(EntryKind::Post)),
        ("reserved again", vec![reserved(), (3, reserve(terms()))], "reserve", Ok(EntryKind::Reserve)),
        (
            "reserved after the post",
            vec![reserved(), posted(), (3, reserve(terms()))],
            "reserve post",
            Ok(EntryKind::Reserve),
        ),
        ("posted again", vec![reserved(), posted(), posted()], "reserve post", Ok(EntryKind::Post)),
        (
            "another proof",
            vec![reserved(), posted(), (3, Command::Post { terms: terms(), evidence: handed_over() })],
            "reserve post",
            Ok(EntryKind::Post),
        ),
        ("voided", vec![reserved(), voided()], "reserve void", Ok(EntryKind::Void)),
        (
            "voided again, for another reason",
            vec![reserved(), voided(), (50, void(Reason::ReservationExpired))],
            "reserve void",
            Ok(EntryKind::Void),
        ),
        (
            "proof after a void",
            vec![reserved(), voided(), (3, post(terms()))],
            "reserve void post-direct",
            Ok(EntryKind::PostDirect),
        ),
        (
            "and again",
            vec![reserved(), voided(), (3, post(terms())), (4, post(terms()))],
            "reserve void post-direct",
            Ok(EntryKind::PostDirect),
        ),
        ("proof without a reservation", vec![posted()], "post-direct", Ok(EntryKind::PostDirect)),
        (
            "the reservation comes late",
            vec![posted(), (3, reserve(terms()))],
            "post-direct",
            Ok(EntryKind::PostDirect),
        ),
        (
            "proof after the expiry",
            vec![reserved(), (40, post(terms()))],
            "reserve void post-direct",
            Ok(EntryKind::PostDirect),
        ),
        ("proof right before it", vec![reserved(), (39, post(terms()))], "reserve post", Ok(EntryKind::Post)),
        ("void of nothing", vec![voided()], "", out_of_order("no fee is reserved for this transfer")),
        (
            "void of a post",
            vec![reserved(), posted(), voided()],
            "reserve post",
            out_of_order("the fee is posted: it can be reversed, not voided"),
        ),
        (
            "expired too early",
            vec![reserved(), (39, void(Reason::ReservationExpired))],
            "reserve",
            out_of_order("the reservation has not expired"),
        ),
        (
            "expired",
            vec![reserved(), (40, void(Reason::ReservationExpired))],
            "reserve void",
            Ok(EntryKind::Void),
        ),
        (
            "reserved too late",
            vec![(40, reserve(terms()))],
            "",
            out_of_order("the reservation has expired already"),
        ),
        (
            "taken back in parts",
            vec![reserved(), posted(), (2, reverse(0, usd(10_000))), (2, reverse(1, usd(989)))],
            "reserve post reverse reverse",
            Ok(EntryKind::Reverse),
        ),
        (
            "the same part again",
            vec![posted(), (2, reverse(0, usd(10_000))), (2, reverse(0, usd(10_000)))],
            "post-direct reverse",
            Ok(EntryKind::Reverse),
        ),
        (
            "another part under its number",
            vec![posted(), (2, reverse(0, usd(10_000))), (2, reverse(0, usd(1)))],
            "post-direct reverse",
            Err(LedgerError::Conflict { field: "amount" }),
        ),
        (
            "more than there was",
            vec![posted(), (2, reverse(0, usd(10_000))), (2, reverse(1, usd(990)))],
            "post-direct reverse",
            Err(LedgerError::ReversalExceeds),
        ),
        (
            "taken back before it was due",
            vec![reserved(), (2, reverse(0, usd(1)))],
            "reserve",
            out_of_order("no fee is posted for this transfer"),
        ),
        (
            "no new fee after a reversal",
            vec![posted(), (2, reverse(0, usd(10_989))), (3, post(terms()))],
            "post-direct reverse",
            Ok(EntryKind::PostDirect),
        ),
    ];
    for (name, steps, story, answer) in cases {
        let mut ledger = TransferLedger::default();
        let mut last = out_of_order("no step");
        for (on_day, command) in &steps {
            last = step(&mut ledger, *on_day, command).map(|decision| decision.answer().unwrap().kind);
        }
        assert_eq!((told(&ledger).as_str(), last), (story, answer), "{name}");
    }
}

#[test]
fn another_content_is_a_conflict_that_names_the_field() {
    type Change = fn(&mut Terms, &mut Evidence, &mut Timestamp);
    let changes: [(&str, Change); 9] = [
        ("source", |terms, _, _| terms.source = "seaside".parse().unwrap()),
        ("destination", |terms, _, _| terms.destination = "seaside".parse().unwrap()),
        ("payer", |terms, _, _| terms.payer = Holder::Hospital(terms.destination.clone())),
        ("amount", |terms, _, _| terms.amount = usd(1)),
        ("cap", |terms, _, _| terms.cap = usd(20_001)),
        ("quote", |_, evidence, _| evidence.quote = Some(hash("other"))),
        ("consent", |_, evidence, _| evidence.consent = Some(hash("other"))),
        ("acceptance", |_, evidence, _| evidence.acceptance = None),
        ("expires", |_, _, expires| *expires = day(41)),
    ];
    for (field, change) in changes {
        let (mut changed, mut evidence, mut expires) = (terms(), receipt(), day(40));
        change(&mut changed, &mut evidence, &mut expires);
        let again = Command::Reserve { terms: changed.clone(), expires, evidence: evidence.clone() };
        let proof = Command::Post { terms: changed, evidence };
        for before in [vec![], vec![post(terms())], vec![void(Reason::NotDelivered)]] {
            let mut ledger = TransferLedger::default();
            step(&mut ledger, 0, &reserve(terms())).unwrap();
            before.iter().for_each(|command| drop(step(&mut ledger, 1, command).unwrap()));
            let conflict = Err(LedgerError::Conflict { field });
            assert_eq!(step(&mut ledger, 2, &again), conflict);
            if field != "expires" {
                assert_eq!(step(&mut ledger, 2, &proof), conflict);
            }
        }
    }
}

#[test]
fn terms_that_cannot_be_booked() {
    let eur = |minor| Amount::from_minor(minor, "EUR".parse().unwrap());
    let hospital = |name: &str| Holder::Hospital(name.parse().unwrap());
    let mixed = LedgerError::MixedCurrencies(usd(0).currency(), eur(0).currency());
    let cases = [
        (Terms { amount: usd(20_001), ..terms() }, LedgerError::CapExceeded),
        (Terms { amount: usd(-1), ..terms() }, LedgerError::Terms("a fee is not negative")),
        (Terms { cap: eur(20_000), ..terms() }, mixed),
        (
            Terms { payer: hospital("lakeside"), ..terms() },
            LedgerError::Terms("a hospital that pays must be the destination"),
        ),
        (
            Terms { destination: "lakeside".parse().unwrap(), ..terms() },
            LedgerError::Terms("source and destination are one hospital"),
        ),
    ];
    for (terms, refusal) in cases {
        for command in [reserve(terms.clone()), post(terms)] {
            assert_eq!(step(&mut TransferLedger::default(), 0, &command), Err(refusal.clone()));
        }
    }
}

#[test]
fn evidence_is_asked_for() {
    let handed_over_without = |change: fn(&mut Evidence)| {
        let mut evidence = handed_over();
        change(&mut evidence);
        evidence
    };
    let hospital = || terms_with(1, Holder::Hospital("hilltop".parse().unwrap()), usd(1));
    let proof = "receipt, or of delivery with both releases";
    for (terms, evidence, missing) in [
        (terms(), Evidence { quote: None, ..receipt() }, "quote"),
        (terms(), Evidence { consent: None, ..receipt() }, "consent"),
        (hospital(), Evidence { acceptance: None, ..receipt() }, "fee acceptance"),
        (terms(), agreed(), proof),
        (terms(), handed_over_without(|evidence| evidence.delivered = None), proof),
        (terms(), handed_over_without(|evidence| evidence.key_release = None), proof),
        (terms(), handed_over_without(|evidence| evidence.share_release = None), proof),
    ] {
        let command = Command::Post { terms, evidence };
        let refused = step(&mut TransferLedger::default(), 0, &command);
        assert_eq!(refused, Err(LedgerError::EvidenceMissing(missing)));
    }
    for terms in [terms_with(1, patient(), usd(0)), hospital()] {
        let command = Command::Post { terms, evidence: handed_over() };
        assert!(step(&mut TransferLedger::default(), 0, &command).is_ok());
    }
}

#[test]
fn a_zero_fee_is_told_as_well() {
    let terms = terms_with(1, patient(), usd(0));
    let mut ledger = TransferLedger::default();
    step(&mut ledger, 0, &reserve(terms.clone())).unwrap();
    step(&mut ledger, 1, &post(terms)).unwrap();
    assert_eq!(told(&ledger), "reserve post");
}

#[test]
fn nothing_is_dated_into_a_closed_cycle() {
    let open_cycle: Cycle = "2027-01".parse().unwrap();
    let context = Context { now: day(0), open_cycle: Some(open_cycle.clone()) };
    let decision = apply(&TransferLedger::default(), &context, &post(terms())).unwrap();
    let entry = decision.answer().unwrap().clone();
    assert_eq!((entry.at, &entry.cycle), (day(0), &open_cycle));
    let mut ledger = TransferLedger::from_entries([entry]).unwrap();
    let closed = Context { now: day(0), open_cycle: None };
    assert_eq!(
        apply(&ledger, &closed, &reverse(0, usd(1))),
        Err(LedgerError::ClosedCycle("2026-11".parse().unwrap()))
    );
    assert!(step(&mut ledger, 0, &reverse(0, usd(1))).is_ok());
}

#[test]
fn what_was_altered_is_found() {
    let mut ledger = TransferLedger::default();
    step(&mut ledger, 0, &reserve(terms())).unwrap();
    step(&mut ledger, 1, &post(terms())).unwrap();
    let changes: [fn(&mut Entry); 12] = [
        |entry| entry.amount = usd(1),
        |entry| entry.cap = usd(10_988),
        |entry| entry.cap = usd(30_000),
        |entry| entry.payer = Holder::Hospital(entry.destination.clone()),
        |entry| entry.source = "seaside".parse().unwrap(),
        |entry| entry.kind = EntryKind::PostDirect,
        |entry| entry.sequence = 1,
        |entry| entry.about = None,
        |entry| entry.evidence.receipt = None,
        |entry| entry.postings[0].amount_minor -= 1,
        |entry| entry.postings[0].credit.currency = "EUR".parse().unwrap(),
        |entry| entry.at = day(40),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut entries = ledger.entries().to_vec();
        change(&mut entries[1]);
        assert!(TransferLedger::from_entries(entries).is_err(), "{number}");
    }
    let twice = [ledger.entries(), &ledger.entries()[1..]].concat();
    assert!(TransferLedger::from_entries(twice).is_err());
    assert!(TransferLedger::from_entries(ledger.entries().to_vec()).is_ok());
}

/// The stored form is fixed: these bytes are in the leaves of every tree.
#[test]
fn an_entry_has_golden_bytes() {
    let mut ledger = TransferLedger::default();
    step(&mut ledger, 0, &reserve(terms())).unwrap();
    step(&mut ledger, 1, &post(terms())).unwrap();
    for (entry, golden) in ledger.entries().iter().zip(GOLDEN) {
        let bytes = encode(entry);
        assert_eq!(hex::encode(&bytes), golden.concat());
        assert_eq!(decode::<Entry>(&bytes, MAX_ENTRY_BYTES).as_ref(), Ok(entry));
    }
}

const GOLDEN: [&[&str]; 2] = [
    &[
        "ae01582066bf4719eafaaf9129ab4adb8e1c2c38d3ed6d155f186d5655a656a9361876cc02010300045001a1fd3e8a95",
        "7101810101010101010105686c616b6573696465066768696c6c746f7007582007070707070707070707070707070707",
        "070707070707070707070707070707070882192aed635553440982194e20635553440c1b000001a2cb3cea950da40158",
        "206327245c3a45d3d9ea72b70fbb671926e7b80f63d311bfd73dde876d5df02b2602582012423e0482f3e81cb1d23230",
        "664e95bb3d11b9f34f06fc199e588d4cdab6e4d4035820c1514c6cdad166c18aa557dc1d780ba84c0e32df7633235385",
        "023eb429377e740458201e0584a25d9f43bf5cbd0aec01eb1af2220ed085b4e7f1837b0d89958cae353a0e81a3018258",
        "200707070707070707070707070707070707070707070707070707070707070707635553440282686c616b6573696465",
        "6355534403192aed0f1b000001a1fd3e8a951067323032362d3131",
    ],
    &[
        "ae015820ff2183c0628d6b1cd78a4778ac79611c054b9215d4f147986eccf159697061c902020300045001a1fd3e8a95",
        "7101810101010101010105686c616b6573696465066768696c6c746f7007582007070707070707070707070707070707",
        "070707070707070707070707070707070882192aed635553440982194e20635553440a582066bf4719eafaaf9129ab4a",
        "db8e1c2c38d3ed6d155f186d5655a656a9361876cc0da50158206327245c3a45d3d9ea72b70fbb671926e7b80f63d311",
        "bfd73dde876d5df02b2602582012423e0482f3e81cb1d23230664e95bb3d11b9f34f06fc199e588d4cdab6e4d4035820",
        "c1514c6cdad166c18aa557dc1d780ba84c0e32df7633235385023eb429377e740458201e0584a25d9f43bf5cbd0aec01",
        "eb1af2220ed085b4e7f1837b0d89958cae353a0858206f32860910ca0fb2a20c7fda143666b09dbf8db5238195c90a58",
        "6fb542ff0cad0e81a3018258200707070707070707070707070707070707070707070707070707070707070707635553",
        "440282686c616b65736964656355534403192aed0f1b000001a20264e6951067323032362d3131",
    ],
];
