//! `verify`: every digest, right and wrong.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};
use testbed::runfile::{
    NvidiaRun, Pack, driver_tree, hash, makeself, old_makeself, small_tree, write_executable,
};
use testbed::{Bed, Ran, Tool};

const TOOL: &str = "nv-runfile";

fn verify(path: &Path) -> Ran {
    Tool::new(TOOL).args("verify").arg(path).run()
}

fn nvidia(bed: &Bed, pack: Pack) -> std::path::PathBuf {
    driver_tree(&bed.at("tree"), "550.163.01");
    let mut run = NvidiaRun::new("550.163.01", pack);
    run.decompressor = Some(b"\xff\n\n\0binary\n\x80".to_vec());
    run.write(&bed.at("tree"), bed.path())
}

/// Names of the digests with this status.
fn with_status(record: &Value, status: &str) -> Vec<String> {
    let digests = record["digests"].as_array().unwrap().iter();
    digests
        .filter(|digest| digest["status"] == status)
        .map(|digest| digest["algorithm"].as_str().unwrap().to_string())
        .collect()
}

#[test]
fn a_file_agrees_with_itself_and_with_its_own_stub() {
    for pack in [Pack::Zstd, Pack::XzNoCheck, Pack::Gzip] {
        let bed = Bed::empty();
        let path = nvidia(&bed, pack);
        let own = Command::new("sh").arg(&path).arg("--check").output().unwrap();
        assert!(own.status.success(), "{}", String::from_utf8_lossy(&own.stdout));
        let ran = verify(&path).expect(0);
        let record = &ran.records[0];
        assert_eq!(record["verified"], "intact");
        assert_eq!(with_status(record, "ok"), ["cksum", "md5"]);
        assert_eq!(record["sha256"], json!(hash("sha256sum", &fs::read(&path).unwrap())));
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn upstreams_digests_cover_the_payload() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    for (options, found) in [
        (&["--sha256"][..], &["size", "cksum", "md5", "sha256"][..]),
        (&[], &["size", "cksum", "md5"]),
        (&["--nomd5"], &["size", "cksum"]),
        (&["--nomd5", "--nocrc", "--sha256"], &["size", "sha256"]),
    ] {
        let path = bed.at("x.run");
        makeself(&bed.at("tree"), &path, options);
        let record = verify(&path).expect(0).records.remove(0);
        assert_eq!(record["verified"], "intact");
        assert_eq!(with_status(&record, "ok"), found, "{options:?}");
        // a change in the stub goes unnoticed, as by its own --check
        let text = fs::read(&path).unwrap();
        let at = text.windows(6).position(|w| w == b"unset ").unwrap();
        let mut changed = text.clone();
        changed[at] = b'U';
        fs::write(&path, changed).unwrap();
        verify(&path).expect(0);
    }
    makeself(&bed.at("tree"), &bed.at("none.run"), &["--nomd5", "--nocrc"]);
    let ran = verify(&bed.at("none.run")).expect(1).one_line("carries no digest");
    assert_eq!(ran.records[0]["verified"], "undigested");
    write_executable(&bed.at("old.run"), &old_makeself(&[&bed.at("tree")], Pack::Gzip));
    assert_eq!(
        with_status(&verify(&bed.at("old.run")).expect(0).records[0], "ok"),
        ["cksum", "md5"]
    );
}

#[test]
fn each_part_of_an_archive_that_was_appended_to_has_its_digests() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    bed.write("more/second", "second\n");
    let path = bed.at("x.run");
    let both = [bed.at("tree"), bed.at("more")];
    write_executable(&path, &old_makeself(&[&both[0], &both[1]], Pack::Gzip));
    let own = Command::new("sh").arg(&path).arg("--check").output().unwrap();
    assert!(own.status.success());
    let record = verify(&path).expect(0).records.remove(0);
    assert_eq!(with_status(&record, "ok").len(), 4, "{record}");
    // the last byte is the second part's
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let ran = verify(&path).expect(1);
    assert_eq!(with_status(&ran.records[0], "mismatch"), ["cksum", "md5"]);
    assert!(ran.stderr.contains("md5 of part 2 is"), "{}", ran.stderr);
}

