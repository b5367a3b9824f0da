//! A directory's pieces: where hospitals stand in them, that nothing else is taken for one, and that what is taken over
//! from the directory held before is what comes of verifying everything anew.
#![expect(clippy::unwrap_used, reason = "the helpers of tests")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use handover_core::artefact::Verified;
use handover_core::artefact::federation::{
    Directory, DirectoryEntry, DirectoryPiece, HospitalCertificate, HospitalProfile, PIECE_ENTRIES_MAX,
    PIECE_ENTRIES_MEAN_MAX, PIECE_MAX_BYTES, PIECES_MAX, Status, StatusOrder, WholeDirectory, pieces_for,
    place_of,
};
use handover_core::codec::{self, Bytes, Extensions};
use handover_core::trust::{Federation, Gathering, Head, Member, TrustError};
use handover_core::{Code, Digest, HospitalId};
use handover_exchange::{Directories, ExchangeError};
use handover_seal::{Ed25519, Secret32, SigningKey};
use handover_store::{CellKey, Store};
use handover_tests::fixture::{T0, World, altered, by_two};
use proptest::prelude::*;

fn none() -> Extensions {
    Extensions::default()
}

/// What a hospital's entry says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    /// How often its key was replaced.
    key: u8,
    order: u64,
    profile: u64,
    /// Whether the third operator is one of the two.
    by_third: bool,
}

fn id(number: u16) -> HospitalId {
    format!("hospital-{number:05}").parse().unwrap()
}

fn key(number: u16, replaced: u8) -> SigningKey {
    let seed = Digest::sha256(&[&number.to_be_bytes(), &[replaced]]);
    SigningKey::from_seed(&Secret32::from_bytes(*seed.as_bytes()))
}

fn third() -> SigningKey {
    SigningKey::from_seed(&Secret32::from_bytes([33; 32]))
}

fn certificate(number: u16, replaced: u8) -> Bytes {
    let certificate = HospitalCertificate {
        hospital: id(number),
        name: "A hospital".to_owned(),
        key: key(number, replaced).public(),
        ..(*World::shared().lakeside.certificate).clone()
    };
    Bytes(Verified::sign(certificate, &World::shared().root).envelope().to_vec())
}

fn entry(number: u16, told: Told) -> DirectoryEntry {
    let world = World::shared();
    let key = key(number, told.key);
    let order = StatusOrder {
        hospital: id(number),
        key: key.public().thumbprint(),
        number: told.order,
        ..World::order(&world.lakeside, Status::Active, 1)
    };
    let [ada, grace] = &world.operators;
    let second = if told.by_third { &third() } else { &grace.key };
    let profile =
        HospitalProfile { hospital: id(number), number: told.profile, ..(*world.lakeside.profile).clone() };
    let former: Vec<Bytes> = (0..told.key).map(|replaced| certificate(number, replaced)).collect();
    DirectoryEntry {
        certificate: certificate(number, told.key),
        status: by_two(order, &ada.key, second).into(),
        profile: Bytes(Verified::sign(profile, &key).envelope().to_vec()),
        former: Some(former).filter(|former| !former.is_empty()),
        extensions: none(),
    }
}

fn encoded(hospitals: Vec<DirectoryEntry>) -> Vec<u8> {
    codec::encode(&DirectoryPiece { hospitals, extensions: none() })
}

/// Under the index's signature, these pieces in their places.
fn signed(version: u64, has_third: bool, pieces: Vec<Vec<u8>>) -> WholeDirectory {
    let world = World::shared();
    let mut head = Directory {
        pieces: pieces.iter().map(|piece| Digest::sha256(&[piece])).collect(),
        ..world.directory(version, T0).head
    };
    if has_third {
        let certificate = &world.operators[0].certificate;
        let certificate = altered(certificate, &world.root, |it| it.key = third().public());
        head.operators.push(certificate.into());
    }
    let head = Verified::sign(head, &world.index).envelope().to_vec();
    WholeDirectory { head: Bytes(head), pieces: pieces.into_iter().map(Bytes).collect(), extensions: none() }
}

