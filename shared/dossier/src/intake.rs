//! Taking an artefact in: one path for source, destination and index.

use handover_core::artefact::Verified;
use handover_core::artefact::transfer::Refusal;
use handover_core::rules::{self, Context, RequestEvidence};
use handover_core::transfer::{Phase, Role, State, Transition, advance};
use handover_core::{Code, Timestamp, TransferId};

use crate::kind::Claimed;
use crate::{Dossier, DossierError, Kind, Place, Row, key_records};

/// What taking an artefact in did.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its place.
    pub place: Place,
    /// The row as it stands now.
    pub row: Row,
    /// Whether it was new; if not, nothing changed.
    pub is_new: bool,
    /// Deliveries that ended with it, because it took back the consent that they were made under.
    pub ended: Vec<Row>,
    /// Whether it was kept before.
    pub was_kept: bool,
}

/// The transfer that a content claims to belong to.
///
/// # Errors
/// [`Code::Malformed`] if it is no artefact of a transfer.
pub fn transfer_of(content: &[u8]) -> Result<TransferId, Code> {
    Claimed::read(content).map(|claimed| claimed.transfer())
}

/// An artefact that verified, its place, and the step that it takes, if it takes one.
struct Checked {
    place: Place,
    step: Option<State>,
}

/// How something comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To be acted on: of a patient under the newest keys that are known here.
    New,
    /// As a copy of what was acted on elsewhere, under whatever keys.
    Copy,
    /// Back to where it was lost, whatever has become of it since.
    Back,
}

fn step(kind: Kind, phase: Phase) -> Checked {
    Checked { place: kind.into(), step: Some(State::of(phase)) }
}

fn step_of(attempt: u32, kind: Kind, phase: Phase) -> Checked {
    Checked { place: kind.of(attempt), step: Some(State::at(attempt, phase)) }
}

fn exit(kind: Kind, phase: Phase, code: Code) -> Checked {
    Checked { place: kind.into(), step: Some(State::exit(phase, code)) }
}

fn no_step(place: impl Into<Place>) -> Checked {
    Checked { place: place.into(), step: None }
}

impl Taken {
    pub(crate) const fn of(place: Place, row: Row, is_new: bool) -> Self {
        Self { place, row, is_new, ended: Vec::new(), was_kept: false }
    }

    /// What was taken in.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.place.kind
    }
}

