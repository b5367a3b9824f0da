//! Break-glasses as a desk sees them, asked with and asked for.

use handover_core::artefact::Countersigned;
use handover_core::artefact::break_glass::{BreakGlass, BreakGlassDetails, REVIEW_WITHIN_MS, ReviewDetails};
use handover_core::codec::{self, Bytes, MAX_MESSAGE_BYTES};
use handover_core::message::break_glass_binding;
use handover_core::rules::Broken;
use handover_core::verify::TransferFile;
use handover_core::{BreakGlassId, Code, HospitalId, Timestamp};
use handover_records::{Action, AuditEntry, Purpose, Subject};
use handover_seal::part::open_part;
use handover_store::rows;

use super::asking::{local, row};
use super::rows::{InRow, OutRow, review};
use super::{GlassView, IN, OUT, Told, broken, desk, details, grant, place, read_id, second};
use crate::{Exchange, ExchangeError};

/// The most that are shown.
const SHOWN_MAX: usize = 1_000;
/// Audit lines that are read at once.
const LINES_AT_ONCE: usize = 1_000;

/// Who asks, of a kept break-glass.
pub(super) fn requesting(request: &[u8]) -> Result<HospitalId, Code> {
    let request = Countersigned::<BreakGlass>::read(request).map_err(|_| Code::StoreDamaged)?;
    Ok(request.claim().requesting.clone())
}

impl Exchange {
    /// The newest break-glasses, asked with and asked for, the oldest first. Leaves an audit line: they name people.
    ///
    /// # Errors
    /// The audit log's, the store's.
    pub async fn break_glasses(&self, staff: &str) -> Result<Vec<GlassView>, ExchangeError> {
        desk(&self.0, staff, None).await?;
        let mut found = Vec::new();
        for side in [OUT, IN] {
            for value in self.newest(side).await? {
                found.push(match side {
                    OUT => self.view_out(rows::read(&value)?).await?,
                    _ => self.view_in(rows::read(&value)?).await?,
                });
            }
        }
        found.sort_by_key(|it| it.id);
        Ok(found)
    }

    /// One of them, with the audit lines that name it.
    ///
    /// # Errors
    /// [`Code::UnknownBreakGlass`]; the audit log's, the store's.
    pub async fn break_glass_details(
        &self,
        staff: &str,
        id: BreakGlassId,
    ) -> Result<(GlassView, Vec<AuditEntry>), ExchangeError> {
        desk(&self.0, staff, Some(id)).await?;
        let view = match self.glass_out(id).await {
            Err(fault) if fault.code() == Code::UnknownBreakGlass => self.glass_in(id).await?,
            view => view?,
        };
        Ok((view, self.lines(staff, id).await?))
    }

