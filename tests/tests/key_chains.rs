//! Patients' key records: nothing but the whole, honest chain verifies, and of two chains everybody keeps the same
//! one wherever the recovery key spoke.

use handover_core::artefact::patient::{KeyAuthority, PatientKeyRecord};
use handover_core::artefact::{Countersigned, Verified};
use handover_core::codec::Bytes;
use handover_core::key_chain::{KEY_CHAIN_MAX_RECORDS, KEY_RECORD_MAX_BYTES, Standing};
use handover_core::{Code, KeyChain};
use handover_seal::{Ed25519, SigningKey};
use handover_tests::fixture::{Patient, T0};
use proptest::prelude::*;

use KeyAuthority::{Device, Recovery};

/// The devices of a patient after the first: who let each follow, and a number that tells branches apart and is a
/// little later the higher it is.
type Devices = Vec<(KeyAuthority, u8)>;

fn grown(devices: &[(KeyAuthority, u8)]) -> Patient {
    (1_i64..).zip(devices).fold(Patient::new(1), |patient, (number, (authority, branch))| {
        let at = T0.plus_ms(1_000 * number + i64::from(*branch));
        patient.with_device(&format!("device {number}.{branch}"), *authority, at)
    })
}

fn verified(records: &[Bytes]) -> Result<KeyChain, Code> {
    KeyChain::verify(records, &Ed25519)
}

fn devices(most: usize) -> impl Strategy<Value = Devices> {
    prop::collection::vec((prop_oneof![Just(Device), Just(Recovery)], 0_u8..3), 0..=most)
}

/// A record that follows the patient's newest one as `change` has it, signed by whom it is given.
fn following(
    patient: &Patient,
    own: &SigningKey,
    by: &SigningKey,
    change: impl FnOnce(&mut PatientKeyRecord),
) -> Vec<Bytes> {
    let next = patient.with_device("next", Device, T0.plus_ms(1_000_000));
    let mut record = (*next.record).clone();
    record.signing_key = own.public();
    change(&mut record);
    let mut records = patient.records.clone();
    records.push(Countersigned::sign(&Verified::sign(record, own), by).into());
    records
}

#[test]
fn a_successor_is_refused_unless_everything_holds() {
    let (pat, eve) = (grown(&[(Device, 0)]), Patient::new(2));
    let (own, device, recovery) = (&eve.signing, &pat.signing, &pat.recovery);
    let first_device = &Patient::new(1).signing;
    let stranger_record = Patient::new(2).record.hash();
    assert!(verified(&following(&pat, own, device, |_| {})).is_ok());
    assert!(verified(&following(&pat, own, recovery, |it| it.authorized_by = Some(Recovery))).is_ok());
    for (what, records, code) in [
        ("by itself", following(&pat, own, own, |_| {}), Code::WrongSigner),
        ("by the recovery key as the device", following(&pat, own, recovery, |_| {}), Code::WrongSigner),
        (
            "by the device as the recovery key",
            following(&pat, own, device, |it| it.authorized_by = Some(Recovery)),
            Code::WrongSigner,
        ),
        ("by the device before the last", following(&pat, own, first_device, |_| {}), Code::WrongSigner),
        (
            "without the new key's own signature",
            following(&pat, own, device, |it| it.signing_key = pat.signing.public()),
            Code::WrongSigner,
        ),
        ("by nobody named", following(&pat, own, device, |it| it.authorized_by = None), Code::Malformed),
        ("another number", following(&pat, own, device, |it| it.number = 4), Code::Malformed),
        (
            "after another record",
            following(&pat, own, device, |it| it.previous = Some(stranger_record)),
            Code::Malformed,
        ),
        (
            "another recovery key",
            following(&pat, own, device, |it| it.recovery_key = Some(eve.recovery.public())),
            Code::Malformed,
        ),
        ("no later", following(&pat, own, device, |it| it.issued = pat.record.issued), Code::Malformed),
    ] {
        assert_eq!(verified(&records).map(drop), Err(code), "{what}");
    }
    let of_eve = KeyChain::of(&pat.records, &eve.reference(), &Ed25519);
    assert_eq!(of_eve.map(drop), Err(Code::AskMismatch));
}

#[test]
fn chains_are_bounded_before_they_are_read() {
    let longest = grown(&[(Device, 0); KEY_CHAIN_MAX_RECORDS - 1]);
    assert!(verified(&longest.records).is_ok());
    assert!(longest.records.iter().all(|record| record.as_ref().len() < KEY_RECORD_MAX_BYTES));
    let longer = longest.with_device("one more", Device, T0.plus_ms(1_000_000));
    assert_eq!(verified(&longer.records).map(drop), Err(Code::TooLarge));
    let fat = vec![Bytes(vec![0; KEY_RECORD_MAX_BYTES + 1])];
    assert_eq!(verified(&fat).map(drop), Err(Code::TooLarge));
    assert_eq!(verified(&[]).map(drop), Err(Code::Malformed));
}

