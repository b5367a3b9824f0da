//! The command line's words.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use handover_cli::{instant, wait_seconds};
use handover_core::id::SigningPublic;
use handover_core::transfer::Phase;
use handover_core::{Amount, Department, HospitalId, Timestamp, TransferId};

/// A patient's wallet: asks for transfers of records, consents to them, takes consents back.
#[derive(Parser)]
#[command(name = "handover-patient", version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args)]
pub(crate) struct Common {
    /// The wallet's file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) wallet: Option<PathBuf>,
    /// File of mode 0600 whose first line is the wallet's passphrase; asked for if absent.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// One JSON object on stdout.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a wallet with fresh keys; prints the patient's reference. Again, it prints the same.
    New(New),
    /// Make a wallet for a new device, which takes this one's place.
    Renew(Renew),
    /// Make a wallet in the place of a lost one, with the recovery key. Links and records stay the patient's.
    Recover(Recover),
    /// Trust a node's TLS certificate from now on.
    Trust(Trust),
    /// Show which hospital answers at a node, with the code of its key; or keep what it says as a file.
    Hospital(Hospital),
    /// Link to a hospital with the code given at its desk.
    Link(Link),
    /// Ask an old hospital that never linked you for a link, by way of one where you are linked; again, see how it
    /// stands.
    LinkRemote(LinkRemote),
    /// Ask the index which hospitals hold records.
    Locate(Locate),
    /// Ask for a transfer: this hospital may ask that one for a quote.
    Ask(Ask),
    /// See what waits for an answer, and how transfers stand.
    Inbox(Inbox),
    /// Say yes to a quote, to all of it or less.
    Consent(Consent),
    /// Release the patient's share, if it was kept back with the consent.
    Release(OnTransfer),
    /// Say no to a quote.
    Refuse(OnTransfer),
    /// Take a consent back.
    Revoke(OnTransfer),
    /// Show what the wallet knows, offline.
    Show(Show),
    /// Check a transfer's file offline, without a wallet.
    Verify(handover_cli::VerifyArgs),
}

/// Where a node is.
#[derive(Args)]
pub(crate) struct Node {
    /// The node's URL for patients, `https://…`.
    #[arg(long, value_name = "URL")]
    pub(crate) node: Option<String>,
    /// The TLS certificate to trust there (PEM); the one given to `trust` if absent.
    #[arg(long, value_name = "FILE", requires = "node")]
    pub(crate) node_certificate: Option<PathBuf>,
    /// Go on this long if the node cannot be reached or is busy, or what is waited for has not come.
    #[arg(long, value_name = "SECONDS", value_parser = wait_seconds, requires = "node")]
    pub(crate) wait: Option<Duration>,
}

/// To a node, or into a file that somebody carries.
#[derive(Args)]
pub(crate) struct Way {
    #[command(flatten)]
    pub(crate) node: Node,
    /// Write what is signed to this file instead of sending it; a second artefact gets `.share-release` at its end.
    #[arg(long, value_name = "FILE", conflicts_with = "node")]
    pub(crate) out: Option<PathBuf>,
    /// With --out: what the hospital's node says of itself (`patient info` at its desk, or `hospital --out`).
    #[arg(long, value_name = "FILE", requires = "out")]
    pub(crate) hospital_info: Option<PathBuf>,
}

