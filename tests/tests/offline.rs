//! A transfer checked offline from its file: everything that stands in it is verified, or the whole is refused.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::artefact::transfer::{Quote, Receipt, RevocationConfirmed};
use handover_core::artefact::{Payload as _, peek_type};
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::verify::{Report, TransferFile, VerifyError, verify};
use handover_core::{Code, Digest};
use handover_seal::Ed25519;
use handover_tests::fixture::{Plan, Story, T0, World, altered};

fn check(artefacts: Vec<Vec<u8>>) -> Result<Report, VerifyError> {
    check_file(&Story::file(artefacts))
}

fn check_file(file: &[u8]) -> Result<Report, VerifyError> {
    verify(file, &World::shared().root.public(), &Ed25519)
}

fn label(content: &[u8]) -> String {
    peek_type(content).unwrap()
}

#[test]
fn a_whole_file_verifies() {
    for plan in [Plan::opaque(1), Plan::opaque(2).narrowed(), Plan::real(3).narrowed()] {
        let story = Story::tell(plan);
        let contents = story.to_receipt();
        let report = check(contents.clone()).unwrap();
        assert_eq!(report.transfer, story.id);
        assert_eq!(report.patient, story.patient.reference());
        assert_eq!(
            (&report.source, &report.destination),
            (&story.request.source, &story.request.destination)
        );
        assert_eq!(report.fee, Some(story.header.fee));
        assert_eq!(report.filed, Some(story.receipt.issued));
        assert_eq!(report.steps.len(), contents.len());
        let hashes: Vec<Digest> = report.steps.iter().map(|step| step.hash).collect();
        assert!(hashes.contains(&story.consent.hash()) && hashes.contains(&story.receipt.hash()));
        let mut backwards = contents;
        backwards.reverse();
        assert_eq!(check(backwards), Ok(report), "in any order");
    }
}

#[test]
fn unfinished_and_ended_transfers_verify_too() {
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    for length in 1..contents.len() {
        let report = check(contents[..length].to_vec()).unwrap();
        assert_eq!((report.steps.len(), report.filed), (length, None));
    }
    let with = |begun: usize, more: &[Vec<u8>]| check([&contents[..begun], more].concat());
    let confirmations = story.confirmations.each_ref().map(|it| it.envelope().to_vec());
    assert_eq!(with(2, &[story.patient_refusal.envelope().to_vec()]).unwrap().steps.len(), 3);
    assert_eq!(with(3, &[story.refusal.envelope().to_vec()]).unwrap().steps.len(), 4);
    assert_eq!(with(4, &[story.revocation_bytes()]).unwrap().steps.len(), 5);
    let both = [&[story.revocation_bytes()], confirmations.as_slice()].concat();
    assert_eq!(with(4, &both).unwrap().steps.len(), 7, "both confirmations are steps");
}

#[test]
fn a_file_of_several_attempts_verifies() {
    let story = Story::tell(Plan::opaque(1));
    let (first, second) = (story.to_receipt(), story.attempt(2));
    for begun in 4..=7 {
        let contents = [&first[..begun], &second.to_receipt()].concat();
        let report = check(contents.clone()).unwrap();
        assert_eq!((report.attempt, report.filed), (Some(2), Some(second.receipt.issued)));
        assert_eq!(report.fee, Some(story.header.fee));
        assert_eq!(report.steps.len(), contents.len());
        let headers: Vec<_> = report.steps.iter().filter(|step| step.artefact.contains("header")).collect();
        assert_eq!(headers.iter().map(|step| step.attempt).collect::<Vec<_>>(), [Some(1), Some(2)]);
        let mut backwards = contents;
        backwards.reverse();
        assert_eq!(check(backwards), Ok(report), "in any order");
    }
    let asked = [&first[..7], &[second.next_attempt.envelope().to_vec()]].concat();
    assert_eq!(check(asked).unwrap().attempt, Some(1), "asked for, and not sealed yet");
    let after = [first.as_slice(), &second.to_receipt()[..1]].concat();
    assert_eq!(check(after).unwrap_err().code, Code::OutOfOrder, "nothing follows a receipt");
    let dearer = altered(&second.header, &World::shared().lakeside.signing, |it| {
        it.fee = handover_core::Amount::from_minor(1_251, it.fee.currency());
    });
    let fault = check([&first[..4], &[dearer]].concat()).unwrap_err();
    assert_eq!(fault.code, Code::QuoteMismatch, "another fee");
    let unasked = [&first[..7], &[second.share_release.envelope().to_vec()]].concat();
    assert_eq!(check(unasked).unwrap_err().code, Code::ReleaseMismatch, "a key that nobody asked with");
}

