//! The states that a host can be in, generated: how the driver was installed, what
//! is loaded and on disk, which kernel boots next, Secure Boot, generation of the
//! GPUs. Each state has the findings that follow from it and no others, and each
//! command that they name is one that is not refused in that state.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod common;

use std::collections::BTreeSet;

use common::{Host, KERNEL, drifts, text};
use testbed::driver::{LIB, Packed, module_file};
use testbed::runfile::{NvidiaRun, Pack, driver_tree};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Debian's packages, with DKMS.
    Debian,
    /// Packages of NVIDIA's CUDA repository, with DKMS.
    CudaRepository,
    /// A .run file with --no-dkms.
    Run,
    /// A .run file with DKMS, open modules.
    RunDkms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Loaded, on disk and libraries are the same version.
    Right,
    /// The libraries are of an older version.
    LibrariesBehind,
    /// The older module is still loaded.
    NotRebooted,
    /// The module on disk is of another version than module and libraries.
    OtherOnDisk,
    /// No module is loaded.
    NotLoaded,
    /// A package is half-configured.
    HalfConfigured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The running kernel boots next.
    Same,
    /// A newer one of the same series, without a module.
    Newer,
    /// One that the driver is known not to build for.
    Unsupported,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gpu {
    Turing,
    /// Driven by proprietary modules only.
    Volta,
    /// Driven by open modules only.
    Blackwell,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    kind: Kind,
    state: State,
    next: Next,
    secure_boot: bool,
    gpu: Gpu,
}

const STATES: [State; 6] = [
    State::Right,
    State::LibrariesBehind,
    State::NotRebooted,
    State::OtherOnDisk,
    State::NotLoaded,
    State::HalfConfigured,
];

/// Every state with every next kernel, each with three of the six pairs of Secure
/// Boot and GPU, in turn, so that each pair meets each state.
fn rows(kind: Kind) -> Vec<Row> {
    let mut rows = Vec::new();
    for (s, state) in STATES.into_iter().enumerate() {
        for (n, next) in [Next::Same, Next::Newer, Next::Unsupported].into_iter().enumerate() {
            for (g, gpu) in [Gpu::Turing, Gpu::Volta, Gpu::Blackwell].into_iter().enumerate() {
                let secure_boot = (s + n + g) % 2 == 1;
                rows.push(Row { kind, state, next, secure_boot, gpu });
            }
        }
    }
    rows
}

impl Row {
    fn open(self) -> bool {
        self.kind == Kind::RunDkms
    }

