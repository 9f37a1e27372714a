//! The host: its loaded module, libraries, firmware and DKMS.

use std::cmp::Ordering;

use advice::{external, lxc_gpu_conf};
use nvidia::{InstallationKind, compare_versions};
use record::{Hint, Severity};

use crate::baseline::Baseline;
use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::{
    apt_installation, build_for_kernel, forget, install_on_host, reinstall_packages,
};
use crate::check::libraries::incomplete;
use crate::check::{cdi, gpus, kernel, libraries, signature};
use crate::collect::dkms::{DkmsModule, DkmsState};
use crate::collect::host_facts::HostFacts;

const HOST: &str = "host";

/// What the host is compared with, and what depends on it.
pub struct HostScope<'a> {
    pub baseline: &'a Baseline,
    /// A container is given a GPU.
    pub gpu_given: bool,
    /// --next-boot asks about the next boot.
    pub next_boot: bool,
}

/// All findings about the host and its kernels.
pub fn findings(host: &HostFacts, scope: &HostScope<'_>) -> Vec<Finding> {
    if host.is_bare() {
        return bare(host, scope.baseline).into_iter().collect();
    }
    let mut findings = Vec::new();
    findings.extend(module(host, scope));
    if host.nouveau.loaded && host.loaded.is_some() {
        findings.push(
            Finding::note(Cause::NouveauLoaded, Severity::Warning)
                .on(HOST, "nouveau")
                .because("nouveau is loaded as well, for another GPU"),
        );
    }
    findings.extend(other_modules(host));
    findings.extend(pin(host, scope.baseline));
    // with --next-boot everything is compared with what the next boot loads
    let installed = match scope.next_boot {
        true => scope.baseline.version.as_deref().filter(|_| !scope.baseline.pinned),
        false => None,
    };
    let installed = installed.or(host.installed());
    findings.extend(libraries::findings(HOST, None, &host.root, host, installed));
    findings.extend(packages(host));
    findings.extend(userspace(host, scope, installed));
    findings.extend(firmware(host));
    findings.extend(host.kernels.iter().filter_map(|kernel| kernel::finding(host, kernel)));
    findings.extend(signature::finding(host));
    findings.extend(gpus::findings(host));
    findings.extend(next_boot(host, scope));
    findings.extend(dkms(host));
    findings.extend(cdi::host_findings(&host.root, host.installed()));
    findings
}

/// A host without a driver is wrong only where a pin requires one.
fn bare(host: &HostFacts, baseline: &Baseline) -> Option<Finding> {
    let pin = baseline.version.as_deref().filter(|_| baseline.pinned)?;
    Some(
        Finding::error(Cause::NothingInstalled)
            .on(HOST, "driver")
            .found(Some(pin), None)
            .because("this host has no NVIDIA driver")
            .hint(install_on_host(host, pin)),
    )
}

/// The loaded module against the one on disk.
fn module(host: &HostFacts, scope: &HostScope<'_>) -> Option<Finding> {
    let on_disk = host.on_disk();
    if let Some(why) = &host.unread {
        let finding = Finding::unknown(Cause::Unreadable).on(HOST, "module");
        return Some(finding.because(format!("cannot determine the loaded module: {why}")));
    }
    let next = host.mended_by_reboot();
    Some(match (&host.loaded, on_disk) {
        (Some(loaded), _) if next.is_some() => {
            let next = next.unwrap_or_default();
            Finding::error(Cause::HostNotRebooted)
                .on(HOST, "module")
                .found(Some(next), Some(loaded))
                .because(format!(
                    "{loaded} is loaded; {next} is installed and takes effect after a reboot"
                ))
                .hint(Hint::words(
                    "reboot the host, or stop all programs that use a GPU and reload the modules",
                ))
        }
        // the next boot loads another version than the libraries', or none: the
        // kernel's own finding says how it gets the right one
        (Some(loaded), Some(on_disk)) if loaded != on_disk && host.working().is_none() => {
            Finding::error(Cause::HostNotRebooted)
                .on(HOST, "module")
                .found(Some(on_disk), Some(loaded))
                .because(format!(
                    "{loaded} is loaded, {on_disk} is installed, and a reboot alone does not load \
                     the version of the libraries"
                ))
                .hint(Hint::words("repair what the other findings name, then reboot the host"))
        }
        (Some(loaded), _) => {
            let flavour = if host.open { "open module" } else { "proprietary module" };
            Finding::ok(HOST, "module", Some(loaded)).because(flavour)
        }
        (None, on_disk) if host.nouveau.loaded => Finding::error(Cause::NouveauLoaded)
            .on(HOST, "module")
            .found(on_disk.or(host.installed()), None)
            .because("nouveau is loaded, so NVIDIA's module cannot take the GPU")
            .hint(host.nouveau.hint()),
        // modprobe would fail: the finding about the signature says what to do
        (None, Some(_)) if signature::finding(host).is_some() => return None,
        (None, Some(on_disk)) if scope.gpu_given => Finding::warning(Cause::ModuleNotLoaded)
            .on(HOST, "module")
            .found(Some(on_disk), None)
            .because("a container is given a GPU, but the driver's module is not loaded")
            .hint(Hint::commands([external::modprobe("nvidia"), lxc_gpu_conf::nodes()])),
        (None, Some(on_disk)) => Finding::ok(HOST, "module", None)
            .found(Some(on_disk), None)
            .because("the module is not loaded"),
        // the running kernel's own finding says that it has no module
        (None, None) => return None,
    })
}

