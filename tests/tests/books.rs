//! The index's books, held against what was signed: what differs is named, what may still come is no fault, and only what
//! the index signed and its log holds counts.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::artefact::books::{HoldOrder, LedgerPage, Settled};
use handover_core::artefact::transfer::{Receipt, Refusal};
use handover_core::artefact::{Payload as _, Signed, Verified};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::ledger::{
    Command, Context, Decision, Entry, EntryKind, Evidence, Holder, TransferLedger, apply, entry_id,
};
use handover_core::message::{BooksAnswer, BooksQuestion};
use handover_core::time::DAY_MS;
use handover_core::verify::{
    BooksFile, Looked, Report, Standing, is_books, standing, verify_artefacts, verify_books,
};
use handover_core::{Amount, Code, Digest, HospitalId, rules};
use handover_seal::Ed25519;
use handover_tests::fixture::{Plan, Story, T0, World, altered, by_two};
use handover_tests::rogue::books::FalseBooks;

/// From the first entry on.
fn all() -> BooksQuestion {
    BooksQuestion { from: 0, seen: 0, extensions: Extensions::default() }
}

/// A transfer with all of its evidence, and the books that follow from it.
struct Booked {
    story: Story,
    artefacts: Vec<Vec<u8>>,
    report: Report,
    agreed: Evidence,
    entries: Vec<Entry>,
}

fn report(artefacts: &[Vec<u8>]) -> Report {
    let artefacts: Vec<Bytes> = artefacts.iter().cloned().map(Into::into).collect();
    verify_artefacts(&artefacts, World::context()).unwrap()
}

/// What follows from commands, one a day.
fn followed(commands: &[Command]) -> Vec<Entry> {
    let mut ledger = TransferLedger::default();
    for (number, command) in (0..).zip(commands) {
        let context = Context { now: T0.plus_ms(number * DAY_MS), open_cycle: None };
        let Decision::Append(entries) = apply(&ledger, &context, command).unwrap() else { continue };
        entries.into_iter().for_each(|entry| ledger.push(entry).unwrap());
    }
    ledger.entries().to_vec()
}

impl Booked {
    fn new() -> Self {
        let story = Story::tell(Plan::opaque(1));
        let artefacts = story.to_receipt();
        let report = report(&artefacts);
        let agreed = Evidence {
            quote: report.founded.commitment,
            consent: Some(story.consent.hash()),
            acceptance: story.acceptance.as_ref().map(Verified::hash),
            header: Some(story.header.hash()),
            ..Evidence::default()
        };
        let mut booked = Self { story, artefacts, report, agreed, entries: Vec::new() };
        booked.entries = followed(&[booked.reserve(), booked.post()]);
        booked
    }

    fn terms(&self) -> handover_core::ledger::Terms {
        self.report.founded.terms.clone().unwrap()
    }

    fn reserve(&self) -> Command {
        let expires = T0.plus_ms(70 * DAY_MS);
        Command::Reserve { terms: self.terms(), expires, evidence: self.agreed.clone() }
    }

    fn post(&self) -> Command {
        let receipt = Some(self.story.receipt.hash());
        Command::Post { terms: self.terms(), evidence: Evidence { receipt, ..self.agreed.clone() } }
    }

    /// How the destination and the source find entries, with what they have of the transfer.
    fn found(&self, entries: &[Entry], own: Option<&Report>, day: i64) -> [Standing; 2] {
        [&self.report.destination, &self.report.source].map(|by| {
            let at = T0.plus_ms(day * DAY_MS);
            standing(entries, own, Looked { by, at, is_all: true, orders: &[] })
        })
    }

    fn books(&self, entries: &[Entry]) -> FalseBooks {
        let mut books = FalseBooks::default();
        entries.iter().for_each(|entry| books.book(entry.clone()));
        books
    }
}

fn answered(books: &FalseBooks, by: &HospitalId, question: &BooksQuestion, day: i64) -> BooksAnswer {
    books.answer_at(question, by, &World::shared().index, T0.plus_ms(day * DAY_MS))
}

