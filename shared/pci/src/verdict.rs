//! May it be passed through? The kernel's rule for handing a group to VFIO, and
//! what prevents it.

use record::{Address, Blocker, Passthrough, ViabilityRule};

use crate::{Function, Group, System};

/// Drivers that do no DMA through the kernel's mappings (`driver_managed_dma`
/// in their source), beside VFIO's own.
const WITHOUT_KERNEL_DMA: [&str; 2] = ["pci-stub", "pcieport"];

/// What one member means for the group.
enum MemberEffect {
    Harmless,
    Blocks(String),
    Unknown(String),
}

/// Whether a member keeps the kernel from assigning its group. What is not
/// known counts as keeping it.
pub fn blocks_group(system: &System, member: &Function) -> bool {
    !matches!(effect_of(member, system.iommu.rule), MemberEffect::Harmless)
}

/// How the kernel takes one PCI member.
///
/// Before 5.19 (vfio.c, vfio_dev_viable): free of driver, on a VFIO driver or
/// pci-stub, or any bridge. Since then (iommu.c, iommu_group_claim_dma_owner):
/// no driver without `driver_managed_dma`, bridges included.
fn effect_of(member: &Function, rule: ViabilityRule) -> MemberEffect {
    let Some(driver) = member.driver.as_deref() else {
        return MemberEffect::Harmless;
    };
    if member.on_vfio() || driver == "pci-stub" {
        return MemberEffect::Harmless;
    }
    match rule {
        ViabilityRule::Driver if member.is_bridge() => MemberEffect::Harmless,
        ViabilityRule::DmaOwner if WITHOUT_KERNEL_DMA.contains(&driver) => MemberEffect::Harmless,
        ViabilityRule::DmaOwner if member.is_bridge() => MemberEffect::Unknown(format!(
            "bridge on driver {driver}: whether the kernel tolerates it depends on that driver"
        )),
        _ => MemberEffect::Blocks(format!("bound to {driver}, a driver of the host")),
    }
}

struct GroupObstacles {
    blockers: Vec<Blocker>,
    /// `Some(false)` beats `None` beats `Some(true)`.
    viable: Option<bool>,
    viable_once_bound: Option<bool>,
}

fn worse(so_far: Option<bool>, now: Option<bool>) -> Option<bool> {
    match (so_far, now) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (None, _) | (_, None) => None,
        _ => Some(true),
    }
}

/// What prevents assigning a group; `own` says which members are to be bound.
fn obstacles_in(system: &System, group: &Group, own: &dyn Fn(&Function) -> bool) -> GroupObstacles {
    let mut obstacles =
        GroupObstacles { blockers: Vec::new(), viable: Some(true), viable_once_bound: Some(true) };
    let mut add = |blocker: Blocker, verdict: Option<bool>| {
        obstacles.viable = worse(obstacles.viable, verdict);
        if !blocker.own_slot {
            obstacles.viable_once_bound = worse(obstacles.viable_once_bound, verdict);
        }
        obstacles.blockers.push(blocker);
    };
    for member in system.members(group) {
        let (why, verdict) = match effect_of(member, system.iommu.rule) {
            MemberEffect::Harmless => continue,
            MemberEffect::Blocks(why) => (why, Some(false)),
            MemberEffect::Unknown(why) => (why, None),
        };
        let function = Some(member.address.to_string());
        let own_slot = own(member) && !member.is_bridge();
        add(Blocker { function, driver: member.driver.clone(), own_slot, why }, verdict);
    }
    for other in &group.others {
        let (why, verdict) = match &other.driver {
            Some(driver) => (
                format!("not a PCI function; bound to {driver}, it cannot be bound to VFIO"),
                Some(false),
            ),
            None => continue,
        };
        let function = Some(other.name.clone());
        add(Blocker { function, driver: other.driver.clone(), own_slot: false, why }, verdict);
    }
    if let Some(region) = group.direct_region() {
        let why = format!(
            "group {} has the reserved region {}-{} of kind 'direct' (RMRR): its devices need it \
             mapped one to one, so the kernel does not assign the group",
            group.id, region.start, region.end
        );
        let function = group.members.first().map(ToString::to_string);
        add(Blocker { function, driver: None, own_slot: false, why }, Some(false));
    }
    obstacles
}

