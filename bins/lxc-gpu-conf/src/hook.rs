//! `hook`: what Proxmox VE's hookscript calls around a start. It takes no lock,
//! since pct start holds it all the time, and changes no configuration, since
//! that of the start at hand is made already.

use std::time::{Duration, Instant};

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::{Machine, Opened, open_inside};
use pve::{Conf, Guest, root_file_system};
use record::Sink;

use crate::cli::{Hook, Options};
use crate::facts::Facts;
use crate::finding::Cause;
use crate::nodes;
use crate::restart;
use crate::view::{View, concerns_gpu};

/// Devices are there when a container has started; a card may have to wake.
const POST_START: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// The verb. Other phases than the two are none of our business.
pub fn run(options: &Options, hook: &Hook, say: &Say, _sink: &mut Sink) -> anyhow::Result<Exit> {
    let phase: fn(&Machine, &Guest, &[u8], &Say) -> anyhow::Result<()> = match hook.phase.as_str() {
        "pre-start" => pre_start,
        "post-start" => post_start,
        _ => return Ok(Exit::Done),
    };
    let machine = options.common.machine()?;
    let guest = match Guest::find(&machine, hook.vmid) {
        Ok(guest) => guest,
        // the same script may be named by a VM
        Err(_) if machine.exists(&format!("/etc/pve/qemu-server/{}.conf", hook.vmid)) => {
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
    let nodes = |cause: Cause| matches!(cause, Cause::MissingNode | Cause::Stub | Cause::StaleNode);
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
                    Ok(()) => say.note(&format!("made {}", granted.node.path)),
                    Err(why) => say.warn(&format!("{}: {why}", granted.node.path)),
                }
            }
        }
    }
    let view = View::of(guest, bytes, Some(&facts))?;
    judge(&view, say)?;
    versions(machine, guest, &view.conf, &facts)
}

/// Fails for what keeps the GPU from working, and says the rest.
fn judge(view: &View<'_>, say: &Say) -> anyhow::Result<()> {
    let optional =
        |property: &str| matches!(property, "/dev/nvidia-uvm-tools" | "/dev/nvidia-modeset");
    let mut fatal = None;
    for finding in &view.findings {
        let stops = match finding.cause {
            Cause::MissingNode | Cause::Stub | Cause::StaleNode | Cause::NoRule => {
                !optional(&finding.property)
            }
            Cause::StaleRule
            | Cause::WipedRules
            | Cause::GivenTwice
            | Cause::MigGone
            | Cause::MigPair
            | Cause::MigParent
            | Cause::OtherCard
            | Cause::OnVfio
            | Cause::NoGpu
            | Cause::Incomplete
            | Cause::LibraryMissing
            | Cause::LibraryVersion
            | Cause::OldProxmox => true,
            _ => false,
        };
        if stops && fatal.is_none() {
            fatal = Some(finding);
        } else if finding.severity == record::Severity::Error {
            say.warn(&format!("{}: {}", view.guest.target(), finding.reason));
        }
    }
    match fatal {
        None => Ok(()),
        Some(finding) => {
            let message = format!("{}: {}", view.guest.target(), finding.reason);
            let failure = fail(Exit::System, message);
            Err(match &finding.hint {
                Some(hint) => failure.hint(hint.clone()),
                None => failure,
            }
            .into())
        }
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
            let hint = format!("nv-runfile install --ct {} {module}", guest.ctid);
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
            .and_then(|pid| open_inside(pid, &paths, POST_START).ok());
        let bad = match &opened {
            None => Some(format!("{} cannot be entered", guest.target())),
            Some(opened) => {
                let mut each = paths.iter().zip(opened);
                let bad = each.find(|(_, opened)| !matches!(opened, Opened::Ok { .. }));
                bad.map(|((path, _), opened)| {
                    format!("{}: {path} {} inside", guest.target(), opened.words())
                })
            }
        };
        // what is decided once does not change by waiting
        let decided = opened.is_some_and(|opened| {
            opened.iter().any(|o| matches!(o, Opened::Failed(libc::EPERM | libc::EACCES)))
        });
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