    fn version(self) -> &'static str {
        if self.open() { "580.95.05" } else { "550.163.01" }
    }

    fn older(self) -> &'static str {
        if self.open() { "580.82.09" } else { "550.144.03" }
    }

    fn next_kernel(self) -> Option<&'static str> {
        match (self.next, self.open()) {
            (Next::Same, _) => None,
            (Next::Newer, _) => Some("6.14.11-6-pve"),
            (Next::Unsupported, false) => Some("6.17.13-2-pve"),
            (Next::Unsupported, true) => Some("6.19.0-1-pve"),
        }
    }

    fn packaged(self) -> bool {
        matches!(self.kind, Kind::Debian | Kind::CudaRepository)
    }

    fn module(self) -> &'static str {
        match self.kind {
            Kind::Debian => "updates/dkms/nvidia-current.ko",
            Kind::Run => "kernel/drivers/video/nvidia.ko",
            Kind::CudaRepository | Kind::RunDkms => "updates/dkms/nvidia.ko",
        }
    }

    /// The causes that the state must have.
    fn expected(self) -> BTreeSet<&'static str> {
        let mut causes = BTreeSet::new();
        let half = self.state == State::HalfConfigured && self.packaged();
        causes.extend(half.then_some("packages-incomplete"));
        causes.extend((self.state == State::LibrariesBehind).then_some("host-behind"));
        causes.extend((self.state == State::NotRebooted).then_some("host-not-rebooted"));
        let other = self.state == State::OtherOnDisk;
        causes.extend(match (self.next, other) {
            (Next::Same, true) => Some("reboot-breaks"),
            (Next::Same, false) => None,
            (Next::Newer, true) => Some("module-missing"),
            (Next::Newer, false) => Some("module-old-kernel-only"),
            (Next::Unsupported, _) => Some("kernel-unsupported"),
        });
        let reloads =
            matches!(self.state, State::NotRebooted | State::OtherOnDisk | State::NotLoaded);
        let unsigned = self.secure_boot && self.next == Next::Same && reloads;
        causes.extend(unsigned.then_some("module-unsigned"));
        let fits = match self.gpu {
            Gpu::Turing => true,
            Gpu::Volta => !self.open(),
            Gpu::Blackwell => self.open(),
        };
        causes.extend((!fits).then_some("module-type"));
        causes
    }

    fn host(self) -> Host {
        let host = Host::bare();
        host.without_packages();
        let (version, older) = (self.version(), self.older());
        let libraries = if self.state == State::LibrariesBehind { older } else { version };
        let on_disk = if self.state == State::OtherOnDisk { older } else { version };
        let root = host.root();
        match self.kind {
            Kind::Debian | Kind::CudaRepository => {
                root.debian(libraries);
                self.packages(&host);
            }
            Kind::Run | Kind::RunDkms => {
                root.run_install(LIB, libraries);
                let record = format!("1.0-{} ({version})\n", version.replace('.', ""));
                root.file("/var/lib/nvidia/log", record);
            }
        }
        let license = if self.open() { "Dual MIT/GPL" } else { "NVIDIA" };
        root.kernel(KERNEL, None);
        let module = module_file(on_disk, license, KERNEL);
        root.module(KERNEL, self.module(), &module, Packed::No);
        match self.kind {
            Kind::Debian => drop(root.dkms("nvidia-current", version, &[KERNEL])),
            Kind::CudaRepository | Kind::RunDkms => drop(root.dkms("nvidia", version, &[KERNEL])),
            Kind::Run => {}
        }
        if let Some(next) = self.next_kernel() {
            root.kernel(next, None);
        }
        root.file(&format!("/lib/firmware/nvidia/{version}/gsp_ga10x.bin"), "x");
        host.headers(&format!("linux-headers-{KERNEL}"));
        root.file("/usr/bin/cc", "").file("/usr/bin/make", "").file("/usr/include/stdlib.h", "");
        root.file("/etc/modprobe.d/nouveau.conf", "blacklist nouveau\n");
        root.ldconfig();
        match self.state {
            State::NotLoaded => host.unload(),
            State::NotRebooted => host.load(older, self.open()),
            _ => host.load(version, self.open()),
        }
        if self.secure_boot {
            let path = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
            root.file(path, [6, 0, 0, 0, 1]);
        }
        let device = match self.gpu {
            Gpu::Turing => 0x1e07,
            Gpu::Volta => 0x1db6,
            Gpu::Blackwell => 0x2b85,
        };
        let driver = (self.state != State::NotLoaded).then_some("nvidia");
        host.gpu("0000:2b:00.0", device, driver);
        host.gpu("0000:2c:00.0", device, driver);
        host
    }

    fn packages(self, host: &Host) {
        let revision = format!("{}-2", self.version());
        let root = host.root();
        root.debian_status(&["libcuda1", "libnvidia-ml1"], &revision, "installed");
        let half = self.state == State::HalfConfigured;
        let state = if half { "half-configured" } else { "installed" };
        root.debian_status(&["nvidia-kernel-dkms"], &revision, state);
        if self.kind == Kind::CudaRepository {
            let path = "/var/lib/dpkg/status";
            let by = "Debian NVIDIA Maintainers <pkg-nvidia-devel@lists.alioth.debian.org>";
            let nvidia = "NVIDIA CORPORATION <cudatools@nvidia.com>";
            host.bed.write(path, host.bed.read(path).replace(by, nvidia));
        }
    }
}

/// What was looked at in all rows.
#[derive(Default)]
struct Count {
    rows: usize,
    commands: usize,
    dry_runs: usize,
}