#[test]
fn a_file_of_a_delivery_verifies() {
    let story = Story::tell(Plan::opaque(1).continuous());
    let (first, delivery) = (story.to_receipt(), story.delivery(1, 400));
    let second = story.attempt(2);
    // Request, quote, consent and release are the first transfer's.
    let shared = [&first[..3], &first[6..7]].concat();
    let contents = [shared.clone(), delivery.to_receipt()].concat();
    let report = check(contents.clone()).unwrap();
    assert_eq!((report.transfer, report.continues), (delivery.id, Some(story.id)));
    assert_eq!((report.fee, report.filed), (Some(delivery.header.fee), Some(delivery.receipt.issued)));
    assert_eq!(report.steps.len(), contents.len());
    let mut backwards = contents.clone();
    backwards.reverse();
    assert_eq!(check(backwards), Ok(report), "in any order");
    // The patient had released to a further attempt's key.
    let asked = [second.next_attempt.envelope().to_vec(), second.share_release.envelope().to_vec()];
    let again = [first[..3].to_vec(), asked.to_vec(), delivery.to_receipt()].concat();
    assert_eq!(check(again).unwrap().transfer, delivery.id);
    let refused =
        [shared.clone(), vec![delivery.to_receipt()[0].clone(), delivery.refusal.envelope().to_vec()]];
    assert_eq!(check(refused.concat()).unwrap().filed, None);

    for left_out in 0..contents.len() - 1 {
        let mut less = contents.clone();
        less.remove(left_out);
        // The patient's release opens the package; that it was made, the file need not show.
        assert_eq!(check(less).is_ok(), left_out == 3, "without {left_out}");
    }
    let own = [contents.clone(), vec![first[3].clone()]].concat();
    assert_eq!(check(own).unwrap_err().code, Code::EvidenceMissing, "the first transfer's header beside it");
    let two = [contents, vec![story.delivery(2, 0).quote.envelope().to_vec()]].concat();
    assert_eq!(check(two).unwrap_err().code, Code::Conflict, "two deliveries");
    let once = Story::tell(Plan::opaque(2));
    let once = [once.to_receipt()[..3].to_vec(), once.delivery(1, 400).to_receipt()].concat();
    assert_eq!(check(once).unwrap_err().code, Code::ConsentSpent, "under a one-time consent");
}

#[test]
fn every_artefact_counts() {
    let (story, other) = (Story::tell(Plan::opaque(1).narrowed()), Story::tell(Plan::opaque(2).narrowed()));
    let (contents, others) = (story.to_receipt(), other.to_receipt());
    // Those that later ones stand on, by place; the receipt on delivery and release, too.
    let is_needed =
        |place: usize, kind: &str| place <= 4 || kind.contains("delivered") || kind.contains("key-release");
    for place in 0..contents.len() {
        let kind = label(&contents[place]);
        let with = |content: &[u8]| {
            let mut changed = contents.clone();
            changed[place] = content.to_vec();
            check(changed)
        };
        let mut removed = contents.clone();
        removed.remove(place);
        match check(removed) {
            Ok(report) => {
                assert!(!is_needed(place, &kind), "{kind} removed");
                assert_eq!(report.steps.len(), contents.len() - 1);
            }
            Err(_) => assert!(is_needed(place, &kind), "{kind} removed"),
        }
        assert!(with(&others[place]).is_err(), "{kind} of another transfer");
        for bit in (0..contents[place].len() * 8).step_by(797) {
            let mut tampered = contents[place].clone();
            tampered[bit / 8] ^= 1 << (bit % 8);
            assert!(with(&tampered).is_err(), "{kind}, bit {bit}");
        }
        let doubled = [contents.as_slice(), &contents[place..=place]].concat();
        assert!(check(doubled).is_err(), "{kind} twice");
    }
    let foreign = [contents.as_slice(), &[World::shared().lakeside.certificate.envelope().to_vec()]].concat();
    assert_eq!(check(foreign).unwrap_err().code, Code::EvidenceMissing, "something that belongs elsewhere");
    let junk = [contents.as_slice(), &[b"junk".to_vec()]].concat();
    assert_eq!(check(junk).unwrap_err().code, Code::Malformed);
}

