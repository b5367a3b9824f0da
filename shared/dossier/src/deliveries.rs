//! Deliveries under a continuous consent: transfers of their own, which continue the one that the consent was given for
//! (their *origin*), and share its cap.
//!
//! Invariants: a delivery begins only where its origin's consent is known and its patient's share is out; at a hospital
//! after the origin was filed, and one at a time. All fees that stand or may come to stand are within the consent's cap
//! together, whoever takes the header in.

use std::collections::VecDeque;

use handover_core::artefact::Verified;
use handover_core::artefact::patient::{Consent, ConsentMode};
use handover_core::codec::Extensions;
use handover_core::rules::{self, Context};
use handover_core::transfer::{Phase, Role, State};
use handover_core::{Amount, Code, Timestamp, TransferId, cbor_map};
use handover_store::{KeyBuilder, SCAN_MAX_CELLS, rows};

use crate::intake::{Way, both_take_part, is_by_destination};
use crate::{Dossier, DossierError, Kind, Row, Taken};

cbor_map! {
    /// A transfer that is made under a continuous consent, and its fee.
    struct FeeRow {
        /// The transfer.
        1 => transfer: TransferId,
        /// Its fee.
        2 => fee: Amount,
    }
}

/// Whether a transfer's fee stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does, or may come to.
    Stands,
    /// The destination ended the transfer with the package in its hands: people look at that.
    Held,
    /// Nothing is due, nor will be.
    Gone,
}

impl Standing {
    /// Its word: `stands`, `held`, `gone`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stands => "stands",
            Self::Held => "held",
            Self::Gone => "gone",
        }
    }
}

