//! Root, index and operators, and how they admit a hospital.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use handover_core::Timestamp;
use serde_json::Value;

use super::files::Folder;
use super::hospital::{Hospital, listening};
use super::team::Team;
use super::{INDEX, LOOK_AGAIN, Options, Site};
use crate::json;
use crate::process::{Answer, Daemon, call, pasted};
use crate::programs::Programs;

/// The data folder's name.
const DATA: &str = "index";
const OPERATORS: [&str; 2] = ["ana", "ben"];
/// How long before it begins a fee schedule is signed; the next one if that was too short.
const SCHEDULE_LEADS: [Duration; 4] =
    [Duration::from_secs(3), Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(90)];
/// Seconds until a hospital that was approved knows it.
const ACTIVE_WAIT_SECONDS: &str = "60";

/// The root's key and public half.
#[derive(Debug)]
pub(super) struct Root {
    key: PathBuf,
    secret: PathBuf,
    /// Hexadecimal digits.
    pub(super) public: String,
}

/// Who runs the federation.
#[derive(Debug)]
pub(super) struct Federation {
    root: Root,
    config: PathBuf,
    secret: PathBuf,
    logs: PathBuf,
    folder: PathBuf,
    operators: Vec<[PathBuf; 2]>,
    ready: Value,
    apart: bool,
    log: Option<String>,
    more: String,
    site: Site,
    daemon: Option<Daemon>,
    team: Team,
}

/// `handover-index` with `--json`.
fn index(programs: &Programs) -> Command {
    let mut command = programs.command(&programs.index);
    command.arg("--json");
    command
}

pub(super) fn make_root(programs: &Programs, folder: &Folder) -> Result<Root> {
    let (key, secret) = (folder.federation("root.key"), folder.secret("root")?);
    let mut command = index(programs);
    command.args(["root", "init", "--out"]).arg(&key).arg("--passphrase-file").arg(&secret);
    let made = call(command)?.json()?;
    let public = json::at(&made, "root").as_str().context("root init says no root")?.to_owned();
    Ok(Root { key, secret, public })
}

impl Root {
    /// Certifies a request; where the certificate is.
    fn sign(&self, programs: &Programs, request: &Path) -> Result<PathBuf> {
        let certificate = request.with_extension("certificate");
        let mut command = index(programs);
        command
            .args(["root", "sign", "--root-key"])
            .arg(&self.key)
            .arg("--passphrase-file")
            .arg(&self.secret);
        command.arg("--request").arg(request).arg("--out").arg(&certificate);
        call(command)?.done()?;
        Ok(certificate)
    }
}

fn config(
    root: &str,
    data: &Path,
    (net, web): (&[String], &str),
    (team, site): (&Team, &Site),
    more: &str,
) -> String {
    let shared = team.shared("index-shared", more);
    let advertise = team.advertise() + &site.advertised();
    format!(
        "[index]\nname = \"index.handover.example\"\ndata = {data:?}\n{shared}root = \"{root}\"\n\n\
         [net]\nlisten = {net:?}\n{advertise}\n[web]\nlisten = \"{web}\"\n\
         names = [\"localhost\", \"{}\"]\n\n{more}",
        site.host(),
    )
}

impl Federation {
    /// Makes keys, runs the index, adds two operators, who sign the fee schedules.
    pub(super) fn start(
        programs: &Programs,
        folder: &Folder,
        root: &Root,
        options: &Options,
    ) -> Result<Self> {
        let site = options.index_site.clone();
        let team = Team::of(&folder.federation(""), ("index", DATA), site.host(), options.index_standbys)?;
        let net = team.serving().map_or_else(|| site.listen(), |seat| seat.net.clone());
        let at = (&net[..], site.listen_web());
        let text = config(&root.public, &site.data(DATA), (at.0, &at.1), (&team, &site), &options.index_more);
        let root = Root { key: root.key.clone(), secret: root.secret.clone(), public: root.public.clone() };
        let mut federation = Self {
            root,
            config: folder.write("federation/index.toml", &text)?,
            secret: folder.secret("index")?,
            logs: folder.logs(),
            folder: folder.path().to_owned(),
            operators: Vec::new(),
            ready: Value::Null,
            apart: options.apart,
            log: options.index_log.clone(),
            more: options.index_more.clone(),
            site,
            daemon: None,
            team,
        };
        let made = federation.run(programs, &["init"])?.json()?;
        let request = json::at(&made, "request").as_str().context("init says no request")?;
        let certificate = federation.root.sign(programs, Path::new(request))?;
        federation.run_with(programs, &["init", "--certificate"], &certificate)?.done()?;
        federation.run_daemon(programs)?;
        federation.stand_by(programs)?;
        for name in OPERATORS {
            federation.add_operator(programs, folder, name)?;
        }
        for words in &options.schedules {
            effective("the fee schedule", &federation.sign_schedule(programs, words)?)?;
        }
        effective("the fee schedule", &federation.sign_schedule(programs, &[])?)?;
        Ok(federation)
    }

