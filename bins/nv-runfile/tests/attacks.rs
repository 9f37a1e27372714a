//! Hostile files, records, containers and readers against nv-runfile: what was verified is
//! what is used, and nothing outside is touched.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use testbed::bed::program;
use testbed::runfile::{NvidiaRun, Pack, driver_tree, raw_tar};
use testbed::{Bed, Ran, Tool};

const TOOL: &str = "nv-runfile";
const V: &str = "550.163.01";
const ROOT: &str = "/tank/subvol-910-disk-0";

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A recorded host with a stopped container whose volume is a directory.
fn host() -> Bed {
    let bed = Bed::new("pve9-two-gpus");
    testbed::driver::stopped(&bed, 910);
    driver_tree(&bed.at("/tmp/tree"), V);
    let run = NvidiaRun::new(V, Pack::Gzip).of_dir(&bed.at("/tmp/tree"));
    bed.write("/tmp/NVIDIA-Linux-x86_64-550.163.01.run", run);
    bed
}

fn installer(bed: &Bed) -> String {
    bed.at("/tmp/NVIDIA-Linux-x86_64-550.163.01.run").display().to_string()
}

fn record(path: &str, sha256: Option<&str>, verified: &str) -> String {
    let record = serde_json::json!({
        "type": "runfile", "path": path, "sha256": sha256, "verified": verified,
        "dialect": null, "makeself": null, "label": null, "version": V, "flavour": "driver",
        "variants": [], "arch": "x86_64", "bundled_driver": null, "size": null,
        "payload_offset": null, "payload_size": null, "unpacked_size": null,
        "compression": null, "decompressor": null, "packaged": null, "options": null,
        "digests": [], "vouched_by": null, "url": null, "content": null, "problems": [],
    });
    format!("{record}\n")
}

/// A record with 64 zeros and `pinned` installed, and `verify` said intact.
#[test]
fn a_records_digest_counts_as_if_it_was_given_as_an_option() {
    let bed = host();
    let file = installer(&bed);
    let right = sha256(&fs::read(&file).unwrap());
    let zeros = "0".repeat(64);
    let piped = |args: &str, record: &str| bed.tool(TOOL).args(args).input(record.as_bytes()).run();
    let install = "install --ct 910 --set utility -n";
    let wrong = record(&file, Some(&zeros), "pinned");
    assert!(piped(install, &wrong).expect(4).stderr.contains(&format!("expected {zeros}")));
    assert_eq!(piped("verify", &wrong).expect(1).values("runfile", "verified"), ["mismatch"]);
    let good = record(&file, Some(&right), "pinned");
    piped(install, &good).expect(0);
    assert_eq!(piped("verify", &good).expect(0).values("runfile", "verified"), ["pinned"]);
    // the option and the record must agree, and a digest must be one
    piped(&format!("verify --sha256 {zeros}"), &good).expect(2).one_line("but --sha256 is");
    piped("verify", &record(&file, Some("beef"), "pinned")).expect(2).one_line("64 hexadecimal");
    piped(install, &record(&file, Some(&right), "mismatch")).expect(4).one_line("is damaged");
}

