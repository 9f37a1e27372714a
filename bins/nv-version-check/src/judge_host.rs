//! The host's own disagreements, from what was read: no file is touched here.

use std::cmp::Ordering;

use nvidia::{compare_versions, kernel_limit};
use record::{Check, Severity};

use crate::cause::{Cause, Finding};
use crate::dkms::State;
use crate::host_facts::Host;
use crate::judge_more;
use crate::judge_root;
use crate::kernels::{Kernel, Module};
use crate::truth::Truth;

const HOST: &str = "host";

/// What the judgement depends on beside the host.
pub struct Asked<'a> {
    /// What everything is held against.
    pub truth: &'a Truth,
    /// Some container is given a GPU.
    pub gpu_given: bool,
    /// The next boot was asked for by name.
    pub next_boot: bool,
}

/// All checks of the host and its kernels.
pub fn checks(host: &Host, asked: &Asked<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if host.is_bare() {
        if let (true, Some(pin)) = (asked.truth.pinned, &asked.truth.version) {
            checks.push(
                Finding::error(Cause::NothingInstalled)
                    .on(HOST, "driver")
                    .found(Some(pin), None)
                    .because("this host has no NVIDIA driver")
                    .hint(format!("nv-runfile fetch {pin} | nv-runfile install --host")),
            );
        }
        return checks;
    }
    module(host, asked, &mut checks);
    family(host, &mut checks);
    pin(host, asked, &mut checks);
    userspace(host, &mut checks);
    firmware(host, &mut checks);
    for kernel in &host.kernels {
        checks.extend(one_kernel(host, kernel));
    }
    if let Err(why) = &host.next {
        if host.kernels.len() > 1 || asked.next_boot {
            checks.push(
                Finding::unknown(Cause::Unreadable)
                    .on(HOST, "next boot")
                    .because(format!("which kernel boots next is not known: {why}"))
                    .done(),
            );
        }
    }
    for entry in host.dkms.iter().filter(|entry| !entry.source) {
        checks.push(
            Finding::warning(Cause::DkmsBroken)
                .on(HOST, format!("dkms {}", entry.name()))
                .found(Some("a source"), Some(State::Broken.as_str()))
                .because("its source is gone: it cannot be built for another kernel")
                .hint(format!("dkms remove {} --all, and install the driver again", entry.name())),
        );
    }
    judge_more::cdi(HOST, None, &host.root, host.installed(), &mut checks);
    checks
}

/// The loaded module against the one on disk.
fn module(host: &Host, asked: &Asked<'_>, checks: &mut Vec<Check>) {
    let on_disk = host.on_disk();
    if let Some(why) = &host.unread {
        let finding = Finding::unknown(Cause::Unreadable).on(HOST, "module");
        checks.push(finding.because(format!("which module is loaded is not known: {why}")).done());
        return;
    }
    match (&host.loaded, on_disk) {
        (Some(loaded), Some(on_disk)) if loaded != on_disk => checks.push(
            Finding::error(Cause::HostNotRebooted)
                .on(HOST, "module")
                .found(Some(on_disk), Some(loaded))
                .because(format!(
                    "{loaded} is loaded, {on_disk} is on disk: what was installed since is in \
                     force after a reboot"
                ))
                .hint("reboot the host (or stop all that uses a GPU and load the modules again)"),
        ),
        (Some(loaded), _) => {
            let mut check = Check::ok(HOST, "module", loaded.clone());
            check.reason =
                Some(if host.open { "open module" } else { "proprietary module" }.into());
            checks.push(check);
        }
        (None, on_disk) if host.nouveau => checks.push(
            Finding::error(Cause::NouveauLoaded)
                .on(HOST, "module")
                .found(on_disk.or(host.installed()), None)
                .because("nouveau is loaded: NVIDIA's module cannot take the GPU")
                .hint(
                    "echo 'blacklist nouveau' >/etc/modprobe.d/nouveau.conf && update-initramfs -u \
                     -k all, and reboot (for a VM instead: gpu-vfio-bind persist SLOT)",
                ),
        ),
        (None, Some(on_disk)) if asked.gpu_given => checks.push(
            Finding::warning(Cause::ModuleNotLoaded)
                .on(HOST, "module")
                .found(Some(on_disk), None)
                .because("a container is given the GPU and the driver's module is not loaded")
                .hint("modprobe nvidia && lxc-gpu-conf nodes"),
        ),
        (None, Some(_)) => {
            let mut check = Check::ok(HOST, "module", None);
            check.expected = on_disk.map(str::to_string);
            check.reason = Some("the module is not loaded".into());
            checks.push(check);
        }
        // that the running kernel has none on disk is said of that kernel
        (None, None) => {}
    }
    if host.nouveau && host.loaded.is_some() {
        checks.push(
            Finding::note(Cause::NouveauLoaded, Severity::Warning)
                .on(HOST, "nouveau")
                .because("nouveau is loaded too, for another GPU")
                .done(),
        );
    }
}

