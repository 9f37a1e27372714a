//! Real dkms, of Debian 12 (3.0.10) and of Debian 13 (3.2): states that it leaves,
//! what is found, and that the commands of the finding, run by the same dkms, end
//! the finding. The module that it builds is a small one of ours.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{Host, KERNEL, V, drifts, text};
use testbed::driver::module_file;

const NAME: &str = "nvidia-current";
/// Another kernel of the same series.
const NEXT: &str = "6.14.11-6-pve";

struct Dkms {
    program: PathBuf,
    host: Host,
}

impl Dkms {
    /// Debian's packages of the driver, whose module dkms has installed.
    fn new(release: &str) -> Dkms {
        let dkms = Dkms { program: testbed::debian::dkms(release), host: Host::debian() };
        for dir in ["/var/lib/dkms", "/usr/src", "/lib/modules"] {
            let _ = fs::remove_dir_all(dkms.host.bed.at(dir));
            fs::create_dir_all(dkms.host.bed.at(dir)).unwrap();
        }
        dkms.source("cp $(KERNELRELEASE).ko nvidia-current.ko");
        dkms.headers(KERNEL);
        dkms.run(&["install", &format!("{NAME}/{V}"), "-k", KERNEL]);
        dkms.depmod();
        assert_eq!(drifts(&dkms.host.run("")), [], "{release}");
        dkms
    }

    fn source(&self, build: &str) {
        let top = format!("/usr/src/{NAME}-{V}");
        let root = self.host.root();
        root.file(
            &format!("{top}/dkms.conf"),
            format!(
                "PACKAGE_NAME=\"{NAME}\"\nPACKAGE_VERSION=\"{V}\"\nCLEAN=\"true\"\n\
                 MAKE[0]=\"make module KERNELRELEASE=${{kernelver}}\"\n\
                 BUILT_MODULE_NAME[0]=\"nvidia-current\"\nSTRIP[0]=\"no\"\n\
                 DEST_MODULE_LOCATION[0]=\"/updates/dkms\"\nAUTOINSTALL=\"yes\"\n"
            ),
        );
        root.file(&format!("{top}/Makefile"), format!("module:\n\t{build}\n"));
        for kernel in [KERNEL, NEXT] {
            root.file(&format!("{top}/{kernel}.ko"), module_file(V, "NVIDIA", kernel));
        }
    }

    fn headers(&self, kernel: &str) {
        let build = format!("/lib/modules/{kernel}/build");
        let root = self.host.root();
        root.file(&format!("{build}/include/linux/kernel.h"), "");
        root.file(&format!("{build}/include/linux/version.h"), "");
        root.file(&format!("{build}/Makefile"), "").file(&format!("{build}/.config"), "");
        root.file(&format!("/lib/modules/{kernel}/kernel/.keep"), "");
    }

    /// The link to the source is absolute: below the tree for dkms, from the tree's
    /// root for the check.
    fn link(&self, for_dkms: bool) {
        let link = self.host.bed.at(&format!("/var/lib/dkms/{NAME}/{V}/source"));
        if link.is_symlink() {
            fs::remove_file(&link).unwrap();
            let source = format!("/usr/src/{NAME}-{V}");
            let to = if for_dkms { self.host.bed.at(&source) } else { source.into() };
            std::os::unix::fs::symlink(to, link).unwrap();
        }
    }

