//! A hospital of a world: its folder, its configuration, its node.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Place;
use super::federation::Root;
use super::files::Folder;
use super::team::Team;
use crate::json;
use crate::process::{Answer, Daemon, call, pasted};
use crate::programs::Programs;
use crate::story::FILED;

/// The data folder's name.
const DATA: &str = "data";
/// Stands in the configuration until the index has said where it is; nothing listens there.
const NO_INDEX: &str = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

/// A hospital.
#[derive(Debug)]
pub(super) struct Hospital {
    pub(super) place: Place,
    /// The last process, also when it was let go.
    pub(super) pid: Option<u32>,
    settings: Settings,
    config: PathBuf,
    secret: PathBuf,
    log: PathBuf,
    apart: bool,
    daemon: Option<Daemon>,
    team: Team,
}

/// What stands in the configuration file.
#[derive(Clone, Debug)]
struct Settings {
    root: String,
    index: Vec<String>,
    patience: Option<u64>,
    net: Vec<String>,
    web: String,
    catalogue: PathBuf,
    prices: PathBuf,
}

impl Settings {
    fn text(&self, place: &Place, team: &Team, data: &Path) -> String {
        let Self { root, index, patience, net, web, catalogue, prices } = self;
        let shared = team.shared("shared", &place.more);
        let advertise = team.advertise() + &place.site.advertised();
        let patience = patience.map(|seconds| format!("patience_seconds = {seconds}\n")).unwrap_or_default();
        format!(
            "data = {data:?}\n{shared}root = \"{root}\"\n\n\
             [hospital]\nid = {:?}\nname = {:?}\njurisdiction = {:?}\ncurrency = {:?}\n\n\
             [index]\naddresses = {index:?}\n{patience}\n[net]\nlisten = {net:?}\n{advertise}\n\
             [web]\nlisten = \"{web}\"\nnames = [\"localhost\", \"{}\"]\n\n\
             [records]\ncatalogue = {catalogue:?}\nprices = {prices:?}\n{}",
            place.id,
            place.name,
            place.jurisdiction,
            place.currency,
            place.site.host(),
            place.more,
        )
    }
}

impl Hospital {
    /// Makes its keys.
    pub(super) fn init(
        programs: &Programs,
        folder: &Folder,
        place: &Place,
        root: &Root,
        catalogue: &Path,
        prices: &Path,
        patience: Option<u64>,
    ) -> Result<Self> {
        let id = &place.id;
        std::fs::create_dir(folder.path().join("hospitals").join(id))?;
        let own = folder.path().join("hospitals").join(id);
        let team = Team::of(&own, ("node", DATA), place.site.host(), place.standbys)?;
        let settings = Settings {
            root: root.public.clone(),
            index: vec![NO_INDEX.to_owned()],
            patience,
            net: team.serving().map_or_else(|| place.site.listen(), |seat| seat.net.clone()),
            web: place.site.listen_web(),
            catalogue: catalogue.to_owned(),
            prices: place.prices.as_deref().unwrap_or(prices).to_owned(),
        };
        let hospital = Self {
            config: folder.write(
                &format!("hospitals/{id}/node.toml"),
                &settings.text(place, &team, &place.site.data(DATA)),
            )?,
            secret: folder.secret(id)?,
            log: folder.logs().join(format!("{id}.log")),
            place: place.clone(),
            pid: None,
            settings,
            apart: false,
            daemon: None,
            team,
        };
        hospital.run(programs, &["init"])?.done()?;
        Ok(hospital)
    }

    /// Runs its node, which meets the index at `index`.
    pub(super) fn start(&mut self, programs: &Programs, index: Vec<String>, apart: bool) -> Result<()> {
        self.settings.index = index;
        self.apart = apart;
        self.write_config()?;
        self.run_daemon(programs)
    }

    pub(super) fn configure(&mut self, more: &str) -> Result<()> {
        more.clone_into(&mut self.place.more);
        self.write_config()
    }

    pub(super) fn reach_through(&mut self, relays: &[String]) -> Result<()> {
        self.place.site.relays = relays.to_vec();
        self.write_config()
    }

    /// The data folder's name, as the configuration gives it: a path from that file, or a whole one.
    fn data_name(&self) -> PathBuf {
        self.team.serving().map_or_else(|| self.place.site.data(DATA), |seat| (&seat.data).into())
    }

    /// The data folder of the process that serves.
    pub(super) fn data(&self) -> PathBuf {
        self.config.with_file_name(self.data_name())
    }

    fn write_config(&self) -> Result<()> {
        let text = self.settings.text(&self.place, &self.team, &self.data_name());
        std::fs::write(&self.config, text).with_context(|| self.config.display().to_string())
    }

    fn run_daemon(&mut self, programs: &Programs) -> Result<()> {
        let command = || {
            let mut command = self.command(programs);
            command.arg("run");
            self.place.site.start(programs.wound(command, &self.place.id))
        };
        let daemon = Daemon::start_again(&self.place.name, command, &self.log, self.apart)?;
        // From now on where it listens is fixed: others know it.
        (self.settings.net, self.settings.web) = listening(&daemon.ready)?;
        self.pid = daemon.pid();
        self.daemon = Some(daemon);
        self.write_config()
    }

