use handover_core::Digest;
use handover_core::artefact::Countersigned;
use handover_core::artefact::federation::{Status, WholeDirectory};
use handover_core::artefact::patient::{Ask, AskKind, Holder, Holders, Revocation};
use handover_core::artefact::transfer::{NextAttempt, QuoteBody, RevocationConfirmed, RevocationEffect};
use handover_core::codec::MAX_MESSAGE_BYTES;
use handover_core::message::{CONSENT_DETAILS_LABEL, HOLDERS_INFO, HospitalInfo, INBOX_INFO, part_binding};
use handover_core::time::DAY_MS;
use handover_core::transfer::{Phase, State};
use handover_seal::part::open_part;
use handover_seal::shares::open_grant_key;
use handover_seal::{OsRandom, SealingKey, hpke_seal_padded};

use super::*;
use crate::testkit::{Hospitals, NOW, World, body, hospital, key, ring};
use crate::{DirectoryNews, open_holders, open_inbox};

fn met(world: &World, wallet: &mut Wallet) -> Federation {
    wallet.take_directory(&world.info(1), NOW).unwrap().0
}

fn asked(world: &World) -> (Wallet, Federation, TransferId, Vec<u8>) {
    let mut wallet = world.wallet();
    let federation = met(world, &mut wallet);
    let (transfer, ask) =
        wallet.ask(None, (&hospital(0), &hospital(1)), &federation, NOW, &mut OsRandom).unwrap();
    (wallet, federation, transfer, ask)
}

fn inbox(hospitals: &Hospitals) -> Inbox {
    Inbox { items: vec![hospitals.item.clone()], broken: Vec::new(), extensions: Extensions::default() }
}

fn quoted(world: &World) -> (Wallet, Federation, TransferId, Hospitals) {
    let (mut wallet, federation, transfer, ask) = asked(world);
    let body = body(&[("laboratory", 3), ("radiology", 2)]);
    let hospitals = Hospitals::answer(world, &wallet, transfer, &ask, &body);
    let entries = wallet.take_inbox(&inbox(&hospitals), &federation, NOW);
    assert_eq!(entries[0].outcome.as_ref().unwrap().quote.as_ref().unwrap().body, body);
    (wallet, federation, transfer, hospitals)
}

fn code<T>(outcome: Result<T, WalletError>) -> Code {
    outcome.err().unwrap().code()
}

#[test]
fn links_are_countersigned_by_their_hospital() {
    let world = World::new();
    let mut wallet = world.wallet();
    let federation = met(&world, &mut wallet);
    let envelope = wallet.link(&hospital(1), "1234-5678", &federation, NOW).unwrap();
    assert_eq!(wallet.link(&hospital(1), "1234-5678", &federation, NOW.plus_ms(9)).unwrap(), envelope);
    let link = rules::link_claim(&envelope, &hospital(1), &Remembered).unwrap();
    assert!(rules::link_code(&link, "1234-5678") && !rules::link_code(&link, "1234-5679"));
    let by_other = Countersigned::sign(&link, &world.hospitals[0]);
    assert_eq!(code(wallet.linked(&by_other, &federation, NOW)), Code::WrongSigner);
    let by_own = Countersigned::sign(&link, &world.hospitals[1]);
    assert_eq!(wallet.linked(&by_own, &federation, NOW).unwrap(), hospital(1));
    let mut stranger = world.wallet();
    assert_eq!(code(stranger.linked(&by_own, &federation, NOW)), Code::AskMismatch);

    // A mistyped code takes nothing from the link that holds; a newer link takes its place once it is signed.
    let confirmed = |wallet: &Wallet| -> Vec<bool> {
        wallet.state.links.iter().map(|known| known.countersigned.is_some()).collect()
    };
    wallet.link(&hospital(1), "mistyped", &federation, NOW).unwrap();
    let newer = wallet.link(&hospital(1), "8765-4321", &federation, NOW).unwrap();
    assert_eq!(confirmed(&wallet), [true, false]);
    assert_eq!(wallet.link(&hospital(1), "1234-5678", &federation, NOW).unwrap(), envelope);
    let newer = rules::link_claim(&newer, &hospital(1), &Remembered).unwrap();
    wallet.linked(&Countersigned::sign(&newer, &world.hospitals[1]), &federation, NOW).unwrap();
    assert_eq!(confirmed(&wallet), [true]);
}

