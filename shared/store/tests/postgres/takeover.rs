//! Standing by, taking over, and the number that never falls.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use handover_cluster::Cluster;
use handover_store::{Health, Place, Standing, Store, StoreError, accept_loss};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::proxy::{Cut, Proxy};
use crate::{cell_key, count, count_up, database};

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Tells the process that this test starts what to do: the URL of its database.
const HANGING: &str = "HANDOVER_TEST_HANGING";

/// A store with a note in a data folder.
fn place(url: &str, data: &Path) -> Place {
    Place::Database { database: Box::new(database(url)), beside: Some(data.join("store")) }
}

async fn open_at(url: &str, data: &Path) -> Result<Store, StoreError> {
    Store::open(&place(url, data), &cell_key()).await
}

type Waiting = (JoinHandle<Result<Store, StoreError>>, mpsc::UnboundedReceiver<Standing>);

fn stand_by(place: Place) -> Waiting {
    let (told, standing) = mpsc::unbounded_channel();
    (tokio::spawn(async move { Store::open_or_stand_by(&place, &cell_key(), told).await }), standing)
}

async fn taken(waiting: JoinHandle<Result<Store, StoreError>>) -> Store {
    tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap()
}

async fn failed(store: &Store) -> StoreError {
    tokio::time::timeout(LIMIT, store.failed()).await.unwrap()
}

fn last_group(cluster: &Cluster) -> i64 {
    cluster.sql("SELECT last_group FROM handover.owner").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_by_says_for_whom_and_takes_over() {
    let cluster = Cluster::start().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = open_at(&cluster.url(), folders[0].path()).await.unwrap();
    count_up(&first).await.unwrap();
    let groups = last_group(&cluster);
    let (waiting, mut standing) = stand_by(place(&cluster.url(), folders[1].path()));
    let told = standing.recv().await.unwrap();
    let this = format!("process {} on ", std::process::id());
    assert!(told.serving.as_ref().is_some_and(|serving| serving.starts_with(&this)), "{told:?}");
    assert!(told.store.contains("schema handover"), "{told:?}");
    let refused = open_at(&cluster.url(), folders[1].path()).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains(&this), "{refused}");
    // Whoever does not want to wait any more is let go.
    let (impatient, ended) = stand_by(place(&cluster.url(), folders[1].path()));
    drop(ended);
    let ended = tokio::time::timeout(LIMIT, impatient).await.unwrap().unwrap();
    assert!(matches!(ended, Err(StoreError::Closed)));
    first.close().await;
    let second = taken(waiting).await;
    assert_eq!(count_up(&second).await.unwrap(), 2);
    assert!(last_group(&cluster) > groups, "the number goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_comes_back_stays_its_owners() {
    let mut cluster = Cluster::start().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = open_at(&cluster.url(), folders[0].path()).await.unwrap();
    let (waiting, mut standing) = stand_by(place(&cluster.url(), folders[1].path()));
    assert!(standing.recv().await.unwrap().serving.is_some());
    cluster.kill().unwrap();
    assert_eq!(standing.recv().await.unwrap().serving, None, "it is told that the database is away");
    cluster.start_again().unwrap();
    assert_eq!(count_up(&first).await.unwrap(), 1);
    assert!(standing.recv().await.unwrap().serving.is_some());
    assert_eq!(first.health(), Health::Serving);
    assert!(!waiting.is_finished());
}

/// Not a test of its own: the process that hangs in the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_process() {
    let Ok(url) = std::env::var(HANGING) else { return };
    let store = Store::postgres(&database(&url), &cell_key()).unwrap();
    while count_up(&store).await.is_ok() {}
    let failure = failed(&store).await.to_string();
    assert!(failure.contains("another process has opened it since"), "{failure}");
    let read = store.read::<_, StoreError, _>(|txn| txn.get(b"count")).await;
    assert!(matches!(read, Err(StoreError::Failed)), "{read:?}");
}