/// The driver's other modules against its main one.
fn other_modules(host: &HostFacts) -> impl Iterator<Item = Finding> {
    let loaded = host.loaded.as_deref();
    let others = host.family.iter().filter(move |(_, version)| Some(version.as_str()) != loaded);
    others.filter_map(move |(name, version)| {
        Some(
            Finding::error(Cause::ModulesDiffer)
                .on(HOST, format!("module {name}"))
                .found(Some(loaded?), Some(version))
                .because("it was loaded after an upgrade, the main module before")
                .hint(Hint::words("reboot the host")),
        )
    })
}

/// The host's installed version against a pin.
fn pin(host: &HostFacts, baseline: &Baseline) -> Option<Finding> {
    let pin = baseline.version.as_deref().filter(|_| baseline.pinned)?;
    let installed = host.installed();
    Some(match installed == Some(pin) {
        true => Finding::ok(HOST, "pin", Some(pin)),
        false => Finding::error(Cause::PinNotFollowed)
            .on(HOST, "pin")
            .found(Some(pin), installed)
            .because(format!("the host has {}", installed.unwrap_or("no driver")))
            .hint(install_on_host(host, pin)),
    })
}

/// Packages of the driver that an interrupted or failed installation has left
/// unconfigured: apt does nothing else before they are configured.
fn packages(host: &HostFacts) -> Option<Finding> {
    incomplete(HOST, &host.root).map(|finding| {
        finding.hint(Hint::commands([external::dpkg_configure(), external::apt_fix_broken()]))
    })
}

/// The host's libraries against the module that is installed.
fn userspace(host: &HostFacts, scope: &HostScope<'_>, installed: Option<&str>) -> Option<Finding> {
    let own = &host.root.libraries;
    let Some(version) = own.version() else {
        // a host that only passes GPUs through to VMs needs no libraries
        let unversioned = (!own.is_empty()).then(|| libraries::unversioned(HOST, own, installed));
        return unversioned.flatten();
    };
    let expected = installed?;
    let works = !scope.next_boot && host.loaded.as_deref() == Some(version);
    if version == expected || works {
        return Some(Finding::ok(HOST, "userspace", Some(version)));
    }
    let (cause, word) = match compare_versions(version, expected) {
        Ordering::Less => (Cause::HostBehind, "older"),
        _ => (Cause::HostAhead, "newer"),
    };
    let names =
        host.root.installations.packages().iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    let hint = match apt_installation(host) {
        None => install_on_host(host, expected),
        Some(_) => Hint::command(external::apt_upgrade(&names))
            .because("upgrade the driver's packages together, then reboot the host"),
    };
    Some(
        Finding::error(cause)
            .on(HOST, "userspace")
            .found(Some(expected), Some(version))
            .because(format!(
                "{} is {word} than the module: driver/library version mismatch",
                own.path().unwrap_or("its library")
            ))
            .hint(hint),
    )
}

