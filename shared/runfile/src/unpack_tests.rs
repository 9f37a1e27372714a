use super::*;
use crate::decompress::BLOCK;
use crate::{ArchiveLimits, DigestScope, TarError, TarReader};

fn spec(algorithm: Algorithm, start: u64, end: u64) -> DigestSpec {
    DigestSpec { algorithm, scope: DigestScope::Payload, start, end, expected: None }
}

fn digests(bytes: &[u8], wanted: &[DigestSpec]) -> Vec<String> {
    let source =
        InstallerInput { input: &mut &bytes[..], interrupted: &|| false, progress: &|_| {} };
    digest(source, wanted).unwrap().into_iter().map(|digested| digested.actual).collect()
}

#[test]
fn digests_cover_their_bytes_across_blocks() {
    let bytes: Vec<u8> = (0..3 * BLOCK + 77).map(|n| (n * n / 3) as u8).collect();
    let size = bytes.len() as u64;
    let middle = (BLOCK as u64 - 3, 2 * BLOCK as u64 + 5);
    let wanted = [
        spec(Algorithm::Md5, 0, size),
        spec(Algorithm::Sha256, 0, size),
        spec(Algorithm::Size, middle.0, middle.1),
        spec(Algorithm::Md5, middle.0, middle.1),
        spec(Algorithm::Cksum, middle.0, middle.1),
        spec(Algorithm::Size, size - 1, size + 100),
        spec(Algorithm::Size, 5, 5),
    ];
    let all = digests(&bytes, &wanted);
    for (one, together) in wanted.iter().zip(&all) {
        assert_eq!(&digests(&bytes, std::slice::from_ref(one))[0], together);
    }
    assert_eq!(all[2], (middle.1 - middle.0).to_string());
    assert_eq!(&all[5..], ["1", "0"]);
    let part = &bytes[middle.0 as usize..middle.1 as usize];
    assert_eq!(digests(part, &[spec(Algorithm::Md5, 0, part.len() as u64)]), [all[3].clone()]);
    // md5sum of nothing
    assert_eq!(digests(b"", &wanted[..1]), ["d41d8cd98f00b204e9800998ecf8427e"]);
}

/// A header before one part of these bytes.
fn with_head(payload: &[u8]) -> (Vec<u8>, Header) {
    let mut bytes = b"#!/bin/sh\nskip=\"2\"\n".to_vec();
    bytes.extend(payload);
    let header = Header::read(&mut bytes.as_slice(), bytes.len() as u64, "").unwrap();
    (bytes, header)
}

fn large_tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["a", "b"] {
        let content: Vec<u8> = (0..2_000_000u32).map(|n| (n >> 3) as u8).collect();
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn count(plain: &mut Decompressed) -> Result<u64, TarError> {
    let mut members = 0;
    while plain.next_part()? {
        let mut tar = TarReader::new(plain, ArchiveLimits::default());
        while tar.next_member()?.is_some() {
            members += 1;
        }
    }
    Ok(members)
}

#[test]
fn a_consumer_may_stop_early_and_digests_go_on_only_if_asked_for() {
    let (bytes, header) = with_head(&zstd::encode_all(large_tar().as_slice(), 1).unwrap());
    for wanted in [vec![], vec![spec(Algorithm::Md5, 0, header.size)]] {
        let source = InstallerInput {
            input: &mut bytes.as_slice(),
            interrupted: &|| false,
            progress: &|_| {},
        };
        let passed = unpack(source, &header, &wanted, |_| Ok::<_, ()>(()), |()| true).unwrap();
        assert_eq!(passed.digests.len(), wanted.len());
        let source = InstallerInput {
            input: &mut bytes.as_slice(),
            interrupted: &|| false,
            progress: &|_| {},
        };
        let passed = unpack(source, &header, &wanted, count, |_| true).unwrap();
        assert_eq!(passed.outcome.unwrap(), 2);
        let source = InstallerInput {
            input: &mut bytes.as_slice(),
            interrupted: &|| false,
            progress: &|_| {},
        };
        let failing = |_: &mut Decompressed| Err::<(), _>(());
        let passed = unpack(source, &header, &wanted, failing, |()| true).unwrap();
        assert!(passed.outcome.is_err() && passed.digests.is_empty());
    }
}

#[test]
fn a_signal_and_a_broken_file_end_it() {
    let (bytes, header) = with_head(&large_tar());
    let wanted = [spec(Algorithm::Md5, 0, header.size)];
    let read = std::sync::atomic::AtomicU64::new(0);
    let at = |bytes| read.store(bytes, Ordering::Relaxed);
    let stop = || read.load(Ordering::Relaxed) > 1_000_000;
    let source = InstallerInput { input: &mut bytes.as_slice(), interrupted: &stop, progress: &at };
    assert!(matches!(
        unpack(source, &header, &wanted, count, |_| false),
        Err(ReadError::Interrupted)
    ));
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::from_raw_os_error(5)),
                count => Ok(count),
            }
        }
    }
    for wanted in [&wanted[..], &[]] {
        let mut broken = Broken(&bytes[..2_000_000]);
        let source =
            InstallerInput { input: &mut broken, interrupted: &|| false, progress: &|_| {} };
        assert!(matches!(unpack(source, &header, wanted, count, |_| false), Err(ReadError::Io(_))));
    }
}

#[test]
fn a_file_that_shrank_is_damage_and_not_a_hang() {
    let (bytes, header) = with_head(&zstd::encode_all(large_tar().as_slice(), 1).unwrap());
    let short = &bytes[..bytes.len() / 2];
    let source =
        InstallerInput { input: &mut &short[..], interrupted: &|| false, progress: &|_| {} };
    let passed = unpack(source, &header, &[], count, |_| true).unwrap();
    assert!(matches!(passed.outcome, Err(TarError::Io(_))));
}
