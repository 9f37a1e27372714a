//! What drivers do beside binding: VFIO's nodes, nvidia's directory, VMs, VFs.

mod common;

use common::*;
use testbed::tree::Entry;

#[test]
fn vfio_makes_a_node_for_the_group_with_the_first_member_and_takes_it_with_the_last() {
    let k = two_gpus();
    assert!(!k.has_node("/dev/vfio/28"));
    k.to_vfio(AUDIO);
    assert!(k.has_node("/dev/vfio/28") && k.has_node("/dev/vfio/devices/vfio0"));
    assert!(k.has(&device(AUDIO, "vfio-dev/vfio0")));
    k.to_vfio(USB);
    assert!(k.has_node("/dev/vfio/devices/vfio1"));
    let list = String::from_utf8(k.0.read("/dev.list").unwrap()).unwrap();
    assert!(list.contains("c /dev/vfio/28 509:0 0600 0:0\n"), "{list}");
    assert!(list.contains("c /dev/vfio/devices/vfio1 508:1 0600 0:0\n"), "{list}");
    assert_eq!(k.unbind("vfio-pci", AUDIO), DONE);
    assert!(k.has_node("/dev/vfio/28") && !k.has(&device(AUDIO, "vfio-dev")));
    assert_eq!(k.unbind("vfio-pci", USB), DONE);
    assert!(!k.has_node("/dev/vfio/28") && !k.has_node("/dev/vfio/devices/vfio1"));
}

#[test]
fn a_group_is_viable_once_no_member_is_on_a_driver_of_the_host() {
    let k = two_gpus();
    k.to_vfio(GPU);
    assert!(!k.0.group_viable(GROUP));
    assert_eq!(k.0.vm_take(GROUP), Err(libc::EPERM));
    assert_eq!(k.0.vm_take(29), Err(libc::ENOENT));
    k.to_vfio(AUDIO);
    // driverless is enough
    assert_eq!(k.unbind("xhci_hcd", USB), DONE);
    assert_eq!(k.unbind("nvidia-gpu", UCSI), DONE);
    assert!(k.0.group_viable(GROUP));
    assert_eq!(k.0.vm_take(GROUP), Ok(()));
    assert_eq!(k.0.vm_take(GROUP), Err(libc::EBUSY));
}

#[test]
fn nvidia_has_a_directory_and_drm_nodes_only_while_it_is_bound() {
    let k = two_gpus();
    let before = k.0.to_tree();
    let information = format!("/proc/driver/nvidia/gpus/{GPU}/information");
    let by_path = format!("/dev/dri/by-path/pci-{GPU}-card");
    let shown = |k: &Bench| {
        let tree = k.0.to_tree();
        let paths = [&information, "/dev/dri/card1", "/sys/class/drm/renderD128", &by_path];
        paths.map(|path| tree.entries.contains_key(path))
    };
    assert_eq!(shown(&k), [true; 4]);
    assert_eq!(k.unbind("nvidia", GPU), DONE);
    assert_eq!(shown(&k), [false; 4]);
    assert_eq!(k.bind("nvidia", GPU), DONE);
    assert_eq!(k.0.to_tree().entries, before.entries);
}

#[test]
fn a_card_that_comes_back_takes_the_lowest_free_minor() {
    let k = two_gpus();
    for address in [GPU, OTHER] {
        assert_eq!(k.unbind("nvidia", address), DONE);
    }
    assert_eq!(k.bind("nvidia", OTHER), DONE);
    let path = format!("/proc/driver/nvidia/gpus/{OTHER}/information");
    let text = String::from_utf8(k.0.read(&path).unwrap()).unwrap();
    assert!(text.contains("Device Minor: \t 0\n"), "{text}");
}

#[test]
fn the_unbind_lock_is_granted_only_where_nobody_uses_the_card() {
    let k = two_gpus();
    let path = format!("/proc/driver/nvidia/gpus/{GPU}/unbindLock");
    assert_eq!(k.write(&path, "1"), DONE);
    assert_eq!(k.0.read(&path).unwrap(), b"1\n");
    assert_eq!(k.0.snapshot().unbind_locks.len(), 1);
    assert_eq!(k.write(&path, "0"), DONE);
    k.0.hold(GPU, 1);
    assert_eq!(k.write(&path, "1"), DONE, "busy is no error");
    assert_eq!(k.0.read(&path).unwrap(), b"0\n");
    assert_eq!(k.write(&path, "x"), Err(libc::EINVAL));
}

#[test]
fn the_number_of_vfs_is_refused_by_nvidia_and_bounded_for_all() {
    let k = of("a100-mig");
    let pf = "0000:01:00.0";
    assert_eq!(k.set(pf, "sriov_numvfs", "17"), Err(libc::ERANGE));
    assert_eq!(k.set(pf, "sriov_numvfs", "x"), Err(libc::EINVAL));
    assert_eq!(k.set(pf, "sriov_numvfs", "4"), Err(libc::ENOENT), "no sriov_configure");
    assert_eq!(k.set(pf, "sriov_numvfs", "0"), DONE, "what it is already");
    assert_eq!(k.unbind("nvidia", pf), DONE);
    assert_eq!(k.set(pf, "sriov_numvfs", "4"), Err(libc::ENOENT), "no driver");
}