/// GSP firmware, which the driver looks up by the module's exact version. Open
/// modules do not run without it; proprietary ones drive most GPUs without it.
fn firmware(host: &HostFacts) -> Option<Finding> {
    // without a loaded module the next load's counts
    let next = host.next_version().or(host.on_disk());
    let loaded = host.loaded.as_deref().or(next)?;
    let on_disk = host.running_kernel().and_then(|kernel| kernel.module()?.info.is_open());
    let open = if host.loaded.is_some() { host.open } else { on_disk.unwrap_or(false) };
    // an upgrade removes the old firmware: then the next load's counts, and the
    // module's own finding asks for the reboot
    let exists = |version: &&str| host.firmware.iter().any(|firmware| firmware == version);
    if let Some(version) = [loaded].into_iter().chain(host.on_disk()).find(exists) {
        return Some(Finding::ok(HOST, "firmware", Some(version)));
    }
    let other = host.firmware.last().map(String::as_str);
    // drivers before 470 have no GSP firmware
    let old = compare_versions(loaded, "470") == Ordering::Less;
    let (finding, which) = match (open, old) {
        (true, _) => (Finding::error(Cause::FirmwareMissing), "open modules need it"),
        (false, false) if other.is_some() => (
            Finding::note(Cause::FirmwareMissing, Severity::Warning),
            "GPUs that need it do not start",
        ),
        _ => return None,
    };
    let because = format!("/lib/firmware/nvidia/{loaded} has no gsp_*.bin: {which}");
    let finding = finding.on(HOST, "firmware").found(Some(loaded), other).because(because);
    Some(finding.hint(install_firmware(host, loaded)))
}

/// Puts the firmware where the driver's packages would, or installs the driver
/// again: its installer brings the firmware.
fn install_firmware(host: &HostFacts, version: &str) -> Hint {
    let Some(apt) = apt_installation(host) else { return install_on_host(host, version) };
    let gsp = apt
        .packages
        .iter()
        .find(|package| package.name.contains("firmware") || package.name.ends_with("-gsp"));
    match (gsp, apt.kind) {
        (Some(package), _) => {
            Hint::command(external::apt_reinstall(std::slice::from_ref(&package.name)))
        }
        (None, InstallationKind::Debian) => {
            Hint::command(external::apt_install("firmware-nvidia-gsp"))
        }
        (None, _) => match reinstall_packages(host) {
            Some(reinstall) => Hint::command(reinstall),
            None => Hint::words("install the driver's firmware package"),
        },
    }
}

/// Which kernel boots next, where that is unknown and matters.
fn next_boot(host: &HostFacts, scope: &HostScope<'_>) -> Option<Finding> {
    let why = host.next.as_ref().err()?;
    let finding = match scope.next_boot {
        true => Finding::unknown(Cause::Unreadable),
        false if host.kernels.len() > 1 => Finding::unknown_aside(Cause::Unreadable),
        false => return None,
    };
    let because = format!("cannot determine which kernel boots next: {why}");
    Some(finding.on(HOST, "next boot").because(because))
}

/// Modules in DKMS's tree that it can no longer build.
fn dkms(host: &HostFacts) -> impl Iterator<Item = Finding> {
    host.dkms.iter().filter(|module| !module.source).map(|module| {
        let name = module.name();
        Finding::warning(Cause::DkmsBroken)
            .on(HOST, format!("dkms {name}"))
            .found(Some("a source"), Some(DkmsState::Broken.as_str()))
            .because("its source is missing, so DKMS cannot build it for another kernel")
            .hint(restore_source(host, module))
    })
}

/// Removes a module without its source from DKMS, which `dkms remove` refuses, and
/// installs the driver again if it is the installed one.
fn restore_source(host: &HostFacts, module: &DkmsModule) -> Hint {
    let forget = Hint::command(forget(host, module));
    if host.installed() != Some(&module.version) {
        return forget.because("remove it from DKMS: the installed driver is another version");
    }
    let hint = match reinstall_packages(host) {
        Some(reinstall) => forget.then(reinstall),
        None => match host.running.as_deref() {
            Some(running) => build_for_kernel(host, &module.version, running)
                .commands
                .into_iter()
                .fold(forget, Hint::then),
            None => forget,
        },
    };
    hint.because("remove it from DKMS, then install the driver again")
}
