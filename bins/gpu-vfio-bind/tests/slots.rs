//! What is read for some slots judges them as what is read of the whole machine.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;

use host::Machine;
use pci::{Depth, passthrough, scan, scan_slots};
use record::Slot;
use testbed::{Bed, machine};

#[test]
fn the_verdict_on_a_slot_needs_no_more_than_its_groups() {
    let mut slots = 0;
    for name in machine::names() {
        let bed = Bed::new(&name);
        let machine = Machine::new(Some(bed.path())).unwrap();
        let whole = scan(&machine, Depth::Verdict).unwrap();
        let all: BTreeSet<Slot> = whole.functions.keys().map(|a| a.slot()).collect();
        for slot in all {
            slots += 1;
            let part = scan_slots(&machine, &BTreeSet::from([slot])).unwrap();
            for (address, function) in &part.functions {
                assert_eq!(Some(function), whole.functions.get(address), "{name} {slot}");
            }
            for (id, group) in &part.groups {
                assert_eq!(Some(group), whole.groups.get(id), "{name} {slot}");
            }
            for function in whole.functions.values().filter(|f| f.address.slot() == slot) {
                let same = &part.functions[&function.address];
                assert_eq!(passthrough(&part, same), passthrough(&whole, function), "{name}");
            }
        }
    }
    assert!(slots > 50, "{slots}");
}

#[test]
fn a_group_list_that_lacks_the_function_is_not_believed() {
    let bed = Bed::new("desktop-one-group");
    let machine = Machine::new(Some(bed.path())).unwrap();
    let whole = scan(&machine, Depth::Verdict).unwrap();
    let gpu = whole.functions.values().find(|f| f.is_gpu()).unwrap();
    let group = gpu.group.unwrap();
    bed.remove(&format!("/sys/kernel/iommu_groups/{group}/devices/{}", gpu.address));
    let part = scan_slots(&machine, &BTreeSet::from([gpu.address.slot()])).unwrap();
    assert_eq!(part.groups[&group].members, whole.groups[&group].members);
}
