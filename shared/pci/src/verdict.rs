//! The kernel's rule for handing a group to VFIO, and what keeps it from that.

use record::{Address, Blocker, BlockerKind, Passthrough, ViabilityRule};

use crate::{Function, Group, System};

/// Drivers that do no DMA through the kernel's mappings (`driver_managed_dma`
/// in their source), beside VFIO's own.
const WITHOUT_KERNEL_DMA: [&str; 2] = ["pci-stub", "pcieport"];

/// Why the kernel keeps a group from VFIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupObstacleKind {
    /// A PCI function is bound to a driver of the host.
    Member,
    /// A bridge is bound to a driver that may or may not use the kernel's mappings.
    UnknownBridge,
    /// A member that is not a PCI function has a driver: it cannot be bound to VFIO.
    NotPci,
    /// A range has to be mapped one to one (RMRR).
    ReservedRegion,
}

/// One thing that keeps the kernel from assigning a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupObstacle<'a> {
    /// Why.
    pub kind: GroupObstacleKind,
    /// The PCI function, `None` where it is another member or the whole group.
    pub function: Option<&'a Function>,
    /// The name of the member, or of one whom the region is for.
    pub name: String,
    /// The driver of the member.
    pub driver: Option<&'a str>,
    /// Why, in words that follow the name.
    pub why: String,
}

/// What keeps the kernel from assigning a group now. A member without a driver
/// is in nobody's way, nor is one on a VFIO driver or on pci-stub.
pub fn group_obstacles<'a>(system: &'a System, group: &'a Group) -> Vec<GroupObstacle<'a>> {
    let members = system.members(group).filter_map(|f| of_member(f, system.iommu.rule));
    let others = group.others.iter().filter_map(|other| {
        let driver = other.driver.as_deref()?;
        Some(GroupObstacle {
            kind: GroupObstacleKind::NotPci,
            function: None,
            name: other.name.clone(),
            driver: Some(driver),
            why: format!("not a PCI function; bound to {driver}, it cannot be bound to VFIO"),
        })
    });
    let region = group.direct_region().map(|region| GroupObstacle {
        kind: GroupObstacleKind::ReservedRegion,
        function: None,
        name: group.members.first().map(ToString::to_string).unwrap_or_default(),
        driver: None,
        why: format!(
            "group {} has the reserved region {}-{} of kind 'direct' (RMRR): its devices need it \
             mapped one to one, so the kernel does not assign the group",
            group.id, region.start, region.end
        ),
    });
    members.chain(others).chain(region).collect()
}

/// How the kernel takes one PCI member.
///
/// Before 5.19 (vfio.c, vfio_dev_viable): free of driver, on a VFIO driver or
/// pci-stub, or any bridge. Since then (iommu.c, iommu_group_claim_dma_owner):
/// no driver without `driver_managed_dma`, which vfio-pci, pci-stub and pcieport
/// have; bridges included.
fn of_member(member: &Function, rule: ViabilityRule) -> Option<GroupObstacle<'_>> {
    let driver = member.driver.as_deref()?;
    if member.on_vfio() || driver == "pci-stub" {
        return None;
    }
    let (kind, why) = match rule {
        ViabilityRule::Driver if member.is_bridge() => return None,
        ViabilityRule::DmaOwner if WITHOUT_KERNEL_DMA.contains(&driver) => return None,
        ViabilityRule::DmaOwner if member.is_bridge() => {
            let why = format!(
                "bridge on driver {driver}: whether the kernel tolerates it depends on that driver"
            );
            (GroupObstacleKind::UnknownBridge, why)
        }
        _ => (GroupObstacleKind::Member, format!("bound to {driver}, a driver of the host")),
    };
    let (function, name) = (Some(member), member.address.to_string());
    Some(GroupObstacle { kind, function, name, driver: Some(driver), why })
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
    for found in group_obstacles(system, group) {
        let (kind, verdict) = match found.kind {
            GroupObstacleKind::Member | GroupObstacleKind::NotPci => {
                (BlockerKind::GroupMember, Some(false))
            }
            GroupObstacleKind::UnknownBridge => (BlockerKind::UnknownBridge, None),
            GroupObstacleKind::ReservedRegion => (BlockerKind::ReservedRegion, Some(false)),
        };
        let own_slot = found.function.is_some_and(|member| own(member) && !member.is_bridge());
        let (function, driver) = (Some(found.name), found.driver.map(str::to_string));
        add(Blocker { kind: Some(kind), function, driver, own_slot, why: found.why }, verdict);
    }
    obstacles
}

