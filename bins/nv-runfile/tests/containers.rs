//! `install --ct` where a driver is in the container already, or containers are many.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;

use testbed::driver::{LIB, RootFs, stopped};
use testbed::runfile::{NvidiaRun, Pack, driver_tree};
use testbed::{Bed, Ran};

const TOOL: &str = "nv-runfile";
/// The loaded module of the recorded host.
const V: &str = "550.163.01";
const FILE: &str = "/tmp/NVIDIA-Linux-x86_64-550.163.01.run";

fn host(ctids: &[u32]) -> (Bed, Vec<RootFs>) {
    let bed = Bed::new("pve9-two-gpus");
    let roots = ctids.iter().map(|ctid| stopped(&bed, *ctid)).collect();
    driver_tree(&bed.at("/tmp/tree"), V);
    let run = NvidiaRun::new(V, Pack::Gzip).of_dir(&bed.at("/tmp/tree"));
    bed.write(FILE, run);
    (bed, roots)
}

fn install(bed: &Bed, args: &str) -> Ran {
    bed.tool(TOOL).args("install").arg(bed.at(FILE)).args(args).run()
}

fn libraries(root: &RootFs, version: &str) {
    for stem in ["libcuda.so", "libnvidia-ml.so"] {
        root.library(LIB, stem, version);
        root.link(&format!("{LIB}/{stem}.1"), &format!("{stem}.{version}"));
    }
}

