//! The commands of `handover-index`: arguments, and which function answers them.
//!
//! Private keys are opened here and nowhere sent: what is signed goes on as an envelope. Beside a running process,
//! commands reach it through its control socket; else they open the data folder themselves.

mod authority;
mod books;
mod context;
mod edition;
mod holds;
mod hospitals;
mod incidents;
mod moving;
mod proposal;
mod rejoin;
mod repair;
mod root;
mod run;
mod schedules;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use handover_cli::{CliError, instant, verify_file};
use handover_core::artefact::federation::Status;
use handover_core::id::SigningPublic;
use handover_core::{Digest, HospitalId, Timestamp};
use handover_seal::Ed25519;
use handover_store::{BlobPlace, EngineName};

use self::context::Context;

/// The global index of a federation of hospitals.
#[derive(Debug, Parser)]
#[command(name = "handover-index", version)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// One JSON object on stdout instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder, if not the configuration's.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The file (mode 0600) whose first line is the passphrase of the key that the command uses.
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The federation's root key, kept offline.
    Root {
        #[command(subcommand)]
        command: RootCommand,
    },
    /// Makes the index's keys and its request for the root; with --certificate, installs the root's answer.
    Init(InitArgs),
    /// Runs the index.
    Run,
    /// The people who admit hospitals, always two of them.
    Operator {
        #[command(subcommand)]
        command: OperatorCommand,
    },
    /// Hospitals and their status.
    Hospital {
        #[command(subcommand)]
        command: HospitalCommand,
    },
    /// Fee schedules.
    Schedule {
        #[command(subcommand)]
        command: ScheduleCommand,
    },
    /// The signed directory.
    Directory {
        #[command(subcommand)]
        command: DirectoryCommand,
    },
    /// The books.
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// What waits for hospitals, and what they refused for good.
    Mail,
    /// Reads everything that is stored and sees whether it is sound.
    Check,
    /// Salvages what can be read of a damaged store into a fresh one and says what is gone; the damaged one is kept
    /// aside. Restore the last backup instead, if there is one. The index must not run.
    Repair {
        /// Says what it would come to, and changes nothing.
        #[arg(long)]
        preview: bool,
    },
    /// Says that the data was restored from a backup, when nobody can tell: the index asks every hospital for what it
    /// holds, and until all have told, it books, signs and hands out nothing.
    Rejoin {
        /// Only shows how it stands.
        #[arg(long)]
        status: bool,
        /// Does not wait for this hospital, which stays away; what it alone holds is lost. Can be given several times.
        #[arg(long, value_name = "HOSPITAL", conflicts_with = "status")]
        without: Vec<HospitalId>,
    },
    /// Shows the edition of the artefacts' formats that is in force, and which one each hospital reads.
    Edition {
        /// Puts the next one in force, once all read it: everybody signs in it from then on. It never falls.
        #[arg(long, value_name = "NUMBER")]
        raise: Option<u32>,
    },
    /// Sealed packages that wait for hospitals that are away.
    Folders {
        #[command(subcommand)]
        command: FoldersCommand,
    },
    /// Lists break-glasses that hospitals told of.
    BreakGlass,
    /// Checks a transfer's file offline.
    Verify {
        /// The transfer's file.
        file: PathBuf,
        /// The root's public key, if there is no configuration.
        #[arg(long, value_name = "HEX")]
        root: Option<SigningPublic>,
    },
    /// What hospitals signed and may not have signed, kept as proof.
    Incident {
        #[command(subcommand)]
        command: IncidentCommand,
    },
    /// The store's engine: moves everything that is stored from one to the other. The index must not run.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Where what lies in folders is kept: moves all of it from a folder of files to a bucket, or back. The index must not
    /// run.
    Blobs {
        #[command(subcommand)]
        command: BlobsCommand,
    },
}

/// Where what lies in folders is kept.
#[derive(Clone, Copy, Debug, Subcommand)]
enum BlobsCommand {
    /// Copies all of it to the other place, as the configuration describes it, and verifies it on the way. From then on
    /// it is there. Goes on where it was cut off.
    Copy {
        /// folder or bucket.
        #[arg(long, value_name = "PLACE")]
        to: BlobPlace,
    },
}

/// The store's engine.
#[derive(Clone, Copy, Debug, Subcommand)]
enum StoreCommand {
    /// Copies everything that is stored to another engine, as the configuration describes it, and verifies
    /// the copy. From then on only the copy opens. Begins anew where it was cut off.
    Copy {
        /// sled or postgres.
        #[arg(long, value_name = "ENGINE")]
        to: EngineName,
    },
    /// Lets the configured store open again that was moved, as long as its copy is the same; the copy does not open
    /// any more then.
    Undo {
        /// The copy does not exist any more: it is not looked at. What was written to it since is lost.
        #[arg(long)]
        copy_is_lost: bool,
        /// It was not moved, but its database lost what it had confirmed, and nobody has that any more.
        #[arg(long, conflicts_with = "copy_is_lost")]
        loss_is_accepted: bool,
    },
}

