//! What people and programs see of transfers.

mod noticed;

use std::collections::BTreeSet;
use std::io::{self, Write};

use handover_cli::CliError;
use handover_core::artefact::patient::{ConsentMode, Scope};
use handover_core::artefact::recall::RecallReason;
use handover_core::artefact::transfer::RevocationEffect;
use handover_core::message::RecallNotice;
use handover_core::trust::Federation;
use handover_core::{HospitalId, Timestamp};
use handover_patient::state::KnownTransfer;
use handover_patient::{QuoteView, Reviewed, Wallet, WalletError};
use serde_json::{Map, Value, json};

use crate::args;
use crate::commands::named;
use crate::session::{Session, now};

pub(crate) use noticed::{noticed_json, print_noticed};

pub(crate) fn line_of_files(out: &mut dyn Write, files: &[String]) -> io::Result<()> {
    files.iter().try_for_each(|file| writeln!(out, "Written: {file}"))
}

/// A text of somebody else's, for a terminal: without control characters, which could rewrite what stands there.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|each| if each.is_control() { '\u{fffd}' } else { each }).collect()
}

fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

pub(crate) fn scope_json(scope: &Scope) -> Value {
    json!({
        "departments": scope.departments, "from": time(scope.from), "until": time(scope.until),
        "without_restricted": scope.without_restricted,
    })
}

pub(crate) fn scope_text(scope: &Scope) -> String {
    let mut text = match &scope.departments {
        None => "all departments".to_owned(),
        Some(departments) => {
            departments.iter().map(|department| department.as_str()).collect::<Vec<_>>().join(", ")
        }
    };
    for (word, at) in [("from", scope.from), ("before", scope.until)] {
        if let Some(at) = at {
            text.push_str(&format!(", {word} {at}"));
        }
    }
    if scope.without_restricted {
        text.push_str(", without restricted records");
    }
    text
}

fn hospital_json(hospital: &HospitalId, federation: Option<&Federation>) -> Value {
    let (name, code) = federation.and_then(|all| named(all, hospital).ok()).unzip();
    json!({ "hospital": hospital, "name": name, "code": code })
}

fn hospital_text(hospital: &HospitalId, federation: Option<&Federation>) -> String {
    match federation.and_then(|all| named(all, hospital).ok()) {
        Some((name, code)) => format!("{hospital} ({name}), key {code}"),
        None => hospital.to_string(),
    }
}

/// How many tests an earlier transfer charged.
fn charged_before(view: &QuoteView) -> usize {
    view.body.lines.iter().filter(|line| line.charged_by.is_some()).count()
}

fn quote_json(view: &QuoteView) -> Value {
    let body = &view.body;
    let departments: Map<String, Value> =
        body.departments.iter().map(|it| (it.department.to_string(), json!(it.records))).collect();
    let tests: Vec<Value> = body
        .lines
        .iter()
        .map(|line| {
            json!({
                "record": line.record, "date": line.date, "system": line.system, "code": line.code,
                "display": line.display, "price": line.price, "charged_by": line.charged_by,
            })
        })
        .collect();
    json!({
        "hash": view.quote.hash(), "scope": scope_json(&body.scope), "departments": departments,
        "records": body.records, "restricted": body.restricted, "bytes": body.bytes, "tests": tests,
        "tests_priced": body.lines.iter().filter(|line| line.price.is_some()).count(),
        "tests_unpriced": body.unpriced, "tests_charged_before": charged_before(view),
        "other_tests": body.other_tests.as_ref().map(|it| it.tests),
        "basis": body.basis, "rate_bps": body.rate_bps,
        "fee": body.fee.to_decimal_string(), "currency": body.fee.currency().as_str(),
        "payer": body.payer.as_str(), "issued": view.quote.issued.to_string(),
        "expires": view.quote.expires.to_string(),
    })
}

