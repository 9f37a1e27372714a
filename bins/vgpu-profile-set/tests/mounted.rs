//! The tool itself on the mounted model kernel: real error numbers, lists that
//! shrink, a driver that refuses.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
#[path = "common/yaml.rs"]
mod yaml;

use common::{Host, PF, tree, vf};
use modelkernel::Fault;
use serde_json::json;

/// The loader's ConfigMap, as its page has it, with ids as this GPU has them.
const CONFIG_MAP: &str = "# One <bus-id>=<profile-id> per line. Profile IDs are\n\
    # driver-version-dependent - read them from\n\
    # /sys/bus/pci/devices/<VF>/nvidia/creatable_vgpu_types.\n\
    0000:41:00.4=1155\n0000:41:00.5=1155\n";

#[test]
fn a_config_map_is_applied_from_a_pipe_and_the_second_run_changes_nothing() {
    let host = Host::new();
    let ran = host.run("apply", CONFIG_MAP, 0);
    assert_eq!(ran.values("change", "status"), [json!("changed"), json!("changed")]);
    assert_eq!(ran.values("change", "to"), [json!("L40S-24Q"), json!("L40S-24Q")]);
    assert!(ran.stderr.contains("id 1155 is L40S-24Q here; use the name"), "{}", ran.stderr);
    assert_eq!(host.set()[..3], [1155, 1155, 0]);
    let writes = host.model.counters().writes;
    let by_name = "0000:41:00.4=L40S-24Q\n41:00.5=NVIDIA L40S-24Q\n";
    for input in [CONFIG_MAP, by_name] {
        let again = host.run("apply", input, 0);
        assert_eq!(again.values("change", "status"), [json!("unchanged"), json!("unchanged")]);
    }
    host.run("check", by_name, 0);
    assert_eq!(host.model.counters().writes, writes, "a second run writes nothing");
    // what list printed is put back after a reboot
    let listed = host.run("list", "", 0).stdout;
    host.model.vgpu_reboot();
    host.run("check", &listed, 1);
    host.run("apply -q", &listed, 0);
    assert_eq!(host.set()[..3], [1155, 1155, 0]);
    let cleared = host.run("clear 41:00.0", "", 0);
    assert_eq!(cleared.of_type("change").filter(|c| c["status"] == "changed").count(), 2);
    assert_eq!(host.set(), [0; 32]);
}

#[test]
fn what_does_not_fit_is_refused_before_any_write() {
    let host = Host::new();
    let count = |profile: &str, n: u32| {
        format!(
            "{{\"type\":\"vgpu-assignment\",\"address\":\"41:00.0\",\"profile\":\"{profile}\",\"count\":{n}}}\n"
        )
    };
    for (input, why) in [
        (
            "41:00.4=L40S-24Q\n41:00.5=L40S-12Q\n".to_string(),
            "different framebuffer sizes need heterogeneous mode",
        ),
        (count("L40S-24Q", 3), "need 72 GiB of framebuffer, the GPU has 48 GiB"),
        (count("L40S-1Q", 33), "32 of 32 are available"),
        ("41:00.4=L40S-1-24Q\n".to_string(), "0000:41:00.0 has no profile L40S-1-24Q"),
    ] {
        let ran = host.tool("apply").input(&input).run();
        let expected = if why.contains("no profile") { 2 } else { 4 };
        let ran = ran.expect(expected);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        host.tool("plan").input(&input).run().expect(expected);
    }
    assert_eq!(host.model.counters().writes, 0);
}

