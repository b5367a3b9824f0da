//! The server's TLS identity: a self-signed pair made at first start, or the operator's own files.
//!
//! Invariants: the key file has mode 0600 or the server does not start; a key is never replaced. Nobody but the
//! accept loop sees the key.

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use handover_core::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::WebError;

/// The certificate's file name in the data folder.
pub const CERTIFICATE_FILE: &str = "web-cert.pem";
/// The key's file name in the data folder.
pub const KEY_FILE: &str = "web-key.pem";

/// A self-signed certificate starts to be valid this long before it is made, for clocks that run behind.
const BACKDATED_MS: u64 = 86_400_000;
/// How long a self-signed certificate is valid: ten years. Whoever trusts it has pinned it, so it is not renewed.
const VALID_MS: u64 = 3_650 * 86_400_000;

/// A certificate with its key, ready to serve. `Debug` shows no key.
#[derive(Clone)]
pub struct TlsIdentity {
    certificate_pem: String,
    config: Arc<rustls::ServerConfig>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

/// Whether a text can be a name in a certificate: a DNS name or an IP address.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(is_label))
}

impl TlsIdentity {
    /// Loads the pair in `folder`, or makes a self-signed one (ECDSA P-256) for `names`: DNS names and IP
    /// addresses. The names count only when it is made. The key and the serial number come from the operating
    /// system's generator inside the certificate library, which takes no other; `now` sets the validity.
    ///
    /// # Errors
    /// Files that cannot be read or written, an exposed or missing key, a name that is not one.
    pub fn load_or_create(folder: &Path, names: &[String], now: Timestamp) -> Result<Self, WebError> {
        let certificate = folder.join(CERTIFICATE_FILE);
        let key = folder.join(KEY_FILE);
        if !certificate.exists() {
            let (certificate_pem, key_pem) = make(names, now)?;
            // The key first: a certificate without its key would stop the next start, a lone key is replaced.
            write_private(&key, key_pem.as_bytes())?;
            write_private(&certificate, certificate_pem.as_bytes())?;
        }
        Self::load(&certificate, &key)
    }

    /// Loads an operator's own certificate chain (leaf first) and key, both PEM.
    ///
    /// # Errors
    /// Files that cannot be read, a key readable by group or others, a pair that does not fit.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, WebError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| WebError::File { path, source }
        };
        let certificate_pem = fs::read_to_string(certificate).map_err(file(certificate))?;
        let metadata = match fs::metadata(key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(WebError::KeyMissing { path: key.to_owned() });
            }
            other => other.map_err(file(key))?,
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(WebError::KeyExposed { path: key.to_owned() });
        }
        let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| unusable("the certificate file is not PEM"))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|_| unusable("the key file is not PEM"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unusable(&error.to_string()))?;
        config.alpn_protocols = vec![ALPN_HTTP_2.to_vec(), ALPN_HTTP_1.to_vec()];
        Ok(Self { certificate_pem, config: Arc::new(config) })
    }

    /// The certificate chain as PEM, for clients that pin it.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What the accept loop needs.
    pub(crate) fn server_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// ALPN identifiers (RFC 7301 registry).
pub(crate) const ALPN_HTTP_2: &[u8] = b"h2";
const ALPN_HTTP_1: &[u8] = b"http/1.1";

fn unusable(reason: &str) -> WebError {
    WebError::Certificate { reason: reason.to_owned() }
}

/// A self-signed end-entity certificate and its key, both PEM. `CA:FALSE`, because verifiers refuse a CA
/// certificate as a server's own (RFC 5280, 4.2.1.9).
fn make(names: &[String], now: Timestamp) -> Result<(String, String), WebError> {
    let refused = |error: rcgen::Error| unusable(&error.to_string());
    let mut parameters = rcgen::CertificateParams::new(names.to_vec()).map_err(refused)?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(0);
    parameters.not_before = epoch + Duration::from_millis(now_ms.saturating_sub(BACKDATED_MS));
    parameters.not_after = epoch + Duration::from_millis(now_ms.saturating_add(VALID_MS));
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    let common = names.iter().find(|name| name.parse::<IpAddr>().is_err()).map_or("handover", String::as_str);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
    let key = rcgen::KeyPair::generate().map_err(refused)?;
    let certificate = parameters.self_signed(&key).map_err(refused)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes the whole file under another name, mode 0600 from the start, and moves it into place when it is on disk.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), WebError> {
    let part = path.with_extension("part");
    let write = || {
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(|source| WebError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn the_pair_is_made_once_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_795_250_096_789);
        let first = TlsIdentity::load_or_create(folder.path(), &names(), now).unwrap();
        let again = TlsIdentity::load_or_create(folder.path(), &names(), now).unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());
        for name in [CERTIFICATE_FILE, KEY_FILE] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn exposed_missing_and_foreign_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_795_250_096_789);
        TlsIdentity::load_or_create(folder.path(), &names(), now).unwrap();
        let key = folder.path().join(KEY_FILE);

        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = TlsIdentity::load_or_create(folder.path(), &names(), now).unwrap_err();
        assert!(matches!(exposed, WebError::KeyExposed { .. }));

        write_private(&key, make(&names(), now).unwrap().1.as_bytes()).unwrap();
        let foreign = TlsIdentity::load_or_create(folder.path(), &names(), now).unwrap_err();
        assert!(matches!(foreign, WebError::Certificate { .. }));

        fs::remove_file(&key).unwrap();
        let missing = TlsIdentity::load_or_create(folder.path(), &names(), now).unwrap_err();
        assert!(matches!(missing, WebError::KeyMissing { .. }));
    }
}
