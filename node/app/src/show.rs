//! Answers as people read them.

mod emergency;
mod fees;
mod incidents;
mod moving;
mod recalls;
mod rejoin;
mod remote;
mod status;

use std::io::{self, Write};
use std::path::Path;

use handover_cli::CliError;
use handover_core::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT, Phase};
use handover_net::peer_id;
use serde::Serialize;

use crate::config::Config;
use crate::enrol::Enrolled;
use crate::import::Imported;
use crate::keys::Secrets;
use crate::operations::{
    ASKED, Carried, Checked, DeliveryShown, Dismissed, EpochRotated, EpochsListed, FolderShown, LinkLine,
    LinksListed, OwedShown, PatientForgotten, PatientRegistered, RecordsListed, ReferralShown,
    ReferralWithdrawn, ReferralsListed, Resent, TransferShown, TransfersListed,
};

pub(crate) use emergency::{ClinicianMade, clinician, clinician_made, clinicians, glass, glasses, opened};
pub(crate) use fees::fees;
pub(crate) use incidents::{incident, incidents};
pub(crate) use moving::{StoreMoved, StoreReopened, store_moved, store_reopened};
pub(crate) use recalls::{recall_made, recalled_record, recalls};
pub(crate) use rejoin::rejoin;
pub(crate) use remote::{remote_link, remote_links, unlinked, wallets};
pub(crate) use status::status;

type Out<'a> = &'a mut dyn Write;

/// What `init` made; public halves only.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Initialised {
    hospital: String,
    data: String,
    /// Thumbprint of the signing key, to be compared by another way before the root signs.
    key: String,
    rsa_key: String,
    peer: String,
}

impl Initialised {
    pub(crate) fn of(config: &Config, secrets: &Secrets) -> Result<Self, CliError> {
        let keys = secrets.newest()?;
        let rsa = keys.rsa().map_err(|fault| CliError::new(fault.code(), fault.to_string()))?;
        let peer = peer_id(&keys.net().public());
        Ok(Self {
            hospital: config.hospital.id.to_string(),
            data: config.data.display().to_string(),
            key: keys.signing().public().to_string(),
            rsa_key: rsa.public().thumbprint().to_string(),
            peer: peer.map_err(|fault| CliError::new(fault.code(), fault.to_string()))?,
        })
    }
}

pub(crate) fn initialised(out: Out<'_>, made: &Initialised) -> io::Result<()> {
    writeln!(out, "{} is initialised in {}.", made.hospital, made.data)?;
    writeln!(out, "Signing key: {}", made.key)?;
    writeln!(out, "Next: run, then enrol. Compare the signing key with the operators before the root signs.")
}

pub(crate) fn renewed(out: Out<'_>, made: &Initialised) -> io::Result<()> {
    writeln!(out, "{} has further keys in {}; those before stay in force.", made.hospital, made.data)?;
    writeln!(out, "Signing key: {}", made.key)?;
    writeln!(
        out,
        "Next: start the node again, then enrol. Compare the signing key with the operators before the root"
    )?;
    writeln!(out, "signs. Once two operators have approved it the node ends by itself: start it again then.")
}

pub(crate) fn enrolled(out: Out<'_>, enrolled: &Enrolled) -> io::Result<()> {
    let Enrolled { hospital, key, profile, status } = enrolled;
    writeln!(out, "{hospital}: {status} (profile {profile}, signing key {key})")
}

pub(crate) fn registered(out: Out<'_>, registered: &PatientRegistered) -> io::Result<()> {
    writeln!(out, "{} is registered. Link code, for 24 hours: {}", registered.patient, registered.link_code)?;
    writeln!(out, "The wallet must show {} for this hospital.", registered.hospital_code)
}

pub(crate) fn links(out: Out<'_>, listed: &LinksListed) -> io::Result<()> {
    if listed.resent > 0 {
        writeln!(out, "{} links are told to the index again", listed.resent)?;
    }
    if listed.links.is_empty() {
        writeln!(out, "The index knows every link.")?;
    }
    for LinkLine { patient, state, code, since } in &listed.links {
        let why = code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        let since = since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        writeln!(out, "{patient} {state}{why}{since}")?;
    }
    Ok(())
}

pub(crate) fn forgotten(out: Out<'_>, gone: &PatientForgotten) -> io::Result<()> {
    let PatientForgotten { patient, records, versions, blobs, rotation_due } = gone;
    writeln!(
        out,
        "{patient} is forgotten here: {records} records in {versions} versions and {blobs} blobs are gone."
    )?;
    writeln!(out, "The audit log and the signed artefacts of transfers stay; neither has content.")?;
    if *rotation_due {
        writeln!(out, "Copies of the store from before still open: epoch rotate ends that.")?;
    }
    Ok(())
}

