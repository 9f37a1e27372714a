//! What no VM can be given, whether it is bound to VFIO yet or not: by the host's
//! IOMMU, and by who shares the IOMMU group.

use std::collections::BTreeSet;

use ::apply::Objection;
use pci::{Function, GroupObstacle, GroupObstacleKind, System, group_obstacles};
use record::Hint;
use usage::Usage;

use crate::force::ForceKind;
use crate::objections::{Judge, ObjectionKind, Objections, Retry};
use crate::users::{is_hard, soft_kind};

impl Judge<'_> {
    /// What else of the IOMMU group keeps the kernel from assigning it.
    pub(crate) fn group_members(
        &self,
        function: &Function,
        functions: &[&Function],
        objections: &mut Objections<'_>,
    ) {
        let system = self.system;
        let Some(group) = function.group.and_then(|id| system.groups.get(&id)) else { return };
        let planned = |f: &Function| functions.iter().any(|p| p.address == f.address);
        let obstacles: Vec<GroupObstacle<'_>> = group_obstacles(system, group)
            .into_iter()
            .filter(|found| !found.function.is_some_and(planned))
            .collect();
        for found in &obstacles {
            if found.kind == GroupObstacleKind::ReservedRegion {
                let hint = "use another slot: only the firmware can give up the region (HPE: the \
                            shared memory features of the slot, by conrep)";
                let why = format!("cannot be assigned: {}", found.why);
                objections.add(ObjectionKind::ReservedRegion, why, Hint::words(hint));
            }
        }
        let of = |kinds: &[GroupObstacleKind]| -> Vec<&GroupObstacle<'_>> {
            obstacles.iter().filter(|found| kinds.contains(&found.kind)).collect()
        };
        let members = of(&[GroupObstacleKind::Member, GroupObstacleKind::NotPci]);
        let unknown = of(&[GroupObstacleKind::UnknownBridge]);
        let (kind, others) = match members.is_empty() {
            true => (ObjectionKind::UnknownBridge, unknown),
            false => (ObjectionKind::GroupMembers, members),
        };
        if others.is_empty() {
            return;
        }
        let name = |found: &&GroupObstacle<'_>| match found.driver {
            Some(driver) => format!("{} ({driver})", found.name),
            None => found.name.clone(),
        };
        let names: Vec<String> = others.iter().map(name).collect();
        let why = format!("shares IOMMU group {} with {}", group.id, names.join(", "));
        let hint = self.group_hint(&others, objections.found);
        objections.add(kind, why, hint);
    }

    /// The command that takes the rest of the group along, where it can go.
    fn group_hint(
        &self,
        found: &[&GroupObstacle<'_>],
        objections: &[Objection<ObjectionKind>],
    ) -> Hint {
        const WITHOUT: &str = "with --force group only this slot is bound, and the VM will not \
                               start";
        let stays = found.iter().find(|found| {
            found.function.is_none_or(|function| self.system.stays_with_host(function))
        });
        let others: Vec<&Function> = found.iter().filter_map(|found| found.function).collect();
        let usages: Vec<Usage> = others.iter().map(|f| self.users.of(f)).collect();
        let used = others.iter().zip(&usages).find(|(_, usage)| is_hard(usage));
        let needed = stays.map(|found| found.name.clone());
        if let Some(other) = needed.or(used.map(|(other, _)| other.address.to_string())) {
            return Hint::words(format!(
                "use another slot: the host needs {other} of the same IOMMU group; {WITHOUT}"
            ));
        }
        let users = usages.iter().flat_map(|usage| &usage.users);
        let of_group = users.filter_map(|user| soft_kind(user.kind));
        let of_members = [ObjectionKind::GroupMembers, ObjectionKind::UnknownBridge];
        let own = objections.iter().filter(|o| !of_members.contains(&o.kind));
        let kinds: BTreeSet<ForceKind> =
            own.clone().filter_map(|o| o.kind.force_kind()).chain(of_group).collect();
        let words = format!("the VM needs all devices of the IOMMU group on vfio-pci; {WITHOUT}");
        if own.clone().any(|objection| !objection.overridable) {
            return Hint::words(words);
        }
        let addresses = others.iter().map(|f| f.address).collect();
        Hint::command((self.retry)(Retry::WithGroup(addresses, kinds))).because(words)
    }
}

/// What no VM can be given, bound to VFIO or not.
pub(crate) fn cannot_be_assigned(
    system: &System,
    function: &Function,
    objections: &mut Objections<'_>,
) {
    if !system.iommu.is_on() {
        let hint = Hint::words(system.iommu.advice());
        return objections.add(ObjectionKind::IommuOff, "the IOMMU is off", hint);
    }
    if function.group.is_none() {
        let hint = no_group_hint(system, function);
        return objections.add(ObjectionKind::NoIommuGroup, "has no IOMMU group", hint);
    }
    if system.iommu.interrupt_remapping == Some(false) && !system.iommu.unsafe_interrupts {
        let why = "interrupts are not remapped: VFIO refuses the function (EPERM)";
        let hint = "enable interrupt remapping (x2APIC) in the firmware setup, or update the \
                    firmware; 'options vfio_iommu_type1 allow_unsafe_interrupts=1' in \
                    /etc/modprobe.d does without, and trusts the VM with all interrupts";
        objections.add(ObjectionKind::Interrupts, why, Hint::words(hint));
    }
    if system.iommu.acs_override {
        let why = "the ACS override (pcie_acs_override=) is active: groups do not prove isolation";
        objections.add(ObjectionKind::AcsOverride, why, Hint::default());
    }
}

fn no_group_hint(system: &System, function: &Function) -> Hint {
    match system.iommu.graphics_left_out_by() {
        // intel-iommu leaves out the graphics of the root complex only
        Some(word) if function.is_gpu() && function.parent.is_none() => Hint::words(format!(
            "replace '{word}' by 'intel_iommu=on' on the kernel command line and reboot"
        )),
        _ => Hint::command(advice::gpu_iommu_groups::groups())
            .because("use a slot that is in an IOMMU group"),
    }
}
