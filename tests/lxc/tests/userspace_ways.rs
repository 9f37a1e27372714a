//! The other ways of a driver into a container: NVIDIA's own installer run
//! inside, and a directory of the host that is mounted.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lxcbed::Host;
use lxcbed::debian::{VERSION, installer};
use lxcbed::snapshot::{difference, tree};
use testbed::runfile::{NvidiaRun, Pack, driver_tree};
use testbed::{Bed, Ran};

const HOST: &str = "pve9-two-gpus";

/// Stands in for nvidia-installer: writes down its arguments, and installs.
const STAND_IN: &str = r#"#!/bin/sh
for arg in "$@"; do echo "$arg"; done >/root/args
# unpacked where it was called, unlike the real one
trap 'rm -rf "$PWD"' EXIT
if [ -e /root/fail ]; then
	printf 'ERROR: Unable to find the\n       thing.\nERROR: Installation has failed.\n' >/var/log/nvidia-installer.log
	exit 1
fi
lib=/usr/lib/x86_64-linux-gnu
for name in libcuda libnvidia-ml; do
	cp $name.so.@V@ $lib/ && ln -sf $name.so.@V@ $lib/$name.so.1
done
mkdir -p /var/lib/nvidia && echo '1.0-1 (@V@)' >/var/lib/nvidia/log
"#;

/// An installer with the stand-in, on the machine that the test runs on.
fn stand_in(bed: &Bed, version: &str, options: Option<&[&str]>) -> PathBuf {
    let dir = bed.at(&format!("tree-{version}"));
    driver_tree(&dir, version);
    let program = dir.join("nvidia-installer");
    fs::write(&program, STAND_IN.replace("@V@", version)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = NvidiaRun::new(version, Pack::Gzip);
    run.options = options.unwrap_or_default().iter().map(|option| option.to_string()).collect();
    run.write(&dir, bed.path())
}

/// Puts it where the host has it.
fn on(host: &Host, file: &PathBuf) -> String {
    let path = format!("/run/{}", file.file_name().unwrap().to_string_lossy());
    host.write(&path, fs::read(file).unwrap());
    path
}

fn install(host: &Host, words: &str) -> Ran {
    host.tool("nv-runfile").arg("install").args(words).run()
}

#[test]
fn the_installer_runs_inside_with_the_options_of_its_version() {
    let host = Host::new(HOST);
    let bed = Bed::empty();
    let container = host.create_debian(950, true);
    let old = on(&host, &stand_in(&bed, "470.256.02", None));
    let new = on(&host, &stand_in(&bed, VERSION, None));
    let ran = install(&host, &format!("{new} --ct 950 --mode installer")).expect(4);
    assert!(ran.stderr.contains("is not running"), "{}", ran.stderr);
    container.start();
    let ran = install(&host, &format!("{new} --ct 950 --mode installer")).expect(4);
    assert!(ran.stderr.contains("install the package kmod in the container"), "{}", ran.stderr);
    for program in ["modprobe", "rmmod", "lsmod", "depmod"] {
        fs::write(container.at(&format!("/usr/sbin/{program}")), "").unwrap();
    }
    let before = tree(&container.at("/"));
    install(&host, &format!("{new} --ct 950 --mode installer --dry-run")).expect(0);
    assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());

    let args = || fs::read_to_string(container.at("/root/args")).unwrap();
    let ran = install(&host, &format!("{old} --ct 950 --mode installer --force")).expect(0);
    assert_eq!(ran.records[0]["status"], "changed");
    let expected = "--silent --no-kernel-module --no-kernel-module-source --no-nouveau-check \
        --no-x-check --no-systemd --no-nvidia-modprobe --no-backup \
        --no-check-for-alternate-installs --no-install-compat32-libs --no-distro-scripts";
    assert_eq!(args().split_whitespace().collect::<Vec<_>>().join(" "), expected);

    fs::write(container.at("/root/fail"), "").unwrap();
    let ran = install(&host, &format!("{new} --ct 950 --mode installer")).expect(3);
    assert!(ran.stderr.contains("the installer failed: Unable to find the thing."), "{ran:?}");
    assert_eq!(ran.records[0]["status"], "failed");
    fs::remove_file(container.at("/root/fail")).unwrap();

    let ran = install(&host, &format!("{new} --ct 950 --mode installer")).expect(0);
    assert_eq!(ran.records[0]["from"], "470.256.02");
    let expected = expected
        .replace("--no-kernel-module ", "--no-kernel-modules ")
        .replace("--no-install-compat32-libs", "--no-rebuild-initramfs --no-install-compat32-libs");
    assert_eq!(args().split_whitespace().collect::<Vec<_>>().join(" "), expected);
    let ran = install(&host, &format!("{new} --ct 950 --mode installer")).expect(0);
    assert_eq!(ran.records[0]["status"], "unchanged");
    assert!(!container.at(&format!("/root/nv-runfile-{VERSION}.run")).exists());

    // what is right already needs no other way, and two ways do not mix
    let ran = install(&host, &format!("{new} --ct 950")).expect(0);
    assert_eq!(ran.records[0]["status"], "unchanged");
    let ran = install(&host, &format!("{old} --ct 950 --force")).expect(4);
    let hint = "hint: pct exec 950 -- nvidia-uninstall --silent\n";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
}

