//! A hospital's key is succeeded by another: only the new one speaks, what the former signed stays evidence, and nobody
//! but the hospital itself brings anything more under it.

use handover_core::artefact::Signed;
use handover_core::artefact::federation::FORMER_KEYS_MAX;
use handover_core::artefact::transfer::Quote;
use handover_core::codec;
use handover_core::rules::{self, Context};
use handover_core::transfer::Role;
use handover_core::trust::{Federation, admit};
use handover_core::{Code, Party};
use handover_dossier::{Dossier, DossierError, transfer_of};
use handover_seal::Ed25519;
use handover_store::{CellKey, Store};
use handover_tests::fixture::{Draft, Hospital, Plan, Story, T0, World, altered};

/// The place of Lakeside in the fixture's directory.
const LAKESIDE: usize = 1;

fn succeeded() -> Federation {
    let world = World::shared();
    world.verified(&world.with_next_lakeside(2))
}

fn context(federation: &Federation) -> Context<'_> {
    Context { federation, verifier: &Ed25519 }
}

fn enter(hospital: &Hospital, federation: &Federation) -> Result<Party, Code> {
    let hello = codec::encode(&World::hello(hospital));
    let peer = hospital.endpoint_key.public();
    admit(&hello, &peer, &World::shared().root.public(), Some(federation), T0, &Ed25519)
}

/// What comes of a directory with the successor, and something changed.
fn changed(change: impl FnOnce(&mut Draft)) -> Option<Code> {
    let world = World::shared();
    let mut directory = world.with_next_lakeside(2);
    change(&mut directory);
    let envelope = world.published(&directory);
    Federation::verify(&envelope, &world.root.public(), T0, &Ed25519).err().map(|fault| fault.code())
}

#[test]
fn only_the_successor_speaks() {
    let (world, federation) = (World::shared(), succeeded());
    let next = world.next_lakeside();
    assert_eq!(enter(next, &federation), Ok(Party::Hospital(next.id.clone())));
    assert_eq!(enter(&world.lakeside, &federation), Err(Code::NotAdmitted));
    assert_eq!(enter(&world.riverside, &federation), Ok(Party::Hospital(world.riverside.id.clone())));
    let member = federation.member(&next.id).unwrap();
    let (former, now) = (world.lakeside.signing.public(), next.signing.public());
    assert_eq!(member.keys().copied().collect::<Vec<_>>(), [now, former]);
    assert!(member.has(&former.thumbprint()) && !member.has(&world.stranger.public().thumbprint()));
    assert_eq!(member.key(&former.thumbprint()), former);
    assert_eq!(
        member.key(&world.stranger.public().thumbprint()),
        now,
        "who verifies under it says who signed"
    );
}

#[test]
fn what_the_former_key_signed_stays_evidence() {
    let federation = succeeded();
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for content in contents {
        let (keys, id, held) = (store.keys(), transfer_of(&content).unwrap(), federation.clone());
        let taken = store.write(move |txn| {
            let mut dossier = Dossier::of(txn, &keys, id);
            dossier.take_in(Role::Destination, &content, context(&held), T0)
        });
        let taken: Result<_, DossierError> = runtime.block_on(taken);
        taken.unwrap();
    }
    // And what it signs anew stands beside it.
    let next = World::shared().next_lakeside();
    let renewed = altered(&story.quote, &next.signing, |_: &mut Quote| {});
    let renewed = Signed::<Quote>::read(&renewed).unwrap();
    assert!(federation.verify_from(&next.id, renewed, &Ed25519).is_ok());
}

#[test]
fn a_consent_to_the_former_key_is_inherited() {
    let (world, federation) = (World::shared(), succeeded());
    let story = Story::tell(Plan::opaque(1));
    let under = |federation: &Federation| {
        let context = context(federation);
        let on = rules::request(story.request.envelope(), context)?;
        let quote = rules::quote(story.quote.envelope(), &on, context)?;
        rules::consent(story.consent.envelope(), &on, &quote, context).map(drop)
    };
    assert_eq!(under(&federation), Ok(()));
    let mut directory = world.directory(2, T0);
    directory.hospitals[LAKESIDE] = world.with_next_lakeside(2).hospitals[LAKESIDE].clone();
    directory.hospitals[LAKESIDE].former = None;
    assert_eq!(under(&world.verified(&directory)), Err(Code::WrongSigner), "a key that nobody vouches for");
}

