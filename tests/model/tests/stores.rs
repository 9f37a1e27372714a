//! The error numbers and silences of the driver core's attributes.

mod common;

use common::*;
use modelkernel::Probe;

#[test]
fn an_override_that_is_not_set_reads_null_in_parentheses() {
    let k = two_gpus();
    assert_eq!(k.read(GPU, "driver_override"), "(null)\n");
    assert_eq!(k.set(GPU, "driver_override", "vfio-pci"), DONE);
    assert_eq!(k.read(GPU, "driver_override"), "vfio-pci\n");
}

#[test]
fn an_empty_write_reaches_no_store() {
    let k = two_gpus();
    assert_eq!(k.set(GPU, "driver_override", "x"), DONE);
    assert_eq!(k.set(GPU, "driver_override", ""), DONE);
    assert_eq!(k.read(GPU, "driver_override"), "x\n");
    assert_eq!(k.0.counters().writes, 1);
}

#[test]
fn an_override_ends_at_the_first_newline_and_a_newline_alone_clears_it() {
    let k = two_gpus();
    assert_eq!(k.set(GPU, "driver_override", "vfio-pci\nnvidia\n"), DONE);
    assert_eq!(k.read(GPU, "driver_override"), "vfio-pci\n");
    assert_eq!(k.set(GPU, "driver_override", "\n"), DONE);
    assert_eq!(k.read(GPU, "driver_override"), "(null)\n");
}

#[test]
fn an_override_that_begins_with_nul_is_cleared() {
    let k = two_gpus();
    assert_eq!(k.set(GPU, "driver_override", "x"), DONE);
    assert_eq!(k.set(GPU, "driver_override", "\0\0\0"), DONE);
    assert_eq!(k.read(GPU, "driver_override"), "(null)\n");
}

#[test]
fn an_override_of_a_page_less_one_is_invalid_and_one_shorter_is_not() {
    let k = two_gpus();
    assert_eq!(k.set(GPU, "driver_override", &"x".repeat(4095)), Err(libc::EINVAL));
    assert_eq!(k.set(GPU, "driver_override", &"x".repeat(9000)), Err(libc::EINVAL));
    assert_eq!(k.set(GPU, "driver_override", &"x".repeat(4094)), DONE);
}

#[test]
fn an_override_is_not_checked_and_unbinds_nothing() {
    let k = two_gpus();
    assert_eq!(k.set(GPU, "driver_override", "no such driver"), DONE);
    assert_eq!(k.driver_of(GPU), "nvidia");
    assert!(k.has(&device(GPU, "driver")));
}

#[test]
fn unbind_of_an_unknown_address_or_another_drivers_function_is_enodev() {
    let k = two_gpus();
    for address in ["2b:00.0", "0000:2B:00.0", "0000:2b:00.0 ", "0000:2b:00.0\n\n", "0000:ff:00.0"]
    {
        assert_eq!(k.unbind("nvidia", address), Err(libc::ENODEV), "{address}");
    }
    assert_eq!(k.unbind("nvidia", AUDIO), Err(libc::ENODEV));
    assert_eq!(k.unbind("nvidia", "0000:2b:00.0\n"), DONE);
    assert_eq!(k.unbind("nvidia", GPU), Err(libc::ENODEV));
    assert!(!k.has(&device(GPU, "driver")) && !k.has(&driver("nvidia", GPU)));
}

#[test]
fn bind_without_a_match_is_enodev() {
    let k = two_gpus();
    assert_eq!(k.bind("nvidia", "0000:ff:00.0"), Err(libc::ENODEV));
    assert_eq!(k.unbind("nvidia", GPU), DONE);
    // all of vfio-pci's table is override_only
    assert_eq!(k.bind("vfio-pci", GPU), Err(libc::ENODEV));
    assert_eq!(k.bind("snd_hda_intel", GPU), Err(libc::ENODEV));
    // the override names another
    assert_eq!(k.set(GPU, "driver_override", "vfio-pci"), DONE);
    assert_eq!(k.bind("nvidia", GPU), Err(libc::ENODEV));
    assert_eq!(k.bind("vfio-pci", GPU), DONE);
}

#[test]
fn bind_of_what_is_bound_is_ebusy() {
    let k = two_gpus();
    assert_eq!(k.bind("nvidia", GPU), Err(libc::EBUSY));
    assert_eq!(k.set(GPU, "driver_override", "vfio-pci"), DONE);
    assert_eq!(k.bind("vfio-pci", GPU), Err(libc::EBUSY));
}