pub(crate) fn reviewed_json(it: &Reviewed, needs_answer: bool, federation: Option<&Federation>) -> Value {
    let confirmations: Vec<Value> = it
        .confirmations
        .iter()
        .map(|it| json!({ "by": it.by, "since": it.since.to_string(), "effect": it.effect.as_str() }))
        .collect();
    let recalls: Vec<Value> = it
        .recalls
        .iter()
        .map(|it| {
            json!({
                "number": it.number, "reason": it.reason.map(RecallReason::as_str), "records": it.records,
                "other_tests": it.other_tests, "fee_back": it.fee_back.to_decimal_string(), "currency": it.fee_back.currency().as_str(),
                "fee_computed": it.fee_computed.map(|fee| fee.to_decimal_string()),
                "issued": it.issued.to_string(), "marked": time(it.marked),
            })
        })
        .collect();
    let consent = it.consent.as_ref().map(|consent| {
        json!({
            "hash": consent.hash(), "expires": consent.expires.to_string(),
            "fee_cap": consent.fee_cap.to_decimal_string(), "currency": consent.fee_cap.currency().as_str(),
            "mode": consent.mode.as_str(),
        })
    });
    json!({
        "transfer": it.transfer, "phase": it.state.phase.as_str(),
        "reason": it.state.reason.map(|code| code.as_str()), "needs_answer": needs_answer,
        "continues": it.continues, "attempt": it.state.attempt, "asked_again": it.next_attempt.as_ref().map(|next| next.attempt),
        "source": hospital_json(&it.source, federation),
        "destination": hospital_json(&it.destination, federation),
        "requested": it.request.as_ref().map(|found| found.request.issued.to_string()),
        "quote": it.quote.as_ref().map(quote_json), "final_quote": it.final_quote.as_ref().map(quote_json),
        "consent": consent, "confirmations": confirmations, "recalls": recalls, "updated": it.updated.to_string(),
    })
}

pub(crate) fn print_reviewed(
    out: &mut dyn Write,
    it: &Reviewed,
    needs_answer: bool,
    federation: Option<&Federation>,
) -> io::Result<()> {
    let mark = if needs_answer { "  <- needs your answer" } else { "" };
    writeln!(out, "{}: {}{mark}", it.transfer, it.state.phase)?;
    if let Some(reason) = it.state.reason {
        writeln!(out, "  why: {} [{reason}]", reason.text())?;
    }
    writeln!(out, "  {} asks", hospital_text(&it.destination, federation))?;
    writeln!(out, "  {} holds the records", hospital_text(&it.source, federation))?;
    if let Some(origin) = &it.continues {
        writeln!(out, "  follows {origin} under the same consent: new and changed records")?;
    }
    if let Some(view) = &it.quote {
        print_quote(out, "quote", view)?;
    }
    if let Some(view) = &it.final_quote {
        print_quote(out, "final quote, for what you consented to", view)?;
    }
    if let Some(consent) = &it.consent {
        let (goes_on, in_all) = match consent.mode {
            ConsentMode::OneTime => ("", ""),
            ConsentMode::Continuous => (" goes on", " in all"),
        };
        writeln!(out, "  consent{goes_on}: at most {}{in_all}, until {}", consent.fee_cap, consent.expires)?;
    }
    if let Some(next) = &it.next_attempt {
        print_asked_again(out, next.attempt, &it.destination, needs_answer)?;
    }
    it.recalls.iter().try_for_each(|recall| print_recall(out, recall, it))?;
    it.confirmations.iter().try_for_each(|confirmed| match confirmed.effect {
        RevocationEffect::InTime => {
            writeln!(out, "  taken back: {} confirms, since {}", confirmed.by, confirmed.since)
        }
        RevocationEffect::TooLate => {
            writeln!(
                out,
                "  taken back too late for {}, which had acted on the consent by {}",
                confirmed.by, confirmed.since
            )
        }
        RevocationEffect::Ended => {
            writeln!(
                out,
                "  taken back: {} confirms, since {}; what had come by then stays, nothing more follows",
                confirmed.by, confirmed.since
            )
        }
    })
}

