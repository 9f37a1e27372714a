//! One root file system beside the host's: its libraries against the baseline.

use std::cmp::Ordering;

use advice::{external, nv_version_check};
use nvidia::{branch, compare_versions};
use record::{Hint, Severity};

use crate::baseline::Baseline;
use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::check::hints::{install_in, install_on_host, ldconfig_in};
use crate::check::{cdi, container_engine, cuda, libraries};
use crate::collect::checked_root::CheckedRoot;
use crate::collect::host_facts::HostFacts;
use crate::collect::root_facts::RootFacts;
use crate::collect::roots::UnreadableRoot;

/// All findings about one root file system.
pub fn findings(
    root: &CheckedRoot,
    facts: &RootFacts,
    host: &HostFacts,
    baseline: &Baseline,
) -> Vec<Finding> {
    let expected = baseline.version.as_deref();
    let mut findings = libraries::findings(&root.subject, Some(root), facts, host, expected);
    findings.extend(packages(root, facts));
    findings.extend(RootView { root, facts, host, baseline }.userspace());
    findings.extend(cuda::findings(&root.subject, facts, host, expected));
    findings.extend(cdi::findings(root, facts, expected));
    findings.extend(container_engine::finding(root, facts));
    findings
}

/// The finding that a root file system could not be read. Only where it was
/// named, or should be readable, does that fail the run; `None`: --all-cts found
/// a stopped container without a GPU, which needs no driver.
pub fn unreadable(root: &CheckedRoot, unreadable: &UnreadableRoot) -> Option<Finding> {
    let quiet = unreadable.stopped && !root.named;
    if quiet && !root.gpu {
        return None;
    }
    let finding = match quiet {
        true => Finding::unknown_aside(Cause::Unreadable).severity(Severity::Info),
        false => Finding::unknown(Cause::Unreadable),
    };
    let finding = finding.on(&root.subject, "userspace").because(unreadable.why.clone());
    Some(match root.ctid.filter(|_| unreadable.stopped) {
        Some(ctid) => finding.hint(Hint::commands([
            external::pct_mount(ctid),
            nv_version_check::check_container(ctid),
            external::pct_unmount(ctid),
        ])),
        None => finding,
    })
}

/// Packages of the driver that are not configured: apt in the container does
/// nothing else before they are.
fn packages(root: &CheckedRoot, facts: &RootFacts) -> Option<Finding> {
    let finding = libraries::incomplete(&root.subject, facts)?;
    let Some(ctid) = root.ctid else { return Some(finding) };
    let start = (!root.running).then(|| external::pct_start(ctid));
    let commands = [external::dpkg_configure(), external::apt_fix_broken()];
    let inside = commands.into_iter().map(|command| external::pct_exec(ctid, command));
    Some(finding.hint(Hint::commands(start.into_iter().chain(inside))))
}

/// A root file system beside all that it is compared with.
struct RootView<'a> {
    root: &'a CheckedRoot,
    facts: &'a RootFacts,
    host: &'a HostFacts,
    baseline: &'a Baseline,
}

