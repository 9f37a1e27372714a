//! `list` and `extract`: the same tree as the archive makes of itself.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use testbed::runfile::{
    NvidiaRun, Pack, driver_tree, hash, longest_name, makeself, old_makeself, raw_tar, small_tree,
    tree_of, write_executable,
};
use testbed::{Bed, Ran, Tool};

const TOOL: &str = "nv-runfile";

fn extract(path: &Path, dir: &Path) -> Ran {
    Tool::new(TOOL).args("extract").arg(path).arg(dir).run()
}

/// Compares what we make of a file with what it makes of itself, and with what
/// list says.
fn same_as_itself(bed: &Bed, path: &Path, args: &[&str]) {
    let (ours, theirs) = (bed.at("ours"), bed.at("theirs"));
    let own = Command::new("sh").arg(path).args(args).arg(&theirs).output().unwrap();
    assert!(own.status.success(), "{args:?}: {own:?}");
    let ran = extract(path, &ours).expect(0);
    assert_eq!(ran.records[0]["status"], "changed");
    assert_eq!(ran.stderr, "");
    let (our_tree, their_tree) = (tree_of(&ours), tree_of(&theirs));
    assert!(!our_tree.is_empty());
    assert_eq!(our_tree, their_tree, "{}", path.display());
    let list = Tool::new(TOOL).args("list").arg(path).run().expect(0);
    for entry in list.of_type("runfile-entry").filter(|entry| entry["packed"] == true) {
        let name = entry["path"].as_str().unwrap();
        if name == "." {
            continue;
        }
        let meta = fs::symlink_metadata(ours.join(name)).unwrap();
        let kind = match meta.file_type() {
            kind if kind.is_symlink() => "symlink",
            kind if kind.is_dir() => "dir",
            _ => "file",
        };
        let said = entry["kind"].as_str().unwrap();
        assert!(said == kind || (said == "hardlink" && kind == "file"), "{entry}");
        assert!(kind != "file" || said == "hardlink" || entry["size"] == meta.len(), "{entry}");
    }
    fs::remove_dir_all(ours).unwrap();
    fs::remove_dir_all(theirs).unwrap();
}

#[test]
fn nvidias_dialect_in_every_compression() {
    for (pack, makeself, suffix, decompressor) in [
        (Pack::XzNoCheck, 2, "", None),
        (Pack::Zstd, 9, "", None),
        (Pack::Zstd, 9, "-grid", Some((0..=255u8).cycle().take(5000).collect::<Vec<u8>>())),
        (Pack::Gzip, 4, "-vgpu-kvm-custom", None),
        (Pack::Xz, 4, "", Some(b"\n\n\n".to_vec())),
    ] {
        let bed = Bed::empty();
        driver_tree(&bed.at("tree"), "535.129.03");
        small_tree(&bed.at("tree/small"));
        bed.write(&format!("tree/{}/x", longest_name()), "x");
        bed.link(&format!("tree/{}", "y".repeat(120)), &longest_name());
        let mut run = NvidiaRun::new("535.129.03", pack);
        (run.makeself, run.suffix, run.decompressor) = (makeself, suffix.into(), decompressor);
        let path = run.write(&bed.at("tree"), bed.path());
        same_as_itself(&bed, &path, &["-x", "--target"]);
    }
}

#[test]
fn debians_makeself_in_every_compression() {
    for options in [
        &["--gzip"][..],
        &["--xz"],
        &["--zstd", "--sha256"],
        &["--bzip2"],
        &["--nocomp"],
        &["--lz4"],
        &["--xz", "--threads", "2"],
        &["--tar-format", "pax"],
        &["--tar-format", "gnu"],
        &["--tar-format", "v7"],
    ] {
        let bed = Bed::empty();
        small_tree(&bed.at("tree"));
        if options.contains(&"pax") || options.contains(&"gnu") {
            bed.write(&format!("tree/{}", longest_name()), "x");
        }
        if options.contains(&"v7") {
            // longer than that format can say
            fs::remove_dir_all(bed.at("tree/sub/deeper")).unwrap();
            fs::remove_file(bed.at("tree/dir-link")).unwrap();
        }
        let path = bed.at("x.run");
        makeself(&bed.at("tree"), &path, options);
        same_as_itself(&bed, &path, &["--quiet", "--noexec", "--target"]);
    }
    assert!(!Path::new("/tmp/pve-gpu-tools-setup-was-run").exists());
}

