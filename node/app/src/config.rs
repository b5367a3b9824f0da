//! The node's configuration: one TOML file, all of its faults told at once, before anything is opened or bound.
//!
//! The hospital's own files that it names (departments, catalogue, prices) are read here too, so that their faults
//! stand in the same list. Relative paths are relative to the configuration file's folder.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handover_cli::{CliError, Reader, Root};
use handover_core::id::SigningPublic;
use handover_core::{Amount, Code, Currency, HospitalId};
use handover_ingest::FileFaults;
use handover_ingest::charges::{Catalogue, PriceList};
use handover_ingest::department::Mapping;
use handover_net::AddressPurpose;
use handover_store::{BlobSettings, EngineName, Place, Schema, Settings, StoreError};
use handover_web::tls::is_name;

mod net;

use net::{addresses, relays};

/// The most bytes of one of the hospital's own files.
const OWN_FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Where the records lie, below the data folder.
pub(crate) const STORE_FOLDER: &str = "store";
/// Where large content lies, below the data folder.
pub(crate) const BLOBS_FOLDER: &str = "blobs";
/// The most bytes of the hospital's name.
const NAME_MAX_BYTES: usize = 200;

/// How long something may not come of what the index took, if nothing is said.
const PATIENCE_SECONDS: u64 = 30;

/// Everything that the file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Where large content lies, and what is on its way in: the data folder, or one that all processes of the hospital
    /// have.
    pub shared: PathBuf,
    /// The folder of epoch keys, which no backup of the data takes along.
    pub epoch_keys: PathBuf,
    /// The federation's root.
    pub root: SigningPublic,
    /// Who this is.
    pub hospital: Hospital,
    /// The index's addresses, until a directory says others.
    pub index_addresses: Vec<String>,
    /// How long something may not come of what the index took to pass it on.
    pub index_patience: Duration,
    /// Multiaddresses to listen on.
    pub net_listen: Vec<String>,
    /// Multiaddresses that others are told; empty: the ones that are really listened on.
    pub net_advertise: Vec<String>,
    /// The relays by way of which others reach this node, if nobody can dial it; else none.
    pub relays: Vec<String>,
    /// Whether it serves others as a relay.
    pub serves_as_relay: bool,
    /// Where HTTPS is served.
    pub web_listen: SocketAddr,
    /// Names in the self-signed certificate.
    pub web_names: Vec<String>,
    /// Where wallets reach it; absent: where it listens.
    pub web_url: Option<String>,
    /// Rules for departments.
    pub mapping: Mapping,
    /// Which codes are tests.
    pub catalogue: Catalogue,
    /// What they cost.
    pub prices: PriceList,
    /// Fees of referred patients up to this are accepted without a clerk.
    pub accepts_up_to: Option<Amount>,
    /// Whether packages for hospitals that are away are left in their folders at the index.
    pub leaves_packages: bool,
    /// Which engine keeps the store, and where.
    pub store: Settings,
    /// What keeps large content, and where.
    pub blobs: BlobSettings,
}

/// Who the node speaks for.
#[derive(Clone, Debug)]
pub struct Hospital {
    /// Its identifier in the federation.
    pub id: HospitalId,
    /// Its name for people.
    pub name: String,
    /// ISO 3166-1 alpha-2.
    pub jurisdiction: String,
    /// The currency of its prices.
    pub currency: Currency,
}

