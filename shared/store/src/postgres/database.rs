//! How a database is reached: its URL, which may hold a password and is shown nowhere, its schema and its TLS.
//!
//! Invariant: what leaves this machine is under TLS, with the server's certificate and name verified.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use handover_seal::keyfile::read_private;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{StoreError, Tables};

/// How long one host may take to answer a connection.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// When a silent connection is first asked whether it is alive, and how often then.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(5);
/// How long what was sent may stay unconfirmed.
const UNCONFIRMED_LIMIT: Duration = Duration::from_secs(20);
/// The longest name that PostgreSQL does not cut.
const SCHEMA_MAX_BYTES: usize = 63;

/// The schema that holds one store's tables. Several stores can lie in one database, each in its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(String);

impl Default for Schema {
    fn default() -> Self {
        Self("handover".to_owned())
    }
}

impl FromStr for Schema {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !begins || text.len() > SCHEMA_MAX_BYTES || !text.bytes().all(is_plain) || text.starts_with("pg_")
        {
            return Err("needs 1 to 63 of a-z, 0-9 and '_', a letter first, not beginning with pg_");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A database that holds a store.
#[derive(Clone)]
pub struct Database {
    /// As the URL says it.
    config: Config,
    /// One for each host, so that one that hangs does not keep the next from being tried.
    hosts: Vec<Config>,
    tls: Option<MakeRustlsConnect>,
    schema: Schema,
    tables: Option<&'static Tables>,
}

impl Database {
    /// From a file (mode 0600) with its URL, and one with the certificates (PEM) that its own leads up to.
    ///
    /// # Errors
    /// [`StoreError::Settings`].
    pub fn from_files(url_file: &Path, ca_file: Option<&Path>, schema: &Schema) -> Result<Self, StoreError> {
        let fault =
            |path: &Path, reason: &dyn fmt::Display| settings(format!("{}: {reason}", path.display()));
        let url = read_private(url_file).map_err(|error| fault(url_file, &error))?;
        let url = std::str::from_utf8(&url).map_err(|_| fault(url_file, &"is no text"))?;
        let pem = ca_file.map(std::fs::read).transpose();
        let pem = pem.map_err(|error| fault(ca_file.unwrap_or(url_file), &error))?;
        Self::from_url(url.trim(), pem.as_deref(), schema)
    }

    /// From its URL, `postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`, and the certificates (PEM) that the
    /// server's leads up to. Without them, only this machine's own database is spoken to.
    ///
    /// # Errors
    /// [`StoreError::Settings`], which never repeats the URL.
    pub fn from_url(url: &str, ca_pem: Option<&[u8]>, schema: &Schema) -> Result<Self, StoreError> {
        // The parser's own words may quote the URL.
        let mut config: Config = url.parse().map_err(|_| {
            settings(
                "the database's URL is none; it looks like postgresql://USER:PASSWORD@HOST:5432/DATABASE",
            )
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(settings("the database's URL names no host"));
        }
        let tls = ca_pem.map(tls).transpose()?;
        match (&tls, config.get_ssl_mode()) {
            (Some(_), _) => config.ssl_mode(SslMode::Require),
            (None, SslMode::Require) => {
                return Err(settings(
                    "the database's URL asks for TLS: ca_file has to say whose certificate",
                ));
            }
            (None, _) if is_here(&config) => config.ssl_mode(SslMode::Disable),
            (None, _) => {
                return Err(settings("the database is on another machine, so it needs TLS: give ca_file"));
            }
        };
        let hosts = hosts(&config)?;
        Ok(Self { config, hosts, tls, schema: schema.clone(), tables: None })
    }

    /// The same with tables beside the cells, which are made when a store is opened there.
    #[must_use]
    pub fn with_tables(self, tables: &'static Tables) -> Self {
        Self { tables: Some(tables), ..self }
    }

    pub(super) const fn tables(&self) -> Option<&'static Tables> {
        self.tables
    }

    /// How each host is reached, in the order in which they are tried.
    pub(super) fn hosts(&self) -> &[Config] {
        &self.hosts
    }

