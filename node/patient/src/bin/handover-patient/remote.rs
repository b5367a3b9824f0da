//! Asking an old hospital for a link, and seeing how that stands.

use handover_cli::CliError;
use handover_core::artefact::remote::RemoteLinkState;
use handover_core::{Code, HospitalId};
use handover_patient::Identity;
use handover_patient::state::KnownRemoteLink;
use handover_seal::OsRandom;
use serde_json::json;

use crate::args;
use crate::carried;
use crate::session::{Channel, Session, now};
use crate::show::line_of_files;

pub(crate) fn link_remote(session: &Session, options: &args::LinkRemote) -> Result<(), CliError> {
    if let Some(answer) = &options.answer {
        let (status, federation) = (carried::read(answer)?, session.federation(None)?);
        let known = session.file.update(&mut OsRandom, |wallet, _| {
            wallet.remote_link_told(&options.hospital, &status, &federation)
        })?;
        return show(session, &known, &[]);
    }
    let (channel, met) = session.way(&options.way)?;
    let met = met.ok_or_else(|| CliError::new(Code::UsageInvalid, "--hospital-info FILE is needed"))?;
    let text = |given: &Option<String>| given.as_deref().unwrap_or_default().trim().to_owned();
    let identity = options.record_number.is_some().then(|| Identity {
        record_number: text(&options.record_number),
        name: text(&options.name),
        birth_date: text(&options.birth_date),
    });
    let hospitals = (&options.hospital, &met.hospital);
    let envelope = session.file.update(&mut OsRandom, |wallet, random| {
        wallet.link_remote(hospitals, identity.as_ref(), &met.federation, now(), random)
    })?;
    if let Channel::Node(client, patience) = &channel {
        let status = patience.hold(|| Ok(client.remote_link(&envelope)?))?;
        let known = session.file.update(&mut OsRandom, |wallet, _| {
            wallet.remote_link_told(&options.hospital, &status, &met.federation)
        })?;
        return show(session, &known, &[]);
    }
    let files = channel.send(&[("", &envelope)])?;
    let wallet = session.file.read()?;
    let known = wallet.state.remote_links.iter().find(|known| known.hospital == options.hospital);
    known.map_or(Ok(()), |known| show(session, known, &files))
}

fn show(session: &Session, known: &KnownRemoteLink, files: &[String]) -> Result<(), CliError> {
    let request = known.request()?;
    let (state, reason) = (known.state, known.reason);
    let data = json!({
        "remote_link": request.id, "hospital": known.hospital, "vouching": request.vouching,
        "state": state.as_str(), "reason": reason.map(|code| code.as_str()),
        "expires": request.expires.to_string(), "files": files,
    });
    session.output.emit("handover/patient-link-remote/1", &data, |out| {
        writeln!(
            out,
            "Remote link {} to {}: {state}, until {}",
            request.id, known.hospital, request.expires
        )?;
        if let Some(reason) = reason {
            writeln!(out, "  why: {} [{reason}]", reason.text())?;
        }
        writeln!(out, "{}", next(state, &known.hospital, &request.vouching))?;
        line_of_files(out, files)
    })
}

fn next(state: RemoteLinkState, old: &HospitalId, new: &HospitalId) -> String {
    match state {
        RemoteLinkState::Waiting => {
            format!("Next: show your identity document at {new}'s desk, which then vouches for you.")
        }
        RemoteLinkState::Vouched => format!("{new} vouches for you; the request is on its way to {old}."),
        RemoteLinkState::Asked => format!("A clerk at {old} looks at it."),
        RemoteLinkState::Confirmed => format!(
            "{old} sends a code to the address or telephone number that it has of you. Next: link --hospital {old} \
             --code CODE at {new}'s node."
        ),
        RemoteLinkState::Linked => format!("You are linked to {old}."),
        RemoteLinkState::Refused => {
            format!("Next: ask at {new}'s desk, or give the command again with what is right.")
        }
    }
}
