//! Dishonest recalls against the rules: each is refused, with the code that names the cause; and what the honest ones
//! come to in a dossier and in a transfer's file.

use handover_core::artefact::recall::{
    RECALL_MAX_RECORDS, RECALLS_MAX, Recall, RecallConfirmed, RecallDetails, RecallReason,
};
use handover_core::artefact::transfer::OtherTests;
use handover_core::artefact::{Payload as _, Verified};
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context};
use handover_core::transfer::{Phase, Role};
use handover_core::verify::{Report, VerifyError, verify};
use handover_core::{Amount, Code, Digest, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Place, Row};
use handover_seal::Ed25519;
use handover_store::{CellKey, Store};
use handover_tests::fixture::{Plan, Story, T0, World, altered};
use handover_tests::table::all_refused;
use proptest::prelude::*;

fn usd(minor: i64) -> Amount {
    Amount::from_minor(minor, "USD".parse().unwrap())
}

fn eur(minor: i64) -> Amount {
    Amount::from_minor(minor, "EUR".parse().unwrap())
}

#[test]
fn nobody_recalls_what_they_did_not_send_or_gives_back_what_they_did_not_get() {
    let (world, context) = (World::shared(), World::context());
    let (story, other) = (Story::tell(Plan::opaque(1)), Story::tell(Plan::opaque(2)));
    let honest = story.recall(1, usd(1_250));
    let check = |envelope: &[u8]| rules::recall(envelope, &story.header, 0, context).map(|_| ());
    let after = |before_minor, envelope: &[u8]| {
        rules::recall(envelope, &story.header, before_minor, context).map(|_| ())
    };
    let says = |change: &dyn Fn(&mut Recall)| check(&altered(&honest, &world.lakeside.signing, change));
    assert_eq!(says(&|_| {}), Ok(()));
    assert_eq!(says(&|it| it.number = RECALLS_MAX), Ok(()));
    let mut broken = honest.envelope().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    all_refused(vec![
        ("by who received", check(&Story::signed_by(&honest, &world.riverside.signing)), Code::WrongSigner),
        (
            "by a third hospital",
            check(&Story::signed_by(&honest, &world.hillcrest.signing)),
            Code::WrongSigner,
        ),
        ("altered", check(&broken), Code::BadSignature),
        (
            "replayed under another transfer",
            rules::recall(honest.envelope(), &other.header, 0, context).map(|_| ()),
            Code::RecallMismatch,
        ),
        ("of another transfer", says(&|it| it.transfer = TransferId::new(T0, [7; 10])), Code::RecallMismatch),
        ("of another package", says(&|it| it.header = Digest::from_bytes([0; 32])), Code::RecallMismatch),
        ("without a number", says(&|it| it.number = 0), Code::RecallMismatch),
        ("once too often", says(&|it| it.number = RECALLS_MAX + 1), Code::RecallsExhausted),
        ("more than the fee", says(&|it| it.fee_back = usd(1_251)), Code::RecallFee),
        ("less than nothing", says(&|it| it.fee_back = usd(-1)), Code::RecallFee),
        ("in another currency", says(&|it| it.fee_back = eur(1)), Code::RecallFee),
        ("the fee a second time", after(1, honest.envelope()), Code::RecallFee),
    ]);

    let details = |change: &dyn Fn(&mut RecallDetails)| {
        let mut details = story.recall_details(RecallReason::Amended);
        change(&mut details);
        let recall = Recall { commitment: details.commitment(), fee_back: usd(0), ..(*honest).clone() };
        rules::recall_details(&details, &recall)
    };
    assert_eq!(details(&|_| {}), Ok(()));
    let others = |tests| {
        let basis = "20.00".to_owned();
        Some(OtherTests { tests, unpriced: 0, basis, extensions: Extensions::default() })
    };
    let of_others = details(&|it| {
        (it.reason, it.other_tests) = (RecallReason::Retracted, others(1));
        it.records.clear();
    });
    assert_eq!(of_others, Ok(()));
    let many = |details: &mut RecallDetails| {
        let one = details.records[0].clone();
        details.records = (0..=RECALL_MAX_RECORDS)
            .map(|number| {
                let mut record = one.clone();
                record.resource_id = number.to_string();
                record
            })
            .collect();
    };
    all_refused(vec![
        (
            "other details than it commits to",
            rules::recall_details(&story.recall_details(RecallReason::Retracted), &honest),
            Code::RecallMismatch,
        ),
        ("about nothing", details(&|it| it.records.clear()), Code::RecallMismatch),
        ("other tests that are amended", details(&|it| it.other_tests = others(1)), Code::RecallMismatch),
        (
            "no other tests, counted",
            details(&|it| (it.reason, it.other_tests) = (RecallReason::Retracted, others(0))),
            Code::RecallMismatch,
        ),
        ("about a record twice", details(&|it| it.records.extend(it.records.clone())), Code::RecallMismatch),
        ("amended, nobody knows when", details(&|it| it.records[0].replaced = None), Code::RecallMismatch),
        ("about too many", details(&many), Code::TooLarge),
        (
            "a fee for tests that were done",
            rules::recall_details(
                &story.recall_details(RecallReason::Amended),
                &Recall {
                    commitment: story.recall_details(RecallReason::Amended).commitment(),
                    ..(*honest).clone()
                },
            ),
            Code::RecallFee,
        ),
    ]);

    let confirmed = story.recall_confirmed(&honest);
    let confirms = |change: &dyn Fn(&mut RecallConfirmed)| {
        let envelope = altered(&confirmed, &world.riverside.signing, change);
        rules::recall_confirmed(&envelope, &honest, &story.header, context).map(|_| ())
    };
    assert_eq!(confirms(&|_| {}), Ok(()));
    let by_source = Story::signed_by(&confirmed, &world.lakeside.signing);
    all_refused(vec![
        (
            "confirmed by who recalls",
            rules::recall_confirmed(&by_source, &honest, &story.header, context).map(|_| ()),
            Code::WrongSigner,
        ),
        ("of another recall", confirms(&|it| it.recall = Digest::from_bytes([0; 32])), Code::RecallMismatch),
        ("of another number", confirms(&|it| it.number = 2), Code::RecallMismatch),
    ]);
}