impl RootView<'_> {
    fn subject(&self) -> &str {
        &self.root.subject
    }

    fn userspace(&self) -> Option<Finding> {
        let own = &self.facts.libraries;
        // mounted over empty files: the configuration's libraries are what programs load
        let mounted = self.root.mounted.first().map(String::as_str);
        let mounted = mounted.filter(|_| own.stubs || own.is_empty());
        let Some(version) = own.version().or(mounted) else { return self.no_libraries() };
        let Some(expected) = self.baseline.version.as_deref() else {
            return Some(self.without_host_driver(version));
        };
        if version == expected {
            // a libcuda of another version has a finding of its own
            let torn = own.torn().is_some();
            return (!torn).then(|| Finding::ok(self.subject(), "userspace", Some(version)));
        }
        // removing the other version repairs it, and that finding exists
        if libraries::hides_expected(self.facts, Some(expected)) {
            return None;
        }
        Some(self.mismatch(version, expected))
    }

    /// Nothing on the host says which version would be right.
    fn without_host_driver(&self, version: &str) -> Finding {
        match self.root.gpu {
            true => Finding::error(Cause::NoHostDriver)
                .on(self.subject(), "userspace")
                .found(None, Some(version))
                .because("it is given a GPU, but the host has no driver")
                .hint(install_on_host(self.host, version)),
            false => Finding::ok(self.subject(), "userspace", None).found(None, Some(version)),
        }
    }

    fn mismatch(&self, version: &str, expected: &str) -> Finding {
        let needed = self.root.gpu || self.root.ctid.is_none();
        let (cause, because, hint) = self.difference(version, expected);
        let finding = match needed || self.root.named {
            true => Finding::error(cause),
            false => Finding::warning(cause),
        };
        let at = self.facts.libraries.path().unwrap_or("its mounted libraries");
        let idle = if needed { "" } else { " (it is not given a GPU)" };
        finding
            .on(self.subject(), "userspace")
            .found(Some(expected), Some(version))
            .because(format!("{at}: {because}{idle}"))
            .hint(hint)
    }

    /// Which of the ways to differ it is.
    fn difference(&self, version: &str, expected: &str) -> (Cause, String, Hint) {
        let host = self.host;
        let install = install_in(self.root, self.facts, host, expected);
        // the guest's package has another last number on purpose
        let guest = self.facts.gridd || branch(version) == branch(expected);
        if host.vgpu && self.root.ctid.is_some() && guest {
            let because = format!(
                "{version} is a vGPU guest's driver: in a container of a vGPU host only the host \
                 package's libraries ({expected}) fit the module"
            );
            return (Cause::VgpuGuestDriver, because, install);
        }
        if self.baseline.pinned && host.loaded.as_deref() == Some(version) {
            let because = format!("it has the version that the host has loaded, not {expected}");
            return (Cause::PinNotFollowed, because, install);
        }
        let (cause, word) = match compare_versions(version, expected) {
            Ordering::Less => (Cause::ContainerBehind, "older"),
            _ => (Cause::ContainerAhead, "newer"),
        };
        let because = format!("{word} than {}", self.baseline.by);
        // a host that was upgraded and not rebooted is the fault, not a container that
        // was upgraded with it
        let pending = host.mended_by_reboot().filter(|_| !self.baseline.pinned);
        match pending {
            Some(pending) if version == pending => (
                cause,
                format!("{because}, and the version that the host loads after a reboot"),
                Hint::words(format!("reboot the host, which then loads {pending}")),
            ),
            Some(pending) if pending != expected => {
                let hint = install_in(self.root, self.facts, host, pending);
                (cause, because, hint)
            }
            _ => (cause, because, install),
        }
    }

    /// The dynamic linker finds no library with a version.
    fn no_libraries(&self) -> Option<Finding> {
        // a container that needs no driver must not fail every night's run
        if !self.root.gpu && !self.root.named {
            return None;
        }
        let own = &self.facts.libraries;
        let expected = self.baseline.version.as_deref();
        let only_compat = own.ml.is_none() && own.cuda.as_ref().is_some_and(|l| l.compat);
        if own.ml.is_some() || own.cuda.is_some() {
            if !only_compat {
                return libraries::unversioned(self.subject(), own, expected);
            }
        } else if let Some(why) = own.unreadable.first() {
            let finding = Finding::unknown(Cause::Unreadable).on(self.subject(), "userspace");
            return Some(finding.found(expected, None).because(why.clone()));
        }
        let leftover = own.others.first();
        let because = match leftover {
            Some(library) => format!("{} exists, but no link leads to it", library.path),
            None => "it has no driver libraries".into(),
        };
        let usable =
            leftover.is_some_and(|l| expected.is_some() && l.version.as_deref() == expected);
        let hint = match expected {
            Some(_) if usable => ldconfig_in(self.root),
            Some(expected) => install_in(self.root, self.facts, self.host, expected),
            None => Hint::words("install the driver on the host first, then the same version here"),
        };
        // a root file system that was only named, without a driver on the host, needs none
        let needed = self.root.gpu || expected.is_some() && self.root.ctid.is_none();
        let finding = match needed {
            true => Finding::error(Cause::NothingInstalled),
            false => Finding::note(Cause::NothingInstalled, Severity::Info),
        };
        let finding = finding.on(self.subject(), "userspace").found(expected, None);
        Some(finding.because(because).hint(hint))
    }
}