#[test]
fn an_old_makeself_and_one_that_was_appended_to() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    for pack in [Pack::Gzip, Pack::Bzip2] {
        let path = bed.at("old.run");
        write_executable(&path, &old_makeself(&[&bed.at("tree")], pack));
        same_as_itself(&bed, &path, &["--noexec", "--target"]);
    }
    bed.write("more/second", "second\n");
    bed.write("more/sub/large", "of the second part\n");
    let both = [bed.at("tree"), bed.at("more")];
    write_executable(&bed.at("x.run"), &old_makeself(&[&both[0], &both[1]], Pack::Xz));
    same_as_itself(&bed, &bed.at("x.run"), &["--noexec", "--target"]);
}

#[test]
fn streams_in_several_pieces_are_one() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    let tar = testbed::runfile::tar_of(&bed.at("tree"), &[]);
    for pack in [Pack::Gzip, Pack::Bzip2, Pack::Xz, Pack::Zstd, Pack::Lz4] {
        // as parallel compressors write them, with junk behind the last
        let pieces: Vec<u8> = tar.chunks(100_000).flat_map(|piece| pack.pack(piece)).collect();
        let mut run = NvidiaRun::new("550.163.01", Pack::None);
        run.trailing = b"\n".to_vec();
        let path = bed.at("x.run");
        fs::write(&path, run.of_tar(&pieces)).unwrap();
        let ran = extract(&path, &bed.at("out")).expect(0);
        assert!(
            ran.stderr.contains("1 bytes after its archive were ignored"),
            "{pack:?}: {}",
            ran.stderr
        );
        assert_eq!(tree_of(&bed.at("out")), tree_of(&bed.at("tree")), "{pack:?}");
        fs::remove_dir_all(bed.at("out")).unwrap();
    }
}

#[test]
fn list_joins_members_with_the_manifest() {
    let bed = Bed::empty();
    driver_tree(&bed.at("tree"), "550.163.01");
    let path = NvidiaRun::new("550.163.01", Pack::Zstd).write(&bed.at("tree"), bed.path());
    let ran = Tool::new(TOOL).args("list").arg(&path).run().expect(0);
    let library = ran.one("runfile-entry", "path", "libcuda.so.550.163.01");
    assert_eq!(
        library["manifest"],
        json!({"kind": "CUDA_LIB", "mode": "0755", "arch": "NATIVE", "path": null, "module": "gpgpu"})
    );
    let link = ran.one("runfile-entry", "path", "libcuda.so.1");
    assert_eq!((&link["packed"], &link["kind"]), (&json!(false), &json!("symlink")));
    assert_eq!(link["target"], "libcuda.so.550.163.01");
    let setuid = ran.one("runfile-entry", "path", "nvidia-modprobe");
    assert_eq!((&setuid["mode"], &setuid["manifest"]["mode"]), (&json!("0755"), &json!("4755")));
    let firmware = ran.one("runfile-entry", "path", "firmware/gsp_ga10x.bin");
    assert_eq!(firmware["manifest"]["path"], "");
    assert_eq!(ran.one("runfile-entry", "path", ".manifest")["manifest"], json!(null));
    let table = Tool::new(TOOL).args("list -o table").arg(&path).text().run().expect(0);
    assert!(table.stdout.contains("libcuda.so -> libcuda.so.1"), "{}", table.stdout);
}