/// 524 MB, uncompressed, owned by another user, changed in place between the passes: what
/// was placed was not what was pinned. Here the change waits until the second pass began.
#[test]
fn content_that_changes_between_the_passes_is_not_placed() {
    let bed = host();
    // behind the files that are wanted, so that it is read last
    let filler = vec![0x5a; 96 << 20];
    fs::write(bed.at("/tmp/tree/zzz-filler"), &filler).unwrap();
    let bytes = NvidiaRun::new(V, Pack::None).of_dir(&bed.at("/tmp/tree"));
    let file = installer(&bed);
    fs::write(&file, &bytes).unwrap();
    let pin = sha256(&bytes);
    let mut child = Command::new(program(TOOL))
        .arg("--root")
        .arg(bed.path())
        .args(["install", "--ct", "910", "--set", "utility", "--sha256", &pin, &file])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let position = |pid: u32| {
        let names = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let open = names.flatten().find(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_str() == Some(file.as_str()))
        })?;
        let info = fs::read_to_string(format!(
            "/proc/{pid}/fdinfo/{}",
            open.file_name().to_string_lossy()
        ));
        info.ok()?.lines().next()?.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let (mut passed, mut changed) = (0, false);
    while child.try_wait().unwrap().is_none() {
        let Some(at) = position(child.id()) else { continue };
        passed = passed.max(at);
        if passed > bytes.len() as u64 / 2 && at < passed / 2 {
            let mut writer = File::options().write(true).open(&file).unwrap();
            writer.seek(SeekFrom::End(-4096)).unwrap();
            writer.write_all(&[0xa5; 1024]).unwrap();
            changed = true;
            break;
        }
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(changed, "the second pass was not seen: {said}");
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("was modified after it was verified"), "{said}");
    assert!(!bed.at(&format!("{ROOT}/usr/bin/nvidia-smi")).exists());
}

/// A forged receipt with a sparse file of 15 TiB was read to its end, with the lock held.
#[test]
fn a_receipt_cannot_have_a_giant_read() {
    let bed = host();
    let size = 15u64 << 40;
    let path = "/usr/lib/x86_64-linux-gnu/libcuda.so.1";
    let sparse = File::create(bed.at(&format!("{ROOT}{path}"))).unwrap();
    if sparse.set_len(size).is_err() {
        sparse.set_len(1 << 42).unwrap();
    }
    let size = sparse.metadata().unwrap().len();
    let receipt = serde_json::json!({
        "format": 1, "run": "x", "version": V, "sets": ["compute"], "installer": "0",
        "entries": [{"path": path, "kind": "file", "size": size, "sha256": "0", "mode": 420}],
        "dirs": [],
    });
    bed.write(&format!("{ROOT}/var/lib/pve-gpu-tools/nv-runfile.json"), receipt.to_string());
    let start = Instant::now();
    let ran = bed.tool(TOOL).args("uninstall --ct 910").run().expect(0);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(ran.one("change", "property", path)["status"], "skipped");
}

/// What a container's receipt names is removed only where install could have placed it.
#[test]
fn a_forged_receipt_removes_nothing_that_install_never_places() {
    let bed = host();
    let victims = ["/etc/passwd", "/root/.ssh/authorized_keys", "/usr/bin/sudo", "/srv/data"];
    let entry = |path: &str| {
        serde_json::json!({"path": path, "kind": "file", "size": 2, "mode": 0o644,
            "sha256": sha256(b"x\n")})
    };
    for path in victims {
        bed.write(&format!("{ROOT}{path}"), "x\n");
        bed.write(&format!("{ROOT}{path}").replace("/authorized", "/.authorized"), "x\n");
    }
    let receipt = serde_json::json!({
        "format": 1, "run": "x", "version": V, "sets": ["compute"], "installer": "0",
        "entries": victims.map(entry), "dirs": ["/srv"],
    });
    let dir = format!("{ROOT}/var/lib/pve-gpu-tools");
    bed.write(&format!("{dir}/nv-runfile.json"), receipt.to_string());
    let ran = bed.tool(TOOL).args("uninstall --ct 910 --force").run().expect(0);
    assert!(ran.stderr.contains("names 4 paths that nv-runfile never places"), "{}", ran.stderr);
    let intent = serde_json::json!({
        "format": 1, "run": "y", "placing": true, "paths": victims, "make": victims.map(entry),
        "displace": victims, "dirs": ["/srv"], "drop_dirs": ["/srv"], "to": null,
    });
    bed.write(&format!("{dir}/nv-runfile.next.json"), intent.to_string());
    bed.tool(TOOL).args("uninstall --ct 910").run().expect(0);
    for path in victims {
        assert_eq!(bed.read(&format!("{ROOT}{path}")), "x\n", "{path}");
    }
}

