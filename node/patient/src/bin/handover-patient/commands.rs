//! The commands that sign and send.

use handover_cli::CliError;
use handover_core::artefact::patient::{ConsentDetails, ConsentMode, Holder};
use handover_core::codec;
use handover_core::trust::Federation;
use handover_core::{Code, HospitalId, Timestamp, TransferId, short_code};
use handover_patient::node::NodeClient;
use handover_patient::{Missing, Question, Unnamed, Wallet, WalletError, Wish, make_ask, open_holders};
use handover_seal::OsRandom;
use serde_json::json;

use crate::args::{self, OnTransfer};
use crate::carried::{self, Carried};
use crate::session::{Channel, Met, Session, now, read_text, write_new};
use crate::show::{line_of_files, plain, scope_json, scope_text};

/// A hospital's name, fit for a terminal, and the code of its key.
pub(crate) fn named(federation: &Federation, hospital: &HospitalId) -> Result<(String, String), WalletError> {
    let member =
        federation.member(hospital).map_err(|code| WalletError::Rule { what: "the hospital", code })?;
    Ok((plain(&member.certificate.name), short_code(&member.certificate.key.thumbprint())))
}

pub(crate) fn trust(session: &Session, options: &args::Trust) -> Result<(), CliError> {
    let pem = read_text(&options.certificate)?;
    NodeClient::new(&options.node, &pem)?;
    session.file.update(&mut OsRandom, |wallet, _| {
        wallet.trust(&options.node, &pem);
        Ok(())
    })?;
    let data = json!({ "node": options.node });
    session.output.emit("handover/patient-trust/1", &data, |out| writeln!(out, "Trusted: {}", options.node))
}

pub(crate) fn hospital(session: &Session, options: &args::Hospital) -> Result<(), CliError> {
    let client = session.client(&options.node, options.node_certificate.as_deref())?;
    let info = session.hospital(&client)?;
    let met = session.take(&info)?;
    if let Some(path) = &options.out {
        write_new(path, &codec::encode(&info))?;
    }
    let (name, code) = named(&met.federation, &met.hospital)?;
    let directory = met.federation.directory();
    let data = json!({
        "hospital": met.hospital, "name": name, "code": code,
        "directory": directory.version, "directory_expires": directory.expires.to_string(),
    });
    session.output.emit("handover/patient-hospital/1", &data, |out| {
        writeln!(out, "{} ({name}), key {code}", met.hospital)?;
        writeln!(out, "Directory {}, good until {}", directory.version, directory.expires)
    })
}

pub(crate) fn link(session: &Session, options: &args::Link) -> Result<(), CliError> {
    if let Some(answer) = &options.answer {
        return linked(session, &carried::read(answer)?);
    }
    let (channel, met) = session.way(&options.way)?;
    let met = met.ok_or_else(|| CliError::new(Code::UsageInvalid, "--hospital-info FILE is needed"))?;
    let code = options.code.as_deref().unwrap_or_default().trim();
    let hospital = options.hospital.as_ref().unwrap_or(&met.hospital);
    let envelope = session
        .file
        .update(&mut OsRandom, |wallet, _| wallet.link(hospital, code, &met.federation, now()))?;
    let files = match &channel {
        Channel::Node(client, patience) => {
            let answer = patience.hold(|| Ok(client.link(&envelope)?))?;
            session.file.update(&mut OsRandom, |wallet, _| wallet.linked(&answer, &met.federation, now()))?;
            Vec::new()
        }
        Channel::File(_) => channel.send(&[("", &envelope)])?,
    };
    let (name, key_code) = named(&met.federation, hospital)?;
    let patient = session.file.read()?.keys.patient();
    let data = json!({
        "patient": patient, "hospital": hospital, "name": name, "code": key_code,
        "linked": files.is_empty(), "files": files,
    });
    session.output.emit("handover/patient-link/1", &data, |out| {
        if files.is_empty() {
            writeln!(out, "Linked to {hospital} ({name}), key {key_code}")
        } else {
            line_of_files(out, &files)
        }
    })
}

/// The desk's answer to a link that was carried there.
fn linked(session: &Session, answer: &[u8]) -> Result<(), CliError> {
    let federation = session.federation(None)?;
    let hospital =
        session.file.update(&mut OsRandom, |wallet, _| wallet.linked(answer, &federation, now()))?;
    let (name, key_code) = named(&federation, &hospital)?;
    let patient = session.file.read()?.keys.patient();
    let data = json!({
        "patient": patient, "hospital": hospital, "name": name, "code": key_code, "linked": true, "files": [],
    });
    session.output.emit("handover/patient-link/1", &data, |out| {
        writeln!(out, "Linked to {hospital} ({name}), key {key_code}")
    })
}