#[test]
fn owner_and_permissions_are_as_asked() {
    use std::os::unix::fs::MetadataExt;
    let bed = Bed::empty();
    let member = |mode: u32| testbed::runfile::RawMember {
        path: "tool",
        kind: b'0',
        link: "",
        mode,
        content: b"x",
        size: None,
    };
    let mut tar = member(0o6755).bytes();
    tar.extend(raw_tar(&[(b'5', "dir/", ""), (b'2', "link", "tool")]));
    let path = bed.at("x.run");
    fs::write(&path, NvidiaRun::new("550.163.01", Pack::Gzip).of_tar(&tar)).unwrap();
    for (options, mode, owner) in [
        ("", 0o755, (0, 0)),
        ("--umask 0", 0o6755, (0, 0)),
        ("--umask 7027", 0o750, (0, 0)),
        ("--owner 100000", 0o755, (100_000, 100_000)),
        ("--owner 1:2 --umask 0", 0o6755, (1, 2)),
        ("--owner archive", 0o755, (0, 0)),
    ] {
        let out = bed.at("out");
        Tool::new(TOOL).args("extract").args(options).arg(&path).arg(&out).run().expect(0);
        let tool = fs::metadata(out.join("tool")).unwrap();
        assert_eq!(tool.mode() & 0o7777, mode, "{options}");
        for name in ["", "tool", "dir", "link"] {
            let meta = fs::symlink_metadata(out.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), owner, "{options} {name}");
        }
        fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn a_dry_run_reads_all_and_makes_nothing() {
    let bed = Bed::empty();
    driver_tree(&bed.at("tree"), "550.163.01");
    let path = NvidiaRun::new("550.163.01", Pack::Zstd).write(&bed.at("tree"), bed.path());
    let out = bed.at("out");
    let run =
        |options: &str| Tool::new(TOOL).args("extract").args(options).arg(&path).arg(&out).run();
    assert_eq!(run("-n").expect(0).records[0]["status"], "planned");
    assert_eq!(run("--check").expect(1).records[0]["type"], "check");
    assert!(!out.exists());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 1000;
    bytes[middle] ^= 4;
    fs::write(&path, bytes).unwrap();
    run("-n").expect(4).one_line("is damaged");
}

#[test]
fn a_wrong_digest_leaves_nothing_unless_forced() {
    let bed = Bed::empty();
    driver_tree(&bed.at("tree"), "550.163.01");
    let path = NvidiaRun::new("550.163.01", Pack::Gzip).write(&bed.at("tree"), bed.path());
    // in the stub: what is packed is whole
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|w| w == b"keep=n\n").unwrap();
    bytes[at + 5] = b'y';
    fs::write(&path, &bytes).unwrap();
    let before = bed.contents();
    let ran = extract(&path, &bed.at("out")).expect(4).one_line("is damaged: cksum is");
    assert_eq!(ran.records[0]["status"], "refused");
    assert_eq!(bed.contents(), before);
    let forced =
        Tool::new(TOOL).args("extract --force").arg(&path).arg(bed.at("out")).run().expect(0);
    assert!(forced.stderr.contains("it was unpacked anyway"), "{}", forced.stderr);
    fs::remove_dir_all(bed.at("out")).unwrap();
    // the pinned one counts as well
    let sha = hash("sha256sum", &bytes);
    let wrong = sha.chars().rev().collect::<String>();
    let ran =
        Tool::new(TOOL).args("extract --sha256").arg(wrong).arg(&path).arg(bed.at("out")).run();
    assert!(ran.expect(4).stderr.contains("sha256 of the whole file is"));
    // a payload that cannot be read is told by the digest that is wrong
    let end = bytes.len() - 500;
    bytes[end] ^= 0xff;
    fs::write(&path, &bytes).unwrap();
    extract(&path, &bed.at("out")).expect(4).one_line("is damaged: cksum is");
    assert!(!bed.at("out").exists());
}

#[test]
fn what_cannot_be_unpacked_is_told_before_anything_is_made() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    makeself(&bed.at("tree"), &bed.at("x.run"), &["--base64"]);
    let ran = extract(&bed.at("x.run"), &bed.at("out")).expect(2);
    ran.one_line("has an unknown compression");
    Tool::new(TOOL).args("list").arg(bed.at("x.run")).run().expect(2);
    Tool::new(TOOL).args("verify").arg(bed.at("x.run")).run().expect(0);
    assert!(!bed.at("out").exists());
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    let path = NvidiaRun::new("550.163.01", Pack::Zstd).write(&bed.at("tree"), bed.path());
    let before = tree_of(&bed.at("tree"));
    extract(&path, &bed.at("tree")).expect(4).one_line("already exists");
    assert_eq!(tree_of(&bed.at("tree")), before);
    extract(&path, &bed.at("none/such")).expect(2).one_line("create its parent directory first");
    bed.write("file", "x");
    extract(&path, &bed.at("file/out")).expect(2);
    assert_eq!(bed.read("file"), "x");
}