proptest! {
    /// However the tests of a transfer are recalled, one after another, together they give back the fee and no more.
    #[test]
    fn recalls_give_back_the_fee_and_no_more(fees in prop::collection::vec(0_i64..10_000, 1..20)) {
        let mut falling = fees;
        falling.sort_unstable_by(|one, other| other.cmp(one));
        falling.push(0);
        let back: i64 = falling
            .windows(2)
            .map(|pair| rules::fee_back(usd(pair[0]), usd(pair[1])).unwrap().minor())
            .sum();
        prop_assert_eq!(back, falling[0]);
        if falling[0] > 0 {
            prop_assert_eq!(rules::fee_back(usd(0), usd(falling[0])), Err(Code::RecallFee));
        }
        prop_assert_eq!(rules::fee_back(usd(1), eur(0)), Err(Code::RecallFee));
    }
}

/// One process's dossier of a story that is filed.
struct Desk {
    store: Store,
    role: Role,
    id: TransferId,
}

impl Desk {
    async fn of(role: Role, contents: &[Vec<u8>], id: TransferId) -> Self {
        let desk = Self { store: Store::memory(&CellKey::from_bytes([7; 32])), role, id };
        for content in contents {
            desk.take(content).await.unwrap();
        }
        desk
    }

    async fn take(&self, content: &[u8]) -> Result<(bool, Place), Code> {
        let (keys, content, role, id) = (self.store.keys(), content.to_vec(), self.role, self.id);
        let taken = self.store.write(move |txn| {
            let federation = World::context().federation;
            let context = Context { federation, verifier: &Ed25519 };
            Dossier::of(txn, &keys, id).take_in(role, &content, context, T0)
        });
        taken.await.map(|it| (it.is_new, it.place)).map_err(|fault: DossierError| fault.code())
    }

    async fn read(&self) -> (Row, Vec<Place>, u32) {
        let (keys, id) = (self.store.keys(), self.id);
        let read = self.store.read(move |txn| {
            let mut dossier = Dossier::of(txn, &keys, id);
            let all = dossier.all()?.into_iter().map(|(place, _)| place).collect();
            Ok::<_, DossierError>((dossier.row()?.unwrap(), all, dossier.last_recall()?))
        });
        read.await.unwrap()
    }
}