/// 32,000 links, each to the next one, in a .run of 45 KB: no end and no signal heeded.
#[test]
fn links_that_lead_to_each_other_end_soon() {
    let bed = host();
    let manifest = bed.at("/tmp/tree/.manifest");
    let mut text = fs::read_to_string(&manifest).unwrap().trim_end().to_string();
    for at in (1..32_000).rev() {
        let to = at - 1;
        text += &format!("\nlibl{at}.so 0000 CUDA_SYMLINK NATIVE / libl{to}.so MODULE:gpgpu");
    }
    text += "\nlibl0.so 0000 CUDA_SYMLINK NATIVE / libcuda.so.1 MODULE:gpgpu\n\n";
    fs::write(&manifest, text).unwrap();
    fs::write(installer(&bed), NvidiaRun::new(V, Pack::Gzip).of_dir(&bed.at("/tmp/tree"))).unwrap();
    let start = Instant::now();
    let tool = bed.tool(TOOL).args("install --ct 910 --set compute -n");
    tool.arg(installer(&bed)).run().expect(0);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

fn extract(tar: &[u8], options: &str) -> (Bed, Ran) {
    let bed = Bed::empty();
    bed.write("x.run", NvidiaRun::new(V, Pack::Gzip).of_tar(tar));
    let ran =
        Tool::new(TOOL).args("extract").args(options).arg(bed.at("x.run")).arg(bed.at("out")).run();
    assert!(!bed.at("out").exists());
    assert_eq!(fs::read_dir(bed.path()).unwrap().count(), 1, "something is left");
    (bed, ran)
}

/// 20 members made 20,011 directories with --max-entries 20.
#[test]
fn directories_that_are_made_count_as_entries() {
    let paths: Vec<String> = (0..10).map(|at| format!("a{at}/b/c/d/e/f")).collect();
    let members: Vec<(u8, &str, &str)> = paths.iter().map(|p| (b'0', p.as_str(), "x")).collect();
    let (_, ran) = extract(&raw_tar(&members), "--max-entries 20");
    assert!(ran.expect(4).stderr.contains("more than 20 entries"));
}

/// A path of 2,000 directories could not be removed again with `ulimit -n 1024`.
#[test]
fn a_path_of_thousands_of_directories_is_refused_before_it_is_made() {
    let deep = format!("{}f", "d/".repeat(2_000));
    let pax = format!("path={deep}\n");
    let length = pax.len() + 5;
    let long = format!("{length} {pax}");
    assert_eq!(long.len(), length);
    let tar = raw_tar(&[(b'x', "pax", &long), (b'0', "f", "x")]);
    let (_, ran) = extract(&tar, "");
    assert!(ran.expect(4).stderr.contains("a path of more than 64 directories"));
}

/// SIGXFSZ ended the tool without a word, and left what it had written.
#[test]
fn a_limit_on_file_sizes_is_an_error_that_leaves_nothing() {
    let bed = host();
    fs::create_dir(bed.at("/tmp/at")).unwrap();
    let command = format!(
        "ulimit -f 1; exec {} extract {} {}",
        program(TOOL).display(),
        installer(&bed),
        bed.at("/tmp/at/out").display()
    );
    let output = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.to_lowercase().contains("file too large"), "{said}");
    assert_eq!(fs::read_dir(bed.at("/tmp/at")).unwrap().count(), 0);
}

/// `prune | head -1` removed a part of what it should, and ended with 0.
#[test]
fn a_reader_that_goes_away_does_not_end_a_change() {
    let bed = Bed::empty();
    for patch in 0..800 {
        bed.write(&format!("cache/NVIDIA-Linux-x86_64-550.{}.run", patch + 1000), "#!/bin/sh\n");
    }
    fs::set_permissions(bed.at("cache"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(program(TOOL))
        .args(["prune", "--keep", "0", "--cache"])
        .arg(bed.at("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let left = fs::read_dir(bed.at("cache")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().ends_with(".run")).count();
    assert_eq!(left, 0, "of 800");
}