pub(crate) fn locate(session: &Session, options: &args::Locate) -> Result<(), CliError> {
    let (holders, asked) = match options.by.carried() {
        Carried::Question(out) => return session.write_question(Question::Locate, out),
        Carried::Answer(asked, answer) => session.carried_holders(asked, answer)?,
        Carried::Not => fetch_holders(session, &options.by)?,
    };
    let unnamed =
        session.file.update(&mut OsRandom, |wallet, _| Ok(wallet.compare_holders(&holders, asked)))?;
    let is_left_out = |it: &Unnamed| it.missing == Missing::LeftOut;
    let (left_out, awaited): (Vec<_>, Vec<_>) = unnamed.into_iter().partition(is_left_out);
    let list: Vec<_> = holders
        .iter()
        .map(|it| json!({ "hospital": it.hospital, "name": it.name, "linked": it.linked.to_string() }))
        .collect();
    let of = |unnamed: &[Unnamed]| -> Vec<_> {
        let one = |it: &Unnamed| {
            json!({
                "hospital": it.hospital, "linked": it.linked.to_string(),
                "named": it.named.map(|at| at.to_string()), "ended": it.ended.map(|at| at.to_string()),
                "overdue": it.missing == Missing::Overdue,
            })
        };
        unnamed.iter().map(one).collect()
    };
    let data = json!({ "hospitals": list, "left_out": of(&left_out), "not_yet_named": of(&awaited) });
    session.output.emit("handover/patient-locate/1", &data, |out| {
        if holders.is_empty() {
            writeln!(out, "No hospital is named.")?;
        }
        for it in &holders {
            writeln!(out, "{} ({}), linked {}", it.hospital, plain(&it.name), it.linked)?;
        }
        for it in &awaited {
            write!(out, "{}, linked {}: ", it.hospital, it.linked)?;
            if it.missing == Missing::Overdue {
                writeln!(out, "no answer ever named it. Ask that hospital whether the index has the link.")?;
            } else {
                writeln!(out, "the index may not have been told yet")?;
            }
        }
        for it in &left_out {
            writeln!(out, "LEFT OUT: {}, linked {}. The answer should name it.", it.hospital, it.linked)?;
            if let Some(ended) = it.ended {
                writeln!(out, "  Who answers for it said at {ended} that there is no link any more.")?;
            }
        }
        if !left_out.is_empty() {
            writeln!(
                out,
                "What is left out can be asked all the same (ask --source HOSPITAL). Tell the federation's \
                 operators: a link that a hospital has ended is named, too."
            )?;
        }
        Ok(())
    })
}

/// The hospitals that the index names, and when they were asked for.
fn fetch_holders(session: &Session, by: &args::Questioning) -> Result<(Vec<Holder>, Timestamp), CliError> {
    let (client, patience) = session.node(&by.node)?;
    patience.hold(|| session.meet(&client))?;
    let wallet = session.file.read()?;
    patience.hold(|| {
        let ask = make_ask(&wallet.keys, Question::Locate, now(), &mut OsRandom);
        Ok((open_holders(&wallet.keys, &ask, &client.locate(ask.envelope())?)?.hospitals, ask.issued))
    })
}

pub(crate) fn ask(session: &Session, options: &args::Ask) -> Result<(), CliError> {
    let (channel, met) = session.way(&options.way)?;
    let met = met.ok_or_else(|| CliError::new(Code::UsageInvalid, "--hospital-info FILE is needed"))?;
    let (source, destination) = (&options.source, &met.hospital);
    let (transfer, envelope) = session.file.update(&mut OsRandom, |wallet, random| {
        wallet.ask(options.transfer_id, (source, destination), &met.federation, now(), random)
    })?;
    let files = channel.send(&[("", &envelope)]).map_err(|fault| {
        fault.with_next(format!("The question is in the wallet: to repeat it, add --transfer-id {transfer}."))
    })?;
    let (source_name, source_code) = named(&met.federation, source)?;
    let (destination_name, destination_code) = named(&met.federation, destination)?;
    let data = json!({
        "transfer": transfer, "files": files,
        "source": { "hospital": source, "name": source_name, "code": source_code },
        "destination": { "hospital": destination, "name": destination_name, "code": destination_code },
    });
    session.output.emit("handover/patient-ask/1", &data, |out| {
        writeln!(out, "Transfer: {transfer}")?;
        writeln!(out, "From: {source} ({source_name}), key {source_code}")?;
        writeln!(out, "To: {destination} ({destination_name}), key {destination_code}")?;
        line_of_files(out, &files)?;
        writeln!(out, "Next: the desk at {destination} asks {source} for a quote; inbox shows it")
    })
}