fn signal(name: &str, process: &Child) {
    let status = Command::new("kill").args([name, &process.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_is_overtaken_and_ends() {
    let cluster = Cluster::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut hanging = Command::new(std::env::current_exe().unwrap());
    hanging.args(["--exact", "takeover::hanging_process", "--nocapture"]).env(HANGING, cluster.url());
    let mut hanging = hanging.stdout(Stdio::null()).spawn().unwrap();
    let counted = "SELECT count(*) FROM pg_tables WHERE schemaname = 'handover' AND tablename = 'owner'";
    let end = Instant::now() + LIMIT;
    while cluster.sql(counted).unwrap() == "0"
        || !cluster.sql("SELECT max(last_group) > 100 FROM handover.owner").unwrap().starts_with('t')
    {
        assert!(Instant::now() < end, "it counts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (waiting, mut standing) = stand_by(place(&cluster.url(), folder.path()));
    let serving = standing.recv().await.unwrap().serving.unwrap();
    assert!(serving.contains(&hanging.id().to_string()), "{serving}");
    signal("-STOP", &hanging);
    let second = taken(waiting).await;
    let before = count(&second).await;
    signal("-CONT", &hanging);
    assert!(hanging.wait().unwrap().success(), "it says that it was overtaken, and serves nothing");
    assert_eq!(count(&second).await, before);
    assert_eq!(count_up(&second).await.unwrap(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_while_nobody_ran_is_found_out() {
    let cluster = Cluster::start().unwrap();
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_at(&cluster.url(), folder.path()).await.unwrap();
    for _ in 0..3 {
        count_up(&store).await.unwrap();
    }
    store.close().await;
    // As a standby has it that was behind, or yesterday's backup.
    cluster.sql("UPDATE handover.owner SET last_group = last_group - 1").unwrap();
    let lost = open_at(&cluster.url(), folder.path()).await.map(drop).unwrap_err();
    assert!(matches!(lost, StoreError::Damaged { .. }), "{lost}");
    // It is marked: a machine that knows of nothing does not open it either.
    let lost = open_at(&cluster.url(), other.path()).await.map(drop).unwrap_err();
    assert!(matches!(lost, StoreError::Damaged { .. }), "{lost}");
    accept_loss(&place(&cluster.url(), other.path()), &cell_key()).await.unwrap();
    for data in [folder.path(), other.path()] {
        let store = open_at(&cluster.url(), data).await.unwrap();
        count_up(&store).await.unwrap();
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_overtaken_finds_out_what_its_successor_lacks() {
    let cluster = Cluster::start().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = open_at(&cluster.url(), folders[0].path()).await.unwrap();
    for _ in 0..3 {
        count_up(&first).await.unwrap();
    }
    let (waiting, mut standing) = stand_by(place(&cluster.url(), folders[1].path()));
    standing.recv().await.unwrap();
    // The successor takes over where less arrived than was confirmed, and goes on from there.
    let steal = "BEGIN; \
        INSERT INTO handover.owner_before (token, last_group, until) SELECT token, last_group - 1, now() FROM handover.owner; \
        UPDATE handover.owner SET token = 'successor', last_group = last_group + 50; COMMIT";
    cluster.sql(steal).unwrap();
    let failure = failed(&first).await.to_string();
    assert!(failure.contains("has lost what it had confirmed"), "{failure}");
    assert_eq!(
        cluster.sql("SELECT length(token) FROM handover.owner").unwrap(),
        "0",
        "the successor is ended, too"
    );
    drop(first);
    let refused = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_whose_answer_was_lost_is_tried_again_and_is_no_loss() {
    let (cluster, folder) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(cluster.port());
    let url = cluster.url_at(&format!("127.0.0.1:{}", proxy.port()));
    for (round, cut) in [(0, Cut::Answer), (1, Cut::Question)] {
        // The first commit is that of the tables.
        proxy.cut_commit_after(1, cut);
        let store = open_at(&url, folder.path()).await.unwrap();
        assert!(proxy.has_cut(), "{cut:?}");
        for n in 1..=3 {
            assert_eq!(count_up(&store).await.unwrap(), round * 3 + n, "{cut:?}");
        }
        store.close().await;
    }
    let store = open_at(&url, folder.path()).await.unwrap();
    assert_eq!(count(&store).await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_the_store_that_was_there_is_not_taken_for_a_new_one() {
    let (cluster, folder) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open_at(&cluster.url(), folder.path()).await.unwrap();
    count_up(&store).await.unwrap();
    store.close().await;
    let is_refused = || async {
        let refused = open_at(&cluster.url(), folder.path()).await.map(drop).unwrap_err();
        assert!(matches!(refused, StoreError::Lost { .. }), "{refused}");
        assert!(refused.to_string().contains("check url_file and schema"), "{refused}");
    };
    // Made empty, made anew, and another one.
    cluster.sql("CREATE TABLE public.kept AS SELECT * FROM handover.cells").unwrap();
    cluster.sql("TRUNCATE handover.cells").unwrap();
    is_refused().await;
    cluster.sql("INSERT INTO handover.cells SELECT * FROM public.kept").unwrap();
    assert_eq!(count(&open_at(&cluster.url(), folder.path()).await.unwrap()).await, 1);
    cluster.sql("DROP SCHEMA handover CASCADE").unwrap();
    is_refused().await;
    assert_eq!(cluster.sql("SELECT to_regnamespace('handover') IS NULL").unwrap(), "t", "nothing is made");
    // On purpose.
    std::fs::remove_file(folder.path().join("store.database")).unwrap();
    assert_eq!(count(&open_at(&cluster.url(), folder.path()).await.unwrap()).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_the_database_has_forgotten_harms_nobody_else() {
    let cluster = Cluster::start().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = open_at(&cluster.url(), folders[0].path()).await.unwrap();
    count_up(&first).await.unwrap();
    first.close().await;
    let many = "INSERT INTO handover.owner_before (token, last_group, until) SELECT 'another', 0, now() \
        FROM generate_series(1, 10100)";
    cluster.sql(many).unwrap();
    let second = open_at(&cluster.url(), folders[1].path()).await.unwrap();
    cluster.sql("DELETE FROM handover.owner_before WHERE token <> 'another'").unwrap();
    let (waiting, _standing) = stand_by(place(&cluster.url(), folders[0].path()));
    let refused = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Lost { .. }), "{refused}");
    assert_eq!(count_up(&second).await.unwrap(), 2, "it goes on, and nothing is marked");
    second.close().await;
    std::fs::remove_file(folders[0].path().join("store.database")).unwrap();
    assert_eq!(count(&open_at(&cluster.url(), folders[0].path()).await.unwrap()).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_meets_another_store_ends_and_marks_nothing() {
    let (cluster, folder) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let store = open_at(&cluster.url(), folder.path()).await.unwrap();
    count_up(&store).await.unwrap();
    let other = "BEGIN; UPDATE handover.cells SET value = 'another life' WHERE key = '\\x00'::bytea || 'handover-store-life'; \
        UPDATE handover.owner SET token = 'another', last_group = 0; COMMIT";
    cluster.sql(other).unwrap();
    let failure = failed(&store).await.to_string();
    assert!(failure.contains("another process has opened it since"), "{failure}");
    assert_eq!(cluster.sql("SELECT convert_from(token, 'UTF8') FROM handover.owner").unwrap(), "another");
}
