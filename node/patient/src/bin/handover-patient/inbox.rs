//! The inbox, and waiting for it.

use handover_cli::CliError;
use handover_core::transfer::{Phase, State};
use handover_core::{Code, TransferId};
use handover_patient::{InboxEntry, Question, Reviewed, Wallet};
use serde_json::json;

use crate::args;
use crate::carried::Carried;
use crate::patience::{Pauses, is_passing};
use crate::session::{Looked, Session, now};
use crate::show::{noticed_json, print_noticed, print_reviewed, reviewed_json};

pub(crate) fn inbox(session: &Session, options: &args::Inbox) -> Result<(), CliError> {
    match options.by.carried() {
        Carried::Question(out) => {
            let hospital = session.hospital_of(&options.by)?;
            return session.write_question(Question::Inbox(hospital), out);
        }
        Carried::Answer(asked, answer) => {
            let looked = only(session.carried_inbox(asked, answer, &options.by)?, options.transfer);
            show(session, &looked, session.federation(None).ok().as_ref())?;
            return outcome(looked, None, true);
        }
        Carried::Not => {}
    }
    let (client, patience) = session.node(&options.by.node)?;
    let mut pauses = Pauses::new();
    let mut met = None;
    loop {
        // Looked at anew each time: a hospital that is not there yet may come within the wait.
        let has_just_met = met.is_none();
        let looked = match &met {
            Some(met) => session.fetch_inbox(&client, met),
            None => session.meet(&client).and_then(|found| session.fetch_inbox(&client, met.insert(found))),
        };
        let is_over = patience.is_over();
        match looked {
            Ok(looked) => {
                let looked = only(looked, options.transfer);
                // Whoever signed it may have replaced their keys since the directory was met.
                if !has_just_met && has_doubts(&looked) {
                    met = None;
                    continue;
                }
                let waits = options.by.node.wait.is_some() || options.until.is_some();
                let mut entries = looked.entries.iter();
                let done = !waits || entries.any(|entry| is_awaited(entry, &looked.wallet, options.until));
                if done || is_over {
                    let federation = met.as_ref().map(|met| &met.federation);
                    show(session, &looked, federation)?;
                    return outcome(looked, options.until, done);
                }
            }
            Err(fault) if is_over || !is_passing(fault.code) => return Err(fault),
            Err(_) => {}
        }
        pauses.wait(patience);
    }
}

/// Whether something is not believed.
fn has_doubts(looked: &Looked) -> bool {
    looked.entries.iter().any(|entry| entry.outcome.is_err()) || looked.broken.iter().any(Result::is_err)
}

/// Of one transfer alone, if one is wanted.
fn only(mut looked: Looked, wanted: Option<TransferId>) -> Looked {
    if let Some(wanted) = wanted {
        looked.entries.retain(|entry| entry.transfer == wanted);
        looked.broken.clear();
    }
    looked
}

/// Whether a transfer is where the patient waits for it, or ended, or is not believed.
fn is_awaited(entry: &InboxEntry, wallet: &Wallet, until: Option<Phase>) -> bool {
    match (&entry.outcome, until) {
        (Err(_), _) => true,
        (Ok(reviewed), Some(until)) => reviewed.state.phase.is_final() || reached(&reviewed.state, until),
        (Ok(reviewed), None) => needs_answer(reviewed, wallet),
    }
}

/// Exits are numbered after `Filed`, and are reached only by themselves.
fn reached(state: &State, until: Phase) -> bool {
    state.phase == until || (state.phase <= Phase::Filed && state.phase >= until)
}

/// A quote without a yes or no, or a consent whose share was kept back, or is to be released again.
pub(crate) fn needs_answer(reviewed: &Reviewed, wallet: &Wallet) -> bool {
    let Ok(known) = wallet.transfer(&reviewed.transfer) else { return false };
    let open_quote = reviewed.state.phase == Phase::Quoted
        && known.consent.is_none()
        && known.refusal.is_none()
        && reviewed.quote.as_ref().is_some_and(|view| now() < view.quote.expires);
    let kept_back = known.consent.is_some()
        && known.release().is_ok_and(|release| release.is_none())
        && known.revoked.is_none()
        && !reviewed.state.phase.is_final();
    open_quote || kept_back
}

fn show(
    session: &Session,
    looked: &Looked,
    federation: Option<&handover_core::trust::Federation>,
) -> Result<(), CliError> {
    let Looked { entries, broken, wallet } = looked;
    let mut transfers = Vec::new();
    let mut faults = Vec::new();
    for entry in entries {
        match &entry.outcome {
            Ok(reviewed) => {
                transfers.push(reviewed_json(reviewed, needs_answer(reviewed, wallet), federation))
            }
            Err(fault) => faults.push(json!({
                "transfer": entry.transfer, "code": fault.code().as_str(), "detail": fault.to_string(),
            })),
        }
    }
    let mut glasses = Vec::new();
    for notice in broken {
        match notice {
            Ok(noticed) => glasses.push(noticed_json(noticed)),
            Err(fault) => faults.push(json!({
                "transfer": null, "code": fault.code().as_str(), "detail": fault.to_string(),
            })),
        }
    }
    let data = json!({ "transfers": transfers, "faults": faults, "break_glasses": glasses });
    session.output.emit("handover/patient-inbox/1", &data, |out| {
        if entries.is_empty() && broken.is_empty() {
            writeln!(out, "Nothing is there.")?;
        }
        for notice in broken {
            match notice {
                Ok(noticed) => print_noticed(out, noticed)?,
                Err(fault) => writeln!(out, "A break-glass: NOT BELIEVED: {fault}")?,
            }
        }
        entries.iter().try_for_each(|entry| match &entry.outcome {
            Ok(reviewed) => print_reviewed(out, reviewed, needs_answer(reviewed, wallet), federation),
            Err(fault) => writeln!(out, "{}: NOT BELIEVED: {fault}", entry.transfer),
        })
    })
}

/// What the exit code tells: a false item, an end other than the one waited for, or a wait in vain.
fn outcome(looked: Looked, until: Option<Phase>, done: bool) -> Result<(), CliError> {
    if let Some(fault) = looked.broken.into_iter().find_map(Result::err) {
        return Err(fault.into());
    }
    for entry in looked.entries {
        let reviewed = entry.outcome?;
        let State { phase, reason, .. } = reviewed.state;
        if until.is_some_and(|until| phase.is_final() && !reached(&State::of(phase), until)) {
            let code = reason.unwrap_or(match phase {
                Phase::Expired => Code::ConsentExpired,
                Phase::Revoked => Code::ConsentRevoked,
                _ => Code::OutOfOrder,
            });
            return Err(CliError::new(code, format!("{} ended as {phase}", reviewed.transfer)));
        }
    }
    if done { Ok(()) } else { Err(CliError::new(Code::TimedOut, "what was waited for did not come")) }
}
