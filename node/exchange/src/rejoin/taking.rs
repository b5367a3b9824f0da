//! What others give back is taken in again: verified and kept as anything else, but nothing is signed for it, and what this
//! hospital has signed for itself is not refused because it ran out since. What follows from it is seen to afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use handover_core::artefact::patient::{Consent, PatientRefusal, ShareRelease};
use handover_core::artefact::transfer::{PackageHeader, Payer};
use handover_core::artefact::{Payload as _, Verified, peek_type, signed_by};
use handover_core::rules::{self, Context};
use handover_core::transfer::{Phase, Role};
use handover_core::trust::Federation;
use handover_core::{Code, HospitalId, Party, Timestamp, TransferId};
use handover_dossier::{Dossier, DossierError, Kind, Row, Taken, transfer_of};
use handover_seal::Remembered;
use handover_store::{KeyMaker, Txn};

use super::rows;
use crate::context::{Came, Inner, labels};
use crate::outbox::{self, Label, Target};
use crate::{ExchangeError, charged, left, recalled};

/// Takes back what somebody gave of some transfers; how much of it was new. What cannot be taken is given up.
pub(super) async fn all(
    inner: &Arc<Inner>,
    party: &Party,
    contents: Vec<Vec<u8>>,
) -> Result<u64, ExchangeError> {
    let mut by_transfer: BTreeMap<TransferId, Vec<Vec<u8>>> = BTreeMap::new();
    for content in contents {
        by_transfer.entry(transfer_of(&content)?).or_default().push(content);
    }
    let mut new = 0_u64;
    for (_, contents) in by_transfer {
        new = new.saturating_add(of_one(inner, party, contents).await?);
    }
    Ok(new)
}

async fn of_one(inner: &Arc<Inner>, party: &Party, contents: Vec<Vec<u8>>) -> Result<u64, ExchangeError> {
    let grounds = Grounds::of(inner, party, &contents).await?;
    let (mut new, mut left) = (0_u64, contents);
    loop {
        let (before, mut failed) = (left.len(), Vec::new());
        for content in left {
            let taken = if let Err(code) = brought(inner, party, &content) {
                Err(code.into())
            } else if grounds.carry(&content) {
                one(inner, party, content.clone()).await
            } else {
                anew(inner, party, content.clone()).await
            };
            match taken {
                Ok(is_new) => new = new.saturating_add(u64::from(is_new)),
                Err(ExchangeError::Refused(code)) => failed.push((content, code)),
                Err(fault) => return Err(fault),
            }
        }
        // What stands on something that came later is tried again, as long as that helps.
        if failed.is_empty() {
            return Ok(new);
        }
        if failed.len() == before {
            give_up(inner, party, failed).await?;
            return Ok(new);
        }
        left = failed.into_iter().map(|(content, _)| content).collect();
    }
}

/// What a replaced key signed comes back from the index alone, which took it from that key's hospital.
fn brought(inner: &Inner, party: &Party, content: &[u8]) -> Result<(), Code> {
    if *party == Party::Index { Ok(()) } else { inner.federation()?.check_bringer(content, party) }
}

/// What this hospital itself signed in a transfer, which shows that it had what that stands on. Everything else comes as
/// if for the first time: else whoever stole a patient's keys, and found a hospital to help, could bring it as lost.
struct Grounds {
    takes_part: bool,
    has_sealed: bool,
}

impl Grounds {
    async fn of(inner: &Arc<Inner>, party: &Party, contents: &[Vec<u8>]) -> Result<Self, ExchangeError> {
        let takes_part = contents.iter().any(|content| is_shown_own(inner, party, content));
        let is_header = |content: &Vec<u8>| peek_type(content).is_ok_and(|it| it == PackageHeader::TYPE);
        let has_sealed = contents.iter().any(|content| is_header(content) && super::is_own(inner, content));
        let known = match contents.first() {
            Some(content) => inner.row(transfer_of(content)?).await,
            None => return Ok(Self { takes_part: false, has_sealed }),
        };
        Ok(match known {
            Ok(row) => Self {
                takes_part: true,
                has_sealed: has_sealed
                    || row.role == Role::Destination
                    || matches!(
                        row.state.phase,
                        Phase::Sealed | Phase::Delivered | Phase::Released | Phase::Filed
                    ),
            },
            Err(_) => Self { takes_part, has_sealed },
        })
    }

