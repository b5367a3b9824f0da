//! Fees for which no receipt comes, on a running index whose clock is moved ahead.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers"
)]

mod common;

use common::attempt::altered;
use common::transfer::{Patient, Story, dollars, orders};
use common::{LIMIT, Node, Realm, now};
use handover_core::artefact::Verified;
use handover_core::artefact::books::{HOLD_REASON_MAX_BYTES, HoldOrder, Settled};
use handover_core::artefact::federation::FeeSchedule;
use handover_core::artefact::transfer::{NextAttempt, PackageHeader};
use handover_core::codec::Extensions;
use handover_core::id::SealingPublic;
use handover_core::time::{DAY_MS, HOUR_MS};
use handover_core::{Code, Digest, TransferId};
use handover_seal::{OsRandom, SigningKey};
use serde_json::{Value, json};

/// The silence period where no schedule says otherwise.
const SILENCE_MS: i64 = 7 * DAY_MS;

/// The entries of one transfer.
async fn entries(realm: &Realm, transfer: TransferId) -> Vec<Value> {
    let page = realm.op(json!({"op": "ledger-entries", "after": null})).await.unwrap();
    let all = page["entries"].as_array().unwrap().iter();
    all.filter(|it| it["transfer"] == transfer.to_string()).cloned().collect()
}

