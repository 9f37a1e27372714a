//! `nv-runfile install --host` on a recorded Proxmox VE host, with stand-ins
//! for NVIDIA's installer, apt-get and dkms.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lxcbed::Host;
use serde_json::Value;
use testbed::runfile::{NvidiaRun, Pack, driver_tree};
use testbed::{Bed, Ran};

/// Of a branch that no kernel of a test machine is too new for.
const VERSION: &str = "580.126.20";

const STAND_IN: &str = r#"#!/bin/sh
trap 'rm -rf "$PWD"' EXIT
echo "$@" >/run/args
if [ -e /run/fail ]; then
	printf 'ERROR: Unable to load the kernel module.\nERROR: Installation has failed.\n' >/var/log/nvidia-installer.log
	exit 1
fi
lib=/usr/lib/x86_64-linux-gnu
[ -e /run/read-only ] || for name in *.so.@V@; do
	cp $name $lib/ && ln -sf $name $lib/${name%.@V@}.1
done
[ ! -e /run/read-only ] || cat /run/read-only >/var/log/nvidia-installer.log
# as nvidia-installer's backup.c writes it
mkdir -p /var/lib/nvidia && echo '1.0-58012620 (@V@)' >/var/lib/nvidia/log
"#;

struct Machine {
    host: Host,
    file: String,
}

/// The recorded host made ready: headers, compiler, no other packaging.
fn ready(options: Option<&[&str]>) -> Machine {
    let mut bed = Bed::new("pve9-two-gpus");
    let release = release(&bed);
    for file in ["Makefile", "include/linux/kernel.h", "include/linux/version.h"] {
        bed.write(&format!("/usr/src/proxmox-headers-{release}/{file}"), "");
    }
    bed.write("/usr/include/stdlib.h", "");
    for program in ["cc", "make", "dkms"] {
        program_at(&bed, &format!("/usr/bin/{program}"), "exit 0\n");
    }
    without_packages(&mut bed);
    let dir = Bed::empty();
    let tree = dir.at("tree");
    driver_tree(&tree, VERSION);
    fs::write(tree.join("nvidia-installer"), STAND_IN.replace("@V@", VERSION)).unwrap();
    fs::set_permissions(tree.join("nvidia-installer"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = NvidiaRun::new(VERSION, Pack::Gzip);
    run.options = options.unwrap_or_default().iter().map(|option| option.to_string()).collect();
    let bytes = fs::read(run.write(&tree, dir.path())).unwrap();
    let host = Host::of(bed);
    let file = format!("/run/{}", run.file_name());
    host.write(&file, bytes);
    // as where kernel and headers are the recorded ones
    Machine { host, file }
}

fn release(bed: &Bed) -> String {
    let recorded = fs::read_to_string(bed.at("/proc/sys/kernel/osrelease"));
    recorded.map_or_else(|_| uname(), |text| text.trim().to_string())
}

fn uname() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_string()
}

fn program_at(bed: &Bed, path: &str, text: &str) {
    bed.write(path, format!("#!/bin/sh\n{text}"));
    fs::set_permissions(bed.at(path), fs::Permissions::from_mode(0o755)).unwrap();
}

fn without_packages(bed: &mut Bed) {
    let status = bed.read("/var/lib/dpkg/status");
    let kept: Vec<&str> =
        status.split("\n\n").filter(|stanza| !stanza.contains("Package: nvidia-")).collect();
    bed.write("/var/lib/dpkg/status", kept.join("\n\n"));
    let _ = fs::remove_dir_all(bed.at("/var/lib/dkms"));
}

impl Machine {
    fn install(&self, words: &str) -> Ran {
        // the stand-in unpacks where it is called
        let ran =
            self.host.run(&format!("cd /run && nv-runfile install {} --host {words}", self.file));
        for line in ran.stdout.lines() {
            testbed::schema::check_line(line);
        }
        ran
    }

    fn args(&self) -> Option<String> {
        let text = fs::read_to_string(self.host.at("/run/args")).ok();
        text.map(|text| text.trim().to_string())
    }
}

fn records(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn record<'a>(records: &'a [Value], property: &str) -> &'a Value {
    let found = records.iter().find(|record| record["property"] == property);
    found.unwrap_or_else(|| panic!("no {property}: {records:#?}"))
}