    /// Whether something may be taken back on these.
    fn carry(&self, content: &[u8]) -> bool {
        let is_patients = peek_type(content)
            .is_ok_and(|it| [Consent::TYPE, ShareRelease::TYPE, PatientRefusal::TYPE].contains(&it.as_str()));
        self.takes_part && (self.has_sealed || !is_patients)
    }
}

/// Whether this hospital signed it, with whichever of its keys. What one of before signed the index alone can show: since it
/// was replaced it took that from this hospital itself ([`handover_core::trust::Federation::check_bringer`]). Before that a
/// thief may have had a partner bring it, so it is no ground for what a patient signed.
fn is_shown_own(inner: &Inner, party: &Party, content: &[u8]) -> bool {
    let by_former = |federation: &Federation| {
        let own = federation.member(inner.own());
        own.is_ok_and(|own| signed_by(content, own.keys(), &Remembered).is_ok())
    };
    super::is_own(inner, content)
        || (*party == Party::Index && inner.federation().is_ok_and(|federation| by_former(&federation)))
}

/// Takes something in as if it came for the first time.
async fn anew(inner: &Arc<Inner>, party: &Party, content: Vec<u8>) -> Result<bool, ExchangeError> {
    let transfer = transfer_of(&content)?;
    let taken = inner.take(content, Came::Network).await?;
    let other = taken.row.other().clone();
    if *party != Party::Index && *party != Party::Hospital(other) {
        tracing::warn!(%party, %transfer, "gave something of another hospital's transfer");
    }
    Ok(taken.is_new)
}

/// Notes what cannot be taken, so that it is not taken for a new loss at the next start.
pub(super) async fn give_up(
    inner: &Arc<Inner>,
    party: &Party,
    failed: Vec<(Vec<u8>, Code)>,
) -> Result<(), ExchangeError> {
    for (content, code) in failed {
        let transfer = transfer_of(&content).ok();
        tracing::warn!(%party, %code, ?transfer, "something that was given back cannot be taken");
        if super::is_own(inner, &content) {
            let keys = inner.keys();
            inner.parts.store.write(move |txn| rows::put_given_up(txn, &keys, &content)).await?;
        }
    }
    Ok(())
}

async fn one(inner: &Arc<Inner>, party: &Party, content: Vec<u8>) -> Result<bool, ExchangeError> {
    let transfer = transfer_of(&content)?;
    let (work, party, federation) = (Arc::clone(inner), party.clone(), inner.federation()?);
    let (keys, now) = (inner.keys(), inner.now());
    let taken = inner.parts.store.write(move |txn| -> Result<Taken, DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        work.take_back(txn, &keys, (transfer, &content), &party, context, now)
    });
    let taken = taken.await?;
    inner.wake(&taken);
    Ok(taken.is_new)
}

impl Inner {
    fn take_back(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        (transfer, content): (TransferId, &[u8]),
        party: &Party,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let (role, other) = self.sides(&mut Dossier::of(txn, keys, transfer), content)?;
        // A hospital has nothing to say of others' transfers.
        if *party != Party::Index && *party != Party::Hospital(other) {
            return Err(Code::AccessDenied.into());
        }
        let is_out = role == Role::Source && left::last_out(txn, keys, transfer)?.is_some();
        let mut dossier = Dossier::of(txn, keys, transfer);
        dossier.hold_no(is_out);
        let taken = dossier.take_back(role, content, context, now)?;
        if !taken.is_new {
            return Ok(taken);
        }
        self.note_new(txn, keys, &taken, Came::Network, now)?;
        // What was still to be told to the others may have gone with the rest. The index passes on what came that way.
        if *party != Party::Index {
            outbox::push(txn, keys, &Label::copy(transfer, now), content)?;
        } else if super::is_own(self, content) && context.federation.active(taken.row.other(), now).is_ok() {
            let labels = labels::of(taken.kind(), Came::Own, &taken.row, now);
            for label in labels.iter().filter(|label| label.target() != Target::Index) {
                outbox::push(txn, keys, label, content)?;
            }
        }
        if role == Role::Source && taken.kind() == Kind::Header {
            let header = Dossier::of(txn, keys, transfer).header(taken.place.attempt, context)?;
            charged::note_all_until(txn, keys, (&taken.row, header.payer), header.issued)?;
            left::put_lost(txn, keys, transfer, taken.place.attempt)?;
        }
        for ended in &taken.ended {
            rows::put_taken(txn, keys, ended.transfer)?;
        }
        rows::put_taken(txn, keys, transfer)?;
        Ok(taken)
    }