impl Dossier<'_> {
    /// Takes an artefact in: verifies it against those before it, keeps it, advances the state. The same artefact
    /// again changes nothing. The index keeps whatever verifies, also where it leads to no other state: a copy may
    /// come after the one that ended the transfer, and still say what was done. A revocation that comes before its
    /// consent is kept unverified, and counts once the consent shows that it is one.
    ///
    /// # Errors
    /// [`DossierError::Refused`] with the rule's code: [`Code::EvidenceMissing`] if one before it is not here yet,
    /// [`Code::Conflict`] if another one is in its place, [`Code::OutOfOrder`] and the states' codes;
    /// [`Code::KeyRecordOutdated`], [`Code::KeyRecordForked`] for what the patient signed with keys of before.
    pub fn take_in(
        &mut self,
        role: Role,
        content: &[u8],
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        self.take(role, content, Way::New, context, now)
    }

    /// As [`Self::take_in`], at the index, for a copy of what a hospital has taken in: it goes to nobody from here, so
    /// whatever keys the patient has by now, it is evidence.
    ///
    /// # Errors
    /// As [`Self::take_in`].
    pub fn take_copy(
        &mut self,
        content: &[u8],
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        self.take(Role::Index, content, Way::Copy, context, now)
    }

    /// Takes it in, and notes it if it is the newest of whoever signed it.
    pub(crate) fn take(
        &mut self,
        role: Role,
        content: &[u8],
        way: Way,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let claimed = Claimed::read(content)?;
        if claimed.transfer() != self.transfer() {
            return Err(Code::Conflict.into());
        }
        let taken = self.take_claimed(role, &claimed, content, way, context, now)?;
        if !taken.was_kept {
            self.note_newest(&claimed, taken.place, &taken.row, context, now)?;
        }
        Ok(taken)
    }

    fn take_claimed(
        &mut self,
        role: Role,
        claimed: &Claimed,
        content: &[u8],
        way: Way,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        if let (Claimed::Request(_), None) = (claimed, self.row()?) {
            return self.begin(role, content, way, context, now);
        }
        if let (Claimed::Quote(quote), None) = (claimed, self.row()?)
            && let Some(continues) = &quote.claim().continues
        {
            return self.begin_delivery(role, content, continues.origin, way, context, now);
        }
        let mut row = self.row()?.ok_or(DossierError::Refused(Code::EvidenceMissing))?;
        let mut checked = self.check(claimed, content, &row, way, context)?;
        if self.holds_no && matches!(checked.place.kind, Kind::Revocation | Kind::PatientRefusal) {
            checked.step = None;
        }
        if let Some(kept) = self.get(checked.place)? {
            return if kept == content || claimed.says_again(&kept) {
                Ok(Taken { was_kept: true, ..Taken::of(checked.place, row, false) })
            } else if checked.place.kind == Kind::EarlyRevocation {
                // Anyone can send a false one first; the true one is known by the consent.
                Err(Code::EvidenceMissing.into())
            } else {
                Err(Code::Conflict.into())
            };
        }
        if way == Way::Back {
            return self.put_back(claimed, checked.place, row, content, context, now);
        }
        if way == Way::New
            && matches!(checked.place.kind, Kind::Consent | Kind::ShareRelease | Kind::PatientRefusal)
        {
            let on = self.request(context)?;
            key_records::admit(self.txn, &self.keys, &on.keys, context.verifier, now)?;
        }
        let Some(step) = checked.step else {
            row.updated = now;
            self.put_row(&row)?;
            self.put(checked.place, content)?;
            return self.taken(role, checked.place, row, true, now);
        };
        let transition = match advance(role, Some(&row.state), &step) {
            // The index sees copies in any order, and what verifies is evidence whatever the state says by now.
            Err(_) if role == Role::Index => Transition::Repeat,
            other => other?,
        };
        let is_new = match transition {
            Transition::Advance(next) => {
                if matches!(step.phase, Phase::Quoted | Phase::Consented | Phase::Sealed) {
                    both_take_part(&row, context, now)?;
                }
                row.state = next;
                row.updated = now;
                self.put_row(&row)?;
                true
            }
            // The state went past this step, or the transfer was ended, before its artefact came: keep it as evidence.
            Transition::Repeat => {
                row.updated = now;
                self.put_row(&row)?;
                role == Role::Index
            }
        };
        self.put(checked.place, content)?;
        match checked.place.kind {
            Kind::Consent => row = self.revoke_early(role, way, row, context, now)?,
            Kind::KeyRelease => row = self.end_released(row, context, now)?,
            Kind::NextAttempt => row = self.end_revoked(row, now)?,
            _ => {}
        }
        self.taken(role, checked.place, row, is_new, now)
    }

    /// A revocation ends what is delivered under the consent, as far as it can still be ended.
    pub(crate) fn taken(
        &mut self,
        role: Role,
        place: Place,
        row: Row,
        is_new: bool,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let ended = if place.kind == Kind::Revocation { self.end_deliveries(role, now)? } else { Vec::new() };
        Ok(Taken { ended, ..Taken::of(place, row, is_new) })
    }

    /// A revocation that was here before its consent takes it back as soon as it comes.
    pub(crate) fn revoke_early(
        &mut self,
        role: Role,
        way: Way,
        row: Row,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Row, DossierError> {
        let Some(early) = self.get(Kind::EarlyRevocation)? else { return Ok(row) };
        match self.take(role, &early, way, context, now) {
            Ok(taken) => Ok(taken.row),
            // It was for no consent at all, or for another.
            Err(DossierError::Refused(_)) => Ok(row),
            Err(fault) => Err(fault),
        }
    }

    fn begin(
        &mut self,
        role: Role,
        content: &[u8],
        way: Way,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let RequestEvidence { request, ask, keys: signed_under } = rules::request(content, context)?;
        if way != Way::Back {
            rules::ask_in_time(&ask, now)?;
        }
        if way == Way::New {
            key_records::admit(self.txn, &self.keys, &signed_under, context.verifier, now)?;
        }
        let (source, destination) = (request.source.clone(), request.destination.clone());
        let state = State::of(Phase::Requested);
        let row = Row::new(request.transfer, role, state, ask.patient, source, destination, now);
        if way != Way::Back {
            both_take_part(&row, context, now)?;
        }
        self.put_row(&row)?;
        self.put(Kind::Request.into(), content)?;
        Ok(Taken::of(Kind::Request.into(), row, true))
    }

    /// Ends a transfer for a reason found here, if it can still be ended.
    ///
    /// # Errors
    /// [`Code::UnknownTransfer`], [`Code::OutOfOrder`].
    pub fn end(
        &mut self,
        role: Role,
        phase: Phase,
        reason: Code,
        now: Timestamp,
    ) -> Result<Row, DossierError> {
        let mut row = self.row()?.ok_or(DossierError::Refused(Code::UnknownTransfer))?;
        if let Transition::Advance(next) = advance(role, Some(&row.state), &State::exit(phase, reason))? {
            row.state = next;
            row.updated = now;
            self.put_row(&row)?;
        }
        Ok(row)
    }

    fn check(
        &mut self,
        claimed: &Claimed,
        content: &[u8],
        row: &Row,
        way: Way,
        context: Context<'_>,
    ) -> Result<Checked, DossierError> {
        Ok(match claimed {
            Claimed::Request(_) => {
                rules::request(content, context)?;
                step(Kind::Request, Phase::Requested)
            }
            Claimed::Quote(quote) if quote.claim().narrows.is_none() => {
                self.verified_quote(content, context)?;
                let is_delivery = row.origin.is_some();
                step(Kind::Quote, if is_delivery { Phase::Consented } else { Phase::Quoted })
            }
            Claimed::Quote(_) => {
                let quote = self.verified_quote(content, context)?;
                self.consent(context)?;
                rules::narrowing(&quote, &self.quote(context)?)?;
                // What was sealed under one quote is not given another afterwards.
                for attempt in self.attempts_with(Kind::Header)? {
                    if self.header(attempt, context)?.quote != quote.hash() {
                        return Err(Code::QuoteMismatch.into());
                    }
                }
                no_step(Kind::FinalQuote)
            }
            Claimed::Consent(_) => {
                rules::consent(content, &self.request(context)?, &self.quote(context)?, context)?;
                step(Kind::Consent, Phase::Consented)
            }
            Claimed::FeeAcceptance(_) => {
                rules::fee_acceptance(content, &self.quote(context)?, context)?;
                Checked { place: Kind::FeeAcceptance.into(), step: None }
            }
            Claimed::Header(_) => {
                let consent = self.consent(context)?;
                let cover = self.cover(context)?;
                let header = rules::header(content, self.transfer(), &consent, &cover, context)?;
                let agreed = self.agreed_quote(context)?;
                // The final quote that it follows may still be on its way.
                if header.quote != agreed.hash() && agreed.narrows.is_none() {
                    return Err(Code::EvidenceMissing.into());
                }
                rules::header_quote(&header, &agreed, &self.quote(context)?.hash(), context)?;
                for attempt in self.attempts_with(Kind::Header)? {
                    if attempt != header.attempt {
                        rules::same_fee(&header, &*self.header(attempt, context)?)?;
                    }
                }
                self.note_fee(row, way, &consent, header.fee, context)?;
                step_of(header.attempt, Kind::Header, Phase::Sealed)
            }
            Claimed::Delivered(delivered) => {
                let attempt = delivered.claim().attempt;
                rules::delivered(content, &self.header(attempt, context)?, context)?;
                step_of(attempt, Kind::Delivered, Phase::Delivered)
            }
            Claimed::KeyRelease(release) => {
                let attempt = release.claim().attempt;
                rules::key_release(content, &self.header(attempt, context)?, context)?;
                if row.role == Role::Destination && row.state.phase == Phase::Revoked {
                    return Ok(no_step(Kind::KeyRelease.of(attempt)));
                }
                step_of(attempt, Kind::KeyRelease, Phase::Released)
            }
            Claimed::NextAttempt(_) => {
                let next = rules::next_attempt(content, self.transfer(), &self.consent(context)?, context)?;
                step_of(next.attempt, Kind::NextAttempt, Phase::Consented)
            }
            Claimed::ShareRelease(_) => {
                let release = rules::share_release(content, &self.consent(context)?, context.verifier)?;
                no_step(self.place_of(&release.request_key, context)?)
            }
            Claimed::Receipt(receipt) => {
                let attempt = receipt.claim().attempt;
                rules::receipt(content, &self.header(attempt, context)?, context)?;
                step_of(attempt, Kind::Receipt, Phase::Filed)
            }
            Claimed::Refusal(_) => {
                let refusal = rules::refusal(content, self.transfer(), &self.request(context)?, context)?;
                let (end, is_destinations) =
                    (rules::ended_by(&refusal), is_by_destination(&refusal, row, context)?);
                // What is filed or not, the destination says.
                if end.phase != Phase::Refused && !is_destinations {
                    return Err(Code::WrongSigner.into());
                }
                if end.phase == Phase::Revoked && self.get(Kind::Revocation)?.is_none() {
                    return Err(Code::EvidenceMissing.into());
                }
                let is_over = row.state.phase == Phase::Revoked && end.phase == Phase::Revoked;
                if is_over || (is_destinations && self.is_only_kept(row, end.phase)) {
                    return Ok(no_step(Kind::Refusal));
                }
                Checked { place: Kind::Refusal.into(), step: Some(end) }
            }
            Claimed::PatientRefusal(_) => {
                rules::patient_refusal(content, &self.request(context)?, context.verifier)?;
                exit(Kind::PatientRefusal, Phase::Refused, Code::PatientRefused)
            }
            Claimed::Revocation(_) if self.get(Kind::Consent)?.is_none() => no_step(Kind::EarlyRevocation),
            Claimed::Revocation(revocation) => {
                rules::revocation(revocation, &self.consent(context)?)?;
                // With one share of two the destination has opened nothing.
                let is_shut = row.role == Role::Destination
                    && row.state.phase == Phase::Released
                    && self.attempts_with(Kind::ShareRelease)?.is_empty();
                if row.state.phase >= Phase::Released && !is_shut {
                    return Ok(no_step(Kind::Revocation));
                }
                exit(Kind::Revocation, Phase::Revoked, Code::ConsentRevoked)
            }
            Claimed::Recall(_) => {
                let recall = self.check_recall(content, row, way, context)?;
                no_step(Kind::Recall.of(recall.number))
            }
            Claimed::RecallConfirmed(confirmed) => {
                let (recall, header) = self.recall(confirmed.claim().number, context)?;
                rules::recall_confirmed(content, &recall, &header, context)?;
                no_step(Kind::RecallConfirmed.of(recall.number))
            }
            Claimed::Confirmed(_) => {
                let confirmed = rules::revocation_confirmed(content, &self.consent(context)?, context)?;
                let by_source = confirmed.by == row.source;
                no_step(if by_source { Kind::ConfirmedBySource } else { Kind::ConfirmedByDestination })
            }
        })
    }

    /// Whether a destination's no is only kept at its source. After the release it ends nothing, but the index holds the
    /// fee on it; while somebody has to be asked whether there is a release, nobody knows what it ends.
    fn is_only_kept(&self, row: &Row, phase: Phase) -> bool {
        let is_released = matches!(row.state.phase, Phase::Released | Phase::Filed);
        row.role == Role::Source && if is_released { phase == Phase::Refused } else { self.holds_no }
    }

    /// A revocation that came too late for an attempt ends the next one.
    fn end_revoked(&mut self, row: Row, now: Timestamp) -> Result<Row, DossierError> {
        let is_revoked = !self.holds_no && self.get(Kind::Revocation)?.is_some();
        if is_revoked && row.state.phase < Phase::Released {
            return self.end(row.role, Phase::Revoked, Code::ConsentRevoked, now);
        }
        Ok(row)
    }

    /// What the destination said about a release before that was known here ends the transfer with it.
    fn end_released(
        &mut self,
        mut row: Row,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Row, DossierError> {
        if row.role != Role::Source || self.get(Kind::Refusal)?.is_none() {
            return Ok(row);
        }
        let end = rules::ended_by(&*self.refusal(context)?);
        if end.phase != Phase::Refused {
            row = self.end(row.role, end.phase, end.reason.unwrap_or(Code::OutOfOrder), now)?;
        }
        Ok(row)
    }
}

/// Whether a refusal is the destination's.
pub(crate) fn is_by_destination(
    refusal: &Verified<Refusal>,
    row: &Row,
    context: Context<'_>,
) -> Result<bool, Code> {
    let destination = context.federation.member(&row.destination)?;
    Ok(destination.keys().any(|key| key == refusal.signer()))
}

/// New work needs a fresh directory in which both hospitals are active.
pub(crate) fn both_take_part(row: &Row, context: Context<'_>, now: Timestamp) -> Result<(), Code> {
    context.federation.check_fresh(now)?;
    context.federation.active(&row.source, now)?;
    context.federation.active(&row.destination, now)?;
    Ok(())
}