#[test]
fn vfs_appear_at_offset_and_stride_in_groups_of_their_own_and_go_again() {
    let k = of("pve9-l40s-vgpu");
    let pf = "0000:25:00.0";
    let before = k.0.to_tree();
    assert_eq!(k.set(pf, "sriov_drivers_autoprobe", "0"), DONE);
    assert_eq!(k.set(pf, "sriov_numvfs", "3"), DONE);
    assert_eq!(k.read(pf, "sriov_numvfs"), "3\n");
    assert_eq!(k.set(pf, "sriov_numvfs", "2"), Err(libc::EBUSY));
    // offset 128, stride 2
    let vf = "0000:25:10.2";
    let snapshot = k.0.snapshot();
    let found = &snapshot.functions[&vf.parse().unwrap()];
    assert_eq!(found.driver, None);
    let groups: Vec<_> = snapshot.functions.values().filter(|f| f.group == found.group).collect();
    assert_eq!(groups.len(), 1);
    assert_eq!(k.read(vf, "device"), "0x1565\n");
    assert!(k.has(&device(pf, "virtfn1/physfn/virtfn2/iommu_group/devices")));
    assert!(k.0.load_module("vfio-pci"));
    assert_eq!(k.write(&driver("vfio-pci", "new_id"), "8086 1565"), DONE);
    assert_eq!(k.driver_of(vf), "", "sriov_drivers_autoprobe is off");
    assert_eq!(k.bind("vfio-pci", vf), Err(libc::ENODEV));
    assert_eq!(k.write(&driver("vfio-pci", "remove_id"), "8086 1565"), DONE);
    assert_eq!(k.set(vf, "driver_override", "vfio-pci"), DONE);
    if k.driver_of(vf).is_empty() {
        assert_eq!(k.write(PROBE, vf), DONE);
    }
    assert_eq!(k.driver_of(vf), "vfio-pci", "an override overrules sriov_drivers_autoprobe");
    assert_eq!(k.set(pf, "sriov_numvfs", "0"), DONE);
    assert!(!k.has(&device(vf, "vendor")) && !k.has(&device(pf, "virtfn0")));
    assert_eq!(k.set(pf, "sriov_drivers_autoprobe", "1"), DONE);
    let after = k.0.to_tree();
    let gone: Vec<_> = before.entries.keys().filter(|p| !after.entries.contains_key(*p)).collect();
    let new: Vec<_> = after.entries.keys().filter(|p| !before.entries.contains_key(*p)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    let expected = ["/sys/bus/pci/drivers/vfio-pci", "/sys/module/vfio_pci"];
    let only = |path: &&&String| !expected.iter().any(|known| path.starts_with(known));
    assert_eq!(new.iter().filter(only).count(), 0, "{new:?}");
}

#[test]
fn a_pf_on_vfio_makes_vfs_when_allowed_and_captures_them() {
    let k = of("a100-mig");
    let pf = "0000:01:00.0";
    k.to_vfio(pf);
    assert_eq!(k.set(pf, "sriov_numvfs", "2"), Err(libc::ENOENT), "enable_sriov is off");
    k.0.vfio_enable_sriov(true);
    assert_eq!(k.set(pf, "sriov_numvfs", "2"), DONE);
    let vf = "0000:01:00.4";
    assert_eq!(k.read(vf, "driver_override"), "vfio-pci\n");
    assert_eq!(k.driver_of(vf), "vfio-pci");
    let group = k.0.snapshot().functions[&vf.parse().unwrap()].group.unwrap();
    k.0.vm_take(group).unwrap();
    assert!(is_blocked(k.set(pf, "sriov_numvfs", "0")));
    k.0.vm_drop(group);
    assert!(!k.has(&device(vf, "vendor")));
    // and with the PF they go too
    assert_eq!(k.set(pf, "sriov_numvfs", "2"), DONE);
    assert_eq!(k.unbind("vfio-pci", pf), DONE);
    assert_eq!(k.read(pf, "sriov_numvfs"), "0\n");
}

#[test]
fn only_the_vgpu_host_driver_takes_vfs() {
    let k = of("a100-mig");
    let pf = "0000:01:00.0";
    // a card was found on vfio-pci without an override: its id must be a dynamic one
    assert_eq!(k.write(&driver("vfio-pci", "remove_id"), "10de 20b0"), DONE);
    assert_eq!(k.unbind("nvidia", pf), DONE);
    assert!(k.0.load_module("pci-pf-stub"));
    assert_eq!(k.set(pf, "driver_override", "pci-pf-stub"), DONE);
    assert_eq!(k.bind("pci-pf-stub", pf), DONE);
    assert_eq!(k.set(pf, "sriov_numvfs", "1"), DONE);
    let vf = "0000:01:00.4";
    assert_eq!(k.driver_of(vf), "");
    assert_eq!(k.bind("nvidia", vf), Err(libc::EPERM));
    k.0.vgpu_host(true);
    assert_eq!(k.bind("nvidia", vf), DONE);
    // the way of sriov-manage: VFs outlive the stub
    assert_eq!(k.unbind("pci-pf-stub", pf), DONE);
    assert_eq!(k.set(pf, "driver_override", "\n"), DONE);
    assert_eq!(k.bind("nvidia", pf), DONE);
    assert_eq!(k.driver_of(vf), "nvidia");
    assert_eq!(k.set(pf, "sriov_numvfs", "0"), Err(libc::ENOENT));
}

#[test]
fn every_recorded_machine_comes_out_of_the_model_as_it_went_in() {
    for name in testbed::machine::names() {
        let tree = testbed::machine::tree(&name).unwrap();
        let out = of(&name).0.to_tree();
        for (path, entry) in &tree.entries {
            assert_eq!(out.entries.get(path), Some(entry), "{name} {path}");
        }
        let added = out
            .entries
            .iter()
            .filter(|(path, entry)| **entry != Entry::Dir && !tree.entries.contains_key(*path));
        for (path, _) in added {
            let known = ["/sys/bus/pci/drivers/", "/dev/vfio/"];
            assert!(known.iter().any(|known| path.starts_with(known)), "{name} {path}");
        }
    }
}
