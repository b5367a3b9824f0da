//! One connection, spoken to by a plain thread: every call waits for its answer, and none without a limit.
//!
//! A thread that speaks to the database drives its connection itself, on a runtime of its own: whoever called the
//! store may run on any runtime, or block one.

use std::error::Error as _;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::database::{CONNECT_LIMIT, Database};
use crate::StoreError;

/// How long an answer may take, longer than the server's own limit for a statement.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// What is set on every connection. The limits end what hangs; the planner is held to the primary key, which serves
/// everything that is asked here.
const SET: &str = "
    SET statement_timeout = '20s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '30s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '20s';
    SET default_transaction_isolation = 'read committed';
    SET client_min_messages = warning;
    SET TimeZone = 'UTC';
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET jit = off;
";
/// A commit is answered only when it is on disk, at the synchronous standbys too if there are any. One that was set to
/// wait for more is left so.
const SET_DURABLE: &str = "
    SELECT current_setting('fsync') = 'on', pg_backend_pid(), set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)";

/// Why something was not done.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The connection is gone or of no use. Whether what was under way was done is not known.
    Lost(String),
    /// Another transaction was in the way. Nothing was done.
    Conflict,
    /// The database refused. Nothing was done.
    Refused(String),
    /// What was appended to tables contradicts this constraint. Nothing was done.
    Contradicted(String),
    /// The store is not this process's any more, or not what it was.
    Fenced(&'static str),
    /// Something that this package has an own word for.
    Store(StoreError),
}

impl Fault {
    /// For who was connected before: whatever keeps it out now, it is tried again.
    pub(super) fn while_connecting(self) -> Self {
        match self {
            Self::Refused(reason) => Self::Lost(reason),
            other => other,
        }
    }

    /// For who only reads: it may have met a server that was left behind. Whether the store is still this process's is
    /// for the writer to say, whose connection holds the lock.
    pub(super) fn while_reading(self) -> Self {
        match self {
            Self::Fenced(reason) => Self::Lost(reason.to_owned()),
            other => other,
        }
    }

    /// For whoever called the store.
    pub(super) fn into_error(self, doing: &'static str) -> StoreError {
        match self {
            Self::Lost(reason) => StoreError::Unavailable { doing: "reach the database", reason },
            Self::Refused(reason) => StoreError::Unavailable { doing, reason },
            Self::Contradicted(constraint) => StoreError::Contradicted { constraint },
            Self::Conflict => StoreError::Busy,
            Self::Fenced(_) => StoreError::Failed,
            Self::Store(error) => error,
        }
    }
}

pub(super) struct Connection {
    runtime: Rc<Runtime>,
    client: Client,
    schema: String,
    /// What begins a transaction that may write. That its commit waits for the disk is said in it: whatever lies
    /// between here and the server may give it another session than the one that was set.
    begin: String,
    /// The server's process.
    pub(super) backend: i32,
    /// Whether tables stand beside the cells.
    pub(super) has_tables: bool,
}

impl Connection {
    /// Connects to the first host that takes writes.
    pub(super) fn open(runtime: &Rc<Runtime>, database: &Database) -> Result<Self, Fault> {
        let mut tried = Err(Fault::Lost("no host".to_owned()));
        for host in database.hosts() {
            let connecting = async {
                match database.tls() {
                    Some(tls) => {
                        let (client, driver) = host.connect(tls).await?;
                        tokio::spawn(driver);
                        Ok(client)
                    }
                    None => {
                        let (client, driver) = host.connect(NoTls).await?;
                        tokio::spawn(driver);
                        Ok::<_, tokio_postgres::Error>(client)
                    }
                }
            };
            tried = wait(runtime, CONNECT_LIMIT, connecting);
            if tried.is_ok() {
                break;
            }
        }
        let client = tried?;
        let (schema, has_tables) = (database.schema().to_string(), database.tables().is_some());
        let mut connection = Self {
            runtime: Rc::clone(runtime),
            client,
            schema,
            begin: String::new(),
            backend: 0,
            has_tables,
        };
        connection.batch(SET)?;
        connection.batch(&format!("SET search_path = \"{}\"", connection.schema))?;
        let rows = connection.query(SET_DURABLE, &[])?;
        let row = rows.first().ok_or_else(|| Fault::Lost("an empty answer".to_owned()))?;
        if !row.get::<_, bool>(0) {
            let reason =
                "the database runs with fsync = off: what it confirms is not on disk. Set fsync = on";
            return Err(Fault::Store(StoreError::Settings { reason: reason.to_owned() }));
        }
        connection.backend = row.get(1);
        connection.begin = format!(
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL synchronous_commit = '{}'",
            row.get::<_, &str>(2)
        );
        Ok(connection)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The number of an advisory lock of this schema.
    pub(super) fn lock_key(&self, purpose: &str) -> i64 {
        let hash = blake3::hash(format!("handover store {purpose} {}", self.schema).as_bytes());
        let mut key = [0; 8];
        key.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        i64::from_be_bytes(key)
    }

    /// Waits for the answers of what was asked.
    pub(super) fn wait<T>(
        &self,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        self.wait_for(ANSWER_LIMIT, asked)
    }

    /// The same with another limit.
    pub(super) fn wait_for<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        wait(&self.runtime, limit, asked)
    }

    /// Statements without parameters or rows.
    pub(super) fn batch(&self, sql: &str) -> Result<(), Fault> {
        self.wait(self.client.batch_execute(sql))
    }

    /// A statement that is asked once in a while.
    pub(super) fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Fault> {
        self.wait(self.client.query(sql, values))
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<Statement, Fault> {
        self.wait(self.client.prepare(sql))
    }
}

fn wait<T>(
    runtime: &Runtime,
    limit: Duration,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Fault> {
    match runtime.block_on(async { tokio::time::timeout(limit, asked).await }) {
        Ok(answer) => answer.map_err(|error| fault(&error)),
        Err(_) => Err(Fault::Lost(format!("no answer within {} s", limit.as_secs()))),
    }
}

/// What an error means for the transaction. The server's detail and hint are left out: they can quote keys.
fn fault(error: &tokio_postgres::Error) -> Fault {
    let Some(answer) = error.as_db_error() else {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(below) = cause {
            reason = format!("{reason}: {below}");
            cause = below.source();
        }
        return Fault::Lost(reason);
    };
    let code = answer.code();
    // What is said of a value quotes it.
    let said = match code.code() {
        class if class.starts_with("22") => format!("it cannot take a value ({class})"),
        code => format!("{} ({code})", answer.message()),
    };
    // Shutting down, starting, full, or a standby by now; a class of its own is the connection's.
    const AWAY: [SqlState; 7] = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::IDLE_SESSION_TIMEOUT,
    ];
    // Somebody else's lock on the same row goes with its transaction.
    const IN_THE_WAY: [SqlState; 3] =
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
    if IN_THE_WAY.contains(code) {
        Fault::Conflict
    } else if AWAY.contains(code) || code.code().starts_with("08") {
        Fault::Lost(said)
    } else if code.code().starts_with("23") {
        // Its name; the server's words may quote values.
        Fault::Contradicted(answer.constraint().or(answer.table()).unwrap_or("without a name").to_owned())
    } else {
        Fault::Refused(said)
    }
}
