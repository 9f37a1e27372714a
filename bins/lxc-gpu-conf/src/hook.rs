//! `hook`: what Proxmox VE's hookscript calls around a start. It takes no lock,
//! since pct start holds it all the time, and changes no configuration, since
//! that of the start at hand is made already.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::{Machine, OpenOutcome, open_in_container};
use pve::{Conf, Guest, root_file_system};
use record::{LxcStyle, RecordWriter, Severity};

use crate::cli::{Hook, Options};
use crate::facts::Facts;
use crate::finding::{Cause, Finding};
use crate::nodes;
use crate::restart;
use crate::view::{NO_START, View, concerns_gpu};

/// Devices are there when a container has started; a card may have to wake.
const POST_START: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// The verb. Other phases than the two are none of our business.
pub fn run(
    options: &Options,
    hook: &Hook,
    say: &Say,
    _sink: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let phase: fn(&Machine, &Guest, &[u8], &Say) -> anyhow::Result<()> = match hook.phase.as_str() {
        "pre-start" => pre_start,
        "post-start" => post_start,
        _ => return Ok(Exit::Done),
    };
    let machine = options.common.machine()?;
    let guest = match Guest::find(&machine, hook.ctid) {
        Ok(guest) => guest,
        // the same script may be named by a VM
        Err(_) if machine.exists(&format!("/etc/pve/qemu-server/{}.conf", hook.ctid)) => {
            return Ok(Exit::Done);
        }
        Err(failure) => return Err(failure.into()),
    };
    let bytes = guest.read(&machine)?;
    if !concerns_gpu(&bytes) {
        return Ok(Exit::Done);
    }
    match phase(&machine, &guest, &bytes, say) {
        Err(error) if hook.warn_only => match error.downcast::<Failure>() {
            Ok(failure) => {
                say.warn(&failure.message);
                Ok(Exit::Done)
            }
            Err(other) => Err(other),
        },
        Err(error) => Err(error),
        Ok(()) => Ok(Exit::Done),
    }
}

/// Nodes there, rules and cards right, versions equal; nodes that are missing or
/// stale are made where that is possible.
fn pre_start(machine: &Machine, guest: &Guest, bytes: &[u8], say: &Say) -> anyhow::Result<()> {
    let facts = Facts::read(machine, say)?;
    let view = View::of(guest, bytes, Some(&facts))?;
    if !view.has_gpu() {
        return Ok(());
    }
    let mut failed = BTreeMap::new();
    let nodes = |cause: Cause| matches!(cause, Cause::MissingNode | Cause::Stub | Cause::StaleNode);
    let mut late = None;
    if view.findings.iter().any(|finding| nodes(finding.cause)) {
        for granted in &view.granted {
            let wrong = view
                .findings
                .iter()
                .any(|finding| nodes(finding.cause) && finding.property == granted.node.path);
            let class = granted.class.filter(|_| wrong);
            let Some((class, numbers)) = class.and_then(|c| Some((c, facts.numbers(c)?))) else {
                continue;
            };
            let there = match class {
                nvidia::NodeClass::Gpu(minor) => facts.by_minor(minor).is_some(),
                _ => true,
            };
            if there {
                match nodes::make(&facts, class, &granted.node.path, numbers) {
                    Ok(()) => {
                        say.note(&format!("made {}", granted.node.path));
                        // Proxmox VE's rules for this start have the old number already
                        if granted.style == LxcStyle::Dev && !view.unprivileged {
                            late.get_or_insert_with(|| granted.node.path.clone());
                        }
                    }
                    Err(why) => {
                        failed.insert(granted.node.path.clone(), why);
                    }
                }
            }
        }
    }
    let view = View::of(guest, bytes, Some(&facts))?;
    judge(&view, &failed, say)?;
    if let Some(path) = late {
        let target = guest.target();
        let message = format!(
            "{target}: {path} was made anew, and the device rules of this start are for its old \
             number"
        );
        let hint = format!(
            "'pct start {}' once more; pve-gpu-nodes.service makes nodes before",
            guest.ctid
        );
        return Err(fail(Exit::System, message).hint(hint).into());
    }
    versions(machine, guest, &view.conf, &facts)
}

