//! `hook`: what a hookscript of Proxmox VE runs around a start. It takes no lock,
//! because `pct start` holds it, and changes no configuration, because Proxmox VE
//! has read it already.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::cli::{Exit, Failure, Say, fail, interrupted};
use advice::external::pct_start;
use advice::{lxc_gpu_conf, nv_runfile};
use host::{Machine, OpenOutcome, open_in_container};
use nvidia::{NodeClass, classify};
use pve::{Conf, Guest, Opening, root_file_system};
use record::{LxcStyle, RecordWriter, Severity};

use crate::apply::{device_nodes, open_nodes};
use crate::check::finding::{Cause, Finding};
use crate::check::findings;
use crate::cli::{Hook, Options};
use crate::config::access::mentions_gpu;
use crate::config::given_nodes::{ContainerView, can_create};
use crate::host_facts::HostFacts;
use crate::store::Store;

/// The nodes exist when a container has started, but a GPU may have to wake.
const POST_START: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// Runs `hook`. A task's log has both outputs of a hookscript, so that an error is only
/// printed, and is not a record as well.
pub fn run(
    options: &Options,
    hook: &Hook,
    say: &Say,
    _writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    match run_phase(options, hook, say).map_err(anyhow::Error::downcast::<Failure>) {
        Err(Ok(failure)) => {
            say.failure(&failure);
            Ok(failure.exit)
        }
        Err(Err(other)) => Err(other),
        Ok(exit) => Ok(exit),
    }
}

