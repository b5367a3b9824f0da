//! The sealed parts of a transfer: each opens for those whom it is meant for, in this transfer, and for nobody else.

use handover_core::artefact::patient::{ConsentDetails, Scope};
use handover_core::artefact::transfer::QuoteBody;
use handover_core::codec::{self, MAX_MESSAGE_BYTES};
use handover_core::message::{CONSENT_DETAILS_LABEL, QUOTE_INFO, REQUEST_SCOPE_LABEL, part_binding};
use handover_core::{Digest, KeyChain, TransferId, rules};
use handover_seal::shares::{SealedShares, open_grant_key};
use handover_seal::{Ed25519, SealError, hpke_open_padded, part};
use handover_tests::fixture::{Hospital, Plan, Story, T0, World};

fn stories() -> (Story, Story) {
    (Story::tell(Plan::real(1)), Story::tell(Plan::real(2)))
}

fn opened(by: &Hospital, label: &[u8], transfer: &TransferId, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    part::open_part(&by.ring, &part_binding(label, transfer), sealed).map(|opened| opened.to_vec())
}

#[test]
fn a_story_is_the_same_every_time() {
    for plan in [Plan::real(1), Plan::opaque(1).narrowed()] {
        assert_eq!(Story::tell(plan).to_receipt(), Story::tell(plan).to_receipt());
    }
    let (one, other) = stories();
    assert!(one.to_receipt().iter().all(|content| !other.to_receipt().contains(content)));
}

#[test]
fn scopes_and_details_open_for_their_hospital_alone() {
    let (world, (story, other)) = (World::shared(), stories());
    let (lakeside, riverside) = (&world.lakeside, &world.riverside);
    let sealed = story.request.sealed.as_ref();
    let scope = opened(lakeside, REQUEST_SCOPE_LABEL, &story.id, sealed).unwrap();
    assert_eq!(codec::decode::<Scope>(&scope, MAX_MESSAGE_BYTES), Ok(Scope::everything()));
    for by in [riverside, &world.hillcrest] {
        assert!(matches!(opened(by, REQUEST_SCOPE_LABEL, &story.id, sealed), Err(SealError::UnknownKey(_))));
    }
    for (label, id) in [(CONSENT_DETAILS_LABEL, &story.id), (REQUEST_SCOPE_LABEL, &other.id)] {
        assert!(matches!(opened(lakeside, label, id, sealed), Err(SealError::CannotOpen)));
    }
    let consent = &story.consent;
    for (by, sealed) in [(lakeside, &consent.sealed_to_source), (riverside, &consent.sealed_to_destination)] {
        let details = opened(by, CONSENT_DETAILS_LABEL, &story.id, sealed.as_ref()).unwrap();
        assert_eq!(Digest::sha256(&[&details]), consent.details);
        assert_eq!(codec::decode::<ConsentDetails>(&details, MAX_MESSAGE_BYTES).as_ref(), Ok(&story.details));
    }
}

#[test]
fn a_quote_opens_for_its_patient_alone() {
    let (story, other) = stories();
    let open = |by: &Story, id: &TransferId| {
        hpke_open_padded(&by.patient.sealing, QUOTE_INFO, id.as_bytes(), story.quote.sealed.as_ref())
    };
    let body = open(&story, &story.id).unwrap();
    assert_eq!(Digest::sha256(&[&body]), story.quote.commitment);
    assert_eq!(codec::decode::<QuoteBody>(&body, MAX_MESSAGE_BYTES).as_ref(), Ok(&story.body));
    assert!(open(&other, &story.id).is_err() && open(&story, &other.id).is_err());
}

#[test]
fn shares_open_with_both_keys_and_give_the_announced_content_key() {
    let (world, (story, other)) = (World::shared(), stories());
    let release = &story.share_release;
    let grant = |by: &Story, consent: &Digest| {
        open_grant_key(&by.request_key, consent, &story.consent.grant_key, release.sealed.as_ref())
    };
    let grant_key = grant(&story, &story.consent.hash()).unwrap();
    assert!(grant(&other, &story.consent.hash()).is_err(), "another request's key");
    assert!(grant(&story, &other.consent.hash()).is_err(), "another consent");

    let shares = story.key_release.shares.as_ref();
    let sealed: SealedShares = codec::decode(shares, MAX_MESSAGE_BYTES).unwrap();
    assert_eq!(sealed.hash(), story.header.shares);
    assert_eq!(sealed.hash(), rules::shares_hash(shares), "one definition, in two rooms");
    let binding = story.binding();
    let opened = sealed.open(&binding, &world.riverside.ring, &grant_key).unwrap();
    opened.content_secrets(&binding).unwrap().check(story.header.commitment.as_bytes()).unwrap();

    assert!(sealed.open(&binding, &world.hillcrest.ring, &grant_key).is_err(), "another hospital");
    assert!(sealed.open(&binding, &world.riverside.ring, &other.grant_key).is_err(), "without the patient");
    let mut elsewhere = binding.clone();
    elsewhere.attempt = 2;
    assert!(sealed.open(&elsewhere, &world.riverside.ring, &grant_key).is_err(), "another attempt");
    let swapped = opened.content_secrets(&elsewhere).unwrap();
    assert!(swapped.check(story.header.commitment.as_bytes()).is_err(), "another attempt's key");
}

/// The ask's life begins where the fixture does, so every test may use [`T0`] as now.
#[test]
fn the_fixture_is_in_time() {
    let story = Story::tell(Plan::opaque(1));
    assert_eq!(rules::ask_in_time(&story.ask, T0), Ok(()));
    assert_eq!(rules::consent_in_time(&story.consent, story.header.issued), Ok(()));
    assert!(KeyChain::of(&story.patient.records, &story.patient.reference(), &Ed25519).is_ok());
}