/// Fails for what keeps the GPU from working, with the finding that the others
/// follow from; where nothing does, says the rest. `failed`: nodes that could
/// not be made, and why.
fn judge(view: &View<'_>, failed: &BTreeMap<String, String>, say: &Say) -> anyhow::Result<()> {
    let stopping = view.findings.iter().filter_map(|finding| Some((rank(finding)?, finding)));
    let Some((_, finding)) = stopping.min_by_key(|(rank, _)| *rank) else {
        for finding in view.findings.iter().filter(|f| f.severity == Severity::Error) {
            say.warn(&format!("{}: {}", view.guest.target(), finding.reason));
        }
        return Ok(());
    };
    let reason = match failed.get(&finding.property) {
        None => finding.reason.clone(),
        Some(why) => format!("{} cannot be made: {why}", finding.property),
    };
    let failure = fail(Exit::System, format!("{}: {reason}", view.guest.target()));
    let rest = view.findings.len() - 1;
    let check = format!("'lxc-gpu-conf check {}'", view.guest.ctid);
    Err(match (&finding.hint, rest) {
        (Some(hint), 0) => failure.hint(hint.clone()),
        (Some(hint), _) => failure.hint(format!("{hint} ({check} says more)")),
        (None, _) => failure.hint(check),
    }
    .into())
}

/// Whether a finding keeps the GPU from working; what comes first is the cause of
/// what comes after.
fn rank(finding: &Finding) -> Option<u32> {
    let optional = |path: &str| matches!(path, "/dev/nvidia-uvm-tools" | "/dev/nvidia-modeset");
    match finding.cause {
        Cause::OldProxmox | Cause::OnVfio | Cause::NoGpu => Some(0),
        Cause::OtherCard | Cause::MigGone => Some(1),
        Cause::WipedRules | Cause::GivenTwice | Cause::StaleRule => Some(2),
        Cause::MissingNode | Cause::Stub | Cause::StaleNode | Cause::NoRule => {
            // dev[n] has to be there, whatever it is for
            let fatal = finding.cause == Cause::MissingNode && finding.reason.ends_with(NO_START);
            (fatal || !optional(&finding.property)).then_some(3)
        }
        Cause::NoAccess => {
            (finding.severity == Severity::Error && !optional(&finding.property)).then_some(3)
        }
        Cause::MigPair
        | Cause::MigParent
        | Cause::Incomplete
        | Cause::LibraryMissing
        | Cause::LibraryVersion => Some(4),
        _ => None,
    }
}

/// The kernel module and the container's libraries must be of one version, to
/// the last number. What cannot be read before the start is not judged.
fn versions(
    machine: &Machine,
    guest: &Guest,
    conf: &Conf,
    facts: &Facts<'_>,
) -> anyhow::Result<()> {
    let Some(module) = facts.module_version() else { return Ok(()) };
    let root = root_file_system(machine, guest.ctid, conf);
    let Some(path) = root.path() else { return Ok(()) };
    let Ok(inside) = machine.container_root(path) else { return Ok(()) };
    match nvidia::userspace::loaded_version(&inside) {
        Some(version) if version != module => {
            let message = format!(
                "{} has NVIDIA's userspace {version}, the host's kernel module is {module}: \
                 programs would fail with 'driver/library version mismatch'",
                guest.target()
            );
            let hint =
                format!("nv-runfile fetch {module} | nv-runfile install --ct {}", guest.ctid);
            Err(fail(Exit::Refused, message).hint(hint).into())
        }
        _ => Ok(()),
    }
}

/// The nodes open inside.
fn post_start(machine: &Machine, guest: &Guest, _: &[u8], _say: &Say) -> anyhow::Result<()> {
    // nothing can be entered below --root
    if !machine.is_host() {
        return Ok(());
    }
    let paths = restart::given(machine, guest);
    let end = Instant::now() + POST_START;
    loop {
        let opened = pve::init_pid(machine, guest.ctid)
            .and_then(|pid| open_in_container(pid, &paths, POST_START).ok());
        let bad = match &opened {
            None => Some(format!("{} cannot be entered", guest.target())),
            Some(opened) => {
                let mut each = paths.iter().zip(opened);
                let bad = each.find(|(_, opened)| !matches!(opened, OpenOutcome::Ok { .. }));
                bad.map(|((path, _), opened)| {
                    format!("{}: {path} {} inside", guest.target(), opened.words())
                })
            }
        };
        // pct holds the container's lock meanwhile, so that only what waiting can
        // change is waited for: a card that wakes, a container that comes up
        let decided = opened.is_some_and(|opened| opened.iter().any(is_decided));
        match bad {
            None => return Ok(()),
            Some(message) if decided || interrupted() || Instant::now() >= end => {
                return Err(fail(Exit::System, message)
                    .hint(format!("lxc-gpu-conf check {}", guest.ctid))
                    .into());
            }
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Rules, modes, numbers and what is mounted are those that it started with.
fn is_decided(opened: &OpenOutcome) -> bool {
    const SETTLED: [i32; 4] = [libc::EPERM, libc::EACCES, libc::ENXIO, libc::ENOENT];
    match opened {
        OpenOutcome::NoDevice => true,
        OpenOutcome::Failed(errno) => SETTLED.contains(errno),
        OpenOutcome::Ok { .. } | OpenOutcome::Blocked => false,
    }
}
