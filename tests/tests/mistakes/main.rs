//! The mistakes that people make most: what each tool says to them must tell
//! what is wrong and what to do next, and nothing may be changed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;

use testbed::bed::{Tool, program};
use testbed::runfile::{NvidiaRun, Pack, driver_tree};
use testbed::{Bed, Ran};

use rows::Mistake;

mod rows;

/// Words of our own source, of Rust or of a library: nothing for an
/// administrator.
const INTERNAL: [&str; 9] = [
    "os error",
    "Error(",
    "panicked",
    "unwrap",
    "struct ",
    "expected value",
    "invalid digit found",
    "Some(",
    "anyhow",
];

fn all(tool: &str, machine: Option<&str>, mistakes: &[Mistake]) {
    let bed = machine.map_or_else(Bed::empty, Bed::new);
    prepare(&bed);
    // a lock is taken before the machine is looked at, and its file stays
    let contents = || {
        let mut contents = bed.contents();
        contents.retain(|path, _| !path.to_string_lossy().contains("run/pve-gpu-tools"));
        contents
    };
    let before = contents();
    for (args, input, code, essentials) in mistakes {
        let place = format!("{tool} {args}");
        let typed = args.replace("BED", &bed.path().display().to_string());
        let ran = bed.tool(tool).args(&typed).input(input.unwrap_or_default()).run();
        assert_eq!(ran.code(), *code, "{place}: {}", ran.stderr);
        // the last message, with the lines of its hints
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let label = format!("{tool}: ");
        let at = lines.iter().rposition(|line| line.starts_with(&label));
        let at = at.unwrap_or_else(|| panic!("{place}: {}", ran.stderr));
        assert!(lines[at + 1..].iter().all(|l| l.starts_with("  hint: ")), "{place}: {lines:?}");
        assert!(lines.iter().all(|line| line.len() <= 360), "{place}: long: {lines:?}");
        let line = lines[at..].join("\n");
        for essential in *essentials {
            assert!(
                line.contains(&essential.replace("BED", &bed.path().display().to_string())),
                "{place}: '{essential}' is not in: {line}"
            );
        }
        for word in INTERNAL {
            assert!(!line.contains(word), "{place}: {line}");
        }
        // what reads the pipe learns of it
        if *code == 2 {
            assert_eq!(ran.values("error", "exit"), [2], "{place}: {}", ran.stdout);
        }
    }
    assert!(contents() == before, "{tool}: something was changed");
}

/// Files that are not what they should be.
fn prepare(bed: &Bed) {
    bed.write("/files/other.run", "<html>404 Not Found</html>\n");
    bed.write("/files/empty.run", "");
    fs::create_dir_all(bed.at("/files/dir.run")).unwrap();
    driver_tree(&bed.at("/files/tree"), "550.163.01");
    NvidiaRun::new("550.163.01", Pack::Gzip).write(&bed.at("/files/tree"), &bed.at("/files"));
    fs::remove_dir_all(bed.at("/files/tree")).unwrap();
}

#[test]
fn sixty_mistakes_are_answered() {
    let all = [rows::LISTER, rows::BIND, rows::CONTAINERS, rows::RUNFILE, rows::CHECK, rows::VGPU];
    assert!(all.iter().all(|rows| rows.len() >= 10), "ten for each tool");
}

#[test]
fn of_gpu_iommu_groups() {
    all("gpu-iommu-groups", Some("pve9-two-gpus"), rows::LISTER);
    all(
        "gpu-iommu-groups",
        Some("iommu-off"),
        &[("--check", None, 1, &["the IOMMU is off", "firmware"])],
    );
    all(
        "gpu-iommu-groups",
        None,
        &[("", None, 3, &["/sys/bus/pci/devices", "this host has no PCI bus"])],
    );
}

#[test]
fn of_gpu_vfio_bind() {
    all("gpu-vfio-bind", Some("pve9-two-gpus"), rows::BIND);
    all(
        "gpu-vfio-bind",
        Some("iommu-off"),
        &[("bind 01:00.0", None, 4, &["the IOMMU is off", "firmware"])],
    );
}

#[test]
fn of_lxc_gpu_conf() {
    all("lxc-gpu-conf", Some("pve9-two-gpus"), rows::CONTAINERS);
    let no_pve: &[Mistake] =
        &[("add 901 --gpu all", None, 3, &["not Proxmox VE's cluster file system", "pve-cluster"])];
    all("lxc-gpu-conf", None, no_pve);
}

#[test]
fn of_nv_runfile() {
    all("nv-runfile", Some("pve9-two-gpus"), rows::RUNFILE);
}

#[test]
fn of_nv_version_check() {
    all("nv-version-check", Some("pve9-two-gpus"), rows::CHECK);
    let nothing: &[Mistake] = &[("", None, 0, &["no NVIDIA driver", "nv-runfile install --host"])];
    all("nv-version-check", Some("nouveau-bound"), nothing);
}

#[test]
fn of_vgpu_profile_set() {
    all("vgpu-profile-set", Some("pve9-l40s-vgpu"), rows::VGPU);
    all("vgpu-profile-set", None, &[("list", None, 0, &["no NVIDIA GPU on this host"])]);
}

#[test]
fn who_is_not_root_is_told() {
    let bed = Bed::new("pve9-two-gpus");
    let as_nobody = |tool: &str, args: &str| -> Ran {
        // a place that everybody may enter
        let copy = bed.at(&format!("/bin-{tool}"));
        fs::copy(program(tool), &copy).unwrap();
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let nobody: Vec<&std::ffi::OsStr> = nobody.iter().map(AsRef::as_ref).collect();
        Tool::through(&nobody, copy).arg("--root").arg(bed.path()).args(args).run()
    };
    for (tool, args) in [
        ("lxc-gpu-conf", "add 901 --gpu all"),
        ("gpu-vfio-bind", "bind 2c:00.0"),
        ("nv-runfile", "fetch 550.163.01 --offline"),
    ] {
        let ran = as_nobody(tool, args);
        assert_eq!(ran.code(), 3, "{tool}: {}", ran.stderr);
        let told = ran.stderr.contains("root is required") || ran.stderr.contains("run as root");
        assert!(told, "{tool}: {}", ran.stderr);
    }
}
