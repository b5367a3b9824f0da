//! Where blobs are kept, as a configuration says it, and how a bucket is reached. Its credentials are shown nowhere.
//!
//! Invariant: what leaves this machine is under TLS, with the server's certificate and name verified.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use handover_seal::keyfile::read_private;
use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, RetryConfig};
use serde::Serialize;

use super::bucket::Bucket;
use super::web::{Uri, Web};
use crate::{StoreError, tls};

/// What is kept of a bucket on the local disk, if nothing is said: 16 GiB.
const CACHE_MIB: u64 = 16 * 1024;
const MIB: u64 = 1024 * 1024;
/// How often a request is made again, and for how long.
const RETRIES: usize = 3;
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// What is there for blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobPlace {
    /// Files in a folder.
    #[default]
    Folder,
    /// A bucket of an S3-compatible store, with a bounded cache in a folder.
    Bucket,
}

impl FromStr for BlobPlace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "folder" => Ok(Self::Folder),
            "bucket" => Ok(Self::Bucket),
            _ => Err("has to be folder or bucket"),
        }
    }
}

impl fmt::Display for BlobPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "folder",
            Self::Bucket => "bucket",
        })
    }
}

/// The part `[blobs]` of a configuration. What it says of a bucket may stand there before that is the place: it is where
/// blobs can be copied to.
#[derive(Clone, Debug)]
pub struct BlobSettings {
    /// `blobs.place`.
    pub place: BlobPlace,
    /// `blobs.endpoint`: the URL of the S3-compatible store.
    pub endpoint: Option<String>,
    /// `blobs.bucket`: its name.
    pub bucket: Option<String>,
    /// `blobs.prefix`: what the names of all objects begin with. Several stores can share a bucket, each with its own.
    pub prefix: String,
    /// `blobs.region`.
    pub region: String,
    /// `blobs.credentials_file`: the file (mode 0600) with the key.
    pub credentials_file: Option<PathBuf>,
    /// `blobs.ca_file`: what the store's certificate leads up to.
    pub ca_file: Option<PathBuf>,
    /// `blobs.cache_mib`: what is kept of it on the local disk.
    pub cache_mib: u64,
}

impl Default for BlobSettings {
    fn default() -> Self {
        Self {
            place: BlobPlace::Folder,
            endpoint: None,
            bucket: None,
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            credentials_file: None,
            ca_file: None,
            cache_mib: CACHE_MIB,
        }
    }
}

impl BlobSettings {
    /// Whether a folder is more than this process's own: blobs lie there, or it was named for what all processes have.
    #[must_use]
    pub fn needs_folder(&self, shared: &Path, data: &Path) -> bool {
        self.place == BlobPlace::Folder || shared != data
    }

    /// What is missing or wrong, as far as the settings themselves say: the keys, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let needed = self.place == BlobPlace::Bucket;
        let mut faults = Vec::new();
        let missing = [
            ("blobs.endpoint", self.endpoint.is_none(), "the URL of the S3-compatible store"),
            ("blobs.bucket", self.bucket.is_none(), "its name"),
            ("blobs.credentials_file", self.credentials_file.is_none(), "the file (mode 0600) with its key"),
        ];
        for (key, _, what) in missing.into_iter().filter(|(_, is_missing, _)| needed && *is_missing) {
            faults.push((key, format!("is missing: place = \"bucket\" needs {what}")));
        }
        if let Some(endpoint) = &self.endpoint
            && let Err(reason) = check_endpoint(endpoint, self.ca_file.is_some())
        {
            faults.push(("blobs.endpoint", reason));
        }
        if self.bucket.as_deref().is_some_and(|name| !is_bucket_name(name)) {
            faults.push(("blobs.bucket", "needs 3 to 63 of a-z, 0-9, '.' and '-'".to_owned()));
        }
        if !is_prefix(&self.prefix) {
            faults.push((
                "blobs.prefix",
                "needs parts of a-z, 0-9, '_' and '-', with '/' between them".to_owned(),
            ));
        }
        if !(1..=1 << 30).contains(&self.cache_mib) {
            faults.push(("blobs.cache_mib", format!("needs a whole number from 1 to {}", 1 << 30)));
        }
        faults
    }

    pub(super) const fn cache_bytes(&self) -> u64 {
        self.cache_mib.saturating_mul(MIB)
    }

    /// The bucket that they name. It is not spoken to yet.
    pub(super) fn bucket(&self) -> Result<Bucket, StoreError> {
        let needed = Self { place: BlobPlace::Bucket, ..self.clone() };
        if let Some((key, reason)) = needed.faults().into_iter().next() {
            return Err(settings(format!("{key} {reason}")));
        }
        let (Some(endpoint), Some(name), Some(file)) = (&self.endpoint, &self.bucket, &self.credentials_file)
        else {
            return Err(settings("[blobs] names no bucket"));
        };
        let fault =
            |path: &Path, reason: &dyn fmt::Display| settings(format!("{}: {reason}", path.display()));
        let text = read_private(file).map_err(|error| fault(file, &error))?;
        let credentials = std::str::from_utf8(&text).ok().and_then(Credentials::parse).ok_or_else(|| {
            fault(file, &"needs two lines, aws_access_key_id = … and aws_secret_access_key = …")
        })?;
        let tls = match &self.ca_file {
            Some(path) => tls::trusting(&std::fs::read(path).map_err(|error| fault(path, &error))?)?,
            None => tls::trusting_nobody()?,
        };
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        };
        let mut builder = AmazonS3Builder::new()
            .with_endpoint(endpoint.trim_end_matches('/'))
            .with_allow_http(true)
            .with_bucket_name(name)
            .with_region(&self.region)
            // Not every store of this kind takes many at once, and one by one each is asked again by itself.
            .with_disable_bulk_delete(true)
            .with_access_key_id(credentials.id)
            .with_secret_access_key(credentials.secret)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_LIMIT })
            .with_http_connector(Web::new(tls));
        if let Some(token) = credentials.token {
            builder = builder.with_token(token);
        }
        // The builder's own words may quote what it was given.
        let store = builder.build().map_err(|_| settings("[blobs] does not describe a bucket"))?;
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        Ok(Bucket::new(store, prefix, format!("bucket {name} at {endpoint}")))
    }
}