#[tokio::test]
async fn a_dossier_keeps_recalls_in_their_order_once() {
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    let [first, second, third] =
        [story.recall(1, usd(1_000)), story.recall(2, usd(250)), story.recall(3, usd(1))];
    let confirmed = story.recall_confirmed(&first);
    for role in Role::ALL {
        let desk = Desk::of(*role, &contents, story.id).await;
        assert_eq!(desk.take(second.envelope()).await, Err(Code::EvidenceMissing), "{role}: a gap");
        assert_eq!(desk.take(confirmed.envelope()).await, Err(Code::EvidenceMissing), "{role}");
        assert_eq!(desk.take(first.envelope()).await, Ok((true, Kind::Recall.of(1))));
        assert_eq!(desk.take(first.envelope()).await, Ok((false, Kind::Recall.of(1))), "{role}: again");
        let other = story.recall(1, usd(999));
        assert_eq!(desk.take(other.envelope()).await, Err(Code::Conflict), "{role}: another in its place");
        assert_eq!(desk.take(second.envelope()).await, Ok((true, Kind::Recall.of(2))));
        assert_eq!(desk.take(third.envelope()).await, Err(Code::RecallFee), "{role}: a cent above the fee");
        assert_eq!(desk.take(confirmed.envelope()).await, Ok((true, Kind::RecallConfirmed.of(1))));
        let (row, all, last) = desk.read().await;
        assert_eq!((row.state.phase, last), (Phase::Filed, 2), "{role}: a recall changes no state");
        assert_eq!(all.len(), contents.len() + 3, "{role}");
    }
}

#[tokio::test]
async fn what_is_recalled_was_released_and_where_it_is_marked_filed() {
    let story = Story::tell(Plan::opaque(1));
    let (contents, recall) = (story.to_receipt(), story.recall(1, usd(0)));
    // To the header, to the delivery, to the source's release, to the patient's.
    for begun in 4..=7 {
        for role in Role::ALL {
            let desk = Desk::of(*role, &contents[..begun], story.id).await;
            let expected = match (begun, role) {
                (..=5, _) | (_, Role::Destination) => Err(Code::EvidenceMissing),
                _ => Ok((true, Kind::Recall.of(1))),
            };
            assert_eq!(desk.take(recall.envelope()).await, expected, "{begun} steps at the {role}");
        }
    }
    let failed = [&contents[..7], &[story.failure.envelope().to_vec()]].concat();
    let desk = Desk::of(Role::Destination, &failed, story.id).await;
    assert_eq!(desk.take(recall.envelope()).await, Err(Code::OutOfOrder), "nothing was filed");
}

fn check(artefacts: Vec<Vec<u8>>) -> Result<Report, VerifyError> {
    verify(&Story::file(artefacts), &World::shared().root.public(), &Ed25519)
}

#[test]
fn a_file_with_recalls_verifies_and_says_so() {
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    let recalls = [story.recall(1, usd(1_000)), story.recall(2, usd(250))];
    let whole = |recalls: &[Verified<Recall>]| -> Vec<Vec<u8>> {
        recalls.iter().map(|it| it.envelope().to_vec()).collect()
    };
    let confirmed = story.recall_confirmed(&recalls[0]).envelope().to_vec();
    let all = [contents.as_slice(), &whole(&recalls), std::slice::from_ref(&confirmed)].concat();
    let report = check(all.clone()).unwrap();
    assert_eq!((report.recalls, report.fee_back), (2, Some(usd(1_250))));
    assert_eq!(report.steps.len(), all.len());
    let mut backwards = all.clone();
    backwards.reverse();
    assert_eq!(check(backwards), Ok(report), "in any order");
    let with = |more: &[Vec<u8>]| {
        check([contents.as_slice(), more].concat()).map(|_| ()).map_err(|it| (it.code, it.artefact))
    };
    let refused = |code, label: &str| Err((code, label.to_owned()));
    let third = story.recall(3, usd(1)).envelope().to_vec();
    let above = [whole(&recalls), vec![third]].concat();
    assert_eq!(with(&above), refused(Code::RecallFee, Recall::TYPE));
    assert_eq!(with(&whole(&recalls[1..])), refused(Code::Conflict, Recall::TYPE), "a gap");
    let twice = [whole(&recalls[..1]), whole(&recalls[..1])].concat();
    assert_eq!(with(&twice).map_err(|(_, label)| label), Err(Recall::TYPE.to_owned()));
    assert_eq!(with(&[confirmed]), refused(Code::EvidenceMissing, RecallConfirmed::TYPE));
    let unreleased = [&contents[..5], &whole(&recalls[..1])].concat();
    assert_eq!(check(unreleased).unwrap_err().code, Code::EvidenceMissing, "nothing of it was open");
}