#[test]
fn answers_open_for_their_own_question_only() {
    let world = World::new();
    let wallet = world.wallet();
    let ask = make_ask(&wallet.keys, Question::Locate, NOW, &mut OsRandom);
    let holder = Holder {
        hospital: hospital(0),
        name: "Hospital 0".to_owned(),
        linked: NOW,
        extensions: Extensions::default(),
    };
    let holders = Holders { hospitals: vec![holder], extensions: Extensions::default() };
    let to = wallet.keys.sealing.public();
    let seal = |info, ask: &Verified<Ask>, plain: &[u8]| {
        hpke_seal_padded(&to, info, ask.hash().as_bytes(), plain, &mut OsRandom).unwrap()
    };
    let sealed = seal(HOLDERS_INFO, &ask, &codec::encode(&holders));
    assert_eq!(open_holders(&wallet.keys, &ask, &sealed).unwrap(), holders);
    let other = make_ask(&wallet.keys, Question::Locate, NOW, &mut OsRandom);
    assert_eq!(code(open_holders(&wallet.keys, &other, &sealed)), Code::CannotOpen);
    assert_eq!(code(open_inbox(&wallet.keys, &ask, &sealed)), Code::CannotOpen);
    let ask = make_ask(&wallet.keys, Question::Inbox(hospital(1)), NOW, &mut OsRandom);
    assert!(rules::ask(ask.envelope(), AskKind::Inbox, &Remembered).is_ok());
    let empty = Inbox { items: Vec::new(), broken: Vec::new(), extensions: Extensions::default() };
    let sealed = seal(INBOX_INFO, &ask, &codec::encode(&empty));
    assert_eq!(open_inbox(&wallet.keys, &ask, &sealed).unwrap(), empty);
}

#[test]
fn from_the_question_to_the_revocation() {
    let world = World::new();
    let (mut wallet, federation, transfer, mut hospitals) = quoted(&world);
    let wish = Wish {
        departments: Some(vec!["laboratory".parse().unwrap()]),
        life_hours: Some(24),
        ..Wish::default()
    };
    let given = wallet.consent(&transfer, &wish, true, &federation, NOW, &mut OsRandom).unwrap();
    assert!(!given.repeated);

    // What the hospitals check.
    let request = hospitals.item.request.clone().unwrap();
    let evidence = rules::request(request.as_ref(), context(&federation)).unwrap();
    let quote = hospitals.item.quote.clone().unwrap();
    let quote = rules::quote(quote.as_ref(), &evidence, context(&federation)).unwrap();
    let consent = rules::consent(given.consent.envelope(), &evidence, &quote, context(&federation)).unwrap();
    rules::consent_in_time(&consent, NOW.plus_ms(DAY_MS - 1)).unwrap();
    assert!(rules::consent_in_time(&consent, NOW.plus_ms(DAY_MS)).is_err());
    let binding = part_binding(CONSENT_DETAILS_LABEL, &transfer);
    for (which, sealed) in [(0, &consent.sealed_to_source), (1, &consent.sealed_to_destination)] {
        let details = open_part(&ring(which), &binding, sealed.as_ref()).unwrap();
        assert_eq!(Digest::sha256(&[&details]), consent.details);
        assert_eq!(codec::decode::<ConsentDetails>(&details, MAX_MESSAGE_BYTES).unwrap(), given.details);
    }
    let release = given.release.clone().unwrap();
    let release = rules::share_release(&release, &consent, &Remembered).unwrap();
    let opened =
        open_grant_key(&hospitals.request_key, &consent.hash(), &consent.grant_key, release.sealed.as_ref());
    assert_eq!(opened.unwrap().public(), consent.grant_key);

    // Repeated, also after a restart: the same bytes. Another wish is refused.
    let mut wallet = Wallet::from_bytes(&wallet.to_bytes()).unwrap();
    let later = NOW.plus_ms(60_000);
    let again = wallet.consent(&transfer, &wish, true, &federation, later, &mut OsRandom).unwrap();
    assert!(again.repeated && again.release == given.release);
    assert_eq!(again.consent, given.consent);
    let some = |departments: &str| Some(vec![departments.parse().unwrap()]);
    for (other, differs) in [
        (Wish { departments: some("radiology"), ..wish.clone() }, "departments"),
        (Wish { departments: None, ..wish.clone() }, "departments"),
        (Wish { from: Some(NOW), ..wish.clone() }, "from"),
        (Wish { until: Some(NOW), ..wish.clone() }, "until"),
        (Wish { without_restricted: true, ..wish.clone() }, "restricted records"),
        (Wish { fee_cap: Some("1.00 USD".parse().unwrap()), ..wish.clone() }, "the highest fee"),
        (Wish { life_hours: None, ..wish.clone() }, "how long it holds"),
        (Wish::default(), "departments, how long it holds"),
    ] {
        let refused = wallet.consent(&transfer, &other, true, &federation, NOW, &mut OsRandom).unwrap_err();
        assert_eq!(refused.code(), Code::Conflict);
        assert!(refused.to_string().contains(&format!(": {differs} (")), "{refused}");
    }
    assert_eq!(code(wallet.refuse(&transfer, NOW)), Code::OutOfOrder);

    // Taken back, and confirmed by a holder.
    let revocation = wallet.revoke(&transfer, NOW).unwrap();
    assert_eq!(wallet.revoke(&transfer, NOW.plus_ms(1)).unwrap(), revocation);
    assert_eq!(code(wallet.release(&transfer, NOW, &mut OsRandom)), Code::OutOfOrder);
    let late = wallet.consent(&transfer, &wish, true, &federation, NOW, &mut OsRandom);
    assert_eq!(code(late), Code::OutOfOrder);
    let revocation: Revocation = codec::decode(&revocation, MAX_MESSAGE_BYTES).unwrap();
    rules::revocation(&revocation, &consent).unwrap();
    let confirm = |by: usize, signer: &handover_seal::SigningKey| {
        let confirmed = RevocationConfirmed {
            transfer,
            consent: consent.hash(),
            by: hospital(by),
            since: NOW,
            effect: RevocationEffect::InTime,
            extensions: Extensions::default(),
        };
        Bytes(Verified::sign(confirmed, signer).envelope().to_vec())
    };
    hospitals.item.state = State::exit(Phase::Revoked, Code::ConsentRevoked);
    hospitals.item.consent = Some(Bytes(consent.envelope().to_vec()));
    hospitals.item.confirmations = vec![confirm(0, &world.hospitals[0])];
    let entries = wallet.take_inbox(&inbox(&hospitals), &federation, NOW);
    assert_eq!(entries[0].outcome.as_ref().unwrap().confirmations[0].by, hospital(0));
    hospitals.item.confirmations = vec![confirm(0, &world.hospitals[1])];
    let mut entries = wallet.take_inbox(&inbox(&hospitals), &federation, NOW);
    assert_eq!(code(entries.remove(0).outcome), Code::WrongSigner);
    hospitals.item.confirmations = Vec::new();
    wallet.take_inbox(&inbox(&hospitals), &federation, NOW.plus_ms(DAY_MS));
    assert!(wallet.secrets.is_empty());
}

