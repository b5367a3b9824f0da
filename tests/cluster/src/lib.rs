//! A PostgreSQL cluster for one test: made, started, killed, started again, thrown away.
//!
//! It listens on loopback, at a port that the system chose, and keeps nothing from the disk that a real one would put
//! there. Invariants: it never runs as root (PostgreSQL refuses that); nothing of it is left behind when its owner is
//! dropped or panics, and no process when its owner is killed. Where PostgreSQL is missing, the test fails and says how to install it.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(90);
/// For how long one that ends is started again: what was killed may still be leaving the memory that it shared.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Where Debian keeps each version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Whom everything belongs to that root starts: nobody.
const NOBODY: u32 = 65_534;
/// What the server shows under TLS, and its key. For `localhost`, and for tests only.
pub const CERTIFICATE_PEM: &str = include_str!("../../keys/database.test-only.crt.pem");
const KEY_PEM: &str = include_str!("../../keys/database.test-only.key.pem");
/// The superuser's name.
const USER: &str = "handover";

/// A cluster. Dropping it stops the server and removes its files.
#[derive(Debug)]
pub struct Cluster {
    // The server first: it goes before its files.
    server: Server,
    folder: TempDir,
    programs: PathBuf,
    password: String,
    port: u16,
    settings: Vec<String>,
}

/// A server's process, killed with its owner.
#[derive(Debug, Default)]
struct Server(Option<Child>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut server) = self.0.take() {
            // It ends its own processes at once. One that is gone already needs no signal.
            let _ = signal("-QUIT", &[server.id()]);
            let _ = server.wait();
        }
    }
}