/// Two of a kind are both looked at.
#[test]
fn no_second_of_a_kind_slips_through() {
    let (world, story) = (World::shared(), Story::tell(Plan::opaque(1)));
    let contents = story.to_receipt();
    let with = |more: Vec<Vec<u8>>| {
        check([contents.as_slice(), &more].concat()).map(|_| ()).map_err(|it| it.artefact)
    };
    let [by_source, by_destination] = &story.confirmations;
    let by_source_whole = by_source.envelope().to_vec();
    let refused = |label: &str| Err(label.to_owned());
    let confirmed = RevocationConfirmed::TYPE;
    assert_eq!(with(vec![by_source_whole.clone(), by_destination.envelope().to_vec()]), Ok(()));
    let forged = Story::signed_by(by_destination, &world.stranger);
    assert_eq!(
        with(vec![by_source_whole.clone(), forged]),
        refused(confirmed),
        "a forged second confirmation"
    );
    let third = altered(by_source, &world.hillcrest.signing, |it| it.by = world.hillcrest.id.clone());
    assert_eq!(with(vec![by_source_whole.clone(), third]), refused(confirmed), "a third party's");
    let again = altered(by_source, &world.lakeside.signing, |it| it.since = T0);
    assert_eq!(with(vec![by_source_whole, again]), refused(confirmed), "the same hospital's twice");

    let lakeside = &world.lakeside.signing;
    let second = altered(&story.quote, lakeside, |it| it.issued = T0);
    assert_eq!(with(vec![second.clone()]), refused(Quote::TYPE), "two first quotes");
    assert_eq!(
        check([&[contents[0].clone(), second], &contents[1..]].concat()).unwrap_err().artefact,
        Quote::TYPE
    );
    let unrelated = altered(&story.quote, lakeside, |it| it.narrows = Some(Digest::from_bytes([0; 32])));
    assert_eq!(
        check(vec![contents[0].clone(), contents[1].clone(), unrelated]).unwrap_err().artefact,
        Quote::TYPE,
        "a final quote that narrows none"
    );
}

#[test]
fn the_fault_and_its_artefact_are_named() {
    let (world, story, other) = (World::shared(), Story::tell(Plan::opaque(1)), Story::tell(Plan::opaque(2)));
    let mut contents = story.to_receipt();
    let last = contents.len() - 1;
    contents[last] = Story::signed_by(&story.receipt, &world.lakeside.signing);
    let fault = check(contents.clone()).unwrap_err();
    assert_eq!((fault.code, fault.artefact.as_str()), (Code::WrongSigner, Receipt::TYPE));
    contents[last] = codec::encode(&other.revocation);
    assert_eq!(check(contents).unwrap_err().code, Code::RevocationMismatch);

    let honest = Story::file(story.to_receipt());
    let stranger = verify(&honest, &world.stranger.public(), &Ed25519).unwrap_err();
    assert_eq!(stranger.code, Code::WrongSigner, "under another root");
    assert_eq!(check_file(b"").unwrap_err().code, Code::Malformed);
    assert_eq!(check_file(&honest[..honest.len() - 1]).unwrap_err().code, Code::Malformed);
    let mut file: TransferFile = codec::decode(&honest, MAX_MESSAGE_BYTES).unwrap();
    file.artefacts.clear();
    assert_eq!(check_file(&codec::encode(&file)).unwrap_err().code, Code::EvidenceMissing);
    file.directory.head = story.consent.envelope().to_vec().into();
    assert_eq!(check_file(&codec::encode(&file)).unwrap_err().code, Code::Malformed);
}
