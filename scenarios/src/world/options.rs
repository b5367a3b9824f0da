//! What a world is to be: its hospitals, where its processes are, what they are configured to.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use super::CURRENCY;

/// ISO 3166-1 of hospitals that say nothing else.
const JURISDICTION: &str = "US";

/// Who a hospital is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its identifier.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// ISO 3166-1.
    pub jurisdiction: String,
    /// ISO 4217.
    pub currency: String,
    /// Its price list; the world's if absent.
    pub prices: Option<PathBuf>,
    /// What stands in its node's configuration besides, as TOML.
    pub more: String,
    /// Where its node is, if not as usual.
    pub site: Site,
    /// For how many processes there are places to stand by; its store has to lie in a database.
    pub standbys: usize,
}

/// How others reach a process, and where its data lies, if not as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The data folder; below the world's if absent.
    pub data: Option<PathBuf>,
    /// How the other processes reach it, by TCP only; on a port that the system chooses, and by QUIC, if absent.
    pub net: Option<Door>,
    /// How wallets reach a hospital.
    pub web: Option<Door>,
    /// The address of this machine that it listens at; the world's if absent.
    pub host: Option<Ipv4Addr>,
    /// What its process, and wallets that talk to it, are started by, such as a program that puts them into a network
    /// namespace; nothing if empty.
    pub started_by: Vec<String>,
    /// Whether nobody can dial it, so that it is reached through the index, or through its relays if there are some.
    pub behind_nat: bool,
    /// Whether others are reached through it.
    pub serves_as_relay: bool,
    /// Through which nodes it is reached, by their addresses.
    pub relays: Vec<String>,
}

/// Ports of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// Where it listens.
    pub listens: u16,
    /// Where others are told that it does.
    pub told: u16,
}

impl Site {
    pub(super) fn data(&self, usual: &str) -> PathBuf {
        self.data.clone().unwrap_or_else(|| usual.into())
    }

    pub(super) fn listen(&self) -> Vec<String> {
        match self.net {
            Some(door) => vec![format!("/ip4/{}/tcp/{}", self.host(), door.listens)],
            None => {
                vec![format!("/ip4/{}/tcp/0", self.host()), format!("/ip4/{}/udp/0/quic-v1", self.host())]
            }
        }
    }

    pub(super) fn host(&self) -> Ipv4Addr {
        self.host.unwrap_or(Ipv4Addr::LOCALHOST)
    }

    pub(super) fn listen_web(&self) -> String {
        format!("{}:{}", self.host(), self.web.map_or(0, |door| door.listens))
    }

    /// The lines of the configuration that say how others reach it.
    pub(super) fn advertised(&self) -> String {
        let line = |door: Door| format!("advertise = [\"/ip4/{}/tcp/{}\"]\n", self.host(), door.told);
        let behind_nat = if self.behind_nat { "behind_nat = true\n" } else { "" };
        let serves = if self.serves_as_relay { "serves_as_relay = true\n" } else { "" };
        let relays =
            if self.relays.is_empty() { String::new() } else { format!("relays = {:?}\n", self.relays) };
        self.net.map(line).unwrap_or_default() + behind_nat + serves + &relays
    }

    /// A command, started by what has to start it here.
    pub(super) fn start(&self, command: Command) -> Command {
        let [program, words @ ..] = self.started_by.as_slice() else { return command };
        let mut started = Command::new(program);
        started.args(words).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        started
    }

    /// Where others find a process that listens here.
    pub(super) fn told(&self, listens: Vec<String>) -> Vec<String> {
        let Some(door) = self.net else { return listens };
        let peers = listens.iter().filter_map(|address| address.split_once("/p2p/"));
        peers.map(|(_, peer)| format!("/ip4/{}/tcp/{}/p2p/{peer}", self.host(), door.told)).collect()
    }
}

impl Place {
    /// A hospital whose name follows from its identifier: `lakeside` is Lakeside Hospital.
    #[must_use]
    pub fn named(id: &str) -> Self {
        let mut letters = id.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        Self {
            id: id.to_owned(),
            name: format!("{first}{} Hospital", letters.as_str()),
            jurisdiction: JURISDICTION.to_owned(),
            currency: CURRENCY.to_owned(),
            prices: None,
            more: String::new(),
            site: Site::default(),
            standbys: 0,
        }
    }
}

/// What a world is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The hospitals; at least one.
    pub hospitals: Vec<Place>,
    /// Where it lies; must not exist or be empty. A temporary folder, gone with the world, if absent.
    pub folder: Option<PathBuf>,
    /// The hospitals' test catalogue; the generator's if absent.
    pub catalogue: Option<PathBuf>,
    /// The hospitals' price list; the generator's if absent.
    pub prices: Option<PathBuf>,
    /// The first fee schedules, in this order, each by the words of its command; before one for all.
    pub schedules: Vec<Vec<String>>,
    /// How many seconds something may not come of what the index took; a node's default if absent.
    pub index_patience: Option<u64>,
    /// What the index logs, as `HANDOVER_LOG` takes it; the default if absent.
    pub index_log: Option<String>,
    /// What stands in the index's configuration besides, as TOML.
    pub index_more: String,
    /// Where the index is, if not as usual.
    pub index_site: Site,
    /// How many processes stand by for the index; its store has to lie in a database.
    pub index_standbys: usize,
    /// Whether the processes may outlive this one ([`let_go`](super::World::let_go)).
    pub apart: bool,
    /// Whether clocks can be set ([`set_clock`](super::World::set_clock)).
    pub clock: bool,
}

impl Options {
    /// A world of these hospitals.
    #[must_use]
    pub fn of(hospitals: &[&str]) -> Self {
        Self { hospitals: hospitals.iter().map(|id| Place::named(id)).collect(), ..Self::default() }
    }

    /// The same, with everything that has no address of its own at this one.
    pub(super) fn at(&self, host: Ipv4Addr) -> Self {
        let mut options = self.clone();
        let sites = options.hospitals.iter_mut().map(|place| &mut place.site);
        for site in sites.chain([&mut options.index_site]) {
            site.host.get_or_insert(host);
        }
        options
    }
}