/// "Skip if present": the containers of a common guide have a .run inside, and its right
/// version was refused.
#[test]
fn what_is_right_already_is_unchanged_whoever_installed_it() {
    let package = |root: &RootFs| {
        libraries(root, V);
        let status = format!("Package: libcuda1\nStatus: install ok installed\nVersion: {V}-1\n\n");
        root.file("/var/lib/dpkg/status", status);
    };
    let run = |root: &RootFs| {
        root.run_install(LIB, V);
    };
    let by_hand = |root: &RootFs| libraries(root, V);
    type Maker<'a> = &'a dyn Fn(&RootFs);
    let ways: [(Maker<'_>, &str); 3] = [
        (&package, "driver packages are installed (libcuda1)"),
        (&run, "a .run installer installed the driver in it"),
        (&by_hand, "driver libraries are in it"),
    ];
    for (make, words) in ways {
        let (bed, roots) = host(&[910]);
        make(&roots[0]);
        let before = bed.contents();
        for args in ["--ct 910 -n", "--ct 910 --check", "--ct 910"] {
            let ran = install(&bed, args).expect(0);
            if args == "--ct 910" {
                let whole = ran.one("change", "property", "userspace");
                assert_eq!(whole["status"], "unchanged");
                let reason = whole["reason"].as_str().unwrap();
                assert!(reason.contains("installed by other means"), "{reason}");
                assert!(reason.contains(words), "{reason}");
            }
        }
        let of_container =
            |mut contents: std::collections::BTreeMap<std::path::PathBuf, String>| {
                contents.retain(|path, _| path.starts_with(bed.at("/tank")));
                contents
            };
        assert_eq!(of_container(bed.contents()), of_container(before), "{words}");
    }
}

/// The dry run of a pipeline said planned where the real run refuses.
#[test]
fn another_version_is_refused_in_a_dry_run_too_and_the_hint_removes_it() {
    let (bed, roots) = host(&[910]);
    libraries(&roots[0], "535.216.01");
    let status = "Package: libcuda1\nStatus: install ok installed\nVersion: 535.216.01-1\n\n";
    roots[0].file("/var/lib/dpkg/status", status);
    let planned = format!(
        "{{\"type\":\"change\",\"tool\":\"nv-runfile\",\"target\":\"{}\",\
          \"property\":\"runfile\",\"from\":null,\"to\":null,\"status\":\"planned\",\
          \"reason\":null,\"hint\":null}}\n",
        bed.at(FILE).display()
    );
    let piped = bed.tool(TOOL).args("install --ct 910 -n").input(planned.as_bytes()).run();
    for ran in [install(&bed, "--ct 910 -n"), install(&bed, "--ct 910"), piped] {
        let ran = ran.expect(4);
        let error = ran.of_type("error").next().unwrap();
        assert_eq!(
            error["commands"],
            serde_json::json!([["pct", "exec", "910", "--", "apt-get", "purge", "libcuda1"]])
        );
    }
    // with --purge it is planned, and what is planned is said; a stopped container cannot
    let ran = install(&bed, "--ct 910 -n --purge").expect(0);
    assert_eq!(ran.one("change", "property", "purge")["to"], "apt-get -y purge libcuda1");
    assert_eq!(ran.one("change", "property", "userspace")["status"], "planned");
    let ran = install(&bed, "--ct 910 --purge").expect(4);
    assert!(ran.stderr.contains("pct start 910"), "{}", ran.stderr);
}

#[test]
fn uninstall_says_whose_the_driver_is() {
    let (bed, roots) = host(&[910]);
    roots[0].run_install(LIB, "535.216.01");
    let ran = bed.tool(TOOL).args("uninstall --ct 910").run().expect(0);
    let whole = ran.one("change", "property", "userspace");
    assert_eq!((&whole["status"], &whole["from"]), (&"skipped".into(), &"535.216.01".into()));
    assert!(whole["reason"].as_str().unwrap().contains("a .run installer"), "{whole}");
}

#[test]
fn several_containers_are_installed_and_one_that_fails_does_not_stop_the_others() {
    let (bed, roots) = host(&[910, 911, 912]);
    roots[1].run_install(LIB, "535.216.01");
    let ran = install(&bed, "--ct 910 --ct 911 --ct 912 --set utility").expect(4);
    for (root, there) in roots.iter().zip([true, false, true]) {
        assert_eq!(root.at("/usr/bin/nvidia-smi").exists(), there, "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("ct 911: a .run installer installed"), "{}", ran.stderr);
    // all that have a driver from this tool
    let ran = install(&bed, "--all-cts --set utility").expect(0);
    let whole = ran.of_type("change").filter(|change| change["property"] == "userspace");
    let targets: Vec<_> = whole.map(|change| change["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["ct 910", "ct 912"]);
    for ctid in [910, 912] {
        bed.tool(TOOL).args(&format!("uninstall --ct {ctid}")).run().expect(0);
    }
    install(&bed, "--all-cts").expect(2).one_line("in no container of this host");
}

/// A hint is two commands: `fetch V`, then `install V --ct N`.
#[test]
fn a_version_that_is_in_the_cache_is_installed_by_its_number() {
    let (bed, roots) = host(&[910]);
    let args = format!("install {V} --ct 910 --set utility");
    bed.tool(TOOL).args(&args).run().expect(2).one_line("no such file");
    let cache = "/var/cache/pve-gpu-tools/runfiles";
    let bytes = fs::read(bed.at(FILE)).unwrap();
    bed.write(&format!("{cache}/NVIDIA-Linux-x86_64-{V}.run"), &bytes);
    let note = |sha256: &str| {
        let note = format!(
            "{{\"size\":1,\"mtime\":1,\"sha256\":\"{sha256}\",\"vouched_by\":\"user\",\
              \"url\":null}}\n"
        );
        bed.write(&format!("{cache}/NVIDIA-Linux-x86_64-{V}.run.json"), note);
    };
    // the digest with which it was accepted must be that of the file
    note(&"0".repeat(64));
    bed.tool(TOOL).args(&args).run().expect(4);
    use sha2::Digest as _;
    note(&hex::encode(sha2::Sha256::digest(&bytes)));
    bed.tool(TOOL).args(&args).run().expect(0);
    assert!(roots[0].at("/usr/bin/nvidia-smi").exists());
}