fn check(kind: Kind) {
    let mut count = Count::default();
    let mut wrong = Vec::new();
    for row in rows(kind) {
        let host = row.host();
        let ran = host.run("");
        let found = drifts(&ran);
        let causes: BTreeSet<&str> = found.iter().map(|(_, cause)| cause.as_str()).collect();
        if causes != row.expected() {
            wrong.push(format!("{row:?}: {causes:?}, not {:?}", row.expected()));
        }
        count.rows += 1;
        let records: Vec<_> = ran.of_type("check").filter(|r| r["status"] == "drift").collect();
        for record in records {
            for command in record["commands"].as_array().unwrap() {
                let words: Vec<String> = command.as_array().unwrap().iter().map(text).collect();
                count.commands += 1;
                let refused = follow(row, &host, &words, &mut count);
                wrong.extend(refused.map(|why| format!("{row:?}: {}: {why}", words.join(" "))));
            }
        }
    }
    println!(
        "{kind:?}: {} states, {} commands, {} of them run by nv-runfile",
        count.rows, count.commands, count.dry_runs
    );
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Does what a command would, as far as the next one depends on it; a command of
/// nv-runfile is run as a dry run. Returns why it is refused.
fn follow(row: Row, host: &Host, words: &[String], count: &mut Count) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["nv-runfile", "install", file, ref options @ ..] => {
            count.dry_runs += 1;
            let name = file.rsplit('/').next().unwrap();
            let path = host.bed.at(&format!("/{name}"));
            if !path.exists() {
                driver_tree(&host.bed.at("/tree"), row.version());
                let mut run = NvidiaRun::new(row.version(), Pack::Zstd);
                // option_table.h of nvidia-installer since 545.23.06
                run.options.push("--allow-installation-with-running-driver".into());
                run.options.push("--skip-module-load".into());
                host.bed.write(&format!("/{name}"), run.of_dir(&host.bed.at("/tree")));
            }
            let tool = host.bed.tool("nv-runfile").args("install").arg(&path);
            let ran = tool.args(&options.join(" ")).args("--dry-run").run();
            let unchanged = ran.of_type("change").all(|change| change["status"] == "unchanged");
            match ran.code() {
                0 if unchanged => Some(format!("changes nothing:\n{}", ran.stdout)),
                0 => None,
                code => Some(format!("exit {code}\n{}{}", ran.stdout, ran.stderr)),
            }
        }
        ["nvidia-uninstall", "--silent"] => {
            // a finding about the other GPU names it as well
            let _ = std::fs::remove_file(host.bed.at("/var/lib/nvidia/log"));
            let _ = std::fs::remove_dir_all(host.bed.at("/var/lib/dkms/nvidia"));
            None
        }
        ["apt-get", "install", package] if package.contains("headers") => {
            host.headers(package);
            None
        }
        // without --force dkms skips what it takes for installed, and a module that is
        // not newer than the one in place
        ["dkms", "install", module, "-k", release] => {
            let name = module.split('/').next().unwrap();
            let link = host.bed.at(&format!("/var/lib/dkms/{name}/kernel-{release}-x86_64"));
            let file = host.bed.at(&format!("/lib/modules/{release}/{}", row.module()));
            let taken = link.is_symlink() || file.exists();
            taken.then(|| "dkms takes it for installed".into())
        }
        ["dkms", "install", _, "-k", _, "--force"] | ["dkms", "build", _, "-k", _, "--force"] => {
            None
        }
        ["apt-get" | "dpkg" | "proxmox-boot-tool" | "update-initramfs" | "mokutil", ..] => {
            // apt-get does nothing for a host without these packages
            let apt = words[0] == "apt-get" || words[0] == "dpkg";
            (apt && !row.packaged() && !words.contains(&"build-essential"))
                .then(|| "the host has no packages of the driver".into())
        }
        ["nv-runfile", "fetch", version] => {
            (version != row.version()).then(|| "another version".into())
        }
        _ => Some("this command is not expected".into()),
    }
}

#[test]
fn every_state_of_a_host_with_debians_packages_has_its_findings_and_commands_that_pass() {
    check(Kind::Debian);
}