/// A question to a node; or by files: the question in one, and later the answer in another.
#[derive(Args)]
pub(crate) struct Questioning {
    #[command(flatten)]
    pub(crate) node: Node,
    /// Write the question to this file, for the hospital's desk.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "answer"])]
    pub(crate) out: Option<PathBuf>,
    /// Read the desk's answer from this file.
    #[arg(long, value_name = "FILE", requires = "asked", conflicts_with = "node")]
    pub(crate) answer: Option<PathBuf>,
    /// With --answer: the file that --out wrote.
    #[arg(long, value_name = "FILE", requires = "answer")]
    pub(crate) asked: Option<PathBuf>,
    /// What the hospital's node says of itself, as a file (`patient info` at its desk).
    #[arg(long, value_name = "FILE", conflicts_with = "node")]
    pub(crate) hospital_info: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct New {
    /// The federation's root public key, 64 hexadecimal digits, from a source that you trust.
    #[arg(long, value_name = "HEX")]
    pub(crate) root: SigningPublic,
    /// Where the recovery key goes, with the first key record (mode 0600); printed once if absent. The wallet does not
    /// keep it.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Renew {
    /// The new device's wallet. This one's keys are refused from then on.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_wallet: PathBuf,
    /// File of mode 0600 whose first line is the new wallet's passphrase; asked for if absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Args)]
pub(crate) struct Recover {
    /// The federation's root public key, 64 hexadecimal digits, from a source that you trust.
    #[arg(long, value_name = "HEX")]
    pub(crate) root: SigningPublic,
    /// What `new` wrote or printed: the recovery key and, as a second line, the first key record. It goes on to hold.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_file: PathBuf,
    #[command(flatten)]
    pub(crate) way: Way,
}

#[derive(Args)]
pub(crate) struct Trust {
    /// The node's URL for patients, `https://…`.
    #[arg(long, value_name = "URL")]
    pub(crate) node: String,
    /// Its TLS certificate (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: PathBuf,
}

#[derive(Args)]
pub(crate) struct Hospital {
    /// The node's URL for patients, `https://…`.
    #[arg(long, value_name = "URL")]
    pub(crate) node: String,
    /// The TLS certificate to trust there (PEM); the one given to `trust` if absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) node_certificate: Option<PathBuf>,
    /// Keep what the node says of itself in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Link {
    #[command(flatten)]
    pub(crate) way: Way,
    /// The hospital to link to, if it is not the one whose node is asked: its code came to you after `link-remote`.
    #[arg(long, value_name = "HOSPITAL", conflicts_with = "answer")]
    pub(crate) hospital: Option<HospitalId>,
    /// The code that the hospital's desk gave.
    #[arg(long, required_unless_present = "answer")]
    pub(crate) code: Option<String>,
    /// The link as the desk gave it back, signed by the hospital too.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "out", "code"])]
    pub(crate) answer: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct LinkRemote {
    #[command(flatten)]
    pub(crate) way: Way,
    /// The old hospital. The node asked is of the one that vouches for you.
    #[arg(long, value_name = "HOSPITAL")]
    pub(crate) hospital: HospitalId,
    /// The old hospital's number for you. Only the two hospitals read it, and what follows. Without these three, it is
    /// the request that was made before.
    #[arg(long, value_name = "NUMBER", requires_all = ["name", "birth_date"])]
    pub(crate) record_number: Option<String>,
    /// Your name, as in your identity document.
    #[arg(long, value_name = "NAME", requires = "record_number")]
    pub(crate) name: Option<String>,
    /// When you were born.
    #[arg(long, value_name = "YYYY-MM-DD", requires = "record_number")]
    pub(crate) birth_date: Option<String>,
    /// What the desk gave back for the request, as a file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "out", "record_number", "name", "birth_date"])]
    pub(crate) answer: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Locate {
    #[command(flatten)]
    pub(crate) by: Questioning,
}

#[derive(Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) way: Way,
    /// The hospital that holds the records. The node asked is the destination's.
    #[arg(long, value_name = "HOSPITAL")]
    pub(crate) source: HospitalId,
    /// The transfer's identifier (UUID version 7), to repeat a question; a fresh one if absent.
    #[arg(long, value_name = "UUID", alias = "request-id")]
    pub(crate) transfer_id: Option<TransferId>,
}

#[derive(Args)]
pub(crate) struct Inbox {
    #[command(flatten)]
    pub(crate) by: Questioning,
    /// Only this transfer.
    #[arg(long, value_name = "UUID")]
    pub(crate) transfer: Option<TransferId>,
    /// Wait for this phase, for example `filed`.
    #[arg(long, value_name = "PHASE", requires_all = ["transfer", "node"])]
    pub(crate) until: Option<Phase>,
}

#[derive(Args)]
pub(crate) struct Consent {
    #[command(flatten)]
    pub(crate) way: Way,
    /// The transfer.
    #[arg(long, value_name = "UUID")]
    pub(crate) transfer: TransferId,
    /// Only these departments, with commas between.
    #[arg(long, value_delimiter = ',', value_name = "DEPARTMENT")]
    pub(crate) departments: Option<Vec<Department>>,
    /// Only records from this day on (2024-05-01, UTC) or instant.
    #[arg(long, value_parser = instant, value_name = "DATE")]
    pub(crate) from: Option<Timestamp>,
    /// Only records before this day or instant.
    #[arg(long, value_parser = instant, value_name = "DATE")]
    pub(crate) until: Option<Timestamp>,
    /// Nothing that the old hospital marks as restricted: sensitive records, such as of psychiatry or about HIV.
    #[arg(long)]
    pub(crate) without_restricted: bool,
    /// The most that it may cost, for example "12.50 USD"; the quoted fee if absent. With --continuous: all of it
    /// together, this transfer and whatever follows.
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) max_fee: Option<Amount>,
    /// How long the consent holds; 72 hours if absent, 90 days with --continuous.
    #[arg(long, value_name = "HOURS")]
    pub(crate) expires_hours: Option<u32>,
    /// Go on: new and changed records follow by themselves, until the consent ends or is taken back.
    #[arg(long)]
    pub(crate) continuous: bool,
    /// Keep the patient's share back; `release` gives it later.
    #[arg(long)]
    pub(crate) no_release: bool,
    /// The code on the destination's screen; refused if its key has another.
    #[arg(long, value_name = "ABCD-EFGH")]
    pub(crate) expect_code: Option<String>,
}

#[derive(Args)]
pub(crate) struct OnTransfer {
    #[command(flatten)]
    pub(crate) way: Way,
    /// The transfer.
    #[arg(long, value_name = "UUID")]
    pub(crate) transfer: TransferId,
}

#[derive(Args)]
pub(crate) struct Show {
    /// Only this transfer.
    #[arg(long, value_name = "UUID")]
    pub(crate) transfer: Option<TransferId>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_words_fit_together() {
        Arguments::command().debug_assert();
    }
}