    async fn lines(&self, staff: &str, id: BreakGlassId) -> Result<Vec<AuditEntry>, ExchangeError> {
        let (audit, now) = (self.0.parts.records.audit(), self.0.now());
        let subject = Subject::staff(staff);
        let permit = grant(subject, (Action::Audit, Purpose::Administration), None, Some(id));
        let permit = audit.permit(permit, now).await?;
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page = audit.entries(&permit, now, after, LINES_AT_ONCE).await?;
            after = page.last().map_or(after, |line| line.number);
            let is_last = page.len() < LINES_AT_ONCE;
            found.extend(page.into_iter().filter(|line| line.break_glass == Some(id)));
            if is_last {
                return Ok(found);
            }
        }
    }

    /// The artefacts of one as a file that anybody can verify offline.
    ///
    /// # Errors
    /// [`Code::UnknownBreakGlass`]; the store's.
    pub async fn break_glass_file(&self, id: BreakGlassId) -> Result<Vec<u8>, ExchangeError> {
        let artefacts = match row(&self.0, id).await {
            Ok(held) => [Some(held.request), held.answer, held.more, held.more_answer, held.review],
            Err(fault) if fault.code() == Code::UnknownBreakGlass => {
                let held = self.in_row(id).await?;
                [Some(held.request), held.answer, held.more, held.more_answer, held.review]
            }
            Err(fault) => return Err(fault),
        };
        let (federation, artefacts) = (self.0.federation()?, artefacts.into_iter().flatten().collect());
        Ok(codec::encode(&TransferFile::of(&federation, artefacts)))
    }

    async fn newest(&self, side: &'static str) -> Result<Vec<Vec<u8>>, ExchangeError> {
        let keys = self.0.keys();
        let read = self.0.parts.store.read(move |txn| -> Result<_, ExchangeError> {
            let (mut newest, mut after) = (std::collections::VecDeque::new(), None::<Vec<u8>>);
            loop {
                let page = txn.scan(&keys.space(side).build(), after.as_deref(), SHOWN_MAX)?;
                let is_last = page.len() < SHOWN_MAX;
                after = page.last().map(|(key, _)| key.clone());
                newest.extend(page.into_iter().map(|(_, value)| value));
                let extra = newest.len().saturating_sub(SHOWN_MAX);
                newest.drain(..extra);
                if is_last {
                    return Ok(Vec::from(newest));
                }
            }
        });
        read.await
    }

    async fn in_row(&self, id: BreakGlassId) -> Result<InRow, ExchangeError> {
        let key = place(&self.0.keys(), IN, &id);
        let held: Option<InRow> = self.0.parts.store.read(move |txn| rows::get(txn, &key)).await?;
        Ok(held.ok_or(Code::UnknownBreakGlass)?)
    }

    pub(super) async fn glass_out(&self, id: BreakGlassId) -> Result<GlassView, ExchangeError> {
        self.view_out(row(&self.0, id).await?).await
    }

    pub(super) async fn glass_in(&self, id: BreakGlassId) -> Result<GlassView, ExchangeError> {
        self.view_in(self.in_row(id).await?).await
    }

    async fn view_out(&self, held: OutRow) -> Result<GlassView, ExchangeError> {
        let inner = &self.0;
        let asked = broken(inner, held.request.as_ref(), inner.own())?;
        let second = held.more.as_ref().map(|more| second(inner, more, &asked)).transpose()?;
        let (given, refused) = (held.given()?, held.refused()?);
        let is_to_review = held.answer.is_some() && refused.is_none() && held.review.is_none();
        let read = |bytes: &Bytes| read_id(bytes.as_ref());
        Ok(GlassView {
            is_asking: true,
            other: asked.request.source.clone(),
            local: local(held.patient.as_deref())?,
            second: second.map(|(_, who)| who),
            given,
            refused,
            waits: held.waits.or(held.more_refused()?),
            overdue_there: held.overdue_there.iter().map(read).collect::<Result<_, _>>()?,
            review: review(held.review.as_ref())?.map(|it| (it.verdict, it.issued)),
            reviewed_by: held.reviewed_by.clone().map(|by| (by, held.review_note.clone())),
            review_due: is_to_review.then(|| asked.request.issued.plus_ms(REVIEW_WITHIN_MS)),
            told: None,
            reads: held.reads,
            ..view(&asked, details(inner, &asked.request)?, held.is_forgotten)
        })
    }

    async fn view_in(&self, held: InRow) -> Result<GlassView, ExchangeError> {
        let inner = &self.0;
        let by = requesting(held.request.as_ref())?;
        let asked = broken(inner, held.request.as_ref(), &by)?;
        let second = held.more.as_ref().map(|more| second(inner, more, &asked)).transpose()?;
        let patient = local(held.patient.as_deref())?;
        let told = match &patient {
            None => None,
            Some(patient) => {
                Some(match (inner.parts.records.refs_of(patient).await?.is_empty(), held.letter) {
                    (_, Some(at)) => Told::Letter(at),
                    (false, None) => Told::Wallet,
                    (true, None) => Told::LetterDue,
                })
            }
        };
        let (given, reviewed) = (held.given()?, review(held.review.as_ref())?);
        let reviewed_by = match &reviewed {
            None => None,
            Some(it) => {
                let aad = break_glass_binding(&it.id);
                // One that cannot be read here was still given.
                let plain = open_part(&inner.parts.identity.ring, &aad, it.sealed_to_source.as_ref()).ok();
                let details = plain.and_then(|plain| codec::decode(&plain, MAX_MESSAGE_BYTES).ok());
                let details = details.filter(ReviewDetails::is_readable);
                details.map(|it| (it.by, it.note.filter(|_| !held.is_forgotten)))
            }
        };
        let is_to_review = patient.is_some() && given.is_some() && reviewed.is_none();
        Ok(GlassView {
            is_asking: false,
            other: Some(by),
            local: patient,
            second: second.map(|(_, who)| who),
            refused: held.refused()?,
            review: reviewed.map(|it| (it.verdict, it.issued)),
            reviewed_by,
            review_due: is_to_review.then(|| held.review_due()),
            told,
            given,
            ..view(&asked, details(inner, &asked.request)?, held.is_forgotten)
        })
    }
}

/// What the request alone says; not of whom, nor why, if they were forgotten.
fn view(asked: &Broken, mut details: BreakGlassDetails, is_forgotten: bool) -> GlassView {
    let request = &asked.request;
    if is_forgotten {
        details.demographics = None;
        details.reason.clear();
    }
    GlassView {
        id: request.id,
        is_asking: true,
        other: None,
        is_forgotten,
        patient: request.patient.filter(|_| !is_forgotten),
        local: None,
        clinician: (asked.clinician.name.clone(), asked.clinician.role.clone()),
        second: None,
        details,
        issued: request.issued,
        until: request.until,
        given: None,
        refused: None,
        waits: None,
        overdue_there: Vec::new(),
        review: None,
        reviewed_by: None,
        review_due: None,
        told: None,
        reads: 0,
    }
}

impl GlassView {
    /// Whether its review is overdue.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.review_due.is_some_and(|due| now >= due)
    }
}
