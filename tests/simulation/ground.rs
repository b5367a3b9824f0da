//! What every story begins with: an index with three hospitals that take part, patients with records at one of them and
//! links to all. It is played once, by the real steps, and each story starts on copies of the disks.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use handover_core::artefact::Verified;
use handover_core::artefact::federation::{
    Authority, AuthorityCertificate, CertificateRequest, EnrolmentProof, EnrolmentRequest, FeeSchedule,
    HospitalProfile, Status,
};
use handover_core::codec::{Bytes, Extensions};
use handover_core::message::{Answer, Request, Verb};
use handover_core::time::{Clock as _, DAY_MS};
use handover_core::{Digest, Edition, Party, PatientRef, Timestamp};
use handover_index::keys::CERTIFICATE_FILE;
use handover_net::Route;
use handover_patient::{PatientKeys, Wallet};
use handover_records::{Action, GrantRequest, NewRecord, Origin, Purpose, Subject};
use handover_tests::fixture::{Hospital as Keys, Seeded, T0, World, by_two};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::clock::Virtual;
use crate::network::{Fabric, addresses_of};
use crate::people::informed;
use crate::places::{Disk, Hospital, IndexSeat, TESTS};

pub(crate) const HOSPITALS: [&str; 3] = ["hillcrest", "lakeside", "riverside"];
pub(crate) const DEPARTMENTS: [&str; 2] = ["cardiology", "radiology"];
/// Patients, each at home in one of the hospitals.
pub(crate) const PATIENTS: usize = 6;
/// A document that does not fit into a cell, so that it travels as a part of its own.
const SCAN_BYTES: usize = 200_000;
const ALLERGY: &str = "AllergyIntolerance";

/// What every hospital calls a patient.
pub(crate) fn name(person: usize) -> String {
    format!("patient-{person}")
}

/// Where a patient's records are.
pub(crate) const fn home(person: usize) -> usize {
    person % HOSPITALS.len()
}

/// A patient as they are before a story: the wallet's bytes, and what each record is.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) wallet: Vec<u8>,
    pub(crate) records: Vec<Held>,
}

impl Person {
    /// By which everybody knows them.
    pub(crate) fn patient(&self) -> Result<PatientRef> {
        Ok(Wallet::from_bytes(&self.wallet).context("a wallet")?.keys.patient())
    }
}

/// A record as the reference model knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) resource_type: &'static str,
    pub(crate) department: &'static str,
    pub(crate) id: String,
    pub(crate) hash: Digest,
    /// What the test that it is costs; 0 if it is none.
    pub(crate) price_minor: i64,
}

impl Held {
    /// Whether it is given out in an emergency to whoever asks alone.
    pub(crate) fn is_for_emergencies(&self) -> bool {
        self.resource_type == ALLERGY
    }
}

/// The disks and patients that stories begin with.
pub(crate) struct Ground {
    pub(crate) index: Disk,
    pub(crate) index_addresses: Vec<String>,
    pub(crate) hospitals: Vec<Disk>,
    pub(crate) people: Vec<Person>,
    pub(crate) at: Timestamp,
}

impl Ground {
    pub(crate) async fn lay() -> Result<Self> {
        let (world, fabric, clock) = (World::shared(), Fabric::new(0), Virtual::at(T0));
        let index = IndexSeat::new(Disk::new()?, clock.clone());
        let authority = |authority, key| {
            let certificate = AuthorityCertificate {
                authority,
                name: "simulated".to_owned(),
                key,
                not_before: T0,
                not_after: T0.plus_ms(365 * DAY_MS),
                extensions: Extensions::default(),
            };
            Verified::sign(certificate, &world.root).envelope().to_vec()
        };
        let certificate = authority(Authority::Index, IndexSeat::keys().signing.public());
        std::fs::write(index.disk.files.path().join(CERTIFICATE_FILE), certificate)?;
        index.start(&fabric).await?;
        for operator in &world.operators {
            let certificate = authority(Authority::Operator, operator.key.public());
            index.op(json!({"op": "operator-add", "certificate": hex::encode(certificate)})).await?;
        }
        for envelope in signed_twice(FeeSchedule::percentage(T0)) {
            index.op(json!({"op": "schedule-submit", "envelope": hex::encode(envelope)})).await?;
        }
        let index_addresses = index.running().context("the index runs")?.net.addresses();
        let mut hospitals = Vec::new();
        for name in HOSPITALS {
            let hospital = Hospital::new(name, Disk::new()?, clock.clone())?;
            hospital.start(&fabric, &index_addresses).await?;
            enrol(&hospital, hospital.first, &index, &index_addresses).await?;
            sleep(Duration::from_secs(60)).await;
            let node = hospital.node().context("it runs")?;
            node.exchange.hospital_info().context("no directory came")?;
            hospitals.push(hospital);
        }
        let mut people = Vec::new();
        for number in 0..PATIENTS {
            people.push(settle(number, &hospitals).await?);
        }
        // The index hears of the links.
        sleep(Duration::from_secs(120)).await;
        for hospital in &hospitals {
            let node = hospital.node().context("it runs")?;
            ensure!(node.exchange.unknown_links().await?.is_empty(), "the index knows not all links");
            hospital.kill(&fabric).await?;
        }
        index.kill(&fabric).await?;
        let hospitals = hospitals.into_iter().map(|hospital| hospital.disk).collect();
        Ok(Self { index: index.disk, index_addresses, hospitals, people, at: clock.now() })
    }
}