async fn kinds(realm: &Realm, transfer: TransferId) -> Vec<String> {
    entries(realm, transfer).await.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a transfer has so many entries; the last of them.
async fn nth_entry(realm: &Realm, transfer: TransferId, count: usize) -> Value {
    let wait = async {
        loop {
            let entries = entries(realm, transfer).await;
            if entries.len() >= count {
                break entries[count - 1].clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap()
}

/// Everything but a receipt, and nobody tells the index whom it is for.
async fn hand_over(realm: &Realm, story: &Story, source: &Node) {
    for content in story.handover() {
        source.send(realm, None, content).await.unwrap();
    }
}

/// A destination that asks for another attempt has what it has: neither its asking nor how that attempt ends frees it
/// of the fee.
#[tokio::test(flavor = "multi_thread")]
async fn a_further_attempt_stops_no_silence_that_has_begun() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let story = || Story::new(&patient, &source, &destination, 500, 500);
    let [asked, revoked, given_up, early] = [story(), story(), story(), story()];
    for story in [&asked, &revoked, &given_up] {
        hand_over(&realm, story, &source).await;
        let second = story.attempt(2, &patient, &source, &destination);
        destination.send(&realm, Some(&source.id), &second.next_attempt).await.unwrap();
    }
    let second = asked.attempt(2, &patient, &source, &destination);
    source.send(&realm, None, &second.header).await.unwrap();
    source.send(&realm, None, &revoked.revocation).await.unwrap();
    // The source cannot seal it again (its consent has run out, say): that is no forgoing.
    let second = given_up.attempt(2, &patient, &source, &destination);
    source.send(&realm, None, &second.source_refusal).await.unwrap();
    // The same copies, the refusal first: it lets the reservation go, and what was handed over is owed all the same.
    let second = early.attempt(2, &patient, &source, &destination);
    for content in [&early.request, &early.quote, &early.consent, &early.header, &second.source_refusal] {
        source.send(&realm, None, content).await.unwrap();
    }
    hand_over(&realm, &early, &source).await;
    for story in [&asked, &revoked, &given_up] {
        assert_eq!(kinds(&realm, story.transfer).await, ["reserve"]);
    }
    realm.pass(SILENCE_MS);
    for story in [&asked, &revoked, &given_up] {
        let fee = nth_entry(&realm, story.transfer, 2).await;
        assert_eq!((&fee["kind"], &fee["proof"]), (&json!("post"), &json!("silence")));
    }
    let fee = nth_entry(&realm, early.transfer, 3).await;
    assert_eq!((&fee["kind"], &fee["proof"]), (&json!("post-direct"), &json!("silence")));
    sound(&realm).await;
}

/// The patient's share is one for the whole consent: who had it under the first key opens every attempt with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_key_frees_nobody_who_has_the_share() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let story = Story::new(&patient, &source, &destination, 500, 500);
    let second = story.attempt(2, &patient, &source, &destination);
    for content in [&story.request, &story.quote, &story.consent, &story.header, &story.share_release] {
        source.send(&realm, None, content).await.unwrap();
    }
    destination.send(&realm, Some(&source.id), &second.next_attempt).await.unwrap();
    for content in [&second.header, &second.delivered, &second.key_release] {
        source.send(&realm, None, content).await.unwrap();
    }
    realm.pass(SILENCE_MS);
    let fee = nth_entry(&realm, story.transfer, 2).await;
    assert_eq!((&fee["kind"], &fee["proof"]), (&json!("post"), &json!("silence")));
}

/// What a destination tells the index otherwise than its source counts as the source has it: else nothing that follows
/// would fit, and nobody would owe for what was read.
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_tells_the_index_another_thing_owes_all_the_same() {
    let realm = Realm::new().await;
    let mut source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let [asked, denied] = [(); 2].map(|()| Story::new(&patient, &source, &destination, 500, 500));
    let second = asked.attempt(2, &patient, &source, &destination);
    for content in [&asked.request, &asked.quote, &asked.consent, &asked.header] {
        source.send(&realm, None, content).await.unwrap();
    }
    // With a key that nobody releases to; the patient releases to the one that the source was asked with.
    let other = altered(&second.next_attempt, &destination.signing, |it: &mut NextAttempt| {
        it.request_key = SealingPublic::from_bytes([99; 32]);
    });
    destination.send(&realm, None, other.envelope()).await.unwrap();
    let refused = destination.send(&realm, None, &second.next_attempt).await;
    assert_eq!(refused, Err(Code::Conflict), "it has said something else itself");
    for content in
        [&second.next_attempt, &second.header, &second.delivered, &second.key_release, &second.share_release]
    {
        source.send(&realm, None, content).await.unwrap();
    }
    assert_eq!(destination.send(&realm, None, other.envelope()).await, Err(Code::Conflict));
    // What it says to the index alone is told to the source, who is to judge what is held on it.
    hand_over(&realm, &denied, &source).await;
    destination.send(&realm, None, &denied.refusal).await.unwrap();
    assert_eq!(source.letter().await, denied.refusal);
    realm.pass(SILENCE_MS);
    let fee = nth_entry(&realm, asked.transfer, 2).await;
    assert_eq!((&fee["kind"], &fee["proof"]), (&json!("post"), &json!("silence")));
    assert_eq!(kinds(&realm, denied.transfer).await, ["reserve", "hold"]);
    sound(&realm).await;
}

/// Silence is about one attempt: delivery of one and releases of another are nothing that could be opened.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_several_attempts_are_no_handover() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let mut destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let [mixed, filed] = [(); 2].map(|()| Story::new(&patient, &source, &destination, 500, 500));
    let [of_mixed, of_filed] =
        [&mixed, &filed].map(|story| story.attempt(2, &patient, &source, &destination));
    for (story, second) in [(&mixed, &of_mixed), (&filed, &of_filed)] {
        for content in [&story.request, &story.quote, &story.consent, &story.header] {
            source.send(&realm, None, content).await.unwrap();
        }
        source.send(&realm, None, &story.delivered).await.unwrap();
        source.send(&realm, None, &story.share_release).await.unwrap();
        destination.letter().await;
        destination.send(&realm, Some(&source.id), &second.next_attempt).await.unwrap();
        source.send(&realm, None, &second.header).await.unwrap();
        source.send(&realm, None, &second.key_release).await.unwrap();
        assert_eq!(destination.letter().await, second.key_release);
    }
    // The second one goes on to its end: one reservation, one fee, whichever attempt's receipt comes.
    for content in [&of_filed.delivered, &of_filed.share_release, &of_filed.receipt, &of_filed.receipt] {
        source.send(&realm, None, content).await.unwrap();
    }
    assert_eq!(destination.letter().await, of_filed.share_release, "a letter of its own");
    assert_eq!(kinds(&realm, filed.transfer).await, ["reserve", "post"]);
    // Another fee is refused, whatever it is.
    for fee in [499, 501] {
        let dearer = altered(&of_mixed.header, &source.signing, |it: &mut PackageHeader| {
            (it.attempt, it.fee) = (3, dollars(fee));
        });
        let refused = source.send(&realm, None, dearer.envelope()).await;
        assert_eq!(refused, Err(Code::QuoteMismatch));
    }
    // The consent lasts a day, copies are waited for a week longer.
    realm.pass(8 * DAY_MS);
    let void = nth_entry(&realm, mixed.transfer, 2).await;
    assert_eq!((&void["kind"], &void["reason"]), (&json!("void"), &json!("not-delivered")));
    assert_eq!(kinds(&realm, filed.transfer).await, ["reserve", "post"]);
    sound(&realm).await;
}

async fn sound(realm: &Realm) {
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!(check["sound"], true, "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_keeps_its_receipt_pays_after_the_silence_period() {
    let mut realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let mut destination = realm.hospital("destination", 2).await;
    let story = Story::new(&Patient::new(), &source, &destination, 500, 500);
    let begun = now();
    hand_over(&realm, &story, &source).await;
    // It was offered both, although the source named nobody to take them.
    assert_eq!(destination.letter().await, story.key_release);
    assert_eq!(destination.letter().await, story.share_release);
    assert_eq!(kinds(&realm, story.transfer).await, ["reserve"]);

    // What was noted outlives a restart, and time passes while the index is away.
    realm.pass(SILENCE_MS - HOUR_MS);
    realm.stop().await;
    realm.start().await;
    realm.pass(HOUR_MS);
    let fee = nth_entry(&realm, story.transfer, 2).await;
    let told = ["kind", "amount", "proof"].map(|key| fee[key].as_str().unwrap());
    assert_eq!(told, ["post", "5.00", "silence"]);
    assert!(fee["at"].as_str().unwrap() >= begun.plus_ms(SILENCE_MS).to_string().as_str());
    sound(&realm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_of_the_quote_says_how_long() {
    let us = |number, silence_ms| FeeSchedule {
        jurisdiction: "US".to_owned(),
        number,
        silence_ms,
        ..FeeSchedule::percentage(now())
    };
    let realm = Realm::under(vec![us(1, 2 * DAY_MS)]).await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    for silence_ms in [-1, 31 * DAY_MS] {
        assert_eq!(realm.schedule(us(2, silence_ms)).await, Err(Code::Malformed));
    }
    let begun = FeeSchedule { valid_from: now().plus_ms(-1), ..us(2, DAY_MS) };
    assert_eq!(realm.schedule(begun).await, Err(Code::OutOfOrder), "it would change what was quoted");
    let patient = Patient::new();
    let [story, other] = [500, 700].map(|stated| Story::new(&patient, &source, &destination, 500, stated));
    // In force only after the quote: it changes nothing for it.
    let later = FeeSchedule { valid_from: now().plus_ms(HOUR_MS), ..us(2, 30 * DAY_MS) };
    realm.schedule(later).await.unwrap();
    let begun = now();
    hand_over(&realm, &story, &source).await;
    hand_over(&realm, &other, &source).await;
    realm.pass(2 * DAY_MS);
    let fee = nth_entry(&realm, story.transfer, 2).await;
    assert_eq!((&fee["kind"], &fee["proof"]), (&json!("post"), &json!("silence")));
    assert!(fee["at"].as_str().unwrap() >= begun.plus_ms(2 * DAY_MS).to_string().as_str());
    // A receipt with the same fee settles nothing more.
    source.send(&realm, None, &story.receipt).await.unwrap();
    assert_eq!(kinds(&realm, story.transfer).await, ["reserve", "post"]);
    // With another fee, the one that stands is still the answer, and people see it.
    nth_entry(&realm, other.transfer, 2).await;
    source.send(&realm, None, &other.receipt).await.unwrap();
    assert_eq!(kinds(&realm, other.transfer).await, ["reserve", "post", "hold"]);
    let hold = &entries(&realm, other.transfer).await[1]["hold"];
    assert_eq!(hold, "the receipt states 7.00 USD, reserved is 5.00 USD");
    sound(&realm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_says_nothing_where_somebody_has_spoken() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let story = || Story::new(&patient, &source, &destination, 500, 500);
    let [held, forgone, revoked, silent] = [story(), story(), story(), story()];
    // The consent is taken back before the release: whatever the source sends then, only a receipt is paid.
    for content in [&revoked.request, &revoked.quote, &revoked.consent, &revoked.header, &revoked.revocation]
    {
        source.send(&realm, None, content).await.unwrap();
    }
    hand_over(&realm, &revoked, &source).await;
    // The destination cannot file it, the source forgoes its fee.
    hand_over(&realm, &held, &source).await;
    source.send(&realm, None, &held.refusal).await.unwrap();
    hand_over(&realm, &forgone, &source).await;
    source.send(&realm, None, &forgone.source_refusal).await.unwrap();
    hand_over(&realm, &silent, &source).await;

    realm.pass(SILENCE_MS);
    // The others came before it, so they were looked at before it.
    nth_entry(&realm, silent.transfer, 2).await;
    assert_eq!(kinds(&realm, held.transfer).await, ["reserve", "hold"]);
    assert_eq!(kinds(&realm, forgone.transfer).await, ["reserve", "void"]);
    assert_eq!(kinds(&realm, revoked.transfer).await, ["reserve", "void"]);
    sound(&realm).await;
    // What people have not decided waits for them, also past the end of the reservation.
    realm.pass(100 * DAY_MS);
    assert_eq!(kinds(&realm, silent.transfer).await, ["reserve", "post"]);
    assert_eq!(kinds(&realm, revoked.transfer).await, ["reserve", "void"]);
    assert_eq!(kinds(&realm, held.transfer).await, ["reserve", "hold"]);
    sound(&realm).await;
    settled(&realm, held.transfer, revoked.transfer).await;
}

/// A destination that opened nothing says so. What the index let go, because it knew of the patient's no first, stays gone;
/// if it knew of both releases first, people look.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_opened_is_held_unless_it_was_let_go_before() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let [before, after] = [(); 2].map(|()| Story::new(&patient, &source, &destination, 500, 500));
    for story in [&before, &after] {
        for content in [&story.request, &story.quote, &story.consent, &story.header] {
            source.send(&realm, None, content).await.unwrap();
        }
    }
    source.send(&realm, None, &before.revocation).await.unwrap();
    hand_over(&realm, &before, &source).await;
    hand_over(&realm, &after, &source).await;
    source.send(&realm, None, &after.revocation).await.unwrap();
    for (story, booked) in [(&before, "void"), (&after, "hold")] {
        source.send(&realm, None, &story.unopened).await.unwrap();
        assert_eq!(kinds(&realm, story.transfer).await, ["reserve", booked]);
    }
    realm.pass(SILENCE_MS);
    realm.pass(100 * DAY_MS);
    for (story, booked) in [(&before, "void"), (&after, "hold")] {
        assert_eq!(kinds(&realm, story.transfer).await, ["reserve", booked]);
    }
    sound(&realm).await;
}

/// Two operators settle it for the source, once: the reservation is over, so what is due is posted after it.
async fn settled(realm: &Realm, transfer: TransferId, other: TransferId) {
    let shown = realm.op(json!({"op": "hold-show", "transfer": transfer.to_string()})).await.unwrap();
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!(
        (&check["open_holds"], &check["held_since"]),
        (&json!(1), &entries(realm, transfer).await[1]["at"])
    );
    let order = HoldOrder {
        transfer,
        hold: shown["hold"].as_str().unwrap().parse().unwrap(),
        settled: Settled::ForSource,
        reason: "the package was whole".to_owned(),
        issued: now(),
        extensions: Extensions::default(),
    };
    let payer = HoldOrder { settled: Settled::ForPayer, ..order.clone() };
    let elsewhere = HoldOrder { transfer: other, ..order.clone() };
    let not_this = HoldOrder { hold: Digest::from_bytes([7; 32]), ..order.clone() };
    let long = HoldOrder { reason: "x".repeat(HOLD_REASON_MAX_BYTES + 1), ..order.clone() };
    for (wrong, code) in [(elsewhere, Code::NotHeld), (not_this, Code::Conflict), (long, Code::Malformed)] {
        assert_eq!(realm.settle(&wrong, 0).await.map(drop), Err(code));
        assert_eq!(realm.settle(&wrong, 1).await.map(drop), Err(code));
    }
    let stranger = Verified::sign(order.clone(), &SigningKey::generate(&mut OsRandom));
    let stranger = json!({"op": "hold-settle", "envelope": hex::encode(stranger.envelope())});
    assert_eq!(realm.op(stranger).await.map(drop), Err(Code::WrongSigner));
    for _ in 0..2 {
        assert_eq!(realm.settle(&order, 0).await.unwrap()["outcome"], "pending");
        assert_eq!(kinds(realm, transfer).await, ["reserve", "hold"]);
    }
    for _ in 0..2 {
        assert_eq!(realm.settle(&order, 1).await.unwrap()["outcome"], "effective");
        assert_eq!(kinds(realm, transfer).await, ["reserve", "hold", "void", "post-direct", "release"]);
    }
    assert_eq!(realm.settle(&payer, 1).await.map(drop), Err(Code::NotHeld));
    let shown = realm.op(json!({"op": "hold-show", "transfer": transfer.to_string()})).await.unwrap();
    assert_eq!((&shown["why"], &shown["settled"]), (&Value::Null, &json!("settled-for-source")));
    assert_eq!(entries(realm, transfer).await[3]["proof"], "order");
    let check = realm.op(json!({"op": "check"})).await.unwrap();
    assert_eq!((&check["open_holds"], &check["held_since"]), (&json!(0), &Value::Null));
    sound(realm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_released_is_let_go_and_late_copies_are_posted_after_it() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let [kept, never] = [(); 2].map(|()| Story::new(&patient, &source, &destination, 500, 500));
    for content in [&kept.request, &kept.quote, &kept.consent, &kept.header, &kept.delivered] {
        source.send(&realm, None, content).await.unwrap();
    }
    for content in [&never.request, &never.quote, &never.consent] {
        source.send(&realm, None, content).await.unwrap();
    }
    // The consent lasts a day, copies are waited for a week longer.
    realm.pass(8 * DAY_MS);
    let void = nth_entry(&realm, kept.transfer, 2).await;
    assert_eq!((&void["kind"], &void["reason"]), (&json!("void"), &json!("consent-expired")));

    // They come: what was done was done in time, so the silence begins now.
    for content in [&kept.share_release, &kept.key_release] {
        source.send(&realm, None, content).await.unwrap();
    }
    hand_over(&realm, &never, &source).await;
    realm.pass(SILENCE_MS);
    let fee = nth_entry(&realm, kept.transfer, 3).await;
    assert_eq!((&fee["kind"], &fee["about"]), (&json!("post-direct"), &void["id"]));
    assert_eq!(fee["proof"], "silence");
    // A header that comes when nobody waits for copies any more reserves nothing.
    let fee = nth_entry(&realm, never.transfer, 1).await;
    assert_eq!((&fee["kind"], &fee["about"]), (&json!("post-direct"), &Value::Null));
    sound(&realm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_order_of_the_copies_silence_leaves_one_fee() {
    let realm = Realm::new().await;
    let source = realm.hospital("source", 1).await;
    let destination = realm.hospital("destination", 2).await;
    let patient = Patient::new();
    let mut transfers = Vec::new();
    for order in orders(4) {
        let story = Story::new(&patient, &source, &destination, 500, 500);
        for content in [&story.request, &story.quote, &story.consent] {
            source.send(&realm, None, content).await.unwrap();
        }
        let copies = [&story.header, &story.delivered, &story.key_release, &story.share_release];
        let mut waiting = order.clone();
        while !waiting.is_empty() {
            let mut again = Vec::new();
            for copy in waiting {
                match source.send(&realm, None, copies[copy]).await {
                    Err(Code::EvidenceMissing) => again.push(copy),
                    sent => assert_eq!(sent, Ok(()), "{order:?}: {copy}"),
                }
            }
            waiting = again;
        }
        transfers.push((story.transfer, order));
    }
    realm.pass(SILENCE_MS);
    for (transfer, order) in transfers {
        nth_entry(&realm, transfer, 2).await;
        assert_eq!(kinds(&realm, transfer).await, ["reserve", "post"], "{order:?}");
    }
    sound(&realm).await;
}