#[test]
fn a_further_attempt_is_released_to_the_key_that_it_brings() {
    let world = World::new();
    let (mut wallet, federation, transfer, mut hospitals) = quoted(&world);
    let given = wallet.consent(&transfer, &Wish::default(), true, &federation, NOW, &mut OsRandom).unwrap();
    let first = given.release.unwrap();
    let fresh = SealingKey::generate(&mut OsRandom);
    let asking = |attempt: u32, key: &SealingKey, signer: &handover_seal::SigningKey| {
        let next = NextAttempt {
            transfer,
            attempt,
            consent: given.consent.hash(),
            request_key: key.public(),
            issued: NOW,
            extensions: Extensions::default(),
        };
        Some(Bytes(Verified::sign(next, signer).envelope().to_vec()))
    };
    hospitals.item.consent = Some(Bytes(given.consent.envelope().to_vec()));
    hospitals.item.state = State::at(2, Phase::Consented);
    let mut told = |wallet: &mut Wallet, next: Option<Bytes>| {
        hospitals.item.next_attempt = next;
        wallet.take_inbox(&inbox(&hospitals), &federation, NOW).remove(0).outcome
    };
    let [source, destination] = [0, 1].map(|which| &world.hospitals[which]);
    assert_eq!(code(told(&mut wallet, asking(2, &fresh, source))), Code::WrongSigner);
    assert_eq!(code(told(&mut wallet, asking(3, &fresh, destination))), Code::OutOfOrder, "not that far");
    assert_eq!(wallet.release(&transfer, NOW, &mut OsRandom).unwrap(), first, "nothing was asked for");

    let reviewed = told(&mut wallet, asking(2, &fresh, destination)).unwrap();
    assert_eq!(reviewed.next_attempt.unwrap().attempt, 2);
    assert!(wallet.transfer(&transfer).unwrap().release().unwrap().is_none());
    // Consenting once more is no release to another key.
    let again = wallet.consent(&transfer, &Wish::default(), true, &federation, NOW, &mut OsRandom).unwrap();
    assert_eq!(again.release.as_ref(), Some(&first));
    let mut wallet = Wallet::from_bytes(&wallet.to_bytes()).unwrap();
    let second = wallet.release(&transfer, NOW, &mut OsRandom).unwrap();
    assert_eq!(wallet.release(&transfer, NOW.plus_ms(1), &mut OsRandom).unwrap(), second);
    let release = rules::share_release(&second, &given.consent, &Remembered).unwrap();
    assert_eq!(release.request_key, fresh.public());
    let consent = &given.consent;
    let opened = open_grant_key(&fresh, &consent.hash(), &consent.grant_key, release.sealed.as_ref());
    assert_eq!(opened.unwrap().public(), consent.grant_key);

    // Who has not heard of it yet changes nothing; another key for the same attempt is not believed.
    told(&mut wallet, None).unwrap();
    assert_eq!(wallet.release(&transfer, NOW, &mut OsRandom).unwrap(), second);
    let other = SealingKey::generate(&mut OsRandom);
    assert_eq!(code(told(&mut wallet, asking(2, &other, destination))), Code::Conflict);
    assert_eq!(wallet.release(&transfer, NOW, &mut OsRandom).unwrap(), second);
}

