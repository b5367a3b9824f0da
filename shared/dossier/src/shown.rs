//! Where a transfer stands by what is kept of it alone, whatever the order in which it came.
//!
//! While things are as they should be the state follows one artefact after another, and nobody needs this. A hospital
//! that lost some of them gets them back from several others, each of which holds another part.
//!
//! Invariants: the same artefacts show the same state; what is shown is never behind what this hospital itself signed;
//! in doubt whether a patient's no came before the source's release, nothing is filed.

use std::collections::BTreeSet;

use handover_core::Code;
use handover_core::artefact::Signed;
use handover_core::artefact::transfer::{Refusal, RevocationConfirmed, RevocationEffect};
use handover_core::rules::{self, Context};
use handover_core::transfer::{FIRST_ATTEMPT, LAST_ATTEMPT, Phase, Role, State, Transition, advance};
use handover_store::rows;

use crate::newest::refused_by;
use crate::{Dossier, DossierError, Kind, Place, Row};

/// What an attempt's artefacts show.
const OF_ATTEMPT: [(Kind, Phase); 5] = [
    (Kind::NextAttempt, Phase::Consented),
    (Kind::Header, Phase::Sealed),
    (Kind::Delivered, Phase::Delivered),
    (Kind::KeyRelease, Phase::Released),
    (Kind::Receipt, Phase::Filed),
];

/// A hospital's no that is kept.
#[derive(Clone, Debug)]
struct Refused {
    end: State,
    is_own: bool,
}

/// What is kept of a transfer, as far as it shows where that stands.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    role: Role,
    is_delivery: bool,
    /// Whether a no is only kept.
    holds_no: bool,
    places: BTreeSet<Place>,
    refused: Option<Refused>,
    /// What a revocation came to here, as this hospital has said.
    confirmed: Option<RevocationEffect>,
}

impl Dossier<'_> {
    /// What is kept.
    pub(crate) fn shown(&mut self, row: &Row, context: Context<'_>) -> Result<Shown, DossierError> {
        let mut shown = Shown {
            role: row.role,
            is_delivery: row.origin.is_some(),
            holds_no: self.holds_no,
            places: BTreeSet::new(),
            refused: None,
            confirmed: None,
        };
        let once = [
            Kind::Quote,
            Kind::Consent,
            Kind::Refusal,
            Kind::PatientRefusal,
            Kind::Revocation,
            Kind::ConfirmedBySource,
            Kind::ConfirmedByDestination,
        ];
        let of_attempts = OF_ATTEMPT.iter().flat_map(|(kind, _)| kind.places());
        for place in once.into_iter().map(Place::from).chain(of_attempts) {
            if let Some(content) = self.get(place)? {
                shown.add(place, &content, row, context)?;
            }
        }
        Ok(shown)
    }
}

impl Shown {
    /// Adds what is kept, too. It verified.
    pub(crate) fn add(
        &mut self,
        place: Place,
        content: &[u8],
        row: &Row,
        context: Context<'_>,
    ) -> Result<(), DossierError> {
        self.places.insert(place);
        let damaged = |_| rows::damaged("an artefact");
        let by_own = match self.role {
            Role::Source => Some(Kind::ConfirmedBySource),
            Role::Destination => Some(Kind::ConfirmedByDestination),
            Role::Index => None,
        };
        if place.kind == Kind::Refusal {
            let refusal = Signed::<Refusal>::read(content).map_err(damaged)?;
            let is_own = row.own() == Some(&refused_by(&refusal, row, context));
            self.refused = Some(Refused { end: rules::ended_by(refusal.claim()), is_own });
        } else if by_own == Some(place.kind) {
            let confirmed = Signed::<RevocationConfirmed>::read(content).map_err(damaged)?;
            self.confirmed = Some(confirmed.claim().effect);
        }
        Ok(())
    }

    fn has(&self, kind: Kind) -> bool {
        self.places.contains(&kind.into())
    }

    /// Whether what the source released had come here before a no of this hospital or of the patient. Where it was
    /// released it had. The destination said so if it said that the patient's no was too late; else its own no stands,
    /// and the patient's, unless it shows otherwise by what it signed afterwards.
    fn counts_releases(&self) -> bool {
        if self.role != Role::Destination {
            return true;
        }
        let is_refused = self.refused.as_ref().is_some_and(|no| no.is_own && no.end.phase == Phase::Refused);
        let was_too_late = !self.is_delivery
            && matches!(self.confirmed, Some(RevocationEffect::TooLate | RevocationEffect::Ended));
        let is_revoked = self.has(Kind::Revocation) && !was_too_late;
        !(is_refused || is_revoked || self.has(Kind::PatientRefusal))
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        let mut state = State::of(if self.is_delivery { Phase::Consented } else { Phase::Requested });
        for (kind, phase) in [(Kind::Quote, Phase::Quoted), (Kind::Consent, Phase::Consented)] {
            if self.has(kind) {
                follow(&mut state, &State::of(phase));
            }
        }
        let counts_releases = self.counts_releases();
        for attempt in FIRST_ATTEMPT..=LAST_ATTEMPT {
            for (kind, phase) in OF_ATTEMPT {
                let counts = kind != Kind::KeyRelease || counts_releases;
                if counts && self.places.contains(&kind.of(attempt)) {
                    follow(&mut state, &State::at(attempt, phase));
                }
            }
        }
        for end in self.ends(state.phase) {
            follow(&mut state, &end);
        }
        state
    }

    /// How it ended after it had got as far as `reached`, if that was not too far: first as this hospital has signed.
    fn ends(&self, reached: Phase) -> Vec<State> {
        let revoked = State::exit(Phase::Revoked, Code::ConsentRevoked);
        let is_revoked = self.has(Kind::Revocation) && reached < Phase::Released;
        let mut ends = Vec::new();
        let (own, other) = match &self.refused {
            Some(no) if no.is_own => (Some(no), None),
            no => (None, no.as_ref()),
        };
        ends.extend(own.map(|no| no.end.clone()));
        if is_revoked && self.confirmed == Some(RevocationEffect::InTime) {
            ends.push(revoked.clone());
        }
        // After a release nobody has to be asked any more whether there is one.
        if !self.holds_no || reached >= Phase::Released {
            ends.extend(other.map(|no| no.end.clone()));
        }
        if !self.holds_no && self.has(Kind::PatientRefusal) {
            ends.push(State::exit(Phase::Refused, Code::PatientRefused));
        }
        if is_revoked && !self.holds_no {
            ends.push(revoked);
        }
        ends
    }
}

/// An artefact shows that every step before it was taken, too, whether or not those before it are back already.
fn follow(state: &mut State, step: &State) {
    if let Ok(Transition::Advance(next)) = advance(Role::Index, Some(state), step) {
        *state = next;
    }
}