#[test]
fn a_pinned_digest_is_a_matter_of_the_whole_file() {
    let bed = Bed::empty();
    let path = nvidia(&bed, Pack::Zstd);
    let sha = hash("sha256sum", &fs::read(&path).unwrap());
    let pinned = |sha: &str| Tool::new(TOOL).args("verify --sha256").arg(sha).arg(&path).run();
    let ran = pinned(&sha.to_uppercase()).expect(0);
    assert_eq!(ran.records[0]["verified"], "pinned");
    let wrong = sha.replace(&sha[..1], if &sha[..1] == "0" { "1" } else { "0" });
    let ran = pinned(&wrong).expect(1).one_line("sha256 of the whole file is");
    assert_eq!(ran.records[0]["verified"], "mismatch");
    assert_eq!(with_status(&ran.records[0], "mismatch"), ["sha256"]);
    pinned("12").expect(2).one_line("64 hexadecimal digits");
    Tool::new(TOOL).args("verify --sha256").args(&sha).arg(&path).arg(&path).run().expect(2);
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    // small, so that a thousand runs take seconds
    let bed = Bed::empty();
    bed.write("tree/.manifest", "x");
    bed.write("tree/data", (0..6000u32).map(|n| ((n * n) >> 7) as u8).collect::<Vec<_>>());
    let path = NvidiaRun::new("550.163.01", Pack::Zstd).write(&bed.at("tree"), bed.path());
    let good = fs::read(&path).unwrap();
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    for round in 0..1000 {
        use proptest::prelude::RngCore;
        let at = match round {
            // the digests themselves and what stands before them
            0..64 => round,
            64 => good.len() - 1,
            _ => rng.next_u64() as usize % good.len(),
        };
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (rng.next_u32() % 8);
        fs::write(&path, &bytes).unwrap();
        let ran = verify(&path);
        let case = format!("byte {at}: {} {}", ran.stdout, ran.stderr);
        match ran.code() {
            1 => {
                let record = &ran.records[0];
                let wrong = with_status(record, "mismatch");
                let line_2 = good.iter().position(|b| *b == b'\n').unwrap();
                if at > line_2 + 60 {
                    assert_eq!(wrong, ["cksum", "md5"], "{case}");
                } else {
                    // where a key is hit there is no digest left to be wrong
                    assert!(!wrong.is_empty() || record["verified"] == "undigested", "{case}");
                }
            }
            // the head is no head any more
            2 => assert!(ran.stderr.contains("not a .run installer"), "{case}"),
            _ => panic!("not found: {case}"),
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_not_intact() {
    let bed = Bed::empty();
    let path = nvidia(&bed, Pack::Zstd);
    let good = fs::read(&path).unwrap();
    for keep in [good.len() - 1, good.len() - 1000, good.len() / 2] {
        fs::write(&path, &good[..keep]).unwrap();
        assert_eq!(verify(&path).expect(1).records[0]["verified"], "mismatch");
    }
    small_tree(&bed.at("small"));
    let upstream = bed.at("x.run");
    makeself(&bed.at("small"), &upstream, &["--nomd5", "--nocrc", "--sha256"]);
    let good = fs::read(&upstream).unwrap();
    fs::write(&upstream, &good[..good.len() - 3]).unwrap();
    let record = verify(&upstream).expect(1).records.remove(0);
    assert_eq!(with_status(&record, "mismatch"), ["size", "sha256"]);
    assert_eq!(record["problems"][0], "cut off: 3 bytes are missing at its end");
    fs::write(&upstream, [&good[..], b"more"].concat()).unwrap();
    assert_eq!(with_status(&verify(&upstream).expect(1).records[0], "mismatch"), ["size"]);
}

#[test]
fn the_highest_exit_code_of_several_files_wins() {
    let bed = Bed::empty();
    let path = nvidia(&bed, Pack::Zstd);
    let bad = bed.at("bad.run");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&bad, bytes).unwrap();
    let ran = Tool::new(TOOL).args("verify").arg(&bad).arg(&path).run().expect(1);
    assert_eq!(ran.values("runfile", "verified"), ["mismatch", "intact"]);
}
