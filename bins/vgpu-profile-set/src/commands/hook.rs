//! `hook`: what a hookscript of Proxmox VE runs around the start of a VM. Before the start
//! it sets the profiles of functions that the VM keeps (`driver=keep`); after the stop it
//! looks what Proxmox VE has left of them. It prints no records.

use std::collections::BTreeSet;

use ::cli::{Exit, Failure, fail};
use pve::HostPciMode;
use record::{Address, Hint};

use crate::cli::HookOptions;
use crate::input::{self, Input, InputChoice, RequestedProfile, RequestedVgpus};
use crate::observe::model::{Gpu, ReadDepth, VgpuFunction};
use crate::plan::model::{PlanRules, ProfileChange, ProfilePlan, ProfileStep};
use crate::session::Session;

const FILE: &str = "/etc/vgpu-profiles";
/// Longer files are refused.
const MOST_BYTES: usize = 16 << 20;

/// The verb. Phases other than the two do nothing.
pub fn run(options: &HookOptions, mut session: Session<'_>) -> anyhow::Result<Exit> {
    let result = match options.phase.as_str() {
        "pre-start" => pre_start(options, &mut session),
        "post-stop" => post_stop(options, &session),
        _ => Ok(()),
    };
    match result {
        Err(failure) if options.warn_only => {
            session.say.warn(&failure.message);
            Ok(Exit::Done)
        }
        Err(failure) => Err(failure.into()),
        Ok(()) => Ok(Exit::Done),
    }
}

/// A function that a VM is given, and by which key of its configuration.
struct Given<'a> {
    function: &'a VgpuFunction,
    key: &'a str,
    /// Its place among the alternatives of that key.
    place: usize,
    mode: HostPciMode,
}

/// The virtual functions that a VM is given. Errors: its configuration cannot be read.
fn given(gpus: &[Gpu], vm: u32) -> Result<Vec<Given<'_>>, Failure> {
    let mut all = Vec::new();
    for gpu in gpus {
        for function in gpu.functions.iter().filter(|function| function.address != gpu.address) {
            if let Some(why) = &function.vms_unknown {
                return Err(fail(Exit::System, format!("VM {vm}: {why}")));
            }
            for of in function.vms.iter().filter(|of| of.vm == vm) {
                let ids = &of.hostpci.ids;
                let place = ids.iter().position(|id| id.names(function.address));
                all.push(Given {
                    function,
                    key: &of.hostpci.key,
                    place: place.unwrap_or(0),
                    mode: of.hostpci.mode(),
                });
            }
        }
    }
    all.sort_by_key(|given| (given.key, given.place));
    Ok(all)
}

fn pre_start(options: &HookOptions, session: &mut Session<'_>) -> Result<(), Failure> {
    let mut gpus = session.observe(ReadDepth::Plan)?;
    let of_vm = given(&gpus, options.vmid)?;
    let addresses = |mode: HostPciMode| -> BTreeSet<Address> {
        of_vm.iter().filter(|of| of.mode == mode).map(|of| of.function.address).collect()
    };
    let (keep, vfio) = (addresses(HostPciMode::Keep), addresses(HostPciMode::Vfio));
    if keep.is_empty() && vfio.is_empty() {
        return Ok(());
    }
    let _lock = session.lock()?;
    let requested = requested(session, options, &keep, &vfio)?;
    let rules = PlanRules { heterogeneous: false, skip_in_use: true };
    let plan = session.plan_each_on(&mut gpus, &requested, rules);
    let notes = plan.notes.iter().filter(|note| note.warns);
    notes.for_each(|note| session.say.warn(&note.to_string()));
    let errors = set(session, &plan, &keep);
    let gpus = session.observe(ReadDepth::Plan)?;
    check_each_key(options.vmid, &given(&gpus, options.vmid)?, &gpus, &requested, &plan, &errors)
}

/// The lines of the file for the VM's functions.
fn requested(
    session: &Session<'_>,
    options: &HookOptions,
    keep: &BTreeSet<Address>,
    vfio: &BTreeSet<Address>,
) -> Result<Input, Failure> {
    let (bytes, from) = match &options.file {
        Some(path) => (input::read_file(path)?, path.display().to_string()),
        None => match session.machine.read(FILE, MOST_BYTES) {
            Ok(bytes) => (bytes, FILE.to_string()),
            Err(error) if error.is_not_found() => return Ok(Input::default()),
            Err(error) => return Err(fail(Exit::System, error.to_string())),
        },
    };
    let node = session.node(None);
    let choice = InputChoice { config: options.config.as_deref(), node: &node };
    let input = input::parse(&bytes, &from, choice)?;
    let RequestedVgpus::Assignments(mut all) = input.vgpus else { return Ok(Input::default()) };
    all.retain(|of| {
        let named = keep.contains(&of.address) || vfio.contains(&of.address);
        named && of.count.is_none() && of.profile != RequestedProfile::None
    });
    Ok(Input::of(all))
}

