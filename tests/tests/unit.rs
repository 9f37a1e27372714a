//! The units of the package, as systemd itself reads them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;
use std::process::Command;

use testbed::Bed;
use testbed::bed::program;

const UNIT: &str = "pve-gpu-nodes.service";
const CHECKS: [&str; 2] = ["nv-version-check.service", "nv-version-check.timer"];

/// The unit below a prefix of its own, as `make install` puts it there, beside
/// stand-ins for Proxmox VE's.
fn installed() -> Bed {
    let bed = Bed::empty();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/lxc-gpu-conf/package");
    let text = fs::read_to_string(package.join(UNIT)).unwrap();
    let prefix = bed.path().display().to_string();
    bed.write(&format!("/units/{UNIT}"), text.replace("/usr/bin/", &format!("{prefix}/bin/")));
    for name in CHECKS {
        let package =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/nv-version-check/package");
        let text = fs::read_to_string(package.join(name)).unwrap();
        bed.write(&format!("/units/{name}"), text.replace("/usr/bin/", &format!("{prefix}/bin/")));
    }
    for tool in ["lxc-gpu-conf", "nv-version-check"] {
        bed.link(&format!("/bin/{tool}"), program(tool).to_str().unwrap());
    }
    for name in ["pve-guests", "pve-ha-lrm", "pve-cluster"] {
        stand_in(&bed, name, "");
    }
    bed
}

fn stand_in(bed: &Bed, name: &str, more: &str) {
    let text = format!(
        "[Unit]\nDescription={name}\n{more}\n[Service]\nType=oneshot\nExecStart=/bin/true\n"
    );
    bed.write(&format!("/units/{name}.service"), text);
}

/// What systemd says of starting these; nothing where all is well.
fn verify(bed: &Bed, units: &[&str]) -> String {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(units)
        // before the system's own directories
        .env("SYSTEMD_UNIT_PATH", format!("{}/units:", bed.path().display()))
        .output()
        .expect("systemd-analyze (package systemd)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // a cycle that it could break is no failure of its
    assert!(output.status.success() || !said.is_empty());
    said
}

#[test]
fn systemd_has_nothing_to_say() {
    assert_eq!(verify(&installed(), &[UNIT, "pve-guests.service"]), "");
    assert_eq!(verify(&installed(), &CHECKS), "");
}

#[test]
fn it_comes_before_guests_and_after_the_cluster_file_system() {
    // with the opposite order systemd finds a cycle, and without ours it would not
    for (name, opposite) in [
        ("pve-guests", format!("Wants={UNIT}\nBefore={UNIT}")),
        ("pve-ha-lrm", format!("Wants={UNIT}\nBefore={UNIT}")),
        ("pve-cluster", format!("Wants={UNIT}\nAfter={UNIT}")),
    ] {
        let bed = installed();
        stand_in(&bed, name, &format!("Wants={UNIT}"));
        assert_eq!(verify(&bed, &[&format!("{name}.service")]), "", "{name}");
        stand_in(&bed, name, &opposite);
        let said = verify(&bed, &[&format!("{name}.service")]);
        assert!(said.contains("ordering cycle"), "{name}: {said}");
    }
}

#[test]
fn enabling_it_makes_the_boot_want_it() {
    let bed = installed();
    let text = bed.read(&format!("/units/{UNIT}"));
    bed.write(&format!("/root/usr/lib/systemd/system/{UNIT}"), text);
    let root = bed.at("/root");
    let output = Command::new("systemctl")
        .arg(format!("--root={}", root.display()))
        .args(["enable", UNIT])
        .output()
        .expect("systemctl (package systemd)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let link = root.join("etc/systemd/system/multi-user.target.wants").join(UNIT);
    assert!(fs::symlink_metadata(link).is_ok());
}