fn signal(name: &str, processes: &[u32]) -> Result<()> {
    let ids = processes.iter().map(ToString::to_string);
    Command::new("kill").arg(name).args(ids).stderr(Stdio::null()).status().context("kill")?;
    Ok(())
}

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with settings of its own, each as `name=value`.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        let programs = programs()?;
        let folder = private_folder()?;
        let mut secret = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let mut cluster = Self {
            server: Server::default(),
            folder,
            programs,
            password: hex::encode(secret),
            port: 0,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
        };
        let passwords = cluster.file("password", &cluster.password)?;
        cluster.own(cluster.folder.path())?;
        let made = cluster
            .command("initdb")
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--username", USER])
            .args(["--auth-host=scram-sha-256", "--auth-local=trust"])
            .arg(format!("--pwfile={}", passwords.display()))
            .arg("--pgdata")
            .arg(cluster.data())
            .output()
            .context("initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        cluster.port = free_port()?;
        cluster.start_again()?;
        Ok(cluster)
    }

    /// Makes a standby of this cluster, which waits for it with each commit from then on.
    ///
    /// # Errors
    /// It cannot be copied, or does not start.
    pub fn start_standby(&self) -> Result<Self> {
        let folder = private_folder()?;
        let mut standby = Self {
            server: Server::default(),
            folder,
            programs: self.programs.clone(),
            password: self.password.clone(),
            port: 0,
            settings: self.settings.clone(),
        };
        standby.own(standby.folder.path())?;
        let from = format!("host={} port={} user={USER}", self.folder.path().display(), self.port);
        let copied = standby
            .command("pg_basebackup")
            .args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--dbname", &from, "--pgdata"])
            .arg(standby.data())
            .output()
            .context("pg_basebackup")?;
        ensure!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        standby.port = free_port()?;
        standby.start_again()?;
        self.require_standby("*")?;
        let end = Instant::now() + START_LIMIT;
        while self.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")? != "1" {
            ensure!(Instant::now() < end, "the standby does not follow");
            thread::sleep(LOOK_AGAIN);
        }
        Ok(standby)
    }

    /// From its return on, each commit waits for a standby of this name: `*` for any, nothing for none.
    ///
    /// # Errors
    /// Its words.
    pub fn require_standby(&self, name: &str) -> Result<()> {
        self.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"))?;
        self.sql("SELECT pg_reload_conf()")?;
        let end = Instant::now() + START_LIMIT;
        while self.sql("SHOW synchronous_standby_names")? != name {
            ensure!(Instant::now() < end, "the server does not read its settings");
            thread::sleep(LOOK_AGAIN);
        }
        // What reads it for all the others is the process that makes checkpoints, before the next one it begins.
        self.sql("CHECKPOINT").map(drop)
    }

    /// Makes a standby the server that takes writes.
    ///
    /// # Errors
    /// Its words, or it takes none after a minute.
    pub fn promote(&self) -> Result<()> {
        ensure!(self.sql("SELECT pg_promote()")? == "t", "the standby is not promoted");
        Ok(())
    }

    /// The same, and whoever is not on a socket has to come under TLS.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with_tls() -> Result<Self> {
        let mut cluster = Self::start()?;
        cluster.stop()?;
        let certificate = cluster.file("server.crt", CERTIFICATE_PEM)?;
        let key = cluster.file("server.key", KEY_PEM)?;
        let who = "local all all trust\nhostssl all all all scram-sha-256\n";
        let who = cluster.file("who", who)?;
        cluster.set("ssl=on");
        for (name, path) in [("ssl_cert_file", certificate), ("ssl_key_file", key), ("hba_file", who)] {
            cluster.set(&format!("{name}={}", path.display()));
        }
        cluster.start_again()?;
        Ok(cluster)
    }

    /// The URL of its database, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgresql://{USER}:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// The same with another host in its place, or several.
    #[must_use]
    pub fn url_at(&self, hosts: &str) -> String {
        format!("postgresql://{USER}:{}@{hosts}/postgres", self.password)
    }

    /// Its port on loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The password in its URL, which must be seen nowhere else.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Writes a file that the server can read, below the cluster's folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        self.own(&path)?;
        Ok(path)
    }

    /// Adds a setting; it holds from the next start.
    pub fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Starts the server on the same files and port; returns when it answers.
    ///
    /// # Errors
    /// It does not.
    pub fn start_again(&mut self) -> Result<()> {
        let log = self.folder.path().join("log");
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        let own = [
            "listen_addresses=127.0.0.1",
            "fsync=on",
            "synchronous_commit=on",
            "shared_buffers=16MB",
            "max_connections=60",
            &sockets,
        ];
        for setting in own.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let command = Arc::new(Mutex::new(command));
        self.server = Server(Some(spawn(&command)?));
        let begun = Instant::now();
        while !self.answers()? {
            let ended = self.server.0.as_mut().map(Child::try_wait).transpose()?.flatten();
            let limit = if ended.is_some() { LEAVE_LIMIT } else { START_LIMIT };
            if begun.elapsed() > limit {
                bail!("PostgreSQL does not start: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            if ended.is_some() {
                self.server = Server(Some(spawn(&command)?));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Kills all of its processes, as a loss of power would, but for what the system has not written yet.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut server) = self.server.0.take() else { bail!("the server does not run") };
        let pid = server.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let mut all = vec![pid];
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        signal("-KILL", &all)?;
        server.wait()?;
        Ok(())
    }

    /// Stops it in order: sessions are ended, everything is written.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.0.take() else { bail!("the server does not run") };
        signal("-INT", &[server.id()])?;
        server.wait()?;
        Ok(())
    }

    /// Asks the server itself; what it answered, a row a line.
    ///
    /// # Errors
    /// Its words.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        command.arg("--host").arg(self.folder.path());
        command.args(["--port", &self.port.to_string(), "--username", USER, "--dbname", "postgres"]);
        let answer = command.args(["--command", statement]).output().context("psql")?;
        ensure!(answer.status.success(), "psql: {}", String::from_utf8_lossy(&answer.stderr));
        Ok(String::from_utf8(answer.stdout)?.trim().to_owned())
    }

    fn answers(&self) -> Result<bool> {
        let mut command = Command::new(self.programs.join("pg_isready"));
        // By its own socket: the port may have become a stranger's.
        command.arg("--quiet").arg("--host").arg(self.folder.path());
        command.args(["--port", &self.port.to_string()]);
        Ok(command.status().context("pg_isready")?.success())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of PostgreSQL, as somebody who is not root, and told when its parent dies.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if self.is_roots() {
            let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            command.args([&user, &group]).arg("--clear-groups");
        }
        command.args(["--pdeathsig", "QUIT", "--"]).arg(self.programs.join(program));
        command.current_dir("/");
        command
    }

    /// Gives a file to whom the server runs as.
    fn own(&self, path: &Path) -> Result<()> {
        if self.is_roots() {
            chown(path, Some(NOBODY), Some(NOBODY)).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn is_roots(&self) -> bool {
        fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
    }
}

/// A port that nobody has, so that one can be named: to be taken at once.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn private_folder() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("handover-postgres-").permissions(Permissions::from_mode(0o700));
    Ok(builder.tempdir()?)
}

/// Starts a process from a thread that stays: the system takes a thread's end for its parent's death.
fn spawn(command: &Arc<Mutex<Command>>) -> Result<Child> {
    let (sender, receiver) = mpsc::channel();
    let command = Arc::clone(command);
    thread::spawn(move || {
        let child = command.lock().unwrap_or_else(PoisonError::into_inner).spawn();
        if sender.send(child).is_ok() {
            loop {
                thread::park();
            }
        }
    });
    receiver.recv()?.context("PostgreSQL cannot be started")
}

/// The folder of PostgreSQL's programs: Debian's newest, else where the search path has them.
fn programs() -> Result<PathBuf> {
    let is_whole = |folder: &PathBuf| {
        ["initdb", "postgres", "psql", "pg_isready", "pg_basebackup"]
            .iter()
            .all(|program| folder.join(program).exists())
    };
    let version = |folder: &PathBuf| {
        let name = folder.parent()?.file_name()?.to_str()?;
        name.parse::<u32>().ok()
    };
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    if let Some(newest) = versions.filter(is_whole).max_by_key(version) {
        return Ok(newest);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(is_whole).context(
        "PostgreSQL's server is not installed, and this test needs it. On Debian: apt-get install postgresql \
         (tests/run does that by itself as root); elsewhere put initdb, postgres, psql, pg_isready and pg_basebackup on the PATH",
    )
}
