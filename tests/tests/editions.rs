//! Of two editions of the formats only what is in force goes out to others, and none goes back. A program of its own, for it
//! reads the draft.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use handover_core::artefact::federation::{Directory, FeeSchedule, WholeDirectory};
use handover_core::artefact::{Countersigned, Signed, Verified, peek_edition, peek_type};
use handover_core::codec::{self, CborMap, Extensions};
use handover_core::message::HospitalInfo;
use handover_core::trust::Federation;
use handover_core::{Code, Edition};
use handover_seal::{Ed25519, SigningKey};
use handover_tests::fixture::{Draft, Seeded, T0, World};

fn federation(directory: &Draft) -> Federation {
    let world = World::shared();
    Federation::verify(&world.published(directory), &world.root.public(), T0, &Ed25519).unwrap()
}

#[test]
fn what_is_ahead_of_the_edition_in_force_goes_out_to_nobody() {
    Edition::rehearse();
    let (first, second) =
        (SigningKey::generate(&mut Seeded::new("first")), SigningKey::generate(&mut Seeded::new("second")));
    let before = Verified::sign(FeeSchedule::percentage(T0), &first);
    first.signs_in().set(Edition::DRAFT);
    let ahead = Verified::sign(FeeSchedule::percentage(T0), &first);
    assert_eq!(peek_edition(ahead.envelope()), Ok(Edition::DRAFT));
    assert_eq!(peek_type(ahead.envelope()), peek_type(before.envelope()), "it is of the same kind");
    assert_ne!(ahead.hash(), before.hash(), "and another artefact: what is signed says its edition");
    Signed::<FeeSchedule>::read(ahead.envelope()).unwrap().verify(&first.public(), &Ed25519).unwrap();

    let directory = World::shared().directory(1, T0);
    let raised = directory.with(|it| (it.version, it.edition) = (2, Edition::DRAFT));
    let (now, then) = (federation(&directory), federation(&raised));
    let hidden = Countersigned::sign(&ahead, &second);
    for envelope in [ahead.envelope(), &hidden] {
        assert_eq!(now.check_edition(envelope), Err(Code::NewerEdition));
        assert_eq!(then.check_edition(envelope), Ok(()));
    }
    for envelope in [before.envelope(), b"no envelope"] {
        assert_eq!(now.check_edition(envelope), Ok(()));
    }
    assert_eq!(then.succeeds(&now, T0), Ok(true));
    let lowered = directory.with(|it| it.version = 3);
    assert_eq!(federation(&lowered).succeeds(&then, T0), Err(Code::DirectoryTakesBack));
}

/// What was added later lies among the extensions: who does not know it keeps it as it came.
#[test]
fn what_was_added_is_an_extension_and_there_is_no_edition_0() {
    let directory = World::shared().directory(1, T0);
    let raised = directory.with(|it| it.edition = Edition::DRAFT);
    let [plain, raised] = [&directory, &raised].map(|it| it.head.to_map());
    let differs: Vec<_> = raised.iter().filter(|(key, value)| plain.get(key) != Some(value)).collect();
    assert_eq!(differs.len(), 1);
    assert_eq!(differs.first().unwrap().0, &codec::Value::Integer(0));
    let zero = |key: i128, value: i128| {
        let entries = [(codec::Value::Integer(key), codec::Value::Integer(value))].into();
        let mut map = plain.clone();
        map.insert(codec::Value::Integer(0), codec::Value::Map(entries));
        Directory::from_map(map)
    };
    assert!(zero(1, 0).is_err());
    assert_eq!(zero(1, 2).unwrap().edition, Edition::DRAFT);
    let info = HospitalInfo {
        directory: WholeDirectory {
            head: Vec::new().into(),
            pieces: Vec::new(),
            extensions: Extensions::default(),
        },
        hospital: "lakeside".parse().unwrap(),
        extensions: zero(9, 7).unwrap().extensions,
    };
    let encoded = codec::encode(&info);
    assert_eq!(codec::encode(&codec::decode::<HospitalInfo>(&encoded, 1024).unwrap()), encoded);
    assert_ne!(info.extensions, Extensions::default());
}