fn machine_blocker(kind: BlockerKind, why: String) -> Blocker {
    Blocker { kind: Some(kind), function: None, driver: None, own_slot: false, why }
}

const ACS: &str = "the ACS override (pcie_acs_override=) is active: groups are not proof of \
                   isolation";

/// What the IOMMU and the group say about a function's slot. What else is asked
/// is known to those who know its users.
pub fn passthrough(system: &System, function: &Function) -> Passthrough {
    let no = |blocker: Blocker| Passthrough {
        possible: Some(false),
        isolated: None,
        viable: Some(false),
        viable_once_bound: Some(false),
        blockers: vec![blocker],
        warnings: Vec::new(),
    };
    if !system.iommu.is_on() {
        return no(machine_blocker(BlockerKind::IommuOff, "the IOMMU is off".into()));
    }
    let Some(group) = function.group.and_then(|id| system.groups.get(&id)) else {
        return no(Blocker {
            kind: Some(BlockerKind::NoGroup),
            function: Some(function.address.to_string()),
            driver: function.driver.clone(),
            own_slot: false,
            why: "has no IOMMU group: no IOMMU translates for it".into(),
        });
    };
    let companions: Vec<Address> = system.slot(function).map(|f| f.address).collect();
    let own = |member: &Function| companions.contains(&member.address);
    let mut obstacles = obstacles_in(system, group, &own);
    let is_shared = shares_group(system, group, &own).next().is_some();
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
    if system.iommu.acs_override {
        isolated = None;
        obstacles.blockers.push(machine_blocker(BlockerKind::AcsOverride, ACS.into()));
    }
    Passthrough {
        possible: obstacles.viable_once_bound.filter(|_| !system.iommu.acs_override),
        isolated,
        viable: obstacles.viable,
        viable_once_bound: obstacles.viable_once_bound,
        blockers: obstacles.blockers,
        warnings: Vec::new(),
    }
}

/// The endpoints of other slots in a group. A host or ISA bridge without a driver
/// stands for the board itself, and goes to no VM.
pub fn shares_group<'a>(
    system: &'a System,
    group: &'a Group,
    own: &'a dyn Fn(&Function) -> bool,
) -> impl Iterator<Item = &'a Function> {
    let idle_board = |m: &Function| m.stays_with_host() && m.driver.is_none();
    system.members(group).filter(move |m| !m.is_bridge() && !idle_board(m) && !own(m))
}

/// The verdict on a whole group: viable now, isolated (all endpoints in one
/// slot), and what prevents passing it through.
pub fn group_verdict(system: &System, group: &Group) -> (Option<bool>, Option<bool>, Vec<Blocker>) {
    let mut endpoints = shares_group(system, group, &|_| false);
    let first = endpoints.next();
    let own: Vec<Address> =
        first.into_iter().flat_map(|f| system.slot(f)).map(|f| f.address).collect();
    let one_slot = endpoints.all(|m| own.contains(&m.address));
    let mut obstacles = obstacles_in(system, group, &|_| false);
    let mut isolated = Some(one_slot && group.others.is_empty());
    if !system.iommu.is_on() {
        obstacles.blockers.push(machine_blocker(BlockerKind::IommuOff, "the IOMMU is off".into()));
        return (Some(false), None, obstacles.blockers);
    }
    if system.iommu.acs_override {
        isolated = None;
        obstacles.blockers.push(machine_blocker(BlockerKind::AcsOverride, ACS.into()));
    }
    (obstacles.viable, isolated, obstacles.blockers)
}
