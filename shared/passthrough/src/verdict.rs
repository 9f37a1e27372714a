//! The verdict of records, from the same objections that refuse a bind.

use ::apply::Objection;
use pci::Function;
use record::{Blocker, BlockerKind, Passthrough};

use crate::assignable::cannot_be_assigned;
use crate::objections::{Judge, ObjectionKind, Objections};
use crate::warnings;

impl Judge<'_> {
    /// What is against giving a function, with all that goes along, to a VM. Of
    /// what is on VFIO already nothing is taken: who uses that is not asked.
    pub fn assign(&self, function: &Function) -> Vec<Objection<ObjectionKind>> {
        let slot: Vec<&Function> = self.system.slot(function).collect();
        let (bound, free): (Vec<&Function>, Vec<&Function>) =
            slot.iter().partition(|f| f.on_vfio());
        let mut found = self.bind_of(&free, &slot);
        for function in bound {
            self.add_of_bound(function, &slot, &mut found);
        }
        found
    }

    /// What keeps a VM from starting with a function that is on VFIO already;
    /// nothing where it is not.
    pub fn assign_bound(&self, function: &Function) -> Vec<Objection<ObjectionKind>> {
        let mut found = Vec::new();
        if function.on_vfio() {
            let slot: Vec<&Function> = self.system.slot(function).collect();
            self.add_of_bound(function, &slot, &mut found);
        }
        found
    }

    fn add_of_bound(
        &self,
        function: &Function,
        slot: &[&Function],
        found: &mut Vec<Objection<ObjectionKind>>,
    ) {
        let mut objections = Objections { address: function.address, found };
        no_profile(function, &mut objections);
        cannot_be_assigned(self.system, function, &mut objections);
        self.group_members(function, slot, &mut objections);
    }

    /// What [`Judge::assign`] found, as records have it.
    pub fn verdict(
        &self,
        function: &Function,
        objections: &[Objection<ObjectionKind>],
    ) -> Passthrough {
        let mut verdict = pci::passthrough(self.system, function);
        verdict.possible = possible(objections);
        for objection in objections {
            let Some(kind) = told_by_objection(objection.kind) else { continue };
            let is_machine = kind == BlockerKind::Interrupts;
            verdict.blockers.push(Blocker {
                kind: Some(kind),
                function: (!is_machine).then(|| objection.target.clone()),
                driver: None,
                own_slot: false,
                why: objection.why.clone(),
            });
        }
        verdict.warnings = warnings::of(self.system, function);
        verdict
    }
}

/// No, yes, or unknown: where only what cannot be known is against it.
pub fn possible(objections: &[Objection<ObjectionKind>]) -> Option<bool> {
    let is_unknown = |kind| {
        let kinds =
            [ObjectionKind::Unknown, ObjectionKind::AcsOverride, ObjectionKind::UnknownBridge];
        kinds.contains(&kind)
    };
    match objections.iter().all(|objection| is_unknown(objection.kind)) {
        false => Some(false),
        true if objections.is_empty() => Some(true),
        true => None,
    }
}

fn no_profile(function: &Function, objections: &mut Objections<'_>) {
    if !function.vgpu_vendor {
        return;
    }
    let hint = record::Hint::words("assign it a vGPU profile: vgpu-profile-set(1)");
    match function.vgpu_type {
        Some(0) => objections.add(ObjectionKind::NoProfile, "has no vGPU profile", hint),
        Some(_) => {}
        None => {
            let why = "its vGPU profile is unknown: cannot read nvidia/current_vgpu_type";
            objections.add(ObjectionKind::Unknown, why, hint);
        }
    }
}

/// The kind in records of what the group's own list of blockers does not have.
fn told_by_objection(kind: ObjectionKind) -> Option<BlockerKind> {
    match kind {
        ObjectionKind::IommuOff
        | ObjectionKind::NoIommuGroup
        | ObjectionKind::GroupMembers
        | ObjectionKind::UnknownBridge
        | ObjectionKind::ReservedRegion
        | ObjectionKind::AcsOverride => None,
        ObjectionKind::Interrupts => Some(BlockerKind::Interrupts),
        ObjectionKind::VirtualFunctions => Some(BlockerKind::VirtualFunctions),
        ObjectionKind::VgpuFunction | ObjectionKind::NoProfile => Some(BlockerKind::NoProfile),
        ObjectionKind::Unknown => Some(BlockerKind::Unknown),
        _ => Some(BlockerKind::InUse),
    }
}
