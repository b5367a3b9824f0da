//! Operations on the registry and the directory.

use handover_core::HospitalId;
use handover_core::artefact::Signed;
use handover_core::artefact::federation::{AuthorityCertificate, StatusOrder};
use handover_core::codec;
use handover_core::id::SigningPublic;

use super::views::{
    DirectoryView, HospitalContext, HospitalView, Hospitals, MemberView, OperatorView, Ordered, PendingView,
    ScheduleContext,
};
use super::{Hex, Operations, OpsError};
use crate::desk::Changed;
use crate::registry::{self, Hospital, Outcome};

fn operator_view(operator: &AuthorityCertificate) -> OperatorView {
    OperatorView {
        name: operator.name.clone(),
        key: operator.key.to_string(),
        not_after: operator.not_after.to_string(),
    }
}

fn view(row: &Hospital, successors: &[Hospital]) -> Result<HospitalView, OpsError> {
    let pending = match &row.pending {
        None => None,
        Some(envelope) => {
            let order = Signed::<StatusOrder>::read(envelope.as_ref())?;
            Some(PendingView {
                what: order.claim().status.to_string(),
                reason: order.claim().reason.clone(),
                by: order.kid().to_string(),
            })
        }
    };
    Ok(HospitalView {
        hospital: row.hospital.clone(),
        name: row.name.clone(),
        status: registry::standing(row).to_owned(),
        number: row.number,
        key: row.key.to_string(),
        profile_number: row.profile_number,
        since: row.since.to_string(),
        pending,
        former_keys: row.former.as_deref().map_or(0, <[_]>::len),
        successors: successors.iter().map(|row| view(row, &[])).collect::<Result<_, _>>()?,
    })
}

impl Operations {
    pub(super) async fn hospitals(&self) -> Result<Hospitals, OpsError> {
        let keys = self.desk.keys.clone();
        let read = self.desk.store.read(move |txn| -> Result<_, OpsError> {
            let rows = registry::hospitals(txn, &keys)?.into_iter();
            rows.map(|row| view(&row, &registry::successors(txn, &keys, &row.hospital)?)).collect()
        });
        Ok(Hospitals { hospitals: read.await? })
    }

    pub(super) async fn operators(&self) -> Result<Vec<OperatorView>, OpsError> {
        let (keys, root, now) = (self.desk.keys.clone(), self.desk.seat.root, self.desk.now());
        let operators = self.desk.store.read(move |txn| registry::operators(txn, &keys, &root, now)).await?;
        Ok(operators.iter().map(operator_view).collect())
    }

    pub(super) async fn hospital(
        &self,
        hospital: HospitalId,
        successor: Option<SigningPublic>,
    ) -> Result<HospitalContext, OpsError> {
        let keys = self.desk.keys.clone();
        let read = self.desk.store.read(move |txn| -> Result<_, OpsError> {
            let row = registry::known_hospital(txn, &keys, &hospital)?;
            // One that has succeeded is asked for like any.
            Ok(match successor.filter(|key| *key != row.key) {
                None => {
                    let successors = registry::successors(txn, &keys, &hospital)?;
                    (view(&row, &successors)?, row)
                }
                Some(key) => {
                    let row = registry::known_successor(txn, &keys, &hospital, &key.thumbprint())?;
                    (view(&row, &[])?, row)
                }
            })
        });
        let (hospital, row) = read.await?;
        Ok(HospitalContext {
            hospital,
            certificate_request: Hex(row.certificate_request.0),
            pending: row.pending.map(|pending| Hex(pending.0)),
            order: row.order.map(|order| Hex(order.0)),
            operators: self.operators().await?,
            directory_version: self.desk.current().version(),
        })
    }

    pub(super) async fn certify(&self, certificate: Hex) -> Result<HospitalView, OpsError> {
        let (keys, root, now) = (self.desk.keys.clone(), self.desk.seat.root, self.desk.now());
        let hospital =
            self.desk.change(move |txn| registry::certify(txn, &keys, &certificate.0, &root, now)).await?;
        Ok(self.hospital(hospital, None).await?.hospital)
    }

    pub(super) async fn order(&self, envelope: Hex) -> Result<Ordered, OpsError> {
        let about = registry::ordered_hospital(&envelope.0)?;
        let key_of =
            |it: &Self| it.desk.current().federation().member(&about).ok().map(|it| it.certificate.key);
        let before = key_of(self);
        let (keys, root, now) = (self.desk.keys.clone(), self.desk.seat.root, self.desk.now());
        let outcome = self
            .desk
            .change(move |txn| {
                let operators = registry::operators(txn, &keys, &root, now)?;
                registry::submit_order(txn, &keys, &envelope.0, &operators, now)
            })
            .await?;
        if outcome == Outcome::Effective {
            let is_replaced = key_of(self) != before;
            self.recheck(is_replaced.then_some(about)).await;
        }
        Ok(self.ordered(&outcome))
    }