#[test]
fn what_was_signed_and_booked_agrees() {
    let booked = Booked::new();
    assert_eq!(booked.found(&booked.entries, Some(&booked.report), 1), [Standing::Agrees; 2]);
    let filed = booked.found(&booked.entries[..1], Some(&booked.report), 1);
    assert_eq!(filed, [Standing::Late(Code::FeeMissing); 2]);
    assert_eq!(booked.found(&[], None, 1), [Standing::Agrees; 2]);
}

#[test]
fn what_differs_is_named() {
    let booked = Booked::new();
    let changed = |change: &dyn Fn(&mut Entry)| {
        let mut entries = booked.entries.clone();
        entries.iter_mut().for_each(change);
        entries
    };
    let more = |minor: i64| {
        changed(&|it| {
            let plus = |amount: Amount| Amount::from_minor(amount.minor() + minor, amount.currency());
            (it.amount, it.cap) = (plus(it.amount), plus(it.cap));
            it.postings.iter_mut().for_each(|posting| posting.amount_minor += minor);
        })
    };
    let mut twice = booked.entries.clone();
    twice.push(Entry { kind: EntryKind::PostDirect, about: None, ..booked.entries[1].clone() });
    let yen = changed(&|it| {
        let currency = "JPY".parse().unwrap();
        it.amount = Amount::from_minor(it.amount.minor(), currency);
        it.cap = Amount::from_minor(it.cap.minor(), currency);
    });
    let other_payer = changed(&|it| it.payer = Holder::Hospital(it.destination.clone()));
    let other_header = changed(&|it| it.evidence.header = Some(Digest::from_bytes([7; 32])));
    let no_receipt =
        changed(&|it| it.evidence.receipt = it.evidence.receipt.and(Some(booked.story.header.hash())));
    let early = changed(&|it| {
        if it.kind == EntryKind::Post {
            it.evidence.receipt = None;
            it.evidence.delivered = Some(booked.story.delivered.hash());
            it.evidence.key_release = Some(booked.story.key_release.hash());
            it.evidence.share_release = Some(booked.story.share_release.hash());
        }
    });
    let mut given_back = booked.entries.clone();
    given_back.push({
        let mut entry = Entry { kind: EntryKind::Reverse, sequence: 1, ..booked.entries[1].clone() };
        entry.id = entry_id(&entry.source, &entry.destination, &entry.transfer, entry.kind, 1);
        entry.about = Some(booked.entries[1].id);
        entry.reason = Some(handover_core::ledger::Reason::Recalled);
        entry.evidence = Evidence { recall: Some(Digest::from_bytes([7; 32])), ..Evidence::default() };
        entry
    });
    let source_alone = [Standing::InFlight, Standing::Late(Code::FeeUnfounded)];
    let destination_alone = [Standing::Late(Code::FeeUnfounded), Standing::InFlight];
    let both = |code| [Standing::Differs(code); 2];
    for (what, entries, wanted) in [
        ("posted twice", twice, both(Code::FeePostedTwice)),
        ("another amount", more(1), both(Code::FeeDiffers)),
        ("another currency", yen, both(Code::FeeDiffers)),
        ("another payer", other_payer, both(Code::FeeDiffers)),
        // Dates are the word of others, the index's time of posting is its own.
        ("posted while silence lasts", early, [Standing::Late(Code::FeeUnfounded); 2]),
        // Whose artefact it would be, knows, and who pays has to; to the other it may still come.
        ("another header", other_header, [Standing::Late(Code::FeeUnfounded); 2]),
        ("on what is no receipt", no_receipt, destination_alone),
        ("given back without a recall", given_back, source_alone),
    ] {
        assert_eq!(booked.found(&entries, Some(&booked.report), 1), wanted, "{what}");
    }
    // What hangs on something that is not there is proven by nothing, however long it lasts.
    for day in [1, 1_000] {
        let late = |code| [Standing::Late(code); 2];
        assert_eq!(
            booked.found(&booked.entries, None, day),
            late(Code::FeeUnfounded),
            "of an unknown transfer"
        );
        for entries in [&booked.entries[..1], &[]] {
            assert_eq!(booked.found(entries, Some(&booked.report), day), late(Code::FeeMissing));
        }
    }
}

