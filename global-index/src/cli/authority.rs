//! The index's own keys and certificate, and the operators'.

use std::path::Path;

use handover_cli::CliError;
use handover_core::artefact::Verified;
use handover_core::artefact::federation::{Authority, CertificateRequest};
use handover_core::codec::Extensions;
use handover_core::id::SigningPublic;
use handover_core::trust;
use handover_core::{Code, Timestamp};
use handover_seal::{Ed25519, SigningKey};
use serde_json::json;

use super::context::{Context, file_fault, read_file, write_file};
use crate::keys::{CERTIFICATE_FILE, IndexKeys, KEY_FILE, REQUEST_FILE};
use crate::ops::{Command, Hex, views::OperatorView};
use crate::registry;

fn request(key: &SigningKey, authority: Authority, name: String, now: Timestamp) -> Vec<u8> {
    let request = CertificateRequest {
        authority: Some(authority),
        hospital: None,
        name,
        key: key.public(),
        issued: now,
        extensions: Extensions::default(),
    };
    Verified::sign(request, key).envelope().to_vec()
}

/// Whether a request that lies there is this key's; it is, or is made now. A name that is wished has to be its name.
fn keep_request(
    context: &Context,
    path: &Path,
    key: &SigningKey,
    authority: Authority,
    wished: Option<&str>,
    fallback: &str,
) -> Result<(), CliError> {
    if !path.exists() {
        let name = wished.unwrap_or(fallback).to_owned();
        return write_file(path, &request(key, authority, name, context.edge.clock.now()));
    }
    let fault = |what: &str| {
        CliError::new(Code::Conflict, format!("{} is there already: {what}", path.display()))
            .with_next("Nothing was changed. Give another file.")
    };
    let held = registry::certificate_request(&read_file(path)?).map_err(|_| fault("it is no request"))?;
    if held.key != key.public() || held.authority != Some(authority) {
        return Err(fault("it is a request for another key"));
    }
    match wished {
        Some(name) if name != held.name => Err(fault(&format!("it has another --name: {:?}", held.name))),
        _ => Ok(()),
    }
}

/// Makes the index's keys; again, it shows them.
pub(super) fn init(context: &Context, name: Option<String>) -> Result<(), CliError> {
    let data = context.data()?;
    let path = data.join(REQUEST_FILE);
    let configured = match (&name, context.config_if_any()?) {
        (None, Some(config)) => config.name,
        _ => "index".to_owned(),
    };
    let keys = if data.join(KEY_FILE).exists() {
        let keys = IndexKeys::open(&data, &context.passphrase("Passphrase of the index's keys: ")?)?;
        keep_request(context, &path, &keys.signing, Authority::Index, name.as_deref(), &configured)?;
        context.output.note("The keys are there already: nothing was changed.");
        keys
    } else {
        make_folder(&data)?;
        let passphrase = context.new_passphrase("New passphrase of the index's keys: ")?;
        let mut random = (context.edge.random)();
        let keys = IndexKeys::generate(&mut *random);
        // The request first: keys without a request could not be asked for again.
        let name = name.unwrap_or(configured);
        write_file(&path, &request(&keys.signing, Authority::Index, name, context.edge.clock.now()))?;
        keys.write(&data, &passphrase, &mut *random)?;
        keys
    };
    let key = keys.signing.public().to_string();
    context.output.note("Let the root sign this request, then give its answer to `init --certificate`:");
    context.output.emit("handover/init/1", &json!({ "request": path, "key": key }), |to| {
        writeln!(to, "{}", path.display())
    })
}

fn make_folder(data: &Path) -> Result<(), CliError> {
    handover_seal::keyfile::make_private_folder(data)
        .map_err(|error| CliError::new(Code::StoreUnavailable, format!("{}: {error}", data.display())))
}

/// Installs the root's certificate for the index's key.
pub(super) fn install(
    context: &Context,
    certificate: &Path,
    root: Option<SigningPublic>,
) -> Result<(), CliError> {
    let (data, root) = (context.data()?, context.root(root)?);
    let envelope = read_file(certificate)?;
    let authority = trust::authority(&envelope, Authority::Index, &root, context.edge.clock.now(), &Ed25519)
        .map_err(|fault| CliError::new(fault.code(), format!("{}: {fault}", certificate.display())))?;
    let keys = IndexKeys::open(&data, &context.passphrase("Passphrase of the index's keys: ")?)?;
    if authority.key != keys.signing.public() {
        return Err(CliError::new(
            Code::WrongSigner,
            "the certificate is for another key than this folder's",
        ));
    }
    let path = data.join(CERTIFICATE_FILE);
    write_file(&path, &envelope)?;
    let until = authority.not_after.to_string();
    context.output.emit("handover/init/1", &json!({ "certificate": path, "not_after": until }), |to| {
        writeln!(to, "certified until {until}")
    })
}

/// Makes an operator's key; again, it shows it.
pub(super) fn new_operator(
    context: &Context,
    out: &Path,
    request_out: &Path,
    name: &str,
) -> Result<(), CliError> {
    if request_out.exists() && !out.exists() {
        return Err(file_fault(request_out, "is there already, without its key"));
    }
    let key = context.signing_key(out, "the operator's")?;
    keep_request(context, request_out, &key, Authority::Operator, Some(name), name)?;
    let public = key.public().to_string();
    let document = json!({ "key": public, "request": request_out });
    context.output.emit("handover/operator/1", &document, |to| writeln!(to, "{public}"))
}

/// Takes an operator's certificate.
pub(super) fn add_operator(context: &Context, certificate: &Path) -> Result<(), CliError> {
    let certificate = Hex(read_file(certificate)?);
    let operator: OperatorView = context.perform(&Command::OperatorAdd { certificate })?;
    context.output.emit("handover/operator/1", &operator, |to| {
        writeln!(to, "{} may sign until {}", operator.name, operator.not_after)
    })
}