/// Sets the profiles of the functions that the VM keeps. Gives what failed.
fn set(
    session: &Session<'_>,
    plan: &ProfilePlan,
    keep: &BTreeSet<Address>,
) -> Vec<(Address, String)> {
    let objected = |gpu: Address| plan.objections.iter().any(|objection| objection.gpu == gpu);
    let due: Vec<ProfileStep> = plan
        .steps
        .iter()
        .filter(|step| step.is_change() && keep.contains(&step.address) && !objected(step.gpu))
        .cloned()
        .collect();
    let mut errors = Vec::new();
    for (step, result) in due.iter().zip(session.apply_each(&due)) {
        let change = session.reporter().outcome(step, &result.outcome, None);
        match change.reason {
            None => {
                let to = change.to.as_deref().unwrap_or("none");
                session.say.note(&format!("{}: the profile is {to} now", step.address));
            }
            Some(why) => errors.push((step.address, why)),
        }
    }
    errors
}

/// For each key, Proxmox VE takes the first function that no other VM has reserved: that
/// one has the profile now, or the start ends here with the reason. QEMU would only say
/// that the device cannot be opened.
fn check_each_key(
    vm: u32,
    of_vm: &[Given<'_>],
    gpus: &[Gpu],
    requested: &Input,
    plan: &ProfilePlan,
    errors: &[(Address, String)],
) -> Result<(), Failure> {
    let kept: Vec<&Given<'_>> =
        of_vm.iter().filter(|given| given.mode == HostPciMode::Keep).collect();
    for of_key in kept.chunk_by(|a, b| a.key == b.key) {
        let free = of_key.iter().find(|given| {
            let holder = given.function.holder.as_ref();
            holder.is_none_or(|holder| holder.vm == Some(vm))
        });
        let key = of_key[0].key;
        let Some(given) = free else {
            let message = format!("VM {vm}: {key}: all its functions are in use");
            return Err(fail(Exit::Refused, message).hint("stop one of the other VMs"));
        };
        let address = given.function.address;
        let wrong = wrong_profile(given.function, gpus, requested);
        let Some(wrong) = wrong else { continue };
        let message = |why: &str| format!("VM {vm}: {key}: {address} {why}");
        if let Some((_, why)) = errors.iter().find(|(at, _)| *at == address) {
            return Err(fail(Exit::System, message(&format!("{wrong}: {why}"))));
        }
        let gpu = gpus.iter().find(|gpu| gpu.functions.iter().any(|f| f.address == address));
        let objection = plan.objections.iter().find(|o| Some(o.gpu) == gpu.map(|gpu| gpu.address));
        if let Some(objection) = objection {
            let failure = fail(Exit::Refused, message(&format!("{wrong}: {}", objection.why)));
            return Err(failure.advise(objection.hint.clone()));
        }
        if let Some(invalid) = plan.invalid.first() {
            let failure = fail(Exit::Usage, message(&format!("{wrong}: {}", invalid.why)));
            return Err(failure.advise(invalid.hint.clone()));
        }
        let skipped = plan.steps.iter().find_map(|step| match &step.change {
            ProfileChange::Skip { why, hint, .. } if step.address == address => Some((why, hint)),
            _ => None,
        });
        if let Some((why, hint)) = skipped {
            return Err(fail(Exit::Refused, message(why)).advise(hint.clone()));
        }
        let words = format!("add a line {address}=PROFILE to {FILE}");
        return Err(fail(Exit::Refused, message(&wrong)).advise(Hint::words(words)));
    }
    Ok(())
}

/// What is wrong with the profile of a function; `None`: nothing.
fn wrong_profile(function: &VgpuFunction, gpus: &[Gpu], requested: &Input) -> Option<String> {
    if function.current == 0 {
        return Some("has no vGPU profile".into());
    }
    let RequestedVgpus::Assignments(all) = &requested.vgpus else { return None };
    let of = all.iter().find(|assignment| assignment.address == function.address)?;
    let gpu = gpus.iter().find(|gpu| gpu.functions.iter().any(|f| f == function))?;
    let right = match &of.profile {
        RequestedProfile::None => true,
        RequestedProfile::Id(id) => *id == function.current,
        RequestedProfile::Name(name) => gpu.ids_named(name).contains(&function.current),
    };
    (!right).then(|| format!("does not have the profile {}", of.profile))
}

fn post_stop(options: &HookOptions, session: &Session<'_>) -> Result<(), Failure> {
    let gpus = session.observe(ReadDepth::Plan)?;
    for given in given(&gpus, options.vmid)? {
        let function = given.function;
        match (given.mode, function.interface, function.current) {
            (HostPciMode::Mdev, ..) => {}
            (_, None, _) => {
                let driver = function.driver.as_deref().unwrap_or("no driver");
                session.say.warn(&format!(
                    "{}: bound to {driver} after VM {} has stopped: it can have no profile",
                    function.address, options.vmid
                ));
            }
            (_, Some(_), 0) => session.say.note(&format!(
                "{}: Proxmox VE has cleared the profile; it is set again when VM {} starts",
                function.address, options.vmid
            )),
            _ => {}
        }
    }
    Ok(())
}