#[test]
fn a_ready_host_gets_it_and_is_told_to_reboot() {
    let machine = ready(None);
    let ran = machine.install("--dry-run").expect(0);
    assert_eq!(record(&records(&ran), "driver")["status"], "planned");
    assert_eq!(machine.args(), None);
    machine.install("--check").expect(1);
    assert_eq!(machine.args(), None);
    let ran = machine.install("").expect(0);
    assert_eq!(
        machine.args().unwrap(),
        "--silent --dkms --no-disable-nouveau --allow-installation-with-running-driver \
         --skip-module-load"
    );
    let all = records(&ran);
    assert_eq!(record(&all, "driver")["status"], "changed");
    assert_eq!(record(&all, "installed")["status"], "ok");
    assert_eq!(record(&all, "loaded_module")["actual"], "550.163.01");
    let reboot = record(&all, "reboot_required");
    assert_eq!(
        (&reboot["actual"], &reboot["cause"]),
        (&"550.163.01".into(), &"reboot-required".into())
    );
    // as after the boot
    let line = format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Tue Apr  8\n");
    fs::write(machine.host.bed().at("/proc/driver/nvidia/version"), line).unwrap();
    let loaded = machine.host.bed().at("/sys/module/nvidia/version");
    if loaded.exists() {
        fs::write(loaded, format!("{VERSION}\n")).unwrap();
    }
    fs::remove_file(machine.host.at("/run/args")).unwrap();
    let ran = machine.install("").expect(0);
    assert_eq!(record(&records(&ran), "driver")["status"], "unchanged");
    assert_eq!(machine.args(), None);
}

#[test]
fn the_choice_about_dkms_is_passed_on() {
    let machine = ready(None);
    machine.install("--no-dkms").expect(0);
    assert!(machine.args().unwrap().starts_with("--silent --no-dkms "));
    for (words, what) in [
        ("--share /run/x --purge", "--purge needs --host or --ct"),
        ("--ct 901 --kernel 6.14.11-4-pve", "--kernel needs --host"),
        ("--share /run/x --no-dkms", "--no-dkms needs --host"),
        ("--host --mode installer", "--mode installer needs --ct"),
    ] {
        let ran = machine.host.run(&format!("nv-runfile install {} {words}", machine.file));
        assert!(ran.expect(2).stderr.contains(what), "{words}");
    }
}

#[test]
fn the_cause_is_taken_from_the_log() {
    let machine = ready(None);
    machine.host.write("/run/fail", "");
    let ran = machine.install("").expect(3);
    let all = records(&ran);
    assert_eq!(record(&all, "driver")["status"], "failed");
    assert!(ran.stderr.contains("the installer failed: Unable to load the kernel module."));
}

#[test]
fn what_stands_in_the_way_is_a_refusal() {
    let machine = ready(None);
    let release = release(machine.host.bed());
    machine.host.run(&format!("rm -rf /usr/src/proxmox-headers-{release} /lib/modules/{release}"));
    machine.host.run("mkdir -p /sys/module/nouveau").expect(0);
    let ran = machine.install("").expect(4);
    let all = records(&ran);
    assert_eq!(record(&all, "headers")["cause"], "no-headers");
    assert_eq!(record(&all, "nouveau")["actual"], "loaded");
    assert_eq!(record(&all, "driver")["status"], "refused");
    assert_eq!(machine.args(), None);
    machine.install("--force").expect(0);
    assert!(machine.args().is_some());
}

#[test]
fn other_packagings_are_removed_where_that_is_asked_for() {
    let machine = ready(None);
    let status = machine.host.read("/var/lib/dpkg/status");
    let package = "\nPackage: nvidia-driver\nStatus: install ok installed\nVersion: 550\n";
    machine.host.write("/var/lib/dpkg/status", status + package);
    machine.host.write("/var/lib/dkms/nvidia-current/550.100/source", "");
    for program in ["/usr/bin/apt-get", "/usr/sbin/dkms"] {
        machine.host.run(&format!("rm -f {program}"));
        machine.host.script(program, "echo \"$(basename $0) $*\" >>/run/purged\n");
    }
    let ran = machine.install("").expect(4);
    let all = records(&ran);
    assert_eq!(record(&all, "other_packaging")["actual"], "nvidia-driver nvidia-current/550.100");
    assert!(!machine.host.at("/run/purged").exists());
    machine.install("--purge --dry-run").expect(0);
    assert!(!machine.host.at("/run/purged").exists());
    machine.install("--purge").expect(0);
    assert_eq!(
        machine.host.read("/run/purged"),
        "apt-get purge -y nvidia-driver\ndkms remove nvidia-current/550.100 --all\n"
    );
    assert!(machine.args().is_some());
}

/// With --silent nvidia-installer ends with 0 and records the version although it could
/// place nothing: "continue anyway" is its default (held against the real program).
#[test]
fn an_installer_that_placed_nothing_has_not_succeeded() {
    let machine = ready(None);
    let said = "ERROR: Unable to create '/usr/lib/x86_64-linux-gnu/libcuda.so.580.126.20' for \
        copying (Read-only file system)";
    machine.host.write("/run/read-only", format!("{said}\n"));
    let ran = machine.install("").expect(3);
    let all = records(&ran);
    assert_eq!(record(&all, "installed")["status"], "ok");
    let libraries = record(&all, "libraries");
    assert_eq!(libraries["cause"], "not-placed");
    let reason = libraries["reason"].as_str().unwrap();
    assert!(reason.contains("Unable to create '/usr/lib/x86_64-linux-gnu/libcuda"), "{reason}");
}