impl Config {
    /// Reads a file and those that it names.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] with every fault.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Self::read(Reader::from_file(path)?, &folder)
    }

    /// Reads TOML text; relative paths are relative to `folder`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(text: &str, folder: &Path) -> Result<Self, CliError> {
        Self::read(Reader::from_text(text)?, folder)
    }

    fn read(mut reader: Reader, folder: &Path) -> Result<Self, CliError> {
        let data = data_folder(&mut reader, folder);
        let shared = shared(&mut reader, folder, data.as_deref());
        let epoch_keys = epoch_keys(&mut reader, folder, data.as_deref(), shared.as_deref());
        let root: Option<Root> = reader.required("root");
        let id = reader.required("hospital.id");
        let name = name(&mut reader);
        let jurisdiction = jurisdiction(&mut reader);
        let currency: Option<Currency> = reader.required("hospital.currency");
        let index_addresses = addresses(&mut reader, "index.addresses", AddressPurpose::Dial);
        let patience_seconds = reader.range("index.patience_seconds", PATIENCE_SECONDS, 1..=3_600);
        let net_listen = addresses(&mut reader, "net.listen", AddressPurpose::Listen);
        let net_advertise = addresses(&mut reader, "net.advertise", AddressPurpose::Advertise);
        let serves_as_relay = reader.default("net.serves_as_relay", false);
        let relays = relays(&mut reader, &index_addresses, serves_as_relay);
        let web_listen = reader.required("web.listen");
        let web_names = names(&mut reader);
        let web_url = url(&mut reader);
        let mapping = mapping(&mut reader, folder);
        let catalogue = own_file(&mut reader, folder, "records.catalogue", Catalogue::from_csv);
        // Without a currency there is a fault already; the prices' own faults are told all the same.
        let known = currency.or_else(|| "USD".parse().ok());
        let prices = known.and_then(|currency| {
            match own_file(&mut reader, folder, "records.prices", |csv| PriceList::from_csv(csv, currency)) {
                Read::Absent => Some(PriceList::empty(currency)),
                Read::Faulty => None,
                Read::Given(prices) => Some(prices),
            }
        });
        let accepts_up_to = reader.optional("fees.accept_up_to");
        let leaves_packages = reader.optional("index.folders").unwrap_or(true);
        let store = store(&mut reader, folder);
        let blobs = blobs(&mut reader, folder);
        let built = || {
            Some(Self {
                data: data?,
                shared: shared?,
                epoch_keys: epoch_keys?,
                root: root?.0,
                hospital: Hospital { id: id?, name: name?, jurisdiction: jurisdiction?, currency: currency? },
                index_addresses,
                index_patience: Duration::from_secs(patience_seconds),
                net_listen,
                net_advertise,
                relays,
                serves_as_relay,
                web_listen: web_listen?,
                web_names,
                web_url,
                mapping: mapping?,
                catalogue: catalogue.or_default()?,
                prices: prices?,
                accepts_up_to,
                leaves_packages,
                store,
                blobs,
            })
        };
        Ok(reader.finish_with(built)?)
    }

    /// Where the sealed keys lie.
    #[must_use]
    pub fn keys_file(&self) -> PathBuf {
        self.data.join("keys").join("keys.sealed")
    }

    /// Where the configured engine has the store, or another one would.
    ///
    /// # Errors
    /// [`StoreError::Settings`] or [`StoreError::Unavailable`].
    pub fn store_place(&self, engine: EngineName) -> Result<Place, StoreError> {
        self.store.place(engine, &self.data.join(STORE_FOLDER))
    }

    /// The control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.data.join("control.sock")
    }
}

fn data_folder(reader: &mut Reader, folder: &Path) -> Option<PathBuf> {
    let path = folder.join(reader.required::<PathBuf>("data")?);
    absolute(reader, "data", &path)
}

/// Absolute, because what is printed of it is read by processes that work in other folders.
fn absolute(reader: &mut Reader, key: &str, path: &Path) -> Option<PathBuf> {
    match std::path::absolute(path) {
        Ok(path) => Some(path),
        Err(error) => {
            reader.fault(key, error.to_string());
            None
        }
    }
}

fn shared(reader: &mut Reader, folder: &Path, data: Option<&Path>) -> Option<PathBuf> {
    match reader.optional::<PathBuf>("shared") {
        Some(path) => absolute(reader, "shared", &folder.join(path)),
        None => data.map(Path::to_owned),
    }
}

fn epoch_keys(
    reader: &mut Reader,
    folder: &Path,
    data: Option<&Path>,
    shared: Option<&Path>,
) -> Option<PathBuf> {
    let Some(path) = reader.optional::<PathBuf>("epoch_keys") else {
        return Some(shared?.join("epoch-keys"));
    };
    let path = absolute(reader, "epoch_keys", &folder.join(path))?;
    let is_within =
        |above: Option<&Path>, part: &str| above.is_some_and(|above| path.starts_with(above.join(part)));
    if is_within(data, STORE_FOLDER) || is_within(shared, BLOBS_FOLDER) {
        reader.fault(
            "epoch_keys",
            "must not lie where the records do: a copy of them would take the keys along",
        );
        return None;
    }
    Some(path)
}

