//! Containers' root file systems that mean harm.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::bed::program;
use testbed::driver::RootFs;

use crate::mutate::Random;
use crate::process::run;
use crate::saved::Saved;
use crate::stage::{Stage, play};
use crate::stages::bed::Place;
use crate::stages::installer;
use crate::{Effort, Tally};

/// Where the tools look, and so where traps are.
const PLACES: [&str; 18] = [
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/os-release",
    "etc/cdi",
    "usr",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.163.01",
    "usr/bin",
    "usr/bin/nvidia-smi",
    "usr/local/cuda-12.4/version.json",
    "var/lib",
    "var/lib/pve-gpu-tools",
    "var/lib/pve-gpu-tools/nv-runfile.json",
    "var/cache/ldconfig",
];

const TARGETS: [&str; 9] = [
    "/",
    ".",
    "../../../../../../../../../../etc",
    "/proc/1/root/etc/shadow",
    "/proc/self/root",
    "/outside",
    "../../../../../../outside/secret",
    "/dev/zero",
    "libnvidia-ml.so.1",
];

/// One trap at one place.
fn trap(random: &mut Random, root: &Path) -> String {
    let place = *random.pick(&PLACES);
    let at = root.join(place);
    let _ = fs::remove_dir_all(&at);
    let _ = fs::remove_file(&at);
    let Some(parent) = at.parent() else { return String::new() };
    // the parent may be a trap itself: then it stays one
    if fs::symlink_metadata(parent).map_or(true, |meta| !meta.is_dir())
        && (parent.is_symlink() || fs::create_dir_all(parent).is_err())
    {
        return String::new();
    }
    let target = *random.pick(&TARGETS);
    let kind = random.below(8);
    let node = |what: &[&str]| {
        let _ = Command::new("mknod").arg(&at).args(what).status();
    };
    match kind {
        0..=2 => drop(symlink(target, &at)),
        3 => node(&["p"]),
        4 => node(&["c", "1", "5"]),
        5 => drop(fs::File::create(&at).and_then(|file| file.set_len(10 << 30))),
        6 => {
            let mut dir = at.clone();
            for _ in 0..60 {
                dir.push("d");
            }
            let _ = fs::create_dir_all(dir);
        }
        _ => {
            let _ = fs::create_dir_all(&at);
            let _ = fs::set_permissions(&at, fs::Permissions::from_mode(0o000));
        }
    }
    format!("{place} kind {kind} {target}; ")
}

/// No link of theirs may be followed while it is removed.
fn remove(dir: &Path) {
    let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(dir).status();
    let _ = fs::remove_dir_all(dir);
}

/// `nv-version-check` looks at them.
pub fn looked_at(effort: Effort) -> Tally {
    let mut tally = Tally::new(
        "nv-version-check --rootfs",
        "hostile container file systems",
        "valid records; no panic, hang or 256 MiB; exit 0 to 4; nothing written; no word of a file outside",
    );
    let place = Place::empty();
    let outside = place.bed.at("outside");
    place.bed.write("outside/secret", "version 666.666.66 sings\n");
    let mut random = Random::new(effort.seed);
    for round in 0..effort.most * 4 {
        let root = place.bed.at("root");
        RootFs::new(&root).debian("550.163.01").ldconfig();
        let traps: String = (0..1 + random.below(8)).map(|_| trap(&mut random, &root)).collect();
        let words = [
            program("nv-version-check").into(),
            "--cuda".into(),
            "--rootfs".into(),
            root.clone().into(),
        ];
        let outcome = run(&words, b"");
        let judged = || {
            outcome.sane(false)?;
            if !matches!(outcome.code, Some(0..=4)) {
                return Err(outcome.end());
            }
            for word in ["sings", "666.666", "root:"] {
                if outcome.said().contains(word) {
                    return Err(format!("tells of a file outside: {}", outcome.end()));
                }
            }
            Ok(())
        };
        tally.trial(format!("{traps}round {round}"), judged());
        remove(&root);
    }
    drop(outside);
    tally
}

/// `nv-runfile` installs into them.
pub fn installed_into(effort: Effort) -> Tally {
    let mut tally = Tally::new(
        "nv-runfile install, uninstall --ct, below --root",
        "hostile container file systems",
        "nothing outside the container is read, made or changed; valid records; no panic, hang or 256 MiB; exit 0 to 4",
    );
    let mut random = Random::new(effort.seed);
    let stage = installer::install(Place::empty(), "install");
    let bed = &stage.place.bed;
    bed.write("outside/secret", "sings\n");
    let clean = bed.at("clean");
    let root: PathBuf = bed.at("/tank/subvol-910-disk-0");
    copy(&root, &clean);
    // everything but the container's own tree, and the directory above that too
    let around = Saved::of(bed.path(), &["outside", "etc", "usr", "clean", "lib", "var"]);
    let mut before = around.look();
    before.retain(|item, _| !item.ends_with(".lock"));
    for round in 0..effort.most * 3 {
        let traps: String = (0..1 + random.below(5)).map(|_| trap(&mut random, &root)).collect();
        let judged = || {
            let uninstall =
                ["--root", &bed.path().display().to_string(), "uninstall", "--ct", "910"];
            let mut words: Vec<std::ffi::OsString> = vec![program("nv-runfile").into()];
            words.extend(uninstall.iter().map(std::ffi::OsString::from));
            for outcome in [play(&stage, &[]), run(&words, b"")] {
                outcome.sane(false)?;
                if !matches!(outcome.code, Some(0 | 2 | 3 | 4)) || outcome.said().contains("sings")
                {
                    return Err(outcome.end());
                }
            }
            let mut now = around.look();
            now.retain(|item, _| !item.ends_with(".lock"));
            match now == before {
                true => Ok(()),
                false => Err(crate::judge::difference(&before, &now)),
            }
        };
        tally.trial(format!("{traps}round {round}"), judged());
        remove(&root);
        copy(&clean, &root);
    }
    drop(stage.name());
    tally
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