fn settings(reason: impl Into<String>) -> StoreError {
    StoreError::Settings { reason: reason.into() }
}

/// As the tools of this kind of store write it; what is not for here is passed over.
struct Credentials<'t> {
    id: &'t str,
    secret: &'t str,
    token: Option<&'t str>,
}

impl<'t> Credentials<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name && !value.trim().is_empty()).then(|| value.trim())
            })
        };
        Some(Self {
            id: value("aws_access_key_id")?,
            secret: value("aws_secret_access_key")?,
            token: value("aws_session_token"),
        })
    }
}

/// Whether it may be spoken to like that. What is wrong is said without the URL, which may hold a password.
fn check_endpoint(endpoint: &str, has_ca: bool) -> Result<(), String> {
    let shape = "has to be a URL such as https://s3.example.org:9000, with nothing after the port";
    let url: Uri = endpoint.parse().map_err(|_| shape.to_owned())?;
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else { return Err(shape.to_owned()) };
    if !matches!(url.path(), "" | "/") || url.query().is_some() || authority.as_str().contains('@') {
        return Err(shape.to_owned());
    }
    let is_here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") if has_ca => Ok(()),
        Some("https") => {
            Err("needs blobs.ca_file beside it: what the certificate there leads up to".to_owned())
        }
        Some("http") if is_here => Ok(()),
        Some("http") => Err("is on another machine, so it needs TLS: https, and blobs.ca_file".to_owned()),
        _ => Err(shape.to_owned()),
    }
}

fn is_bucket_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    (3..=63).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.contains("..")
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
}

fn is_prefix(prefix: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let is_own = |part: &str| matches!(part, "content" | "uploads" | "of-store");
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_plain) && !is_own(part);
    prefix.is_empty() || (prefix.len() <= 200 && prefix.split('/').all(is_part))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn at(endpoint: &str) -> BlobSettings {
        BlobSettings {
            place: BlobPlace::Bucket,
            endpoint: Some(endpoint.to_owned()),
            bucket: Some("lakeside".to_owned()),
            credentials_file: Some("credentials".into()),
            ..BlobSettings::default()
        }
    }

    fn says(settings: &BlobSettings) -> String {
        settings.faults().into_iter().map(|(key, reason)| format!("{key} {reason}\n")).collect()
    }

    #[test]
    fn what_leaves_the_machine_is_under_tls() {
        assert_eq!(says(&BlobSettings::default()), "");
        for here in ["http://127.0.0.1:9000", "http://localhost:9000/", "http://[::1]:9000"] {
            assert_eq!(says(&at(here)), "", "{here}");
        }
        assert!(says(&at("http://s3.example.org")).contains("needs TLS"));
        assert!(says(&at("https://s3.example.org")).contains("needs blobs.ca_file"));
        assert_eq!(says(&BlobSettings { ca_file: Some("ca".into()), ..at("https://s3.example.org") }), "");
        for bad in ["s3.example.org", "ftp://a", "https://a/b", "https://u:secret@a", "https://a?b=c", "x y"]
        {
            let says = says(&at(bad));
            assert!(says.contains("has to be a URL") && !says.contains("secret"), "{bad}: {says}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        let none = BlobSettings { place: BlobPlace::Bucket, ..BlobSettings::default() };
        for key in ["blobs.endpoint", "blobs.bucket", "blobs.credentials_file"] {
            assert!(says(&none).contains(&format!("{key} is missing")), "{}", says(&none));
        }
        let bad = BlobSettings {
            bucket: Some("Upper".to_owned()),
            prefix: "a//b".to_owned(),
            cache_mib: 0,
            ..at("http://localhost")
        };
        assert_eq!(bad.faults().len(), 3, "{}", says(&bad));
    }

    #[test]
    fn credentials_lie_in_a_private_file_and_are_told_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        let settings = BlobSettings { credentials_file: Some(file.clone()), ..at("http://localhost:1") };
        let reason = || settings.bucket().unwrap_err().to_string();
        assert!(reason().contains(&file.display().to_string()), "{}", reason());
        let good = "[default]\naws_access_key_id = ID\naws_secret_access_key = hushhush\n";
        fs::write(&file, good).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(reason().contains(&file.display().to_string()) && !reason().contains("hushhush"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let bucket = settings.bucket().unwrap();
        assert!(!format!("{bucket:?} {bucket} {settings:?}").contains("hushhush"), "{bucket:?}");
        fs::write(&file, "aws_secret_access_key = hushhush\n").unwrap();
        assert!(reason().contains("needs two lines") && !reason().contains("hushhush"), "{}", reason());
    }
}