fn store(reader: &mut Reader, folder: &Path) -> Settings {
    let file = |path: Option<PathBuf>| path.map(|path| folder.join(path));
    let settings = Settings {
        engine: reader.default("store.engine", EngineName::default()),
        url_file: file(reader.optional("store.url_file")),
        ca_file: file(reader.optional("store.ca_file")),
        schema: reader.default("store.schema", Schema::default()),
    };
    if let Some((key, reason)) = settings.fault() {
        reader.fault(key, reason);
    }
    settings
}

fn blobs(reader: &mut Reader, folder: &Path) -> BlobSettings {
    let usual = BlobSettings::default();
    let file = |path: Option<PathBuf>| path.map(|path| folder.join(path));
    let settings = BlobSettings {
        place: reader.default("blobs.place", usual.place),
        endpoint: reader.optional("blobs.endpoint"),
        bucket: reader.optional("blobs.bucket"),
        prefix: reader.default("blobs.prefix", usual.prefix),
        region: reader.default("blobs.region", usual.region),
        credentials_file: file(reader.optional("blobs.credentials_file")),
        ca_file: file(reader.optional("blobs.ca_file")),
        cache_mib: reader.default("blobs.cache_mib", usual.cache_mib),
    };
    for (key, reason) in settings.faults() {
        reader.fault(key, reason);
    }
    settings
}

fn name(reader: &mut Reader) -> Option<String> {
    let name: String = reader.required("hospital.name")?;
    if name.is_empty() || name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control) {
        reader.fault("hospital.name", "needs 1 to 200 bytes without control characters");
        return None;
    }
    Some(name)
}

fn jurisdiction(reader: &mut Reader) -> Option<String> {
    let text: String = reader.required("hospital.jurisdiction")?;
    if text.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        reader.fault("hospital.jurisdiction", "needs two capital letters (ISO 3166-1)");
        return None;
    }
    Some(text)
}

fn names(reader: &mut Reader) -> Vec<String> {
    let all: Vec<String> = reader.list("web.names");
    if all.is_empty() {
        reader.fault("web.names", "needs at least one name or address");
    }
    for (at, _) in all.iter().enumerate().filter(|(_, name)| !is_name(name)) {
        reader.fault(&format!("web.names.{at}"), "is no host name and no IP address");
    }
    all
}

fn url(reader: &mut Reader) -> Option<String> {
    let url: String = reader.optional("web.url")?;
    if !url.starts_with("https://") {
        reader.fault("web.url", "has to begin with https://");
        return None;
    }
    Some(url.trim_end_matches('/').to_owned())
}

/// One of the hospital's own files.
enum Read<T> {
    Absent,
    Faulty,
    Given(T),
}

impl<T: Default> Read<T> {
    fn or_default(self) -> Option<T> {
        match self {
            Self::Absent => Some(T::default()),
            Self::Faulty => None,
            Self::Given(value) => Some(value),
        }
    }
}

fn mapping(reader: &mut Reader, folder: &Path) -> Option<Mapping> {
    let parse = |bytes: &[u8]| Mapping::with_own(&String::from_utf8_lossy(bytes));
    match own_file(reader, folder, "records.departments", parse) {
        Read::Given(mapping) => Some(mapping),
        Read::Faulty => None,
        Read::Absent => match Mapping::shipped() {
            Ok(mapping) => Some(mapping),
            Err(faults) => {
                reader.fault("records.departments", format!("the shipped mapping is faulty: {faults}"));
                None
            }
        },
    }
}

fn own_file<T>(
    reader: &mut Reader,
    folder: &Path,
    key: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, FileFaults>,
) -> Read<T> {
    let Some(path) = reader.optional::<PathBuf>(key) else { return Read::Absent };
    let path = folder.join(path);
    let bytes = fs::metadata(&path).and_then(|metadata| {
        if metadata.len() > OWN_FILE_MAX_BYTES {
            Err(std::io::ErrorKind::FileTooLarge.into())
        } else {
            fs::read(&path)
        }
    });
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => {
            reader.fault(key, format!("{} cannot be read: {error}", path.display()));
            return Read::Faulty;
        }
    };
    match parse(&bytes) {
        Ok(value) => Read::Given(value),
        Err(faults) => {
            reader.fault(key, format!("{}:\n{faults}", path.display()));
            Read::Faulty
        }
    }
}

