//! Objections from who uses a function.

use advice::external::qm_shutdown;
use advice::lxc_gpu_conf::{RemoveOptions, remove};
use pci::Function;
use record::Hint;
use usage::{Usage, User, UserKind};

use crate::force::ForceKind;
use crate::objections::{Judge, ObjectionKind, Objections, Retry, TakenWhen};

/// The kind of `--force` that overrides a user.
pub(crate) fn soft_kind(kind: UserKind) -> Option<ForceKind> {
    match kind {
        UserKind::Network => Some(ForceKind::Network),
        UserKind::Display => Some(ForceKind::Display),
        UserKind::Container { .. } => Some(ForceKind::Container),
        _ => None,
    }
}

/// Whether nothing overrides this use.
pub(crate) fn is_hard(usage: &Usage) -> bool {
    let stopped = |user: &&User| matches!(user.kind, UserKind::Vm { is_running: false, .. });
    let hard = |user: &User| soft_kind(user.kind).is_none();
    !usage.unknown.is_empty() || usage.users.iter().filter(|user| !stopped(user)).any(hard)
}

/// Adds an objection for each user. What is unknown about one function is
/// mostly unknown about the next, and said once.
pub(crate) fn add_users(
    judge: &Judge<'_>,
    usage: &Usage,
    function: &Function,
    objections: &mut Objections<'_>,
) {
    for user in &usage.users {
        if let Some((kind, why, hint)) = objection(judge, user, function) {
            objections.add(kind, why, hint);
        }
    }
    for what in &usage.unknown {
        let why = format!("may be in use; unknown: {what}");
        if objections.found.iter().any(|o| o.why == why) {
            continue;
        }
        let hint = Hint::words(match judge.users.can_ask_the_kernel() {
            true => "make readable what is named, then run the command again",
            false => "run it as root and without --root: the kernel knows what is in use",
        });
        objections.add(ObjectionKind::Unknown, why, hint);
    }
}

fn objection(
    judge: &Judge<'_>,
    user: &User,
    function: &Function,
) -> Option<(ObjectionKind, String, Hint)> {
    let now = judge.when != TakenWhen::AtBoot;
    let why = format!("{} {}", user.name, user.what);
    let stop_vm = |vmid: Option<u32>| match vmid {
        Some(vmid) => Hint::command(qm_shutdown(vmid)),
        None => Hint::words("stop the VM first"),
    };
    Some(match user.kind {
        UserKind::Disk => {
            let hint = Hint::words("unmount it, or remove it from what uses it");
            (ObjectionKind::BlockDevice, why, hint)
        }
        UserKind::Network => (ObjectionKind::Network, why, Hint::default()),
        UserKind::Display => (ObjectionKind::Display, format!("the {why}"), Hint::default()),
        UserKind::Container { ctid, is_running } => {
            let running = if is_running && now { "running " } else { "" };
            let gpus = vec![function.address.to_string()];
            let command = remove(ctid, &RemoveOptions { gpus, ..Default::default() });
            let hint = Hint::command(command).because("--force container leaves it there");
            (ObjectionKind::Container, format!("{running}{why}"), hint)
        }
        UserKind::Process { is_persistenced: true, .. } if now => {
            if judge.when == TakenWhen::NowWithoutPersistenced {
                return None;
            }
            let command = (judge.retry)(Retry::StopPersistenced);
            (ObjectionKind::OpenNode, why, Hint::command(command))
        }
        UserKind::Process { vm, .. } if now => {
            let hint = match vm {
                Some(_) => stop_vm(vm),
                None => Hint::words("end that process first"),
            };
            (ObjectionKind::OpenNode, why, hint)
        }
        UserKind::Vm { vmid, is_running: true } if now => {
            (ObjectionKind::RunningVm, format!("running {why}"), stop_vm(Some(vmid)))
        }
        UserKind::MediatedDevice { vmid } if now => {
            let hint = match vmid {
                Some(_) => stop_vm(vmid),
                None => Hint::words("stop the VM, and remove the mediated device"),
            };
            (ObjectionKind::MediatedDevice, why, hint)
        }
        UserKind::KernelModule if now => {
            let hint = Hint::command(advice::external::unload_nvidia_drm())
                .because("nvidia_drm releases its GPUs when it is unloaded");
            (ObjectionKind::DriverBusy, why, hint)
        }
        UserKind::Removal { .. } => {
            let hint = "wait until the kernel has completed it, which needs the last user of the \
                        function to end";
            (ObjectionKind::Removal, why, Hint::words(hint))
        }
        UserKind::Process { .. }
        | UserKind::Vm { .. }
        | UserKind::MediatedDevice { .. }
        | UserKind::KernelModule => {
            return None;
        }
    })
}