pub(crate) fn epochs(out: Out<'_>, listed: &EpochsListed) -> io::Result<()> {
    for line in &listed.epochs {
        writeln!(out, "epoch {} since {}: {} secrets", line.epoch, line.since, line.secrets)?;
    }
    for (kind, count) in &listed.secrets {
        writeln!(out, "  {kind:<24} {count:>9}")?;
    }
    if listed.damaged > 0 {
        writeln!(out, "Do not open: {}. Restore the store from a backup.", listed.damaged)?;
    }
    writeln!(out, "Keys: {}", listed.folder)?;
    if listed.epochs.len() > 1 {
        writeln!(out, "A rotation is not complete: give epoch rotate.")?;
    }
    for (kind, count) in &listed.forgotten {
        writeln!(out, "Forgotten since: {kind} {count}")?;
    }
    if !listed.forgotten.is_empty() {
        writeln!(out, "Copies of the store from before still open that: epoch rotate ends it.")?;
    }
    Ok(())
}

pub(crate) fn rotated(out: Out<'_>, rotated: &EpochRotated) -> io::Result<()> {
    let destroyed: Vec<_> = rotated.destroyed.iter().map(u64::to_string).collect();
    writeln!(
        out,
        "Epoch {} holds: {} secrets moved, key of epoch {} destroyed.",
        rotated.epoch,
        rotated.moved,
        destroyed.join(", ")
    )?;
    if rotated.given_up > 0 {
        writeln!(out, "{} secrets did not open and are given up.", rotated.given_up)?;
    }
    writeln!(
        out,
        "What was forgotten before opens nowhere, once the second copy of the keys is overwritten too:"
    )?;
    writeln!(out, "copy {} over it now. Backups of the store from before do not open", rotated.folder)?;
    writeln!(out, "any more: make a new one.")
}

pub(crate) fn taken(out: Out<'_>, taken: &Carried, written: Option<&Path>) -> io::Result<()> {
    match &taken.transfer {
        Some(transfer) => writeln!(out, "Taken: {} for transfer {transfer}", taken.kind)?,
        None => writeln!(out, "Taken: {}", taken.kind)?,
    }
    match (written, &taken.answer) {
        (Some(path), _) => writeln!(out, "Written: {}", path.display()),
        (None, Some(_)) => writeln!(out, "There is an answer for the patient: give --out FILE."),
        (None, None) => Ok(()),
    }
}

pub(crate) fn imported(out: Out<'_>, imported: &Imported) -> io::Result<()> {
    let counts = imported.records;
    writeln!(
        out,
        "{} files: {} records new, {} unchanged, {} with a new version",
        imported.files,
        counts.new,
        counts.unchanged,
        counts.new_versions + counts.current_again
    )?;
    for (department, count) in &imported.departments {
        writeln!(out, "  {department:<24} {count:>9}")?;
    }
    if imported.kept_aside > 0 {
        writeln!(out, "{} entries could not be read and are named above", imported.kept_aside)?;
    }
    for merged in &imported.merged {
        let (patient, by) = (&merged.patient, &merged.replaced_by);
        writeln!(out, "Patient {patient} was replaced by {by}. Their records stay as they are.")?;
        for sent in &merged.sent {
            writeln!(
                out,
                "  sent to {} before: {} records, transfer {}",
                sent.hospital, sent.records, sent.transfer
            )?;
        }
        match (&merged.recall, &merged.not_looked_up) {
            (Some(recall), Some(code)) => {
                writeln!(out, "  Who was sent what before could not be looked up ({code}); later: {recall}")?
            }
            (Some(recall), None) => {
                writeln!(out, "  If they are another person's: {recall}; then without --preview.")?
            }
            (None, _) => writeln!(out, "  Nothing of {patient} was sent to anybody.")?,
        }
    }
    if imported.merged_unnamed > 0 {
        writeln!(out, "{} more were replaced and are not named", imported.merged_unnamed)?;
    }
    Ok(())
}

/// On stderr: a line for people, or a JSON object.
pub(crate) fn kept_aside(json: bool, file: &str, entry: &str, reason: &str, kept: bool) {
    let mut stderr = io::stderr().lock();
    // What cannot be written to stderr cannot be told there either; the counts still tell.
    let _ = if json {
        let document = serde_json::json!({
            "schema": "handover/kept-aside/1", "file": file, "entry": entry, "reason": reason, "kept": kept,
        });
        writeln!(stderr, "{document}")
    } else {
        let kept = if kept { "kept aside" } else { "not kept" };
        writeln!(stderr, "{file}: {entry}: {reason} ({kept})")
    };
}

