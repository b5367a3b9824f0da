//! The configuration file. All faults are reported at once, before anything is opened or bound.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use handover_cli::{ConfigFaults, Reader, Root};
use handover_core::id::SigningPublic;
use handover_core::time::DAY_MS;
use handover_net::{AddressPurpose, check_address};
use handover_store::{BlobSettings, EngineName, Place, Schema, Settings, StoreError};
use handover_web::tls::is_name;

use crate::ledger::TABLES;

/// The store's folder in the data folder, if that is where it lies.
pub(crate) const STORE_FOLDER: &str = "store";

/// What `run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The index's name: the origin of its checkpoints, without white space or plus signs.
    pub name: String,
    /// The data folder.
    pub data: PathBuf,
    /// Where what is in folders lies: the data folder, or one that all processes of the index have.
    pub shared: PathBuf,
    /// The federation's root key.
    pub root: SigningPublic,
    /// libp2p addresses to listen on.
    pub listen: Vec<String>,
    /// libp2p addresses to tell others; empty: those really listened on. Without `/p2p/…`: it is added.
    pub advertise: Vec<String>,
    /// Whether it serves hospitals that nobody can dial as a relay.
    pub is_relay: bool,
    /// Where HTTPS listens.
    pub web_listen: SocketAddr,
    /// Names and addresses in the self-signed HTTPS certificate.
    pub web_names: Vec<String>,
    /// Folders for packages.
    pub folders: FolderRules,
    /// Which engine keeps the store, and where.
    pub store: Settings,
    /// What keeps the packages in folders, and where.
    pub blobs: BlobSettings,
}

/// What folders hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderRules {
    /// Whether packages are taken.
    pub is_on: bool,
    /// The most bytes in one hospital's folder.
    pub quota_bytes: u64,
    /// Which part of it one source may fill, in hundredths.
    pub share_percent: u8,
    /// What stays free on the disk, in bytes.
    pub free_bytes: u64,
    /// How long a package is kept at most, in milliseconds; never longer than its consent.
    pub keep_ms: i64,
}

const MIB: u64 = 1024 * 1024;

impl Default for FolderRules {
    fn default() -> Self {
        Self {
            is_on: true,
            quota_bytes: 32 * 1024 * MIB,
            share_percent: 25,
            free_bytes: 2 * 1024 * MIB,
            keep_ms: 14 * DAY_MS,
        }
    }
}

impl FolderRules {
    /// The most bytes of one source in one folder.
    #[must_use]
    pub const fn share_bytes(&self) -> u64 {
        self.quota_bytes.saturating_mul(self.share_percent as u64) / 100
    }

    fn read(reader: &mut Reader) -> Self {
        let usual = Self::default();
        let mib = |bytes: u64| bytes / MIB;
        let mut number = |key: &str, usual: u64, most: u64| {
            let value: u64 = reader.optional(key).unwrap_or(usual);
            if !(1..=most).contains(&value) {
                reader.fault(key, format!("needs a whole number from 1 to {most}"));
            }
            value
        };
        let quota = number("folders.quota_mib", mib(usual.quota_bytes), 1 << 30);
        let share = number("folders.share_percent", usual.share_percent.into(), 100);
        let free = number("folders.free_mib", mib(usual.free_bytes), 1 << 30);
        let days = number("folders.keep_days", 14, 90);
        Self {
            is_on: reader.optional("folders.enabled").unwrap_or(usual.is_on),
            quota_bytes: quota.saturating_mul(MIB),
            share_percent: u8::try_from(share).unwrap_or(usual.share_percent),
            free_bytes: free.saturating_mul(MIB),
            keep_ms: i64::try_from(days).map_or(usual.keep_ms, |days| days.saturating_mul(DAY_MS)),
        }
    }
}

/// A name that can stand in a signed note.
struct Name(String);

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=100).contains(&text.len())
            && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
        if fits { Ok(Self(text.to_owned())) } else { Err("needs 1 to 100 characters without blanks or '+'") }
    }
}

impl Config {
    /// Reads a file. A relative data folder lies beside it.
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigFaults> {
        let mut config = Self::read(Reader::from_file(path)?)?;
        if let Some(folder) = path.parent() {
            config.data = folder.join(&config.data);
            config.shared = folder.join(&config.shared);
            let (store, blobs) = (&mut config.store, &mut config.blobs);
            let files =
                [&mut store.url_file, &mut store.ca_file, &mut blobs.credentials_file, &mut blobs.ca_file];
            for path in files.into_iter().flatten() {
                *path = folder.join(&path);
            }
        }
        Ok(config)
    }

    /// Where the configured engine has the store in a data folder, or another one would.
    ///
    /// # Errors
    /// [`StoreError::Settings`] or [`StoreError::Unavailable`].
    pub fn store_place(&self, engine: EngineName) -> Result<Place, StoreError> {
        Ok(self.store.place(engine, &self.data.join(STORE_FOLDER))?.with_tables(&TABLES))
    }

