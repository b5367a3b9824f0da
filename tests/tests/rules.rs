//! Dishonest artefacts against the rules between artefacts: each is refused, and with the code that names the cause.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::artefact::Verified;
use handover_core::artefact::patient::Consent;
use handover_core::artefact::transfer::{CONSENT_MAX_LIFE_MS, PACKAGE_MAX_CONTENTS, PartList, Payer};
use handover_core::rules::{self, Cover};
use handover_core::{Amount, Code, Digest, TransferId};
use handover_seal::Ed25519;
use handover_tests::fixture::{LINK_CODE, Plan, Story, T0, World, altered};
use handover_tests::table::all_refused;

fn story() -> Story {
    Story::tell(Plan::opaque(1))
}

fn other_id() -> TransferId {
    TransferId::new(T0, [7; 10])
}

fn nothing() -> Digest {
    Digest::from_bytes([0; 32])
}

fn usd(minor: i64) -> Amount {
    Amount::from_minor(minor, "USD".parse().unwrap())
}

fn broken(mut envelope: Vec<u8>) -> Vec<u8> {
    *envelope.last_mut().unwrap() ^= 1;
    envelope
}

#[test]
fn the_honest_story_holds() {
    for plan in [Plan::opaque(1), Plan::opaque(2).narrowed(), Plan::real(3), Plan::real(4).narrowed()] {
        let (story, context) = (Story::tell(plan), World::context());
        let on = rules::request(story.request.envelope(), context).unwrap();
        rules::ask_in_time(&on.ask, T0).unwrap();
        let quote = rules::quote(story.quote.envelope(), &on, context).unwrap();
        let consent = rules::consent(story.consent.envelope(), &on, &quote, context).unwrap();
        rules::consent_in_time(&consent, consent.issued).unwrap();
        let header =
            rules::header(story.header.envelope(), story.id, &consent, &patient_pays(&consent), context)
                .unwrap();
        let agreed = story.final_quote.as_ref().unwrap_or(&story.quote);
        rules::header_quote(&header, agreed, &story.quote.hash(), context).unwrap();
        rules::delivered(story.delivered.envelope(), &header, context).unwrap();
        rules::key_release(story.key_release.envelope(), &header, context).unwrap();
        rules::share_release(story.share_release.envelope(), &consent, &Ed25519).unwrap();
        rules::receipt(story.receipt.envelope(), &header, context).unwrap();
        rules::refusal(story.refusal.envelope(), story.id, &on, context).unwrap();
        rules::refusal(story.failure.envelope(), story.id, &on, context).unwrap();
        rules::patient_refusal(story.patient_refusal.envelope(), &on, &Ed25519).unwrap();
        rules::revocation(&story.revocation, &consent).unwrap();
        for confirmation in &story.confirmations {
            rules::revocation_confirmed(confirmation.envelope(), &consent, context).unwrap();
        }
        let link = rules::link(&story.link, context).unwrap();
        assert!(rules::link_code(&link, LINK_CODE) && !rules::link_code(&link, "4F7K-92MY"));
    }
}

#[test]
fn dishonest_quotes() {
    let (story, world, other) = (story(), World::shared(), Story::tell(Plan::opaque(2)));
    let on = story.evidence();
    let check = |envelope: &[u8]| rules::quote(envelope, &on, World::context()).map(|_| ());
    let quote = |change: &dyn Fn(&mut handover_core::artefact::transfer::Quote)| {
        check(&altered(&story.quote, &world.lakeside.signing, change))
    };
    all_refused(vec![
        (
            "signed by the destination",
            check(&Story::signed_by(&story.quote, &world.riverside.signing)),
            Code::WrongSigner,
        ),
        ("of another transfer", check(other.quote.envelope()), Code::QuoteMismatch),
        ("other transfer", quote(&|it| it.transfer = other_id()), Code::QuoteMismatch),
        ("other patient", quote(&|it| it.patient = other.patient.reference()), Code::QuoteMismatch),
        ("other source", quote(&|it| it.source = world.hillcrest.id.clone()), Code::QuoteMismatch),
        ("other destination", quote(&|it| it.destination = world.hillcrest.id.clone()), Code::QuoteMismatch),
        ("other request", quote(&|it| it.request = nothing()), Code::QuoteMismatch),
        // The patient would release the grant key to whoever holds this one.
        ("other request key", quote(&|it| it.request_key = other.request.request_key), Code::QuoteMismatch),
    ]);
}

