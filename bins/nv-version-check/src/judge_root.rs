//! One root file system's disagreements, from what was read of it.

use std::cmp::Ordering;

use nvidia::{branch, compare_versions};
use record::{Check, Severity};

use crate::cause::{Cause, Finding};
use crate::host_facts::Host;
use crate::judge_more::{cdi, cuda, runtime};
use crate::root::Root;
use crate::truth::Truth;

/// A container or another root file system, with what its configuration says.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// `ct 901`, `rootfs /srv/image`.
    pub subject: String,
    /// Container id.
    pub ctid: Option<u32>,
    /// Its configuration gives it a GPU.
    pub gpu: bool,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
    /// Versions of driver libraries that its configuration mounts into it.
    pub mounted: Vec<String>,
    /// It is asked for by name.
    pub named: bool,
}

impl Place {
    /// The command that puts a version into it.
    fn install(&self, version: &str) -> String {
        match self.ctid {
            Some(ctid) if !self.mounted.is_empty() => format!("lxc-gpu-conf sync {ctid}"),
            Some(ctid) => format!("nv-runfile fetch {version} | nv-runfile install --ct {ctid}"),
            None => format!(
                "put the libraries of {version} there: nv-runfile fetch {version}, nv-runfile \
                 extract, copy"
            ),
        }
    }
}

/// All checks of one root file system.
pub fn checks(place: &Place, root: &Root, host: &Host, truth: &Truth) -> Vec<Check> {
    let mut checks = Vec::new();
    let subject = place.subject.as_str();
    internal(subject, root, truth.version.as_deref(), &mut checks);
    userspace(place, root, host, truth, &mut checks);
    cuda(subject, root, truth.version.as_deref(), &mut checks);
    // what lies in a container is named as the container sees it
    cdi(subject, place.ctid, root, truth.version.as_deref(), &mut checks);
    runtime(place, root, &mut checks);
    checks
}

/// What is wrong with a root file system whatever the host has.
pub fn internal(subject: &str, root: &Root, expected: Option<&str>, checks: &mut Vec<Check>) {
    let version = root.version();
    if let Some((cuda, ml)) = root.torn() {
        checks.push(
            Finding::error(Cause::TwoUserspaces)
                .on(subject, "userspace")
                .found(Some(ml), Some(cuda))
                .because(format!(
                    "programs get libcuda of {cuda} ({}) and NVML of {ml} ({})",
                    root.cuda.as_ref().map_or("", |l| &l.path),
                    root.ml.as_ref().map_or("", |l| &l.path),
                ))
                .hint(remove_one(root)),
        );
    }
    let linked: Vec<_> = root.others.iter().filter(|l| l.linked).collect();
    if let (Some(other), None) = (linked.first(), root.torn()) {
        let finding = match hidden(root, expected) {
            true => Finding::error(Cause::TwoUserspaces),
            false => Finding::warning(Cause::TwoUserspaces),
        };
        checks.push(
            finding
                .on(subject, "second userspace")
                .found(version, other.version.as_deref())
                .because(format!(
                    "{} has links of its own: a program with another search path gets it",
                    other.path
                ))
                .hint(remove_one(root)),
        );
    }
    if let (Some(run), Some(version)) = (&root.run_install, version) {
        let own = root.others.iter().any(|l| l.version.as_ref() == Some(run));
        if run != version && !own {
            checks.push(
                Finding::note(Cause::StaleLeftovers, Severity::Info)
                    .on(subject, "run install")
                    .found(Some(version), Some(run))
                    .because("/var/lib/nvidia/log tells of a .run install whose libraries are gone")
                    .done(),
            );
        }
    }
    let dead: Vec<_> = root.others.iter().filter(|l| !l.linked).collect();
    // without anything that is linked they are all there is, which is said elsewhere
    if let (Some(first), Some(version)) = (dead.first(), version) {
        checks.push(
            Finding::note(Cause::StaleLeftovers, Severity::Info)
                .on(subject, "leftovers")
                .found(Some(version), first.version.as_deref())
                .because(format!(
                    "{} of other versions without a link, such as {}; the next ldconfig may make one",
                    files(dead.len()),
                    first.path
                ))
                .done(),
        );
    }
}