#[test]
fn nobody_else_brings_what_a_former_key_signed_unless_it_is_held() {
    let (world, federation) = (World::shared(), succeeded());
    let story = Story::tell(Plan::opaque(1));
    let contents = story.to_receipt();
    let [lakeside, riverside] = [&world.lakeside, &world.riverside].map(|it| Party::Hospital(it.id.clone()));
    let store = Store::memory(&CellKey::from_bytes([1; 32]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let brought = |content: &[u8], by: &Party| {
        let (keys, id) = (store.keys(), transfer_of(content).unwrap());
        let (content, by, held) = (content.to_vec(), by.clone(), federation.clone());
        let taken = store.write(move |txn| -> Result<bool, DossierError> {
            let mut dossier = Dossier::of(txn, &keys, id);
            dossier.check_bringer(&content, &by, context(&held))?;
            Ok(dossier.take_in(Role::Destination, &content, context(&held), T0)?.is_new)
        });
        runtime.block_on(taken).map_err(|fault| fault.code())
    };
    // Its own request is no business of the key's; the quote is Lakeside's.
    assert_eq!(brought(&contents[0], &Party::Index), Ok(true));
    for other in [&Party::Index, &riverside] {
        assert_eq!(brought(&contents[1], other), Err(Code::KeyReplaced));
    }
    assert_eq!(brought(&contents[1], &lakeside), Ok(true));
    assert_eq!(brought(&contents[1], &Party::Index), Ok(false), "it is held already");
    // The patient's word comes by anybody.
    assert_eq!(brought(&contents[2], &riverside), Ok(true));
    assert_eq!(federation.check_bringer(b"no envelope", &Party::Index), Ok(()), "for its own rule to refuse");
}

#[test]
fn a_successor_is_certified_approved_and_never_unsaid() {
    let world = World::shared();
    assert_eq!(changed(|_| {}), None);
    let old = world.directory(2, T0).hospitals[LAKESIDE].clone();
    assert_eq!(changed(|it| it.hospitals[LAKESIDE].status = old.status.clone()), Some(Code::WrongSigner));
    assert_eq!(changed(|it| it.hospitals[LAKESIDE].profile = old.profile.clone()), Some(Code::WrongSigner));
    let others = world.riverside.certificate.envelope().to_vec();
    let own = world.next_lakeside().certificate.envelope().to_vec();
    let before = world.lakeside.certificate.envelope().to_vec();
    let forged = altered(&world.lakeside.certificate, &world.stranger, |_| {});
    for (what, former) in [
        ("another hospital's", vec![others]),
        ("the one that speaks", vec![own]),
        ("one twice", vec![before.clone(), before.clone()]),
        ("one that the root did not certify", vec![forged]),
        ("too many", vec![before; FORMER_KEYS_MAX + 1]),
    ] {
        let former = former.into_iter().map(Into::into).collect();
        let came = changed(|it| it.hospitals[LAKESIDE].former = Some(former));
        assert_eq!(came, Some(Code::WrongSigner), "{what}");
    }

    let [held, next] = [world.directory(1, T0), world.with_next_lakeside(2)].map(|it| world.verified(&it));
    assert_eq!(next.succeeds(&held, T0), Ok(true));
    let mut back = world.directory(3, T0);
    assert_eq!(world.verified(&back).succeeds(&next, T0), Err(Code::DirectoryTakesBack), "the key of before");
    back.hospitals[LAKESIDE] = world.with_next_lakeside(3).hospitals[LAKESIDE].clone();
    assert_eq!(world.verified(&back).succeeds(&next, T0), Ok(true));
    back.hospitals[LAKESIDE].former = None;
    assert_eq!(world.verified(&back).succeeds(&next, T0), Err(Code::DirectoryTakesBack), "it is forgotten");
    assert_eq!(
        world.verified(&back).succeeds(&held, T0),
        Err(Code::DirectoryTakesBack),
        "it was never there"
    );
}