#[test]
fn a_share_kept_back_is_released_later_once() {
    let world = World::new();
    let (mut wallet, federation, transfer, _) = quoted(&world);
    assert_eq!(code(wallet.release(&transfer, NOW, &mut OsRandom)), Code::OutOfOrder);
    let given = wallet.consent(&transfer, &Wish::default(), false, &federation, NOW, &mut OsRandom).unwrap();
    assert!(given.release.is_none());
    assert_eq!(given.details.scope, handover_core::artefact::patient::Scope::everything());
    assert_eq!(given.consent.fee_cap.to_string(), "12.50 USD");
    let release = wallet.release(&transfer, NOW, &mut OsRandom).unwrap();
    assert_eq!(wallet.release(&transfer, NOW.plus_ms(1), &mut OsRandom).unwrap(), release);
}

#[test]
fn questions_and_refusals_are_repeated_as_they_were() {
    let world = World::new();
    let (mut wallet, federation, transfer, ask) = asked(&world);
    let pair = (&hospital(0), &hospital(1));
    let again = wallet.ask(Some(transfer), pair, &federation, NOW.plus_ms(5), &mut OsRandom).unwrap();
    assert_eq!(again, (transfer, ask));
    let turned = wallet.ask(Some(transfer), (pair.1, pair.0), &federation, NOW, &mut OsRandom).unwrap_err();
    assert_eq!(turned.code(), Code::Conflict);
    assert!(turned.to_string().contains(": the source, the destination ("), "{turned}");
    let refused = wallet.consent(&transfer, &Wish::default(), true, &federation, NOW, &mut OsRandom);
    assert_eq!(code(refused), Code::OutOfOrder);
    let refusal = wallet.refuse(&transfer, NOW).unwrap();
    assert_eq!(wallet.refuse(&transfer, NOW.plus_ms(5)).unwrap(), refusal);
}

#[test]
fn directories_of_others_and_older_ones_are_not_taken() {
    let mut world = World::new();
    let mut wallet = world.wallet();
    assert_eq!(code(wallet.take_directory(&World::new().info(1), NOW)), Code::WrongSigner);
    let first = world.info(1);
    assert_eq!(wallet.take_directory(&first, NOW).unwrap().1, DirectoryNews::Newer);
    assert_eq!(wallet.take_directory(&first, NOW).unwrap().1, DirectoryNews::Same);
    world.status[0] = Status::Revoked;
    assert_eq!(code(wallet.take_directory(&world.info(1), NOW)), Code::DirectoryForked);
    world.version = 2;
    assert_eq!(wallet.take_directory(&world.info(1), NOW).unwrap().1, DirectoryNews::Newer);
    let (federation, news) = wallet.take_directory(&first, NOW).unwrap();
    assert_eq!((federation.directory().version, news), (2, DirectoryNews::Older));
    let asked = wallet.ask(None, (&hospital(0), &hospital(1)), &federation, NOW, &mut OsRandom);
    assert_eq!(code(asked), Code::HospitalRevoked);
    assert!(wallet.ask(None, (&hospital(1), &hospital(0)), &federation, NOW, &mut OsRandom).is_err());
}