    /// Wherever no process of the hospital is, one stands by.
    pub(super) fn stand_by(&mut self, programs: &Programs) -> Result<()> {
        for (at, seat) in self.team.free(self.daemon.is_some())? {
            let (net, web) = (seat.net.clone(), format!("{}:0", self.place.site.host()));
            let text = Settings { net, web, ..self.settings.clone() }.text(
                &self.place,
                &self.team,
                Path::new(&seat.data),
            );
            std::fs::write(&seat.config, text)?;
            let mut command = self.command_of(programs, &seat.config);
            command.arg("run");
            let name = format!("{} at {}", self.place.name, seat.data);
            self.team.stands_by(at, Daemon::stand_by(&name, command, &self.log, self.apart)?);
        }
        Ok(())
    }

    pub(super) fn stop_standing_by(&mut self) -> Result<()> {
        self.team.stop()
    }

    /// Waits until another process of the hospital serves; the one before.
    pub(super) fn taken_over(&mut self) -> Result<Option<Daemon>> {
        let daemon = self.team.takes_over()?;
        (self.settings.net, self.settings.web) = listening(&daemon.ready)?;
        self.pid = daemon.pid();
        if let Some(seat) = self.team.serving() {
            self.config.clone_from(&seat.config);
        }
        let before = self.daemon.replace(daemon);
        self.write_config()?;
        Ok(before)
    }

    fn command(&self, programs: &Programs) -> Command {
        self.command_of(programs, &self.config)
    }

    fn command_of(&self, programs: &Programs, config: &Path) -> Command {
        let mut command = programs.command(&programs.node);
        command.arg("--json").arg("--config").arg(config).arg("--passphrase-file").arg(&self.secret);
        command
    }

    /// Runs a command of its node.
    pub(super) fn run(&self, programs: &Programs, args: &[&str]) -> Result<Answer> {
        let mut command = self.command(programs);
        command.args(args);
        call(command)
    }

    pub(super) fn ready(&self) -> Result<&Value> {
        let daemon = self.daemon.as_ref().with_context(|| format!("{} does not run", self.place.name))?;
        Ok(&daemon.ready)
    }

    pub(super) fn config_path(&self) -> &Path {
        &self.config
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.stop())
    }

    /// Waits until it ends by itself; its exit code.
    pub(super) fn ends(&mut self) -> Result<Option<i32>> {
        self.daemon.take().with_context(|| format!("{} does not run", self.place.name))?.ends()
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.kill())
    }

    pub(super) fn restart(&mut self, programs: &Programs) -> Result<()> {
        self.stop()?;
        self.run_daemon(programs)
    }

    /// A command of its node, to be pasted into a shell.
    pub(super) fn hint(&self, programs: &Programs, args: &[&OsStr]) -> String {
        let mut command = programs.command(&programs.node);
        command.arg("--config").arg(&self.config).arg("--passphrase-file").arg(&self.secret);
        pasted(command.args(args))
    }

    /// Writes the file of the first transfer that it has filed and verifies it, to be pasted into a shell.
    pub(super) fn verify_hint(&self, programs: &Programs, folder: &Path) -> Option<String> {
        let listed = self.run(programs, &["transfer", "list"]).ok()?.json().ok()?;
        let filed = json::list(&listed, "transfers").find(|it| json::text(it, "state") == FILED)?;
        let id = json::text(filed, "transfer");
        let file = folder.join(format!("transfer-{id}.handover"));
        let show = ["transfer", "show", id, "--out"].map(OsStr::new);
        let show = self.hint(programs, &[&show[..], &[file.as_os_str()]].concat());
        Some(format!("{show} && {}", self.hint(programs, &[OsStr::new("verify"), file.as_os_str()])))
    }

    /// Its process, if it runs.
    pub(super) fn running(&self) -> Option<u32> {
        self.daemon.as_ref().and_then(Daemon::pid)
    }

    pub(super) fn let_go(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.let_go();
        }
    }
}

/// Where a process really listens, as its configuration says it: libp2p addresses without the peer, and HTTPS.
pub(super) fn listening(ready: &Value) -> Result<(Vec<String>, String)> {
    let net = json::list(ready, "net").filter_map(Value::as_str);
    let net: Vec<String> =
        net.map(|address| address.split("/p2p/").next().unwrap_or(address).to_owned()).collect();
    let web = json::at(ready, "web").as_str().context("the ready line has no web")?;
    Ok((net, web.trim_start_matches("https://").trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_turned_into_configuration() {
        let ready = serde_json::json!({
            "net": ["/ip4/127.0.0.1/tcp/4611/p2p/12D3"], "web": "https://127.0.0.1:8443",
        });
        let (net, web) = listening(&ready).unwrap();
        assert_eq!((net, web.as_str()), (vec!["/ip4/127.0.0.1/tcp/4611".to_owned()], "127.0.0.1:8443"));
    }
}