/// The recovery text holds the first record only, and yet it recovers again and again, whatever happened meanwhile.
#[test]
fn the_first_record_recovers_any_number_of_times() {
    let chain = |devices: &[(KeyAuthority, u8)]| grown(devices).chain();
    let used_for_years = chain(&[(Device, 0), (Device, 0), (Device, 0)]);
    let recovered = chain(&[(Recovery, 1)]);
    let stolen_again = chain(&[(Recovery, 1), (Device, 0), (Device, 0)]);
    let recovered_again = chain(&[(Recovery, 2)]);
    assert_eq!(recovered.beside(&used_for_years), Standing::Newer);
    assert_eq!(used_for_years.beside(&recovered), Standing::ForkLost);
    assert_eq!(recovered_again.beside(&stolen_again), Standing::Newer);
    assert_eq!(stolen_again.beside(&recovered_again), Standing::ForkLost);
}

#[test]
fn where_two_devices_fork_the_one_held_stays() {
    let (one, other) = (grown(&[(Device, 1)]).chain(), grown(&[(Device, 2), (Device, 2)]).chain());
    assert_eq!(one.beside(&other), Standing::ForkLost);
    assert_eq!(other.beside(&one), Standing::ForkLost);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_chain_is_what_its_records_say(devices in devices(4)) {
        let patient = grown(&devices);
        let whole = patient.chain();
        prop_assert_eq!(whole.patient(), Patient::new(1).reference());
        prop_assert_eq!(whole.newest().signing_key, patient.signing.public());
        for length in 1..=patient.records.len() {
            let part = verified(&patient.records[..length]).unwrap();
            let is_whole = length == patient.records.len();
            let expected = if is_whole { Standing::Same } else { Standing::Older };
            prop_assert_eq!(part.beside(&whole), expected);
            prop_assert_eq!(whole.beside(&part), if is_whole { Standing::Same } else { Standing::Newer });
        }
    }

    #[test]
    fn an_altered_chain_is_refused(
        devices in devices(3),
        at: prop::sample::Index,
        byte: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let mut records = grown(&devices).records;
        let at = at.index(records.len());
        let mut altered = records[at].as_ref().to_vec();
        let byte = byte.index(altered.len());
        altered[byte] ^= 1 << bit;
        records[at] = altered.into();
        prop_assert!(verified(&records).is_err());
    }

    #[test]
    fn a_dropped_doubled_or_moved_record_is_refused(devices in devices(4), at: prop::sample::Index) {
        let records = grown(&devices).records;
        let at = at.index(records.len());
        if at + 1 < records.len() {
            let mut dropped = records.clone();
            dropped.remove(at);
            prop_assert!(verified(&dropped).is_err());
            let mut moved = records.clone();
            moved.swap(at, at + 1);
            prop_assert!(verified(&moved).is_err());
        }
        let mut doubled = records.clone();
        doubled.insert(at, records[at].clone());
        prop_assert!(verified(&doubled).is_err());
        // A record of somebody else's chain, honest there.
        let mut foreign = records;
        foreign[at] = Patient::new(2).with_device("hers", Device, T0.plus_ms(5)).records[at.min(1)].clone();
        prop_assert!(at == 0 && foreign.len() == 1 || verified(&foreign).is_err());
    }

    #[test]
    fn two_chains_stand_to_each_other_as_one_would_expect(one in devices(3), other in devices(3)) {
        let (one, other) = (grown(&one).chain(), grown(&other).chain());
        let standings = (one.beside(&other), other.beside(&one));
        prop_assert!(matches!(
            standings,
            (Standing::Same, Standing::Same)
                | (Standing::Newer, Standing::Older | Standing::ForkLost)
                | (Standing::Older | Standing::ForkLost, Standing::Newer)
                | (Standing::ForkLost, Standing::ForkLost)
        ), "{standings:?}");
        prop_assert_eq!(standings.0 == Standing::Same, one.hash() == other.hash());
    }

    #[test]
    fn the_best_of_all_is_kept_in_whatever_order_they_come(
        chains in prop::collection::vec(devices(3), 1..5).prop_shuffle(),
    ) {
        let chains: Vec<KeyChain> = chains.iter().map(|devices| grown(devices).chain()).collect();
        let beats_all = |chain: &&KeyChain| {
            chains.iter().all(|other| matches!(chain.beside(other), Standing::Newer | Standing::Same))
        };
        let mut held = chains[0].clone();
        for chain in &chains {
            if chain.beside(&held) == Standing::Newer {
                held = chain.clone();
            }
        }
        if let Some(best) = chains.iter().find(beats_all) {
            prop_assert_eq!(held.hash(), best.hash());
        }
        // Where the recovery key spoke at all, no chain on which it never did is kept, unless they go on from it.
        prop_assert!(chains.iter().all(|other| other.beside(&held) != Standing::Newer));
    }
}