#[test]
fn pieces_that_the_wallet_lacks_are_asked_for_and_nothing_else_is_taken_for_them() {
    let mut world = World::new();
    let mut wallet = world.wallet();
    let head_of = |whole: &HospitalInfo| HospitalInfo {
        directory: WholeDirectory { pieces: Vec::new(), ..whole.directory.clone() },
        ..whole.clone()
    };
    let whole = world.info(1);
    assert_eq!(code(wallet.take_directory(&head_of(&whole), NOW)), Code::DirectoryIncomplete);
    let piece = whole.directory.pieces[0].0.clone();
    let asked = |digests: Vec<Digest>| {
        assert_eq!(digests, [Digest::sha256(&[&piece])]);
        Ok(vec![piece.clone()])
    };
    let completed = wallet.completed(head_of(&whole), NOW, asked).unwrap();
    assert_eq!(completed, whole);
    wallet.take_directory(&completed, NOW).unwrap();
    let held = Wallet::from_bytes(&wallet.to_bytes()).unwrap();
    let again = held.completed(head_of(&whole), NOW, |_| Err(WalletError::Unreachable));
    assert_eq!(again.unwrap(), whole, "all of it is held");

    (world.version, world.status[0]) = (2, Status::Suspended);
    let newer = world.info(1);
    for (answer, refused) in [
        (vec![], Code::DirectoryIncomplete),
        (vec![piece.clone()], Code::Malformed),
        (vec![b"other".to_vec()], Code::Malformed),
    ] {
        assert_eq!(code(held.completed(head_of(&newer), NOW, |_| Ok(answer.clone()))), refused);
    }
}

#[test]
fn a_directory_that_has_expired_takes_the_place_of_none_that_holds_or_held_longer() {
    let mut world = World::new();
    let mut wallet = world.wallet();
    wallet.take_directory(&world.info(1), NOW).unwrap();
    (world.version, world.issued) = (2, NOW.plus_ms(-3 * DAY_MS));
    let (federation, news) = wallet.take_directory(&world.info(1), NOW).unwrap();
    assert_eq!((federation.directory().version, news), (1, DirectoryNews::Expired));
    let later = NOW.plus_ms(4 * DAY_MS);
    let (federation, news) = wallet.take_directory(&world.info(1), later).unwrap();
    assert_eq!((federation.directory().version, news), (1, DirectoryNews::Expired), "neither holds any more");
    world.issued = NOW.plus_ms(DAY_MS / 2);
    let (federation, news) = wallet.take_directory(&world.info(1), later).unwrap();
    assert_eq!((federation.directory().version, news), (2, DirectoryNews::Newer), "it held longer");
}

#[test]
fn quotes_that_are_not_what_they_say_are_refused() {
    let world = World::new();
    let (mut wallet, federation, transfer, ask) = asked(&world);
    let fine = body(&[("laboratory", 3)]);
    let digest = |body: &QuoteBody| Digest::sha256(&[&codec::encode(body)]);
    let dearer = QuoteBody { fee: "12.51 USD".parse().unwrap(), ..fine.clone() };
    let unsummed = QuoteBody { records: 4, ..fine.clone() };
    for (body, commitment, expected) in [
        (&fine, Digest::sha256(&[b"another body"]), Code::QuoteFalse),
        (&dearer, digest(&dearer), Code::QuoteFalse),
        (&unsummed, digest(&unsummed), Code::QuoteFalse),
    ] {
        let hospitals = Hospitals::answer_with(&world, &wallet, transfer, &ask, body, commitment);
        let outcome = wallet.take_inbox(&inbox(&hospitals), &federation, NOW).remove(0).outcome;
        assert!(matches!(outcome, Err(WalletError::FalseQuote(_))));
        assert_eq!(code(outcome), expected);
        assert!(wallet.transfer(&transfer).unwrap().quote.is_none());
    }
    // Sealed to somebody else, and on somebody else's ask.
    let stranger = world.wallet();
    let hospitals = Hospitals::answer(&world, &stranger, transfer, &ask, &fine);
    let outcome = wallet.take_inbox(&inbox(&hospitals), &federation, NOW).remove(0).outcome;
    assert_eq!(code(outcome), Code::QuoteMismatch);
    let question = Question::Transfer { transfer, source: hospital(0), destination: hospital(1) };
    let theirs = make_ask(&stranger.keys, question, NOW, &mut OsRandom);
    let hospitals = Hospitals::answer(&world, &stranger, transfer, theirs.envelope(), &fine);
    let outcome = wallet.take_inbox(&inbox(&hospitals), &federation, NOW).remove(0).outcome;
    assert_eq!(code(outcome), Code::AskMismatch);
}