#[test]
fn bind_says_eagain_for_a_deferred_probe_and_otherwise_the_probes_own_error() {
    let k = two_gpus();
    assert_eq!(k.unbind("nvidia", GPU), DONE);
    for (probe, errno) in [(Probe::Defers, libc::EAGAIN), (Probe::Fails(libc::EIO), libc::EIO)] {
        assert!(k.0.set_probe("nvidia", probe));
        assert_eq!(k.bind("nvidia", GPU), Err(errno));
        assert_eq!(k.driver_of(GPU), "");
    }
}

#[test]
fn vfio_refuses_bridges_and_functions_without_a_group_as_invalid() {
    let k = two_gpus();
    assert_eq!(k.set(BRIDGE, "driver_override", "vfio-pci"), DONE);
    assert_eq!(k.unbind("pcieport", BRIDGE), DONE);
    assert_eq!(k.bind("vfio-pci", BRIDGE), Err(libc::EINVAL));
    let k = of("iommu-off");
    assert!(k.0.load_module("vfio-pci"));
    let free = k.0.snapshot().functions.into_iter().find(|(_, f)| f.group.is_none());
    let (address, function) = free.unwrap();
    let address = address.to_string();
    if let Some(old) = function.driver {
        assert_eq!(k.unbind(&old, &address), DONE);
    }
    assert_eq!(k.set(&address, "driver_override", "vfio-pci"), DONE);
    assert_eq!(k.bind("vfio-pci", &address), Err(libc::EINVAL));
}

#[test]
fn a_native_driver_gets_nothing_of_a_group_that_a_vm_has() {
    let k = two_gpus();
    for address in [GPU, AUDIO, USB, UCSI] {
        k.to_vfio(address);
    }
    assert_eq!(k.unbind("vfio-pci", AUDIO), DONE);
    assert_eq!(k.set(AUDIO, "driver_override", "\n"), DONE);
    k.0.vm_take(GROUP).unwrap();
    assert_eq!(k.bind("snd_hda_intel", AUDIO), Err(libc::EBUSY));
    // refused before a driver is asked: drivers_probe tells
    assert_eq!(k.write(PROBE, AUDIO), Err(libc::EINVAL));
    k.0.vm_drop(GROUP);
    assert_eq!(k.bind("snd_hda_intel", AUDIO), DONE);
}

#[test]
fn drivers_probe_succeeds_where_nothing_matches_or_all_is_done() {
    let k = two_gpus();
    assert_eq!(k.write(PROBE, "0000:ff:00.0"), Err(libc::ENODEV));
    assert_eq!(k.write(PROBE, "2b:00.0"), Err(libc::ENODEV));
    assert_eq!(k.write(PROBE, GPU), DONE);
    assert_eq!(k.driver_of(GPU), "nvidia");
    assert_eq!(k.unbind("nvidia", GPU), DONE);
    assert_eq!(k.set(GPU, "driver_override", "none"), DONE);
    assert_eq!(k.write(PROBE, GPU), DONE);
    assert_eq!(k.driver_of(GPU), "");
}

#[test]
fn drivers_probe_passes_over_a_probe_that_fails_unless_told_to_report_it() {
    let k = two_gpus();
    assert_eq!(k.unbind("nvidia", GPU), DONE);
    k.0.set_probe("nvidia", Probe::Fails(libc::EIO));
    assert_eq!(k.write(PROBE, GPU), DONE);
    assert_eq!(k.driver_of(GPU), "");
    k.0.strict_drivers_probe(true);
    assert_eq!(k.write(PROBE, GPU), Err(libc::EINVAL));
    k.0.set_probe("nvidia", Probe::Binds);
    assert_eq!(k.write(PROBE, GPU), DONE);
    assert_eq!(k.driver_of(GPU), "nvidia");
}

#[test]
fn new_id_wants_two_numbers_in_one_write_and_no_duplicate() {
    let k = two_gpus();
    let new_id = driver("vfio-pci", "new_id");
    for (text, answer) in [
        ("10de", Err(libc::EINVAL)),
        ("", DONE),
        ("what ever", Err(libc::EINVAL)),
        ("10de 1e07 0 0 0 0 5", Err(libc::EINVAL)),
        ("10de 1e07\n", DONE),
        ("10de 1e07", Err(libc::EEXIST)),
        ("0x10de 0x10f7 1458 37a9", DONE),
    ] {
        assert_eq!(k.write(&new_id, text), answer, "{text}");
    }
    assert_eq!(k.write(&driver("nvidia", "new_id"), "10de 1e07"), DONE, "no class given");
    assert_eq!(
        k.write(&driver("nvidia", "new_id"), "10de 1e08 ffffffff ffffffff 030000 ffffff"),
        Err(libc::EEXIST),
        "in the table"
    );
}