fn family(host: &Host, checks: &mut Vec<Check>) {
    let Some(loaded) = &host.loaded else { return };
    for (name, version) in host.family.iter().filter(|(_, version)| version != loaded) {
        checks.push(
            Finding::error(Cause::ModulesDiffer)
                .on(HOST, format!("module {name}"))
                .found(Some(loaded), Some(version))
                .because("it was loaded after an upgrade, the others before")
                .hint("reboot the host"),
        );
    }
}

/// A pin binds the host too: what it is set up for.
fn pin(host: &Host, asked: &Asked<'_>, checks: &mut Vec<Check>) {
    let Some(pin) = asked.truth.version.as_deref().filter(|_| asked.truth.pinned) else { return };
    let installed = host.installed();
    checks.push(match installed == Some(pin) {
        true => Check::ok(HOST, "pin", pin.to_string()),
        false => Finding::error(Cause::PinNotFollowed)
            .on(HOST, "pin")
            .found(Some(pin), installed)
            .because(format!("the host has {}", installed.unwrap_or("no driver")))
            .hint(format!(
                "nv-runfile fetch {pin} | nv-runfile install --host, then the containers"
            )),
    });
}

/// The host's libraries against the module that it is set up for.
fn userspace(host: &Host, checks: &mut Vec<Check>) {
    let expected = host.on_disk().or(host.loaded.as_deref());
    judge_root::internal(HOST, &host.root, expected, checks);
    let Some(version) = host.root.version() else {
        // a host that only hands GPUs out needs none
        if !host.root.is_empty() {
            judge_root::unversioned(HOST, &host.root, expected, checks);
        }
        return;
    };
    let Some(expected) = expected else { return };
    if version == expected || host.loaded.as_deref() == Some(version) {
        checks.push(Check::ok(HOST, "userspace", version.to_string()));
        return;
    }
    let (cause, word) = match compare_versions(version, expected) {
        Ordering::Less => (Cause::HostBehind, "older"),
        _ => (Cause::HostAhead, "newer"),
    };
    let hint = match host.root.run_install.is_some() || !host.root.packaged {
        true => format!("nv-runfile fetch {expected} | nv-runfile install --host"),
        false => {
            "apt-get install --only-upgrade libcuda1 libnvidia-ml1 nvidia-kernel-dkms, and reboot"
                .to_string()
        }
    };
    checks.push(
        Finding::error(cause)
            .on(HOST, "userspace")
            .found(Some(expected), Some(version))
            .because(format!(
                "{} is {word} than the module: driver/library version mismatch",
                host.root.path().unwrap_or("its library")
            ))
            .hint(hint),
    );
}

/// GSP firmware is looked up by the module's exact version. Open modules do not
/// run without; proprietary ones drive most cards without it.
fn firmware(host: &Host, checks: &mut Vec<Check>) {
    let Some(loaded) = &host.loaded else { return };
    // an upgrade takes the firmware of before away: what counts then is the next
    // load's, and that a reboot is due is said already
    let there = |version: &&str| host.firmware.iter().any(|firmware| firmware == version);
    if let Some(version) = [loaded.as_str()].into_iter().chain(host.on_disk()).find(there) {
        checks.push(Check::ok(HOST, "firmware", version.to_string()));
        return;
    }
    let other = host.firmware.last().map(String::as_str);
    let because = format!("/lib/firmware/nvidia/{loaded} has no gsp_*.bin");
    let open = Finding::error(Cause::FirmwareMissing)
        .on(HOST, "firmware")
        .found(Some(loaded), other)
        .because(format!("{because}, which open modules need"));
    // before GSP (470) there was nothing to miss
    let old = compare_versions(loaded, "470") == Ordering::Less;
    match (host.open, old) {
        (true, _) => {
            checks.push(open.hint(format!("nv-runfile fetch {loaded} | nv-runfile install --host")))
        }
        (false, false) if other.is_some() => checks.push(
            Finding::note(Cause::FirmwareMissing, Severity::Warning)
                .on(HOST, "firmware")
                .found(Some(loaded), other)
                .because(format!("{because}: GPUs that need it do not start"))
                .hint(format!("nv-runfile fetch {loaded} | nv-runfile install --host")),
        ),
        _ => {}
    }
}