#[test]
fn bad_input_does_nothing_and_says_where() {
    let host = Host::new();
    for (input, code, why) in [
        ("", 2, "assigns no profile"),
        ("# nothing\n\n", 2, "assigns no profile"),
        ("41:00.4\n", 2, "standard input: line 1: '41:00.4' is not ADDRESS=PROFILE"),
        ("41:00.4=L40S-24Q\n41:00.4=L40S-24Q\n", 2, "line 2 names 0000:41:00.4 again"),
        ("41:00.4=<profile-id>\n", 2, "'<profile-id>' is not a vGPU profile"),
        (
            "41:00.4=77\n",
            2,
            "0000:41:00.0 has no profile with id 77\n  hint: available profiles: L40S-1B",
        ),
        ("41:00.4=A10-4Q\n", 2, "0000:41:00.0 has no profile A10-4Q"),
        ("41:00.0=L40S-24Q\n", 2, "0000:41:00.0 is a GPU and has no profile itself"),
        ("40:01.1=L40S-24Q\n", 2, "no NVIDIA GPU or virtual function at 0000:40:01.1"),
        (
            "{\"type\":\"vgpu-assignment\",\"address\":\"41:00.4\",\"profile\":\"L40S-4Q\",\"count\":2}",
            2,
            "a count is for a GPU",
        ),
        ("{\"type\":\"vgpu-assignment\",\"address\":\"41:00.4\"}", 2, "missing field `profile`"),
        ("{\"type\":\"pci-device\",\"address\":\"41:00.4\"}", 2, "assigns no profile"),
        (
            "{\"type\":\"error\",\"tool\":\"x\",\"message\":\"no\",\"exit\":3}",
            3,
            "stopped: x failed earlier in the pipeline: no",
        ),
        ("version: v1\nvgpu-configs:\n  a:\n  - devices: all\n", 2, "vgpu-devices is missing"),
        ("vgpu-configs:\n", 2, "version is missing"),
    ] {
        let ran = host.tool("apply").input(input).run().expect(code);
        assert!(ran.stderr.contains(why), "{input:?}: {}", ran.stderr);
    }
    host.tool("apply /nonexistent").run().expect(2);
    host.tool("apply --config a").input("41:00.4=L40S-24Q\n").run().expect(2);
    host.tool("clear").run().expect(2);
    host.tool("clear 99:00.0").run().expect(2);
    host.tool("clear x").run().expect(2);
    host.tool("list 99:00.0").run().expect(2);
    assert_eq!(host.model.counters().writes, 0);
}

#[test]
fn a_function_that_a_vm_holds_is_left_alone() {
    let host = Host::new();
    host.run("apply -q", "41:00.4=L40S-12Q\n41:00.5=L40S-12Q\n", 0);
    host.model.hold(&vf(0), 1);
    host.model.add_process(4242, "kvm", &["/dev/vfio/devices/vfio0"]);
    let listed = host.run("list 41:00.4", "", 0);
    assert_eq!(listed.records[0]["holder"]["pid"], 4242);
    host.model.reset_counters();
    let other = "41:00.4=L40S-12A\n41:00.5=L40S-12A\n";
    let ran = host.tool("apply").input(other).run().expect(4);
    assert!(ran.stderr.contains("0000:41:00.4: is in use by process 4242 (kvm)"), "{}", ran.stderr);
    host.tool("clear --all").run().expect(4);
    assert_eq!(host.model.counters().writes, 0);
    // a function in use that has the right profile is not an objection
    host.run("apply", "41:00.4=L40S-12Q\n41:00.6=L40S-12Q\n", 0);
    let ran = host.run("apply --skip-in-use", other, 0);
    assert_eq!(ran.values("change", "status"), [json!("skipped"), json!("changed")]);
    assert_eq!(host.set()[..3], [1153, 1163, 1153]);
    let ran = host.run("check", other, 1);
    assert_eq!(ran.one("check", "subject", &vf(0))["cause"], "left-alone");
    // by count the one in use counts, and is not chosen for anything else
    let two = format!(
        "{{\"type\":\"vgpu-assignment\",\"address\":\"{PF}\",\"profile\":\"L40S-12Q\",\"count\":2}}"
    );
    host.run("apply", &two, 0);
    assert_eq!(host.set()[..3], [1153, 0, 1153]);
}

#[test]
fn functions_that_proxmox_ve_manages_are_refused() {
    let mut tree = tree();
    tree.attr("/etc/pve/qemu-server/200.conf", "hostpci0: 0000:41:00.4,mdev=nvidia-1155");
    tree.attr(
        "/etc/pve/qemu-server/201.conf",
        "hostpci0: mapping=half,mdev=nvidia-1155\n[snap]\nhostpci1: 41:00.7,mdev=nvidia-1155",
    );
    tree.attr("/etc/pve/qemu-server/202.conf", "hostpci0: 0000:41:00.6,pcie=1");
    tree.file("/etc/pve/mapping/pci.cfg", "half\n\tmap id=10de:26b9,node=host1,path=0000:41:00.5\n\tmap id=10de:26b9,node=host2,path=0000:41:00.6\n\tmdev 1\n");
    tree.link("/etc/pve/local", "nodes/host1");
    let host = Host::of(&tree);
    for (function, vm) in [("41:00.4", "VM 200"), ("41:00.5", "VM 201")] {
        let ran = host.tool("apply").input(format!("{function}=L40S-24Q\n")).run().expect(4);
        assert!(
            ran.stderr.contains(&format!("belongs to {vm}: Proxmox VE sets its profile")),
            "{}",
            ran.stderr
        );
    }
    host.run("apply", "41:00.6=L40S-24Q\n41:00.7=L40S-24Q\n", 0);
    // by count they are passed over
    let host = Host::of(&tree);
    let one = format!(
        "{{\"type\":\"vgpu-assignment\",\"address\":\"{PF}\",\"profile\":\"L40S-48Q\",\"count\":1}}"
    );
    host.run("apply", &one, 0);
    assert_eq!(host.set()[..4], [0, 0, 1156, 0]);
}