#[test]
fn dishonest_consents() {
    let (story, world, other) = (story(), World::shared(), Story::tell(Plan::opaque(2)));
    let (on, quote) = (story.evidence(), &story.quote);
    let check = |envelope: &[u8]| rules::consent(envelope, &on, quote, World::context()).map(|_| ());
    let consent = |change: &dyn Fn(&mut handover_core::artefact::patient::Consent)| {
        check(&altered(&story.consent, &story.patient.signing, change))
    };
    all_refused(vec![
        (
            "forged by the source",
            check(&Story::signed_by(&story.consent, &world.lakeside.signing)),
            Code::WrongSigner,
        ),
        (
            "forged by the destination",
            check(&Story::signed_by(&story.consent, &world.riverside.signing)),
            Code::WrongSigner,
        ),
        ("forged by the index", check(&Story::signed_by(&story.consent, &world.index)), Code::WrongSigner),
        (
            "another patient's signature",
            check(&Story::signed_by(&story.consent, &other.patient.signing)),
            Code::WrongSigner,
        ),
        ("a damaged signature", check(&broken(story.consent.envelope().to_vec())), Code::BadSignature),
        ("another patient's consent", check(other.consent.envelope()), Code::WrongSigner),
        ("to another quote", consent(&|it| it.quote = nothing()), Code::QuoteMismatch),
        ("other transfer", consent(&|it| it.transfer = other_id()), Code::ConsentMismatch),
        ("other patient", consent(&|it| it.patient = other.patient.reference()), Code::ConsentMismatch),
        ("other key record", consent(&|it| it.key_record = nothing()), Code::ConsentMismatch),
        ("other source", consent(&|it| it.source = world.hillcrest.id.clone()), Code::ConsentForAnother),
        (
            "other hospital",
            consent(&|it| it.destination = world.hillcrest.id.clone()),
            Code::ConsentForAnother,
        ),
        (
            "other hospital's key",
            consent(&|it| {
                it.destination_key = world.hillcrest.signing.public().thumbprint();
            }),
            Code::ConsentKey,
        ),
        ("never valid", consent(&|it| it.expires = it.not_before), Code::ConsentPeriod),
        (
            "valid for too long",
            consent(&|it| {
                it.expires = it.not_before.plus_ms(CONSENT_MAX_LIFE_MS + 1);
            }),
            Code::ConsentPeriod,
        ),
        ("a cap below nothing", consent(&|it| it.fee_cap = usd(-1)), Code::Malformed),
        (
            "used too early",
            rules::consent_in_time(&story.consent, story.consent.not_before.plus_ms(-300_001)),
            Code::ConsentEarly,
        ),
        (
            "used too late",
            rules::consent_in_time(&story.consent, story.consent.expires),
            Code::ConsentExpired,
        ),
    ]);
}

fn patient_pays(consent: &Consent) -> Cover {
    Cover { payer: Payer::Patient, cap: consent.fee_cap }
}

#[test]
fn dishonest_headers() {
    let (story, world, other) = (story(), World::shared(), Story::tell(Plan::opaque(2)));
    let cover = patient_pays(&story.consent);
    let check = |envelope: &[u8]| {
        rules::header(envelope, story.id, &story.consent, &cover, World::context()).map(|_| ())
    };
    let header = |change: &dyn Fn(&mut handover_core::artefact::transfer::PackageHeader)| {
        check(&altered(&story.header, &world.lakeside.signing, change))
    };
    let eur = Amount::from_minor(1, "EUR".parse().unwrap());
    all_refused(vec![
        (
            "signed by another hospital",
            check(&Story::signed_by(&story.header, &world.hillcrest.signing)),
            Code::WrongSigner,
        ),
        ("another transfer's", check(other.header.envelope()), Code::HeaderMismatch),
        ("other transfer", header(&|it| it.transfer = other_id()), Code::HeaderMismatch),
        ("other source", header(&|it| it.source = world.hillcrest.id.clone()), Code::HeaderMismatch),
        (
            "other destination",
            header(&|it| it.destination = world.hillcrest.id.clone()),
            Code::HeaderMismatch,
        ),
        ("other consent", header(&|it| it.consent = nothing()), Code::HeaderMismatch),
        ("attempt 0", header(&|it| it.attempt = 0), Code::HeaderMismatch),
        ("a cent above the cap", header(&|it| it.fee = usd(2_001)), Code::CapExceeded),
        ("in another currency", header(&|it| it.fee = eur), Code::CapExceeded),
        (
            "owed by a hospital that accepted nothing",
            header(&|it| it.payer = Payer::Hospital),
            Code::CapExceeded,
        ),
        (
            "sealed after the consent's end",
            header(&|it| it.issued = story.consent.expires),
            Code::ConsentExpired,
        ),
        ("a fee below nothing", header(&|it| it.fee = usd(-1)), Code::Malformed),
    ]);
    assert_eq!(header(&|it| it.fee = usd(2_000)), Ok(()), "the cap itself");
    let free = Amount::from_minor(0, "EUR".parse().unwrap());
    assert_eq!(header(&|it| it.fee = free), Ok(()), "nothing is nothing in every currency");

    let parts = |change: &dyn Fn(&mut PartList)| {
        let mut parts = story.parts.clone();
        change(&mut parts);
        rules::parts(&parts, &story.header)
    };
    assert_eq!(parts(&|_| {}), Ok(()));
    all_refused(vec![
        ("a part left out", parts(&|it| drop(it.contents.pop())), Code::PackageMismatch),
        ("parts in another order", parts(&|it| it.contents.reverse()), Code::PackageMismatch),
        ("another length", parts(&|it| it.manifest.length += 1), Code::PackageMismatch),
        ("another salt", parts(&|it| it.salt[0] ^= 1), Code::PackageMismatch),
        (
            "more parts than a package has",
            parts(&|it| it.contents = vec![it.manifest.clone(); PACKAGE_MAX_CONTENTS + 1]),
            Code::TooLarge,
        ),
    ]);

    let quote = |quote: &Verified<_>| {
        rules::header_quote(&story.header, quote, &story.quote.hash(), World::context())
    };
    let narrowed = Story::tell(Plan::opaque(1).narrowed());
    all_refused(vec![
        ("another transfer's quote", quote(&other.quote), Code::QuoteMismatch),
        (
            "a final quote that the header does not follow",
            quote(narrowed.final_quote.as_ref().unwrap()),
            Code::QuoteMismatch,
        ),
        (
            "a final quote that narrows another",
            rules::header_quote(
                &narrowed.header,
                narrowed.final_quote.as_ref().unwrap(),
                &other.quote.hash(),
                World::context(),
            ),
            Code::QuoteMismatch,
        ),
    ]);
}

