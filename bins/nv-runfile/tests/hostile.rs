//! Archives that no installer would be: refused, and nothing is left of them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

use testbed::runfile::{NvidiaRun, Pack, RawMember, raw_tar};
use testbed::{Bed, Ran, Tool};

const TOOL: &str = "nv-runfile";

/// Packs a tar archive and unpacks it as root, beside a file that is not its.
fn unpack(tar: &[u8], options: &str) -> (Bed, Ran) {
    let bed = Bed::empty();
    bed.write("outside/secret", "mine\n");
    bed.write("x.run", NvidiaRun::new("550.163.01", Pack::Gzip).of_tar(tar));
    let ran =
        Tool::new(TOOL).args("extract").args(options).arg(bed.at("x.run")).arg(bed.at("out")).run();
    (bed, ran)
}

/// Nothing beside what was there.
fn untouched(bed: &Bed, case: &str) {
    let mut names: Vec<_> = fs::read_dir(bed.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["outside", "x.run"], "{case}");
    assert_eq!(bed.read("outside/secret"), "mine\n", "{case}");
    assert_eq!(fs::read_dir(bed.at("outside")).unwrap().count(), 1, "{case}");
}

#[test]
fn what_leads_out_is_refused() {
    let file = (b'0', "ok", "fine\n");
    for (case, members, why) in [
        ("absolute path", vec![file, (b'0', "/etc/evil", "x")], "an absolute path"),
        ("dots", vec![file, (b'0', "../outside/evil", "x")], "a path with '..'"),
        ("dots inside", vec![file, (b'0', "a/../../outside/evil", "x")], "a path with '..'"),
        ("dots that lead back", vec![file, (b'0', "a/../b", "x")], "a path with '..'"),
        ("a directory with dots", vec![file, (b'5', "../evil/", "")], "a path with '..'"),
        ("absolute link", vec![file, (b'2', "a", "/etc/passwd")], "an absolute link"),
        ("link out", vec![file, (b'2', "a", "../outside")], "leads out"),
        ("link out from below", vec![file, (b'2', "d/a", "../../outside")], "leads out"),
        ("link by a link", vec![(b'2', "d", "."), (b'2', "a", "d/..")], "leads out"),
        ("link to nothing", vec![file, (b'2', "a", "")], "a link to nothing"),
        (
            "through a link",
            vec![(b'2', "d", "sub"), (b'0', "d/x", "x")],
            "a second member with this path",
        ),
        (
            "a directory on a link",
            vec![(b'2', "d", "sub"), (b'5', "d/", "")],
            "a second member with this path",
        ),
        (
            "a file on a directory",
            vec![(b'5', "d/", ""), (b'0', "d", "x")],
            "a second member with this path",
        ),
        (
            "below a file",
            vec![(b'0', "f", "x"), (b'0', "f/x", "x")],
            "a second member with this path",
        ),
        ("hard link out", vec![file, (b'1', "a", "../outside/secret")], "a path with '..'"),
        ("absolute hard link", vec![file, (b'1', "a", "/etc/passwd")], "an absolute path"),
        (
            "hard link to nothing",
            vec![file, (b'1', "a", "b")],
            "a link to a member that does not exist",
        ),
        (
            "hard link to a link",
            vec![(b'2', "l", "x"), (b'1', "a", "l")],
            "a link to a member that is not a file",
        ),
        (
            "hard link to a directory",
            vec![(b'5', "d/", ""), (b'1', "a", "d")],
            "a link to a member that is not a file",
        ),
        ("character device", vec![file, (b'3', "null", "")], "a device"),
        ("block device", vec![file, (b'4', "sda", "")], "a device"),
        ("FIFO", vec![file, (b'6', "pipe", "")], "a FIFO"),
        ("sparse file", vec![file, (b'S', "sparse", "")], "a sparse file"),
        ("unknown type", vec![file, (b'Q', "x", "")], "a member of unknown type"),
        ("the directory itself as a file", vec![file, (b'0', ".", "x")], "not a directory"),
        ("no name", vec![file, (b'0', "", "x")], "no name"),
    ] {
        let (bed, ran) = unpack(&raw_tar(&members), "");
        assert_eq!(ran.code(), 4, "{case}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(why), "{case}: {}", ran.stderr);
        assert_eq!(ran.records[0]["status"], "refused", "{case}");
        untouched(&bed, case);
    }
}

#[test]
fn list_shows_what_extract_would_refuse() {
    let bed = Bed::empty();
    let tar = raw_tar(&[
        (b'0', "../evil", "x"),
        (b'2', "l", "/etc"),
        (b'3', "dev", ""),
        (b'0', "ok", ""),
    ]);
    bed.write("x.run", NvidiaRun::new("550.163.01", Pack::Gzip).of_tar(&tar));
    let ran = Tool::new(TOOL).args("list").arg(bed.at("x.run")).run().expect(0);
    let problems: Vec<_> = ran.records.iter().map(|r| r["problem"].is_string()).collect();
    assert_eq!(problems, [true, true, true, false]);
}

#[test]
fn links_that_stay_inside_are_made() {
    let (bed, ran) = unpack(
        &raw_tar(&[
            (b'0', "lib/a.so.1", "x"),
            (b'2', "lib/a.so", "a.so.1"),
            (b'2', "lib/sub/b.so", "../a.so.1"),
            (b'1', "other", "./lib/a.so.1"),
            (b'2', "lib/a.so", "a.so.1"),
            (b'0', "lib/a.so.1", "new"),
        ]),
        "",
    );
    ran.expect(0);
    assert_eq!(bed.read("out/lib/sub/b.so"), "new");
    // replaced, not written through
    assert_eq!(bed.read("out/other"), "x");
}

#[test]
fn more_than_allowed_is_refused() {
    let tar = raw_tar(&[(b'0', "a", "0123456789"), (b'0', "b", "0123456789")]);
    for (options, code, why) in [
        ("--max-size 19", 4, "more than 19 bytes"),
        ("--max-entries 1", 4, "more than 1 members"),
        ("--max-size 20 --max-entries 2", 0, ""),
    ] {
        let (bed, ran) = unpack(&tar, options);
        assert_eq!(ran.code(), code, "{options}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{options}: {}", ran.stderr);
        if code != 0 {
            assert!(ran.stderr.contains("use --max-size or --max-entries to allow more"));
            untouched(&bed, options);
        }
    }
}

#[test]
fn lies_about_sizes_are_damage() {
    let lie = |size| RawMember {
        path: "a",
        kind: b'0',
        link: "",
        mode: 0o644,
        content: b"x",
        size: Some(size),
    };
    for (case, tar, code) in [
        ("larger than the archive", lie(5000).bytes(), 2),
        ("larger than allowed", lie(0o77_777_777_777).bytes(), 2),
        ("a content that is a header", [lie(0).bytes(), raw_tar(&[])].concat(), 2),
        ("no archive at all", b"hello\n".repeat(1000), 2),
        ("cut off in a header", raw_tar(&[(b'0', "a", "x")])[..1300].to_vec(), 2),
        ("no blocks at its end", raw_tar(&[(b'0', "a", "x")])[..1024].to_vec(), 0),
        ("a directory with content", raw_tar(&[(b'5', "d/", "content")]), 2),
    ] {
        let (bed, ran) = unpack(&tar, "");
        assert_eq!(ran.code(), code, "{case}: {}", ran.stderr);
        if code != 0 {
            untouched(&bed, case);
        }
    }
    let mut long = Vec::new();
    long.extend(
        RawMember {
            path: "@",
            kind: b'L',
            link: "",
            mode: 0,
            content: &[b'a'; 10_000],
            size: None,
        }
        .bytes(),
    );
    long.extend(raw_tar(&[(b'0', "a", "x")]));
    let (bed, ran) = unpack(&long, "");
    ran.expect(4).one_line("a name of 10000 bytes");
    untouched(&bed, "long name");
}

#[test]
fn a_bomb_ends_at_its_limit() {
    // 20 GiB of zeros in 20 MB of gzip would take long to make: 2 GiB do
    let size = 2u64 << 30;
    let mut tar = RawMember {
        path: "bomb",
        kind: b'0',
        link: "",
        mode: 0o644,
        content: b"",
        size: Some(size),
    }
    .bytes();
    tar.resize(tar.len() + (1 << 20), 0);
    let (bed, ran) = unpack(&tar, "--max-size 1G");
    ran.expect(4).one_line("more than 1073741824 bytes");
    untouched(&bed, "bomb");
    // and behind the archive's end
    let mut tail = raw_tar(&[(b'0', "a", "x")]);
    tail.resize(tail.len() + (20 << 20), 0);
    let (bed, ran) = unpack(&tail, "");
    ran.expect(4).one_line("more follows its end");
    untouched(&bed, "tail");
}

#[test]
fn a_damaged_stream_is_never_half_a_tree() {
    let bed = Bed::empty();
    testbed::runfile::small_tree(&bed.at("tree"));
    for pack in [Pack::Gzip, Pack::Bzip2, Pack::Xz, Pack::Zstd, Pack::Lz4, Pack::None] {
        // without digests, so that only the decompressor can tell
        let good = NvidiaRun::new("550.163.01", pack).of_dir(&bed.at("tree"));
        let text = String::from_utf8_lossy(&good[..200]).into_owned();
        let md5 = text.lines().nth(2).unwrap().trim_start_matches("MD5=").to_string();
        let crc = text.lines().nth(1).unwrap().trim_start_matches("CRCsum=").to_string();
        let none = |bytes: &[u8]| {
            let head = format!("#! /bin/sh\nCRCsum=0000000000\nMD5={}\n", "0".repeat(32));
            let from = "#! /bin/sh\nCRCsum=\nMD5=\n".len() + md5.len() + crc.len();
            [head.as_bytes(), &bytes[from..]].concat()
        };
        let path = bed.at("x.run");
        let out = bed.at("out");
        let run = |path: &Path| Tool::new(TOOL).args("extract").arg(path).arg(&out).run();
        fs::write(&path, none(&good)).unwrap();
        let ran = run(&path).expect(0);
        assert!(ran.stderr.contains("carries no digest"), "{pack:?}: {}", ran.stderr);
        fs::remove_dir_all(&out).unwrap();
        for cut in [20, good.len() / 20] {
            // the last blocks of a plain archive are only its end
            let cut = if pack == Pack::None { cut + 12_000 } else { cut };
            fs::write(&path, none(&good[..good.len() - cut])).unwrap();
            run(&path).expect(2);
            assert!(!out.exists(), "{pack:?} {cut}");
        }
    }
}