#[test]
fn a_driver_that_refuses_is_answered_with_everything_as_before() {
    let wanted = "41:00.4=L40S-12A\n41:00.5=L40S-12A\n41:00.6=L40S-12A\n41:00.7=L40S-12A\n";
    for nth in 1..=6 {
        let host = Host::new();
        host.run("apply -q", "41:00.4=L40S-12Q\n41:00.5=L40S-12Q\n", 0);
        let before = host.set();
        host.model.reset_counters();
        host.model.inject(Fault::Errno(nth, libc::EIO));
        let ran = host.tool("apply").input(wanted).run().expect(3);
        assert_eq!(host.set(), before, "after a fault at write {nth}: {}", ran.stdout);
        let failed: Vec<_> = ran.of_type("change").filter(|c| c["status"] == "failed").collect();
        assert_eq!(failed.len(), 1, "{}", ran.stdout);
        assert!(
            failed[0]["reason"].as_str().unwrap().contains("input/output error"),
            "{}",
            failed[0]
        );
        host.model.clear_faults();
        host.run("apply -q", wanted, 0);
        assert_eq!(host.set()[..5], [1163, 1163, 1163, 1163, 0]);
    }
}

/// The recorded machine with its virtual functions off.
fn without_vfs() -> testbed::tree::Tree {
    let mut tree = tree();
    tree.entries.retain(|path, _| {
        let vf = (0..32).any(|index| path.contains(&format!("/{}", vf(index))));
        !vf && !path.contains("/virtfn")
    });
    for (path, entry) in &mut tree.entries {
        if path.ends_with("/sriov_numvfs") {
            *entry = testbed::tree::Entry::File(b"0\n".to_vec());
        }
    }
    tree
}