#[test]
fn new_id_takes_at_once_all_unbound_cards_that_match() {
    let k = two_gpus();
    for address in [GPU, OTHER] {
        assert_eq!(k.unbind("nvidia", address), DONE);
    }
    assert_eq!(k.set(OTHER, "driver_override", "nvidia"), DONE);
    assert_eq!(k.write(&driver("vfio-pci", "new_id"), "10de 1e07"), DONE);
    assert_eq!(k.driver_of(GPU), "vfio-pci");
    assert_eq!(k.driver_of(OTHER), "", "its override names another");
}

#[test]
fn a_dynamic_id_stays_until_it_is_removed_or_its_driver_unloaded() {
    let k = two_gpus();
    let remove_id = driver("vfio-pci", "remove_id");
    assert_eq!(k.write(&remove_id, "10de 1e07"), Err(libc::ENODEV));
    assert_eq!(k.write(&driver("vfio-pci", "new_id"), "10de 1e07"), DONE);
    assert_eq!(k.unbind("nvidia", GPU), DONE);
    assert_eq!(k.bind("vfio-pci", GPU), DONE);
    assert_eq!(k.write(&remove_id, "10de"), Err(libc::EINVAL));
    assert_eq!(k.write(&remove_id, "10de 1e07"), DONE);
    assert_eq!(k.write(&remove_id, "10de 1e07"), Err(libc::ENODEV));
    assert_eq!(k.driver_of(GPU), "vfio-pci", "removing an id unbinds nothing");
    assert_eq!(k.write(&driver("vfio-pci", "new_id"), "10de 1e07"), DONE);
    assert!(k.0.unload_module("vfio_pci") && k.0.load_module("vfio-pci"));
    assert!(k.0.snapshot().dynamic_ids.is_empty());
    assert_eq!(k.driver_of(GPU), "");
}

#[test]
fn a_driver_whose_module_is_not_loaded_has_no_directory() {
    let k = two_gpus();
    assert!(k.0.unload_module("vfio-pci"));
    assert!(!k.has("/sys/bus/pci/drivers/vfio-pci") && !k.has("/sys/module/vfio_pci"));
    assert_eq!(k.bind("vfio-pci", GPU), Err(libc::ENOENT));
    assert!(!k.0.load_module("no_such_module"));
    assert!(k.0.load_module("vfio-pci"));
    assert_eq!(k.bind("vfio-pci", GPU), Err(libc::ENODEV));
}

#[test]
fn a_reset_wants_one_and_what_cannot_be_written_or_read_is_eacces() {
    let k = two_gpus();
    assert_eq!(k.set(GPU, "reset", "1"), DONE);
    assert_eq!(k.set(GPU, "reset", "2"), Err(libc::EINVAL));
    assert_eq!(k.set(AUDIO, "reset", "1"), Err(libc::ENOENT));
    assert_eq!(k.set(GPU, "vendor", "1"), Err(libc::EACCES));
    assert_eq!(k.0.read(&device(GPU, "reset")), Err(libc::EACCES));
    assert_eq!(k.0.read(&driver("nvidia", "bind")), Err(libc::EACCES));
    assert_eq!(k.0.read("/sys"), Err(libc::EISDIR));
    assert_eq!(k.0.read("/etc/hostname/x"), Err(libc::ENOTDIR));
}

#[test]
fn drivers_autoprobe_decides_what_a_module_finds_when_it_is_loaded() {
    let k = two_gpus();
    assert!(k.0.unload_module("nvidia"));
    assert_eq!(k.write("/sys/bus/pci/drivers_autoprobe", "0"), DONE);
    assert!(k.0.load_module("nvidia"));
    assert_eq!(k.driver_of(GPU), "");
    assert!(k.0.unload_module("nvidia"));
    assert_eq!(k.write("/sys/bus/pci/drivers_autoprobe", "1"), DONE);
    assert!(k.0.load_module("nvidia"));
    assert_eq!(k.driver_of(GPU), "nvidia");
}
