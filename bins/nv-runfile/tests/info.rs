//! `info`: what an installer is, from its head and from its content.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use serde_json::json;
use testbed::runfile::{
    NvidiaRun, Pack, driver_tree, makeself, old_makeself, small_tree, write_executable,
};
use testbed::{Bed, Ran, Tool};

const TOOL: &str = "nv-runfile";
const VERSION: &str = "550.163.01";

/// A bed with a driver's tree, packed.
fn driver(run: &NvidiaRun) -> (Bed, std::path::PathBuf) {
    let bed = Bed::empty();
    driver_tree(&bed.at("tree"), &run.version);
    let path = run.write(&bed.at("tree"), bed.path());
    (bed, path)
}

fn info(path: &std::path::Path, args: &str) -> Ran {
    Tool::new(TOOL).args("info").args(args).arg(path).run()
}

#[test]
fn the_head_of_a_driver_tells_everything_but_its_content() {
    let mut run = NvidiaRun::new(VERSION, Pack::Zstd);
    // bytes that are no text, with newlines among them
    run.decompressor = Some((0..3000u32).map(|n| (n * 37 % 256) as u8).collect());
    let (_bed, path) = driver(&run);
    let ran = info(&path, "").expect(0);
    let record = &ran.records[0];
    for (key, value) in [
        ("dialect", json!("nvidia")),
        ("makeself", json!("1.6.0-nv9")),
        ("label", json!("NVIDIA Accelerated Graphics Driver for Linux-x86_64 550.163.01")),
        ("version", json!(VERSION)),
        ("flavour", json!("driver")),
        ("variants", json!([])),
        ("arch", json!("x86_64")),
        ("compression", json!("zstd")),
        ("packaged", json!("Tue Apr  8 08:00:00 UTC 2025")),
        ("verified", json!("unchecked")),
        ("content", json!(null)),
        ("problems", json!([])),
    ] {
        assert_eq!(record[key], value, "{key}");
    }
    assert_eq!(record["size"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(record["decompressor"]["size"], 3001);
    let end = record["decompressor"]["offset"].as_u64().unwrap() + 3001;
    assert_eq!(record["payload_offset"], end);
    let options = record["options"].as_array().unwrap();
    for option in ["--silent", "-k", "--kernel-name", "--no-dkms", "--no-kernel-modules"] {
        assert!(options.contains(&json!(option)), "{option}: {options:?}");
    }
    let digests = record["digests"].as_array().unwrap();
    let algorithms: Vec<_> = digests.iter().map(|d| d["algorithm"].clone()).collect();
    assert_eq!(algorithms, ["cksum", "md5"]);
    assert!(digests.iter().all(|d| d["status"] == "unchecked" && d["covers"] == "after-line-3"));
}

#[test]
fn the_payload_is_found_behind_a_large_decompressor() {
    for size in [1, 100_000, 2_000_000] {
        let mut run = NvidiaRun::new(VERSION, Pack::XzNoCheck);
        run.makeself = 2;
        // every third byte ends a line
        let byte = |n: u32| if n % 3 == 0 { b'\n' } else { (n / 3) as u8 };
        run.decompressor = Some((0..size).map(byte).collect());
        let (_bed, path) = driver(&run);
        let record = info(&path, "").expect(0).records.remove(0);
        assert_eq!(record["compression"], "xz", "{size}");
        assert_eq!(record["makeself"], "1.6.0-nv2");
        assert_eq!(record["decompressor"]["size"], size + 1);
    }
}

#[test]
fn contents_are_looked_at_when_asked_for() {
    let (_bed, path) = driver(&NvidiaRun::new(VERSION, Pack::Zstd));
    let content = info(&path, "--contents").expect(0).records[0]["content"].clone();
    assert_eq!(content["version"], VERSION);
    assert_eq!(content["kernel_module_types"], json!(["proprietary", "open"]));
    assert_eq!(
        content["kernel_modules"],
        json!(["nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm"])
    );
    assert_eq!((&content["supported_gpus"], &content["legacy_gpus"]), (&json!(3), &json!(2)));
    assert_eq!(content["nested"], json!([]));
}

#[test]
fn cuda_brings_a_driver_inside() {
    let bed = Bed::empty();
    driver_tree(&bed.at("driver"), "570.86.10");
    bed.write("tree/cuda-installer", "x");
    bed.write("tree/builds/EULA.txt", "x");
    NvidiaRun::new("570.86.10", Pack::Zstd).write(&bed.at("driver"), &bed.at("tree/builds"));
    let path = bed.at("cuda_12.8.0_570.86.10_linux.run");
    write_executable(&path, &old_makeself(&[&bed.at("tree")], Pack::Gzip));
    let record = info(&path, "-c").expect(0).records.remove(0);
    assert_eq!((&record["flavour"], &record["version"]), (&json!("cuda"), &json!("12.8.0")));
    assert_eq!(record["bundled_driver"], "570.86.10");
    assert_eq!(record["dialect"], "makeself");
    let nested = &record["content"]["nested"][0];
    assert_eq!(nested["path"], "builds/NVIDIA-Linux-x86_64-570.86.10.run");
    assert_eq!((&nested["version"], &nested["flavour"]), (&json!("570.86.10"), &json!("driver")));
}

#[test]
fn a_renamed_or_odd_file_is_told() {
    let (bed, path) = driver(&NvidiaRun::new(VERSION, Pack::Gzip));
    let other = bed.at("NVIDIA-Linux-aarch64-535.54.03-custom.run");
    std::fs::rename(&path, &other).unwrap();
    let record = info(&other, "").expect(0).records.remove(0);
    assert_eq!(record["version"], VERSION);
    assert_eq!(record["variants"], json!(["custom"]));
    let problems = record["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn what_is_no_installer_is_an_error_and_never_a_panic() {
    let bed = Bed::empty();
    let nvidia = "#! /bin/sh\nCRCsum=1\nMD5=2\n";
    for (name, bytes, why) in [
        ("empty", b"".to_vec(), "it is empty"),
        ("elf", b"\x7fELF\n".to_vec(), "the first line"),
        ("script", b"#!/bin/sh\necho hi\n".to_vec(), "no skip="),
        ("word", format!("{nvidia}skip=many\nx\n").into_bytes(), "skip= is not a number"),
        ("huge", format!("{nvidia}skip=99999999999\nx\n").into_bytes(), "cannot begin at line"),
        ("zero", format!("{nvidia}skip=0\nx\n").into_bytes(), "cannot begin at line 0"),
        ("short", format!("{nvidia}skip=9\nx\n").into_bytes(), "ends before line 9"),
        ("bare", format!("{nvidia}skip=5\n").into_bytes(), "nothing behind the stub"),
    ] {
        bed.write(name, bytes);
        let ran = info(&bed.at(name), "").expect(2).one_line("not a .run installer");
        assert!(ran.stderr.contains(why), "{name}: {}", ran.stderr);
        assert_eq!(ran.records[0]["type"], "error");
    }
    info(&bed.at("none"), "").expect(2).one_line("no such file");
    info(bed.path(), "").expect(2).one_line("is a directory");
}

#[test]
fn debians_makeself_is_understood() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    for (option, compression) in [
        ("--gzip", "gzip"),
        ("--bzip2", "bzip2"),
        ("--xz", "xz"),
        ("--zstd", "zstd"),
        ("--lz4", "lz4"),
        ("--nocomp", "none"),
        ("--base64", "unknown"),
    ] {
        let path = bed.at(&format!("{compression}.run"));
        makeself(&bed.at("tree"), &path, &[option, "--sha256"]);
        let record = info(&path, "").expect(0).records.remove(0);
        assert_eq!(record["dialect"], "makeself");
        assert_eq!(record["compression"], compression, "{option}");
        assert_eq!(record["label"], "A test archive");
        assert_eq!(record["flavour"], "other");
        assert!(record["makeself"].as_str().unwrap().starts_with("2."), "{record}");
        assert_eq!(record["digests"].as_array().unwrap().len(), 4);
        assert!(record["unpacked_size"].as_u64().unwrap() > 600_000);
    }
}

#[test]
fn a_gpu_is_compared_with_what_the_installer_drives() {
    let (_bed, path) = driver(&NvidiaRun::new(VERSION, Pack::Zstd));
    let host = Bed::new("pve9-two-gpus");
    let ask = |bed: &Bed, function: &str| {
        bed.tool(TOOL).args("info --for").arg(function).arg(&path).run()
    };
    let ran = ask(&host, "2b:00.0").expect(0);
    let driver = ran.one("check", "property", "driver");
    assert_eq!((&driver["status"], &driver["actual"]), (&json!("ok"), &json!(VERSION)));
    let modules = ran.one("check", "property", "kernel_module");
    assert_eq!(modules["expected"], "proprietary or open");
    assert_eq!(
        (&modules["actual"], &modules["status"]),
        (&json!("proprietary or open"), &json!("ok"))
    );
    // from a pipe: the GPU's companions are not asked for
    let records = host.tool("gpu-iommu-groups").args("--vendor 10de").run().expect(0).stdout;
    let piped = host.tool(TOOL).args("info --for -").arg(&path).input(&records).run().expect(0);
    assert_eq!(piped.values("check", "subject").len(), 4);
    // a legacy GPU beside one that is driven
    let desktop = Bed::new("desktop-one-group");
    let all = desktop.tool("gpu-iommu-groups").args("--vendor 10de").run().expect(0).stdout;
    let ran = desktop.tool(TOOL).args("info --for -").arg(&path).input(&all).run().expect(1);
    let drift = ran.one("check", "status", "drift");
    assert_eq!(drift["actual"], "470.xx");
    // not listed at all
    let a100 = Bed::new("a100-mig");
    let gpus =
        a100.tool("gpu-iommu-groups").args("--vendor 10de --class 03").run().expect(0).stdout;
    let ran = a100.tool(TOOL).args("info --for -").arg(&path).input(&gpus).run().expect(1);
    assert!(ran.records.iter().all(|r| r["status"] == "unknown" && r["property"] == "driver"));
    ask(&host, "99:00.0").expect(2).one_line("no function 0000:99:00.0");
    ask(&host, "2b:00.1").expect(2).one_line("none of the functions is a GPU");
    host.tool(TOOL).args("info --for -").run().expect(2).one_line("the installer must be named");
}

#[test]
fn records_name_installers_as_well_as_operands_do() {
    let (_bed, path) = driver(&NvidiaRun::new(VERSION, Pack::Zstd));
    let first = info(&path, "").expect(0);
    let again = Tool::new(TOOL).args("verify").input(&first.stdout).run().expect(0);
    assert_eq!(again.records[0]["verified"], "intact");
    let ran = Tool::new(TOOL).args("verify").input("").run().expect(2);
    ran.one_line("standard input is empty: expected runfile records");
    let error = "{\"type\":\"error\",\"tool\":\"x\",\"message\":\"no\",\"exit\":3}\n";
    Tool::new(TOOL).args("list").input(error).run().expect(3);
}

#[test]
fn a_table_is_for_people() {
    let (_bed, path) = driver(&NvidiaRun::new(VERSION, Pack::Zstd));
    let ran = Tool::new(TOOL).args("info -c -o table").arg(&path).text().run().expect(0);
    assert!(ran.stdout.starts_with("VERSION     ARCH    FLAVOUR  PACKED"), "{}", ran.stdout);
    assert!(ran.stdout.contains("kernel modules proprietary or open, 3 GPU ids"), "{}", ran.stdout);
}