/// What the first operator signs, then the second.
fn signed_twice<T: handover_core::artefact::Payload + Clone>(order: T) -> [Vec<u8>; 2] {
    let [first, second] = &World::shared().operators;
    let once = Verified::sign(order.clone(), &first.key).envelope().to_vec();
    [once, by_two(order, &first.key, &second.key)]
}

/// The hospital's process proves its keys, or those that are to succeed them; the root and the operators do the rest.
pub(crate) async fn enrol(
    hospital: &Hospital,
    keys: &Keys,
    index: &IndexSeat,
    addresses: &[String],
) -> Result<()> {
    let node = hospital.node().context("it runs")?;
    let (signing, rsa, now) = (&keys.signing, keys.ring.current(), hospital.now());
    let number = keys.profile.number;
    let profile = HospitalProfile {
        reads: Edition::FIRST,
        hospital: hospital.id.clone(),
        number,
        name: hospital.id.to_string(),
        rsa_key: Bytes(rsa.public().spki_der().to_vec()),
        addresses: addresses_of(&keys.endpoint_key.public()),
        patient_url: "https://localhost:1".to_owned(),
        currency: "USD".parse().map_err(|_| anyhow!("a currency"))?,
        jurisdiction: "US".to_owned(),
        issued: now,
        extensions: Extensions::default(),
    };
    let request = EnrolmentRequest {
        hospital: hospital.id.clone(),
        name: hospital.id.to_string(),
        key: signing.public(),
        profile: Bytes(Verified::sign(profile, signing).envelope().to_vec()),
        issued: now,
        extensions: Extensions::default(),
    };
    let request = Verified::sign(request, signing);
    let certificate = CertificateRequest {
        authority: None,
        hospital: Some(hospital.id.clone()),
        name: hospital.id.to_string(),
        key: signing.public(),
        issued: now,
        extensions: Extensions::default(),
    };
    let certificate = Verified::sign(certificate, signing).envelope().to_vec();
    let route = Route { party: Party::Index, addresses: addresses.to_vec() };
    let ask = async |verb, items| -> Result<Vec<Vec<u8>>> {
        let answer = node.net.request(&route, Request::encode(verb, items)).await?;
        Answer::decode(&answer).map_err(|code| anyhow!("{code}"))
    };
    let challenge = ask(Verb::Enrol, vec![request.envelope().to_vec(), certificate]).await?;
    let secret = rsa.unwrap(challenge.first().context("a challenge")?)?;
    let proof = EnrolmentProof {
        hospital: hospital.id.clone(),
        request: request.hash(),
        answer: Digest::sha256(&[&secret]),
        extensions: Extensions::default(),
    };
    ask(Verb::Prove, vec![Verified::sign(proof, signing).envelope().to_vec()]).await?;
    let certificate = hex::encode(keys.certificate.envelope());
    index.op(json!({"op": "hospital-certify", "certificate": certificate})).await?;
    for envelope in signed_twice(World::order(keys, Status::Active, number)) {
        index.op(json!({"op": "hospital-order", "envelope": hex::encode(envelope)})).await?;
    }
    node.net.renew_hello().await;
    Ok(())
}