    /// What follows from what was taken back of a transfer, and this hospital had not done yet.
    fn see_to(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        row: &Row,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        self.see_to_end(txn, keys, row, context, now)?;
        // What the patient's no came to, only the index knows.
        let is_out = row.role == Role::Source && left::last_out(txn, keys, row.transfer)?.is_some();
        let mut dossier = Dossier::of(txn, keys, row.transfer);
        let own =
            if row.role == Role::Source { Kind::ConfirmedBySource } else { Kind::ConfirmedByDestination };
        if !is_out && dossier.get(Kind::Revocation)?.is_some() && dossier.get(own)?.is_none() {
            self.confirm_revocation(txn, keys, row, context, now)?;
        }
        if row.role == Role::Source {
            return Ok(());
        }
        self.refuse_to_open(txn, keys, row, context, now)?;
        let mut dossier = Dossier::of(txn, keys, row.transfer);
        let is_open = matches!(row.state.phase, Phase::Quoted | Phase::Consented);
        if is_open
            && dossier.get(Kind::FeeAcceptance)?.is_none()
            && rules::payer(&*dossier.quote(context)?) == Payer::Hospital
        {
            self.accept_fee(txn, keys, row.transfer, context, now)?;
        }
        for number in 1..=Dossier::of(txn, keys, row.transfer).last_recall()? {
            self.mark_again(txn, keys, (row, number), context, now)?;
        }
        Ok(())
    }

    /// Marks what a recall is about, and confirms it, as far as that was not done.
    fn mark_again(
        &self,
        txn: &mut dyn Txn,
        keys: &KeyMaker,
        (row, number): (&Row, u32),
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<(), DossierError> {
        let is_marked = recalled::get(txn, &self.parts.keyring, keys, (row.transfer, number))?.is_some();
        let place = Kind::RecallConfirmed.of(number);
        let is_confirmed = Dossier::of(txn, keys, row.transfer).get(place)?.is_some();
        if is_marked && is_confirmed {
            return Ok(());
        }
        let confirmed = self.mark_recall(txn, keys, (row, number), context, now)?;
        if !is_confirmed {
            let confirmed = Verified::sign(confirmed, &self.parts.identity.signing);
            self.take_in(txn, keys, row.transfer, confirmed.envelope(), Came::Own, context, now)?;
        }
        Ok(())
    }
}

/// Sees to everything that was taken back and concerns these hospitals, of which nothing more is to come; whether some of
/// it has to be tried again.
pub(super) async fn see_to_all(
    inner: &Arc<Inner>,
    is_ready: impl Fn(&HospitalId) -> bool,
) -> Result<bool, ExchangeError> {
    let (mut after, mut is_left) = (None, false);
    loop {
        let (keys, from) = (inner.keys(), after);
        let page = inner.parts.store.read(move |txn| rows::taken(txn, &keys, from)).await?;
        let Some(last) = page.last() else { return Ok(is_left) };
        after = Some(*last);
        for transfer in page {
            let row = inner.row(transfer).await?;
            if is_ready(row.other()) {
                is_left |= !see_to_one(inner, row).await?;
            }
        }
    }
}

/// Whether it is done.
async fn see_to_one(inner: &Arc<Inner>, row: Row) -> Result<bool, ExchangeError> {
    let (work, keys, federation, now) = (Arc::clone(inner), inner.keys(), inner.federation()?, inner.now());
    let transfer = row.transfer;
    let seen = inner.parts.store.write(move |txn| -> Result<(), DossierError> {
        let context = Context { federation: &federation, verifier: &Remembered };
        work.see_to(txn, &keys, &row, context, now)?;
        Ok(rows::remove_taken(txn, &keys, transfer)?)
    });
    match seen.await {
        Err(DossierError::Refused(code)) if code.is_transient() => {
            tracing::debug!(%transfer, %code, "what follows from what was taken back has to wait");
            return Ok(false);
        }
        Err(DossierError::Refused(code)) => {
            // A clerk sees it in the transfer.
            tracing::error!(%transfer, %code, "what follows from what was taken back cannot be done");
            let keys = inner.keys();
            inner.parts.store.write(move |txn| rows::remove_taken(txn, &keys, transfer)).await?;
        }
        other => other?,
    }
    inner.outbox.notify_one();
    Ok(true)
}
