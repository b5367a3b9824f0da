//! Break-glasses, as their patient reads them.

use std::io::{self, Write};

use handover_core::artefact::break_glass::{
    ClinicianCertificate, EmergencyPurpose, EmergencyScope, ReviewVerdict,
};
use handover_patient::Noticed;
use serde_json::{Value, json};

fn signer(who: &ClinicianCertificate) -> Value {
    json!({ "name": who.name, "role": who.role })
}

pub(crate) fn noticed_json(noticed: &Noticed) -> Value {
    let review = noticed.review.as_ref();
    json!({
        "break_glass": noticed.id,
        "hospital": noticed.requesting,
        "source": noticed.source,
        "clinician": signer(&noticed.clinician),
        "second": noticed.second.as_ref().map(signer),
        "purpose": noticed.purpose.as_str(),
        "scope": noticed.scope.map(EmergencyScope::as_str),
        "issued": noticed.issued.to_string(),
        "until": noticed.until.to_string(),
        "review": review.map(|(verdict, at)| json!({ "verdict": verdict.as_str(), "at": at.to_string() })),
    })
}

pub(crate) fn print_noticed(out: &mut dyn Write, noticed: &Noticed) -> io::Result<()> {
    let who = &noticed.clinician;
    let what = match noticed.scope {
        Some(EmergencyScope::Everything) => "all your records",
        Some(EmergencyScope::Subset) => "your allergies, medication and problems",
        None => "your records, which have not been given out yet,",
    };
    let why = match noticed.purpose {
        EmergencyPurpose::EmergencyTreatment => "for emergency treatment",
        EmergencyPurpose::BreakTheGlass => "in an emergency (break the glass)",
    };
    writeln!(
        out,
        "EMERGENCY ACCESS {}: {} ({}) of {}",
        noticed.issued, who.name, who.role, noticed.requesting
    )?;
    writeln!(out, "  opened {what} from {} {why}, to be read until {}.", noticed.source, noticed.until)?;
    if let Some(second) = &noticed.second {
        writeln!(out, "  {} ({}) signed as the second person.", second.name, second.role)?;
    }
    match noticed.review {
        Some((ReviewVerdict::Justified, at)) => writeln!(out, "  Reviewed {at}: there was an emergency."),
        Some((ReviewVerdict::NotJustified, at)) => {
            writeln!(out, "  Reviewed {at}: it was NOT justified. Ask {} about it.", noticed.requesting)
        }
        None => writeln!(out, "  It is reviewed by {} within seven days.", noticed.requesting),
    }
}