/// The entries of these hospitals in their places.
fn places(all: &BTreeMap<u16, Told>) -> Vec<Vec<DirectoryEntry>> {
    let count = pieces_for(all.len()).unwrap();
    let mut places = vec![Vec::new(); count];
    for (number, told) in all {
        places.get_mut(place_of(&id(*number), count)).unwrap().push(entry(*number, *told));
    }
    places
}

fn directory(version: u64, has_third: bool, all: &BTreeMap<u16, Told>) -> WholeDirectory {
    signed(version, has_third, places(all).into_iter().map(encoded).collect())
}

fn many(count: u16) -> BTreeMap<u16, Told> {
    (0..count).map(|number| (number, Told { order: 1, profile: 1, ..Told::default() })).collect()
}

fn verified(whole: &WholeDirectory) -> Result<Federation, TrustError> {
    Federation::verify(whole, &World::shared().root.public(), T0, &Ed25519)
}

/// As a node does: with those pieces alone that it does not hold.
fn taken_over(whole: &WholeDirectory, known: &Federation) -> Result<Federation, TrustError> {
    let head = Head::verify(whole.head.as_ref(), &World::shared().root.public(), T0, &Ed25519)?;
    let missing = Gathering::of(&head, &known.digests()).missing();
    let new: Vec<&Bytes> =
        whole.pieces.iter().filter(|it| missing.contains(&Digest::sha256(&[it.as_ref()]))).collect();
    head.complete(&new, Some(known), &Ed25519)
}

/// Everything that a directory says of hospitals.
fn facts(of: &Federation) -> (BTreeMap<String, Member>, Vec<usize>, BTreeSet<Digest>) {
    let members = of.members().map(|it| (it.certificate.hospital.to_string(), it.clone())).collect();
    let replaced = of.members().flat_map(|it| &it.former).map(|key| key.thumbprint());
    let replaced = replaced.filter(|kid| of.is_former(kid)).collect();
    (members, of.places().collect(), replaced)
}

fn code<T>(outcome: Result<T, TrustError>) -> Option<Code> {
    outcome.err().map(|fault| fault.code())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_place_is_the_beginning_of_a_hash(number in any::<u16>(), doublings in 0_u32..11) {
        let pieces = 1_usize << doublings;
        let (place, finer) = (place_of(&id(number), pieces), place_of(&id(number), 2 * pieces));
        prop_assert!(place < pieces);
        prop_assert_eq!(finer / 2, place, "a piece is divided, and nothing moves otherwise");
    }

    #[test]
    fn there_are_as_many_pieces_as_needed(hospitals in 0_usize..40_000) {
        match pieces_for(hospitals) {
            None => prop_assert!(hospitals > PIECES_MAX * PIECE_ENTRIES_MEAN_MAX),
            Some(pieces) => {
                prop_assert!(pieces.is_power_of_two() && pieces <= PIECES_MAX);
                prop_assert!(hospitals <= pieces * PIECE_ENTRIES_MEAN_MAX);
                prop_assert!(pieces == 1 || hospitals > pieces / 2 * PIECE_ENTRIES_MEAN_MAX);
            }
        }
    }
}

