use proptest::prelude::*;

use super::*;

const GROUP: usize = GROUP_BYTES as usize;

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 253) as u8 ^ at as u8).collect()
}

fn sent(data: &[u8], from_group: u64) -> (ContentRoot, Vec<u8>) {
    let (root, tree) = outboard(data, data.len() as u64).unwrap();
    let mut wire = Vec::new();
    send(data, &tree, from_group, &mut wire).unwrap();
    (root, wire)
}

#[test]
fn the_root_is_the_plain_blake3_hash() {
    for length in [0, 1, 1024, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP + 1000] {
        let data = content(length);
        let (named, tree) = outboard(data.as_slice(), length as u64).unwrap();
        assert_eq!(named.as_bytes(), blake3::hash(&data).as_bytes(), "{length}");
        assert_eq!(root(data.as_slice()).unwrap(), (named, length as u64));
        assert_eq!(hashes(&tree).len(), 64 * groups(length as u64).saturating_sub(1) as usize);
        let file = tempfile::tempfile().unwrap();
        assert_eq!(write_outboard(data.as_slice(), length as u64, file.try_clone().unwrap()).unwrap(), named);
        let again = Outboard::from_file(&named, length as u64, file);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        send(data.as_slice(), &tree, 0, &mut one).unwrap();
        send(data.as_slice(), &again, 0, &mut two).unwrap();
        assert_eq!(one, two);
    }
}

#[test]
fn continues_at_every_group() {
    let data = content(5 * GROUP + 1000);
    for from in 0..=6 {
        let (root, wire) = sent(&data, from);
        let mut held = data[..group_offset(from, data.len() as u64) as usize].to_vec();
        let whole = receive(wire.as_slice(), &root, data.len() as u64, from, &mut held).unwrap();
        assert_eq!((whole, &held), (6, &data), "from {from}");
    }
    let (root, tree) = outboard(data.as_slice(), data.len() as u64).unwrap();
    assert!(matches!(send(data.as_slice(), &tree, 7, io::sink()), Err(SealError::NoSuchGroup)));
    let wrong = receive(io::empty(), &root, data.len() as u64, 7, io::sink());
    assert!(matches!(wrong, Err(SealError::NoSuchGroup)));
}

#[test]
fn a_sender_finds_its_own_damage() {
    let data = content(3 * GROUP);
    let (_, tree) = outboard(data.as_slice(), data.len() as u64).unwrap();
    let mut rotten = data.clone();
    rotten[2 * GROUP + 5] ^= 1;
    assert!(matches!(send(rotten.as_slice(), &tree, 0, io::sink()), Err(SealError::Damaged)));
    assert!(matches!(send(&data[..GROUP], &tree, 0, io::sink()), Err(SealError::Damaged)));
    let mut hashes = hashes(&tree);
    hashes[3] ^= 1;
    let wrong = Outboard::of(&tree.root(), data.len() as u64, Hashes::Memory(hashes));
    assert!(matches!(send(data.as_slice(), &wrong, 0, io::sink()), Err(SealError::Damaged)));
}

#[test]
fn another_length_or_root_is_refused() {
    let data = content(3 * GROUP);
    let (root, wire) = sent(&data, 0);
    for length in [0, 1, data.len() - 1, data.len() + 1, 4 * GROUP, 400 * GROUP] {
        assert!(receive(wire.as_slice(), &root, length as u64, 0, io::sink()).is_err(), "{length}");
    }
    let other = ContentRoot::from_bytes([1; 32]);
    assert!(matches!(
        receive(wire.as_slice(), &other, data.len() as u64, 0, io::sink()),
        Err(SealError::Damaged)
    ));
    assert!(matches!(receive(io::empty(), &other, 0, 0, io::sink()), Err(SealError::Damaged)));
}

#[test]
fn outboard_of_too_short_data_is_refused() {
    assert!(matches!(outboard(&content(10)[..], 11), Err(SealError::Cut)));
}

fn hashes(tree: &Outboard) -> Vec<u8> {
    let mut hashes = vec![0; outboard_bytes(tree.content_bytes()) as usize];
    tree.0.data.read_exact_at(0, &mut hashes).unwrap();
    hashes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However often and wherever the connection is cut, the transfer completes from what lies.
    #[test]
    fn cut_anywhere_and_continued(length in 0..600_000_usize, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let data = content(length);
        let total = length as u64;
        let (root, tree) = outboard(data.as_slice(), total).unwrap();
        let mut held = Vec::new();
        for cut in cuts {
            let from = groups_held(held.len() as u64, total);
            held.truncate(group_offset(from, total) as usize);
            let mut wire = Vec::new();
            send(data.as_slice(), &tree, from, &mut wire).unwrap();
            let end = cut.index(wire.len() + 1);
            let result = receive(&wire[..end], &root, total, from, &mut held);
            prop_assert!(matches!(result, Ok(_) | Err(SealError::Cut)));
            prop_assert_eq!(&held[..], &data[..held.len()]);
        }
        let from = groups_held(held.len() as u64, total);
        held.truncate(group_offset(from, total) as usize);
        let mut wire = Vec::new();
        send(data.as_slice(), &tree, from, &mut wire).unwrap();
        prop_assert_eq!(receive(wire.as_slice(), &root, total, from, &mut held).unwrap(), groups(total));
        prop_assert_eq!(held, data);
    }

    #[test]
    fn a_flipped_byte_is_refused_and_never_written(length in 1..600_000_usize, from: prop::sample::Index, at: prop::sample::Index, bit in 0..8_u8) {
        let data = content(length);
        let from = from.index(groups(length as u64) as usize) as u64;
        let (root, mut wire) = sent(&data, from);
        let at = at.index(wire.len());
        wire[at] ^= 1_u8 << bit;
        let start = group_offset(from, length as u64) as usize;
        let mut got = Vec::new();
        let result = receive(wire.as_slice(), &root, length as u64, from, &mut got);
        prop_assert!(matches!(result, Err(SealError::Damaged)));
        prop_assert_eq!(&got[..], &data[start..start + got.len()]);
    }
}