/// One kernel's module on disk. Only the running kernel and the one that boots
/// next must have it.
fn one_kernel(host: &Host, kernel: &Kernel) -> Option<Check> {
    let subject = format!("kernel {}", kernel.release);
    let next = host.next.as_ref().is_ok_and(|next| next.release == kernel.release);
    let running = host.running.as_deref() == Some(&kernel.release);
    let role = match (running, next) {
        (true, true) => "runs and boots next",
        (true, false) => "runs",
        (false, true) => "boots next",
        (false, false) => "is installed",
    };
    // a pin is held against the host as a whole
    let expected = host.installed();
    let module = match &kernel.module {
        Err(why) => {
            return Some(
                Finding::unknown(Cause::Unreadable)
                    .on(&subject, "module")
                    .found(expected, None)
                    .because(why.clone())
                    .done(),
            );
        }
        Ok(module) => module.as_ref(),
    };
    let version = module.and_then(|module| module.info.version.as_deref());
    if let Some(foreign) = module.and_then(|module| foreign(module, &kernel.release)) {
        return (next || running).then(|| {
            Finding::error(Cause::ModuleOldKernelOnly)
                .on(&subject, "module")
                .found(expected, version)
                .because(format!("it {role} and its module was built for {foreign}"))
                .hint(rebuild(host, &kernel.release, expected))
        });
    }
    if version.is_some() && version == expected || version.is_some() && !next && !running {
        let mut check = Check::ok(&subject, "module", version.map(str::to_string));
        let flavour = match module.and_then(|module| module.info.is_open()) {
            Some(true) => ", open module",
            Some(false) => ", proprietary module",
            None => "",
        };
        check.reason = Some(format!("it {role}{flavour}{}", dkms_words(host, kernel)));
        return Some(check);
    }
    if !next && !running {
        return None;
    }
    // what the running kernel has loaded is said of the host
    if running && !next && version.is_some() {
        return None;
    }
    Some(missing(host, kernel, &subject, role, expected, version))
}

/// The kernel that a module was built for where it is another one and the
/// module is no link of weak-updates, which says that it fits all the same.
fn foreign<'a>(module: &'a Module, release: &str) -> Option<&'a str> {
    let built_for = module.info.built_for()?;
    (built_for != release && !module.path.contains("/weak-updates/")).then_some(built_for)
}

/// A kernel that runs or boots next has no module, or one of another version.
fn missing(
    host: &Host,
    kernel: &Kernel,
    subject: &str,
    role: &str,
    expected: Option<&str>,
    version: Option<&str>,
) -> Check {
    let release = &kernel.release;
    let others: Vec<&Kernel> =
        host.kernels.iter().filter(|k| k.release != *release && k.version() == expected).collect();
    let limit = expected.and_then(|expected| kernel_limit(expected, release));
    let built = others.last().map(|kernel| kernel.release.as_str());
    let dkms = dkms_words(host, kernel);
    let has = match version {
        Some(version) => format!("it {role} and its module is {version}"),
        None => format!("it {role} and has no driver module"),
    };
    if let (Some(limit), Some(expected)) = (&limit, expected) {
        let older = match built {
            Some(built) => format!("proxmox-boot-tool kernel pin {built}"),
            None => format!("boot a kernel before {}", limit.first_kernel),
        };
        return Finding::error(Cause::KernelUnsupported)
            .on(subject, "module")
            .found(Some(expected), version)
            .because(format!(
                "{has}: {expected} does not build for {} and newer ({}){dkms}",
                limit.first_kernel, limit.source
            ))
            .hint(format!(
                "{older}, or install a newer driver: nv-runfile fetch VERSION | nv-runfile install --host"
            ));
    }
    let (cause, also) = match built {
        Some(built) => (Cause::ModuleOldKernelOnly, format!("; {built} has it")),
        None if version.is_some() => (Cause::ModuleOldKernelOnly, String::new()),
        None => (Cause::ModuleMissing, String::new()),
    };
    Finding::error(cause)
        .on(subject, "module")
        .found(expected, version)
        .because(format!("{has}{also}{dkms}"))
        .hint(rebuild(host, release, expected))
}

/// What DKMS says of a kernel.
fn dkms_words(host: &Host, kernel: &Kernel) -> String {
    let words: Vec<String> = host
        .dkms
        .iter()
        .map(|entry| {
            let state = entry.state(&kernel.release);
            let log = entry.failed_log.as_ref().filter(|_| state < State::Built);
            let log = log.map_or_else(String::new, |log| format!(", see {log}"));
            format!("{} {}{log}", entry.name(), state.as_str())
        })
        .collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(" (DKMS: {})", words.join("; ")),
    }
}

/// The command that builds the module for a kernel.
fn rebuild(host: &Host, release: &str, expected: Option<&str>) -> String {
    let entry = host.dkms.iter().find(|entry| expected == Some(&entry.version));
    let headers = match release.ends_with("-pve") {
        true => format!("apt-get install proxmox-headers-{release}"),
        false => format!("apt-get install linux-headers-{release}"),
    };
    match (entry, expected) {
        (Some(entry), _) => format!("{headers} && dkms install {} -k {release}", entry.name()),
        (None, Some(expected)) => {
            format!("{headers} && nv-runfile fetch {expected} | nv-runfile install --host")
        }
        (None, None) => headers,
    }
}