/// What was wrong, and whether who reads it there sees that.
fn print_recall(out: &mut dyn Write, recall: &RecallNotice, of: &Reviewed) -> io::Result<()> {
    let why = match recall.reason {
        Some(RecallReason::Amended) => "there is a newer version",
        Some(RecallReason::Retracted) => "they should not stand at all",
        Some(RecallReason::WrongPatient) => "they are somebody else's",
        None => "it is not known there why",
    };
    let (records, source, destination) = (recall.records, &of.source, &of.destination);
    let others = match recall.other_tests {
        0 => String::new(),
        tests => format!(" and {tests} tests that were not sent and that the fee was made of"),
    };
    writeln!(out, "  {records} records{others} were wrong, says {source} on {}: {why}", recall.issued)?;
    match recall.marked {
        Some(since) => writeln!(out, "    {destination} has marked them since {since}")?,
        None => writeln!(out, "    {destination} has not confirmed yet that it marked them")?,
    }
    if let Some(computed) = recall.fee_computed.filter(|computed| *computed != recall.fee_back) {
        let back = recall.fee_back;
        return writeln!(
            out,
            "    MISMATCH: {source} gives {back} of the fee back, {destination} computes {computed}; ask {source}"
        );
    }
    match recall.fee_back.minor() {
        0 => Ok(()),
        _ => writeln!(out, "    {} of the fee is given back", recall.fee_back),
    }
}

/// What has happened, what it costs, and what the patient has to do.
fn print_asked_again(
    out: &mut dyn Write,
    attempt: u32,
    destination: &HospitalId,
    needs_answer: bool,
) -> io::Result<()> {
    writeln!(
        out,
        "  attempt {attempt}: {destination} lost what was sent, or the key to it, and asks once more"
    )?;
    writeln!(out, "    under the same consent, for the same fee")?;
    if needs_answer { writeln!(out, "    your share has to be released again: release") } else { Ok(()) }
}

fn print_quote(out: &mut dyn Write, title: &str, view: &QuoteView) -> io::Result<()> {
    let body = &view.body;
    writeln!(out, "  {title}: {} records, {} bytes ({})", body.records, body.bytes, scope_text(&body.scope))?;
    for count in &body.departments {
        writeln!(out, "    {:<24} {}", count.department, count.records)?;
    }
    if body.restricted > 0 {
        writeln!(
            out,
            "    {} of them are marked as restricted (consent --without-restricted)",
            body.restricted
        )?;
    }
    for line in &body.lines {
        let missing = if line.charged_by.is_some() { "paid before" } else { "no price" };
        let price = line.price.as_deref().unwrap_or(missing);
        let date = line.date.as_deref().unwrap_or("undated");
        // Not every hospital says what a code is called.
        let named = [&line.display, &line.code].into_iter().find(|it| !it.is_empty()).unwrap_or(&line.record);
        writeln!(out, "    {:>12}  {} ({})", plain(price), plain(named), plain(date))?;
    }
    if body.unpriced > 0 {
        writeln!(out, "    {} tests have no price and add nothing", body.unpriced)?;
    }
    for by in body.lines.iter().filter_map(|line| line.charged_by).collect::<BTreeSet<_>>() {
        let tests = body.lines.iter().filter(|line| line.charged_by == Some(by)).count();
        writeln!(out, "    {tests} tests were charged by {by} before and add nothing")?;
    }
    if let Some(others) = &body.other_tests {
        let (tests, basis) = (others.tests, plain(&others.basis));
        writeln!(out, "    {basis:>12}  {tests} other tests at that hospital, which count but are not sent")?;
    }
    let (whole, part) = (body.rate_bps / 100, body.rate_bps % 100);
    let (fee, payer) = (body.fee, body.payer);
    match body.rate_bps {
        0 => writeln!(out, "    no fee: nobody is charged for this transfer")?,
        _ => writeln!(
            out,
            "    fee {fee}: {whole}.{part:02} % of {}, paid by the {payer}",
            plain(&body.basis)
        )?,
    }
    writeln!(out, "    good until {}", view.quote.expires)
}

