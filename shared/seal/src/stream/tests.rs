use proptest::prelude::*;

use handover_core::ContentRoot;

use super::*;
use crate::tree;

fn key() -> Secret32 {
    Secret32::from_bytes([4; 32])
}

fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251) as u8 ^ at as u8).collect()
}

fn seal(plain: &[u8], write_bytes: usize) -> Vec<u8> {
    let mut writer = SealWriter::new(Vec::new(), &key());
    for piece in plain.chunks(write_bytes.max(1)) {
        writer.write_all(piece).unwrap();
    }
    writer.finish().unwrap()
}

fn open(sealed: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    OpenReader::new(sealed, &key()).read_to_end(&mut out)?;
    Ok(out)
}

fn opened(sealed: &[u8]) -> Result<(ContentRoot, u64), SealError> {
    opened_root(&sealed, sealed.len() as u64, &key())
}

#[test]
fn lengths_at_the_edges_round_trip() {
    for length in
        [0, 1, PLAIN_CHUNK_BYTES - 1, PLAIN_CHUNK_BYTES, PLAIN_CHUNK_BYTES + 1, 3 * PLAIN_CHUNK_BYTES]
    {
        let sealed = seal(&plain(length), 10_000);
        assert_eq!(sealed.len() as u64, sealed_len(length as u64), "{length}");
        assert_eq!(open(&sealed).unwrap(), plain(length), "{length}");
        assert_eq!(opened(&sealed).unwrap(), tree::root(plain(length).as_slice()).unwrap(), "{length}");
    }
}

#[test]
fn chunks_cannot_be_cut_moved_repeated_or_added() {
    let sealed = seal(&plain(3 * PLAIN_CHUNK_BYTES + 7), 65_000);
    let chunks: Vec<&[u8]> = sealed.chunks(SEALED_CHUNK_BYTES).collect();
    for order in [
        vec![0, 1, 2],
        vec![0, 1],
        vec![0],
        vec![],
        vec![1, 0, 2, 3],
        vec![0, 2, 1, 3],
        vec![0, 1, 1, 2, 3],
        vec![0, 1, 2, 3, 3],
        vec![1, 2, 3],
        vec![3],
    ] {
        let altered: Vec<u8> = order.iter().flat_map(|at: &usize| chunks[*at]).copied().collect();
        assert!(open(&altered).is_err(), "{order:?}");
        assert!(opened(&altered).is_err(), "{order:?}");
    }
    assert!(open(&[sealed.as_slice(), &[0]].concat()).is_err());
    let other_key = Secret32::from_bytes([5; 32]);
    assert!(OpenReader::new(sealed.as_slice(), &other_key).read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn an_empty_last_chunk_after_a_full_one_is_refused() {
    let mut sealer = EncryptorBE32::from_aead(cipher(&key()), &prefix());
    let mut full = plain(PLAIN_CHUNK_BYTES);
    sealer.encrypt_next_in_place(b"", &mut full).unwrap();
    let mut empty = Vec::new();
    sealer.encrypt_last_in_place(b"", &mut empty).unwrap();
    let sealed = [full, empty].concat();
    assert!(open(&sealed).is_err());
    assert!(opened(&sealed).is_err());
}

#[test]
fn after_an_error_there_is_no_end() {
    let sealed = seal(&plain(100), 100);
    let mut reader = OpenReader::new(&sealed[..50], &key());
    let mut out = [0; 10];
    assert!(reader.read(&mut out).is_err());
    assert!(reader.read(&mut out).is_err());

    // Nor after the inner reader failed in the middle.
    struct Fails<'a>(&'a [u8]);
    impl Read for Fails<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.read(out)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                read => Ok(read),
            }
        }
    }
    let sealed = seal(&plain(PLAIN_CHUNK_BYTES * 2), 65_520);
    let mut reader = OpenReader::new(Fails(&sealed), &key());
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    assert!(reader.read(&mut out).is_err());
}

#[test]
fn a_failed_writer_is_never_finished() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = SealWriter::new(Full, &key());
    assert!(writer.write_all(&plain(PLAIN_CHUNK_BYTES + 1)).is_err());
    assert!(writer.write(b"more").is_err());
    assert!(writer.finish().is_err());
}

#[test]
fn golden() {
    assert_eq!(hex::encode(seal(b"", 1)), "5d5fe9779dca45a9bd4ac99fe3bccffd");
    assert_eq!(hex::encode(seal(b"handover", 1)), "5e9cd3df8a9c891f1e0c9eb97e44f2200a2b341538d3b242");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_length_round_trips(length in 0..200_000_usize, write_bytes in 1..150_000_usize) {
        let plain = plain(length);
        let sealed = seal(&plain, write_bytes);
        prop_assert_eq!(opened(&sealed).unwrap(), tree::root(plain.as_slice()).unwrap());
        prop_assert_eq!(open(&sealed).unwrap(), plain);
    }

    #[test]
    fn any_flipped_or_cut_byte_is_refused(length in 0..200_000_usize, at: prop::sample::Index, bit in 0..8_u8) {
        let sealed = seal(&plain(length), 65_536);
        let at = at.index(sealed.len());
        let mut altered = sealed.clone();
        altered[at] ^= 1_u8 << bit;
        for wrong in [&altered, &sealed[..at]] {
            prop_assert!(open(wrong).is_err());
            prop_assert!(matches!(opened(wrong), Err(SealError::CannotOpen)));
        }
    }
}