    pub(super) async fn drop_enrolment(
        &self,
        hospital: HospitalId,
        successor: Option<SigningPublic>,
    ) -> Result<HospitalView, OpsError> {
        let keys = self.desk.keys.clone();
        let dropped = self.desk.store.write(move |txn| match successor {
            None => registry::drop_enrolment(txn, &keys, &hospital),
            Some(key) => registry::drop_successor(txn, &keys, &hospital, &key.thumbprint()),
        });
        let row = dropped.await?;
        tracing::info!(hospital = %row.hospital, key = %row.key, "an enrolment was dropped");
        view(&row, &[])
    }

    pub(super) fn ordered(&self, outcome: &Outcome) -> Ordered {
        let outcome = match outcome {
            Outcome::Pending => "pending",
            Outcome::Effective => "effective",
        };
        Ordered { outcome: outcome.to_owned(), directory_version: self.desk.current().version() }
    }

    pub(super) async fn add_operator(&self, certificate: Hex) -> Result<OperatorView, OpsError> {
        let (keys, root, now) = (self.desk.keys.clone(), self.desk.seat.root, self.desk.now());
        let operator = self
            .desk
            .change(move |txn| -> Result<(AuthorityCertificate, Changed), registry::RegistryError> {
                registry::add_operator(txn, &keys, &certificate.0, &root, now)
            })
            .await?;
        Ok(operator_view(&operator))
    }

    pub(super) async fn schedule(&self, jurisdiction: String) -> Result<ScheduleContext, OpsError> {
        let (keys, wanted) = (self.desk.keys.clone(), jurisdiction.clone());
        let (newest, pending) = self
            .desk
            .store
            .read(move |txn| {
                let newest = registry::newest_schedule(txn, &keys, &wanted)?;
                Ok::<_, OpsError>((newest, registry::pending_schedule(txn, &keys, &wanted)?))
            })
            .await?;
        let now = self.desk.now();
        let in_force = self.desk.current().federation().schedule(&jurisdiction, now).map(codec::encode);
        Ok(ScheduleContext {
            jurisdiction,
            number: newest.as_ref().map_or(0, |schedule| schedule.number),
            in_force: in_force.map(Hex),
            newest: newest.map(|schedule| Hex(codec::encode(&schedule))),
            pending: pending.map(Hex),
            operators: self.operators().await?,
            directory_version: self.desk.current().version(),
        })
    }

    pub(super) async fn submit_schedule(&self, envelope: Hex) -> Result<Ordered, OpsError> {
        let (keys, root, now) = (self.desk.keys.clone(), self.desk.seat.root, self.desk.now());
        let outcome = self
            .desk
            .change(move |txn| {
                let operators = registry::operators(txn, &keys, &root, now)?;
                registry::submit_schedule(txn, &keys, &envelope.0, &operators, now)
            })
            .await?;
        Ok(self.ordered(&outcome))
    }

    pub(super) fn directory(&self) -> DirectoryView {
        let current = self.desk.current();
        let (federation, directory) = (current.federation(), current.federation().directory());
        let mut hospitals: Vec<MemberView> = federation
            .members()
            .map(|member| MemberView {
                hospital: member.certificate.hospital.clone(),
                name: member.certificate.name.clone(),
                status: member.order.status.to_string(),
                key: member.certificate.key.to_string(),
                addresses: member.profile.addresses.clone(),
                patient_url: member.profile.patient_url.clone(),
                currency: member.profile.currency.to_string(),
                jurisdiction: member.profile.jurisdiction.clone(),
            })
            .collect();
        hospitals.sort_by(|one, other| one.hospital.cmp(&other.hospital));
        DirectoryView {
            version: directory.version,
            issued: directory.issued.to_string(),
            expires: directory.expires.to_string(),
            bytes: federation.bytes(),
            pieces: directory.pieces.len(),
            operators: federation.operators().iter().map(operator_view).collect(),
            hospitals,
            schedules: directory.schedules.len(),
            log_size: directory.log_size,
            log_root: directory.log_root.to_string(),
            addresses: directory.addresses.clone(),
        }
    }
}