/// Of the phases that Proxmox VE calls (PVE::GuestHelpers), two do something.
fn run_phase(options: &Options, hook: &Hook, say: &Say) -> anyhow::Result<Exit> {
    let phase: fn(&Machine, &Guest, &[u8], &Say) -> anyhow::Result<()> = match hook.phase.as_str() {
        "pre-start" => pre_start,
        "post-start" => post_start,
        "pre-stop" | "post-stop" => return Ok(Exit::Done),
        other => {
            let message = format!("'{other}' is not a phase of a hookscript");
            let hint = "pre-start, post-start, pre-stop or post-stop";
            return Err(fail(Exit::Usage, message).hint(hint).into());
        }
    };
    let machine = options.common.machine()?;
    let guest = match Guest::find(&machine, hook.ctid) {
        Ok(guest) => guest,
        // a VM may use the same hookscript
        Err(_) if machine.exists(&format!("/etc/pve/qemu-server/{}.conf", hook.ctid)) => {
            return Ok(Exit::Done);
        }
        Err(failure) => return Err(failure.into()),
    };
    let bytes = guest.read(&machine)?;
    if !mentions_gpu(&bytes) {
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

/// Checks nodes, rules, GPUs and versions. Missing and stale nodes are created
/// where that is possible.
fn pre_start(machine: &Machine, guest: &Guest, bytes: &[u8], say: &Say) -> anyhow::Result<()> {
    let facts = HostFacts::read(machine, say)?;
    let stored = Store::of(machine).get(guest.ctid);
    let view = ContainerView::of(guest, bytes, Some(&facts), stored.clone())?;
    if !view.has_gpu() {
        return Ok(());
    }
    let made = create_nodes(&view, &facts, &findings(&view), say);
    let view = ContainerView::of(guest, bytes, Some(&facts), stored)?;
    stop_for_findings(&view, &findings(&view), &made.failed, say)?;
    if let Some(path) = made.too_late {
        let message = format!(
            "{}: {path} was created again, but the device rules of this start have its old number",
            guest.target()
        );
        return Err(fail(Exit::System, message)
            .hint("start the container once more (pve-gpu-nodes.service creates the nodes at boot)")
            .run(pct_start(guest.ctid))
            .into());
    }
    require_same_version(machine, guest, &view.conf, &facts)
}

/// What became of the nodes that were missing or stale.
#[derive(Default)]
struct CreatedNodes {
    /// Nodes that cannot be created, and why.
    failed: BTreeMap<String, String>,
    /// A node whose old number the rules for this start have.
    too_late: Option<String>,
}

fn create_nodes(
    view: &ContainerView<'_>,
    facts: &HostFacts<'_>,
    findings: &[Finding],
    say: &Say,
) -> CreatedNodes {
    let mut made = CreatedNodes::default();
    let about_nodes =
        |cause: Cause| matches!(cause, Cause::MissingNode | Cause::Stub | Cause::StaleNode);
    for given in &view.given {
        let path = &given.node.path;
        let wrong = findings.iter().any(|f| about_nodes(f.cause) && f.property == *path);
        let class = classify(path).filter(|class| can_create(facts, Some(*class)));
        if !wrong || class.and_then(|class| facts.numbers(class)).is_none() {
            continue;
        }
        match device_nodes::create(facts, path) {
            Ok(()) => {
                say.note(&format!("created {path}"));
                if given.style == LxcStyle::Dev && !view.unprivileged {
                    made.too_late.get_or_insert_with(|| path.clone());
                }
            }
            Err(why) => {
                made.failed.insert(path.clone(), why);
            }
        }
    }
    made
}

/// Fails for the first cause that keeps the GPU from working; prints the other
/// errors where there is none. `failed` has the nodes that cannot be created.
fn stop_for_findings(
    view: &ContainerView<'_>,
    findings: &[Finding],
    failed: &BTreeMap<String, String>,
    say: &Say,
) -> anyhow::Result<()> {
    let target = view.guest.target();
    let stopping = findings.iter().filter_map(|finding| Some((rank(view, finding)?, finding)));
    let Some((_, finding)) = stopping.min_by_key(|(rank, _)| *rank) else {
        for finding in findings.iter().filter(|f| f.severity == Severity::Error) {
            say.warn(&format!("{target}: {}", finding.reason));
        }
        return Ok(());
    };
    let reason = match failed.get(&finding.property) {
        None => finding.reason.clone(),
        Some(why) => format!("{} cannot be created: {why}", finding.property),
    };
    let mut failure =
        fail(Exit::System, format!("{target}: {reason}")).advise(finding.hint.clone());
    if findings.len() > 1 || (failure.hint.is_none() && failure.commands.is_empty()) {
        failure = failure.run(lxc_gpu_conf::check(view.guest.ctid));
    }
    Err(failure.into())
}

/// Orders the findings that keep the container from starting, or from what it was given
/// the GPU for: causes before their consequences. `None` for the others.
fn rank(view: &ContainerView<'_>, finding: &Finding) -> Option<u32> {
    // a GPU that works is enough where a line says that another is optional
    let other_gpu_opens = view.given.iter().any(|given| {
        matches!(given.class, Some(NodeClass::Gpu(_)))
            && given.target != finding.property
            && given.opening() == Some(&Opening::Opens)
    });
    match finding.cause {
        Cause::OldProxmox => Some(0),
        Cause::OnVfio | Cause::NoGpu if !other_gpu_opens => Some(0),
        _ if finding.prevents_start => Some(1),
        Cause::OtherCard | Cause::MigGone => Some(1),
        // a stale rule is the cause where it leaves a node without one
        Cause::StaleRule => view
            .given
            .iter()
            .any(|given| {
                matches!(given.class, Some(NodeClass::Control | NodeClass::Uvm | NodeClass::Gpu(_)))
                    && matches!(given.opening(), Some(Opening::DeniedByRule(_)))
            })
            .then_some(2),
        Cause::MissingNode
        | Cause::Stub
        | Cause::StaleNode
        | Cause::NoRule
        | Cause::NoAccess
        | Cause::NoEffect => (is_needed(view, finding, other_gpu_opens)).then_some(3),
        Cause::MigPair
        | Cause::MigParent
        | Cause::Incomplete
        | Cause::LibraryMissing
        | Cause::LibraryVersion => Some(4),
        _ => None,
    }
}

/// Whether the container was given its GPU for the node that a finding is about: CUDA
/// needs no DRM nodes, and neither nvidia-modeset nor nvidia-uvm-tools; the right to
/// reconfigure MIG is never created; a directory gives more than what is needed.
fn is_needed(view: &ContainerView<'_>, finding: &Finding, other_gpu_opens: bool) -> bool {
    let mut given = view
        .given
        .iter()
        .filter(|given| given.target == finding.property || given.node.path == finding.property);
    given.any(|given| match given.class {
        // several lines may give it: one that opens is enough
        Some(_)
            if view.start.device(&given.target).is_some_and(|d| d.write == Opening::Opens)
                && matches!(finding.cause, Cause::NoRule | Cause::NoAccess | Cause::NoEffect) =>
        {
            false
        }
        Some(NodeClass::Gpu(_)) => !other_gpu_opens,
        Some(NodeClass::Control | NodeClass::Uvm) => true,
        Some(NodeClass::Cap(cap)) => cap > 2 && view.is_given_alone(given),
        _ => false,
    })
}

/// The kernel module and the container's driver libraries must have exactly the
/// same version. A root file system that cannot be read before the start is not
/// checked.
fn require_same_version(
    machine: &Machine,
    guest: &Guest,
    conf: &Conf,
    facts: &HostFacts<'_>,
) -> anyhow::Result<()> {
    let Some(module) = facts.module_version() else { return Ok(()) };
    let root = root_file_system(machine, guest.ctid, conf);
    let Some(path) = root.path() else { return Ok(()) };
    let Ok(inside) = machine.container_root(path) else { return Ok(()) };
    match nvidia::userspace::loaded_version(&inside) {
        Some(version) if version != module => {
            let message = format!(
                "{} has NVIDIA driver libraries {version}, but the kernel module of the host is \
                 {module}: programs would fail with 'driver/library version mismatch'",
                guest.target()
            );
            Err(fail(Exit::Refused, message)
                .run(nv_runfile::fetch(module))
                .run(nv_runfile::install_in_container(module, guest.ctid))
                .into())
        }
        _ => Ok(()),
    }
}

/// Opens the nodes inside. `pct` holds the container's lock while it waits, so
/// this waits only for what can change: a GPU that wakes, a container that starts.
fn post_start(machine: &Machine, guest: &Guest, _: &[u8], _say: &Say) -> anyhow::Result<()> {
    // no container can be entered with --root
    if !machine.is_host() {
        return Ok(());
    }
    let paths = open_nodes::given_nodes(machine, guest);
    let end = Instant::now() + POST_START;
    loop {
        let opened = pve::init_pid(machine, guest.ctid)
            .and_then(|pid| open_in_container(pid, &paths, POST_START).ok());
        let problem = match &opened {
            None => Some(format!("{} cannot be entered", guest.target())),
            Some(opened) => {
                let mut each = paths.iter().zip(opened);
                let bad = each.find(|(path, opened)| !open_nodes::opens(machine, &path.0, opened));
                bad.map(|((path, _), opened)| {
                    format!("{}: {path} {} inside", guest.target(), opened.words())
                })
            }
        };
        let final_answer = opened.is_some_and(|opened| opened.iter().any(is_final));
        match problem {
            None => return Ok(()),
            Some(message) if final_answer || interrupted() || Instant::now() >= end => {
                let check = lxc_gpu_conf::check(guest.ctid);
                return Err(fail(Exit::System, message).run(check).into());
            }
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Whether waiting cannot change an outcome: rules, modes, numbers and mounts are
/// those of the start.
fn is_final(opened: &OpenOutcome) -> bool {
    const FINAL: [i32; 4] = [libc::EPERM, libc::EACCES, libc::ENXIO, libc::ENOENT];
    match opened {
        OpenOutcome::NoDevice => true,
        OpenOutcome::Failed(errno) => FINAL.contains(errno),
        OpenOutcome::Ok { .. } | OpenOutcome::Blocked => false,
    }
}