pub(crate) fn records(out: Out<'_>, listed: &RecordsListed) -> io::Result<()> {
    for line in &listed.records {
        let date = line.date.as_deref().and_then(|date| date.get(..10)).unwrap_or("-");
        writeln!(
            out,
            "{} {:<16} {:<24} {:<10} {:>9} v{} {} {}{}{}",
            line.record,
            line.department,
            line.resource_type,
            date,
            line.bytes,
            line.version,
            line.origin,
            line.id,
            if line.restricted { " (restricted)" } else { "" },
            line.recalled.as_ref().map(|mark| format!(" {}", mark.text())).unwrap_or_default()
        )?;
        if let (Some(name), Some(media_type)) = (&line.file_name, &line.media_type) {
            writeln!(out, "  file {name} ({media_type})")?;
        }
    }
    for (department, count) in &listed.departments {
        writeln!(out, "  {department:<24} {count:>9}")?;
    }
    Ok(())
}

pub(crate) fn transfers(out: Out<'_>, listed: &TransfersListed) -> io::Result<()> {
    listed.transfers.iter().try_for_each(|transfer| line(out, transfer))
}

fn line(out: Out<'_>, shown: &TransferShown) -> io::Result<()> {
    let reason = shown.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let TransferShown { transfer, state, source, destination, patient, .. } = shown;
    let patient = patient.get(..12).unwrap_or(patient);
    let continues = shown.continues.as_ref().map(|origin| format!(" continues {origin}")).unwrap_or_default();
    writeln!(out, "{transfer} {state}{reason} {source} -> {destination} patient {patient}{continues}")
}

pub(crate) fn transfer(out: Out<'_>, shown: &TransferShown) -> io::Result<()> {
    line(out, shown)?;
    if shown.state == ASKED {
        writeln!(out, "  it waits for the desk: transfer request, or transfer dismiss")?;
    }
    for (department, count) in shown.departments.iter().flatten() {
        writeln!(out, "  {department:<24} {count:>9}")?;
    }
    if let (Some(fee), Some(currency), Some(basis), Some(payer)) =
        (&shown.fee, &shown.currency, &shown.basis, &shown.payer)
    {
        let (priced, unpriced) = (shown.tests_priced.unwrap_or(0), shown.tests_unpriced.unwrap_or(0));
        let others = shown.other_tests.filter(|others| *others > 0);
        let others = others.map(|count| format!(", {count} that are not sent")).unwrap_or_default();
        writeln!(
            out,
            "  tests: {priced} priced, {unpriced} without a price{others}; {basis} {currency} in all"
        )?;
        if let Some(before @ 1..) = shown.tests_charged_before {
            writeln!(out, "  {before} tests were charged by an earlier transfer and add nothing")?;
        }
        match (shown.state.parse(), shown.fee_standing.as_deref()) {
            (Ok(Phase::Filed), _) => {
                writeln!(out, "  fee: {fee} {currency}, owed by the {payer}")?;
                if let Some(back) = &shown.fee_back {
                    writeln!(out, "  recalled since: {} times, {back} {currency} given back", shown.recalls)?;
                }
            }
            (Ok(Phase::Revoked), Some("held")) => {
                writeln!(
                    out,
                    "  quoted fee: {fee} {currency}; the index holds it, or let it go at the patient's no"
                )?;
            }
            (_, Some("held")) => {
                writeln!(out, "  quoted fee: {fee} {currency}; the index holds what was reserved")?;
            }
            (Ok(phase), Some("stands")) if phase.is_final() => {
                writeln!(out, "  fee: {fee} {currency}, owed by the {payer} for an earlier attempt")?;
            }
            (Ok(phase), _) if phase.is_final() => {
                writeln!(out, "  quoted fee: {fee} {currency}; nothing is due, the transfer is {phase}")?;
            }
            _ => writeln!(
                out,
                "  quoted fee: {fee} {currency}, for the {payer}; due once the records are filed"
            )?,
        }
    }
    if let Some(OwedShown { doctor, fee, currency, accepted, .. }) = &shown.referral {
        let doctor = doctor.as_deref().unwrap_or("somebody whose name cannot be read");
        writeln!(out, "  referred by {doctor}; the fee of {fee} {currency} is this hospital's")?;
        match accepted {
            Some(cap) => writeln!(out, "  accepted up to {cap} {currency}")?,
            None if shown.state.parse().is_ok_and(Phase::is_final) => writeln!(out, "  it was not accepted")?,
            None => writeln!(out, "  not accepted yet: transfer accept, or transfer refuse")?,
        }
    }
    let is_again = shown.attempt > Some(FIRST_ATTEMPT);
    if let Some(attempt) = shown.attempt.filter(|_| is_again) {
        writeln!(out, "  attempt {attempt} of {LAST_ATTEMPT}; the fee is the same")?;
    }
    if shown.awaits_release {
        let word = if is_again { "has to release again" } else { "has not released yet" };
        writeln!(out, "  the patient {word} (handover-patient release)")?;
    }
    if let Some(FolderShown { until, problem, text }) = &shown.folder {
        if let Some(until) = until {
            writeln!(
                out,
                "  the package waits in {}'s folder at the index until {until}",
                shown.destination
            )?;
        }
        if let (Some(problem), Some(text)) = (problem, text) {
            writeln!(out, "  the index does not keep the package ({problem}): {text}")?;
        }
    }
    if shown.waiting > 0 || shown.dead_letters > 0 {
        writeln!(out, "  {} parcels wait, {} were refused for good", shown.waiting, shown.dead_letters)?;
    }
    for refused in &shown.refused {
        writeln!(out, "  refused by {}: {}; transfer resend sends it again", refused.party, refused.code)?;
    }
    if shown.deliveries_count > 0 {
        writeln!(
            out,
            "  continued by {} deliveries under the same consent; the newest:",
            shown.deliveries_count
        )?;
    }
    for DeliveryShown { transfer, state, reason } in &shown.deliveries {
        let reason = reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        writeln!(out, "    {transfer} {state}{reason}")?;
    }
    shown.waits.iter().try_for_each(|wait| writeln!(out, "  {}", wait.line()))
}