pub(crate) fn show(session: &Session, options: &args::Show) -> Result<(), CliError> {
    let wallet = session.file.read()?;
    let federation = wallet.federation(now()).ok();
    let federation = federation.as_ref();
    let wanted: Vec<&KnownTransfer> = match &options.transfer {
        Some(transfer) => vec![wallet.transfer(transfer)?],
        None => wallet.state.transfers.iter().collect(),
    };
    let transfers = wanted
        .iter()
        .map(|known| known_json(&wallet, known, federation))
        .collect::<Result<Vec<_>, WalletError>>()?;
    let nodes: Vec<&str> = wallet.state.nodes.iter().map(|node| node.url.as_str()).collect();
    let links: Vec<Value> = wallet
        .state
        .links
        .iter()
        .map(|link| json!({ "hospital": link.hospital, "confirmed": link.countersigned.is_some() }))
        .collect();
    let remote_links: Vec<Value> = wallet
        .state
        .remote_links
        .iter()
        .map(|link| {
            let reason = link.reason.map(|code| code.as_str());
            json!({ "hospital": link.hospital, "state": link.state.as_str(), "reason": reason })
        })
        .collect();
    let patient = wallet.keys.patient();
    let data = json!({
        "patient": patient, "remote_links": remote_links, "key_record": wallet.keys.number(),
        "replaced": wallet.state.replaced.map(|code| code.as_str()), "root": wallet.state.root, "nodes": nodes, "links": links,
        "directory": federation.map(|all| all.directory().version), "transfers": transfers,
    });
    session.output.emit("handover/patient-show/1", &data, |out| {
        writeln!(out, "Patient: {patient}")?;
        writeln!(out, "Key record: {}", wallet.keys.number())?;
        if let Some(code) = wallet.state.replaced {
            writeln!(out, "REPLACED: {} [{code}]", code.text())?;
        }
        writeln!(out, "Root: {}", wallet.state.root)?;
        for link in &wallet.state.links {
            let word = if link.countersigned.is_some() { "Linked" } else { "Link not confirmed yet" };
            writeln!(out, "{word}: {}", hospital_text(&link.hospital, federation))?;
        }
        for link in &wallet.state.remote_links {
            writeln!(out, "Remote link, {}: {}", link.state, hospital_text(&link.hospital, federation))?;
        }
        wanted.iter().try_for_each(|known| print_known(out, known, federation))
    })
}

fn known_json(
    wallet: &Wallet,
    known: &KnownTransfer,
    federation: Option<&Federation>,
) -> Result<Value, WalletError> {
    let quote = federation.and_then(|all| wallet.quote(&known.transfer, all).ok());
    let consent = known.consent(&wallet.keys)?;
    Ok(json!({
        "transfer": known.transfer,
        "source": hospital_json(&known.source, federation),
        "destination": hospital_json(&known.destination, federation),
        "phase": known.state.as_ref().map(|state| state.phase.as_str()),
        "reason": known.state.as_ref().and_then(|state| state.reason).map(|code| code.as_str()),
        "seen": time(known.seen), "quote": quote.as_ref().map(quote_json),
        "scope": known.details()?.map(|details| scope_json(&details.scope)),
        "consent": consent.as_ref().map(|consent| consent.hash()),
        "fee_cap": consent.as_ref().map(|consent| consent.fee_cap.to_decimal_string()),
        "currency": consent.as_ref().map(|consent| consent.fee_cap.currency().to_string()),
        "expires": consent.as_ref().map(|consent| consent.expires.to_string()),
        "attempt": known.state.as_ref().map(|state| state.attempt),
        "asked_again": known.next_attempt()?.map(|next| next.attempt),
        "released": known.release()?.is_some(), "refused": known.refusal.is_some(),
        "revoked": time(known.revoked),
    }))
}

fn is_over(known: &KnownTransfer) -> bool {
    known.state.as_ref().is_some_and(|state| state.phase.is_final())
}

fn print_known(
    out: &mut dyn Write,
    known: &KnownTransfer,
    federation: Option<&Federation>,
) -> io::Result<()> {
    let phase = known.state.as_ref().map_or("asked", |state| state.phase.as_str());
    writeln!(out, "{}: {phase}", known.transfer)?;
    writeln!(out, "  from {}", hospital_text(&known.source, federation))?;
    writeln!(out, "  to {}", hospital_text(&known.destination, federation))?;
    let is_released = known.release().is_ok_and(|release| release.is_some());
    if let Ok(Some(next)) = known.next_attempt() {
        let needs_answer = !is_released && known.revoked.is_none() && !is_over(known);
        print_asked_again(out, next.attempt, &known.destination, needs_answer)?;
    }
    let signed = [
        ("consent", known.consent.is_some()),
        ("share released", is_released),
        ("refusal", known.refusal.is_some()),
        ("taken back", known.revoked.is_some()),
    ];
    let signed: Vec<&str> = signed.into_iter().filter(|(_, is)| *is).map(|(word, _)| word).collect();
    if signed.is_empty() { Ok(()) } else { writeln!(out, "  signed: {}", signed.join(", ")) }
}