#[test]
fn a_swapped_destination_key_is_refused() {
    let mut world = World::new();
    let (mut wallet, federation, transfer, hospitals) = quoted(&world);
    let mut other = Wallet::from_bytes(&wallet.to_bytes()).unwrap();
    let given = wallet.consent(&transfer, &Wish::default(), true, &federation, NOW, &mut OsRandom).unwrap();

    // The directory now has another key for the destination, certified as it must be.
    world.hospitals[1] = key();
    world.version = 2;
    let (swapped, _) = other.take_directory(&world.info(1), NOW).unwrap();
    let refused = other.consent(&transfer, &Wish::default(), true, &swapped, NOW, &mut OsRandom);
    assert!(matches!(refused, Err(WalletError::KeyChanged(_))));

    // And a hospital that goes by it does not accept the consent: it names the key that was compared.
    let request = hospitals.item.request.unwrap();
    let evidence = rules::request(request.as_ref(), context(&federation)).unwrap();
    let quote = hospitals.item.quote.unwrap();
    let quote = rules::quote(quote.as_ref(), &evidence, context(&federation)).unwrap();
    let refused = rules::consent(given.consent.envelope(), &evidence, &quote, context(&swapped));
    assert_eq!(refused.unwrap_err(), Code::ConsentKey);
}

#[test]
fn nothing_new_on_old_quotes_or_directories() {
    let mut world = World::new();
    let (mut wallet, federation, transfer, _) = quoted(&world);
    let late = NOW.plus_ms(3 * DAY_MS);
    let refused = wallet.consent(&transfer, &Wish::default(), true, &federation, late, &mut OsRandom);
    assert_eq!(code(refused), Code::DirectoryExpired);
    world.status[1] = Status::Suspended;
    world.version = 2;
    let (federation, _) = wallet.take_directory(&world.info(0), NOW).unwrap();
    let refused = wallet.consent(&transfer, &Wish::default(), true, &federation, NOW, &mut OsRandom);
    assert_eq!(code(refused), Code::HospitalSuspended);
    assert!(wallet.secrets.is_empty());
}

#[test]
fn the_next_device_takes_back_but_does_not_answer_what_the_last_one_asked() {
    let world = World::new();
    let (mut old, federation, transfer, mut hospitals) = quoted(&world);
    let mut next = old.with_keys(old.keys.renewed(NOW.plus_ms(1), &mut OsRandom).unwrap());
    assert_eq!(next.keys.patient(), old.keys.patient());
    let both = (&hospital(0), &hospital(1));
    assert_eq!(code(next.ask(Some(transfer), both, &federation, NOW, &mut OsRandom)), Code::OutOfOrder);
    let wish = Wish::default();
    let consent = next.consent(&transfer, &wish, true, &federation, NOW, &mut OsRandom);
    assert_eq!(code(consent), Code::OutOfOrder);
    assert_eq!(code(next.refuse(&transfer, NOW)), Code::OutOfOrder);
    // The quote is sealed to the last device: the transfer is shown without it.
    let entries = next.take_inbox(&inbox(&hospitals), &federation, NOW);
    assert!(entries[0].outcome.as_ref().unwrap().quote.is_none());

    let given = old.consent(&transfer, &wish, false, &federation, NOW, &mut OsRandom).unwrap();
    hospitals.item.consent = Some(Bytes(given.consent.envelope().to_vec()));
    let mut next = old.with_keys(old.keys.renewed(NOW.plus_ms(1), &mut OsRandom).unwrap());
    let entries = next.take_inbox(&inbox(&hospitals), &federation, NOW);
    assert_eq!(entries[0].outcome.as_ref().unwrap().consent.as_ref(), Some(&given.consent));
    assert_eq!(code(next.release(&transfer, NOW, &mut OsRandom)), Code::OutOfOrder);
    let revocation: Revocation =
        codec::decode(&next.revoke(&transfer, NOW).unwrap(), MAX_MESSAGE_BYTES).unwrap();
    assert_eq!(rules::revocation(&revocation, &given.consent), Ok(()));
    // As it lies in the file.
    let read = Wallet::from_bytes(&next.to_bytes()).unwrap();
    assert_eq!(read.keys.records(), next.keys.records());
    assert_eq!(read.keys.number(), 2);
}
