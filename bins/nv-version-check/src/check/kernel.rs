//! The driver module that each installed kernel has on disk. Only the running
//! and the next-boot kernel must have one.

use advice::external;
use nvidia::{BuildSource, DriverBuild, Installation, InstallationKind, KernelLimit, kernel_limit};
use record::Hint;

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::{build_for_kernel, forget, reinstall_packages};
use crate::collect::dkms::{DkmsState, FailedBuild};
use crate::collect::host_facts::HostFacts;
use crate::collect::kernel_modules::{InstalledKernel, KernelModule};

/// A kernel with what it is for the host.
struct KernelView<'a> {
    host: &'a HostFacts,
    kernel: &'a InstalledKernel,
    subject: String,
    running: bool,
    next: bool,
    /// The version that its module should have: the installed one. A pin is
    /// compared with the host as a whole.
    expected: Option<&'a str>,
}

/// The finding about one kernel; `None` where it needs no module.
pub fn finding(host: &HostFacts, kernel: &InstalledKernel) -> Option<Finding> {
    KernelView {
        host,
        kernel,
        subject: format!("kernel {}", kernel.release),
        running: host.running.as_deref() == Some(&kernel.release),
        next: host.next.as_ref().is_ok_and(|next| next.release == kernel.release),
        expected: host.installed(),
    }
    .finding()
}