fn machine_blocker(why: String) -> Blocker {
    Blocker { function: None, driver: None, own_slot: false, why }
}

const ACS: &str = "the ACS override (pcie_acs_override=) is active: groups are not proof of \
                   isolation";

/// The verdict on a function's slot.
pub fn passthrough(system: &System, function: &Function) -> Passthrough {
    let no = |blocker: Blocker| Passthrough {
        isolated: None,
        viable: Some(false),
        viable_once_bound: Some(false),
        blockers: vec![blocker],
    };
    if !system.iommu.is_on() {
        return no(machine_blocker("the IOMMU is off".into()));
    }
    let Some(group) = function.group.and_then(|id| system.groups.get(&id)) else {
        return no(Blocker {
            function: Some(function.address.to_string()),
            driver: function.driver.clone(),
            own_slot: false,
            why: "has no IOMMU group: no IOMMU translates for it".into(),
        });
    };
    let companions: Vec<Address> = system.slot(function).map(|f| f.address).collect();
    let own = |member: &Function| companions.contains(&member.address);
    let mut obstacles = obstacles_in(system, group, &own);
    let is_shared = system.members(group).any(|m| !m.is_bridge() && !own(m));
    let mut isolated = Some(!is_shared && group.others.is_empty());
    // A slot whose functions sit in several groups is still bound as a whole.
    for sibling in system.slot(function).filter(|s| s.group != function.group) {
        let Some(id) = sibling.group else { continue };
        let Some(other) = system.groups.get(&id) else {
            continue;
        };
        let rest = obstacles_in(system, other, &own);
        obstacles.viable_once_bound = worse(obstacles.viable_once_bound, rest.viable_once_bound);
        obstacles.blockers.extend(rest.blockers.into_iter().filter(|b| !b.own_slot));
    }
    if isolated == Some(false) {
        add_other_members(system, group, &own, &mut obstacles.blockers);
    }
    if system.iommu.acs_override {
        isolated = None;
        obstacles.blockers.push(machine_blocker(ACS.into()));
    }
    Passthrough {
        isolated,
        viable: obstacles.viable,
        viable_once_bound: obstacles.viable_once_bound,
        blockers: obstacles.blockers,
    }
}

/// Names those who share the group, also where the kernel would not mind them.
fn add_other_members(
    system: &System,
    group: &Group,
    own: &dyn Fn(&Function) -> bool,
    blockers: &mut Vec<Blocker>,
) {
    let shares = |name: &str, blockers: &[Blocker]| {
        !blockers.iter().any(|b| b.function.as_deref() == Some(name))
    };
    for member in system.members(group).filter(|m| !m.is_bridge() && !own(m)) {
        let name = member.address.to_string();
        if shares(&name, blockers) {
            let why = format!("shares group {}: all of the group must go to the same VM", group.id);
            let driver = member.driver.clone();
            blockers.push(Blocker { function: Some(name), driver, own_slot: false, why });
        }
    }
    for other in &group.others {
        if shares(&other.name, blockers) {
            let why = format!("shares group {} and is not a PCI function", group.id);
            let function = Some(other.name.clone());
            blockers.push(Blocker { function, driver: None, own_slot: false, why });
        }
    }
}

/// The verdict on a whole group: viable now, isolated (all endpoints in one
/// slot), and what prevents passing it through.
pub fn group_verdict(system: &System, group: &Group) -> (Option<bool>, Option<bool>, Vec<Blocker>) {
    let mut endpoints = system.members(group).filter(|m| !m.is_bridge());
    let first = endpoints.next();
    let own: Vec<Address> =
        first.into_iter().flat_map(|f| system.slot(f)).map(|f| f.address).collect();
    let one_slot = endpoints.all(|m| own.contains(&m.address));
    let mut obstacles = obstacles_in(system, group, &|_| false);
    let mut isolated = Some(one_slot && group.others.is_empty());
    if !system.iommu.is_on() {
        obstacles.blockers.push(machine_blocker("the IOMMU is off".into()));
        return (Some(false), None, obstacles.blockers);
    }
    if system.iommu.acs_override {
        isolated = None;
        obstacles.blockers.push(machine_blocker(ACS.into()));
    }
    (obstacles.viable, isolated, obstacles.blockers)
}
