//! The states of a transfer and what leads from one to the next. One machine for source, destination and index.
//!
//! Every step is an artefact; a repeated step changes nothing, a step out of order is refused, and a final state
//! is final. The hospitals take the steps one by one; the index, which sees copies in any order, may skip ahead.
//!
//! What was sealed may be lost at either end. Then the next attempt begins: the destination asks for it, and the
//! source seals again; or the source, whose own spool is gone, seals it at once. States are ordered by attempt, then
//! by phase, and never go back.

use crate::{Code, cbor_enum, cbor_map};

cbor_enum! {
    /// Where a transfer stands.
    pub enum Phase {
        /// The destination asked.
        Requested = 1, "requested";
        /// The source quoted.
        Quoted = 2, "quoted";
        /// The patient said yes.
        Consented = 3, "consented";
        /// The source sealed the package; a one-time consent is spent, the fee reserved.
        Sealed = 4, "sealed";
        /// The destination has everything, unopened.
        Delivered = 5, "delivered";
        /// The shares were released.
        Released = 6, "released";
        /// Filed; the fee is due.
        Filed = 7, "filed";
        /// Somebody said no.
        Refused = 8, "refused";
        /// Its time ran out.
        Expired = 9, "expired";
        /// The patient took the consent back.
        Revoked = 10, "revoked";
        /// It could not be done.
        Failed = 11, "failed";
    }
}

cbor_map! {
    /// A transfer's state: the attempt, the phase, and the reason for an exit.
    pub struct State {
        /// Where it stands.
        1 => phase: Phase,
        /// Why it was refused or failed.
        2 => reason: Option<Code>,
        /// Which attempt, from 1.
        3 => attempt: u32,
    }
}

/// The first attempt.
pub const FIRST_ATTEMPT: u32 = 1;
/// The last one: what was lost so often is looked at by people.
pub const LAST_ATTEMPT: u32 = 5;

cbor_enum! {
    /// Whose copy of the state this is.
    pub enum Role {
        /// The hospital that holds the records.
        Source = 1, "source";
        /// The hospital that gets them.
        Destination = 2, "destination";
        /// The index.
        Index = 3, "index";
    }
}

/// What a step does to the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A new state; store it with the artefact.
    Advance(State),
    /// Seen before; answer as the first time.
    Repeat,
}

impl State {
    /// A phase of the first attempt.
    #[must_use]
    pub fn of(phase: Phase) -> Self {
        Self::at(FIRST_ATTEMPT, phase)
    }

    /// A phase of an attempt.
    #[must_use]
    pub fn at(attempt: u32, phase: Phase) -> Self {
        Self { phase, reason: None, attempt, extensions: crate::codec::Extensions::default() }
    }

    /// An exit with its reason; the attempt is that of the state which it ends.
    #[must_use]
    pub fn exit(phase: Phase, reason: Code) -> Self {
        Self { reason: Some(reason), ..Self::of(phase) }
    }
}

impl Phase {
    /// Whether nothing follows.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Filed | Self::Refused | Self::Expired | Self::Revoked | Self::Failed)
    }

    /// Whether the transfer came to nothing.
    #[must_use]
    pub const fn is_exit(self) -> bool {
        matches!(self, Self::Refused | Self::Expired | Self::Revoked | Self::Failed)
    }
}

/// Whether what the step begins with may follow the attempt before: what was sealed there came to nothing. The
/// destination asks whatever it has of it; the source seals anew by itself while nothing of it can be open, and the
/// destination may not have heard of the attempt before.
const fn begins_next(current: Phase, step: Phase) -> bool {
    match step {
        Phase::Consented => matches!(current, Phase::Sealed | Phase::Delivered | Phase::Released),
        Phase::Sealed => matches!(current, Phase::Consented | Phase::Sealed | Phase::Delivered),
        _ => false,
    }
}

