use super::*;
use crate::{Algorithm, DigestScope};

fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
    Header::read(&mut &bytes[..], bytes.len() as u64, "")
}

const TAR: [u8; 4] = *b"\x1f\x8b\x08\x00";

#[test]
fn nvidias_payload_begins_at_the_line_and_upstreams_after_it() {
    let nvidia = [b"#! /bin/sh\nCRCsum=1\nMD5=x\nskip=6\nrest\n".as_slice(), &TAR].concat();
    let header = read(&nvidia).unwrap();
    assert_eq!((header.dialect, header.payload), (Dialect::Nvidia, nvidia.len() as u64 - 4));
    for (skip, payload) in [
        ("skip=\"4\"", TAR),
        ("offset=`head -n 4 \"$0\" | wc -c`", TAR),
        ("\toffset=`head -4 \"$0\" | wc -c`", TAR),
    ] {
        let text = format!("#!/bin/sh\n{skip}\nlabel=\"x\"\nrest\n");
        let header = read(&[text.as_bytes(), &payload].concat()).unwrap();
        assert_eq!(header.dialect, Dialect::Makeself, "{skip}");
        assert_eq!(header.payload, text.len() as u64, "{skip}");
        assert_eq!(header.compression, Compression::Gzip);
    }
}

#[test]
fn the_old_layout_of_the_fork_has_digests_that_nobody_can_check() {
    let old = b"#! /bin/sh\nskip=9\nCRCsum=123\nMD5=0123\nlabel=\"x\"\nmajor_version=1\n\
        script=./nvidia-installer\ntargetdir=NVIDIA-Linux-ia64-1.0-5336-pkg1\n\x1f\x8b\x08";
    let header = read(old).unwrap();
    assert!(header.digests.is_empty());
    assert!(header.problems[0].contains("unknown digest layout"));
    assert_eq!(header.script.as_deref(), Some("./nvidia-installer"));
}

#[test]
fn zeros_mean_that_there_is_no_digest() {
    let zeros = "0".repeat(32);
    let text = format!("#! /bin/sh\nCRCsum=0000000000\nMD5={zeros}\nskip=5\n\x1f\x08");
    assert!(read(text.as_bytes()).unwrap().digests.is_empty());
    let sha = "0".repeat(64);
    let text = format!(
        "#!/bin/sh\nCRCsum=\"0000000000\"\nMD5=\"{zeros}\"\nSHA=\"{sha}\"\nfilesizes=\"2\"\nskip=\"6\"\nab"
    );
    assert!(read(text.as_bytes()).unwrap().digests.is_empty());
}

#[test]
fn each_part_has_its_digests_and_the_whole_its_size() {
    let text = "#!/bin/sh\n# using Makeself 2.4.5\nCRCsum=\"1 2\"\nMD5=\"\"\n\
                filesizes=\"3 4\"\ntotalsize=\"7\"\nskip=\"7\"\nabcdefg";
    let header = read(text.as_bytes()).unwrap();
    let start = text.len() as u64 - 7;
    assert_eq!(
        header.parts,
        [Part { start, end: start + 3 }, Part { start: start + 3, end: start + 7 }]
    );
    let covers: Vec<_> = header.digests.iter().map(|d| (d.algorithm, d.scope)).collect();
    assert_eq!(
        covers,
        [
            (Algorithm::Size, DigestScope::Payload),
            (Algorithm::Cksum, DigestScope::Part(1)),
            (Algorithm::Cksum, DigestScope::Part(2)),
        ]
    );
    assert_eq!(header.makeself.as_deref(), Some("2.4.5"));
    assert!(header.problems.is_empty());
}

#[test]
fn sizes_that_no_file_has_are_clipped_and_told() {
    let text =
        "#!/bin/sh\nfilesizes=\"9000000000000000000 9000000000000000000 9\"\nskip=\"3\"\nabc";
    let header = read(text.as_bytes()).unwrap();
    assert!(
        header.parts.iter().all(|part| part.start <= part.end && part.end <= text.len() as u64)
    );
    assert!(header.problems[0].starts_with("cut off"));
    for sizes in ["", "x", "-1", "1 x"] {
        let text = format!("#!/bin/sh\nfilesizes=\"{sizes} \"\nskip=\"3\"\nabc");
        assert!(read(text.as_bytes()).is_err(), "{sizes}");
    }
}

#[test]
fn the_head_has_a_limit() {
    let mut bytes = b"#! /bin/sh\nCRCsum=1\nMD5=2\nskip=1000000\n".to_vec();
    bytes.resize(40 << 20, 0);
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains("no payload in the first 16 MiB"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_no_other_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    assert!(matches!(Header::read(&mut Broken, 10, ""), Err(HeaderError::Io(_))));
}
