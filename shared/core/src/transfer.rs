//! The states of a transfer and what leads from one to the next. One machine for source, destination and index.
//!
//! Every step is an artefact; a repeated step changes nothing, a step out of order is refused, and a final state
//! is final. The hospitals take the steps one by one; the index, which sees copies in any order, may skip ahead.

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
    /// A transfer's state: the phase, and the reason for an exit.
    pub struct State {
        /// Where it stands.
        1 => phase: Phase,
        /// Why it was refused or failed.
        2 => reason: Option<Code>,
    }
}

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
    /// A phase without a reason.
    #[must_use]
    pub fn of(phase: Phase) -> Self {
        Self { phase, reason: None, extensions: crate::codec::Extensions::default() }
    }

    /// An exit with its reason.
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

    const fn is_exit(self) -> bool {
        matches!(self, Self::Refused | Self::Expired | Self::Revoked | Self::Failed)
    }
}

/// What follows from `step` in the state `current` (`None`: nothing is known yet).
///
/// # Errors
/// [`Code::OutOfOrder`]; [`Code::ConsentRevoked`] for a step of a revoked transfer; the first reason for a step of
/// a refused or failed one.
pub fn advance(role: Role, current: Option<&State>, step: &State) -> Result<Transition, Code> {
    let Some(current) = current else {
        let starts = step.phase == Phase::Requested || (role == Role::Index && !step.phase.is_exit());
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
        // Once the shares are out, nothing can be taken back: the records are at the destination.
        let too_late = current.phase >= Phase::Released && step.phase != Phase::Failed;
        return if current.phase == Phase::Filed || too_late {
            Err(Code::OutOfOrder)
        } else {
            Ok(Transition::Advance(step.clone()))
        };
    }
    if step.phase <= current.phase {
        return Ok(Transition::Repeat);
    }
    let next = current.phase as u8 + 1 == step.phase as u8;
    if next || role == Role::Index { Ok(Transition::Advance(step.clone())) } else { Err(Code::OutOfOrder) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_step() -> impl Strategy<Value = State> {
        proptest::sample::select(Phase::ALL).prop_map(|phase| {
            if phase.is_exit() { State::exit(phase, Code::PatientRefused) } else { State::of(phase) }
        })
    }

    proptest! {
        #[test]
        fn phases_never_go_back_and_final_states_stay(steps in proptest::collection::vec(any_step(), 0..40), role in proptest::sample::select(Role::ALL)) {
            let mut state: Option<State> = None;
            for step in &steps {
                let before = state.clone();
                if let Ok(Transition::Advance(next)) = advance(role, state.as_ref(), step) {
                    if let Some(before) = &before {
                        prop_assert!(!before.phase.is_final());
                        prop_assert!(next.phase > before.phase);
                    }
                    state = Some(next);
                }
                // A step just taken, taken again, changes nothing.
                if state.as_ref() == Some(step) {
                    prop_assert_eq!(advance(role, state.as_ref(), step), Ok(Transition::Repeat));
                }
            }
        }

        #[test]
        fn hospitals_file_only_after_every_step(steps in proptest::collection::vec(any_step(), 0..60)) {
            let mut seen = Vec::new();
            let mut state = None;
            for step in &steps {
                if let Ok(Transition::Advance(next)) = advance(Role::Destination, state.as_ref(), step) {
                    seen.push(next.phase);
                    state = Some(next);
                }
            }
            if seen.last() == Some(&Phase::Filed) {
                prop_assert_eq!(seen.len(), 7);
            }
        }
    }

    #[test]
    fn a_revocation_after_the_release_comes_too_late() {
        let revoked = State::exit(Phase::Revoked, Code::ConsentRevoked);
        for (phase, expected) in [
            (Phase::Delivered, Ok(Transition::Advance(revoked.clone()))),
            (Phase::Released, Err(Code::OutOfOrder)),
            (Phase::Filed, Err(Code::OutOfOrder)),
        ] {
            assert_eq!(advance(Role::Source, Some(&State::of(phase)), &revoked), expected);
        }
    }
}