#[test]
fn dishonest_deliveries_and_releases() {
    let (story, world, other) = (story(), World::shared(), Story::tell(Plan::opaque(2)));
    let context = World::context();
    let (lakeside, riverside) = (&world.lakeside.signing, &world.riverside.signing);
    let delivered = |envelope: &[u8]| rules::delivered(envelope, &story.header, context).map(|_| ());
    let keys = |envelope: &[u8]| rules::key_release(envelope, &story.header, context).map(|_| ());
    let share = |envelope: &[u8]| rules::share_release(envelope, &story.consent, &Ed25519).map(|_| ());
    let swapped = altered(&story.key_release, lakeside, |it| it.shares = other.key_release.shares.clone());
    let swapped = if other.key_release.shares == story.key_release.shares {
        altered(&story.key_release, lakeside, |it| it.shares = vec![6; 48].into())
    } else {
        swapped
    };
    let patient = &story.patient.signing;
    all_refused(vec![
        (
            "delivery said by the source",
            delivered(&Story::signed_by(&story.delivered, lakeside)),
            Code::WrongSigner,
        ),
        ("another transfer's delivery", delivered(other.delivered.envelope()), Code::DeliveredMismatch),
        (
            "delivery of another header",
            delivered(&altered(&story.delivered, riverside, |it| it.header = nothing())),
            Code::DeliveredMismatch,
        ),
        (
            "delivery of another attempt",
            delivered(&altered(&story.delivered, riverside, |it| it.attempt = 2)),
            Code::DeliveredMismatch,
        ),
        (
            "delivery to another",
            delivered(&altered(&story.delivered, riverside, |it| {
                it.destination = world.hillcrest.id.clone();
            })),
            Code::DeliveredMismatch,
        ),
        (
            "release by the destination",
            keys(&Story::signed_by(&story.key_release, riverside)),
            Code::WrongSigner,
        ),
        ("shares swapped", keys(&swapped), Code::SharesMismatch),
        ("another transfer's release", keys(other.key_release.envelope()), Code::SharesMismatch),
        (
            "release for another header",
            keys(&altered(&story.key_release, lakeside, |it| it.header = nothing())),
            Code::SharesMismatch,
        ),
        (
            "release for another attempt",
            keys(&altered(&story.key_release, lakeside, |it| it.attempt = 2)),
            Code::SharesMismatch,
        ),
        (
            "the patient's release by the source",
            share(&Story::signed_by(&story.share_release, lakeside)),
            Code::WrongSigner,
        ),
        (
            "the patient's release by another patient",
            share(other.share_release.envelope()),
            Code::WrongSigner,
        ),
        (
            "for another consent",
            share(&altered(&story.share_release, patient, |it| it.consent = nothing())),
            Code::ReleaseMismatch,
        ),
        (
            "for another transfer",
            share(&altered(&story.share_release, patient, |it| it.transfer = other_id())),
            Code::ReleaseMismatch,
        ),
        (
            "for another patient",
            share(&altered(&story.share_release, patient, |it| {
                it.patient = other.patient.reference();
            })),
            Code::ReleaseMismatch,
        ),
        (
            "to another hospital",
            share(&altered(&story.share_release, patient, |it| {
                it.destination = world.hillcrest.id.clone();
            })),
            Code::ReleaseMismatch,
        ),
    ]);
}

