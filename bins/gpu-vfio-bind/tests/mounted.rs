//! The tool itself on the mounted model kernel: real error numbers, late
//! nodes, blocked writes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use modelkernel::mount::{Mounted, possible};
use modelkernel::{Fault, ModelKernel};
use serde_json::json;
use testbed::{Ran, Tool, machine};

const GPU: &str = "0000:2c:00.0";

/// The host with two identical cards, vfio-pci loaded, /run writable.
fn host() -> (Mounted, Arc<ModelKernel>) {
    host_with_vms(&[])
}

/// The same with configurations of VMs.
fn host_with_vms(vms: &[(u32, &str)]) -> (Mounted, Arc<ModelKernel>) {
    assert!(possible(), "these tests need root and /dev/fuse");
    let mut tree = machine::tree("pve9-two-gpus").unwrap();
    for (vmid, conf) in vms {
        tree.file(format!("/etc/pve/nodes/pve1/qemu-server/{vmid}.conf"), conf.as_bytes());
    }
    let model = Arc::new(ModelKernel::from_tree(&tree));
    assert!(model.load_module("vfio-pci"));
    let mut mounted = Mounted::new(Arc::clone(&model)).unwrap();
    mounted.scratch("/run").unwrap();
    model.reset_counters();
    (mounted, model)
}

fn run(mounted: &Mounted, args: &str, code: i32) -> Ran {
    Tool::new("gpu-vfio-bind").arg("--root").arg(mounted.path()).args(args).run().expect(code)
}

#[test]
fn a_slot_goes_to_vfio_and_back_to_the_drivers_that_it_had() {
    let (mounted, model) = host();
    let before = model.snapshot();
    let ran = run(&mounted, "bind 2c:00", 0);
    assert_eq!(ran.values("change", "status"), vec![json!("changed"); 5]);
    assert_eq!(ran.one("change", "property", "vfio_group")["to"], "/dev/vfio/29");
    for function in 0..4 {
        let address = format!("0000:2c:00.{function}");
        assert_eq!(model.driver_of(&address).as_deref(), Some("vfio-pci"));
    }
    // the identical card is where it was
    assert_eq!(model.driver_of("0000:2b:00.0").as_deref(), Some("nvidia"));

    let writes = model.counters().writes;
    let again = run(&mounted, "bind 2c:00", 0);
    assert_eq!(again.values("change", "status"), vec![json!("unchanged"); 4]);
    assert_eq!(model.counters().writes, writes, "a second run writes nothing");
    run(&mounted, "status 2c:00", 0);

    let ran = run(&mounted, "release 2c:00", 0);
    assert_eq!(ran.values("change", "to"), ["nvidia", "snd_hda_intel", "xhci_hcd", "nvidia-gpu"]);
    assert_eq!(model.snapshot(), before);
    let again = run(&mounted, "release 2c:00", 0);
    assert_eq!(again.values("change", "status"), vec![json!("unchanged"); 4]);
}

/// Found by the campaign: a release that could not remove its memory left it
/// there for good, since the next one had nothing to move.
#[test]
fn what_a_release_could_not_forget_the_next_one_does() {
    let (mounted, _) = host();
    run(&mounted, "bind 2c:00", 0);
    let memory = mounted.at("/run/gpu-vfio-bind/0000:2c:00.3");
    let text = std::fs::read(&memory).unwrap();
    run(&mounted, "release 2c:00", 0);
    assert!(!memory.exists());
    std::fs::write(&memory, text).unwrap();
    let again = run(&mounted, "release 2c:00", 0);
    assert_eq!(again.values("change", "status"), vec![json!("unchanged"); 4]);
    assert!(!memory.exists(), "it is forgotten");
}

#[test]
fn one_function_that_fails_puts_all_of_them_back() {
    for nth in 1..=13 {
        let (mounted, model) = host();
        let before = model.snapshot();
        model.inject(Fault::Errno(nth, libc::EINVAL));
        let ran =
            Tool::new("gpu-vfio-bind").arg("--root").arg(mounted.path()).args("bind 2c:00").run();
        // the first write asks NVIDIA's driver: not being answered is not a failure
        if nth == 1 {
            assert!(ran.code() == 0 || model.snapshot().functions == before.functions);
            continue;
        }
        let ran = ran.expect(3);
        assert_eq!(model.snapshot(), before, "after a fault at write {nth}: {}", ran.stdout);
        assert!(ran.of_type("change").any(|c| c["status"] == "failed"));
        assert_eq!(ran.records.last().unwrap()["exit"], 3);
        // nothing is remembered of what did not happen
        model.clear_faults();
        assert_eq!(std::fs::read_dir(mounted.at("/run/gpu-vfio-bind")).unwrap().count(), 0);
    }
}

