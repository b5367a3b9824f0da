//! From arguments to an exit code.

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::Parser;
use handover_core::{Code, Edition};

use crate::CliError;

/// The option that asks for JSON, as every program declares it.
const JSON_OPTION: &str = "--json";

/// Set to 1, it lets a program read the draft of the next edition of the artefacts' formats, too: to rehearse an upgrade.
const REHEARSE_VARIABLE: &str = "HANDOVER_REHEARSE_DRAFT";

/// The exit code of a command that ended with `code`: 1 refused, 2 usage, 3 configuration, 4 unreachable,
/// 5 integrity. Done is 0.
#[must_use]
pub const fn exit_code(code: Code) -> u8 {
    code.outcome() as u8
}

/// Reads what the environment says of editions, parses the process' arguments and runs `main`. An error is written to stderr, as JSON with `--json`; help and
/// version end with 0, arguments that do not parse with 2.
pub fn run<A: Parser>(main: impl FnOnce(A) -> Result<(), CliError>) -> ExitCode {
    if std::env::var_os(REHEARSE_VARIABLE).is_some_and(|value| value == "1") {
        Edition::rehearse();
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Not locked: `main` may write from other threads.
    let outcome = run_with(arguments, main, &mut std::io::stdout(), &mut std::io::stderr());
    ExitCode::from(outcome)
}

/// Nothing can be done about an error that cannot be written: the exit code still tells.
fn run_with<A: Parser>(
    arguments: Vec<OsString>,
    main: impl FnOnce(A) -> Result<(), CliError>,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let json = wants_json(&arguments);
    let error = match A::try_parse_from(arguments) {
        Ok(parsed) => match main(parsed) {
            Ok(()) => return 0,
            Err(error) => error,
        },
        Err(shown) if !shown.use_stderr() => {
            let _ = write!(stdout, "{}", shown.render());
            return 0;
        }
        Err(refused) if json => CliError::new(Code::UsageInvalid, refused.render().to_string().trim_end()),
        Err(refused) => {
            let _ = write!(stderr, "{}", refused.render());
            return exit_code(Code::UsageInvalid);
        }
    };
    let _ = error.write(json, stderr);
    exit_code(error.code)
}

/// Looked up by hand, because arguments that do not parse have no parsed `json`.
fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|argument| argument == JSON_OPTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    #[command(name = "tool", version = "1")]
    struct Arguments {
        #[arg(long)]
        json: bool,
        #[arg(long)]
        fail: bool,
    }

    fn ran(arguments: &[&str]) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let arguments = arguments.iter().map(OsString::from).collect();
        let main = |arguments: Arguments| {
            let _ = arguments.json;
            if arguments.fail { Err(CliError::new(Code::Unreachable, "index")) } else { Ok(()) }
        };
        let exit = run_with(arguments, main, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn exit_codes_follow_the_outcome() {
        assert_eq!(ran(&["tool"]), (0, String::new(), String::new()));
        let (exit, out, err) = ran(&["tool", "--fail"]);
        assert_eq!((exit, out.as_str()), (4, ""));
        assert!(err.starts_with("error[unreachable]: "));
        for (code, exit) in [
            (Code::CapExceeded, 1),
            (Code::UsageInvalid, 2),
            (Code::ConfigInvalid, 3),
            (Code::Busy, 4),
            (Code::PackageDamaged, 5),
        ] {
            assert_eq!(exit_code(code), exit);
        }
    }

    #[test]
    fn usage_faults_end_with_2_and_help_with_0() {
        let (exit, out, err) = ran(&["tool", "--nonsense"]);
        assert_eq!((exit, out.as_str()), (2, ""));
        assert!(err.contains("--nonsense"));
        let (exit, out, err) = ran(&["tool", "--help"]);
        assert_eq!((exit, err.as_str()), (0, ""));
        assert!(out.contains("--fail"));
    }

    #[test]
    fn with_json_every_error_is_json() {
        for (arguments, exit) in [(["tool", "--json", "--fail"], 4), (["tool", "--json", "--nonsense"], 2)] {
            let (ended, _, err) = ran(&arguments);
            assert_eq!(ended, exit);
            let document: serde_json::Value = serde_json::from_str(&err).unwrap();
            assert_eq!(document["schema"], "handover/problem/1");
        }
        assert!(!wants_json(&["tool".into(), "--".into(), "--json".into()]));
    }
}