pub(crate) fn consent(session: &Session, options: &args::Consent) -> Result<(), CliError> {
    let (channel, met) = session.way(&options.way)?;
    let met = look(session, &channel, met, &options.transfer)?;
    let federation = session.federation(met)?;
    let destination = session.file.read()?.transfer(&options.transfer)?.destination.clone();
    let (name, code) = named(&federation, &destination)?;
    if options.expect_code.as_ref().is_some_and(|expected| !expected.trim().eq_ignore_ascii_case(&code)) {
        return Err(WalletError::ShortCode { found: code }.into());
    }
    session
        .output
        .note(format!("Destination: {destination} ({name}). Its screen must show the code {code}."));
    let wish = Wish {
        departments: options.departments.clone(),
        from: options.from,
        until: options.until,
        without_restricted: options.without_restricted,
        fee_cap: options.max_fee,
        life_hours: options.expires_hours,
        continuous: options.continuous,
    };
    let given = session.file.update(&mut OsRandom, |wallet, random| {
        wallet.consent(&options.transfer, &wish, !options.no_release, &federation, now(), random)
    })?;
    let mut contents = vec![("", given.consent.envelope())];
    if let Some(release) = given.release.as_deref().filter(|_| !options.no_release) {
        contents.push((".share-release", release));
    }
    let files = channel.send(&contents)?;
    let ConsentDetails { scope, purpose, .. } = &given.details;
    let consent = &given.consent;
    let data = json!({
        "transfer": options.transfer, "consent": consent.hash(), "repeated": given.repeated, "files": files,
        "destination": { "hospital": destination, "name": name, "code": code },
        "scope": scope_json(scope), "purpose": purpose.as_str(), "released": given.release.is_some(),
        "fee_cap": consent.fee_cap.to_decimal_string(), "currency": consent.fee_cap.currency().as_str(),
        "expires": consent.expires.to_string(), "mode": consent.mode.as_str(),
    });
    session.output.emit("handover/patient-consent/1", &data, |out| {
        writeln!(out, "Consented: {} to {destination} ({name}), key {code}", options.transfer)?;
        writeln!(out, "Records: {}", scope_text(scope))?;
        if consent.mode == ConsentMode::Continuous {
            writeln!(out, "Goes on: what is new or changed of these records follows by itself, without asking you again,")?;
            writeln!(out, "until {} or until you take it back (revoke).", consent.expires)?;
            writeln!(out, "At most: {} for all of it together; each test is charged once", consent.fee_cap)?;
        } else {
            writeln!(out, "At most: {}, until {}", consent.fee_cap, consent.expires)?;
        }
        let share = if given.release.is_some() { "released" } else { "kept back" };
        writeln!(out, "Your share: {share}")?;
        line_of_files(out, &files)
    })
}

/// Looks at what is there about a transfer, so that what is signed is about the newest; by file, what is held is. Who was
/// met for that in the end.
fn look(
    session: &Session,
    channel: &Channel,
    met: Option<Met>,
    transfer: &TransferId,
) -> Result<Option<Met>, CliError> {
    let (Channel::Node(client, patience), Some(met)) = (channel, &met) else { return Ok(met) };
    let believed = |met: &Met| -> Result<_, CliError> {
        let entries = patience.hold(|| session.fetch_inbox(client, met))?.entries;
        let entry = entries.into_iter().find(|entry| entry.transfer == *transfer);
        Ok(entry.map_or(Ok(()), |entry| entry.outcome.map(drop)))
    };
    if believed(met)?.is_ok() {
        return Ok(Some(met.clone()));
    }
    // Whoever signed it may have replaced their keys while this waited.
    let met = session.meet(client)?;
    believed(&met)?.map_err(CliError::from)?;
    Ok(Some(met))
}

pub(crate) fn release(session: &Session, options: &OnTransfer) -> Result<(), CliError> {
    // The destination may have asked for another attempt, with another key.
    let (channel, met) = session.way(&options.way)?;
    look(session, &channel, met, &options.transfer)?;
    let content = |wallet: &mut Wallet| wallet.release(&options.transfer, now(), &mut OsRandom);
    send_one(session, options, "handover/patient-release/1", "Your share is released", content)
}

pub(crate) fn refuse(session: &Session, options: &OnTransfer) -> Result<(), CliError> {
    let content = |wallet: &mut Wallet| wallet.refuse(&options.transfer, now());
    send_one(session, options, "handover/patient-refuse/1", "Refused", content)
}

pub(crate) fn revoke(session: &Session, options: &OnTransfer) -> Result<(), CliError> {
    let content = |wallet: &mut Wallet| wallet.revoke(&options.transfer, now());
    send_one(session, options, "handover/patient-revoke/1", "Taken back", content)
}

/// Puts an artefact into the wallet, then sends it. Nobody's keys are needed for it, so that taking a consent back
/// works whatever the directory says.
fn send_one(
    session: &Session,
    options: &OnTransfer,
    schema: &str,
    done: &str,
    content: impl FnOnce(&mut Wallet) -> Result<Vec<u8>, WalletError>,
) -> Result<(), CliError> {
    let channel = session.channel(&options.way)?;
    let content = session.file.update(&mut OsRandom, |wallet, _| content(wallet))?;
    let files = channel.send(&[("", &content)])?;
    let data = json!({ "transfer": options.transfer, "files": files });
    session.output.emit(schema, &data, |out| {
        writeln!(out, "{done}: {}", options.transfer)?;
        line_of_files(out, &files)
    })
}