    fn read(mut reader: Reader) -> Result<Self, ConfigFaults> {
        let name: Option<Name> = reader.required("index.name");
        let data: Option<PathBuf> = reader.required("index.data");
        let shared: Option<PathBuf> = reader.optional("index.shared");
        let root: Option<Root> = reader.required("index.root");
        let listen = addresses(&mut reader, "net.listen", AddressPurpose::Listen);
        let advertise = addresses(&mut reader, "net.advertise", AddressPurpose::Advertise);
        let is_relay = reader.default("relay.enabled", false);
        let web_listen = reader.required("web.listen");
        let mut web_names: Vec<String> = reader.list("web.names");
        let folders = FolderRules::read(&mut reader);
        let store = store(&mut reader);
        let blobs = blobs(&mut reader);
        if listen.is_empty() {
            reader.fault("net.listen", "needs at least one address");
        }
        if web_names.is_empty() {
            web_names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        }
        for (at, _) in web_names.iter().enumerate().filter(|(_, name)| !is_name(name)) {
            reader.fault(&format!("web.names.{at}"), "is no host name and no IP address");
        }
        reader.finish_with(|| {
            Some(Self {
                name: name?.0,
                shared: shared.or_else(|| data.clone())?,
                data: data?,
                root: root?.0,
                listen,
                advertise,
                is_relay,
                web_listen: web_listen?,
                web_names,
                folders,
                store,
                blobs,
            })
        })
    }
}

fn store(reader: &mut Reader) -> Settings {
    let settings = Settings {
        engine: reader.default("store.engine", EngineName::default()),
        url_file: reader.optional("store.url_file"),
        ca_file: reader.optional("store.ca_file"),
        schema: reader.default("store.schema", Schema::default()),
    };
    if let Some((key, reason)) = settings.fault() {
        reader.fault(key, reason);
    }
    settings
}

fn blobs(reader: &mut Reader) -> BlobSettings {
    let usual = BlobSettings::default();
    let settings = BlobSettings {
        place: reader.default("blobs.place", usual.place),
        endpoint: reader.optional("blobs.endpoint"),
        bucket: reader.optional("blobs.bucket"),
        prefix: reader.default("blobs.prefix", usual.prefix),
        region: reader.default("blobs.region", usual.region),
        credentials_file: reader.optional("blobs.credentials_file"),
        ca_file: reader.optional("blobs.ca_file"),
        cache_mib: reader.default("blobs.cache_mib", usual.cache_mib),
    };
    for (key, reason) in settings.faults() {
        reader.fault(key, reason);
    }
    settings
}

fn addresses(reader: &mut Reader, key: &str, purpose: AddressPurpose) -> Vec<String> {
    let all: Vec<String> = reader.list(key);
    for (at, address) in all.iter().enumerate() {
        if let Err(shape) = check_address(address, purpose) {
            reader.fault(&format!("{key}.{at}"), shape);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_sample_lacks_nothing_but_the_root() {
        let sample = include_str!("../handover-index.sample.toml");
        let faults = Config::read(Reader::from_text(sample).unwrap()).unwrap_err().to_string();
        assert!(faults.starts_with("1 fault in"), "{faults}");
        assert!(faults.contains("root: is still the sample's; put the federation's root in"), "{faults}");
        let root = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
        let given = sample.replace(handover_cli::SAMPLE_ROOT, root);
        let config = Config::read(Reader::from_text(&given).unwrap()).unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!((config.folders, config.is_relay), (FolderRules::default(), false));
        let small = given.replace("# quota_mib = 32768", "quota_mib = 2");
        let config = Config::read(Reader::from_text(&small).unwrap()).unwrap();
        assert_eq!((config.folders.quota_bytes, config.folders.share_bytes()), (2 * MIB, MIB / 2));
        let database = given.replace("# engine = ", "engine = ");
        let faults = Config::read(Reader::from_text(&database).unwrap()).unwrap_err().to_string();
        assert!(faults.contains("store.url_file: is missing"), "{faults}");
        let database = database.replace("# url_file = ", "url_file = ");
        let config = Config::read(Reader::from_text(&database).unwrap()).unwrap();
        assert_eq!(config.store.engine, EngineName::Postgres);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let text = "[index]\nname = \"a b\"\nroot = \"12\"\n[net]\nlisten = [\"/ip4/0.0.0.0/tcp/x\", \"nonsense\"]\nold = 1\n[web]\nnames = [\"a b\"]\n";
        let faults = Config::read(Reader::from_text(text).unwrap()).unwrap_err().faults;
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        let expected = [
            "index.data",
            "index.name",
            "index.root",
            "net.listen.0",
            "net.listen.1",
            "net.old",
            "web.listen",
            "web.names.0",
        ];
        assert_eq!(keys, expected);
    }
}
