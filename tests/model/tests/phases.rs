//! The VM phase and the vGPU phase as an operator runs them, `make host-vfio`
//! and `make vgpu`, on the model kernel.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;

use modelkernel::mount::{Mounted, possible};
use modelkernel::{ModelKernel, machines};
use testbed::pipelines::make;
use testbed::tree::Tree;
use testbed::{Bed, machine};

fn mounted(tree: &Tree) -> (Mounted, Arc<ModelKernel>) {
    assert!(possible(), "these tests need root and /dev/fuse");
    let model = Arc::new(ModelKernel::from_tree(tree));
    let mut mounted = Mounted::new(Arc::clone(&model)).unwrap();
    for dir in ["/run", "/etc"] {
        mounted.scratch(dir).unwrap();
    }
    // Proxmox VE's cluster file system, with no guest
    let pve = mounted.path().join("etc/pve");
    std::fs::create_dir_all(pve.join("nodes/pve1")).unwrap();
    std::os::unix::fs::symlink("nodes/pve1", pve.join("local")).unwrap();
    (mounted, model)
}

#[test]
fn a_gpu_goes_to_vms_now_and_at_every_boot() {
    let (mounted, model) = mounted(&machine::tree("pve9-two-gpus").unwrap());
    assert!(model.load_module("vfio-pci"));
    model.reset_counters();
    let root = mounted.path();
    let before = model.snapshot();
    let dry = make(root, "host-vfio GPU=0000:2c:00.0 DRY=1").done();
    assert!(dry.statuses().contains(&"planned"), "{dry:?}");
    assert_eq!(model.snapshot(), before);
    assert_eq!(model.counters().writes, 0);

    let first = make(root, "host-vfio GPU=0000:2c:00.0").done();
    assert!(first.statuses().contains(&"changed"), "{first:?}");
    for function in 0..4 {
        let address = format!("0000:2c:00.{function}");
        assert_eq!(model.driver_of(&address).as_deref(), Some("vfio-pci"));
    }
    assert_eq!(model.driver_of("0000:2b:00.0").as_deref(), Some("nvidia"), "the identical card");
    let writes = model.counters().writes;
    let second = make(root, "host-vfio GPU=0000:2c:00.0").done();
    assert!(!second.statuses().contains(&"changed"), "{second:?}");
    assert_eq!(model.counters().writes, writes, "a second run writes nothing");
}

#[test]
fn a_gpu_in_use_stops_the_vm_phase_at_the_step_that_refused() {
    let (mounted, model) = mounted(&machine::tree("pve9-two-gpus").unwrap());
    assert!(model.load_module("vfio-pci"));
    model.hold("0000:2c:00.0", 1);
    let stopped = make(mounted.path(), "host-vfio GPU=0000:2c:00.0");
    stopped.stopped_at("gpu-vfio-bind bind", "refused for safety");
    assert_eq!(model.driver_of("0000:2c:00.0").as_deref(), Some("nvidia"));
    // left to the boot
    make(mounted.path(), "host-vfio GPU=0000:2c:00.0 NOW=0").done();
    model.release_holders("0000:2c:00.0");
    make(mounted.path(), "host-vfio GPU=0000:2c:00.0").done();
    assert_eq!(model.driver_of("0000:2c:00.0").as_deref(), Some("vfio-pci"));
}

#[test]
fn profiles_are_set_and_set_again_after_a_reboot() {
    let (mounted, model) = mounted(&machines::l40s());
    let root = mounted.path();
    let bed = Bed::empty();
    bed.write("/profiles", "0000:41:00.4=L40S-24Q\n0000:41:00.5=L40S-24Q  # the second\n");
    let vgpu = format!("vgpu PROFILES={}", bed.at("/profiles").display());
    let set = || ["0000:41:00.4", "0000:41:00.5"].map(|address| model.vgpu_of(address));
    let dry = make(root, &format!("{vgpu} DRY=1")).done();
    assert_eq!((dry.statuses(), set()), (vec!["planned"], [0, 0]));
    for statuses in ["changed", "unchanged"] {
        assert_eq!(make(root, &vgpu).done().statuses(), [statuses]);
        assert_eq!(set(), [1155, 1155]);
    }
    make(root, &format!("drift-vgpu PROFILES={}", bed.at("/profiles").display())).done();
    model.vgpu_reboot();
    assert_eq!(set(), [0, 0]);
    let drift = make(root, &format!("drift-vgpu PROFILES={}", bed.at("/profiles").display()));
    drift.stopped_at("vgpu-profile-set check", "the check found a difference");
    assert_eq!(make(root, &vgpu).done().statuses(), ["changed"]);
    assert_eq!(set(), [1155, 1155]);
    // more than the card has: nothing is written
    bed.write("/profiles", "0000:41:00.4=L40S-48Q\n0000:41:00.5=L40S-48Q\n");
    make(root, &vgpu).stopped_at("vgpu-profile-set apply", "refused for safety");
    assert_eq!(set(), [1155, 1155]);
}
