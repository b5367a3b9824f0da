//! Dishonest referrals and acceptances of fees: nobody is made to pay what they did not sign for.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::artefact::patient::CLOCK_SKEW_MS;
use handover_core::artefact::transfer::{
    FeeAcceptance, PackageHeader, Payer, Quote, REFERRAL_MAX_LIFE_MS, Referral,
};
use handover_core::rules::{self, Cover};
use handover_core::{Amount, Code, Digest, TransferId};
use handover_tests::fixture::{Plan, Story, T0, World, altered};
use handover_tests::table::all_refused;

fn usd(minor: i64) -> Amount {
    Amount::from_minor(minor, "USD".parse().unwrap())
}

#[test]
fn nobody_pays_what_they_did_not_sign_for() {
    let story = Story::tell(Plan::opaque(1).referred());
    let (world, context) = (World::shared(), World::context());
    let on = rules::request(story.request.envelope(), context).unwrap();
    let referral = story.referral.as_ref().unwrap();
    let mut broken = referral.envelope().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    // The quote as Lakeside would sign it around a referral.
    let quote = |referral: Option<Vec<u8>>| {
        let quote = altered(&story.quote, &world.lakeside.signing, |it: &mut Quote| {
            it.referral = referral.clone().map(Into::into);
        });
        rules::quote(&quote, &on, context).map(|_| ())
    };
    let refers =
        |change: &dyn Fn(&mut Referral)| quote(Some(altered(referral, &world.lakeside.signing, change)));
    assert_eq!(refers(&|_| {}), Ok(()));
    all_refused(vec![
        (
            "by the hospital that would pay",
            quote(Some(Story::signed_by(referral, &world.riverside.signing))),
            Code::WrongSigner,
        ),
        ("altered", quote(Some(broken)), Code::BadSignature),
        ("left out, with the fee still sealed to Riverside", quote(None), Code::QuoteMismatch),
        (
            "to another hospital",
            refers(&|it| it.destination = world.hillcrest.id.clone()),
            Code::ReferralMismatch,
        ),
        (
            "of another patient",
            refers(&|it| it.patient = Story::tell(Plan::opaque(2)).patient.reference()),
            Code::ReferralMismatch,
        ),
        ("that has ended", refers(&|it| it.expires = story.quote.issued), Code::ReferralMismatch),
        (
            "made after the quote",
            refers(&|it| it.issued = story.quote.issued.plus_ms(CLOCK_SKEW_MS + 1)),
            Code::ReferralMismatch,
        ),
        (
            "for longer than a year",
            refers(&|it| it.expires = it.issued.plus_ms(REFERRAL_MAX_LIFE_MS + 1)),
            Code::ReferralMismatch,
        ),
    ]);

    let acceptance = story.acceptance.as_ref().unwrap();
    let check = |envelope: &[u8]| rules::fee_acceptance(envelope, &story.quote, context).map(|_| ());
    let accepts =
        |change: &dyn Fn(&mut FeeAcceptance)| check(&altered(acceptance, &world.riverside.signing, change));
    assert_eq!(accepts(&|_| {}), Ok(()));
    all_refused(vec![
        (
            "signed by who gets the money",
            check(&Story::signed_by(acceptance, &world.lakeside.signing)),
            Code::WrongSigner,
        ),
        (
            "of another transfer",
            accepts(&|it| it.transfer = TransferId::new(T0, [7; 10])),
            Code::QuoteMismatch,
        ),
        ("of another quote", accepts(&|it| it.quote = Digest::from_bytes([0; 32])), Code::QuoteMismatch),
        ("below nothing", accepts(&|it| it.cap = usd(-1)), Code::Malformed),
        (
            "of a quote that the patient pays",
            rules::fee_acceptance(acceptance.envelope(), &Story::tell(Plan::opaque(1)).quote, context)
                .map(|_| ()),
            Code::QuoteMismatch,
        ),
    ]);

    let cover = Cover::of(&story.quote, &story.consent, Some(acceptance)).unwrap();
    let sealed = |change: &dyn Fn(&mut PackageHeader)| {
        let header = altered(&story.header, &world.lakeside.signing, change);
        rules::header(&header, story.id, &story.consent, &cover, context).map(|_| ())
    };
    assert_eq!(sealed(&|_| {}), Ok(()));
    all_refused(vec![
        ("a cent above what was accepted", sealed(&|it| it.fee = usd(2_001)), Code::CapExceeded),
        ("charged to the patient", sealed(&|it| it.payer = Payer::Patient), Code::CapExceeded),
        (
            "sealed before the hospital signed",
            Cover::of(&story.quote, &story.consent, None).map(|_| ()),
            Code::FeeNotAccepted,
        ),
        (
            "narrowed without its referral",
            rules::narrowing(
                &Quote { narrows: Some(story.quote.hash()), referral: None, ..(*story.quote).clone() },
                &story.quote,
            ),
            Code::QuoteMismatch,
        ),
    ]);
}
