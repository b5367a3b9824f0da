use handover_core::artefact::Countersigned;
use handover_core::artefact::remote::RemoteLinkAnswer;
use handover_core::time::DAY_MS;
use handover_seal::OsRandom;
use handover_seal::part::open_part;

use super::*;
use crate::testkit::{NOW, World, hospital, ring};

fn ada() -> Identity {
    Identity {
        record_number: "P-1".to_owned(),
        name: "Ada Reed".to_owned(),
        birth_date: "1980-02-29".to_owned(),
    }
}

fn code<T>(outcome: Result<T, WalletError>) -> Code {
    outcome.err().unwrap().code()
}

#[test]
fn a_request_is_the_same_until_it_was_refused_and_only_the_two_hospitals_read_it() {
    let world = World::new();
    let mut wallet = world.wallet();
    let federation = wallet.take_directory(&world.info(1), NOW).unwrap().0;
    let (old, new) = (hospital(0), hospital(1));
    let ask = |wallet: &mut Wallet, identity: Option<&Identity>, now| {
        wallet.link_remote((&old, &new), identity, &federation, now, &mut OsRandom)
    };
    assert_eq!(code(ask(&mut wallet, None, NOW)), Code::OutOfOrder);
    let first = ask(&mut wallet, Some(&ada()), NOW).unwrap();
    assert_eq!(ask(&mut wallet, Some(&ada()), NOW.plus_ms(DAY_MS)).unwrap(), first);
    assert_eq!(ask(&mut wallet, None, NOW).unwrap(), first);
    let itself = wallet.link_remote((&old, &old), Some(&ada()), &federation, NOW, &mut OsRandom);
    assert_eq!(code(itself), Code::AskMismatch);
    let unreadable = Identity { birth_date: "yesterday".to_owned(), ..ada() };
    assert_eq!(code(ask(&mut wallet, Some(&unreadable), NOW)), Code::UsageInvalid);

    let request = rules::remote_link_claim(&first, &new, &Remembered).unwrap();
    for (which, sealed) in [(0, &request.sealed_to_hospital), (1, &request.sealed_to_vouching)] {
        let binding = remote_link_binding(&request.id);
        let plain = open_part(&ring(which), &binding, sealed.as_ref()).unwrap();
        assert_eq!(rules::remote_link_details(&plain, &request).unwrap().name, "Ada Reed");
        assert!(open_part(&ring(1 - which), &binding, sealed.as_ref()).is_err());
    }

    // The old hospital's word is believed under its own signature only.
    let answer = RemoteLinkAnswer {
        id: request.id,
        request: request.hash(),
        hospital: old.clone(),
        state: RemoteLinkState::Refused,
        reason: Some(Code::IdentityUnproven),
        issued: NOW,
        extensions: Extensions::default(),
    };
    let status = |state, answer: Option<&[u8]>| {
        let answer = answer.map(|answer| Bytes(answer.to_vec()));
        let status = RemoteLinkStatus { state, reason: None, answer, extensions: Extensions::default() };
        codec::encode(&status)
    };
    let forged = Verified::sign(answer.clone(), &world.hospitals[1]);
    let forged = status(RemoteLinkState::Refused, Some(forged.envelope()));
    assert_eq!(code(wallet.remote_link_told(&old, &forged, &federation)), Code::WrongSigner);
    let bare = status(RemoteLinkState::Confirmed, None);
    assert_eq!(code(wallet.remote_link_told(&old, &bare, &federation)), Code::EvidenceMissing);
    let waiting = status(RemoteLinkState::Asked, None);
    assert_eq!(wallet.remote_link_told(&old, &waiting, &federation).unwrap().state, RemoteLinkState::Asked);
    let signed = Verified::sign(answer, &world.hospitals[0]);
    let signed = status(RemoteLinkState::Asked, Some(signed.envelope()));
    let told = wallet.remote_link_told(&old, &signed, &federation).unwrap();
    assert_eq!((told.state, told.reason), (RemoteLinkState::Refused, Some(Code::IdentityUnproven)));

    // What was refused can be asked anew; so can what was mistyped.
    let second = ask(&mut wallet, Some(&ada()), NOW).unwrap();
    assert_ne!(second, first);
    let retyped = Identity { record_number: "P-2".to_owned(), ..ada() };
    assert_ne!(ask(&mut wallet, Some(&retyped), NOW.plus_ms(1)).unwrap(), second);
    assert_eq!(wallet.state.remote_links.len(), 1);

    let link = wallet.link(&old, "K7QF-29XM", &federation, NOW).unwrap();
    let link = rules::link_claim(&link, &old, &Remembered).unwrap();
    wallet.linked(&Countersigned::sign(&link, &world.hospitals[0]), &federation, NOW).unwrap();
    assert_eq!(wallet.state.remote_links[0].state, RemoteLinkState::Linked);
}
