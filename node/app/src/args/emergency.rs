//! The command line of emergencies: clinicians, and break-glasses.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use handover_core::artefact::break_glass::{EmergencyPurpose, ReviewVerdict, Sex};
use handover_core::id::{BreakGlassId, HospitalId, InvalidId, PatientRef, SigningPublic};

/// Clinicians who may break the glass for this hospital.
#[derive(Debug, Subcommand)]
pub enum ClinicianTask {
    /// On the clinician's side: makes their key, sealed under a passphrase of their own; prints its public half.
    New(ClinicianKey),
    /// Certifies a clinician's key. The same again gives the same certificate.
    Certify {
        /// The public half that `clinician new` printed; compare it with the clinician.
        #[arg(long, value_name = "HEX")]
        public_key: SigningPublic,
        /// Who they are; patients read it.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What they are, for example "emergency physician".
        #[arg(long, value_name = "TEXT")]
        role: String,
        /// How long it counts.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=366))]
        days: u32,
    },
    /// Lists certificates.
    List,
    /// Withdraws one: nothing is signed for that clinician any more. Again, it changes nothing.
    Withdraw {
        /// Its number, as `clinician list` shows it.
        number: u64,
    },
}

/// A clinician's key file.
#[derive(Debug, Args)]
pub struct ClinicianKey {
    /// The clinician's key file.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The file (mode 0600) with the clinician's passphrase; without it, it is asked for on the terminal.
    #[arg(long, value_name = "FILE")]
    pub clinician_passphrase_file: Option<PathBuf>,
}

/// Break-glass: in an emergency, a part of a patient's records from another hospital, without the patient.
#[derive(Debug, Subcommand)]
pub enum BreakGlassTask {
    /// Asks hospitals for a patient's allergies, medication and problems. Everybody is told: the patient, the other
    /// hospital, this one's officer.
    Open(Opening),
    /// A second clinician asks for everything.
    More {
        /// The break-glass.
        id: BreakGlassId,
        /// Whose.
        #[command(flatten)]
        by: ClinicianKey,
    },
    /// Writes what came, as a FHIR Bundle, until the window ends. It is not filed here: what was acted on is documented
    /// as usual.
    Read {
        /// The break-glass.
        id: BreakGlassId,
        /// Whose.
        #[command(flatten)]
        by: ClinicianKey,
        /// Where to (mode 0600, never over another); stdout if left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Lists those that this hospital asked with and was asked for.
    List {
        /// Only those of this hospital that wait for their review.
        #[arg(long)]
        to_review: bool,
    },
    /// Shows one, with the audit lines that name it.
    Show {
        /// The break-glass.
        id: BreakGlassId,
        /// Writes the file that anybody can verify offline.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Says whether there was an emergency; the other hospital and the patient hear of it. Due within seven days.
    Review {
        /// The break-glass.
        id: BreakGlassId,
        /// Whether there was one.
        #[arg(long, value_name = "WORD", value_parser = one_of(ReviewVerdict::ALL, ReviewVerdict::as_str))]
        verdict: ReviewVerdict,
        /// Only the other hospital reads it.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Notes that a letter told the patient, where no wallet is linked.
    Told {
        /// The break-glass.
        id: BreakGlassId,
    },
}

/// Whom to ask for, where, and why.
#[derive(Debug, Args)]
pub struct Opening {
    /// Whose.
    #[command(flatten)]
    pub by: ClinicianKey,
    /// The patient in the federation, if that is known (a card, a wallet).
    #[arg(long, value_name = "REFERENCE", conflicts_with_all = ["family", "given", "birth_date"])]
    pub patient: Option<PatientRef>,
    /// Family name.
    #[arg(long, value_name = "NAME", required_unless_present = "patient", requires = "at")]
    pub family: Option<String>,
    /// Given name.
    #[arg(long, value_name = "NAME", required_unless_present = "patient")]
    pub given: Option<String>,
    /// Date of birth, YYYY-MM-DD.
    #[arg(long, value_name = "DAY", required_unless_present = "patient")]
    pub birth_date: Option<String>,
    /// If known.
    #[arg(long, value_name = "WORD", conflicts_with = "patient", value_parser = one_of(Sex::ALL, Sex::as_str))]
    pub sex: Option<Sex>,
    /// The other hospital's number for the patient, if known.
    #[arg(long, value_name = "ID", conflicts_with = "patient")]
    pub record_number: Option<String>,
    /// Which hospitals; with --patient, all that hold records if left out.
    #[arg(long, value_delimiter = ',', value_name = "HOSPITALS")]
    pub at: Vec<HospitalId>,
    /// Why, in words; both hospitals read it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Why, as HL7 v3 PurposeOfUse has it: emergency treatment, or break the glass.
    #[arg(long, value_name = "CODE", default_value = "ETREAT",
        value_parser = one_of(EmergencyPurpose::ALL, EmergencyPurpose::as_str))]
    pub purpose: EmergencyPurpose,
    /// How long what comes may be read: hours, minutes or seconds, at most 24h.
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = window_ms)]
    pub window: i64,
}

/// One of these words; help and refusals name them.
fn one_of<T>(all: &'static [T], word: impl Fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + FromStr<Err = InvalidId> + 'static,
{
    PossibleValuesParser::new(all.iter().map(|it| word(*it))).try_map(|word| word.parse())
}

/// `4h`, `30m` or `90s` in milliseconds.
fn window_ms(text: &str) -> Result<i64, String> {
    use handover_core::artefact::break_glass::WINDOW_MAX_MS;
    let unit_ms = match text.chars().next_back() {
        Some('h') => handover_core::time::HOUR_MS,
        Some('m') => handover_core::time::MINUTE_MS,
        Some('s') => 1_000,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<i64>().ok());
    let span = number.and_then(|number| number.checked_mul(unit_ms));
    span.filter(|span| (1..=WINDOW_MAX_MS).contains(span))
        .ok_or_else(|| "needs hours, minutes or seconds, at most 24h, for example 4h or 30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::window_ms;

    #[test]
    fn windows_are_at_most_a_day() {
        for (text, ms) in [("4h", Some(14_400_000)), ("30m", Some(1_800_000)), ("24h", Some(86_400_000))] {
            assert_eq!(window_ms(text).ok(), ms, "{text}");
        }
        for bad in ["", "4", "h", "25h", "0h", "-1h", "4 h", "9999999999999999h", "é"] {
            assert!(window_ms(bad).is_err(), "{bad}");
        }
    }
}
