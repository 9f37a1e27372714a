//! Which virtual functions of a GPU get profiles that are requested by count.

use std::collections::{BTreeMap, BTreeSet};

use record::{Address, Hint};

use crate::observe::model::{Gpu, VgpuFunction};
use crate::plan::model::{PlanObjection, TargetProfile};

/// Whether a function has that profile.
pub(crate) fn has_profile(gpu: &Gpu, function: &VgpuFunction, target: &TargetProfile) -> bool {
    function.current != 0
        && match target.id {
            Some(id) => id == function.current,
            None => gpu.name_of(function.current) == Some(&target.name),
        }
}

/// Which functions get which of the counted profiles: first those that have
/// it already, then the others in order. All other profiles are cleared.
pub(crate) fn choose_functions(
    gpu: &Gpu,
    counted: &[(TargetProfile, u32)],
) -> Result<BTreeMap<Address, Option<TargetProfile>>, PlanObjection> {
    let usable = |function: &&VgpuFunction| {
        function.managed_by().is_empty()
            && function.unreadable.is_none()
            && function.interface.is_some()
    };
    let mut chosen: BTreeMap<Address, Option<TargetProfile>> = BTreeMap::new();
    let mut left: Vec<(&TargetProfile, u32)> = counted.iter().map(|(t, n)| (t, *n)).collect();
    for function in gpu.functions.iter().filter(usable) {
        let right = left.iter_mut().find(|(t, n)| *n > 0 && has_profile(gpu, function, t));
        if let Some((target, n)) = right {
            *n -= 1;
            chosen.insert(function.address, Some((*target).clone()));
        }
    }
    let right: BTreeSet<Address> = chosen.keys().copied().collect();
    let free: Vec<&VgpuFunction> = gpu
        .functions
        .iter()
        .filter(usable)
        .filter(|function| function.holder.is_none() && !right.contains(&function.address))
        .collect();
    let needed: u32 = left.iter().map(|(_, n)| n).sum();
    if needed as usize > free.len() {
        let total: u32 = counted.iter().map(|(_, n)| n).sum();
        let all = gpu.functions.len();
        let why = format!(
            "{total} vGPUs need as many virtual functions: {} of {all} are available",
            free.len() + chosen.len()
        );
        let words = match taken(gpu, &right) {
            Some(taken) => format!("request fewer vGPUs; of the others {taken}"),
            None => "request fewer vGPUs".into(),
        };
        let address = gpu.address;
        return Err(PlanObjection { gpu: address, address, why, hint: Hint::words(words) });
    }
    let mut free = free.into_iter();
    for (target, n) in left {
        for function in free.by_ref().take(n as usize) {
            chosen.insert(function.address, Some(target.clone()));
        }
    }
    // the request is for the whole GPU; what is in use is never cleared
    for function in free.filter(|function| function.current != 0) {
        chosen.insert(function.address, None);
    }
    Ok(chosen)
}

/// Why functions cannot get a profile, each reason with how many it concerns.
fn taken(gpu: &Gpu, right: &BTreeSet<Address>) -> Option<String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for function in gpu.functions.iter().filter(|f| !right.contains(&f.address)) {
        let vms = function.managed_by();
        let reason = if let Some(holder) = &function.holder {
            format!("in use by {holder}")
        } else if !vms.is_empty() {
            let vms: Vec<String> = vms.iter().map(u32::to_string).collect();
            format!("set by Proxmox VE for VM {} (mdev=)", vms.join(", "))
        } else if function.interface.is_none() {
            let driver = function.driver.as_deref();
            driver.map_or("not bound to a driver".into(), |driver| format!("bound to {driver}"))
        } else if function.unreadable.is_some() {
            "unreadable".into()
        } else {
            continue;
        };
        *reasons.entry(reason).or_default() += 1;
    }
    let words: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
    if words.is_empty() { None } else { Some(words.join(", ")) }
}