impl Dossier<'_> {
    fn deliveries_of(&self, origin: TransferId) -> KeyBuilder {
        self.keys.space("delivery").raw(origin.as_bytes())
    }

    fn fees_of(&self, origin: TransferId) -> KeyBuilder {
        self.keys.space("delivery-fee").raw(origin.as_bytes())
    }

    /// The newest deliveries that continue this transfer, at most `limit`, oldest first; and how many there are in all.
    ///
    /// # Errors
    /// [`DossierError::Store`].
    pub fn deliveries(&mut self, limit: usize) -> Result<(Vec<Row>, u64), DossierError> {
        let all = self.deliveries_of(self.transfer()).build();
        let (mut newest, mut count, mut after) = (VecDeque::new(), 0_u64, None::<Vec<u8>>);
        loop {
            let page = self.txn.scan(&all, after.as_deref(), SCAN_MAX_CELLS)?;
            let is_last = page.len() < SCAN_MAX_CELLS;
            for (key, id) in page {
                newest.push_back(id);
                if newest.len() > limit {
                    newest.pop_front();
                }
                (count, after) = (count.saturating_add(1), Some(key));
            }
            if is_last {
                break;
            }
        }
        let mut rows = Vec::with_capacity(newest.len());
        for id in newest {
            let id = TransferId::try_from(id.as_slice()).map_err(|_| rows::damaged("a delivery"))?;
            rows.extend(Dossier::of(self.txn, &self.keys, id).row()?);
        }
        Ok((rows, count))
    }

    /// Begins a delivery with its quote, as consented to. One whose consent was taken back before it came ends at once.
    pub(crate) fn begin_delivery(
        &mut self,
        role: Role,
        content: &[u8],
        origin: TransferId,
        way: Way,
        context: Context<'_>,
        now: Timestamp,
    ) -> Result<Taken, DossierError> {
        let missing = DossierError::Refused(Code::EvidenceMissing);
        let mut of = Dossier::of(self.txn, &self.keys, origin);
        let begun = of.row()?.ok_or(missing)?;
        let (on, consent) = (of.request(context)?, of.consent(context)?);
        let is_shared = !of.attempts_with(Kind::ShareRelease)?.is_empty();
        let is_revoked = of.get(Kind::Revocation)?.is_some();
        let quote = rules::delivery(content, &on, &consent, context)?;
        // Copies come in any order; so does what is taken back.
        let is_first = role != Role::Index && way != Way::Back;
        if quote.narrows.is_some() || !is_shared || (is_first && begun.state.phase != Phase::Filed) {
            return Err(Code::EvidenceMissing.into());
        }
        if is_first && of.under_way()?.is_some() {
            return Err(Code::Busy.into());
        }
        let mut row = Row::new(
            self.transfer(),
            role,
            State::of(Phase::Consented),
            begun.patient,
            begun.source,
            begun.destination,
            now,
        );
        row.origin = Some(origin);
        if way != Way::Back {
            both_take_part(&row, context, now)?;
        }
        self.put_row(&row)?;
        self.put(Kind::Quote.into(), content)?;
        let id = self.transfer().as_bytes().to_vec();
        self.txn.put(&self.deliveries_of(origin).raw(&id).build(), id)?;
        if is_revoked {
            row = self.end(role, Phase::Revoked, Code::ConsentRevoked, now)?;
        }
        Ok(Taken::of(Kind::Quote.into(), row, true))
    }

    /// The delivery that is under way, if one is. They come one after the other, so it is the last.
    ///
    /// # Errors
    /// [`DossierError::Store`].
    pub fn under_way(&mut self) -> Result<Option<Row>, DossierError> {
        Ok(self.unfinished()?.pop())
    }

    fn unfinished(&mut self) -> Result<Vec<Row>, DossierError> {
        let active = self.keys.space("delivery-active").raw(self.transfer().as_bytes()).build();
        let mut rows = Vec::new();
        for (_, id) in self.txn.scan(&active, None, SCAN_MAX_CELLS)? {
            let id = TransferId::try_from(id.as_slice()).map_err(|_| rows::damaged("a delivery"))?;
            rows.extend(Dossier::of(self.txn, &self.keys, id).row()?);
        }
        Ok(rows)
    }

    /// Ends the deliveries that continue this transfer, as far as they can still be ended; those that did.
    pub(crate) fn end_deliveries(&mut self, role: Role, now: Timestamp) -> Result<Vec<Row>, DossierError> {
        let mut ended = Vec::new();
        for row in self.unfinished()? {
            if row.state.phase < Phase::Released {
                let mut delivery = Dossier::of(self.txn, &self.keys, row.transfer);
                ended.push(delivery.end(role, Phase::Revoked, Code::ConsentRevoked, now)?);
            }
        }
        Ok(ended)
    }

    /// Whether this transfer's fee stands, as the index settles it: what was handed over is owed whatever becomes of
    /// later attempts; what the destination gave up with the package in its hands is looked at by people, unless the index
    /// had heard of a revocation first, which nobody here knows; the source may forgo its fee.
    ///
    /// # Errors
    /// [`DossierError::Store`]; why a refusal that is kept does not verify.
    pub fn standing(&mut self, context: Context<'_>) -> Result<Standing, DossierError> {
        let Some(row) = self.row()? else { return Ok(Standing::Gone) };
        if !row.state.phase.is_final() || row.state.phase == Phase::Filed {
            return Ok(Standing::Stands);
        }
        if !self.attempts_with(Kind::Receipt)?.is_empty() {
            return Ok(Standing::Stands);
        }
        let refusal = match self.get(Kind::Refusal)? {
            Some(_) => Some(self.refusal(context)?),
            None => None,
        };
        let is_given_up = match &refusal {
            Some(refusal) => is_by_destination(refusal, &row, context)?,
            None => false,
        };
        let mut open = Vec::new();
        for attempt in self.attempts_with(Kind::KeyRelease)? {
            if self.released_with(attempt)?.is_some() {
                open.push(attempt);
            }
        }
        if open.iter().any(|attempt| *attempt < row.state.attempt || !is_given_up) {
            return Ok(Standing::Stands);
        }
        let is_delivered = !self.attempts_with(Kind::Delivered)?.is_empty();
        // Taken back between the two shares.
        let is_shut =
            open.is_empty() && refusal.is_some_and(|it| rules::ended_by(&it).phase == Phase::Revoked);
        Ok(if is_given_up && is_delivered && !is_shut { Standing::Held } else { Standing::Gone })
    }

    /// The fees of the other transfers under this one's consent that are not let go.
    ///
    /// # Errors
    /// As [`Self::standing`].
    pub fn other_fees(&mut self, context: Context<'_>) -> Result<Vec<Amount>, DossierError> {
        let origin = self.origin()?.unwrap_or(self.transfer());
        let (all, mut after, mut fees) = (self.fees_of(origin).build(), None::<Vec<u8>>, Vec::new());
        loop {
            let page = self.txn.scan(&all, after.as_deref(), SCAN_MAX_CELLS)?;
            for (_, value) in &page {
                let FeeRow { transfer, fee, .. } = rows::read(value)?;
                let is_other = transfer != self.transfer();
                let mut other = Dossier::of(self.txn, &self.keys, transfer);
                if is_other && other.standing(context)? != Standing::Gone {
                    fees.push(fee);
                }
            }
            if page.len() < SCAN_MAX_CELLS {
                return Ok(fees);
            }
            after = page.into_iter().next_back().map(|(key, _)| key);
        }
    }

    /// Notes the fee of a header under a continuous consent, which has to be within the cap with all others. At the
    /// receiving ends the word that lets another one go may still be on its way. What its own source takes back was
    /// within the cap when it signed that.
    pub(crate) fn note_fee(
        &mut self,
        row: &Row,
        way: Way,
        consent: &Verified<Consent>,
        fee: Amount,
        context: Context<'_>,
    ) -> Result<(), DossierError> {
        if consent.mode == ConsentMode::OneTime || fee.minor() == 0 {
            return Ok(());
        }
        let key = self.fees_of(consent.transfer).raw(self.transfer().as_bytes()).build();
        if self.txn.get(&key)?.is_some() {
            return Ok(());
        }
        match rules::within_cap(consent, &self.other_fees(context)?, fee) {
            Err(_) if row.role != Role::Source => return Err(Code::EvidenceMissing.into()),
            Err(_) if way == Way::Back => {}
            other => other?,
        }
        let noted = FeeRow { transfer: self.transfer(), fee, extensions: Extensions::default() };
        Ok(rows::put(self.txn, &key, &noted)?)
    }
}