/// The version that is expected is there, and programs get another one.
fn hidden(root: &Root, expected: Option<&str>) -> bool {
    let has = |version: Option<&str>| version.is_some() && version == expected;
    let other = root.others.iter().any(|l| l.linked && has(l.version.as_deref()));
    let cuda = root.torn().is_some_and(|(cuda, _)| has(Some(cuda)));
    !has(root.version()) && (other || cuda)
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

fn remove_one(root: &Root) -> String {
    match (root.packaged, &root.run_install) {
        (true, Some(run)) => format!(
            "two ways of installing are mixed: keep one (apt-get purge libcuda1 libnvidia-ml1, or \
             nvidia-uninstall for {run}), then ldconfig"
        ),
        (true, None) => "apt-get install --reinstall libcuda1 libnvidia-ml1, remove the other \
                         files, then ldconfig"
            .into(),
        (false, _) => "remove the files of the other version, then ldconfig".into(),
    }
}

/// A library whose name does not say its version.
pub fn unversioned(subject: &str, root: &Root, expected: Option<&str>, checks: &mut Vec<Check>) {
    let library = [&root.ml, &root.cuda].into_iter().flatten().find(|l| l.version.is_none());
    if let Some(library) = library {
        checks.push(
            Finding::unknown(Cause::Unversioned)
                .on(subject, "userspace")
                .found(expected, None)
                .because(format!("{} does not say its version in its name", library.path))
                .done(),
        );
    }
}

fn userspace(place: &Place, root: &Root, host: &Host, truth: &Truth, checks: &mut Vec<Check>) {
    let subject = place.subject.as_str();
    let expected = truth.version.as_deref();
    // mounted over empty files: what the configuration names is what it gets
    let mounted = place.mounted.first().map(String::as_str);
    let Some(version) = root.version().or(mounted.filter(|_| root.stubs || root.is_empty())) else {
        return none(place, root, expected, checks);
    };
    let Some(expected) = expected else {
        // no driver on the host: nothing says what would be right
        match place.gpu {
            true => checks.push(
                Finding::error(Cause::NoHostDriver)
                    .on(subject, "userspace")
                    .found(None, Some(version))
                    .because("it is given the GPU and the host has no driver")
                    .hint(format!("nv-runfile fetch {version} | nv-runfile install --host")),
            ),
            false => {
                let mut check = Check::ok(subject, "userspace", version.to_string());
                check.expected = None;
                checks.push(check);
            }
        }
        return;
    };
    if version == expected {
        // libcuda of another version was told of already
        if root.torn().is_none() {
            checks.push(Check::ok(subject, "userspace", version.to_string()));
        }
        return;
    }
    if hidden(root, Some(expected)) {
        // taking the other one away mends it
        return;
    }
    let severity = |cause| match place.gpu || place.named || place.ctid.is_none() {
        true => Finding::error(cause),
        false => Finding::warning(cause),
    };
    let at = root.path().map_or_else(|| "its mounted libraries".into(), str::to_string);
    let idle = if place.gpu || place.ctid.is_none() { "" } else { " (it is given no GPU now)" };
    let (cause, because, hint) = differs(place, root, host, truth, version, expected);
    checks.push(
        severity(cause)
            .on(subject, "userspace")
            .found(Some(expected), Some(version))
            .because(format!("{at}: {because}{idle}"))
            .hint(hint),
    );
}

/// Which of the ways to differ it is.
fn differs(
    place: &Place,
    root: &Root,
    host: &Host,
    truth: &Truth,
    version: &str,
    expected: &str,
) -> (Cause, String, String) {
    let older = compare_versions(version, expected) == Ordering::Less;
    let word = if older { "older" } else { "newer" };
    let install = place.install(expected);
    let in_container = place.ctid.is_some();
    // the guest's package carries another last number on purpose
    if host.vgpu && in_container && (root.gridd || branch(version) == branch(expected)) {
        let because = format!(
            "{version} is a vGPU guest's driver: in a container of a vGPU host only the host \
             package's libraries ({expected}) fit the module"
        );
        return (Cause::VgpuGuestDriver, because, install);
    }
    if truth.pinned && host.loaded.as_deref() == Some(version) {
        let because = format!("it has what the host has loaded, and {expected} is pinned");
        return (Cause::PinNotFollowed, because, install);
    }
    let mut because = format!("{word} than {}", truth.by);
    let mut hint = install;
    // an upgraded host that was not rebooted makes the upgraded containers wrong
    let pending = host.on_disk().filter(|d| !truth.pinned && host.loaded.as_deref() != Some(*d));
    if let Some(pending) = pending {
        if version == pending {
            because += ", and what the host will load after a reboot";
            hint = format!("reboot the host: it then loads {pending}");
        } else {
            hint = format!("{} (what the host loads after the reboot)", place.install(pending));
        }
    }
    let cause = if older { Cause::ContainerBehind } else { Cause::ContainerAhead };
    (cause, because, hint)
}

/// There is nothing that the loader would take.
fn none(place: &Place, root: &Root, expected: Option<&str>, checks: &mut Vec<Check>) {
    let subject = place.subject.as_str();
    // nobody asked: a container may not make every night's run fail
    if !place.gpu && !place.named {
        return;
    }
    if root.cuda.is_some() || root.ml.is_some() {
        if root.cuda.as_ref().is_none_or(|l| !l.compat) || root.ml.is_some() {
            unversioned(subject, root, expected, checks);
            return;
        }
    } else if let Some(why) = root.unreadable.first() {
        checks.push(
            Finding::unknown(Cause::Unreadable)
                .on(subject, "userspace")
                .found(expected, None)
                .because(why.clone())
                .done(),
        );
        return;
    }
    let leftover = root.others.first();
    let because = match leftover {
        Some(library) => format!("{} is there and no link leads to it", library.path),
        None => "it has no libraries of the driver".into(),
    };
    let hint = match (leftover, expected) {
        (Some(library), Some(expected)) if library.version.as_deref() == Some(expected) => {
            match place.ctid {
                Some(ctid) => format!("pct exec {ctid} -- ldconfig"),
                None => "ldconfig -r on it".into(),
            }
        }
        (_, Some(expected)) => place.install(expected),
        (_, None) => place.install("VERSION"),
    };
    // a root file system that is looked at by name and has no GPU is no drift
    let finding = match place.gpu || expected.is_some() && place.ctid.is_none() {
        true => Finding::error(Cause::NothingInstalled),
        false => Finding::note(Cause::NothingInstalled, Severity::Info),
    };
    checks.push(finding.on(subject, "userspace").found(expected, None).because(because).hint(hint));
}