/// The driver lists nothing while virtual functions are off; NVIDIA's table of maxima
/// knows the board.
#[test]
fn what_cannot_fit_is_refused_before_virtual_functions_are_enabled() {
    let host = Host::of(&without_vfs());
    let count = |n: u32| {
        format!(
            "{{\"type\":\"vgpu-assignment\",\"address\":\"41:00.0\",\"profile\":\"L40S-24Q\",\"count\":{n}}}\n"
        )
    };
    for verb in ["plan", "apply"] {
        let ran = host.tool(verb).input(count(3)).run().expect(4);
        let why = "3 x L40S-24Q need 72 GiB of framebuffer, the GPU has 48 GiB";
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    host.run("plan", &count(2), 0);
    assert_eq!(host.model.counters().writes, 0);
}

/// A VF that was given to vfio-pci: the way back takes no profile from the others.
#[test]
fn one_function_on_another_driver_is_released_and_the_others_stay() {
    let mut tree = tree();
    tree.entries.retain(|path, _| !path.contains(&format!("/{}/nvidia/", vf(1))));
    let drivers: Vec<String> = tree
        .entries
        .keys()
        .filter(|path| path.ends_with(&format!("/{}/driver", vf(1))))
        .cloned()
        .collect();
    assert_eq!(drivers.len(), 1);
    tree.link_to(&drivers[0], "/sys/bus/pci/drivers/vfio-pci");
    let host = Host::of(&tree);
    let ran = host.tool("plan").input("41:00.5=L40S-24Q\n").run().expect(4);
    assert!(ran.stderr.contains("it is bound to vfio-pci, not to nvidia"), "{}", ran.stderr);
    let command = "hint: gpu-vfio-bind release 0000:41:00.5 --to nvidia\n";
    assert!(ran.stderr.contains(command), "{}", ran.stderr);
    assert!(!ran.stderr.contains("sriov-manage"), "{}", ran.stderr);
}

#[test]
fn virtual_functions_that_cannot_be_enabled_are_reported_and_nothing_is_set() {
    let mut tree = without_vfs();
    let host = Host::of(&tree);
    let ran = host.run("plan", "41:00.4=L40S-24Q\n", 0);
    assert_eq!(ran.values("change", "property"), ["sriov_numvfs", "vgpu_type"]);
    // nvidia has no sriov_configure: a plain write is refused
    let ran = host.tool("apply").input("41:00.4=L40S-24Q\n").run().expect(3);
    assert!(ran.stderr.contains("the nvidia driver refuses this write"), "{}", ran.stderr);
    assert!(ran.stderr.contains("/usr/lib/nvidia/sriov-manage"), "{}", ran.stderr);
    host.run("check", "41:00.4=L40S-24Q\n", 1);
    // with sriov-manage it is a step that takes a command
    tree.file("/usr/lib/nvidia/sriov-manage", "");
    let host = Host::of(&tree);
    let ran = host.run("apply", "41:00.4=L40S-24Q\n", 0);
    assert_eq!(ran.values("change", "status"), ["skipped", "skipped"]);
    assert_eq!(host.model.counters().writes, 0);
}

#[test]
fn a_configuration_of_vgpu_device_manager_sets_whole_gpus() {
    let host = Host::new();
    let file = "version: v1\nvgpu-configs:\n  half:\n  - device-filter: [\"0x26B910DE\", \"0x223610DE\"]\n    devices: all\n    \
        vgpu-devices:\n      \"L40S-24Q\": 1\n      \"L40S-24A\": 1\n  small:\n  - devices: [0]\n    vgpu-devices: {L40S-4Q: 12}\n  \
        none:\n  - devices: all\n    vgpu-devices: {}\n  other:\n  - device-filter: \"0x1DB110DE\"\n    devices: all\n    \
        vgpu-devices:\n      V100D-4Q: 2\n";
    host.run("apply --config half", file, 0);
    assert_eq!(host.set()[..3], [1155, 1165, 0]);
    host.run("check --config half", file, 0);
    host.run("check --config small", file, 1);
    host.run("apply --config small", file, 0);
    assert_eq!(host.set().iter().filter(|id| **id == 1150).count(), 12);
    host.run("apply --config none", file, 0);
    assert_eq!(host.set(), [0; 32]);
    // one file serves all nodes of a cluster, also those that have none of its GPUs
    let ran = host.tool("apply --config other").input(file).run().expect(0);
    assert!(
        ran.stderr.contains("selects no GPU of this host (NVIDIA GPUs of this host: 0x26B910DE at"),
        "{}",
        ran.stderr
    );
    let ran = host.tool("apply").input(file).run().expect(2);
    assert!(
        ran.stderr.contains("choose one with --config: half, small, none, other"),
        "{}",
        ran.stderr
    );
}

/// The recorded machine, and a GPU from before SR-IOV.
fn with_mdev() -> testbed::tree::Tree {
    let mut tree = tree();
    let dir = "/sys/devices/pci0000:40/0000:40:01.1/0000:42:00.0";
    tree.link_to("/sys/bus/pci/devices/0000:42:00.0", dir);
    for (name, value) in [
        ("vendor", "0x10de"),
        ("device", "0x1eb8"),
        ("class", "0x030200"),
        ("modalias", "pci:v000010DEd00001EB8sv000010DEsd000012A2bc03sc02i00"),
    ] {
        tree.attr(format!("{dir}/{name}"), value);
    }
    tree.link_to(&format!("{dir}/driver"), "/sys/bus/pci/drivers/nvidia");
    for (id, size, most) in [(222, 1, 16), (230, 2, 8), (231, 4, 4), (232, 8, 2), (233, 16, 1)] {
        let of = format!("{dir}/mdev_supported_types/nvidia-{id}");
        tree.attr(format!("{of}/name"), format!("GRID T4-{size}Q"));
        tree.attr(format!("{of}/available_instances"), most);
        let description = format!(
            "num_heads=4, frl_config=60, framebuffer={}M, max_resolution=7680x4320, max_instance={most}",
            size << 10
        );
        tree.attr(format!("{of}/description"), description);
        tree.file(format!("{of}/create"), "");
        tree.dir(format!("{of}/devices"));
    }
    tree
}

#[test]
fn older_cards_get_mediated_devices_with_uuids_that_stay() {
    let host = Host::of(&with_mdev());
    let count = |n: u32, profile: &str| {
        format!(
            "{{\"type\":\"vgpu-assignment\",\"address\":\"42:00.0\",\"profile\":\"{profile}\",\"count\":{n}}}\n"
        )
    };
    let mdevs = || host.model.snapshot().functions[&"42:00.0".parse().unwrap()].mdevs.clone();
    let types = host.run("list --types 42:00.0", "", 0);
    assert_eq!(types.values("vgpu-type", "available"), [16, 8, 4, 2, 1]);
    let ran = host.run("apply", &count(3, "T4-4Q"), 0);
    assert_eq!(ran.values("change", "status"), vec![json!("changed"); 3]);
    let first = mdevs();
    assert_eq!(first.values().collect::<Vec<_>>(), vec!["nvidia-231"; 3]);
    let again = host.run("apply", &count(3, "T4-4Q"), 0);
    assert_eq!(again.values("change", "status"), vec![json!("unchanged"); 3]);
    let listed = host.run("list 42:00.0", "", 0);
    assert_eq!(listed.of_type("vgpu").filter(|v| v["kind"] == "mdev").count(), 3);
    // too many of it, and another size beside it
    let ran = host.tool("apply").input(count(5, "T4-4Q")).run().expect(4);
    assert!(ran.stderr.contains("4 x T4-4Q would fit on an empty GPU"), "{}", ran.stderr);
    // another type: all go first, then all come, with the same UUIDs
    host.run("apply", &count(2, "T4-8Q"), 0);
    let second = mdevs();
    assert_eq!(second.values().collect::<Vec<_>>(), vec!["nvidia-232"; 2]);
    assert!(second.keys().all(|uuid| first.contains_key(uuid)));
    // a refusal half way brings back what was there
    host.model.reset_counters();
    host.model.inject(Fault::Errno(3, libc::EIO));
    host.tool("apply").input(count(4, "T4-4Q")).run().expect(3);
    assert_eq!(mdevs(), second);
    host.model.clear_faults();
    // the device of another program is counted and left alone
    let path = "/sys/bus/pci/devices/0000:42:00.0/mdev_supported_types/nvidia-232/create";
    host.run("apply", &count(1, "T4-8Q"), 0);
    host.model.write(path, b"11111111-2222-3333-4444-555555555555").unwrap();
    host.tool("apply").input(count(2, "T4-8Q")).run().expect(4);
    let ran = host.run("clear 42:00.0", "", 0);
    let foreign = ran.one("change", "status", "skipped");
    let reason = "mediated device 11111111-2222-3333-4444-555555555555 was made by another program";
    assert_eq!((&foreign["reason"], &foreign["from"]), (&json!(reason), &json!("T4-8Q")));
    assert_eq!(mdevs().keys().collect::<Vec<_>>(), ["11111111-2222-3333-4444-555555555555"]);
    host.run("apply -q", "42:00.0=T4-8Q\n", 0);
    host.run("check", "42:00.0=T4-8Q\n", 0);
    let host = Host::of(&with_mdev());
    host.model.write(path, b"00000000-0000-0000-0000-000000000100").unwrap();
    let ran = host.run("clear 42:00.0", "", 0);
    let reason = ran.one("change", "status", "skipped")["reason"].to_string();
    assert!(reason.contains("belongs to VM 100: Proxmox VE makes and removes it"), "{reason}");
}

#[test]
fn list_says_what_others_want_to_know() {
    let host = Host::new();
    let ran = host.tool("list --format kubevirt").text().run().expect(0);
    assert!(ran.stdout.contains("pciHostDevices: []"), "{}", ran.stdout);
    host.run("apply -q", "41:00.4=L40S-24Q\n", 0);
    let ran = host.tool("list --format kubevirt").text().run().expect(0);
    let value = yaml::to_json(&ran.stdout).unwrap().remove(0);
    let devices = &value["spec"]["configuration"]["permittedHostDevices"]["pciHostDevices"];
    assert_eq!(
        *devices,
        json!([{"pciVendorSelector": "10DE:26B9", "resourceName": "nvidia.com/L40S-24Q"}])
    );
    let ran = host.tool("list --format pve-mapping").text().run().expect(0);
    assert_eq!(
        ran.stdout.lines().filter(|line| line.starts_with("\tmap id=10de:26b9,")).count(),
        32
    );
    let types = host.run("list --types", "", 0);
    let whole = types.one("vgpu-type", "profile", "L40S-24A");
    assert_eq!((&whole["framebuffer"], &whole["available"]), (&json!(24u64 << 30), &json!(1)));
}