    /// Runs it on the tree; whether it succeeded, and what it said.
    fn run(&self, words: &[&str]) -> (bool, String) {
        self.link(true);
        let mut command = Command::new("bash");
        command.arg(&self.program).args(words).arg("--no-depmod");
        for (option, dir) in [
            ("--dkmstree", "/var/lib/dkms"),
            ("--sourcetree", "/usr/src"),
            ("--installtree", "/lib/modules"),
        ] {
            command.arg(option).arg(self.host.bed.at(dir));
        }
        if let Some(at) = words.iter().position(|word| *word == "-k") {
            let build = format!("/lib/modules/{}/build", words[at + 1]);
            command.arg("--kernelsourcedir").arg(self.host.bed.at(&build));
        }
        let ran = command.output().unwrap();
        self.link(false);
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What depmod would list.
    fn depmod(&self) {
        for kernel in [KERNEL, NEXT] {
            let top = format!("/lib/modules/{kernel}");
            let module = self.host.bed.at(&format!("{top}/updates/dkms/nvidia-current.ko"));
            if self.host.bed.at(&top).exists() {
                let line = if module.exists() { "updates/dkms/nvidia-current.ko:\n" } else { "" };
                self.host.root().file(&format!("{top}/modules.dep"), line);
            }
        }
    }

    /// Runs the commands of the finding of a cause, and returns them.
    fn repair(&self, cause: &str) -> String {
        let ran = self.host.run("");
        let record = ran.of_type("check").find(|record| record["cause"] == cause);
        let record = record.unwrap_or_else(|| panic!("no {cause}:\n{}", ran.stdout)).clone();
        let mut lines = Vec::new();
        for command in record["commands"].as_array().unwrap() {
            let words: Vec<String> = command.as_array().unwrap().iter().map(text).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            lines.push(words.join(" "));
            match words[..] {
                ["dkms", ref rest @ ..] => {
                    let (success, said) = self.run(rest);
                    assert!(success && !said.contains("skip."), "{words:?}: {said}");
                }
                ["rm", "-r", ref paths @ ..] => {
                    for path in paths {
                        let at = self.host.bed.at(path);
                        let is_dir = at.is_dir() && !at.is_symlink();
                        if is_dir {
                            fs::remove_dir_all(at).unwrap()
                        } else {
                            fs::remove_file(at).unwrap()
                        }
                    }
                }
                ["apt-get", "install", "--reinstall", ..] => {
                    // the package's files, and its postinst as dkms's common.postinst
                    self.source("cp $(KERNELRELEASE).ko nvidia-current.ko");
                    let (success, said) =
                        self.run(&["install", &format!("{NAME}/{V}"), "-k", KERNEL]);
                    assert!(success, "{said}");
                }
                ["apt-get", "install", headers] => {
                    self.headers(headers.strip_prefix("proxmox-headers-").unwrap());
                }
                ["proxmox-boot-tool", "kernel", "pin", kernel] => {
                    self.host.root().file("/etc/kernel/proxmox-boot-pin", format!("{kernel}\n"));
                }
                _ => panic!("{words:?} is not expected"),
            }
        }
        self.depmod();
        assert_eq!(drifts(&self.host.run("")), [], "after {lines:?}");
        lines.join("; ")
    }

    fn module(&self) -> PathBuf {
        self.host.bed.at(&format!("/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko"))
    }
}

const RELEASES: [&str; 2] = ["bookworm", "trixie"];

#[test]
fn a_module_that_is_gone_although_dkms_has_it_installed_is_installed_again() {
    for release in RELEASES {
        let dkms = Dkms::new(release);
        fs::remove_file(dkms.module()).unwrap();
        dkms.depmod();
        let commands = dkms.repair("module-missing");
        assert_eq!(commands, format!("dkms install {NAME}/{V} -k {KERNEL} --force"), "{release}");
    }
}

#[test]
fn a_module_of_another_version_in_its_place_is_replaced() {
    for release in RELEASES {
        let dkms = Dkms::new(release);
        fs::write(dkms.module(), module_file("550.200.01", "NVIDIA", KERNEL)).unwrap();
        let commands = dkms.repair("reboot-breaks");
        assert_eq!(commands, format!("dkms install {NAME}/{V} -k {KERNEL} --force"), "{release}");
    }
}

#[test]
fn a_module_without_its_source_is_forgotten_and_installed_again() {
    for release in RELEASES {
        let dkms = Dkms::new(release);
        fs::remove_dir_all(dkms.host.bed.at(&format!("/usr/src/{NAME}-{V}"))).unwrap();
        // what the hint was before: dkms refuses it
        let (success, said) = dkms.run(&["remove", &format!("{NAME}/{V}"), "--all"]);
        let refused = ["Manual intervention is required", "Could not locate dkms.conf"];
        assert!(refused.iter().any(|text| said.contains(text)), "{success} {said}");
        let commands = dkms.repair("dkms-broken");
        assert!(commands.contains("nvidia-current.ko; apt-get install --reinstall"), "{commands}");
    }
}

#[test]
fn the_next_kernel_gets_its_headers_and_its_module() {
    for release in RELEASES {
        let dkms = Dkms::new(release);
        dkms.host.root().file(&format!("/boot/vmlinuz-{NEXT}"), "");
        let expected =
            format!("apt-get install proxmox-headers-{NEXT}; dkms install {NAME}/{V} -k {NEXT}");
        assert_eq!(dkms.repair("module-old-kernel-only"), expected, "{release}");
    }
}

#[test]
fn a_build_that_failed_is_not_advised_again() {
    for release in RELEASES {
        let dkms = Dkms::new(release);
        dkms.host.root().file(&format!("/boot/vmlinuz-{NEXT}"), "");
        dkms.headers(NEXT);
        dkms.source("@echo \"nv.c:1:1: error: too few arguments\"; exit 1");
        let (success, said) = dkms.run(&["install", &format!("{NAME}/{V}"), "-k", NEXT]);
        assert!(!success, "{said}");
        let ran = dkms.host.run("").expect(1);
        let record = ran.of_type("check").find(|record| record["cause"] == "build-failed");
        let reason = text(&record.unwrap_or_else(|| panic!("{}", ran.stdout))["reason"]);
        assert!(reason.contains("nv.c:1:1: error: too few arguments"), "{release}: {reason}");
        let commands = dkms.repair("build-failed");
        assert_eq!(commands, format!("proxmox-boot-tool kernel pin {KERNEL}"), "{release}");
    }
}