pub(crate) fn referral(out: Out<'_>, shown: &ReferralShown) -> io::Result<()> {
    let ReferralShown { patient, destination, doctor, expires, .. } = shown;
    writeln!(out, "{patient} to {destination}, by {doctor}, until {expires}; {destination} owes the fee")
}

pub(crate) fn referrals(out: Out<'_>, listed: &ReferralsListed) -> io::Result<()> {
    if listed.referrals.is_empty() {
        writeln!(out, "No referral stands.")?;
    }
    listed.referrals.iter().try_for_each(|shown| referral(out, shown))
}

pub(crate) fn withdrawn(out: Out<'_>, gone: &ReferralWithdrawn) -> io::Result<()> {
    writeln!(out, "{} is referred to {} no more", gone.patient, gone.destination)
}

pub(crate) fn dismissed(out: Out<'_>, gone: &Dismissed) -> io::Result<()> {
    writeln!(out, "{}: the ask waits no more", gone.transfer)
}

pub(crate) fn resent(out: Out<'_>, resent: &Resent) -> io::Result<()> {
    writeln!(out, "{}: {} parcels are on their way again", resent.transfer, resent.resent)
}

pub(crate) fn checked(out: Out<'_>, checked: &Checked) -> io::Result<()> {
    writeln!(
        out,
        "{} cells, {} patients, {} records in {} versions, {} blobs, {} audit lines: {}",
        checked.cells,
        checked.patients,
        checked.records,
        checked.versions,
        checked.blobs,
        checked.audit_lines,
        if checked.whole { "whole" } else { "DAMAGED" }
    )?;
    if checked.forgetting_completed > 0 {
        writeln!(out, "  {} patients were forgotten to the end", checked.forgetting_completed)?;
    }
    if checked.being_forgotten > 0 {
        writeln!(out, "  {} patients are being forgotten", checked.being_forgotten)?;
    }
    for key in &checked.damaged_keys {
        writeln!(out, "  damaged cell {key}")?;
    }
    for fault in &checked.faulty {
        writeln!(out, "  {fault}")?;
    }
    for repair in &checked.repairs {
        writeln!(out, "  repaired {repair}")?;
    }
    checked.audit_broken_at.map_or(Ok(()), |line| writeln!(out, "  the audit log is broken at line {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_is_claimed_only_where_it_is_owed() {
        for (state, standing, says) in [
            ("quoted", "stands", "quoted fee: 10.00 USD, for the patient; due once the records are filed"),
            ("filed", "stands", "fee: 10.00 USD, owed by the patient"),
            ("refused", "gone", "quoted fee: 10.00 USD; nothing is due, the transfer is refused"),
            ("revoked", "gone", "quoted fee: 10.00 USD; nothing is due, the transfer is revoked"),
            (
                "revoked",
                "held",
                "quoted fee: 10.00 USD; the index holds it, or let it go at the patient's no",
            ),
            ("failed", "stands", "fee: 10.00 USD, owed by the patient for an earlier attempt"),
            ("failed", "held", "quoted fee: 10.00 USD; the index holds what was reserved"),
            ("expired", "gone", "quoted fee: 10.00 USD; nothing is due, the transfer is expired"),
        ] {
            let text = |text: &str| Some(text.to_owned());
            let shown = TransferShown {
                state: state.to_owned(),
                fee_standing: text(standing),
                fee: text("10.00"),
                currency: text("USD"),
                basis: text("200.00"),
                payer: text("patient"),
                ..TransferShown::default()
            };
            let mut out = Vec::new();
            transfer(&mut out, &shown).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert!(out.lines().any(|line| line.trim() == says), "{out}");
        }
    }
}
