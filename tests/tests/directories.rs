//! The directory that a node holds: what takes its place, what does not, and what is kept of an index that lies.
#![expect(clippy::unwrap_used, reason = "the helpers of tests")]

use std::sync::Arc;

use handover_core::artefact::federation::{DIRECTORY_LIFE_MS, Status, WholeDirectory};
use handover_core::codec::Bytes;
use handover_core::rules::emergency_member;
use handover_core::time::{Clock, DAY_MS, MINUTE_MS};
use handover_core::{Code, Edition, Timestamp};
use handover_exchange::Directories;
use handover_store::{CellKey, Store};
use handover_tests::fixture::{Draft, T0, World, altered};

const NOW: Timestamp = T0.plus_ms(DAY_MS);

struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn store() -> Store {
    Store::memory(&CellKey::from_bytes([1; 32]))
}

async fn open(store: &Store) -> Directories {
    open_at(store, NOW).await
}

async fn open_at(store: &Store, now: Timestamp) -> Directories {
    Directories::open(World::shared().root.public(), store.clone(), Arc::new(At(now))).await.unwrap()
}

fn code<T>(outcome: Result<T, handover_exchange::ExchangeError>) -> Result<T, Code> {
    outcome.map_err(|fault| fault.code())
}

async fn take(directories: &Directories, directory: &Draft) -> Result<(), Code> {
    take_whole(directories, World::shared().published(directory)).await
}

async fn take_whole(directories: &Directories, whole: WholeDirectory) -> Result<(), Code> {
    let pieces = || whole.pieces.iter().map(|piece| piece.0.clone()).collect();
    code(directories.take(whole.head.0.clone(), |_| async { Ok(pieces()) }).await)
}

/// Version 10 is held, of today.
async fn holding(store: &Store) -> (Directories, Draft) {
    let directories = open(store).await;
    let directory = World::shared().directory(10, NOW);
    take(&directories, &directory).await.unwrap();
    (directories, directory)
}

#[tokio::test]
async fn a_newer_one_is_taken_the_same_changes_nothing_and_an_older_one_stops_nothing() {
    let store = store();
    let (directories, held) = holding(&store).await;
    take(&directories, &held).await.unwrap();
    assert_eq!(directories.refused(), 0);
    let older = World::shared().directory(9, NOW);
    assert_eq!(take(&directories, &older).await, Err(Code::DirectoryRollback));
    assert_eq!((directories.version(), directories.refused()), (10, 1));
    assert_eq!(directories.check(NOW), Ok(()));
    take(&directories, &World::shared().directory(11, NOW)).await.unwrap();
    assert_eq!(open(&store).await.version(), 11);
}

#[tokio::test]
async fn a_fork_stops_new_work_over_restarts_until_a_higher_version_comes() {
    let store = store();
    let (directories, held) = holding(&store).await;
    let other = held.with(|it| it.log_size = 1);
    assert_eq!(take(&directories, &other).await, Err(Code::DirectoryForked));
    // The one held before holds again for nobody, nor does the other.
    take(&directories, &held).await.unwrap();
    for directories in [directories, open(&store).await] {
        assert_eq!(directories.check(NOW), Err(Code::DirectoryForked));
        let federation = directories.held().unwrap();
        assert_eq!(federation.check_fresh(NOW), Err(Code::DirectoryForked));
        // Who is who is still known.
        assert!(federation.active(&World::shared().lakeside.id, NOW).is_ok());
        assert_eq!(take(&directories, &other).await, Err(Code::DirectoryForked));
    }
    let directories = open(&store).await;
    take(&directories, &World::shared().directory(11, NOW)).await.unwrap();
    assert_eq!(directories.check(NOW), Ok(()));
    assert_eq!(directories.held().unwrap().check_fresh(NOW), Ok(()));
    assert_eq!(open(&store).await.check(NOW), Ok(()));
}

#[tokio::test]
async fn nothing_is_taken_back() {
    let world = World::shared();
    let suspended = world.with_status(&world.lakeside, Status::Suspended);
    let entry = |of: &Draft, at: usize| of.hospitals.get(at).cloned().unwrap();
    let store = store();
    let (directories, held) = holding(&store).await;
    let held = held.with(|it| {
        it.version = 11;
        it.hospitals.clone_from(&suspended.hospitals);
    });
    take(&directories, &held).await.unwrap();
    let newer = |change: &dyn Fn(&mut Draft)| {
        let mut directory = held.with(|it| it.version = 20);
        change(&mut directory);
        directory
    };
    let active = world.directory(1, NOW);
    for (what, lie) in [
        ("a hospital is left out", newer(&|it| drop(it.hospitals.pop()))),
        (
            "an order is lower",
            newer(&|it| it.hospitals = vec![entry(it, 0), entry(&active, 1), entry(it, 2)]),
        ),
        ("a schedule is gone", newer(&|it| it.schedules.clear())),
    ] {
        assert_eq!(take(&directories, &lie).await, Err(Code::DirectoryTakesBack), "{what}");
        assert_eq!((directories.version(), directories.check(NOW)), (11, Err(Code::DirectoryTakesBack)));
        // New work goes on under what is held.
        assert_eq!(directories.held().unwrap().check_fresh(NOW), Ok(()), "{what}");
    }
    // Until a higher version than the lie's shows an index that keeps its word.
    take(&directories, &held.with(|it| it.version = 21)).await.unwrap();
    assert_eq!(directories.check(NOW), Ok(()));
}