/// A usage fault.
pub(crate) fn usage(detail: impl Into<String>) -> CliError {
    CliError::new(Code::UsageInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../handover-node.sample.toml");
    const ROOT: &str = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";

    /// The sample as somebody has it who put the root in.
    pub(super) fn sample() -> String {
        SAMPLE.replace(handover_cli::SAMPLE_ROOT, ROOT)
    }

    #[test]
    fn the_shipped_sample_lacks_nothing_but_the_root() {
        let error = Config::from_text(SAMPLE, Path::new("/etc/handover")).unwrap_err();
        assert!(error.detail.starts_with("1 fault in"), "{}", error.detail);
        let says = "root: is still the sample's; put the federation's root in";
        assert!(error.detail.contains(says), "{}", error.detail);
        let config = Config::from_text(&sample(), Path::new("/etc/handover")).unwrap();
        assert_eq!(config.hospital.id.as_str(), "lakeside");
        assert_eq!(config.data, Path::new("/etc/handover/data"));
        assert_eq!(config.epoch_keys, Path::new("/etc/handover/data/epoch-keys"));
        assert_eq!(config.net_listen.len(), 2);
        assert!(config.leaves_packages);
        let off = sample().replace("# folders = true", "folders = false");
        assert!(!Config::from_text(&off, Path::new("/etc/handover")).unwrap().leaves_packages);
    }

    #[test]
    fn the_samples_comments_are_settings_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("departments.toml"),
            "[[rule]]\ndepartment = \"x-ray\"\nclass = [\"A\"]\n",
        )
        .unwrap();
        fs::write(folder.path().join("test-catalogue.csv"), "system,code,display,class,is_test\n").unwrap();
        fs::write(folder.path().join("price-list.csv"), "Code_Source,Code,Price,Price_Date\n").unwrap();
        let uncommented = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if rest.split(" = ").next().is_some_and(|key| !key.contains(' ')) => rest.to_owned(),
            _ => line.to_owned(),
        };
        let text: Vec<String> = sample().lines().map(uncommented).collect();
        let config = Config::from_text(&text.join("\n"), folder.path()).unwrap();
        assert_eq!(config.web_url.as_deref(), Some("https://patients.lakeside.example"));
        assert_eq!(config.net_advertise.len(), 1);
        assert_eq!(config.relays.len(), 2);
        assert_eq!(config.epoch_keys, folder.path().join("epoch-keys"));
        assert_eq!(config.shared, folder.path().join("shared"));
        assert_eq!(config.store.engine, EngineName::Postgres);
        assert_eq!(config.store.url_file, Some(folder.path().join("store.url")));
    }

    #[test]
    fn epoch_keys_do_not_lie_with_the_records() {
        for bad in ["data/store", "data/blobs/keys"] {
            let text = format!("epoch_keys = \"{bad}\"\n{}", sample());
            let error = Config::from_text(&text, Path::new("/etc/handover")).unwrap_err();
            assert!(error.detail.contains("epoch_keys: must not lie"), "{}", error.detail);
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("prices.csv"), "Code\n1\n").unwrap();
        let text = "root = \"12\"\nsurplus = 1\n[hospital]\nid = \"X\"\nname = \"\"\njurisdiction = \"usa\"\n\
            currency = \"QQQ\"\n[net]\nlisten = [\"tcp\", \"/ip4/300.0.0.0/tcp/1\"]\nadvertise = [\"/dns4/x\"]\n\
            [index]\naddresses = [\"/nonsense\", \"/ip4/127.0.0.1/tcp/1\"]\n\
            [web]\nlisten = \"nowhere\"\nnames = [\"a b\", \"localhost\"]\nurl = \"http://x\"\n\
            [records]\ncatalogue = \"absent.csv\"\nprices = \"prices.csv\"\n\
            [store]\nengine = \"postgres\"\nschema = \"A b\"\n";
        let error = Config::from_text(text, folder.path()).unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid);
        for key in [
            "data: is missing",
            "root:",
            "surplus: is not known",
            "hospital.id:",
            "hospital.name:",
            "hospital.jurisdiction:",
            "hospital.currency:",
            "index.addresses.0:",
            "index.addresses.1:",
            "net.advertise.0:",
            "net.listen.0:",
            "net.listen.1:",
            "web.listen:",
            "web.names.0:",
            "web.url:",
            "records.catalogue:",
            "records.prices:",
            "store.schema:",
            "store.url_file: is missing",
        ] {
            assert!(error.detail.contains(key), "{key} in {}", error.detail);
        }
    }
}
