//! The driver module that each installed kernel has on disk. Only the running
//! and the next-boot kernel must have one.

use advice::external;
use nvidia::{KernelLimit, kernel_limit};
use record::Hint;

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::install_on_host;
use crate::collect::dkms::DkmsState;
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
        let module = match &self.kernel.module {
            Err(why) => {
                let finding = Finding::unknown(Cause::Unreadable).on(&self.subject, "module");
                return Some(finding.found(self.expected, None).because(why.clone()));
            }
            Ok(module) => module.as_ref(),
        };
        let version = module.and_then(|module| module.info.version.as_deref());
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
            if let Some(limit) = kernel_limit(expected, self.release()) {
                let why = format!(
                    "{has}; {expected} does not build for {} and newer ({}){dkms}",
                    limit.first_kernel, limit.source
                );
                return Finding::error(Cause::KernelUnsupported)
                    .on(&self.subject, "module")
                    .found(Some(expected), version)
                    .because(why)
                    .hint(older_kernel(built, &limit));
            }
        }
        let (cause, also) = match built {
            Some(built) => (Cause::ModuleOldKernelOnly, format!("; {built} has it")),
            None if version.is_some() => (Cause::ModuleOldKernelOnly, String::new()),
            None => (Cause::ModuleMissing, String::new()),
        };
        Finding::error(cause)
            .on(&self.subject, "module")
            .found(self.expected, version)
            .because(format!("{has}{also}{dkms}"))
            .hint(self.rebuild())
    }

    /// How far DKMS has got with the driver's modules for this kernel.
    fn dkms_states(&self) -> String {
        let modules = self.host.dkms.iter().map(|module| {
            let state = module.state(self.release());
            let log = module.failed_log.as_ref().filter(|_| state < DkmsState::Built);
            let log = log.map_or_else(String::new, |log| format!(", see {log}"));
            format!("{} {}{log}", module.name(), state.as_str())
        });
        let words: Vec<String> = modules.collect();
        match words.is_empty() {
            true => String::new(),
            false => format!(" (DKMS: {})", words.join("; ")),
        }
    }

    /// Builds the module for this kernel.
    fn rebuild(&self) -> Hint {
        let release = self.release();
        let headers = external::apt_install(&external::headers_package(release));
        let registered =
            self.host.dkms.iter().find(|module| self.expected == Some(&module.version));
        match (registered, self.expected) {
            (Some(module), _) => {
                Hint::commands([headers, external::dkms_install(&module.name(), release)])
            }
            (None, Some(expected)) => {
                let install = install_on_host(expected).commands;
                Hint::commands([headers].into_iter().chain(install))
            }
            (None, None) => Hint::command(headers),
        }
    }
}

/// Boots an older kernel, which the driver supports.
fn older_kernel(built: Option<&str>, limit: &KernelLimit) -> Hint {
    match built {
        Some(built) => Hint::command(external::proxmox_kernel_pin(built))
            .because("pin an older kernel, or install a newer driver"),
        None => Hint::words(format!(
            "boot a kernel older than {}, or install a newer driver",
            limit.first_kernel
        )),
    }
}

/// The kernel that a module was built for, where it is another one. A link in
/// weak-updates says that such a module fits.
fn built_for_other<'a>(module: &'a KernelModule, release: &str) -> Option<&'a str> {
    let built_for = module.info.built_for()?;
    (built_for != release && !module.path.contains("/weak-updates/")).then_some(built_for)
}
