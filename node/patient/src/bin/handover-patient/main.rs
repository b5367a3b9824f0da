//! `handover-patient`: the wallet on the command line. Selects commands; what they decide is in the library.

use std::process::ExitCode;

use handover_cli::{CliError, Output, run, verify_file};
use handover_seal::Ed25519;

use args::{Arguments, Command};
use session::Session;

mod args;
mod carried;
mod commands;
mod devices;
mod inbox;
mod patience;
mod remote;
mod session;
mod show;

fn main() -> ExitCode {
    run(command)
}

fn command(arguments: Arguments) -> Result<(), CliError> {
    let common = &arguments.common;
    let output = Output { json: common.json };
    match &arguments.command {
        Command::New(options) => devices::new(common, options, output),
        Command::Renew(options) => devices::renew(common, options, output),
        Command::Recover(options) => devices::recover(common, options, output),
        Command::Verify(options) => verify_file(&options.file, &options.root, output, &Ed25519),
        other => with_wallet(&Session::open(common)?, other),
    }
}

fn with_wallet(session: &Session, command: &Command) -> Result<(), CliError> {
    let outcome = match command {
        Command::New(_) | Command::Renew(_) | Command::Recover(_) | Command::Verify(_) => Ok(()),
        Command::Trust(options) => commands::trust(session, options),
        Command::Hospital(options) => commands::hospital(session, options),
        Command::Link(options) => commands::link(session, options),
        Command::LinkRemote(options) => remote::link_remote(session, options),
        Command::Locate(options) => commands::locate(session, options),
        Command::Ask(options) => commands::ask(session, options),
        // It tells of other devices' transfers, too, and heeds by itself.
        Command::Inbox(options) => return inbox::inbox(session, options),
        Command::Consent(options) => commands::consent(session, options),
        Command::Release(options) => commands::release(session, options),
        Command::Refuse(options) => commands::refuse(session, options),
        Command::Revoke(options) => commands::revoke(session, options),
        Command::Show(options) => show::show(session, options),
    };
    session.heed(outcome)
}