    /// A fee schedule that follows another one, by the words of its command; returns when it holds.
    pub(super) fn schedule(&self, programs: &Programs, jurisdiction: &str, words: &[&str]) -> Result<()> {
        // It begins when both have signed, however slow that is here.
        for lead in SCHEDULE_LEADS {
            let from =
                SystemTime::now().checked_add(lead).context("the clock")?.duration_since(UNIX_EPOCH)?;
            let from = Timestamp::from_millis(i64::try_from(from.as_millis())?).to_string();
            let all = ["--jurisdiction", jurisdiction, "--valid-from", &from]
                .into_iter()
                .chain(words.iter().copied());
            let all: Vec<String> = all.map(str::to_owned).collect();
            let ordered = self.sign_schedule(programs, &all)?;
            if json::text(&ordered, "outcome") != "effective" {
                continue;
            }
            let wanted = json::at(&ordered, "schedule").clone();
            loop {
                let shown =
                    self.run(programs, &["schedule", "show", "--jurisdiction", jurisdiction])?.json()?;
                if *json::at(&shown, "in_force") == wanted {
                    return Ok(());
                }
                thread::sleep(LOOK_AGAIN);
            }
        }
        bail!("two operators cannot sign a fee schedule in {SCHEDULE_LEADS:?}")
    }

    /// Both operators sign the same fee schedule; what the second one was answered.
    fn sign_schedule(&self, programs: &Programs, words: &[String]) -> Result<Value> {
        let mut ordered = Value::Null;
        for [key, secret] in &self.operators {
            let mut command = self.command(programs);
            command.args(["schedule", "approve"]).args(words).arg("--operator-key").arg(key);
            command.arg("--operator-passphrase-file").arg(secret);
            ordered = call(command)?.json()?;
        }
        Ok(ordered)
    }

    fn run_daemon(&mut self, programs: &Programs) -> Result<()> {
        let command = || {
            let mut command = self.command(programs);
            command.arg("run").envs(self.log.as_ref().map(|log| ("HANDOVER_LOG", log)));
            self.site.start(programs.wound(command, INDEX))
        };
        let daemon = Daemon::start_again("the index", command, &self.logs.join("index.log"), self.apart)?;
        self.ready = daemon.ready.clone();
        self.daemon = Some(daemon);
        // From now on where it listens is fixed: hospitals know it.
        self.fix()
    }

    /// Changes what stands in its configuration besides.
    pub(super) fn configure(&mut self, more: &str) -> Result<()> {
        more.clone_into(&mut self.more);
        self.fix()
    }

    /// Writes its configuration, with where it listens.
    fn fix(&self) -> Result<()> {
        let (net, web) = listening(&self.ready)?;
        let data = self.team.serving().map_or_else(|| self.site.data(DATA), |seat| (&seat.data).into());
        let text = config(&self.root.public, &data, (&net, &web), (&self.team, &self.site), &self.more);
        std::fs::write(&self.config, text)?;
        Ok(())
    }

    /// Wherever no process of the index is, one stands by.
    pub(super) fn stand_by(&mut self, programs: &Programs) -> Result<()> {
        for (at, seat) in self.team.free(self.daemon.is_some())? {
            let text = config(
                &self.root.public,
                Path::new(&seat.data),
                (&seat.net, &format!("{}:0", self.site.host())),
                (&self.team, &self.site),
                &self.more,
            );
            std::fs::write(&seat.config, text)?;
            let mut command = self.command_of(programs, &seat.config);
            command.arg("run").envs(self.log.as_ref().map(|log| ("HANDOVER_LOG", log)));
            let log = self.logs.join(format!("{}.log", seat.data));
            self.team.stands_by(at, Daemon::stand_by(&seat.data, command, &log, self.apart)?);
        }
        Ok(())
    }

    pub(super) fn run_standing_by(&self, programs: &Programs, args: &[&str]) -> Result<Answer> {
        let seat = self.team.standing().context("no process of the index stands by")?;
        let mut command = self.command_of(programs, &seat.config);
        command.args(args);
        call(command)
    }

    /// Waits until another process of the index serves; the one before.
    pub(super) fn taken_over(&mut self) -> Result<Option<Daemon>> {
        let daemon = self.team.takes_over()?;
        self.ready = daemon.ready.clone();
        if let Some(seat) = self.team.serving() {
            self.config.clone_from(&seat.config);
        }
        Ok(self.daemon.replace(daemon))
    }

