//! Reading what came: by a clinician of this hospital who signs for it, an audit line first, until the window ends.

use std::io::Read as _;

use handover_core::artefact::Signed;
use handover_core::artefact::break_glass::{BreakGlassReading, EmergencyScope};
use handover_core::rules;
use handover_core::{BreakGlassId, Code, HospitalId};
use handover_records::{Action, Purpose, Subject};
use handover_seal::break_glass::GlassBinding;
use handover_seal::stream::OpenReader;
use handover_seal::{Remembered, Secret32, Zeroizing};
use handover_store::rows;

use super::asking::{local, row};
use super::clinicians::check_in_force;
use super::fetching::{given, take_pieces_of};
use super::rows::OutRow;
use super::{OUT, broken, grant, place};
use crate::{Exchange, ExchangeError};

/// What was read.
pub struct Opened {
    /// How much it is.
    pub scope: EmergencyScope,
    /// Where it is from.
    pub source: HospitalId,
    /// A FHIR Bundle.
    pub bundle: Zeroizing<Vec<u8>>,
}

impl Exchange {
    /// Opens what came, for a clinician who signed that they read it. The audit line is durable first.
    ///
    /// # Errors
    /// [`Code::ClinicianUnknown`]; [`Code::BreakGlassOver`] after the window; [`Code::OutOfOrder`] before anything came.
    pub async fn read_emergency(&self, signed: &[u8]) -> Result<(BreakGlassId, Opened), ExchangeError> {
        let (inner, now) = (&self.0, self.0.now());
        let claim = Signed::<BreakGlassReading>::read(signed).map_err(|fault| fault.code())?;
        let held = row(inner, claim.claim().id).await?;
        let asked = broken(inner, held.request.as_ref(), inner.own())?;
        let key = inner.parts.identity.signing.public();
        let (reading, who) = rules::break_glass_reading(signed, inner.own(), &key, now, &Remembered)?;
        rules::break_glass_in_time(&asked.request, now)?;
        let answer = given(&held)?;
        let listed = answer.given.as_ref().ok_or(Code::OutOfOrder)?;
        let line = (Action::ReadEmergency, Purpose::Emergency);
        let subject = Subject::staff(&who.name);
        let line = grant(subject, line, local(held.patient.as_deref())?, Some(reading.id));
        let (work, keys, id) = (self.clone(), inner.keys(), reading.id);
        let write = inner.parts.store.write(move |txn| -> Result<(), ExchangeError> {
            check_in_force(txn, &work.0, &who, now)?;
            work.0.parts.records.audit().permit_in(txn, &line, now)?;
            let key = place(&keys, OUT, &id);
            let mut held: OutRow = rows::get(txn, &key)?.ok_or(Code::UnknownBreakGlass)?;
            held.reads = held.reads.saturating_add(1);
            Ok(rows::put(txn, &key, &held)?)
        });
        write.await?;
        let sealed = take_pieces_of(inner, answer.asked, listed.pieces.len()).await?;
        // The answer's signature verified when it came.
        let share = inner.parts.identity.ring.find(&listed.key)?.unwrap(listed.share.as_ref())?;
        let binding = GlassBinding {
            source: answer.source.clone(),
            requesting: inner.own().clone(),
            id,
            asked: answer.asked,
        };
        let secrets = binding.content_secrets(&Secret32::from_slice(&share)?)?;
        secrets.check(&listed.commitment)?;
        let mut bundle = Zeroizing::new(Vec::with_capacity(sealed.len()));
        let read = OpenReader::new(sealed.as_slice(), &secrets.cek).read_to_end(&mut bundle);
        read.map_err(|_| Code::CannotOpen)?;
        Ok((id, Opened { scope: answer.scope, source: answer.source, bundle }))
    }
}
