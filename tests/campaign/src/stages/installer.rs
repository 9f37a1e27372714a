//! `nv-runfile`: unpacking, fetching, the cache, and a container's files.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use testbed::bed::program;
use testbed::machine;
use testbed::runfile::{NvidiaRun, Pack, driver_tree, hash, small_tree};

use super::bed::{OnBed, Place};
use crate::saved::Look;

const TOOL: &str = "nv-runfile";
pub const VERSION: &str = "550.163.01";

fn command(words: &[&str], paths: &[&Path]) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![program(TOOL).into()];
    command.extend(words.iter().map(OsString::from));
    command.extend(paths.iter().map(OsString::from));
    command
}

/// A directory that is made is one item: it is there as a whole or not at all.
fn whole(look: Look) -> Look {
    let (inside, mut rest): (Look, Look) =
        look.into_iter().partition(|(item, _)| item.starts_with("at/out/"));
    if !inside.is_empty() {
        rest.insert("at/out".into(), format!("{inside:?}"));
    }
    rest
}

/// Unpacks a small installer of all kinds of entries.
pub fn extract(place: Place) -> OnBed {
    let bed = &place.bed;
    small_tree(&bed.at("tree"));
    bed.write("x.run", NvidiaRun::new(VERSION, Pack::Zstd).of_dir(&bed.at("tree")));
    fs::create_dir(bed.at("at")).unwrap();
    let command = command(&["extract"], &[&bed.at("x.run"), &bed.at("at/out")]);
    let mut stage = OnBed::of(place, format!("{TOOL} extract"), command, &["at"]);
    stage.settled = 4;
    stage.tidy = whole;
    stage
}

/// Brings an installer from a mirror that is a directory into the cache.
pub fn fetch(place: Place) -> OnBed {
    let bed = &place.bed;
    let name = NvidiaRun::new("999.10", Pack::Gzip).file_name();
    driver_tree(&bed.at("tree"), "999.10");
    let bytes = NvidiaRun::new("999.10", Pack::Gzip).of_dir(&bed.at("tree"));
    let digest = hash("sha256sum", &bytes);
    bed.write(&format!("mirror/{name}"), bytes);
    fs::create_dir(bed.at("cache")).unwrap();
    let url = format!("file://{}", bed.at("mirror").display());
    let words =
        ["fetch", "999.10", "--arch", "x86_64", "--sha256", &digest, "--mirror", &url, "--cache"];
    let command = command(&words, &[&bed.at("cache")]);
    let mut stage = OnBed::of(place, format!("{TOOL} fetch"), command, &["cache"]);
    stage.may_stay = |item| item.ends_with(".part");
    // the record's target is the installer; its note lies beside it
    stage.is_named = |_, said| said.contains("NVIDIA-Linux-x86_64-999.10.run");
    stage.tidy = notes;
    stage
}

/// Without the time that a note has, without locks, and without where a part came
/// from: that may outlive its part, until the next prune.
fn notes(look: Look) -> Look {
    let tidied = |item: &str, text: String| match item.ends_with(".json") {
        true => text
            .split(',')
            .filter(|part| !part.contains("time") && !part.contains("fetched"))
            .collect(),
        false => text,
    };
    let look = look
        .into_iter()
        .filter(|(item, _)| !item.ends_with(".lock") && !item.ends_with(".part.json"));
    look.map(|(item, text)| (item.clone(), tidied(&item, text))).collect()
}

/// Takes all but the newest out of the cache.
pub fn prune(place: Place) -> OnBed {
    let bed = &place.bed;
    for version in ["550.54.14", "550.163.01", "580.126.20"] {
        bed.write(&format!("cache/NVIDIA-Linux-x86_64-{version}.run"), "#!/bin/sh\n");
        bed.write(&format!("cache/NVIDIA-Linux-x86_64-{version}.run.json"), "{}");
    }
    let command = command(&["prune", "--keep", "1", "--cache"], &[&bed.at("cache")]);
    let mut stage = OnBed::of(place, format!("{TOOL} prune --keep 1"), command, &["cache"]);
    // a note goes with its installer
    stage.is_named = |item, said| said.contains(item.trim_end_matches(".json"));
    stage
}

/// A driver into the root file system of a stopped container, and out again.
/// Below `--root` no command is run, so the loader's cache is left alone.
pub fn install(place: Place, verb: &str) -> OnBed {
    let mut tree = machine::tree("pve9-two-gpus").unwrap();
    tree.entries.retain(|path, _| !path.starts_with("/lib") && !path.starts_with("/usr"));
    let place = place.with(&tree);
    let bed = &place.bed;
    driver_tree(&bed.at("/tmp/tree"), VERSION);
    let run = NvidiaRun::new(VERSION, Pack::Gzip).of_dir(&bed.at("/tmp/tree"));
    fs::remove_dir_all(bed.at("/tmp/tree")).unwrap();
    bed.write("/tmp/x.run", run);
    bed.write("/etc/pve/storage.cfg", "zfspool: tank\n\tpool tank\n\tmountpoint /tank\n");
    bed.write(
        "/etc/pve/lxc/910.conf",
        "arch: amd64\nostype: debian\nrootfs: tank:subvol-910-disk-0\n",
    );
    let root = "/tank/subvol-910-disk-0";
    bed.write(&format!("{root}/etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n");
    bed.write(&format!("{root}/etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n");
    for dir in ["usr/lib/x86_64-linux-gnu", "usr/bin", "var/lib", "var/cache/ldconfig"] {
        fs::create_dir_all(bed.at(&format!("{root}/{dir}"))).unwrap();
    }
    for name in ["lib", "bin"] {
        bed.link(&format!("{root}/{name}"), &format!("usr/{name}"));
    }
    bed.link(&format!("{root}/lib64"), "usr/lib64");
    bed.write(&format!("{root}/usr/lib64/ld-linux-x86-64.so.2"), "loader");
    bed.write(&format!("{root}/usr/lib/x86_64-linux-gnu/libc.so.6"), "libc");
    let file = bed.at("/tmp/x.run").display().to_string();
    let args = match verb {
        "install" => format!("install {file} --ct 910 --set compute,utility"),
        _ => format!("{verb} --ct 910"),
    };
    if verb != "install" {
        let first = format!("install {file} --ct 910 --set compute,utility");
        bed.tool(TOOL).args(&first).run().expect(0);
    }
    let mut stage = OnBed::rooted(place, TOOL, &args, &["tank", "etc/pve"]);
    stage.name = format!("{TOOL} {verb} --ct 910, below --root");
    stage.tidy = ledger;
    // what is intended is written down before, what was done after the deed
    stage.may_stay = |item| item.contains("var/lib/pve-gpu-tools");
    stage.may_lag = |item| item.contains("var/lib/pve-gpu-tools");
    stage
}

/// Without the name that the ledger gives each run.
fn ledger(look: Look) -> Look {
    let tidied = |item: &str, text: String| match item.contains("pve-gpu-tools") {
        true => text.split(',').filter(|part| !part.contains("\"run\"")).collect(),
        false => text,
    };
    look.into_iter().map(|(item, text)| (item.clone(), tidied(&item, text))).collect()
}

pub fn all(place: fn() -> Place) -> Vec<OnBed> {
    let containers = ["install", "uninstall"].map(|verb| install(place(), verb));
    [extract(place()), fetch(place()), prune(place())].into_iter().chain(containers).collect()
}