#[test]
fn what_nvidia_says_is_in_use_is_refused_before_any_function_is_touched() {
    let (mounted, model) = host();
    let before = model.snapshot();
    model.hold(GPU, 1);
    for args in ["bind 2c:00", "bind 2c:00 --force display,network,container,group"] {
        let ran = run(&mounted, args, 4);
        assert!(ran.stderr.contains("is in use according to NVIDIA's driver"), "{}", ran.stderr);
        // persistence mode does not keep it: nv_pci_remove() ends that itself
        assert!(ran.stderr.contains("hint: a kernel module that uses nvidia"), "{}", ran.stderr);
    }
    assert_eq!(model.snapshot(), before, "the question was taken back");
    let asked = model.counters().writes_by_path;
    assert!(asked.keys().all(|path| path.ends_with("/unbindLock")), "{asked:?}");
}

#[test]
fn an_unbind_that_blocks_is_given_up_in_time_and_the_lister_works_beside_it() {
    let (mounted, model) = host();
    // unbindLock, override, then unbind
    model.inject(Fault::Block(3));
    // somebody opens it after all checks
    let late = Arc::clone(&model);
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        late.add_process(4321, "python3", &["/dev/nvidia1"]);
    });
    let start = Instant::now();
    let ran = run(&mounted, "bind 2c:00 --timeout 2", 3);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    opener.join().unwrap();
    assert!(
        ran.stderr.contains("unbind did not finish within 2 s and may still take effect"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains(" waits in the kernel; do not kill it)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("process 4321 (python3) has /dev/nvidia1 open"), "{}", ran.stderr);
    let failed = ran.one("change", "status", "failed");
    assert_eq!(failed["target"], GPU);
    assert!(failed["reason"].as_str().unwrap().contains("process 4321"));
    let skipped: Vec<_> = ran.of_type("change").filter(|c| c["status"] == "skipped").collect();
    assert_eq!(skipped.len(), 3);
    let lister =
        Tool::new("gpu-iommu-groups").arg("--root").arg(mounted.path()).args("--all -q").run();
    assert_eq!(lister.expect(0).records.len(), 55);
    model.release_blocked();
}

#[test]
fn an_id_that_proxmox_left_with_vfio_pci_does_not_take_the_card_again() {
    let (mounted, model) = host();
    model.write("/sys/bus/pci/drivers/vfio-pci/new_id", b"10de 1e07").unwrap();
    run(&mounted, "bind 2c:00", 0);
    // as if Proxmox VE had bound it: nothing is remembered, and no other driver is there
    std::fs::remove_dir_all(mounted.at("/run/gpu-vfio-bind")).unwrap();
    model.hold("0000:2b:00.0", 0);
    model.write("/sys/bus/pci/drivers/nvidia/unbind", b"0000:2b:00.0").unwrap();
    assert!(model.unload_module("nvidia"));
    let ran = run(&mounted, "release 2c:00", 0);
    assert_eq!(model.driver_of(GPU), None);
    let gpu = ran.one("change", "target", GPU);
    assert_eq!((&gpu["status"], &gpu["to"]), (&json!("changed"), &json!(null)));
    assert!(model.snapshot().dynamic_ids.is_empty(), "the id is taken back");
}

#[test]
fn a_missing_driver_is_reported_with_the_command_that_loads_it() {
    let model = Arc::new(ModelKernel::from_tree(&machine::tree("pve9-two-gpus").unwrap()));
    let mut mounted = Mounted::new(Arc::clone(&model)).unwrap();
    mounted.scratch("/run").unwrap();
    model.unload_module("vfio-pci");
    let before = model.snapshot();
    let ran = run(&mounted, "bind 2c:00", 3);
    assert!(ran.stderr.contains("  hint: modprobe vfio-pci\n"), "{}", ran.stderr);
    assert_eq!(model.snapshot(), before);
}

#[test]
fn a_vm_that_takes_the_group_meanwhile_keeps_it() {
    let (mounted, model) = host();
    run(&mounted, "bind 2c:00", 0);
    model.vm_take(29).unwrap();
    // no process holds a node here, so the unbind is tried and blocks
    let start = Instant::now();
    let ran = run(&mounted, "release 2c:00 --timeout 1", 3);
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(ran.stderr.contains("did not finish within 1 s"), "{}", ran.stderr);
    model.vm_drop(29);
}

/// Drivers of the second card's four functions.
fn drivers(model: &ModelKernel) -> Vec<String> {
    let driver = |function| model.driver_of(&format!("0000:2c:00.{function}"));
    (0..4).map(|function| driver(function).unwrap_or_default()).collect()
}

#[test]
fn a_hookscript_binds_the_gpu_of_its_vm_and_releases_it_when_the_vm_has_stopped() {
    let (mounted, model) = host_with_vms(&[
        (120, "cores: 4\nhostpci0: 0000:2c:00,pcie=1,x-vga=1\n"),
        (121, "cores: 2\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n"),
    ]);
    let before = drivers(&model);
    // a VM without a GPU, a container, phases without work
    for args in ["hook 121 pre-start", "hook 901 pre-start", "hook 120 post-start"] {
        assert!(run(&mounted, args, 0).records.is_empty(), "{args}");
    }
    assert_eq!(drivers(&model), before);
    let ran = run(&mounted, "hook 120 pre-start", 0);
    assert_eq!(drivers(&model), ["vfio-pci"; 4]);
    assert!(!ran.stderr.contains("qm set"), "{}", ran.stderr);
    // another VM's stop does not concern it
    run(&mounted, "hook 121 post-stop", 0);
    assert_eq!(drivers(&model), ["vfio-pci"; 4]);
    run(&mounted, "hook 120 post-stop", 0);
    assert_eq!(drivers(&model), before);
    // what the administrator bound stays bound
    let ran = run(&mounted, "bind 2c:00", 0);
    assert!(!ran.stderr.contains("qm set"), "{}", ran.stderr);
    run(&mounted, "hook 120 pre-start", 0);
    run(&mounted, "hook 120 post-stop", 0);
    assert_eq!(drivers(&model), ["vfio-pci"; 4]);
}

#[test]
fn a_hook_that_fails_rolls_back_and_keeps_the_vm_from_starting() {
    let conf = "hostpci0: 0000:2c:00,pcie=1\n";
    let (mounted, model) = host_with_vms(&[(120, conf), (122, "hostpci0: 2b:00\n")]);
    let before = model.snapshot();
    model.inject(Fault::Errno(6, libc::EINVAL));
    run(&mounted, "hook 120 pre-start", 3);
    assert_eq!(model.snapshot(), before);
    model.clear_faults();
    run(&mounted, "hook 120 post-stop", 0);
    assert_eq!(model.snapshot(), before);
    // a container has the first card
    let ran = run(&mounted, "hook 122 pre-start", 4);
    assert!(ran.stderr.contains("container 902"), "{}", ran.stderr);
    assert_eq!(model.snapshot(), before);
}

#[test]
fn after_a_bind_the_command_that_gives_the_slot_to_a_vm_is_shown() {
    // VM 100 of this host has the slot
    let (mounted, _model) = host_with_vms(&[(100, "cores: 2\n")]);
    let ran = run(&mounted, "bind 2c:00", 0);
    assert!(ran.stderr.contains("qm set VMID --hostpci0 0000:2c:00,pcie=1"), "{}", ran.stderr);
    // not records
    let print = |format: &str| {
        let output = std::process::Command::new(testbed::bed::program("gpu-vfio-bind"))
            .arg("--root")
            .arg(mounted.path())
            .args(["status", "2c:00", "--format", format])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(print("qm"), "qm set VMID --hostpci0 0000:2c:00,pcie=1\n");
    let mapping = "gpu-10de-1e07\n\tmap id=10de:1e07,iommugroup=29,node=pve1,path=0000:2c:00,\
                   subsystem-id=1458:37a9\n\n";
    assert_eq!(print("pve-mapping"), mapping);
    let text = print("kubevirt");
    assert!(text.contains("pciVendorSelector: \"10DE:1E07\""), "{text}");
    assert!(text.contains("resourceName: nvidia.com/TU102"), "{text}");
}