#[tokio::test]
async fn a_replaced_profile_does_not_come_back() {
    let world = World::shared();
    let store = store();
    let (directories, held) = holding(&store).await;
    let profile = |number: u64| {
        let profile = &world.lakeside.profile;
        Bytes(altered(profile, &world.lakeside.signing, |it| it.number = number))
    };
    let with = |version: u64, number: u64| {
        let mut directory = held.with(|it| it.version = version);
        directory.hospitals.get_mut(1).unwrap().profile = profile(number);
        directory
    };
    take(&directories, &with(11, 7)).await.unwrap();
    assert_eq!(take(&directories, &with(12, 6)).await, Err(Code::DirectoryTakesBack));
    take(&directories, &with(13, 7)).await.unwrap();
}

/// Who was forgotten in an upgrade keeps what it has, and is told what to do.
#[tokio::test]
async fn one_with_a_later_edition_is_not_taken_and_says_so() {
    let store = store();
    let (directories, held) = holding(&store).await;
    let raised = held.with(|it| (it.version, it.edition) = (11, Edition::DRAFT));
    assert_eq!(take(&directories, &raised).await, Err(Code::NewerEdition));
    assert_eq!((directories.version(), directories.check(NOW)), (10, Err(Code::NewerEdition)));
    // What is no directory of the index's says nothing.
    let other = open(&store).await;
    let forged = raised.signed_by(&World::shared().lakeside.signing);
    assert_eq!(take_whole(&other, forged).await, Err(Code::WrongSigner));
    assert_eq!(other.check(NOW), Ok(()));
}

#[tokio::test]
async fn no_version_is_ahead_of_its_time() {
    let store = store();
    let (directories, held) = holding(&store).await;
    let time = u64::try_from(NOW.as_millis()).unwrap();
    for version in [u64::MAX, time + u64::try_from(10 * MINUTE_MS).unwrap()] {
        let ahead = held.with(|it| it.version = version);
        assert_eq!(take(&directories, &ahead).await, Err(Code::DirectoryAhead));
    }
    // The most that a thief can sign today is below what an honest index signs a little later.
    take(&directories, &held.with(|it| it.version = time)).await.unwrap();
    let honest = held.with(|it| it.version = time + 1);
    take(&directories, &honest).await.unwrap();
}

#[tokio::test]
async fn an_expired_one_stops_nobody_who_holds_one_that_is_good_and_everybody_goes_on_after_an_outage() {
    let world = World::shared();
    let store = store();
    let (directories, held) = holding(&store).await;
    // None of them is taken, and none is held against the index.
    for (what, issued) in [
        ("it ran out a moment ago", NOW.plus_ms(-DIRECTORY_LIFE_MS)),
        ("it ran out a day ago", NOW.plus_ms(-DIRECTORY_LIFE_MS - DAY_MS)),
    ] {
        let expired = world.directory(20, issued);
        assert_eq!(take(&directories, &expired).await, Err(Code::DirectoryExpired), "{what}");
        assert_eq!((directories.version(), directories.check(NOW)), (10, Ok(())), "{what}");
    }
    // A lower version that is good still follows.
    take(&directories, &held.with(|it| it.version = 11)).await.unwrap();
    // After weeks without an index nothing held is good: the newest says most, and a good one follows any.
    let later = NOW.plus_ms(20 * DAY_MS);
    let directories = open_at(&store, later).await;
    assert_eq!(directories.check(later), Err(Code::DirectoryExpired));
    let expired = held.with(|it| it.version = 20);
    take(&directories, &expired).await.unwrap();
    assert_eq!((directories.version(), directories.check(later)), (20, Err(Code::DirectoryExpired)));
    let fresh = World::shared().directory(21, later);
    take(&directories, &fresh).await.unwrap();
    assert_eq!(directories.check(later), Ok(()));
}

#[tokio::test]
async fn every_directory_holds_for_exactly_as_long_as_the_others() {
    let store = store();
    let (directories, held) = holding(&store).await;
    // Who has the index's key signs one that ends at once, or never.
    for (what, life_ms) in [
        ("a second", 1_000),
        ("no time", 0),
        ("it ends before it begins", -DAY_MS),
        ("a moment less", DIRECTORY_LIFE_MS - 1),
        ("a moment more", DIRECTORY_LIFE_MS + 1),
        ("years", 1_000 * DAY_MS),
    ] {
        let other = held.with(|it| (it.version, it.expires) = (11, NOW.plus_ms(life_ms)));
        assert_eq!(take(&directories, &other).await, Err(Code::DirectoryLife), "{what}");
        assert_eq!((directories.version(), directories.check(NOW)), (10, Ok(())), "{what}");
    }
}

#[tokio::test]
async fn an_expired_one_does_not_end_emergencies_in_an_outage() {
    let world = World::shared();
    let store = store();
    let (_, held) = holding(&store).await;
    let later = held.expires.plus_ms(5 * DAY_MS);
    let directories = open_at(&store, later).await;
    let serves = || emergency_member(&directories.held().unwrap(), &world.lakeside.id, later).map(drop);
    assert_eq!(serves(), Ok(()));
    // Signed with the index's key: a higher version that ran out before the one held.
    let earlier = world.directory(20, NOW.plus_ms(-6 * DAY_MS));
    assert_eq!(take(&directories, &earlier).await, Err(Code::DirectoryExpired));
    assert_eq!((directories.version(), serves()), (10, Ok(())));
}