/// What follows from `step` in the state `current` (`None`: nothing is known yet).
///
/// # Errors
/// [`Code::OutOfOrder`]; [`Code::ConsentRevoked`] for a step of a revoked transfer; the first reason for a step of
/// a refused or failed one; [`Code::AttemptsExhausted`] beyond the last attempt.
pub fn advance(role: Role, current: Option<&State>, step: &State) -> Result<Transition, Code> {
    if step.attempt > LAST_ATTEMPT {
        return Err(Code::AttemptsExhausted);
    }
    let Some(current) = current else {
        let is_first = step.phase == Phase::Requested && step.attempt == FIRST_ATTEMPT;
        let starts = is_first || (role == Role::Index && !step.phase.is_exit());
        return if starts { Ok(Transition::Advance(step.clone())) } else { Err(Code::OutOfOrder) };
    };
    if current.phase.is_exit() {
        return if step.phase == current.phase {
            Ok(Transition::Repeat)
        } else {
            Err(match current.phase {
                Phase::Revoked => Code::ConsentRevoked,
                Phase::Expired => Code::ConsentExpired,
                _ => current.reason.unwrap_or(Code::OutOfOrder),
            })
        };
    }
    if step.phase.is_exit() {
        // Once the shares are out, only the destination can say that nothing came of it: that it could not be done, or
        // that it opened nothing because the patient had taken the consent back. The patient's word alone comes too late.
        let ends_released = matches!(step.phase, Phase::Failed | Phase::Revoked);
        let too_late = current.phase >= Phase::Released && !ends_released;
        return if current.phase == Phase::Filed || too_late {
            Err(Code::OutOfOrder)
        } else {
            Ok(Transition::Advance(State { attempt: current.attempt, ..step.clone() }))
        };
    }
    if (step.attempt, step.phase) <= (current.attempt, current.phase) {
        return Ok(Transition::Repeat);
    }
    if current.phase == Phase::Filed {
        return Err(Code::OutOfOrder);
    }
    let next = if step.attempt == current.attempt {
        current.phase as u8 + 1 == step.phase as u8
    } else {
        step.attempt == current.attempt.saturating_add(1) && begins_next(current.phase, step.phase)
    };
    if next || role == Role::Index { Ok(Transition::Advance(step.clone())) } else { Err(Code::OutOfOrder) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any step, most of them of the first attempts, so that sequences get somewhere.
    fn any_step() -> impl Strategy<Value = State> {
        let attempts = prop_oneof![4 => 1..4_u32, 1 => 0..8_u32];
        (attempts, proptest::sample::select(Phase::ALL)).prop_map(|(attempt, phase)| {
            if phase.is_exit() { State::exit(phase, Code::PatientRefused) } else { State::at(attempt, phase) }
        })
    }

    /// Steps that follow one another more often than not: one attempt after another, each up to some phase.
    fn likely_steps() -> impl Strategy<Value = Vec<State>> {
        let attempt = (1..=LAST_ATTEMPT + 1, 3..=7_usize, proptest::collection::vec(any_step(), 0..2));
        proptest::collection::vec(attempt, 1..7).prop_map(|mut attempts| {
            attempts.sort_by_key(|(attempt, ..)| *attempt);
            let phases = |attempt, last: usize| {
                Phase::ALL.iter().take(last).map(move |phase| State::at(attempt, *phase))
            };
            attempts
                .into_iter()
                .flat_map(|(attempt, last, other)| phases(attempt, last).chain(other))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn states_never_go_back_and_final_states_stay(
            steps in prop_oneof![proptest::collection::vec(any_step(), 0..40), likely_steps()],
            role in proptest::sample::select(Role::ALL),
        ) {
            let mut state: Option<State> = None;
            for step in &steps {
                let before = state.clone();
                if let Ok(Transition::Advance(next)) = advance(role, state.as_ref(), step) {
                    if let Some(before) = &before {
                        prop_assert!(!before.phase.is_final());
                        prop_assert!((next.attempt, next.phase) > (before.attempt, before.phase));
                    }
                    prop_assert!(next.attempt <= LAST_ATTEMPT);
                    state = Some(next);
                }
                // A step just taken, taken again, changes nothing.
                if state.as_ref() == Some(step) {
                    prop_assert_eq!(advance(role, state.as_ref(), step), Ok(Transition::Repeat));
                }
            }
        }

        #[test]
        fn hospitals_file_only_after_every_step_of_one_attempt(
            steps in prop_oneof![proptest::collection::vec(any_step(), 0..60), likely_steps()],
            role in proptest::sample::select(&[Role::Source, Role::Destination][..]),
        ) {
            let mut seen: Vec<State> = Vec::new();
            for step in &steps {
                if let Ok(Transition::Advance(next)) = advance(role, seen.last(), step) {
                    seen.push(next);
                }
            }
            let numbers: Vec<u32> = seen.iter().map(|state| state.attempt).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[1] - pair[0] <= 1), "no attempt is skipped");
            if let Some(last) = seen.last().filter(|state| state.phase == Phase::Filed) {
                let agreed = [Phase::Requested, Phase::Quoted, Phase::Consented];
                prop_assert!(seen.iter().take(3).map(|state| state.phase).eq(agreed));
                let sealed = [Phase::Sealed, Phase::Delivered, Phase::Released, Phase::Filed];
                let of_last = seen.iter().filter(|state| state.attempt == last.attempt).map(|state| state.phase);
                prop_assert!(of_last.filter(|phase| *phase >= Phase::Sealed).eq(sealed));
            }
        }
    }

    #[test]
    fn after_the_release_only_what_the_destination_says_ends_it_and_nothing_after_it_was_filed() {
        let over = Err(Code::OutOfOrder);
        for (end, reason, after_release) in [
            (Phase::Refused, Code::PatientRefused, false),
            (Phase::Expired, Code::ConsentExpired, false),
            (Phase::Revoked, Code::ConsentRevoked, true),
            (Phase::Failed, Code::PackageDamaged, true),
        ] {
            let end = State::exit(end, reason);
            let ends = Ok(Transition::Advance(end.clone()));
            let at = |phase| advance(Role::Source, Some(&State::of(phase)), &end);
            assert_eq!(at(Phase::Delivered), ends);
            assert_eq!(at(Phase::Released), if after_release { ends } else { over.clone() });
            assert_eq!(at(Phase::Filed), over);
        }
    }

    #[test]
    fn the_next_attempt_begins_where_something_was_sealed() {
        let (asked, sealed) = (State::at(2, Phase::Consented), State::at(2, Phase::Sealed));
        for (phase, by_destination, by_source) in [
            (Phase::Quoted, false, false),
            (Phase::Consented, false, true),
            (Phase::Sealed, true, true),
            (Phase::Delivered, true, true),
            (Phase::Released, true, false),
            (Phase::Filed, false, false),
        ] {
            for role in [Role::Source, Role::Destination] {
                for (step, begins) in [(&asked, by_destination), (&sealed, by_source)] {
                    let expected =
                        if begins { Ok(Transition::Advance(step.clone())) } else { Err(Code::OutOfOrder) };
                    assert_eq!(advance(role, Some(&State::of(phase)), step), expected, "{phase}: {step:?}");
                }
            }
        }
        let skipped = State::at(3, Phase::Consented);
        assert_eq!(advance(Role::Source, Some(&State::of(Phase::Sealed)), &skipped), Err(Code::OutOfOrder));
        let last = State::at(LAST_ATTEMPT, Phase::Released);
        let beyond = State::at(LAST_ATTEMPT + 1, Phase::Consented);
        assert_eq!(advance(Role::Source, Some(&last), &beyond), Err(Code::AttemptsExhausted));
    }

    #[test]
    fn an_exit_ends_the_attempt_that_is_under_way() {
        let failed = State::exit(Phase::Failed, Code::AttemptsExhausted);
        let ended = advance(Role::Destination, Some(&State::at(3, Phase::Released)), &failed);
        assert_eq!(ended, Ok(Transition::Advance(State { attempt: 3, ..failed })));
    }
}
