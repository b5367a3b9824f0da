//! The tables that stand beside the books in a database.

use std::collections::BTreeSet;

use handover_cluster::Cluster;
use handover_core::Code;
use handover_core::codec::{self, Bytes};
use handover_core::ledger::{Account, Command, EntryKind, Evidence, Holder, Terms};
use handover_index::ledger::{Back, BooksError, Fault, Ledger, TABLES};
use handover_store::{Database, Place, Store, StoreError, copy};

use crate::steps::{Model, agreed, day, on, receipt, stories, terms};
use crate::suite::{book, is_sound};
use crate::{cell_key, in_database};

const SCHEMA: &str = "books";

/// What the database answers, without asking the index.
fn ask(cluster: &Cluster, sql: &str) -> String {
    cluster.sql(&format!("SET search_path = {SCHEMA}; {sql}")).unwrap()
}

/// The name of the constraint by which the database refuses a statement.
fn refused_by(cluster: &Cluster, sql: &str) -> String {
    let block = format!(
        "SET search_path = {SCHEMA}; DO $do$ DECLARE name text; BEGIN {sql}; SET CONSTRAINTS ALL IMMEDIATE; \
         RAISE EXCEPTION 'named nothing'; EXCEPTION WHEN raise_exception THEN RAISE; WHEN OTHERS THEN \
         GET STACKED DIAGNOSTICS name = CONSTRAINT_NAME; RAISE EXCEPTION 'named %', name; END $do$"
    );
    let said = format!("{:#}", cluster.sql(&block).unwrap_err());
    let (_, named) = said.split_once("named ").unwrap_or_else(|| panic!("{said}"));
    named.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Appends an entry behind those of [`some_books`], like one that stands and of a transfer of its own, but for what is
/// changed (JSON).
fn like(sequence: u64, changed: &str) -> String {
    format!(
        "INSERT INTO ledger_entry SELECT (jsonb_populate_record(e, jsonb_build_object('sequence', 7, 'previous', 6, \
         'id', '\\x' || repeat('07', 32), 'number', 0, 'transfer', 'another', 'about', NULL, 'cycle', '2026-12') \
         || '{{{changed}}}')).* FROM ledger_entry e WHERE sequence = {sequence}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finance_asks_the_database_and_hears_what_the_index_says() {
    let cluster = Cluster::start().unwrap();
    let mut never_said: Option<BTreeSet<String>> = None;
    for (number, story) in stories(12).into_iter().enumerate().skip(6) {
        let (schema, mut model) = (format!("story_{number}"), Model::default());
        let (store, ledger) = in_database(&cluster.url(), &schema).await;
        for step in &story {
            let (today, _) = model.step(step);
            let _ =
                book(&store, on(today, number as u8), terms(step.transfer).transfer, step.command()).await;
        }
        let balances = ledger.balances().await.unwrap();
        let sql = |query: &str| cluster.sql(&format!("SET search_path = {schema}; {query}")).unwrap();
        let told = sql(
            "SELECT holder, currency, pending_debits_minor, pending_credits_minor, posted_debits_minor, \
             posted_credits_minor FROM ledger_balance ORDER BY holder COLLATE \"C\", currency COLLATE \"C\"",
        );
        let mut expected: Vec<String> = balances
            .iter()
            .map(|(Account { holder, currency }, it)| {
                format!(
                    "{holder}|{currency}|{}|{}|{}|{}",
                    it.pending.debits_minor,
                    it.pending.credits_minor,
                    it.posted.debits_minor,
                    it.posted.credits_minor
                )
            })
            .collect();
        expected.sort();
        assert_eq!(told.lines().collect::<Vec<_>>(), expected);
        for transfer in 0..crate::steps::TRANSFERS {
            let of = terms(transfer).transfer;
            let told = sql(&format!(
                "SELECT state, posted_minor, reversed_minor FROM ledger_fee WHERE transfer = '{of}'"
            ));
            let fee = &model.story(transfer);
            let expected = match (fee.entries().is_empty(), fee.open_hold(), fee.posted()) {
                (true, ..) => String::new(),
                (_, held, posted) => {
                    let state = match (held, posted, fee.open_reservation()) {
                        (Some(_), ..) => "held",
                        (None, Some(_), _) => "posted",
                        (None, None, Some(_)) => "reserved",
                        (None, None, None) => "void",
                    };
                    let minor = posted.map(|posted| posted.amount.minor().to_string()).unwrap_or_default();
                    format!("{state}|{minor}|{}", fee.reversed_minor().unwrap())
                }
            };
            assert_eq!(told, expected, "transfer {transfer}");
        }
        // A column that no entry fills would be one whose name is not the one that is written.
        let empty = sql(
            "SELECT key FROM ledger_entry, jsonb_each(to_jsonb(ledger_entry)) GROUP BY key HAVING count(*) FILTER \
             (WHERE value <> 'null') = 0",
        );
        let empty: BTreeSet<String> = empty.lines().map(str::to_owned).collect();
        never_said = Some(never_said.map_or(empty.clone(), |before| &before & &empty));
        says_what_is_held(&store, &ledger, &sql).await;
    }
    assert_eq!(never_said.unwrap(), BTreeSet::new());
}

/// Also of books that end between what an order booked, as those of an index that was restored can: entry after entry makes
/// room.
async fn says_what_is_held(store: &Store, ledger: &Ledger, sql: &impl Fn(&str) -> String) {
    while let size = ledger.tree_head().await.unwrap().size
        && size > 0
    {
        let book = ledger.book().clone();
        let held = store.read::<_, BooksError, _>(move |txn| Ok(book.held(txn)?.count)).await.unwrap();
        let told = sql("SELECT count(*) FROM ledger_fee WHERE state = 'held'");
        assert_eq!(told, held.to_string(), "of {size} entries");
        let book = ledger.book().clone();
        let one = store.write::<_, BooksError, _>(move |txn| book.make_room(txn, size - 1, &[], 1));
        assert_eq!(one.await.unwrap(), 1);
    }
}

/// Transfer 0 reserved and posted, 1 reserved, 2 posted and partly taken back, 3 held and settled for its payer: seven
/// entries.
async fn some_books(cluster: &Cluster) -> (Store, Ledger) {
    let (store, ledger) = in_database(&cluster.url(), SCHEMA).await;
    for number in 0..2 {
        ledger.reserve(on(0, 1), terms(number), day(40), agreed()).await.unwrap();
    }
    ledger.post(on(40 - 1, 2), terms(0), receipt()).await.unwrap();
    ledger.post(on(40 - 1, 3), terms(2), receipt()).await.unwrap();
    let (of, part) = (terms(2).transfer, "300 JPY".parse().unwrap());
    let why = handover_core::ledger::Reason::Recalled;
    ledger.reverse(on(40, 4), of, 1, part, why, agreed()).await.unwrap();
    let refusal = Evidence { refusal: receipt().receipt, ..agreed() };
    let order = Evidence { order: receipt().receipt, ..agreed() };
    for (seed, command) in [
        (5, Command::Hold { terms: terms(3), stated: None, evidence: refusal }),
        (6, Command::Settle { terms: terms(3), is_due: false, evidence: order }),
    ] {
        book(&store, on(40, seed), terms(3).transfer, command).await.unwrap();
    }
    (store, ledger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_contradict_are_refused_by_name() {
    let cluster = Cluster::start().unwrap();
    let (_store, ledger) = some_books(&cluster).await;
    let of = |sequence: u64| {
        let sql = "SELECT '\"about\": \"\\' || id::text || '\", \"transfer\": \"' || transfer || '\", ' FROM ledger_entry";
        ask(&cluster, &format!("{sql} WHERE sequence = {sequence}"))
    };
    // About an entry that stands, and of its transfer.
    let about = |about: u64, sequence: u64, changed: &str| like(sequence, &(of(about) + changed));
    let hash = "01".repeat(32);
    let by = |name: &str| format!(r#""{name}": "\\x{hash}""#);
    let void = r#""kind": "void", "expires": null, "reason": "corrected""#;
    let post = |kind: &str| format!(r#""kind": "{kind}", "expires": null, {}"#, by("receipt"));
    let release = r#""kind": "release", "expires": null, "reason": "settled-for-source""#;
    let whole = "INSERT INTO ledger_posting SELECT 7, line, debit, credit, currency, amount_minor \
                 FROM ledger_posting WHERE sequence = 0";
    for (constraint, sql) in [
        ("nothing", format!("{}; {whole}", like(0, ""))),
        ("ledger_balanced", like(0, "")),
        ("ledger_no_gap", like(0, r#""sequence": 8"#)),
        ("ledger_entry_pkey", like(0, r#""sequence": 3, "previous": 2"#)),
        ("ledger_parties", like(0, r#""destination": "lakeside""#)),
        ("ledger_parties", like(0, r#""payer": "seaside""#)),
        ("ledger_within_cap", like(0, r#""amount_minor": 20001"#)),
        ("ledger_entry_amount_minor_check", like(0, r#""amount_minor": -1"#)),
        ("ledger_entry_kind_check", like(0, r#""kind": "gift""#)),
        ("ledger_number", like(0, r#""number": 3"#)),
        ("ledger_shape", like(0, r#""expires": null"#)),
        ("ledger_stated", like(0, r#""stated_minor": 5, "stated_currency": "USD""#)),
        ("ledger_disputed", like(0, r#""kind": "hold", "expires": null, "reason": "corrected""#)),
        ("ledger_disputed", about(1, 1, release)),
        ("ledger_hashes", like(0, r#""receipt": "\\x01""#)),
        ("ledger_agreed", like(0, r#""consent": null"#)),
        ("ledger_agreed", like(1, r#""acceptance": null"#)),
        ("ledger_proved", like(3, r#""receipt": null"#)),
        ("ledger_closed_cycle", like(0, r#""cycle": "2026-11""#)),
        ("ledger_entry_about_fkey", like(0, &format!("{}, {}", post("post"), by("about")))),
        ("ledger_about", about(1, 1, &format!(r#"{void}, "amount_minor": 1"#))),
        ("ledger_about", about(1, 1, &format!(r#"{}, "about": null"#, post("post-direct")))),
        ("ledger_about", about(1, 1, &format!("{release}, {}", by("hold_order")))),
        ("ledger_about", about(1, 1, &format!(r#"{void}, "transfer": "another""#))),
        ("ledger_one_story", about(1, 0, void)),
        ("ledger_resolved_once", about(0, 0, void)),
        ("ledger_one_fee", about(3, 3, &post("post"))),
        ("ledger_once", about(1, 1, r#""about": null"#)),
        ("ledger_expired", about(1, 1, &format!(r#"{}, "booked": "2027-05-01""#, post("post")))),
        ("ledger_settled", about(6, 0, &format!(r#"{}, "about": null"#, post("post-direct")))),
        ("ledger_reversed", about(3, 4, r#""amount_minor": 401, "number": 2"#)),
        ("ledger_append_only", "UPDATE ledger_entry SET amount_minor = 1 WHERE sequence = 0".to_owned()),
        ("ledger_append_only", "DELETE FROM ledger_posting".to_owned()),
        ("ledger_append_only", "TRUNCATE ledger_posting".to_owned()),
        ("ledger_balanced", "INSERT INTO ledger_posting VALUES (0, 1, 'a', 'b', 'USD', 0)".to_owned()),
        ("ledger_balanced", "INSERT INTO ledger_posting VALUES (0, 1, 'a', 'b', 'JPY', 1)".to_owned()),
        ("ledger_two_sides", "INSERT INTO ledger_posting VALUES (0, 1, 'a', 'a', 'USD', 1)".to_owned()),
    ] {
        assert_eq!(refused_by(&cluster, &sql), constraint, "{sql}");
    }
    is_sound(&ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_booking_that_contradicts_takes_no_others_with_it() {
    let cluster = Cluster::start().unwrap();
    let (store, ledger) = some_books(&cluster).await;
    // Somebody with the database's password books a fee that the index knows nothing of.
    let postings = "INSERT INTO ledger_posting SELECT 7, line, debit, credit, currency, amount_minor \
                    FROM ledger_posting WHERE sequence = 0";
    ask(&cluster, &format!("BEGIN; {}; {postings}; COMMIT", like(0, "")));
    let fourth = || Terms { transfer: handover_core::TransferId::new(day(0), [4; 10]), ..terms(0) };
    let with_others = async || {
        let other = |n: u8| store.write::<_, StoreError, _>(move |txn| txn.put(&[7, n], vec![n]));
        let (first, booked, second) =
            tokio::join!(other(1), ledger.post(on(41, 5), fourth(), receipt()), other(2));
        assert!(first.is_ok() && second.is_ok());
        booked.unwrap_err()
    };
    let refused = with_others().await;
    assert_eq!(refused.code(), Code::StoreDamaged);
    assert!(refused.to_string().contains("ledger_entry_pkey"), "{refused}");
    // Nothing of it stands in the books, and the check says what differs.
    assert!(ledger.transfer(fourth().transfer).await.unwrap().is_empty());
    let report = ledger.check().await.unwrap();
    let more = "the tables of the database have more or fewer entries";
    assert_eq!(report.faults, [Fault { sequence: None, what: more.to_owned() }]);
    let refused = ledger.fill_tables().await.unwrap_err().to_string();
    assert!(refused.contains("DROP VIEW ledger_fee, ledger_balance and TABLE ledger_posting"), "{refused}");
    ask(
        &cluster,
        "DROP VIEW ledger_fee, ledger_balance; DROP TABLE ledger_posting, ledger_entry, ledger_version",
    );
    // Too early: it still runs.
    assert_eq!(with_others().await.code(), Code::StoreUnavailable);
    drop(ledger);
    store.close().await;
    let (_store, ledger) = in_database(&cluster.url(), SCHEMA).await;
    is_sound(&ledger).await;
    ledger.post(on(41, 5), fourth(), receipt()).await.unwrap();
    assert_eq!(ask(&cluster, "SELECT max(sequence) FROM ledger_entry"), "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_row_is_named_and_changes_nothing() {
    let cluster = Cluster::start().unwrap();
    let (_store, ledger) = some_books(&cluster).await;
    let before = ledger.balances().await.unwrap();
    ask(
        &cluster,
        "SET session_replication_role = replica; UPDATE ledger_entry SET payer = 'patient:another' WHERE sequence = 2; \
         DELETE FROM ledger_posting WHERE sequence = 4",
    );
    let report = ledger.check().await.unwrap();
    let named: Vec<_> = report.faults.iter().map(|fault| fault.sequence).collect();
    assert_eq!(named, [Some(2), Some(4)]);
    assert_eq!(ledger.balances().await.unwrap(), before);
}

/// What nobody holds makes room in the tables, too, which are appended to only otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_make_room_leave_the_tables() {
    let cluster = Cluster::start().unwrap();
    let (store, ledger) = some_books(&cluster).await;
    // The same until the third, and then another one.
    let whole = Ledger::new(Store::memory(&cell_key()));
    for number in 0..2 {
        whole.reserve(on(0, 1), terms(number), day(40), agreed()).await.unwrap();
    }
    whole.post(on(40 - 1, 2), terms(0), receipt()).await.unwrap();
    whole.post(on(40 - 1, 7), terms(1), receipt()).await.unwrap();
    let (tree, last) = (whole.tree_head().await.unwrap(), whole.inclusion(3).await.unwrap());
    let posted = whole.transfer(terms(1).transfer).await.unwrap().pop().unwrap();
    let back = Back::read(3, last.salt, Bytes(codec::encode(&posted.entry))).unwrap();
    let book = ledger.book().clone();
    let of = book.clone();
    let plan = store.read::<_, BooksError, _>(move |txn| of.plan(txn, vec![back.clone()], &[tree], &[]));
    let plan = plan.await.unwrap().unwrap();
    for expected in [3, 1, 0] {
        let (of, from) = (book.clone(), plan.from);
        let made = store.write::<_, BooksError, _>(move |txn| of.make_room(txn, from, &[], 3));
        assert_eq!(made.await.unwrap(), expected);
    }
    store.write::<_, BooksError, _>(move |txn| book.put_back(txn, &plan.entries)).await.unwrap();
    is_sound(&ledger).await;
    assert_eq!(ledger.tree_head().await.unwrap(), tree);
    assert_eq!(ask(&cluster, "SELECT count(*), max(sequence) FROM ledger_entry"), "4|3");
    ledger.post(on(41, 8), terms(2), receipt()).await.unwrap();
    assert_eq!(refused_by(&cluster, "DELETE FROM ledger_posting"), "ledger_append_only");
    assert_eq!(refused_by(&cluster, "DELETE FROM ledger_entry"), "ledger_append_only");
    is_sound(&ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_that_were_there_before_are_written_to_their_tables() {
    let (cluster, folder) = (Cluster::start().unwrap(), tempfile::tempdir().unwrap());
    let place = folder.path().join("store");
    let store = Store::sled(&place, &cell_key()).unwrap();
    let book = Ledger::new(store.clone()).book().clone();
    // More than are written in one go.
    store
        .write::<_, BooksError, _>(move |txn| {
            for number in 0..600_u16 {
                let [high, low] = number.to_be_bytes();
                let transfer = handover_core::TransferId::new(day(0), [high, low, 9, 9, 9, 9, 9, 9, 9, 9]);
                let terms = Terms { transfer, ..terms(0) };
                book.post(txn, &on(i64::from(number) / 10, low), &terms, &receipt())?;
            }
            Ok(())
        })
        .await
        .unwrap();
    store.close().await;
    let database = Database::from_url(&cluster.url(), None, &SCHEMA.parse().unwrap()).unwrap();
    let to = Place::Database { database: Box::new(database), beside: None }.with_tables(&TABLES);
    copy(&Place::Folder(place), &to, &cell_key(), |_, _, _| {}).await.unwrap();
    for _ in 0..2 {
        let (store, ledger) = in_database(&cluster.url(), SCHEMA).await;
        is_sound(&ledger).await;
        store.close().await;
    }
    assert_eq!(ask(&cluster, "SELECT count(*), max(sequence) FROM ledger_entry"), "600|599");
    assert_eq!(ask(&cluster, "SELECT sum(amount_minor) FROM ledger_posting"), (600 * 10_989).to_string());
}

/// Whatever the rules book, the tables take: no kind of entry is missing among the stories.
#[test]
fn stories_have_every_kind_of_entry() {
    let mut model = Vec::new();
    for story in stories(6) {
        let mut of = Model::default();
        story.iter().for_each(|step| drop(of.step(step)));
        model.extend(of.entries);
    }
    for kind in [
        EntryKind::Reserve,
        EntryKind::Post,
        EntryKind::Void,
        EntryKind::PostDirect,
        EntryKind::Reverse,
        EntryKind::Hold,
        EntryKind::Release,
    ] {
        assert!(model.iter().any(|entry| entry.kind == kind), "{kind:?}");
    }
    assert!(model.iter().any(|entry| matches!(entry.payer, Holder::Hospital(_))));
}