#[test]
fn another_fee_is_proven_by_the_header_that_the_entry_names_alone() {
    let booked = Booked::new();
    let mut entries = booked.entries.clone();
    for entry in &mut entries {
        entry.amount = Amount::from_minor(entry.amount.minor() - 1, entry.amount.currency());
        entry.postings.iter_mut().for_each(|posting| posting.amount_minor -= 1);
    }
    let own = Some(&booked.report);
    assert_eq!(booked.found(&entries[..1], own, 1), [Standing::Differs(Code::FeeDiffers); 2]);
    // Of a source that signs two headers, and shows the one that the index never got.
    entries.iter_mut().for_each(|entry| entry.evidence.header = Some(Digest::from_bytes([7; 32])));
    for standing in booked.found(&entries[..1], own, 1) {
        assert!(matches!(standing, Standing::Late(_)), "{standing:?}");
    }
}

#[test]
fn what_may_still_come_is_no_fault() {
    let booked = Booked::new();
    let other = World::shared();
    let unread = altered(&booked.story.receipt, &other.riverside.signing, |it: &mut Receipt| {
        it.fee = Amount::from_minor(it.fee.minor() + 1, it.fee.currency());
    });
    // The package, or all after it, has not come here yet.
    for length in 3..booked.artefacts.len() {
        let known = report(&booked.artefacts[..length]);
        let [destination, source] = booked.found(&booked.entries, Some(&known), 1);
        // Its own receipt cannot be on its way to who made it.
        assert_eq!(destination, Standing::Late(Code::FeeUnfounded), "{length}");
        let sealed = known.fee.is_some();
        let wanted = if sealed { Standing::InFlight } else { Standing::Late(Code::FeeUnfounded) };
        assert_eq!(source, wanted, "{length}");
        let [destination, _] = booked.found(&booked.entries[..1], Some(&known), 20);
        assert_eq!(destination, Standing::InFlight, "{length}");
    }
    // A receipt of another fee founds nothing; nothing is missing either.
    let mut artefacts = booked.artefacts.clone();
    *artefacts.last_mut().unwrap() = unread;
    let disputed = report(&artefacts);
    assert_eq!(booked.found(&booked.entries[..1], Some(&disputed), 60), [Standing::InFlight; 2]);
}

#[test]
fn a_hold_is_settled_by_the_order_of_two_and_by_nothing_else() {
    let (booked, world) = (Booked::new(), World::shared());
    let mut artefacts = booked.artefacts[..booked.artefacts.len() - 1].to_vec();
    let refused = altered(&booked.story.refusal, &world.riverside.signing, |_: &mut Refusal| {});
    artefacts.push(refused.clone());
    let own = report(&artefacts);
    let refusal = own.steps.iter().find(|step| step.artefact == Refusal::TYPE).map(|step| step.hash);
    let evidence = Evidence { refusal, ..booked.agreed.clone() };
    let hold = Command::Hold { terms: booked.terms(), stated: None, evidence };
    let held = followed(&[booked.reserve(), hold.clone()]);
    assert_eq!(booked.found(&held, Some(&own), 1_000), [Standing::InFlight; 2]);
    // A refusal of what can be read is held: neither left alone nor let go.
    let void =
        Command::Void { reason: handover_core::ledger::Reason::NotDelivered, evidence: Evidence::default() };
    for commands in [vec![], vec![booked.reserve()], vec![booked.reserve(), void]] {
        let found = booked.found(&followed(&commands), Some(&own), 1);
        assert_eq!(found, [Standing::Late(Code::FeeMissing); 2], "{commands:?}");
    }
    // One about an attempt that was never sealed says nothing of what was handed over before.
    let later = altered(&booked.story.refusal, &world.riverside.signing, |it: &mut Refusal| it.attempt = 2);
    let last = artefacts.len() - 1;
    let about_later = report(&[&artefacts[..last], &[later]].concat());
    let found = booked.found(&followed(&[booked.reserve()]), Some(&about_later), 1);
    assert_eq!(found, [Standing::InFlight; 2]);
    // With the receipt here, a hold keeps nothing back; a made-up one founds nothing.
    let mut filed = booked.artefacts.clone();
    filed.push(refused);
    assert_eq!(booked.found(&held, Some(&report(&filed)), 1), [Standing::Late(Code::FeeMissing); 2]);
    assert_eq!(booked.found(&held, Some(&booked.report), 1), [Standing::Late(Code::FeeUnfounded); 2]);
    let [ada, grace] = &world.operators;
    let order = |settled| HoldOrder {
        transfer: booked.story.id,
        hold: held[1].id,
        settled,
        reason: "the package was whole".to_owned(),
        issued: T0,
        extensions: Extensions::default(),
    };
    let signed =
        |order: HoldOrder| rules::hold_order(&by_two(order, &ada.key, &grace.key), World::context()).unwrap();
    let one = by_two(order(Settled::ForSource), &ada.key, &ada.key);
    assert_eq!(rules::hold_order(&one, World::context()).map(drop), Err(Code::WrongSigner));
    let right = signed(order(Settled::ForSource));
    let evidence = Evidence { order: Some(right.hash()), ..booked.agreed.clone() };
    let settle = Command::Settle { terms: booked.terms(), is_due: true, evidence };
    let settled = followed(&[booked.reserve(), hold, settle]);
    let look = |orders: &[Verified<HoldOrder>]| {
        let at = T0.plus_ms(3 * DAY_MS);
        standing(&settled, Some(&own), Looked { by: &own.destination, at, is_all: true, orders })
    };
    let other_hold = HoldOrder { hold: booked.entries[0].id, ..order(Settled::ForSource) };
    assert_eq!(look(&[right]), Standing::Agrees);
    for orders in [vec![], vec![signed(order(Settled::ForPayer))], vec![signed(other_hold)]] {
        assert_eq!(look(&orders), Standing::Late(Code::FeeUnfounded));
    }
}