#[test]
fn every_state_of_a_host_with_nvidias_packages_has_its_findings_and_commands_that_pass() {
    check(Kind::CudaRepository);
}

#[test]
fn every_state_of_a_host_with_a_run_file_has_its_findings_and_commands_that_pass() {
    check(Kind::Run);
}

#[test]
fn every_state_of_a_host_with_a_run_file_and_dkms_has_its_findings_and_commands_that_pass() {
    check(Kind::RunDkms);
}

#[test]
fn the_table_of_states_is_large_enough() {
    let kinds = [Kind::Debian, Kind::CudaRepository, Kind::Run, Kind::RunDkms];
    let count: usize = kinds.into_iter().map(|kind| rows(kind).len()).sum();
    println!("{count} states");
    assert!(count >= 150, "{count}");
}

/// How a container has its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    Receipt,
    Run,
    Debian,
    Ubuntu,
    CudaRepository,
    Arch,
    Fedora,
    Copied,
    Musl,
}

const INSIDE: [Inside; 10] = [
    Inside::Nothing,
    Inside::Receipt,
    Inside::Run,
    Inside::Debian,
    Inside::Ubuntu,
    Inside::CudaRepository,
    Inside::Arch,
    Inside::Fedora,
    Inside::Copied,
    Inside::Musl,
];

const OLD: &str = "535.247.01";

impl Inside {
    fn dir(self) -> &'static str {
        match self {
            Inside::Arch => "/usr/lib",
            Inside::Fedora => "/usr/lib64",
            _ => LIB,
        }
    }

    fn build(self, root: &testbed::driver::RootFs) {
        let linker = if self == Inside::Musl {
            "/lib/ld-musl-x86_64.so.1"
        } else {
            "/lib64/ld-linux-x86-64.so.2"
        };
        root.file(linker, "")
            .file("/etc/os-release", "")
            .file(&format!("{}/libc.so.6", self.dir()), "");
        if self == Inside::Nothing || self == Inside::Musl {
            return;
        }
        for stem in ["libcuda.so", "libnvidia-ml.so"] {
            root.library(self.dir(), stem, OLD);
            root.link(&format!("{}/{stem}.1", self.dir()), &format!("{stem}.{OLD}"));
        }
        let status = |package: &str, by: &str, revision: &str| {
            format!(
                "Package: {package}\nStatus: install ok installed\nMaintainer: {by}\n\
                 Version: {OLD}-{revision}\n\n"
            )
        };
        let dpkg = "/var/lib/dpkg/status";
        match self {
            Inside::Run => drop(root.file("/var/lib/nvidia/log", "1.0-53524701 (535.247.01)\n")),
            Inside::Debian => {
                root.debian_status(
                    &["libcuda1", "libnvidia-ml1"],
                    &format!("{OLD}-1"),
                    "installed",
                );
            }
            Inside::Ubuntu => {
                let by = "Ubuntu Core Developers <ubuntu-devel-discuss@lists.ubuntu.com>";
                let row = status("libnvidia-compute-535", by, "0ubuntu0.24.04.1");
                root.file(dpkg, row);
            }
            Inside::CudaRepository => {
                let by = "NVIDIA CORPORATION <cudatools@nvidia.com>";
                root.file(dpkg, status("libcuda1", by, "1"));
            }
            Inside::Arch => {
                root.file(&format!("/var/lib/pacman/local/nvidia-utils-{OLD}-1/desc"), "");
            }
            Inside::Fedora => drop(root.file("/usr/lib/sysimage/rpm/rpmdb.sqlite", "")),
            _ => {}
        }
        root.ldconfig();
    }
}

/// Removes from a container what its package manager or nvidia-uninstall would.
fn remove(root: &testbed::driver::RootFs, inside: Inside) {
    for stem in ["libcuda.so", "libnvidia-ml.so"] {
        for name in [format!("{stem}.{OLD}"), format!("{stem}.1")] {
            std::fs::remove_file(root.at(&format!("{}/{name}", inside.dir()))).unwrap();
        }
    }
    let _ = std::fs::remove_file(root.at("/var/lib/nvidia/log"));
    let _ = std::fs::remove_file(root.at("/var/lib/dpkg/status"));
    let _ = std::fs::remove_dir_all(root.at("/var/lib/pacman/local"));
    root.ldconfig();
}

