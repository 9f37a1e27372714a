//! Each cause on a recorded host that was altered for it: what is found, and
//! which command is said to repair it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeSet;

use common::{Host, KERNEL, NEWER, V, advice, check, drifts};
use testbed::driver::{LIB, Packed, module_file};

/// One way to be wrong: name, options, host, what is wrong, subject, cause, hint.
struct Case {
    name: &'static str,
    args: &'static str,
    host: fn() -> Host,
    alter: fn(&Host),
    subject: &'static str,
    cause: &'static str,
    hint: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "packages were upgraded, the module was not loaded again",
        args: "",
        host: Host::debian,
        alter: |host| host.load("550.144.03", false),
        subject: "host",
        cause: "host-not-rebooted",
        hint: "reboot the host",
    },
    Case {
        name: "the same with an open module of a .run install",
        args: "",
        host: || Host::run_open("580.95.05"),
        alter: |host| host.load("580.65.06", true),
        subject: "host",
        cause: "host-not-rebooted",
        hint: "reboot the host",
    },
    Case {
        name: "a new kernel came and DKMS built for the old one only",
        args: "",
        host: || Host::run_open("580.105.08"),
        alter: |host| {
            host.root().kernel(NEWER, None);
        },
        subject: "kernel 6.17.13-2-pve",
        cause: "module-old-kernel-only",
        hint: "apt-get install proxmox-headers-6.17.13-2-pve; dkms install nvidia/580.105.08 -k 6.17.13-2-pve",
    },
    Case {
        name: "the new kernel has a module of the old version",
        args: "",
        host: Host::debian,
        alter: |host| {
            host.root()
                .kernel("6.14.11-6-pve", Some(("updates/dkms/nvidia-current.ko", "550.144.03")));
        },
        subject: "kernel 6.14.11-6-pve",
        cause: "module-old-kernel-only",
        hint: "dkms install nvidia-current/550.163.01 -k 6.14.11-6-pve",
    },
    Case {
        name: "a module was copied from the old kernel",
        args: "",
        host: Host::debian,
        alter: |host| {
            let root = host.root();
            root.kernel("6.14.11-6-pve", None);
            let module = module_file(V, "NVIDIA", KERNEL);
            root.module("6.14.11-6-pve", "updates/nvidia.ko", &module, Packed::No);
        },
        subject: "kernel 6.14.11-6-pve",
        cause: "module-old-kernel-only",
        hint: "dkms install",
    },
    Case {
        name: "550 does not build for 6.17",
        args: "",
        host: Host::debian,
        alter: |host| {
            host.root().kernel(NEWER, None);
        },
        subject: "kernel 6.17.13-2-pve",
        cause: "kernel-unsupported",
        hint: "proxmox-boot-tool kernel pin 6.14.11-4-pve",
    },
    Case {
        name: "no kernel has the module",
        args: "",
        host: Host::debian,
        alter: |host| {
            host.unload();
            std::fs::remove_dir_all(host.bed.at(&format!("/lib/modules/{KERNEL}/updates")))
                .unwrap();
        },
        subject: "kernel 6.14.11-4-pve",
        cause: "module-missing",
        hint: "dkms install nvidia-current/550.163.01 -k 6.14.11-4-pve",
    },
    Case {
        name: "nvidia-uvm was loaded after the upgrade",
        args: "",
        host: Host::debian,
        alter: |host| host.bed.write("/sys/module/nvidia_uvm/version", "550.163.02\n"),
        subject: "host",
        cause: "modules-differ",
        hint: "reboot",
    },
    Case {
        name: "nouveau took the cards",
        args: "",
        host: Host::debian,
        alter: |host| {
            host.unload();
            host.bed.write("/sys/module/nouveau/refcnt", "1\n");
        },
        subject: "host",
        cause: "nouveau-loaded",
        hint: "rebuild the initramfs, then reboot the host; update-initramfs -u -k all",
    },
    Case {
        name: "a container is given the GPU and nothing is loaded",
        args: "--ct 901",
        host: Host::debian,
        alter: |host| {
            host.unload();
            host.give(901);
            host.volume(901).debian(V).ldconfig();
        },
        subject: "host",
        cause: "module-not-loaded",
        hint: "modprobe nvidia; lxc-gpu-conf nodes",
    },
    Case {
        name: "DKMS lost the source",
        args: "",
        host: Host::debian,
        alter: |host| {
            std::fs::remove_dir_all(host.bed.at("/usr/src/nvidia-current-550.163.01")).unwrap();
        },
        subject: "host",
        cause: "dkms-broken",
        hint: "rm -r /var/lib/dkms/nvidia-current/550.163.01 /var/lib/dkms/nvidia-current/kernel-6.14.11-4-pve-x86_64 /lib/modules/6.14.11-4-pve/updates/dkms/nvidia-current.ko; apt-get install --reinstall nvidia-kernel-dkms",
    },
    Case {
        name: "the host's libraries stayed behind",
        args: "",
        host: || Host::run_open("580.95.05"),
        alter: |host| {
            let lib = host.root();
            for stem in ["libcuda.so", "libnvidia-ml.so"] {
                std::fs::remove_file(lib.at(&format!("{LIB}/{stem}.580.95.05"))).unwrap();
            }
            lib.run_install(LIB, "580.65.06").ldconfig();
        },
        subject: "host",
        cause: "host-behind",
        hint: "nv-runfile fetch 580.95.05; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-580.95.05.run --host --purge",
    },
    Case {
        name: "the host's libraries are ahead: half an upgrade",
        args: "",
        host: Host::debian,
        alter: |host| {
            host.root().debian("550.163.02").ldconfig();
        },
        subject: "host",
        cause: "host-ahead",
        hint: "apt-get install --only-upgrade libcuda1 libnvidia-ml1 nvidia-kernel-dkms",
    },
    Case {
        name: "a container of Debian packages is behind",
        args: "--all-cts",
        host: Host::debian,
        alter: |host| {
            host.give(901);
            let root = host.volume(901);
            let packages = ["libcuda1", "libnvidia-ml1"];
            root.debian("535.247.01").debian_status(&packages, "535.247.01-1~deb12u1", "installed");
            root.ldconfig();
        },
        subject: "ct 901",
        cause: "container-behind",
        hint: "pct start 901; pct exec 901 -- apt-get purge libcuda1 libnvidia-ml1; nv-runfile fetch 550.163.01; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-550.163.01.run --ct 901",
    },
    Case {
        name: "a running container of a .run install is behind by the last number",
        args: "--all-cts",
        host: || Host::run_open("570.124.06"),
        alter: |host| {
            host.give(901);
            host.running(901).run_install("/usr/lib64", "570.124.04");
        },
        subject: "ct 901",
        cause: "container-behind",
        hint: "pct exec 901 -- nvidia-uninstall --silent; nv-runfile fetch 570.124.06; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-570.124.06.run --ct 901",
    },
    Case {
        name: "unattended upgrades took a container ahead",
        args: "--all-cts",
        host: Host::debian,
        alter: |host| {
            host.give(901);
            let root = host.running(901);
            root.debian("580.142")
                .debian_status(&["libcuda1"], "580.142-1", "installed")
                .ldconfig();
        },
        subject: "ct 901",
        cause: "container-ahead",
        hint: "pct exec 901 -- apt-get purge libcuda1; nv-runfile fetch 550.163.01; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-550.163.01.run --ct 901",
    },
    Case {
        name: "a container was upgraded with the host, which was not rebooted",
        args: "--ct 901",
        host: Host::debian,
        alter: |host| {
            host.load("550.144.03", false);
            host.volume(901).debian(V).ldconfig();
        },
        subject: "ct 901",
        cause: "container-ahead",
        hint: "reboot the host, which then loads 550.163.01",
    },
    Case {
        name: "a .run install over Debian's packages",
        args: "--all-cts",
        host: Host::debian,
        alter: |host| {
            host.give(901);
            let root = host.volume(901);
            root.debian(V).run_install("/usr/lib64", "550.144.03").installed(&["libcuda1"]);
            root.file("/etc/ld.so.conf.d/000.conf", "/usr/lib64\n").ldconfig();
        },
        subject: "ct 901",
        cause: "two-userspaces",
        hint: "nvidia-uninstall for 550.144.03",
    },
    Case {
        name: "libcuda and NVML of different versions",
        args: "--ct 901",
        host: Host::debian,
        alter: |host| {
            let root = host.volume(901);
            root.run_install(LIB, V).ldconfig();
            // made by hand: ldconfig takes the highest version
            root.library(LIB, "libcuda.so", "550.54.15");
            root.link(&format!("{LIB}/libcuda.so.1"), "libcuda.so.550.54.15");
        },
        subject: "ct 901",
        cause: "two-userspaces",
        hint: "remove the files of the other version",
    },
    Case {
        name: "host and container match, but the pin is another version",
        args: "--ct 901 --pin 580.95.05",
        host: Host::debian,
        alter: |host| {
            host.volume(901).debian(V).ldconfig();
        },
        subject: "ct 901",
        cause: "pin-not-followed",
        hint: "install 580.95.05 on the host first, then in the container",
    },
    Case {
        name: "the host does not follow the pin",
        args: "--pin 580.95.05",
        host: Host::debian,
        alter: |_| {},
        subject: "host",
        cause: "pin-not-followed",
        hint: "nv-runfile fetch 580.95.05; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-580.95.05.run --host",
    },
    Case {
        name: "a toolkit of CUDA 13 in a container",
        args: "--ct 901 --cuda",
        host: Host::debian,
        alter: |host| {
            let root = host.volume(901);
            root.debian(V).ldconfig();
            root.file("/usr/local/cuda-13.0/version.json", r#"{"cuda":{"version":"13.0.2"}}"#);
            root.link("/usr/local/cuda", "/etc/alternatives/cuda");
        },
        subject: "ct 901",
        cause: "toolkit-too-new",
        hint: "nv-runfile fetch 580.95.05; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-580.95.05.run --host",
    },
    Case {
        name: "a container is given the GPU and has no libraries",
        args: "--all-cts",
        host: Host::debian,
        alter: |host| {
            host.give(901);
            host.volume(901);
        },
        subject: "ct 901",
        cause: "nothing-installed",
        hint: "nv-runfile fetch 550.163.01; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-550.163.01.run --ct 901",
    },
    Case {
        name: "libraries without links: ldconfig never ran",
        args: "--all-cts",
        host: Host::debian,
        alter: |host| {
            host.give(901);
            host.running(901).library(LIB, "libcuda.so", V).library(LIB, "libnvidia-ml.so", V);
        },
        subject: "ct 901",
        cause: "nothing-installed",
        hint: "pct exec 901 -- ldconfig",
    },
    Case {
        name: "the vGPU guest's package in a container of a vGPU host",
        args: "--all-cts",
        host: Host::debian,
        alter: |host| {
            host.bed.write("/sys/module/nvidia_vgpu_vfio/version", "550.163.01\n");
            host.give(901);
            host.volume(901)
                .run_install(LIB, "550.163.02")
                .file("/usr/bin/nvidia-gridd", "")
                .ldconfig();
        },
        subject: "ct 901",
        cause: "vgpu-guest-driver",
        hint: "vGPU host packages are in NVIDIA's licensing portal only",
    },
    Case {
        name: "an open module without its firmware",
        args: "",
        host: || Host::run_open("580.95.05"),
        alter: |host| {
            std::fs::remove_dir_all(host.bed.at("/lib/firmware/nvidia/580.95.05")).unwrap();
        },
        subject: "host",
        cause: "firmware-missing",
        hint: "nv-runfile fetch 580.95.05; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-580.95.05.run --host",
    },
    Case {
        name: "a CDI specification of the old version",
        args: "",
        host: Host::debian,
        alter: |host| {
            host.bed.write(
            "/etc/cdi/nvidia.yaml",
            "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  mounts:\n  - hostPath: \
             /usr/lib/x86_64-linux-gnu/libcuda.so.535.247.01\n    containerPath: /x\n",
        )
        },
        subject: "cdi /etc/cdi/nvidia.yaml",
        cause: "cdi-stale",
        hint: "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
    },
    Case {
        name: "a CDI specification in JSON of a file that is gone",
        args: "",
        host: Host::debian,
        alter: |host| {
            host.bed.write(
            "/run/cdi/nvidia.json",
            r#"{"kind":"nvidia.com/gpu","containerEdits":{"mounts":[{"hostPath":"/usr/lib64/libcuda.so.550.163.01"}]}}"#,
        )
        },
        subject: "cdi /run/cdi/nvidia.json",
        cause: "cdi-stale",
        hint: "nvidia-ctk cdi generate",
    },
    Case {
        name: "Docker in an unprivileged container",
        args: "--ct 901",
        host: Host::debian,
        alter: |host| {
            let root = host.volume(901);
            root.debian(V).ldconfig();
            root.file("/usr/bin/dockerd", "").file(
                "/etc/nvidia-container-runtime/config.toml",
                "[nvidia-container-cli]\n#no-cgroups = false\n",
            );
        },
        subject: "ct 901",
        cause: "no-cgroups-missing",
        hint: "pct exec 901 -- nvidia-ctk config --set nvidia-container-cli.no-cgroups=true",
    },
    Case {
        name: "a container with the driver on a host without",
        args: "--all-cts",
        host: Host::bare,
        alter: |host| {
            host.unload();
            host.give(901);
            host.volume(901).debian(V).ldconfig();
        },
        subject: "ct 901",
        cause: "no-host-driver",
        hint: "nv-runfile fetch 550.163.01; nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-550.163.01.run --host",
    },
    Case {
        name: "the build of the module failed, with the headers installed",
        args: "",
        host: || Host::run_open("580.105.08"),
        alter: |host| {
            // NVIDIA/open-gpu-kernel-modules#1143, and dkms 3.2.2's own heading
            host.root().kernel(NEWER, None);
            host.headers(&format!("linux-headers-{NEWER}"));
            host.bed.write(
                "/var/lib/dkms/nvidia/580.105.08/build/make.log",
                format!(
                    "DKMS (dkms-3.2.2) make.log for nvidia/580.105.08 for kernel {NEWER} (x86_64)\n\
                     nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'\n"
                ),
            );
        },
        subject: "kernel 6.17.13-2-pve",
        cause: "build-failed",
        hint: "proxmox-boot-tool kernel pin 6.14.11-4-pve",
    },
    Case {
        name: "libraries and loaded module match, and another version lies on disk",
        args: "",
        host: || Host::run_open("580.95.05"),
        alter: |host| {
            let root = host.root();
            let module = module_file("580.105.08", "Dual MIT/GPL", KERNEL);
            root.module(KERNEL, "updates/dkms/nvidia.ko", &module, Packed::Zstd);
        },
        subject: "kernel 6.14.11-4-pve",
        cause: "reboot-breaks",
        hint: "dkms install nvidia/580.95.05 -k 6.14.11-4-pve --force",
    },
    Case {
        name: "a .run installation beside Debian's packages: two main modules",
        args: "",
        host: Host::debian,
        alter: |host| {
            let root = host.root();
            let module = module_file("550.144.03", "NVIDIA", KERNEL);
            root.module(KERNEL, "kernel/drivers/video/nvidia.ko", &module, Packed::No);
        },
        subject: "kernel 6.14.11-4-pve",
        cause: "several-modules",
        hint: "two installations of the driver are mixed",
    },
    Case {
        name: "apt left the module's package half-configured",
        args: "",
        host: Host::debian,
        alter: |host| {
            // pop-os/pop#3811
            let status = host.bed.read("/var/lib/dpkg/status");
            let row = "\nPackage: nvidia-driver\nStatus: install ok half-configured\n";
            host.bed.write("/var/lib/dpkg/status", format!("{status}{row}"));
        },
        subject: "host",
        cause: "packages-incomplete",
        hint: "dpkg --configure --pending; apt-get install --fix-broken",
    },
    Case {
        name: "a GPU that the branch no longer drives",
        args: "",
        host: || Host::run_open("590.48.01"),
        alter: |host| host.gpu("0000:2b:00.0", 0x1b80, Some("nvidia")),
        subject: "gpu 0000:2b:00.0",
        cause: "gpu-unsupported",
        hint: "nv-runfile fetch 580.173.02",
    },
    Case {
        name: "Blackwell with proprietary modules",
        args: "",
        host: Host::debian,
        alter: |host| host.gpu("0000:2b:00.0", 0x2b85, Some("nvidia")),
        subject: "gpu 0000:2b:00.0",
        cause: "module-type",
        hint: "apt-get install nvidia-open-kernel-dkms",
    },
    Case {
        name: "nova_core has a GPU",
        args: "",
        host: Host::debian,
        alter: |host| host.gpu("0000:2b:00.0", 0x2204, Some("NovaCore")),
        subject: "gpu 0000:2b:00.0",
        cause: "gpu-held",
        hint: "update-initramfs -u -k all",
    },
    Case {
        name: "an unsigned module under Secure Boot",
        args: "--ct 901",
        host: Host::debian,
        alter: |host| {
            host.unload();
            host.give(901);
            host.volume(901).debian(V).ldconfig();
            let path = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
            host.root().file(path, [6, 0, 0, 0, 1]).file("/var/lib/dkms/mok.pub", "certificate");
        },
        subject: "kernel 6.14.11-4-pve",
        cause: "module-unsigned",
        hint: "dkms install nvidia-current/550.163.01 -k 6.14.11-4-pve --force; mokutil --import /var/lib/dkms/mok.pub",
    },
    Case {
        name: "an old encoder library",
        args: "--ct 901",
        host: Host::debian,
        alter: |host| {
            let root = host.volume(901);
            root.run_install(LIB, V).library(LIB, "libnvidia-encode.so", "535.247.01").ldconfig();
        },
        subject: "ct 901",
        cause: "library-mixed",
        hint: "remove the files of the other version",
    },
    Case {
        name: "a libcuda for forward compatibility that is older than the driver",
        args: "--ct 901",
        host: Host::debian,
        alter: |host| {
            let root = host.volume(901);
            root.debian(V).library("/usr/local/cuda-12.2/compat", "libcuda.so", "535.104.05");
            root.file("/etc/ld.so.conf.d/000_cuda.conf", "/usr/local/cuda-12.2/compat\n")
                .ldconfig();
        },
        subject: "ct 901",
        cause: "compat-unusable",
        hint: "cuda-compat",
    },
    Case {
        name: "a GPU fell off the bus",
        args: "--xid",
        host: Host::debian,
        alter: |host| {
            host.bed.write(
            "/var/log/kern.log",
            "kernel: Linux version 6.14.11-4-pve\nkernel: NVRM: Xid (PCI:0000:2b:00): 48, old boot\n\
             kernel: Linux version 6.14.11-4-pve\nkernel: NVRM: Xid (PCI:0000:2b:00): 79, pid=1, GPU has fallen off the bus.\n",
        )
        },
        subject: "0000:2b:00",
        cause: "xid",
        hint: "reseat the GPU",
    },
];