#[derive(Debug, Subcommand)]
enum IncidentCommand {
    /// Lists them: who signed what, and why it was refused.
    List,
    /// Shows one; with --out, writes its proof: `verify` of the file comes to the same refusal.
    Show {
        /// What `incident list` calls it.
        id: Digest,
        /// Where the proof goes.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Removes one that was dealt with: of each hospital so many are kept, and no more until there is room.
    Remove {
        /// What `incident list` calls it.
        id: Digest,
    },
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    /// Makes the root key and prints its public half.
    Init {
        /// Where the key goes, sealed under the passphrase.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Certifies what a request asks for.
    Sign {
        /// The root key.
        #[arg(long, value_name = "FILE")]
        root_key: PathBuf,
        /// The request.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Where the certificate goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// How long it is valid.
        #[arg(long, default_value_t = 1825, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The index's name in its request, if there is no configuration.
    #[arg(long)]
    name: Option<String>,
    /// The root's certificate for the request that `init` made.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The root's public key, if there is no configuration.
    #[arg(long, value_name = "HEX")]
    root: Option<SigningPublic>,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Makes an operator's key and its request for the root.
    New {
        /// Where the key goes, sealed under the passphrase.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Where the request goes.
        #[arg(long, value_name = "FILE")]
        request_out: PathBuf,
        /// The operator's name.
        #[arg(long, default_value = "operator")]
        name: String,
        /// The file (mode 0600) with the key's passphrase; the same as --passphrase-file.
        #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
        operator_passphrase_file: Option<PathBuf>,
    },
    /// Takes an operator's certificate.
    Add {
        /// The root's certificate.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
    },
}

#[derive(Debug, Args)]
struct OperatorKey {
    /// The operator's key.
    #[arg(long, value_name = "FILE")]
    operator_key: PathBuf,
    /// The file (mode 0600) with its passphrase.
    #[arg(long, value_name = "FILE")]
    operator_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct OrderArgs {
    /// The hospital.
    hospital: HospitalId,
    #[command(flatten)]
    key: OperatorKey,
    /// Why, for people.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, Subcommand)]
enum HospitalCommand {
    /// Every hospital that proved its keys.
    List,
    /// Writes a hospital's certificate request for the root.
    Request {
        /// The hospital.
        hospital: HospitalId,
        /// Of the key that asks to succeed its own, as list shows it.
        #[arg(long, value_name = "KEY")]
        successor: Option<SigningPublic>,
        /// Where the request goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Installs the root's certificate for a hospital.
    Certify {
        /// The hospital.
        hospital: HospitalId,
        /// The certificate.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
    },
    /// Drops an enrolment that was never certified, so that another key can have the identifier.
    Drop {
        /// The hospital.
        hospital: HospitalId,
        /// Only the key that asks to succeed its own.
        #[arg(long, value_name = "KEY")]
        successor: Option<SigningPublic>,
    },
    /// Admits it, or takes a suspension back: in force when a second operator says the same.
    Approve {
        #[command(flatten)]
        args: OrderArgs,
        /// Has this key succeed the hospital's own, which speaks no more from then on. Compare it with the hospital by
        /// another way first.
        #[arg(long, value_name = "KEY")]
        successor: Option<SigningPublic>,
    },
    /// Shuts it out for now.
    Suspend(OrderArgs),
    /// Shuts it out for ever.
    Revoke(OrderArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// 5 % of the priced tests; the patient pays, on a referral the new hospital.
    Percentage,
    /// 5 % of the priced tests on a referral; a patient pays nothing.
    PatientPaysNothing,
    /// No fee at all.
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Basis {
    /// Tests among the records that the patient consents to.
    TestsInScope,
    /// All tests that the patient had at the old hospital.
    AllTests,
}

#[derive(Debug, Args)]
struct TermsArgs {
    /// Which.
    #[arg(long, value_enum, default_value = "percentage")]
    preset: Preset,
    /// What the fee is a percentage of.
    #[arg(long, value_enum, default_value = "tests-in-scope")]
    basis: Basis,
    /// ISO 3166-1 alpha-2, or `*` for all without their own.
    #[arg(long, default_value = "*")]
    jurisdiction: String,
    /// After how many days without a receipt the fee is due, once the destination has everything; the preset's
    /// are 7.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(0..=30))]
    silence_days: Option<u16>,
    /// From this day (2027-01-01, UTC) or instant on. A jurisdiction's first schedule begins at once, any other in four
    /// days: by then every hospital has it, and what is quoted before keeps its terms.
    #[arg(long, value_parser = instant, value_name = "DATE")]
    valid_from: Option<Timestamp>,
}

#[derive(Debug, Subcommand)]
enum ScheduleCommand {
    /// The newest and the waiting schedule.
    Show {
        /// ISO 3166-1 alpha-2, or `*` for all without their own.
        #[arg(long, default_value = "*")]
        jurisdiction: String,
    },
    /// Proposes a schedule, or approves the one that another operator proposed.
    #[command(visible_alias = "propose")]
    Approve {
        #[command(flatten)]
        terms: TermsArgs,
        #[command(flatten)]
        key: OperatorKey,
    },
}

#[derive(Debug, Subcommand)]
enum DirectoryCommand {
    /// The directory in force.
    Show,
}

#[derive(Debug, Subcommand)]
enum FoldersCommand {
    /// Every hospital's folder that holds something.
    List,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Every entry.
    Entries,
    /// Every account, and the totals.
    Balances,
    /// Fees that a destination disputes: they wait for two operators.
    Holds,
    /// Settles one: booked when a second operator says the same. Once, and for good.
    Settle(holds::SettleArgs),
}

/// Runs a command.
///
/// # Errors
/// Why it was not done, with its exit code.
pub fn main(cli: Cli) -> Result<(), CliError> {
    handover_cli::init_logging(cli.common.json)?;
    let context = Context::new(cli.common);
    match cli.command {
        Command::Root { command: RootCommand::Init { out } } => root::init(&context, &out),
        Command::Root { command: RootCommand::Sign { root_key, request, out, days } } => {
            root::sign(&context, &root_key, &request, &out, days)
        }
        Command::Init(InitArgs { certificate: None, name, .. }) => authority::init(&context, name),
        Command::Init(InitArgs { certificate: Some(certificate), root, .. }) => {
            authority::install(&context, &certificate, root)
        }
        Command::Run => run::run(&context),
        Command::Operator {
            command: OperatorCommand::New { out, request_out, name, operator_passphrase_file },
        } => {
            let context = context.with_passphrase_file(operator_passphrase_file);
            authority::new_operator(&context, &out, &request_out, &name)
        }
        Command::Operator { command: OperatorCommand::Add { certificate } } => {
            authority::add_operator(&context, &certificate)
        }
        Command::Hospital { command } => match command {
            HospitalCommand::List => hospitals::list(&context),
            HospitalCommand::Request { hospital, successor, out } => {
                hospitals::request(&context, hospital, successor, &out)
            }
            HospitalCommand::Certify { hospital, certificate } => {
                hospitals::certify(&context, &hospital, &certificate)
            }
            HospitalCommand::Drop { hospital, successor } => {
                hospitals::drop_enrolment(&context, hospital, successor)
            }
            HospitalCommand::Approve { args, successor } => {
                hospitals::order(&context, args, successor, Status::Active)
            }
            HospitalCommand::Suspend(args) => hospitals::order(&context, args, None, Status::Suspended),
            HospitalCommand::Revoke(args) => hospitals::order(&context, args, None, Status::Revoked),
        },
        Command::Schedule { command: ScheduleCommand::Show { jurisdiction } } => {
            schedules::show(&context, jurisdiction)
        }
        Command::Schedule { command: ScheduleCommand::Approve { terms, key } } => {
            schedules::approve(&context, &terms, &key)
        }
        Command::Directory { command: DirectoryCommand::Show } => books::directory(&context),
        Command::Ledger { command: LedgerCommand::Entries } => books::entries(&context),
        Command::Ledger { command: LedgerCommand::Balances } => books::balances(&context),
        Command::Ledger { command: LedgerCommand::Holds } => holds::list(&context),
        Command::Ledger { command: LedgerCommand::Settle(args) } => holds::settle(&context, args),
        Command::Mail => books::mail(&context),
        Command::Incident { command: IncidentCommand::List } => incidents::list(&context),
        Command::Incident { command: IncidentCommand::Show { id, out } } => {
            incidents::show(&context, id, out.as_deref())
        }
        Command::Incident { command: IncidentCommand::Remove { id } } => incidents::remove(&context, id),
        Command::BreakGlass => books::emergencies(&context),
        Command::Check => books::check(&context),
        Command::Rejoin { status, without } => rejoin::rejoin(&context, status, without),
        Command::Edition { raise } => edition::edition(&context, raise),
        Command::Repair { preview } => repair::repair(&context, preview),
        Command::Blobs { command: BlobsCommand::Copy { to } } => moving::copy_content(&context, to),
        Command::Store { command: StoreCommand::Copy { to } } => moving::copy_store(&context, to),
        Command::Store { command: StoreCommand::Undo { copy_is_lost, loss_is_accepted } } => {
            moving::undo_copy(&context, copy_is_lost, loss_is_accepted)
        }
        Command::Folders { command: FoldersCommand::List } => books::folders(&context),
        Command::Verify { file, root } => verify_file(&file, &context.root(root)?, context.output, &Ed25519),
    }
}