/// A patient gets records at home, and links everywhere.
async fn settle(number: usize, hospitals: &[Hospital]) -> Result<Person> {
    let name = name(number);
    let records = charts(&name);
    let (at_home, now) =
        (hospitals.get(home(number)).context("a home")?, hospitals.first().context("one")?.now());
    let node = at_home.node().context("it runs")?;
    let local = name.parse()?;
    let request = GrantRequest::new(Subject::System("import".into()), Action::Import, Purpose::Import, None);
    let permit = node.records.audit().permit(request, now).await?;
    let new = records.iter().map(|(held, content)| new_record(&name, held, content.clone()));
    node.records.import(&permit, now, new.collect::<Result<_>>()?).await?;
    let mut random = Seeded::new(&name);
    let recovery = handover_seal::SigningKey::generate(&mut random).public();
    let keys = PatientKeys::generate(recovery, now, &mut random)?;
    let mut wallet = Wallet::new(keys, World::shared().root.public());
    for hospital in hospitals {
        let node = hospital.node().context("it runs")?;
        let info = informed(&wallet, &node.exchange, now).map_err(|code| anyhow!("{code}"))?;
        let (federation, _) = wallet.take_directory(&info, now)?;
        let code = node.exchange.register_patient("desk", &local, None).await?;
        let link = wallet.link(&hospital.id, &code, &federation, now)?;
        let signed = node.exchange.link(link).await?;
        wallet.linked(&signed, &federation, now)?;
    }
    let records = records.into_iter().map(|(held, _)| held).collect();
    Ok(Person { name, wallet: wallet.to_bytes().to_vec(), records })
}

/// A record as it is imported at its hospital.
pub(crate) fn new_record(patient: &str, held: &Held, content: Vec<u8>) -> Result<NewRecord> {
    Ok(NewRecord {
        patient: patient.parse()?,
        department: held.department.parse()?,
        resource_type: held.resource_type.to_owned(),
        resource_id: held.id.clone(),
        content_hash: held.hash,
        date: Some(T0.plus_ms(-DAY_MS)),
        is_restricted: false,
        file: None,
        content: content.into(),
        origin: Origin::Local,
        mark: None,
        found_by: Vec::new(),
    })
}

/// An allergy; in each department each test once, and in one of them a scan.
fn charts(of: &str) -> Vec<(Held, Vec<u8>)> {
    let mut charts = vec![allergy(format!("{of}-allergy"))];
    for department in DEPARTMENTS {
        for test in TESTS {
            let has_scan = test.0 == "113091000" && department == "radiology";
            let id = format!("{of}-{department}-{}", test.0);
            charts.push(chart(id, department, test, if has_scan { SCAN_BYTES } else { 0 }));
        }
    }
    charts
}

/// A test that was done, of so many bytes and some, and its content.
pub(crate) fn chart(
    id: String,
    department: &'static str,
    (code, price_minor): (&str, i64),
    bytes: usize,
) -> (Held, Vec<u8>) {
    report((id, department), (code, price_minor), "completed", &"x".repeat(bytes))
}

/// A newer report of it.
pub(crate) fn amended(id: String, department: &'static str, test: (&str, i64)) -> (Held, Vec<u8>) {
    report((id, department), test, "completed", "amended")
}

/// One that says that there was none.
pub(crate) fn retracted(id: String, department: &'static str, test: (&str, i64)) -> (Held, Vec<u8>) {
    report((id, department), test, "entered-in-error", "")
}

fn report(
    (id, department): (String, &'static str),
    (code, price_minor): (&str, i64),
    status: &str,
    note: &str,
) -> (Held, Vec<u8>) {
    let content = json!({
        "resourceType": "Procedure", "id": id, "status": status,
        "performedDateTime": "2027-01-14T08:00:00Z",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
        "note": [{"text": note}],
    });
    held("Procedure", (id, department), price_minor, &content)
}

/// What an emergency has to know.
fn allergy(id: String) -> (Held, Vec<u8>) {
    let content = json!({
        "resourceType": ALLERGY, "id": id,
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "91936005"}]},
    });
    held(ALLERGY, (id, DEPARTMENTS[0]), 0, &content)
}

fn held(
    resource_type: &'static str,
    (id, department): (String, &'static str),
    price_minor: i64,
    content: &Value,
) -> (Held, Vec<u8>) {
    let content = content.to_string().into_bytes();
    let hash = Digest::sha256(&[&content]);
    (Held { resource_type, department, id, hash, price_minor }, content)
}