#[test]
fn a_host_that_is_right_says_so() {
    for (host, version) in [(Host::debian(), V), (Host::run_open("580.105.08"), "580.105.08")] {
        host.give(901);
        match version == V {
            true => host.volume(901).debian(V).ldconfig().clone(),
            false => host.running(901).run_install("/usr/lib64", version).clone(),
        };
        let ran = host.run("--all-cts --cuda --next-boot").expect(0);
        assert_eq!(ran.stderr, "");
        for (subject, property) in [
            ("host", "module"),
            ("host", "userspace"),
            ("host", "firmware"),
            ("ct 901", "userspace"),
        ] {
            let check = check(&ran, subject, property);
            assert_eq!((&check["status"], &check["actual"]), (&"ok".into(), &version.into()));
        }
        assert_eq!(check(&ran, "kernel 6.14.11-4-pve", "module")["actual"], version);
        assert!(ran.records.iter().all(|r| r["status"] == "ok"), "{}", ran.stdout);
        assert_eq!(host.run("--all-cts --problems").expect(0).stdout, "");
    }
}

#[test]
fn every_cause_is_found_with_the_command_that_repairs_it() {
    let failures: Vec<String> = CASES.iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What is wrong with the answer to a case.
fn failure(case: &Case) -> Option<String> {
    let host = (case.host)();
    (case.alter)(&host);
    let ran = host.run(case.args);
    let drifts = drifts(&ran);
    let expected = (case.subject.to_string(), case.cause.to_string());
    if ran.code() != 1 || !drifts.contains(&expected) {
        return Some(format!("{}: {drifts:?}\n{}{}", case.name, ran.stdout, ran.stderr));
    }
    let hints: Vec<String> = ran
        .of_type("check")
        .filter(|r| r["subject"] == case.subject && r["cause"] == case.cause)
        .map(advice)
        .collect();
    if !hints.iter().any(|h| h.contains(case.hint)) {
        return Some(format!("{}: {hints:?}", case.name));
    }
    // nothing else is blamed, but for what the same fault shows elsewhere too
    let others: BTreeSet<&String> =
        drifts.iter().map(|(_, c)| c).filter(|c| *c != case.cause).collect();
    let allowed: &[&str] = match case.cause {
        "container-ahead" if case.hint.starts_with("reboot") => &["host-not-rebooted"],
        _ => &[],
    };
    let blamed = others.iter().any(|c| !allowed.contains(&c.as_str()));
    blamed.then(|| format!("{}: {drifts:?}", case.name))
}

#[test]
fn the_table_covers_every_cause_that_is_drift() {
    let shown: BTreeSet<&str> = CASES.iter().map(|case| case.cause).collect();
    let quiet = [
        "stale-leftovers",
        "toolkit-newer",
        "forward-compat",
        "not-in-table",
        "unreadable",
        "unversioned",
    ];
    for (name, _) in nv_version_check::CAUSES {
        assert!(shown.contains(name) != quiet.contains(name), "{name}");
    }
}
