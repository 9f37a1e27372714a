//! On recorded machines: what the records say, and when the answer is no.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use serde_json::{Value, json};
use testbed::machine::{self, load};
use testbed::tree::Tree;
use testbed::{Bed, Ran};

const TOOL: &str = "gpu-iommu-groups";

fn run(bed: &Bed, args: &str) -> Ran {
    bed.tool(TOOL).args(args).run()
}

fn device<'a>(ran: &'a Ran, address: &str) -> &'a Value {
    ran.one("pci-device", "address", address)
}

/// A recorded machine with changes.
fn changed(name: &str, change: impl FnOnce(&mut machine::Machine)) -> Bed {
    let mut tree = machine::tree(name).unwrap();
    // the description's part is built anew; what files/ adds stays
    let mut description = load(name).unwrap();
    let mut before = Tree::default();
    description.build(&mut before);
    for path in before.entries.keys() {
        tree.entries.remove(path);
    }
    change(&mut description);
    description.build(&mut tree);
    Bed::of(&tree)
}

#[test]
fn every_function_of_every_machine_has_one_valid_record() {
    for name in machine::names() {
        let bed = Bed::new(&name);
        let ran = run(&bed, "--all -q").expect(0);
        let mut expected: Vec<String> = std::fs::read_dir(bed.at("/sys/bus/pci/devices"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        expected.sort();
        let mut addresses: Vec<String> = ran
            .values("pci-device", "address")
            .iter()
            .map(|a| a.as_str().unwrap().to_string())
            .collect();
        addresses.sort();
        assert_eq!(addresses, expected, "{name}");
        assert_eq!(ran.stderr, "", "{name}");
    }
}

#[test]
fn the_default_is_what_shares_a_slot_or_group_with_a_gpu() {
    let ran = run(&Bed::new("pve9-two-gpus"), "").expect(0);
    let addresses: Vec<_> = ran.values("pci-device", "address");
    assert_eq!(
        addresses,
        [
            "0000:28:00.0",
            "0000:29:00.0",
            "0000:2b:00.0",
            "0000:2b:00.1",
            "0000:2b:00.2",
            "0000:2b:00.3",
            "0000:2c:00.0",
            "0000:2c:00.1",
            "0000:2c:00.2",
            "0000:2c:00.3",
        ]
    );
    let roles: Vec<_> = ran.values("pci-device", "role");
    assert_eq!(
        roles,
        [
            "bridge",
            "bmc-display",
            "gpu",
            "gpu-audio",
            "gpu-usb",
            "gpu-ucsi",
            "gpu",
            "gpu-audio",
            "gpu-usb",
            "gpu-ucsi",
        ]
    );
}

#[test]
fn a_gpu_is_described_in_full() {
    let bed = Bed::new("pve9-two-gpus");
    let ran = run(&bed, "2c:00.0").expect(0);
    let gpu = device(&ran, "0000:2c:00.0");
    for (key, value) in [
        ("slot", json!("0000:2c:00")),
        ("domain", json!(0)),
        ("bus", json!(0x2c)),
        ("device_number", json!(0)),
        ("function_number", json!(0)),
        ("parent", json!("0000:00:03.2")),
        ("siblings", json!(["0000:2c:00.1", "0000:2c:00.2", "0000:2c:00.3"])),
        ("group", json!(29)),
        ("class", json!("0x030000")),
        ("vendor", json!("0x10de")),
        ("device", json!("0x1e07")),
        ("revision", json!("0xa1")),
        ("vendor_name", json!("NVIDIA Corporation")),
        ("device_name", json!("TU102 [GeForce RTX 2080 Ti Rev. A]")),
        ("class_name", json!("VGA compatible controller")),
        ("subsystem_name", Value::Null),
        ("driver", json!("nvidia")),
        ("driver_override", Value::Null),
        ("boot_vga", json!(false)),
        ("numa_node", Value::Null),
        ("sriov", Value::Null),
        ("vgpu_interface", Value::Null),
        ("drm_nodes", json!(["/dev/dri/card2", "/dev/dri/renderD129"])),
    ] {
        assert_eq!(gpu[key], value, "{key}");
    }
    assert_eq!(gpu["nvidia"]["minor"], 1);
    assert_eq!(gpu["nvidia"]["uuid"], "GPU-00000000-0000-0000-0000-000000000002");
    let modules: Vec<&str> =
        gpu["modules"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert!(modules.contains(&"nvidia") && modules.contains(&"nouveau"), "{modules:?}");
    assert_eq!(gpu["passthrough"]["isolated"], true);
    assert_eq!(gpu["passthrough"]["viable"], false);
    assert_eq!(gpu["passthrough"]["viable_once_bound"], true);
    let bmc = run(&bed, "29:00.0").expect(0);
    assert_eq!(device(&bmc, "0000:29:00.0")["boot_vga"], true);
    assert_eq!(device(&bmc, "0000:29:00.0")["nvidia"], Value::Null);
}

#[test]
fn operands_are_functions_slots_and_groups() {
    let bed = Bed::new("pve9-two-gpus");
    for (operands, count) in [
        ("2b:00.0", 1),
        ("2b:00", 4),
        ("0000:2b:00", 4),
        ("28", 4),
        ("group:28", 4),
        ("28 2b:00.1 0000:2C:00.0", 5),
    ] {
        assert_eq!(run(&bed, operands).expect(0).records.len(), count, "{operands}");
    }
    for (operand, what) in [
        ("99:00.0", "no function 0000:99:00.0"),
        ("99:00", "no slot 0000:99:00"),
        ("999", "no IOMMU group 999"),
        ("gpu0", "is neither a function"),
        ("2b:00.9", "is neither a function"),
    ] {
        let ran = run(&bed, operand).expect(2).one_line(what);
        assert_eq!(ran.records.len(), 1);
        assert_eq!(ran.records[0]["type"], "error");
        assert_eq!(ran.records[0]["exit"], 2);
    }
}

#[test]
fn filters_narrow_the_selection() {
    let bed = Bed::new("pve9-two-gpus");
    for (args, count) in [
        ("--vendor 10de", 8),
        ("--vendor 0x10DE", 8),
        ("--class 03", 3),
        ("--class 0300", 3),
        ("--class 0302", 0),
        ("--vendor 10de --class 0403", 2),
        ("--driver nvidia", 2),
        ("--driver none", 1),
        ("2b:00 --class 03", 1),
    ] {
        assert_eq!(run(&bed, args).expect(0).records.len(), count, "{args}");
    }
    for bad in ["--vendor nvidia", "--vendor 10de2", "--class 3", "--class xyz", "--all 2b:00"] {
        run(&bed, bad).expect(2);
    }
}

#[test]
fn a_group_with_strangers_names_them() {
    let bed = Bed::new("desktop-one-group");
    let ran = run(&bed, "06:00.0").expect(0);
    let verdict = &device(&ran, "0000:06:00.0")["passthrough"];
    assert_eq!(verdict["isolated"], false);
    assert_eq!(verdict["viable_once_bound"], false);
    let blockers = verdict["blockers"].as_array().unwrap();
    let of = |function: &str| {
        blockers.iter().find(|b| b["function"] == function).unwrap_or_else(|| panic!("{function}"))
    };
    assert_eq!(of("0000:02:00.1")["driver"], "ahci");
    assert_eq!(of("0000:02:00.1")["own_slot"], false);
    assert_eq!(of("0000:06:00.1")["own_slot"], true);
    // bridges on pcieport are in nobody's way
    assert!(!blockers.iter().any(|b| b["function"] == "0000:03:04.0"));
}

#[test]
fn without_an_iommu_there_are_no_groups_and_one_line_says_what_to_switch_on() {
    let bed = Bed::new("iommu-off");
    let ran = run(&bed, "").expect(0).one_line("the IOMMU is off: enable AMD-Vi");
    assert!(!ran.stderr.contains("command line"), "AMD needs no option: {}", ran.stderr);
    assert!(ran.values("pci-device", "group").iter().all(Value::is_null));
    let ran = run(&bed, "--check").expect(1);
    assert_eq!(ran.records[0]["status"], "drift");
    assert!(ran.records[0]["actual"].as_str().unwrap().contains("IOMMU is off"));
    assert!(ran.records[0]["hint"].as_str().unwrap().contains("AMD-Vi"));

    // Intel before Proxmox VE's 6.8 kernel needs the option as well
    let cpu = "processor\t: 0\nvendor_id\t: GenuineIntel\n";
    bed.write("/proc/cpuinfo", cpu);
    bed.write("/proc/sys/kernel/osrelease", "6.2.16-20-pve\n");
    run(&bed, "").one_line("VT-d in the firmware setup and add 'intel_iommu=on'");
    bed.write("/proc/sys/kernel/osrelease", "6.8.12-9-pve\n");
    let ran = run(&bed, "").one_line("VT-d");
    assert!(!ran.stderr.contains("intel_iommu"));
    bed.write("/proc/cmdline", "quiet intel_iommu=off\n");
    run(&bed, "").one_line("remove 'intel_iommu=off'");
}

#[test]
fn bound_to_vfio_is_ready_and_nouveau_is_bindable() {
    let ran = run(&Bed::new("nouveau-bound"), "").expect(0);
    let vfio = device(&ran, "0000:0b:00.0");
    assert_eq!(vfio["driver_override"], "vfio-pci");
    assert_eq!(vfio["passthrough"]["viable"], true);
    assert_eq!(vfio["passthrough"]["blockers"], json!([]));
    assert_eq!(vfio["vfio_device"], "vfio0");
    assert_eq!(vfio["nvidia"], Value::Null);
    let nouveau = device(&ran, "0000:0c:00.0");
    assert_eq!(nouveau["passthrough"]["viable"], false);
    assert_eq!(nouveau["passthrough"]["viable_once_bound"], true);
}

#[test]
fn a_pf_lists_its_vfs_in_order_and_a_vf_names_its_pf() {
    let ran = run(&Bed::new("pve9-l40s-vgpu"), "--vendor 10de").expect(0);
    let pf = device(&ran, "0000:41:00.0");
    assert_eq!(pf["sriov"]["role"], "pf");
    assert_eq!(pf["sriov"]["total"], 32);
    assert_eq!(pf["sriov"]["enabled"], 32);
    let vfs: Vec<&str> =
        pf["sriov"]["vfs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(vfs.len(), 32);
    assert_eq!((vfs[0], vfs[4], vfs[31]), ("0000:41:00.4", "0000:41:01.0", "0000:41:04.3"));
    assert_eq!(pf["siblings"], json!([]), "VFs are no siblings of their PF");
    assert_eq!(pf["vgpu_interface"], Value::Null);
    let vf = device(&ran, "0000:41:04.3");
    assert_eq!(vf["sriov"], json!({"role": "vf", "pf": "0000:41:00.0"}));
    assert_eq!(vf["vgpu_interface"], "vendor");
    assert_eq!(vf["passthrough"]["viable"], true, "NVIDIA's driver itself offers it to VFIO");
}

#[test]
fn groups_are_records_too() {
    let bed = Bed::new("pve9-two-gpus");
    let ran = run(&bed, "--groups").expect(0);
    assert_eq!(ran.values("iommu-group", "group"), [27, 28, 29]);
    let group = ran.of_type("iommu-group").nth(1).unwrap();
    assert_eq!(group["domain_type"], "identity");
    assert_eq!(group["members"].as_array().unwrap().len(), 4);
    assert_eq!(group["rule"], "dma-owner");
    assert_eq!((&group["viable"], &group["isolated"]), (&json!(false), &json!(true)));
    assert_eq!(group["reserved_regions"][0]["kind"], "msi");
    let all = run(&bed, "--groups --all").expect(0);
    let ids = all.values("iommu-group", "group");
    assert!(!ids.contains(&json!(22)) && ids.contains(&json!(23)), "ids have holes: {ids:?}");
    let ran = run(&Bed::new("desktop-one-group"), "--groups --all").expect(0);
    let other = ran.of_type("iommu-group").find(|g| g["other_members"] != json!([])).unwrap();
    assert_eq!(other["isolated"], false);
}

#[test]
fn check_answers_for_each_slot() {
    let bed = Bed::new("pve9-two-gpus");
    let ran = run(&bed, "--check --vendor 10de").expect(1);
    assert_eq!(ran.values("check", "subject"), ["0000:2b:00", "0000:2c:00"]);
    // a container is given the first one
    let remove = serde_json::json!([["lxc-gpu-conf", "remove", "902", "--gpu", "0000:2b:00.0"]]);
    assert_eq!(ran.records[0]["status"], "drift");
    assert_eq!(ran.records[0]["commands"], remove);
    let bind = serde_json::json!([["gpu-vfio-bind", "bind", "0000:2c:00"]]);
    assert_eq!(ran.records[1]["status"], "ok");
    assert_eq!(ran.records[1]["commands"], bind);
    let ran = run(&Bed::new("desktop-one-group"), "--check").expect(1);
    let shared = ran.one("check", "subject", "0000:06:00");
    assert_eq!(shared["status"], "drift");
    assert!(shared["actual"].as_str().unwrap().contains("0000:02:00.0"));
    let given = ran.one("check", "subject", "0000:07:00");
    assert!(given["actual"].as_str().unwrap().contains("container 101 is given /dev/nvidia"));
    // what is named is checked, GPU or not
    run(&bed, "--check 2c:00.2").expect(0);
    // nothing to check is no yes
    run(&bed, "--check --vendor 1234").expect(1).one_line("no GPU is selected");
}

#[test]
fn an_active_acs_override_means_that_groups_prove_nothing() {
    let bed =
        changed("pve9-two-gpus", |m| m.cmdline += " pcie_acs_override=downstream,multifunction");
    let ran = run(&bed, "2b:00.0").expect(0).one_line("groups do not prove isolation");
    let verdict = &device(&ran, "0000:2b:00.0")["passthrough"];
    assert_eq!(verdict["isolated"], Value::Null);
    assert!(verdict["blockers"].to_string().contains("pcie_acs_override"));
    let ran = run(&bed, "--check 2c:00").expect(1);
    assert_eq!(ran.records[0]["status"], "unknown");
    assert_eq!(run(&bed, "--groups 28").expect(0).records[0]["acs_override"], true);
}

#[test]
fn a_direct_reserved_region_blocks_and_a_relaxable_one_does_not() {
    for (kind, viable) in [("direct", false), ("direct-relaxable", true), ("reserved", true)] {
        let bed = changed("pve9-two-gpus", |m| {
            let group = m.groups.iter_mut().find(|g| g.id == 29).unwrap();
            group.reserved = Some(vec![format!("0x000000008d000000 0x000000008f7fffff {kind}")]);
        });
        let ran = run(&bed, "2c:00.0").expect(0);
        let verdict = &device(&ran, "0000:2c:00.0")["passthrough"];
        assert_eq!(verdict["viable_once_bound"], viable, "{kind}");
        run(&bed, "--check 2c:00").expect(i32::from(!viable));
    }
}

#[test]
fn the_kernel_decides_about_bridges_by_its_age() {
    // a bridge with a driver of its own in the GPU's group
    let with = |kernel: &str| {
        changed("pve9-two-gpus", |m| {
            m.kernel = kernel.into();
            let port =
                m.functions.iter_mut().find(|f| f.address.to_string() == "0000:00:03.1").unwrap();
            port.group = Some(28);
            port.driver = Some("shpchp".into());
        })
    };
    let verdict = |bed: &Bed| {
        let ran = run(bed, "2b:00.0").expect(0);
        device(&ran, "0000:2b:00.0")["passthrough"].clone()
    };
    let old = verdict(&with("5.15.158-2-pve"));
    assert_eq!(old["viable_once_bound"], true, "any bridge was fine before 5.19");
    assert_eq!(old["isolated"], true, "a bridge is no endpoint");
    let new = verdict(&with("6.14.11-4-pve"));
    assert_eq!(new["viable_once_bound"], Value::Null, "it depends on that driver now");
    assert!(new["blockers"].to_string().contains("shpchp"));
    let bed = changed("pve9-two-gpus", |m| {
        let port =
            m.functions.iter_mut().find(|f| f.address.to_string() == "0000:00:03.1").unwrap();
        port.group = Some(28);
    });
    assert_eq!(verdict(&bed)["viable_once_bound"], true, "pcieport is fine under either rule");
    assert_eq!(run(&with("5.15.158-2-pve"), "--groups 28").records[0]["rule"], "driver");
}

#[test]
fn long_domains_are_functions_like_any_other() {
    let bed = changed("pve9-two-gpus", |m| {
        for (index, address) in ["10000:e0:01.0", "10000:e1:00.0"].into_iter().enumerate() {
            let mut f = m.functions[1].clone();
            f.address = address.parse().unwrap();
            f.parent = (index == 1).then(|| "10000:e0:01.0".parse().unwrap());
            f.header_type = u8::from(index == 0);
            f.class = if index == 0 { "0x060400" } else { "0x010802" }.into();
            m.functions.push(f);
        }
    });
    let ran = run(&bed, "10000:e1:00.0").expect(0);
    let nvme = device(&ran, "10000:e1:00.0");
    assert_eq!((&nvme["domain"], &nvme["parent"]), (&json!(0x10000), &json!("10000:e0:01.0")));
    assert_eq!(run(&bed, "10000:e1:00").expect(0).records.len(), 1);
    assert!(run(&bed, "--all").expect(0).stdout.contains("\"10000:e1:00.0\""));
}

#[test]
fn the_tree_shows_topology_and_verdicts() {
    let ran = Bed::new("desktop-one-group").tool(TOOL).args("-o tree").text().run().expect(0);
    let expected = "\
pci0000:00
├─0000:00:01.3        group 2   bridge     1022:1483  pcieport       -             PCI bridge
│ ├─0000:02:00.0      group 15  other      1022:43d5  xhci_hcd       shared group  400 Series Chipset USB 3.1 xHCI Compliant Host Controller
│ ├─0000:02:00.1      group 15  other      1022:43c8  ahci           shared group  400 Series Chipset SATA Controller
│ └─0000:02:00.2      group 15  bridge     1022:43c6  pcieport       -             400 Series Chipset PCIe Bridge
│   ├─0000:03:00.0    group 15  bridge     1022:43c7  pcieport       -             400 Series Chipset PCIe Port
│   ├─0000:03:01.0    group 15  bridge     1022:43c7  pcieport       -             400 Series Chipset PCIe Port
│   │ └─0000:05:00.0  group 15  other      10ec:8125  r8169          shared group  RTL8125 2.5GbE Controller
│   └─0000:03:04.0    group 15  bridge     1022:43c7  pcieport       -             400 Series Chipset PCIe Port
│     ├─0000:06:00.0  group 15  gpu        10de:1288  nvidia         shared group  GK208B [GeForce GT 720]
│     └─0000:06:00.1  group 15  gpu-audio  10de:0e0f  snd_hda_intel  shared group  GK208 HDMI/DP Audio Controller
└─0000:00:03.1        group 5   bridge     1022:1483  pcieport       -             PCI bridge
  ├─0000:07:00.0      group 16  gpu        10de:1e04  nvidia         in use        TU102 [GeForce RTX 2080 Ti]
  ├─0000:07:00.1      group 16  gpu-audio  10de:10f7  snd_hda_intel  in use        TU102 High Definition Audio Controller
  ├─0000:07:00.2      group 16  gpu-usb    10de:1ad6  xhci_hcd       in use        TU102 USB 3.1 Host Controller
  └─0000:07:00.3      group 16  gpu-ucsi   10de:1ad7  nvidia-gpu     in use        TU102 USB Type-C UCSI Controller
";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn the_table_is_aligned() {
    let ran = Bed::new("pve9-two-gpus").tool(TOOL).args("2b:00 -o table").text().run().expect(0);
    let expected = "\
ADDRESS       GROUP  ROLE       ID         DRIVER         VERDICT  USED BY                  NAME
0000:2b:00.0  28     gpu        10de:1e07  nvidia         in use   container 902 (stopped)  TU102 [GeForce RTX 2080 Ti Rev. A]
0000:2b:00.1  28     gpu-audio  10de:10f7  snd_hda_intel  in use   -                        TU102 High Definition Audio Controller
0000:2b:00.2  28     gpu-usb    10de:1ad6  xhci_hcd       in use   -                        TU102 USB 3.1 Host Controller
0000:2b:00.3  28     gpu-ucsi   10de:1ad7  nvidia-gpu     in use   -                        TU102 USB Type-C UCSI Controller
";
    assert_eq!(ran.stdout, expected);
}
