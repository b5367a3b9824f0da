//! A node's HTTPS endpoint for patients, as its client. Only the one certificate that the patient trusts is
//! accepted; every request has a time limit and every answer a size limit.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use handover_core::codec::{self, Extensions, MAX_MESSAGE_BYTES};
use handover_core::message::{HospitalInfo, PiecesAnswer, PiecesQuestion};
use handover_core::{Code, Digest};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use crate::WalletError;

/// The most bytes of an answer: an inbox holds many quotes.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The most bytes of a problem document that are read.
const MAX_PROBLEM_BYTES: u64 = 64 * 1024;
/// The media type of everything that is sent.
const CBOR_MEDIA_TYPE: &str = "application/cbor";
/// What stands before the code in a problem document's `type`.
const PROBLEM_TYPE_PREFIX: &str = "urn:handover:problem:";
/// For the connection and its TLS handshake.
const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// For a whole request with its answer.
const REQUEST_TIMEOUT_MS: u64 = 60_000;

/// A node at a URL.
#[derive(Debug)]
pub struct NodeClient {
    agent: ureq::Agent,
    base: String,
}

impl NodeClient {
    /// A client that accepts the given certificates (PEM) and no others. Connects when something is asked.
    ///
    /// # Errors
    /// [`WalletError::Endpoint`] for a URL that is not `https://` or a text without certificates.
    pub fn new(url: &str, certificate_pem: &str) -> Result<Self, WalletError> {
        if !url.starts_with("https://") {
            return Err(WalletError::Endpoint("a node's URL begins with https://"));
        }
        let mut roots: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(certificate_pem.as_bytes()) {
            match item {
                Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                Ok(_) => {}
                Err(_) => return Err(WalletError::Endpoint("the certificate is not PEM")),
            }
        }
        if roots.is_empty() {
            return Err(WalletError::Endpoint("there is no certificate in the file"));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("handover-patient")
            .timeout_connect(Some(Duration::from_millis(CONNECT_TIMEOUT_MS)))
            .timeout_global(Some(Duration::from_millis(REQUEST_TIMEOUT_MS)))
            .build()
            .new_agent();
        Ok(Self { agent, base: url.trim_end_matches('/').to_owned() })
    }

    /// Which hospital answers here, and the head of the directory. Nothing of it is verified yet.
    ///
    /// # Errors
    /// [`WalletError`]: the certificate is not usable, nobody answers in time, or the node refused.
    pub fn hospital(&self) -> Result<HospitalInfo, WalletError> {
        let answer = self.agent.get(format!("{}/patient/v1/hospital", self.base)).call();
        Ok(codec::decode(&received(answer)?, MAX_ANSWER_BYTES)?)
    }

    /// Of the pieces of that directory, some of those that are asked for. Nothing of them is verified yet.
    ///
    /// # Errors
    /// [`WalletError`]: the certificate is not usable, nobody answers in time, or the node refused.
    pub fn directory_pieces(&self, digests: Vec<Digest>) -> Result<Vec<Vec<u8>>, WalletError> {
        let question = PiecesQuestion { digests, extensions: Extensions::default() };
        let answer = self.post("directory-pieces", &codec::encode(&question))?;
        let answer: PiecesAnswer = codec::decode(&answer, MAX_MESSAGE_BYTES)?;
        Ok(answer.pieces.into_iter().map(|piece| piece.0).collect())
    }

    /// Posts a signed link; the countersigned one, not verified yet.
    ///
    /// # Errors
    /// [`WalletError`]: the certificate is not usable, nobody answers in time, or the node refused.
    pub fn link(&self, envelope: &[u8]) -> Result<Vec<u8>, WalletError> {
        self.post("link", envelope)
    }

    /// Posts a request for a remote link; how it stands, not verified yet.
    ///
    /// # Errors
    /// [`WalletError`]: the certificate is not usable, nobody answers in time, or the node refused.
    pub fn remote_link(&self, envelope: &[u8]) -> Result<Vec<u8>, WalletError> {
        self.post("remote-link", envelope)
    }

    /// Posts a locate question; the sealed `Holders`.
    ///
    /// # Errors
    /// [`WalletError`]: the certificate is not usable, nobody answers in time, or the node refused.
    pub fn locate(&self, envelope: &[u8]) -> Result<Vec<u8>, WalletError> {
        self.post("locate", envelope)
    }

    /// Posts an inbox question; the sealed `Inbox`.
    ///
    /// # Errors
    /// [`WalletError`]: the certificate is not usable, nobody answers in time, or the node refused.
    pub fn inbox(&self, envelope: &[u8]) -> Result<Vec<u8>, WalletError> {
        self.post("inbox", envelope)
    }

    /// Posts an artefact of a transfer, or a bare revocation. Stored there durably when this returns.
    ///
    /// # Errors
    /// [`WalletError`]: the certificate is not usable, nobody answers in time, or the node refused.
    pub fn artefact(&self, content: &[u8]) -> Result<(), WalletError> {
        self.post("artefact", content).map(|_| ())
    }

    /// Posts to `/patient/v1/{path}`; the answer's body.
    ///
    /// # Errors
    /// [`WalletError::Untrusted`], [`WalletError::Unreachable`], [`WalletError::TimedOut`],
    /// [`WalletError::Problem`], [`WalletError::Answer`], [`WalletError::AnswerTooLarge`].
    fn post(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, WalletError> {
        let answer = self
            .agent
            .post(format!("{}/patient/v1/{path}", self.base))
            .content_type(CBOR_MEDIA_TYPE)
            .send(body);
        received(answer)
    }
}

fn received(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Vec<u8>, WalletError> {
    let answer = answer.map_err(failed)?;
    let status = answer.status();
    let (_, body) = answer.into_parts();
    if status.is_success() {
        return body.into_with_config().limit(MAX_ANSWER_BYTES as u64).read_to_vec().map_err(failed);
    }
    let document = body.into_with_config().limit(MAX_PROBLEM_BYTES).read_to_vec().map_err(failed)?;
    Err(problem(status.as_u16(), &document))
}

/// What a problem document (RFC 9457) says, else what the status does.
fn problem(status: u16, document: &[u8]) -> WalletError {
    let code = serde_json::from_slice::<serde_json::Value>(document)
        .ok()
        .and_then(|document| document.get("type")?.as_str()?.strip_prefix(PROBLEM_TYPE_PREFIX)?.parse().ok());
    match code {
        Some(code) => WalletError::Problem(code),
        None if status == 429 || status == 503 => WalletError::Problem(Code::Busy),
        None if status >= 500 => WalletError::Unreachable,
        None => WalletError::Answer { status },
    }
}

fn failed(fault: ureq::Error) -> WalletError {
    match fault {
        ureq::Error::Timeout(_) => WalletError::TimedOut,
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => WalletError::Untrusted,
        ureq::Error::Io(fault) if is_tls(&fault) => WalletError::Untrusted,
        ureq::Error::Io(fault) if fault.kind() == io::ErrorKind::TimedOut => WalletError::TimedOut,
        ureq::Error::BodyExceedsLimit(_) => WalletError::AnswerTooLarge,
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) | ureq::Error::Http(_) => {
            WalletError::Endpoint("the node's URL cannot be used")
        }
        _ => WalletError::Unreachable,
    }
}

/// A handshake's fault comes wrapped in an input fault.
fn is_tls(fault: &io::Error) -> bool {
    fault.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
        || fault.source().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(test)]
mod tests;