impl KernelView<'_> {
    fn finding(&self) -> Option<Finding> {
        let needed = self.running || self.next;
        let modules = match &self.kernel.modules {
            Err(why) => {
                let finding = Finding::unknown(Cause::Unreadable).on(&self.subject, "module");
                return Some(finding.found(self.expected, None).because(why.clone()));
            }
            Ok(modules) => modules.as_slice(),
        };
        if self.host.no_module_files {
            let finding = Finding::unknown_aside(Cause::Unreadable).on(&self.subject, "module");
            let because = "/lib/modules does not exist, so its modules are unknown";
            return needed.then(|| finding.found(self.expected, None).because(because));
        }
        let module = modules.first();
        let version = self.kernel.version();
        if modules.len() > 1 && version.is_none() {
            return needed.then(|| self.several(modules));
        }
        if let Some(other) = module.and_then(|module| built_for_other(module, self.release())) {
            return needed.then(|| {
                Finding::error(Cause::ModuleOldKernelOnly)
                    .on(&self.subject, "module")
                    .found(self.expected, version)
                    .because(format!("{}: the module was built for {other}", self.role()))
                    .hint(self.rebuild())
            });
        }
        if version.is_some() && (version == self.expected || !needed) {
            let flavour = match module.and_then(|module| module.info.is_open()) {
                Some(true) => ", open module",
                Some(false) => ", proprietary module",
                None => "",
            };
            let because = format!("{}{flavour}{}", self.role(), self.dkms_states());
            return Some(Finding::ok(&self.subject, "module", version).because(because));
        }
        // that the running kernel has another module loaded is a finding about the host
        let elsewhere = self.running && !self.next && version.is_some();
        (needed && !elsewhere).then(|| self.mismatch(version))
    }

    /// Two installations put modules of different versions beside each other: which
    /// one a boot loads is not certain.
    fn several(&self, modules: &[KernelModule]) -> Finding {
        let words: Vec<String> = modules
            .iter()
            .map(|m| format!("{} ({})", m.path, m.info.version.as_deref().unwrap_or("no version")))
            .collect();
        let other = modules.iter().find(|m| m.info.version.as_deref() != self.expected);
        let other = other.and_then(|module| module.info.version.as_deref());
        let finding = Finding::error(Cause::SeveralModules)
            .on(&self.subject, "module")
            .found(self.expected, other)
            .because(format!("{}: two driver modules: {}", self.role(), words.join(", ")));
        finding.hint(self.remove_others())
    }

    /// Removes the installations of the other version, where one is of the version
    /// that works now.
    fn remove_others(&self) -> Hint {
        let all = &self.host.root.installations.all;
        let right = |one: &&Installation| one.version.as_deref() == self.expected;
        let wrong: Vec<_> = all.iter().filter(|one| !right(one)).collect();
        let removals: Vec<_> = wrong.iter().filter_map(|one| one.removal()).collect();
        match all.iter().any(|one| right(&one)) && removals.len() == wrong.len() {
            true if !removals.is_empty() => Hint::commands(removals)
                .because("two installations of the driver are mixed; remove the other one"),
            _ => Hint::words(
                "two installations of the driver are mixed: remove one of them, then reboot",
            ),
        }
    }

    fn release(&self) -> &str {
        &self.kernel.release
    }

    fn role(&self) -> &'static str {
        match (self.running, self.next) {
            (true, true) => "running and next-boot kernel",
            (true, false) => "running kernel",
            (false, true) => "next-boot kernel",
            (false, false) => "installed kernel",
        }
    }

    /// A running or next-boot kernel has no module, or one of another version.
    fn mismatch(&self, version: Option<&str>) -> Finding {
        let has = match version {
            Some(version) => format!("{}: the installed module is {version}", self.role()),
            None => format!("{}: no NVIDIA module installed", self.role()),
        };
        // the newest other kernel that has the right module
        let built = self.host.kernels.iter().rev().find(|kernel| {
            self.expected.is_some()
                && kernel.release != self.kernel.release
                && kernel.version() == self.expected
        });
        let built = built.map(|kernel| kernel.release.as_str());
        let dkms = self.dkms_states();
        if let Some(expected) = self.expected {
            let failed = self.host.dkms.iter().find_map(|m| m.failed_for(self.release()));
            // without headers the next build is another one
            if let Some(failed) = failed.filter(|_| self.kernel.headers) {
                return self.build_failed(expected, version, failed, built);
            }
            if let Some(limit) = self.limit(expected) {
                let why = format!(
                    "{has}; {expected} does not build for {} ({}, {}){dkms}",
                    limit.kernels(),
                    limit.report(),
                    limit.date
                );
                return Finding::error(Cause::KernelUnsupported)
                    .on(&self.subject, "module")
                    .found(Some(expected), version)
                    .because(why)
                    .hint(self.older_kernel(built));
            }
        }
        if version.is_some() && self.running && self.host.working() == self.expected {
            return self.breaks_at_reboot(version, &dkms);
        }
        let (cause, also) = match built {
            Some(built) => (Cause::ModuleOldKernelOnly, format!("; {built} has it")),
            None if version.is_some() => (Cause::ModuleOldKernelOnly, String::new()),
            None => (Cause::ModuleMissing, String::new()),
        };
        Finding::error(cause)
            .on(&self.subject, "module")
            .found(self.expected, version)
            .because(format!("{has}{also}{}{dkms}", self.not_known_to_build()))
            .hint(self.rebuild())
    }

    /// Programs work now, and no longer after a reboot.
    fn breaks_at_reboot(&self, version: Option<&str>, dkms: &str) -> Finding {
        let (expected, version_on_disk) =
            (self.expected.unwrap_or_default(), version.unwrap_or_default());
        Finding::error(Cause::RebootBreaks)
            .on(&self.subject, "module")
            .found(self.expected, version)
            .because(format!(
                "{}: loaded module and libraries are {expected}, but the module on disk is \
                 {version_on_disk}: after a reboot they do not match{dkms}",
                self.role()
            ))
            .hint(self.rebuild())
    }

    /// DKMS tried with the headers that are installed: the same build fails again.
    fn build_failed(
        &self,
        expected: &str,
        version: Option<&str>,
        failed: &FailedBuild,
        built: Option<&str>,
    ) -> Finding {
        let error = failed.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
        let known = self.limit(expected).map_or(String::new(), |l| format!(" ({})", l.report()));
        Finding::error(Cause::BuildFailed)
            .on(&self.subject, "module")
            .found(Some(expected), version)
            .because(format!(
                "{}: the build of {expected} failed, see {}{error}{known}",
                self.role(),
                failed.log
            ))
            .hint(self.older_kernel(built))
    }

    /// That no kernel of this series has the module: a kernel that the table does not
    /// name is not known to build.
    fn not_known_to_build(&self) -> String {
        let series =
            |release: &str| nvidia::numbers(release).into_iter().take(2).collect::<Vec<_>>();
        let mine = series(self.release());
        let same = |kernel: &&InstalledKernel| {
            series(&kernel.release) == mine && kernel.version() == self.expected
        };
        match (self.expected, self.host.kernels.iter().any(|kernel| same(&kernel))) {
            (Some(expected), false) => {
                let series: Vec<String> = mine.iter().map(u64::to_string).collect();
                format!("; whether {expected} builds for {} is not known", series.join("."))
            }
            _ => String::new(),
        }
    }

    /// Why the installed driver is known not to build for this kernel. A
    /// distribution's packages have patches of their own, so that limits of
    /// NVIDIA's source do not judge them.
    fn limit(&self, expected: &str) -> Option<KernelLimit> {
        let installations = &self.host.root.installations;
        let packaged = installations
            .packaged()
            .find_map(|one| Some((one.kind, one.packages.iter().find(|package| package.kernel)?)));
        let source = match packaged {
            None | Some((InstallationKind::CudaRepository, _)) => BuildSource::Nvidia,
            Some((InstallationKind::Debian, package)) => match package.revision.as_deref() {
                Some(revision) => BuildSource::Debian(revision),
                None => BuildSource::Other,
            },
            Some(_) => BuildSource::Other,
        };
        let open = self.host.kernels.iter().find_map(|kernel| kernel.module()?.info.is_open());
        kernel_limit(DriverBuild { version: expected, source, open }, self.release())
    }

    /// How far DKMS has got with the driver's modules for this kernel.
    fn dkms_states(&self) -> String {
        let modules = self.host.dkms.iter().map(|module| {
            let state = module.state(self.release());
            format!("{} {}", module.name(), state.as_str())
        });
        let words: Vec<String> = modules.collect();
        match words.is_empty() {
            true => String::new(),
            false => format!(" (DKMS: {})", words.join("; ")),
        }
    }

    /// Builds the module for this kernel, by what built the others.
    fn rebuild(&self) -> Hint {
        let release = self.release();
        let headers = external::apt_install(&external::headers_package(release));
        let headers = (!self.kernel.headers).then_some(headers);
        let Some(expected) = self.expected else { return Hint::commands(headers) };
        let registered = self.host.dkms.iter().find(|module| module.version == expected);
        match registered {
            Some(module) if module.source => {
                let name = module.name();
                let in_place = !self.kernel.modules.as_ref().is_ok_and(Vec::is_empty);
                let install = match module.state(release) {
                    DkmsState::Installed => external::dkms_install_forced(&name, release),
                    _ if in_place => external::dkms_install_forced(&name, release),
                    _ => external::dkms_install(&name, release),
                };
                return Hint::commands(headers.into_iter().chain([install]));
            }
            // its own finding removes it from DKMS first
            Some(module) => {
                let forget = forget(self.host, module);
                return match reinstall_packages(self.host) {
                    Some(reinstall) => {
                        Hint::commands(headers.into_iter().chain([forget, reinstall]))
                    }
                    None => {
                        let hint = build_for_kernel(self.host, expected, release);
                        let build = hint.commands.into_iter();
                        Hint::commands(headers.into_iter().chain([forget]).chain(build))
                    }
                };
            }
            None => {}
        }
        if let Some(reinstall) = reinstall_packages(self.host) {
            return Hint::commands(headers.into_iter().chain([reinstall]));
        }
        let hint = build_for_kernel(self.host, expected, release);
        let commands = headers.into_iter().chain(hint.commands);
        Hint { words: hint.words, commands: commands.collect() }
    }

    /// Boots an older kernel, which the driver supports.
    fn older_kernel(&self, built: Option<&str>) -> Hint {
        match built {
            Some(built) if self.host.pins_kernels => {
                Hint::command(external::proxmox_kernel_pin(built))
                    .because("pin an older kernel, or install a newer driver")
            }
            Some(built) => Hint::words(format!(
                "make {built} the default of the boot loader (GRUB_DEFAULT), or install a newer \
                 driver"
            )),
            None => Hint::words("boot an older kernel, or install a newer driver"),
        }
    }
}

/// The kernel that a module was built for, where it is another one. A link in
/// weak-updates says that such a module fits.
fn built_for_other<'a>(module: &'a KernelModule, release: &str) -> Option<&'a str> {
    let built_for = module.info.built_for()?;
    (built_for != release && !module.path.contains("/weak-updates/")).then_some(built_for)
}