    /// Kills the process that serves.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.kill())
    }

    fn add_operator(&mut self, programs: &Programs, folder: &Folder, name: &str) -> Result<()> {
        let (key, request) =
            (folder.federation(&format!("{name}.key")), folder.federation(&format!("{name}.request")));
        let secret = folder.secret(name)?;
        let mut command = index(programs);
        command
            .args(["operator", "new", "--name", name, "--out"])
            .arg(&key)
            .arg("--request-out")
            .arg(&request);
        command.arg("--passphrase-file").arg(&secret);
        call(command)?.done()?;
        let certificate = self.root.sign(programs, &request)?;
        self.run_with(programs, &["operator", "add", "--certificate"], &certificate)?.done()?;
        self.operators.push([key, secret]);
        Ok(())
    }

    /// Runs a hospital's node, enrols, certifies and approves it, and waits until it knows.
    pub(super) fn admit(&self, programs: &Programs, hospital: &mut Hospital, apart: bool) -> Result<()> {
        let addresses: Vec<String> = serde_json::from_value(json::at(&self.ready, "net").clone())
            .context("the index's ready line has no addresses")?;
        hospital.start(programs, self.site.told(addresses), apart)?;
        hospital.run(programs, &["enrol"])?.done()?;
        let id = hospital.place.id.clone();
        let request = self.folder.join("federation").join(format!("{id}.request"));
        self.run_with(programs, &["hospital", "request", &id, "--out"], &request)?.done()?;
        let certificate = self.root.sign(programs, &request)?;
        self.run_with(programs, &["hospital", "certify", &id, "--certificate"], &certificate)?.done()?;
        self.order(programs, &id, "approve")?;
        hospital.run(programs, &["enrol", "--wait", ACTIVE_WAIT_SECONDS])?.done()
    }

    /// The root certifies a key that asks to succeed a hospital's, and both operators approve it.
    pub(super) fn succeed(&self, programs: &Programs, hospital: &str, key: &str) -> Result<u64> {
        let request = self.folder.join("federation").join(format!("{hospital}-{key}.request"));
        let args = ["hospital", "request", hospital, "--successor", key, "--out"];
        self.run_with(programs, &args, &request)?.done()?;
        let certificate = self.root.sign(programs, &request)?;
        self.run_with(programs, &["hospital", "certify", hospital, "--certificate"], &certificate)?.done()?;
        self.order_with(programs, hospital, "approve", &["--successor", key])
    }

    /// Both operators order the same; the directory version that carries it.
    pub(super) fn order(&self, programs: &Programs, hospital: &str, word: &str) -> Result<u64> {
        self.order_with(programs, hospital, word, &[])
    }

    fn order_with(&self, programs: &Programs, hospital: &str, word: &str, more: &[&str]) -> Result<u64> {
        let mut ordered = Value::Null;
        for [key, secret] in &self.operators {
            let mut command = self.command(programs);
            command
                .args(["hospital", word, hospital, "--reason", "the world's order", "--operator-key"])
                .arg(key);
            command.arg("--operator-passphrase-file").arg(secret).args(more);
            ordered = call(command)?.json()?;
        }
        effective(&format!("hospital {word} {hospital}"), &ordered)?;
        Ok(json::number(&ordered, "directory_version"))
    }

    /// One of the two operators settles a fee that is held.
    pub(super) fn settle(&self, programs: &Programs, operator: usize, words: &[&str]) -> Result<Answer> {
        let [key, secret] = self.operators.get(operator).context("two operators")?;
        let mut command = self.command(programs);
        command.args(["ledger", "settle"]).args(words).arg("--operator-key").arg(key);
        command.arg("--operator-passphrase-file").arg(secret);
        call(command)
    }

    fn command(&self, programs: &Programs) -> Command {
        self.command_of(programs, &self.config)
    }

    fn command_of(&self, programs: &Programs, config: &Path) -> Command {
        let mut command = index(programs);
        command.arg("--config").arg(config).arg("--passphrase-file").arg(&self.secret);
        command
    }

    pub(super) fn run(&self, programs: &Programs, args: &[&str]) -> Result<Answer> {
        let mut command = self.command(programs);
        command.args(args);
        call(command)
    }

    fn run_with(&self, programs: &Programs, args: &[&str], path: &Path) -> Result<Answer> {
        let mut command = self.command(programs);
        command.args(args).arg(path);
        call(command)
    }

    pub(super) fn restart(&mut self, programs: &Programs, kill: bool) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            if kill { daemon.kill()? } else { daemon.stop()? }
        }
        self.run_daemon(programs)
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.stop())
    }

    /// The data folder, where nothing else was said.
    pub(super) fn data(&self) -> PathBuf {
        self.config.with_file_name(self.site.data(DATA))
    }

    pub(super) fn root(&self) -> &str {
        &self.root.public
    }

    pub(super) const fn ready(&self) -> &Value {
        &self.ready
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().and_then(Daemon::pid)
    }

    pub(super) fn hint(&self, programs: &Programs) -> String {
        let mut command = programs.command(&programs.index);
        command.arg("--config").arg(&self.config).arg("--passphrase-file").arg(&self.secret);
        pasted(command.args(["ledger", "entries"]))
    }

    pub(super) fn let_go(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.let_go();
        }
    }
}

fn effective(what: &str, ordered: &Value) -> Result<()> {
    if json::text(ordered, "outcome") == "effective" {
        return Ok(());
    }
    bail!("{what}\n  expected: in force after two operators\n  came: {ordered}")
}