    pub(super) fn tls(&self) -> Option<MakeRustlsConnect> {
        self.tls.clone()
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// Where it is; neither user nor password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let mut names: Vec<String> = hosts.collect();
        if names.is_empty() {
            names.extend(self.config.get_hostaddrs().iter().map(ToString::to_string));
        }
        let ports = self.config.get_ports();
        for (at, name) in names.iter_mut().enumerate() {
            if let Some(port) = ports.get(at).or(ports.first()) {
                name.push_str(&format!(":{port}"));
            }
        }
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or("the default");
        write!(f, "schema {} of database {database} at {}", self.schema, names.join(", "))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn settings(reason: impl Into<String>) -> StoreError {
    StoreError::Settings { reason: reason.into() }
}

/// The configuration of each host by itself.
fn hosts(config: &Config) -> Result<Vec<Config>, StoreError> {
    let (names, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = names.len().max(addresses.len());
    let fits =
        |length: usize, may_be_one: bool| length == 0 || length == count || (may_be_one && length == 1);
    if !fits(names.len(), false) || !fits(addresses.len(), false) || !fits(ports.len(), true) {
        return Err(settings("the database's URL has not as many ports or addresses as hosts"));
    }
    let one = |at: usize| {
        let mut one = Config::new();
        match names.get(at) {
            Some(Host::Tcp(name)) => one.host(name),
            Some(Host::Unix(path)) => one.host_path(path),
            None => &mut one,
        };
        addresses.get(at).map(|address| one.hostaddr(*address));
        ports.get(at).or(ports.first()).map(|port| one.port(*port));
        config.get_user().map(|user| one.user(user));
        config.get_password().map(|password| one.password(password));
        config.get_dbname().map(|name| one.dbname(name));
        config.get_options().map(|options| one.options(options));
        one.ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .channel_binding(config.get_channel_binding())
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .application_name("handover")
            .connect_timeout(CONNECT_LIMIT)
            .tcp_user_timeout(UNCONFIRMED_LIMIT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_PAUSE)
            .keepalives_retries(3);
        one
    };
    Ok((0..count).map(one).collect())
}

/// Whether all that is said to it stays on this machine.
fn is_here(config: &Config) -> bool {
    let host_is_here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    let addresses = config.get_hostaddrs();
    addresses.iter().all(IpAddr::is_loopback)
        && (!addresses.is_empty() || config.get_hosts().iter().all(host_is_here))
}

fn tls(pem: &[u8]) -> Result<MakeRustlsConnect, StoreError> {
    let fault = |error: &dyn fmt::Display| settings(format!("ca_file: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| fault(&error))?;
        roots.add(certificate).map_err(|error| fault(&error))?;
    }
    if roots.is_empty() {
        return Err(fault(&"holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(url: &str, ca: Option<&[u8]>) -> String {
        Database::from_url(url, ca, &Schema::default()).unwrap_err().to_string()
    }

    #[test]
    fn only_this_machines_database_goes_without_tls() {
        for here in [
            "postgresql://u:hidden@127.0.0.1:5432/db",
            "postgresql://u:hidden@localhost,[::1]:5433/db",
            "postgresql://u:hidden@%2Frun%2Fpostgresql/db",
            "host=db.example hostaddr=127.0.0.1 user=u",
        ] {
            let database = Database::from_url(here, None, &Schema::default()).unwrap();
            assert!(!format!("{database:?} {database}").contains("hidden"));
        }
        for away in [
            "postgresql://u:hidden@db.example/db",
            "postgresql://u:hidden@localhost,db.example/db",
            "host=localhost hostaddr=10.0.0.1 user=u",
        ] {
            assert!(reason(away, None).contains("needs TLS"), "{away}");
        }
        assert!(reason("postgresql://u@localhost/db?sslmode=require", None).contains("ca_file"));
        assert!(reason("postgresql://u@localhost/db", Some(b"")).contains("no certificate"));
    }

    #[test]
    fn a_url_is_never_repeated() {
        for bad in ["postgresql://u:hidden@h:port/db", "hidden", "postgresql://u:hidden@h/db?what=hidden"] {
            assert!(!reason(bad, None).contains("hidden"), "{bad}");
        }
        assert!(reason("postgresql:///db", None).contains("no host"));
        assert!(reason("host=localhost,localhost port=1,2,3 user=u", None).contains("as many ports"));
    }

    #[test]
    fn a_schema_needs_no_quoting() {
        for bad in ["", "1a", "A", "a-b", "a\"b", "pg_a", &"a".repeat(64)] {
            assert!(bad.parse::<Schema>().is_err(), "{bad}");
        }
        assert_eq!("hospital_1".parse::<Schema>().unwrap().to_string(), "hospital_1");
    }
}
