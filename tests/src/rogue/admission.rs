//! How a rogue becomes a member: it enrols and proves both keys; the real root and two operators do the rest, as they
//! would for any hospital.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use handover_core::artefact::Verified;
use handover_core::artefact::federation::{
    CertificateRequest, EnrolmentProof, EnrolmentRequest, HospitalProfile,
};
use handover_core::message::Verb;
use handover_core::{Code, Digest, Edition, HospitalId};
use handover_net::Presented;
use handover_scenarios::process::call;
use handover_scenarios::programs::Programs;
use handover_scenarios::world::World;

use super::{Rogue, none, now, until};

/// The world's operators.
const OPERATORS: [&str; 2] = ["ana", "ben"];

impl Rogue {
    /// What it sends to be enrolled.
    #[must_use]
    pub fn enrolment(&self) -> (Vec<Vec<u8>>, Digest) {
        self.enrolment_of(self.id(), self.keys.profile.number)
    }

    /// Sends the index a newer profile of a member: it counts at once.
    ///
    /// # Errors
    /// The index says no.
    pub fn renew_profile(&self, number: u64) -> Result<()> {
        let (items, _) = self.enrolment_of(self.id(), number);
        self.ask(&self.index, Verb::Enrol, items).map(drop).map_err(|code| anyhow!("renew: {code}"))
    }

    /// The rogue's key asks to succeed a hospital's, with a profile of that number, and proves that it has it.
    ///
    /// # Errors
    /// Why the index does not take it.
    pub fn asks_to_succeed(&self, hospital: &HospitalId, number: u64) -> Result<(), Code> {
        let (items, request) = self.enrolment_of(hospital, number);
        self.proves(hospital, items, request)
    }

    fn proves(&self, hospital: &HospitalId, items: Vec<Vec<u8>>, request: Digest) -> Result<(), Code> {
        let challenge = self.ask(&self.index, Verb::Enrol, items)?;
        let wrapped = challenge.first().ok_or(Code::Malformed)?;
        let secret = self.keys.ring.current().unwrap(wrapped).map_err(|fault| fault.code())?;
        let proof = EnrolmentProof {
            hospital: hospital.clone(),
            request,
            answer: Digest::sha256(&[&secret]),
            extensions: none(),
        };
        let proof = Verified::sign(proof, &self.keys.signing).envelope().to_vec();
        self.ask(&self.index, Verb::Prove, vec![proof]).map(drop)
    }

    fn enrolment_of(&self, hospital: &HospitalId, number: u64) -> (Vec<Vec<u8>>, Digest) {
        let (id, signing) = (hospital.clone(), &self.keys.signing);
        let profile = HospitalProfile {
            reads: Edition::FIRST,
            hospital: id.clone(),
            addresses: self.net.addresses(),
            issued: now(),
            number,
            ..(*self.keys.profile).clone()
        };
        let request = EnrolmentRequest {
            hospital: id.clone(),
            name: "A hospital like any other".to_owned(),
            key: signing.public(),
            profile: Verified::sign(profile, signing).envelope().to_vec().into(),
            issued: now(),
            extensions: none(),
        };
        let certificate = CertificateRequest {
            authority: None,
            hospital: Some(id),
            name: "A hospital like any other".to_owned(),
            key: signing.public(),
            issued: now(),
            extensions: none(),
        };
        let request = Verified::sign(request, signing);
        let certificate = Verified::sign(certificate, signing);
        (vec![request.envelope().to_vec(), certificate.envelope().to_vec()], request.hash())
    }

    /// Enrols, is certified and approved, and connects to everybody.
    ///
    /// # Errors
    /// Somebody says no.
    pub fn join(&self, world: &World, programs: &Programs) -> Result<()> {
        let (items, request) = self.enrolment();
        self.proves(self.id(), items, request).map_err(|code| anyhow!("enrol: {code}"))?;
        self.admitted(world, programs)?;
        self.meets_everybody()
    }

    /// Connects to everybody, who all let it in.
    ///
    /// # Errors
    /// Somebody does not.
    pub fn meets_everybody(&self) -> Result<()> {
        self.refresh()?;
        for route in [self.index(), self.route(&"lakeside".parse()?)?, self.route(&"riverside".parse()?)?] {
            // Their directories are on their way.
            until(&format!("{} admits it", route.party), || {
                self.renew_hello();
                self.connect(&route) == Ok(Presented::Accepted)
            })?;
        }
        Ok(())
    }

    /// The root certifies it, two operators approve it.
    fn admitted(&self, world: &World, programs: &Programs) -> Result<()> {
        let id = self.id().as_str();
        let path = |name: &str| world.folder().join("federation").join(name);
        let (request, certificate) = (path(&format!("{id}.request")), path(&format!("{id}.certificate")));
        world.index(&["hospital", "request", id, "--out", text(&request)?])?.done()?;
        let mut sign = Command::new(&programs.index);
        sign.args(["--json", "root", "sign", "--root-key"]).arg(path("root.key"));
        sign.arg("--passphrase-file").arg(world.folder().join("secrets").join("root"));
        sign.arg("--request").arg(&request).arg("--out").arg(&certificate);
        call(sign)?.done()?;
        world.index(&["hospital", "certify", id, "--certificate", text(&certificate)?])?.done()?;
        self.approved(world)
    }

    /// Two operators approve it.
    ///
    /// # Errors
    /// The index does not take it.
    pub fn approved(&self, world: &World) -> Result<()> {
        let id = self.id().as_str();
        let path = |name: &str| world.folder().join("federation").join(name);
        for operator in OPERATORS {
            let (key, secret) =
                (path(&format!("{operator}.key")), world.folder().join("secrets").join(operator));
            let mut args = vec!["hospital", "approve", id, "--reason", "looks honest"];
            args.extend(["--operator-key", text(&key)?, "--operator-passphrase-file", text(&secret)?]);
            world.index(&args)?.done()?;
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))
}