/// What an index does next, honest or not.
#[derive(Clone, Debug)]
enum Step {
    /// Another hospital; of more than 16, the pieces are divided.
    Admit(u16),
    Order(u16),
    OrderByThird(u16),
    Profile(u16),
    Replace(u16),
    /// The third operator comes into office, or is left out again, whatever was signed.
    Third(bool),
    /// An entry stands in another's place.
    Misplace(u16),
    /// Two entries change places in their piece.
    Disorder(u16),
    /// An entry has another one's profile.
    Mix(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let hospital = || 0_u16..40;
    prop_oneof![
        3 => hospital().prop_map(Step::Admit),
        2 => hospital().prop_map(Step::Order),
        2 => hospital().prop_map(Step::OrderByThird),
        1 => hospital().prop_map(Step::Profile),
        2 => hospital().prop_map(Step::Replace),
        2 => any::<bool>().prop_map(Step::Third),
        1 => hospital().prop_map(Step::Misplace),
        1 => hospital().prop_map(Step::Disorder),
        1 => hospital().prop_map(Step::Mix),
    ]
}

/// What comes of a step: what is told then, and the directory that says so, or says something false.
fn done(
    step: &Step,
    version: u64,
    (all, has_third): (&mut BTreeMap<u16, Told>, &mut bool),
) -> WholeDirectory {
    let mut change = |number: &u16, change: &dyn Fn(&mut Told)| {
        if let Some(told) = all.get_mut(number) {
            change(told);
        }
    };
    match step {
        Step::Admit(number) => {
            all.entry(*number).or_insert(Told { order: 1, profile: 1, ..Told::default() });
        }
        Step::Order(number) => change(number, &|it| (it.order, it.by_third) = (it.order + 1, false)),
        Step::OrderByThird(number) => change(number, &|it| (it.order, it.by_third) = (it.order + 1, true)),
        Step::Profile(number) => change(number, &|it| it.profile += 1),
        Step::Replace(number) => change(number, &|it| {
            (it.key, it.order, it.by_third) = ((it.key + 1).min(3), it.order + 1, false);
        }),
        Step::Third(is_in) => *has_third = *is_in,
        Step::Misplace(_) | Step::Disorder(_) | Step::Mix(_) => {}
    }
    let mut places = places(all);
    let count = places.len();
    match step {
        Step::Misplace(number) if all.contains_key(number) => {
            let place = place_of(&id(*number), count);
            if let Some(entry) = places.get_mut(place).and_then(Vec::pop) {
                places.get_mut((place + 1) % count).unwrap().push(entry);
            }
        }
        Step::Disorder(number) => places.get_mut(place_of(&id(*number), count)).unwrap().reverse(),
        Step::Mix(number) if all.contains_key(number) => {
            let own = places.get_mut(place_of(&id(*number), count)).unwrap();
            own.last_mut().unwrap().profile = entry(41, Told::default()).profile;
        }
        _ => {}
    }
    signed(version, *has_third, places.into_iter().map(encoded).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever an index does: a directory that follows one held is judged as if nothing had been held, and says the same.
    #[test]
    fn what_is_taken_over_is_what_verifying_anew_comes_to(
        begun in 8_u16..36,
        steps in proptest::collection::vec(step(), 1..10),
    ) {
        let (mut all, mut has_third) = (many(begun), false);
        let mut known = verified(&directory(1, false, &all)).unwrap();
        for (version, step) in (2..).zip(&steps) {
            let whole = done(step, version, (&mut all, &mut has_third));
            match (verified(&whole), taken_over(&whole, &known)) {
                (Ok(anew), Ok(over)) => {
                    prop_assert_eq!(facts(&anew), facts(&over), "{:?}", step);
                    prop_assert_eq!(anew.succeeds(&known, T0), over.succeeds(&known, T0));
                    known = over;
                }
                (anew, over) => prop_assert_eq!(code(anew), code(over), "{:?}", step),
            }
        }
    }

    /// Of a directory that the index signed no byte can be changed on the way, in whatever piece.
    #[test]
    fn no_piece_is_taken_that_the_head_does_not_name(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut whole = directory(1, false, &many(20));
        let pieces = whole.pieces.len();
        let piece = whole.pieces.get_mut(at.index(pieces)).unwrap();
        let length = piece.0.len();
        *piece.0.get_mut(at.index(length)).unwrap() ^= 1 << bit;
        prop_assert_eq!(code(verified(&whole)), Some(Code::DirectoryIncomplete));
        let head = Head::verify(whole.head.as_ref(), &World::shared().root.public(), T0, &Ed25519).unwrap();
        let mut gathering = Gathering::of(&head, &BTreeSet::new());
        let changed = whole.pieces.swap_remove(at.index(pieces)).0;
        prop_assert_eq!(gathering.take(vec![changed]), Err(Code::Malformed));
        prop_assert_eq!(gathering.missing().len(), pieces, "nothing was kept");
    }
}

/// A piece that is held stands no longer where an operator is missing who vouched in it.
#[test]
fn what_an_operator_vouched_for_is_not_taken_over_without_that_operator() {
    let mut all = many(20);
    all.get_mut(&7).unwrap().by_third = true;
    let known = verified(&directory(1, true, &all)).unwrap();
    let without = directory(2, false, &all);
    assert_eq!(code(verified(&without)), Some(Code::WrongSigner));
    assert_eq!(code(taken_over(&without, &known)), Some(Code::WrongSigner));
}

#[test]
fn what_is_no_directory_in_pieces_is_refused() {
    let all = many(40);
    let honest = || places(&all);
    let whole =
        |places: Vec<Vec<DirectoryEntry>>| signed(1, false, places.into_iter().map(encoded).collect());
    assert_eq!(code(verified(&whole(honest()))), None);
    let first = |places: &mut Vec<Vec<DirectoryEntry>>| places.remove(0);
    let mut twice = honest();
    let copy = twice.first().unwrap().first().unwrap().clone();
    twice.get_mut(0).unwrap().insert(0, copy);
    let mut elsewhere = honest();
    let moved = elsewhere.get_mut(0).unwrap().pop().unwrap();
    elsewhere.get_mut(1).unwrap().push(moved);
    let mut fewer = honest();
    first(&mut fewer);
    let mut turned = honest();
    turned.reverse();
    let none = Vec::new();
    let crowd = vec![(0..=PIECE_ENTRIES_MAX).map(|at| entry(at as u16, Told::default())).collect()];
    let large = altered(&World::shared().lakeside.profile, &World::shared().lakeside.signing, |it| {
        it.name = "x".repeat(PIECE_MAX_BYTES);
    });
    let large = vec![vec![DirectoryEntry { profile: Bytes(large), ..entry(0, Told::default()) }]];
    let too_many = vec![Vec::new(); 2 * PIECES_MAX];
    for (what, places, refused) in [
        ("a hospital twice", twice, Code::WrongSigner),
        ("a hospital in another piece", elsewhere, Code::WrongSigner),
        ("three pieces", fewer, Code::WrongSigner),
        ("pieces in each other's places", turned, Code::WrongSigner),
        ("no piece", none, Code::WrongSigner),
        ("more pieces than there may be", too_many, Code::WrongSigner),
        ("more hospitals than a piece has", crowd, Code::Malformed),
        ("more bytes than a piece has", large, Code::TooLarge),
    ] {
        assert_eq!(code(verified(&whole(places))), Some(refused), "{what}");
    }
    let mut part = whole(honest());
    part.pieces.truncate(1);
    assert_eq!(code(verified(&part)), Some(Code::DirectoryIncomplete), "a piece is missing");
    // A file needs no more than what it is about; of the others it says nothing.
    let root = World::shared().root.public();
    let part = verified(&whole(honest())).unwrap().part([&id(7)]);
    assert_eq!(part.pieces.len(), 1);
    let part = Federation::verify_part(&part, &root, T0, &Ed25519).unwrap();
    assert!(part.member(&id(7)).is_ok());
    let outside = (0..40).map(id).find(|it| place_of(it, 4) != place_of(&id(7), 4)).unwrap();
    assert_eq!(part.member(&outside).err(), Some(Code::DirectoryIncomplete));
}

#[test]
fn what_comes_is_bounded_and_ends() {
    let whole = directory(1, false, &many(20));
    let head = Head::verify(whole.head.as_ref(), &World::shared().root.public(), T0, &Ed25519).unwrap();
    let mut gathering = Gathering::of(&head, &BTreeSet::new());
    assert_eq!(gathering.take(Vec::new()), Err(Code::DirectoryIncomplete), "else it would be asked for ever");
    assert_eq!(gathering.take(vec![vec![0; PIECE_MAX_BYTES + 1]]), Err(Code::TooLarge));
    let piece = whole.pieces.first().unwrap().0.clone();
    assert_eq!(gathering.take(vec![piece.clone()]), Ok(()));
    assert_eq!(gathering.take(vec![piece]), Err(Code::Malformed), "it is there");
    assert_eq!(gathering.missing().len(), whole.pieces.len() - 1);
}

struct Now;

impl handover_core::time::Clock for Now {
    fn now(&self) -> handover_core::Timestamp {
        T0
    }
}

/// A node takes a directory of which each answer has room for some pieces only; then it asks for what it lacks, and keeps
/// exactly what it holds, over a restart, too.
#[tokio::test]
async fn a_node_asks_for_what_it_lacks_and_keeps_what_it_holds() {
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let open = || Directories::open(World::shared().root.public(), store.clone(), std::sync::Arc::new(Now));
    let kept = async || {
        let keys = store.keys();
        let count = move |txn: &mut dyn handover_store::Txn| {
            txn.scan(&keys.space("directory-piece").build(), None, 1_000).map(|cells| cells.len())
        };
        store.read(count).await.unwrap()
    };
    let mut all = many(100);
    let first = directory(1, false, &all);
    let (asked, came) = (Cell::new(0), Cell::new(0));
    let given = |whole: &WholeDirectory, wanted: Vec<Vec<u8>>| {
        asked.set(asked.get() + 1);
        let is_wanted =
            |piece: &&Bytes| wanted.contains(&Digest::sha256(&[piece.as_ref()]).as_bytes().to_vec());
        let pieces: Vec<_> = whole.pieces.iter().filter(is_wanted).take(3).map(|it| it.0.clone()).collect();
        came.set(came.get() + pieces.len());
        Ok::<_, ExchangeError>(pieces)
    };
    let directories = open().await.unwrap();
    directories.take(first.head.0.clone(), |wanted| async { given(&first, wanted) }).await.unwrap();
    assert_eq!((asked.take(), came.take(), kept().await), (3, 8, 8), "eight pieces, three at a time");

    all.get_mut(&7).unwrap().order = 2;
    let second = directory(2, false, &all);
    let directories = open().await.unwrap();
    assert_eq!(directories.version(), 1);
    directories.take(second.head.0.clone(), |wanted| async { given(&second, wanted) }).await.unwrap();
    assert_eq!((asked.take(), came.take(), kept().await), (1, 1, 8), "one piece");
    let held = open().await.unwrap().held().unwrap();
    assert_eq!(facts(&held), facts(&verified(&second).unwrap()));

    // One whose pieces do not come, and one whose pieces are others, change nothing.
    all.get_mut(&8).unwrap().order = 2;
    let third = directory(3, false, &all);
    let nothing = directories.take(third.head.0.clone(), |_| async { Ok(Vec::new()) }).await;
    assert_eq!(nothing.unwrap_err().code(), Code::DirectoryIncomplete);
    let other = directories.take(third.head.0.clone(), |_| async { Ok(vec![b"other".to_vec()]) }).await;
    assert_eq!(other.unwrap_err().code(), Code::Malformed);
    assert_eq!((directories.version(), directories.check(T0), kept().await), (2, Ok(()), 8));
    directories.take(third.head.0.clone(), |wanted| async { given(&third, wanted) }).await.unwrap();
    assert_eq!(directories.version(), 3);
}