#[test]
fn a_page_is_the_indexs_and_in_its_log() {
    let (booked, world) = (Booked::new(), World::shared());
    let (lakeside, riverside) = (&world.lakeside.id, &world.riverside.id);
    let books = booked.books(&booked.entries);
    let honest = answered(&books, lakeside, &all(), 1);
    let context = World::context();
    let read =
        |answer: &BooksAnswer| rules::ledger_page(answer, lakeside, context).map(|it| it.entries.len());
    assert_eq!(read(&honest), Ok(2));
    assert_eq!(rules::ledger_page(&honest, riverside, context).map(drop), Err(Code::Malformed));
    let opened = rules::ledger_page(&honest, lakeside, context).unwrap();
    let signed_by = |key, change: fn(&mut LedgerPage)| BooksAnswer {
        page: altered(&opened.page, key, change).into(),
        ..honest.clone()
    };
    assert_eq!(read(&signed_by(&world.hillcrest.signing, |_| {})), Err(Code::WrongSigner));
    let in_other = signed_by(&world.index, |it| it.root = Digest::from_bytes([7; 32]));
    assert_eq!(read(&in_other), Err(Code::LedgerRewritten), "what the page lists is not in the log");
    assert_eq!(read(&signed_by(&world.index, |it| it.lines.reverse())), Err(Code::Malformed));
    // What nobody signed shows nothing.
    let mut bent = honest.clone();
    bent.opened[0].path[0] = Digest::from_bytes([7; 32]);
    assert_eq!(read(&bent), Err(Code::Malformed));
    let mut swapped = honest.clone();
    swapped.opened[0].entry = swapped.opened[1].entry.clone();
    assert_eq!(read(&swapped), Err(Code::Malformed), "another entry than the one that was signed");
    // One transfer's lines can be shown without the others.
    let mut part = honest.clone();
    part.opened.truncate(1);
    assert_eq!(read(&part), Ok(1));

    let continues = |books: &FalseBooks, question: &BooksQuestion| {
        let next = answered(books, lakeside, question, 2);
        let page = rules::ledger_page(&next, lakeside, context).unwrap().page;
        rules::continues(&opened.page, &page, &next)
    };
    let next = BooksQuestion { from: 2, seen: 2, ..all() };
    let mut longer = books.clone();
    longer.post_again(booked.story.id).unwrap();
    assert_eq!((continues(&books, &next), continues(&longer, &next)), (Ok(()), Ok(())));
    let (mut cut, mut rewritten) = (longer.clone(), longer);
    (0..2).for_each(|_| cut.cut());
    rewritten.rewrite(booked.story.id, 1);
    for books in [cut, rewritten] {
        assert_eq!(continues(&books, &next), Err(Code::LedgerRewritten));
    }
    // Honest pages in another order, or with another proof than was signed, are no proof.
    let mut longer = books.clone();
    longer.post_again(booked.story.id).unwrap();
    let later = answered(&longer, lakeside, &next, 2);
    let later_page = rules::ledger_page(&later, lakeside, context).unwrap().page;
    assert_eq!(rules::continues(&later_page, &opened.page, &honest), Err(Code::ClockOff));
    let mut bent = later;
    bent.consistency[0] = Digest::from_bytes([7; 32]);
    assert_eq!(rules::continues(&opened.page, &later_page, &bent), Err(Code::Malformed));
    let mut unasked = answered(&longer, lakeside, &BooksQuestion { from: 2, ..all() }, 2);
    let unasked_page = rules::ledger_page(&unasked, lakeside, context).unwrap().page;
    unasked.consistency = Vec::new();
    assert_eq!(rules::continues(&opened.page, &unasked_page, &unasked), Err(Code::Malformed));
}