#[test]
fn dishonest_receipts() {
    let (story, world, other) = (story(), World::shared(), Story::tell(Plan::opaque(2)));
    let check = |envelope: &[u8]| rules::receipt(envelope, &story.header, World::context()).map(|_| ());
    let receipt = |change: &dyn Fn(&mut handover_core::artefact::transfer::Receipt)| {
        check(&altered(&story.receipt, &world.riverside.signing, change))
    };
    all_refused(vec![
        (
            "written by the source",
            check(&Story::signed_by(&story.receipt, &world.lakeside.signing)),
            Code::WrongSigner,
        ),
        ("another transfer's", check(other.receipt.envelope()), Code::ReceiptMismatch),
        ("other transfer", receipt(&|it| it.transfer = other_id()), Code::ReceiptMismatch),
        ("other attempt", receipt(&|it| it.attempt = 2), Code::ReceiptMismatch),
        ("other header", receipt(&|it| it.header = nothing()), Code::ReceiptMismatch),
        ("other consent", receipt(&|it| it.consent = nothing()), Code::ReceiptMismatch),
        ("another root", receipt(&|it| it.record_root = nothing()), Code::ReceiptMismatch),
    ]);
    // A fee that the destination computes otherwise is no forgery: it is stated, and the ledger holds it.
    assert_eq!(receipt(&|it| it.fee = usd(1)), Ok(()));
}

#[test]
fn dishonest_ends() {
    let (story, world, other) = (story(), World::shared(), Story::tell(Plan::opaque(2)));
    let (on, context, patient) = (story.evidence(), World::context(), &story.patient.signing);
    let refusal = |envelope: &[u8]| rules::refusal(envelope, story.id, &on, context).map(|_| ());
    let no = |envelope: &[u8]| rules::patient_refusal(envelope, &on, &Ed25519).map(|_| ());
    let confirmed =
        |envelope: &[u8]| rules::revocation_confirmed(envelope, &story.consent, context).map(|_| ());
    let [by_source, _] = &story.confirmations;
    let revoked = |change: &dyn Fn(&mut handover_core::artefact::patient::Revocation)| {
        let mut revocation = story.revocation.clone();
        change(&mut revocation);
        rules::revocation(&revocation, &story.consent)
    };
    all_refused(vec![
        (
            "a third hospital's no",
            refusal(&Story::signed_by(&story.refusal, &world.hillcrest.signing)),
            Code::WrongSigner,
        ),
        ("the index's no", refusal(&Story::signed_by(&story.refusal, &world.index)), Code::WrongSigner),
        ("a no to another transfer", refusal(other.refusal.envelope()), Code::AskMismatch),
        (
            "a hospital's no for the patient",
            no(&Story::signed_by(&story.patient_refusal, &world.lakeside.signing)),
            Code::WrongSigner,
        ),
        ("another patient's no", no(other.patient_refusal.envelope()), Code::WrongSigner),
        (
            "the patient's no to another transfer",
            no(&altered(&story.patient_refusal, patient, |it| {
                it.transfer = other_id();
            })),
            Code::AskMismatch,
        ),
        ("a guessed secret", revoked(&|it| it.preimage = [0; 32]), Code::RevocationMismatch),
        (
            "another consent's secret",
            rules::revocation(&other.revocation, &story.consent),
            Code::RevocationMismatch,
        ),
        (
            "a revocation of another transfer",
            revoked(&|it| it.transfer = other_id()),
            Code::RevocationMismatch,
        ),
        ("a revocation of another consent", revoked(&|it| it.consent = nothing()), Code::RevocationMismatch),
        (
            "confirmed by a third",
            confirmed(&altered(by_source, &world.hillcrest.signing, |it| {
                it.by = world.hillcrest.id.clone();
            })),
            Code::RevocationMismatch,
        ),
        (
            "confirmed in another's name",
            confirmed(&Story::signed_by(by_source, &world.riverside.signing)),
            Code::WrongSigner,
        ),
        (
            "confirmed for another consent",
            confirmed(&altered(by_source, &world.lakeside.signing, |it| {
                it.consent = nothing();
            })),
            Code::RevocationMismatch,
        ),
    ]);
}
