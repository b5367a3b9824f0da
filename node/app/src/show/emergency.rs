//! Clinicians and break-glasses, as people read them.

use std::io;
use std::path::Path;

use handover_core::id::SigningPublic;
use serde::Serialize;

use super::Out;
use crate::operations::{ClinicianShown, CliniciansListed, GlassShown, GlassesListed, GlassesOpened};

/// A key that was made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClinicianMade {
    key: String,
    public_key: String,
}

impl ClinicianMade {
    pub(crate) fn of(path: &Path, public: &SigningPublic) -> Self {
        Self { key: path.display().to_string(), public_key: public.to_string() }
    }
}

pub(crate) fn clinician_made(out: Out<'_>, made: &ClinicianMade) -> io::Result<()> {
    writeln!(out, "{} holds the key; its public half is {}", made.key, made.public_key)?;
    writeln!(out, "Next: the hospital's officer gives clinician certify with that.")
}

pub(crate) fn clinicians(out: Out<'_>, listed: &CliniciansListed) -> io::Result<()> {
    if listed.clinicians.is_empty() {
        return writeln!(out, "No clinician is certified: nobody here can break the glass.");
    }
    listed.clinicians.iter().try_for_each(|it| clinician(out, it))
}

pub(crate) fn clinician(out: Out<'_>, it: &ClinicianShown) -> io::Result<()> {
    writeln!(
        out,
        "{:>4}  {:<10} {}, {}  until {}  key {}",
        it.number, it.state, it.name, it.role, it.not_after, it.public_key
    )
}

/// Ends the line with what is to be done next.
pub(crate) fn opened(out: Out<'_>, listed: &GlassesOpened) -> io::Result<()> {
    for it in &listed.not_asked {
        writeln!(out, "{} is not asked: {}", it.hospital, it.code)?;
    }
    for it in &listed.break_glasses {
        glass(out, it)?;
        if it.scope.is_some() {
            writeln!(out, "  Read it with: break-glass read {} --key FILE", it.break_glass)?;
        } else if it.state == "waiting" {
            writeln!(out, "  It is asked again by itself until the window ends.")?;
        }
    }
    Ok(())
}

pub(crate) fn glasses(out: Out<'_>, listed: &GlassesListed) -> io::Result<()> {
    if listed.break_glasses.is_empty() {
        return writeln!(out, "There is none.");
    }
    listed.break_glasses.iter().try_for_each(|it| glass(out, it))
}

pub(crate) fn glass(out: Out<'_>, it: &GlassShown) -> io::Result<()> {
    let other = it.hospital.as_deref().unwrap_or("the index");
    let way = if it.role == "asking" { "asked" } else { "asked by" };
    let code = it.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let scope = it.scope.as_ref().map(|scope| format!(", {scope}")).unwrap_or_default();
    writeln!(out, "{}  {way} {other}: {}{scope}{code}", it.break_glass, it.state)?;
    let second = it.second.as_ref();
    let second = second.map(|it| format!(", and {} ({})", it.name, it.role)).unwrap_or_default();
    writeln!(
        out,
        "  by {} ({}){second}, {} until {}",
        it.clinician.name, it.clinician.role, it.issued, it.until
    )?;
    let reason = it.reason.as_deref().unwrap_or("the patient was forgotten");
    writeln!(out, "  {}: {reason}", it.purpose)?;
    if let Some(who) = &it.person {
        let extra = [&who.sex, &who.record_number].into_iter().flatten();
        let extra: String = extra.map(|word| format!(", {word}")).collect();
        writeln!(out, "  for {} {}, {}{extra}", who.given, who.family, who.birth_date)?;
    }
    if let Some(patient) = &it.local_patient {
        let told = match it.told.as_deref() {
            Some("wallet") => ", told by their wallet",
            Some("letter-due") => ", TO BE TOLD BY A LETTER: then break-glass told",
            Some(_) => ", told by a letter",
            None => "",
        };
        writeln!(out, "  patient here: {patient}{told}")?;
    } else if let Some(patient) = &it.patient {
        writeln!(out, "  patient: {patient}")?;
    }
    match (&it.review, &it.review_due) {
        (Some(review), _) => {
            let by = review.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            let note = review.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            writeln!(out, "  reviewed {}{by}: {}{note}", review.at, review.verdict)?;
        }
        (None, Some(due)) if it.review_overdue => writeln!(out, "  REVIEW OVERDUE since {due}")?,
        (None, Some(due)) => writeln!(out, "  to be reviewed until {due}")?,
        (None, None) => {}
    }
    if !it.overdue_there.is_empty() {
        writeln!(out, "  {other} waits for the reviews of {}", it.overdue_there.join(", "))?;
    }
    for line in &it.audit {
        let granted = if line.granted { "" } else { ", refused" };
        writeln!(
            out,
            "  audit {:>6}  {}  {}: {} for {}{granted}",
            line.number, line.at, line.subject, line.action, line.purpose
        )?;
    }
    Ok(())
}
