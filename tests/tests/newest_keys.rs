//! What source, destination and index take of a patient when they know newer keys than it is signed under.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::artefact::patient::{CLOCK_SKEW_MS, KeyAuthority};
use handover_core::key_chain::Standing;
use handover_core::transfer::Role;
use handover_core::{Code, KeyChain};
use handover_dossier::{Dossier, DossierError, Taken, key_records, transfer_of};
use handover_seal::Ed25519;
use handover_store::{CellKey, Store};
use handover_tests::fixture::{Patient, Plan, Story, T0, World};
use tokio::runtime::Runtime;

const ROLES: [Role; 3] = [Role::Source, Role::Destination, Role::Index];

struct Desk {
    role: Role,
    store: Store,
    runtime: Runtime,
}

impl Desk {
    fn new(role: Role) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { role, store: Store::memory(&CellKey::from_bytes([7; 32])), runtime }
    }

    /// One at which the patient is known with these keys.
    fn knowing(role: Role, patient: &Patient) -> Self {
        let desk = Self::new(role);
        let (keys, chain) = (desk.store.keys(), patient.chain());
        let begun = desk.store.write(move |txn| key_records::begin(txn, &keys, &chain, &Ed25519, T0));
        assert!(desk.runtime.block_on(begun).unwrap());
        desk
    }

    fn offer(&self, patient: &Patient) -> Result<Option<Standing>, Code> {
        let (keys, chain) = (self.store.keys(), patient.chain());
        let offered = self.store.write(move |txn| key_records::offer(txn, &keys, &chain, &Ed25519, T0));
        self.runtime.block_on(offered).map_err(|fault| fault.code())
    }

    fn held(&self, patient: &Patient) -> Option<KeyChain> {
        let (keys, reference) = (self.store.keys(), patient.reference());
        let held = self.store.read(move |txn| key_records::held(txn, &keys, &reference));
        let held = self.runtime.block_on(held).unwrap();
        held.map(|row| KeyChain::verify(&row.records, &Ed25519).unwrap())
    }

    fn take(&self, content: &[u8], is_copy: bool) -> Result<Taken, Code> {
        let (keys, role, content) = (self.store.keys(), self.role, content.to_vec());
        let transfer = transfer_of(&content)?;
        let taken = self.store.write(move |txn| {
            let mut dossier = Dossier::of(txn, &keys, transfer);
            if is_copy {
                dossier.take_copy(&content, World::context(), T0)
            } else {
                dossier.take_in(role, &content, World::context(), T0)
            }
        });
        self.runtime.block_on(taken).map_err(|fault: DossierError| fault.code())
    }

    fn takes(&self, contents: &[&[u8]]) {
        for content in contents {
            self.take(content, false).unwrap();
        }
    }
}

fn story() -> (Story, Patient) {
    let story = Story::tell(Plan::opaque(1));
    let next = story.patient.with_device("next device", KeyAuthority::Device, T0.plus_ms(1));
    (story, next)
}

#[test]
fn nothing_new_is_taken_under_keys_of_before() {
    let (story, next) = story();
    for role in ROLES {
        let desk = Desk::knowing(role, &next);
        let refused = desk.take(story.request.envelope(), false).map(drop);
        assert_eq!(refused, Err(Code::KeyRecordOutdated), "{role:?}");

        let desk = Desk::knowing(role, &story.patient);
        desk.takes(&[story.request.envelope(), story.quote.envelope()]);
        assert_eq!(desk.offer(&next), Ok(Some(Standing::Newer)));
        for content in [story.consent.envelope(), story.patient_refusal.envelope()] {
            let refused = desk.take(content, false).map(drop);
            assert_eq!(refused, Err(Code::KeyRecordOutdated), "{role:?}");
        }
        // It is there already.
        assert!(!desk.take(story.request.envelope(), false).unwrap().is_new);
    }
}

#[test]
fn what_was_taken_before_goes_on() {
    let (story, next) = story();
    for role in ROLES {
        let desk = Desk::knowing(role, &story.patient);
        desk.takes(&[story.request.envelope(), story.quote.envelope(), story.consent.envelope()]);
        assert_eq!(desk.offer(&next), Ok(Some(Standing::Newer)));
        assert!(!desk.take(story.consent.envelope(), false).unwrap().is_new);
        let refused = desk.take(story.share_release.envelope(), false).map(drop);
        assert_eq!(refused, Err(Code::KeyRecordOutdated), "{role:?}");
        desk.takes(&[
            story.header.envelope(),
            story.delivered.envelope(),
            story.key_release.envelope(),
            story.receipt.envelope(),
        ]);
    }
}

/// The hospitals acted on it while the index was away: its books need it.
#[test]
fn the_index_takes_copies_as_they_were_signed() {
    let (story, next) = story();
    let desk = Desk::knowing(Role::Index, &next);
    for content in story.to_receipt() {
        assert!(desk.take(&content, true).unwrap().is_new);
    }
    assert_eq!(desk.held(&next), Some(next.chain()));
}

#[test]
fn better_keys_are_kept_with_what_brings_them() {
    let story = Story::tell(Plan::opaque(1));
    for role in ROLES {
        // Nobody is known here by an artefact of a transfer alone.
        let desk = Desk::new(role);
        desk.takes(&[story.request.envelope()]);
        assert_eq!(desk.held(&story.patient), None);
        assert_eq!(desk.offer(&story.patient), Ok(None));
    }
    let (pat, at) = (&story.patient, |ms| T0.plus_ms(ms));
    let stolen = pat.with_device("thief", KeyAuthority::Device, at(1));
    let own = pat.with_device("own", KeyAuthority::Device, at(2));
    let recovered = pat.with_device("recovered", KeyAuthority::Recovery, at(3));
    let desk = Desk::knowing(Role::Index, pat);
    assert_eq!(desk.offer(&stolen), Ok(Some(Standing::Newer)));
    assert_eq!(desk.offer(&own), Ok(Some(Standing::ForkLost)));
    assert_eq!(desk.offer(pat), Ok(Some(Standing::Older)));
    assert_eq!(desk.held(pat), Some(stolen.chain()));
    assert_eq!(desk.offer(&recovered), Ok(Some(Standing::Newer)));
    assert_eq!(desk.offer(&stolen), Ok(Some(Standing::ForkLost)));
    assert_eq!(desk.offer(&recovered), Ok(Some(Standing::Same)));
    // One from the future would outlast every honest recovery until then.
    let early = recovered.with_device("early", KeyAuthority::Device, at(CLOCK_SKEW_MS + 1));
    assert_eq!(desk.offer(&early), Err(Code::ClockOff));
    assert_eq!(desk.held(pat), Some(recovered.chain()));
}