#[test]
fn an_installer_that_cannot_leave_its_modules_out_is_not_run() {
    let host = Host::new(HOST);
    let bed = Bed::empty();
    let options = ["--silent", "-a", "-b", "-c", "-d", "-e", "-f", "-g", "-h", "-i"];
    let file = on(&host, &stand_in(&bed, VERSION, Some(&options)));
    let container = host.create_debian(950, true);
    container.start();
    let ran = install(&host, &format!("{file} --ct 950 --mode installer")).expect(4);
    assert!(ran.stderr.contains("no option to leave out the kernel modules"), "{}", ran.stderr);
    assert!(!container.at("/root/args").exists());
}

#[test]
fn a_shared_driver_is_found_by_lxc_gpu_conf_and_works_inside() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    let file = installer().display().to_string();
    let ran = install(&host, &format!("{file} --share /run/driver --check")).expect(1);
    assert_eq!(ran.records[0]["status"], "drift");
    assert!(!host.at("/run/driver").exists());
    let ran = install(&host, &format!("{file} --share /run/driver")).expect(0);
    assert_eq!(
        (&ran.records[0]["status"], &ran.records[0]["to"]),
        (&"changed".into(), &VERSION.into())
    );
    let ran = install(&host, &format!("{file} --share /run/driver")).expect(0);
    assert_eq!(ran.records[0]["status"], "unchanged");
    install(&host, &format!("{file} --share /run/driver --set utility")).expect(4);

    let gpu = host.tool("lxc-gpu-conf").args("add 950 --gpu all --share-driver /run/driver").run();
    gpu.expect(0);
    let conf = container.conf();
    for name in ["libcuda.so", "libnvidia-ml.so", "libnvidia-cfg.so", "nvidia-smi"] {
        assert!(conf.contains(name), "{name}:\n{conf}");
    }
    container.start();
    container.exec(&["/sbin/ldconfig"]).expect(0);
    let cache = container.exec(&["/sbin/ldconfig", "-p"]).expect(0).stdout;
    assert!(cache.contains("libcuda.so.1 ") && cache.contains("libnvidia-ml.so.1 "), "{cache}");
    let smi = container.exec(&["nvidia-smi"]);
    assert_ne!(smi.code(), 127, "{smi:?}");
    assert!(smi.stdout.contains("NVIDIA-SMI") || smi.stdout.contains("NVML"), "{smi:?}");
    // two ways do not mix
    let ran = install(&host, &format!("{file} --ct 950")).expect(4);
    assert!(ran.stderr.contains("lxc-gpu-conf remove 950 --libs"), "{}", ran.stderr);

    // changed meanwhile: it is not taken for the same
    host.run("echo >>/run/driver/usr/bin/nvidia-smi").expect(0);
    let ran = install(&host, &format!("{file} --share /run/driver")).expect(4);
    assert!(ran.stderr.contains("already exists and has other files"), "{}", ran.stderr);
}