/// The repair of seven of seven container cases was refused by nv-runfile.
#[test]
fn the_commands_for_a_container_pass_however_its_driver_was_installed() {
    let mut wrong = Vec::new();
    let (mut rows, mut dry_runs) = (0, 0);
    for inside in INSIDE {
        for running in [true, false] {
            rows += 1;
            let host = Host::debian();
            host.give(901);
            let root = if running { host.running(901) } else { host.volume(901) };
            let file = host.bed.at("/driver.run");
            driver_tree(&host.bed.at("/tree"), common::V);
            let run = NvidiaRun::new(common::V, Pack::Zstd).of_dir(&host.bed.at("/tree"));
            host.bed.write("/driver.run", run);
            inside.build(&root);
            let install = |options: &str| {
                let tool = host.bed.tool("nv-runfile").args("install").arg(&file);
                tool.args(options).args("--dry-run").run()
            };
            if inside == Inside::Receipt {
                root.file("/var/lib/pve-gpu-tools/nv-runfile.json", receipt());
                // the container is unprivileged: its root is 100000 on the host
                for stem in ["libcuda.so", "libnvidia-ml.so"] {
                    for name in [format!("{stem}.{OLD}"), format!("{stem}.1")] {
                        let at = root.at(&format!("{LIB}/{name}"));
                        std::os::unix::fs::lchown(at, Some(100_000), Some(100_000)).unwrap();
                    }
                }
            }
            let ran = host.run("--ct 901").expect(1);
            let record = ran
                .of_type("check")
                .find(|r| r["property"] == "userspace" && r["subject"] == "ct 901");
            let record = record.unwrap_or_else(|| panic!("{inside:?}: {}", ran.stdout));
            let commands = record["commands"].as_array().unwrap();
            if commands.is_empty() {
                let hint = text(&record["hint"]);
                let by_hand = matches!(inside, Inside::Copied | Inside::Musl);
                if !by_hand || hint.is_empty() {
                    wrong.push(format!("{inside:?} {running}: no commands, {hint}"));
                }
            }
            for command in commands {
                let words: Vec<String> = command.as_array().unwrap().iter().map(text).collect();
                let line = words.join(" ");
                if line.starts_with("pct exec 901 -- ") {
                    let started = running || commands[0][1] == "start";
                    assert!(started, "{inside:?}: {line}");
                    remove(&root, inside);
                } else if let Some((_, options)) = line.split_once(".run ") {
                    dry_runs += 1;
                    let ran = install(options);
                    let unchanged = ran.of_type("change").all(|c| c["status"] == "unchanged");
                    if ran.code() != 0 || unchanged {
                        wrong.push(format!(
                            "{inside:?} {running}: {line}\n{}{}",
                            ran.stdout, ran.stderr
                        ));
                    }
                }
            }
        }
    }
    println!("{rows} containers, {dry_runs} installations run by nv-runfile");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(dry_runs >= 14, "{dry_runs}");
}

/// A receipt as nv-runfile writes it, of the older version's two libraries.
fn receipt() -> String {
    let mut entries = Vec::new();
    for stem in ["libcuda.so", "libnvidia-ml.so"] {
        let bytes = testbed::driver::library(&format!("{stem}.1"));
        entries.push(serde_json::json!({
            "path": format!("{LIB}/{stem}.{OLD}"), "kind": "file", "size": bytes.len(),
            "sha256": testbed::runfile::hash("sha256sum", &bytes), "mode": 0o644
        }));
        entries.push(serde_json::json!({
            "path": format!("{LIB}/{stem}.1"), "kind": "link", "target": format!("{stem}.{OLD}")
        }));
    }
    serde_json::json!({
        "format": 1, "run": "1", "version": OLD, "sets": ["compute", "utility", "video"],
        "installer": "0".repeat(64), "entries": entries, "dirs": []
    })
    .to_string()
}
