//! The configuration file. All faults are reported at once, before anything is opened or bound.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use handover_cli::{ConfigFaults, Reader};
use handover_core::id::SigningPublic;

/// What `run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The index's name: the origin of its checkpoints, without white space or plus signs.
    pub name: String,
    /// The data folder.
    pub data: PathBuf,
    /// The federation's root key.
    pub root: SigningPublic,
    /// libp2p addresses to listen on.
    pub listen: Vec<String>,
    /// libp2p addresses to tell others; empty: those really listened on. Without `/p2p/…`: it is added.
    pub advertise: Vec<String>,
    /// Where HTTPS listens.
    pub web_listen: SocketAddr,
    /// Names and addresses in the self-signed HTTPS certificate.
    pub web_names: Vec<String>,
}

/// A libp2p address that this process can serve, checked by its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address(String);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "needs an address such as /ip4/0.0.0.0/tcp/4601 or /ip4/0.0.0.0/udp/4601/quic-v1";
        let parts: Vec<&str> = text.split('/').collect();
        let [first, kind, host, transport, port, rest @ ..] = parts.as_slice() else { return Err(SHAPE) };
        let host_fits = match *kind {
            "ip4" => host.parse().is_ok_and(|ip: IpAddr| ip.is_ipv4()),
            "ip6" => host.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6()),
            "dns" | "dns4" | "dns6" => !host.is_empty(),
            _ => false,
        };
        let transport_fits = matches!((*transport, rest), ("tcp", []) | ("udp", ["quic-v1"]));
        if first.is_empty() && host_fits && transport_fits && port.parse::<u16>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(SHAPE)
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
        }
        Ok(config)
    }

    fn read(mut reader: Reader) -> Result<Self, ConfigFaults> {
        let name: Option<Name> = reader.required("index.name");
        let data: Option<PathBuf> = reader.required("index.data");
        let root = reader.required("index.root");
        let listen: Vec<Address> = reader.list("net.listen");
        let advertise: Vec<Address> = reader.list("net.advertise");
        let web_listen = reader.required("web.listen");
        let mut web_names: Vec<String> = reader.list("web.names");
        if listen.is_empty() {
            reader.fault("net.listen", "needs at least one address");
        }
        if web_names.is_empty() {
            web_names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        }
        let texts = |addresses: Vec<Address>| addresses.into_iter().map(|it| it.0).collect();
        reader.finish_with(|| {
            Some(Self {
                name: name?.0,
                data: data?,
                root: root?,
                listen: texts(listen),
                advertise: texts(advertise),
                web_listen: web_listen?,
                web_names,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_sample_loads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("handover-index.sample.toml");
        let config = Config::load(&path).unwrap();
        assert_eq!(config.listen.len(), 2);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let text = "[index]\nname = \"a b\"\nroot = \"12\"\n[net]\nlisten = [\"/ip4/0.0.0.0/tcp/x\", \"nonsense\"]\nold = 1\n";
        let faults = Config::read(Reader::from_text(text).unwrap()).unwrap_err().faults;
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        let expected = [
            "index.data",
            "index.name",
            "index.root",
            "net.listen",
            "net.listen.0",
            "net.listen.1",
            "net.old",
            "web.listen",
        ];
        assert_eq!(keys, expected);
    }
}