#[test]
fn a_file_comes_to_the_same() {
    let (booked, world) = (Booked::new(), World::shared());
    let lakeside = &world.lakeside.id;
    let mut books = booked.books(&booked.entries);
    let shown = |artefacts: &[Vec<u8>], answers: Vec<BooksAnswer>, before: Option<Bytes>| {
        let file = BooksFile {
            directory: world.published(&world.directory(1, T0)),
            artefacts: artefacts.iter().cloned().map(Into::into).collect(),
            hospital: lakeside.clone(),
            transfer: Some(booked.story.id),
            before,
            answers,
            extensions: Extensions::default(),
        };
        let file = codec::encode(&file);
        assert!(is_books(&file));
        verify_books(&file, &world.root.public(), &Ed25519)
    };
    let file = |answers, before| shown(&booked.artefacts, answers, before);
    let first = answered(&books, lakeside, &all(), 1);
    let report = file(vec![first.clone()], None).unwrap();
    assert_eq!((report.entries, report.in_flight), (2, false));
    // Whoever leaves something out, of the artefacts or of the books, proves nothing.
    for length in [0, 3, booked.artefacts.len() - 1] {
        assert!(shown(&booked.artefacts[..length], vec![first.clone()], None).unwrap().in_flight);
    }
    for kept in [0, 1] {
        let mut part = first.clone();
        part.opened = vec![part.opened[kept].clone()];
        assert!(file(vec![part], None).unwrap().in_flight);
    }
    let short = books.clone();
    books.post_again(booked.story.id).unwrap();
    let second = answered(&books, lakeside, &BooksQuestion { from: 2, seen: 2, ..all() }, 2);
    let longer = second.page.clone();
    for answers in [vec![first.clone(), second.clone()], vec![second.clone(), first.clone()]] {
        assert_eq!(file(answers, None).unwrap_err().code, Code::FeePostedTwice);
    }
    // After the longer log a shorter one; and what was signed before the log grew.
    let seen = Signed::<LedgerPage>::read(longer.as_ref()).unwrap().claim().size;
    let cut = answered(&short, lakeside, &BooksQuestion { seen, ..all() }, 3);
    assert_eq!(file(vec![cut], Some(longer.clone())).unwrap_err().code, Code::LedgerRewritten);
    // To who had not seen it, it may state less.
    let other = answered(&short, lakeside, &all(), 3);
    assert_eq!(file(vec![other], Some(longer.clone())).unwrap_err().code, Code::ClockOff);
    assert_eq!(file(vec![first], Some(longer)).unwrap_err().code, Code::ClockOff);
    let whole = answered(&books, lakeside, &all(), 1);
    let fault = file(vec![whole], None).unwrap_err();
    assert_eq!((fault.code, fault.artefact.as_str()), (Code::FeePostedTwice, LedgerPage::TYPE));
    assert!(!is_books(&Story::file(booked.artefacts.clone())), "a transfer's own file is none of the books");
}
