//! Whom this room trusts under TLS: what a file of certificates says, nobody else.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::StoreError;

/// Trusts whose certificate leads up to one of these (PEM).
pub(crate) fn trusting(pem: &[u8]) -> Result<ClientConfig, StoreError> {
    let fault = |error: &dyn fmt::Display| StoreError::Settings { reason: format!("ca_file: {error}") };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| fault(&error))?;
        roots.add(certificate).map_err(|error| fault(&error))?;
    }
    if roots.is_empty() {
        return Err(fault(&"holds no certificate"));
    }
    of(roots)
}

/// Trusts nobody: for what stays on this machine.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, StoreError> {
    of(RootCertStore::empty())
}

fn of(roots: RootCertStore) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| StoreError::Settings { reason: format!("TLS: {error}") })?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}
