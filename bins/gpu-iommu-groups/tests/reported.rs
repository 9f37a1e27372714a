//! What the tool answers on hosts from public reports, and that gpu-vfio-bind
//! answers the same.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use testbed::tree::Tree;
use testbed::{Bed, Ran, reported};

const TOOL: &str = "gpu-iommu-groups";

fn bed(host: &str) -> Bed {
    Bed::of(&reported::tree(host).unwrap())
}

fn changed(host: &str, change: impl FnOnce(&mut Tree)) -> Bed {
    let mut tree = reported::tree(host).unwrap();
    change(&mut tree);
    Bed::of(&tree)
}

fn run(bed: &Bed, args: &str) -> Ran {
    bed.tool(TOOL).args(args).run()
}

/// Host, operands of `--check`, exit status, and what the records name. The
/// reports are named in tests/reported.
const TABLE: &[(&str, &str, i32, &str)] = &[
    // members without a driver, or on pci-stub, are in nobody's way
    ("dummy", "07:00", 0, "\"possible\""),
    ("stub", "01:00", 0, "\"possible\""),
    ("acn6", "", 1, "the boot display is on it"),
    ("msa2", "07:00", 1, "shares IOMMU group 0 with 0000:08:00.0 (nvme)"),
    // the kernel hands the group to nobody
    ("hprmrr", "", 1, "of kind 'direct' (RMRR)"),
    ("hprmrr", "", 1, "use another slot: only the firmware can give up the region"),
    ("i915sriov", "00:02.0", 1, "has 3 virtual functions enabled"),
    ("i915sriov", "00:02.2", 0, "\"bind\",\"0000:00:02.2\""),
    ("acs", "01:00", 1, "groups do not prove isolation"),
    // a display class other than VGA
    ("strix", "", 1, "the firmware frame buffer lies in its memory"),
    ("kgpe", "", 1, "interrupts are not remapped"),
    ("igfx", "00:02", 1, "replace 'intel_iommu=on,igfx_off' by 'intel_iommu=on'"),
    ("gh200off", "", 1, "enable the IOMMU (SMMU)"),
    ("hgx", "18:00", 0, "NVLink fabric with 4 NVSwitches (0000:05:00.0, "),
    ("overinuse", "01:00", 1, "process 777 (ollama) has /dev/nvidia0 open"),
    ("mapping", "00:02", 1, "may be in use; unknown: "),
    ("um890", "c5:00.4", 1, "/dev/sda1 is mounted on /mnt/backup"),
    ("vmmap", "01:00", 0, "\"possible\""),
];

#[test]
fn each_host_gets_its_verdict() {
    for (host, operands, code, what) in TABLE {
        let ran = run(&bed(host), &format!("--check {operands}")).expect(*code);
        let records: String = ran.records.iter().map(ToString::to_string).collect();
        assert!(records.contains(what), "{host} {operands}: '{what}' is not in {records}");
    }
}

/// The exit status of a bind, and whether all is bound already.
fn bind(bed: &Bed, args: &[&str]) -> (i32, bool) {
    let mut words = vec!["bind"];
    words.extend(args);
    words.push("-n");
    let ran = bed.tool("gpu-vfio-bind").args(&words.join(" ")).run();
    let all = ran.of_type("change").all(|change| change["status"] == "unchanged");
    (ran.code(), all && ran.of_type("change").next().is_some())
}

#[test]
fn what_check_says_is_what_bind_does() {
    for host in reported::names() {
        let bed = bed(&host);
        let listed = run(&bed, "--all -q");
        for device in listed.of_type("pci-device").filter(|d| d["passthrough"] != Value::Null) {
            let address = device["address"].as_str().unwrap();
            let ran = run(&bed, &format!("--check -q {address}"));
            let check = &ran.records[0];
            let (code, already) = bind(&bed, &[address]);
            let possible = match check["status"].as_str().unwrap() {
                "ok" => json!(true),
                "drift" => json!(false),
                _ => Value::Null,
            };
            assert_eq!(device["passthrough"]["possible"], possible, "{host} {address}");
            // a bound function needs nothing more of bind, whatever a VM meets
            if already {
                continue;
            }
            assert_eq!(code == 0, ran.code() == 0, "{host} {address}: {check} and bind: {code}");
            for command in check["commands"].as_array().unwrap() {
                let words: Vec<&str> =
                    command.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
                if let ["gpu-vfio-bind", "bind", rest @ ..] = words.as_slice() {
                    assert_eq!(bind(&bed, rest).0, 0, "{host} {address}: {words:?}");
                }
            }
        }
    }
}

#[test]
fn bind_warns_of_what_a_vm_would_meet_with_functions_that_are_bound() {
    let bed = bed("kgpe");
    let ran = bed.tool("gpu-vfio-bind").args("bind 02:00 -n").run().expect(0);
    assert!(ran.stderr.contains("0000:02:00.0: interrupts are not remapped"), "{}", ran.stderr);
}

#[test]
fn the_only_gpu_is_said_to_be_that_and_one_of_two_is_not() {
    // bind reads no more of the host than the slots that are named
    let two = Bed::new("pve9-two-gpus");
    let ran = two.tool("gpu-vfio-bind").args("bind 2c:00 -n").run().expect(0);
    assert_eq!(ran.stderr, "");
    let check = |bed: &Bed, slot: &str| {
        let ran = run(bed, &format!("--check {slot}"));
        ran.records[0]["reason"].as_str().unwrap_or("").contains("is the only GPU")
    };
    assert!(!check(&two, "2c:00"));
    assert!(check(&bed("gh200"), "0009:01:00"));
}

#[test]
fn interrupts_that_are_remapped_or_allowed_without_are_no_obstacle() {
    // names of the controllers as Linux 6.8 prints them on an AMD host with remapping
    let remapped = "           CPU0\n   0:         42  IR-IO-APIC    2-edge      timer\n";
    let bed = changed("kgpe", |tree| tree.file("/proc/interrupts", remapped));
    run(&bed, "--check").expect(0);
    let parameter = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
    run(&changed("kgpe", |tree| tree.file(parameter, "Y\n")), "--check").expect(0);
    let option = "options vfio_iommu_type1 allow_unsafe_interrupts=1\n";
    let before_it_is_loaded = |tree: &mut Tree| {
        tree.entries.remove(parameter);
        tree.file("/etc/modprobe.d/vfio.conf", option);
    };
    run(&changed("kgpe", before_it_is_loaded), "--check").expect(0);
}

#[test]
fn the_display_of_a_bmc_is_checked_only_by_name() {
    // 11 of 13 server boards have no other display
    let mut tree = reported::tree("t400").unwrap();
    for gpu in ["17:00", "65:00"] {
        let gone = |path: &String| path.contains(&format!("0000:{gpu}."));
        let paths: Vec<String> = tree.entries.keys().filter(|p| gone(p)).cloned().collect();
        paths.iter().for_each(|path| drop(tree.entries.remove(path)));
    }
    let bed = Bed::of(&tree);
    let ran = run(&bed, "").expect(0);
    assert_eq!(ran.one("pci-device", "address", "0000:03:00.0")["role"], "bmc-display");
    let ran = run(&bed, "--check").expect(1).one_line("no GPU is selected; the display of the BMC");
    assert!(ran.records.is_empty());
    let ran = run(&bed, "--check 03:00").expect(1);
    assert!(ran.records[0]["actual"].as_str().unwrap().contains("the boot display is on it"));
}

#[test]
fn a_gpu_that_is_being_removed_is_in_use() {
    // what is left of it where an unbind waits: NVIDIA's directory, without a driver link
    let bed = changed("overinuse", |tree| {
        let link = |path: &&String| path.ends_with("/0000:01:00.0/driver");
        let link = tree.entries.keys().find(link).unwrap().clone();
        tree.entries.remove(&link);
    });
    let ran = run(&bed, "01:00.0").expect(0);
    assert_eq!(ran.records[0]["passthrough"]["possible"], false);
    assert_eq!(ran.records[0]["usage"]["users"][0]["kind"], "removal");
    let ran = run(&bed, "--check 01:00").expect(1);
    assert!(ran.records[0]["actual"].as_str().unwrap().contains("is being removed from it"));
}

#[test]
fn users_are_in_the_record_and_in_the_table() {
    let bed = bed("overinuse");
    let ran = run(&bed, "01:00.0").expect(0);
    let users = &ran.records[0]["usage"]["users"];
    let process = users.as_array().unwrap().iter().find(|u| u["kind"] == "process").unwrap();
    assert_eq!((&process["pid"], &process["running"]), (&json!(777), &Value::Null));
    let container = users.as_array().unwrap().iter().find(|u| u["kind"] == "container").unwrap();
    assert_eq!((&container["ctid"], &container["running"]), (&json!(101), &json!(false)));
    let ran = bed.tool(TOOL).args("01:00.0 -o table").text().run().expect(0);
    assert!(ran.stdout.contains("process 777 (ollama), container 101 (stopped)"), "{}", ran.stdout);
    let ran = bed.tool(TOOL).args("00:01.0 -o table").text().run().expect(0);
    assert!(ran.stdout.lines().last().unwrap().contains("pcieport  -        -"), "{}", ran.stdout);
    // what is not known is neither nobody nor somebody
    let ran = self::bed("mapping").tool(TOOL).args("01:00.0 -o table").text().run().expect(0);
    assert!(ran.stdout.contains("ready    ?        TU102"), "{}", ran.stdout);
}

#[test]
fn a_display_that_showed_the_boot_says_so_since_linux_6_17() {
    // Documentation/ABI/testing/sysfs-bus-pci, boot_display: any display class has it
    let bed = changed("gh200", |tree| {
        let dir = "/sys/devices/pci0009:00/0009:00:00.0/0009:01:00.0";
        tree.file(format!("{dir}/boot_display"), "1\n");
    });
    let ran = run(&bed, "0009:01:00.0").expect(0);
    assert_eq!(ran.records[0]["boot_display"], true);
    assert_eq!(ran.records[0]["usage"]["users"][0]["kind"], "display");
    assert_eq!(bind(&bed, &["0009:01:00"]).0, 4);
}

#[test]
fn a_function_has_one_name_in_record_table_and_tree() {
    let model = "Model: \t\t NVIDIA H200\nBus Location: \t 0000:18:00.0\nDevice Minor: \t 0\n";
    let path = "/proc/driver/nvidia/gpus/0000:18:00.0/information";
    let bed = changed("hgx", |tree| tree.file(path, model));
    for (address, name) in
        [("18:00.0", "NVIDIA H200"), ("2a:00.0", "NVIDIA Corporation 3D controller")]
    {
        let ran = run(&bed, address).expect(0);
        assert_eq!(ran.records[0]["name"], name);
        for format in ["table", "tree"] {
            let args = format!("{address} -o {format}");
            let ran = bed.tool(TOOL).args(&args).text().run().expect(0);
            let last = ran.stdout.lines().last().unwrap();
            assert!(last.ends_with(&format!("  {name}")), "{format}: {last}");
        }
    }
}

#[test]
fn a_number_with_two_meanings_is_refused_with_both() {
    let minor = "Model: \t\t NVIDIA GeForce RTX 2080 Ti\nDevice Minor: \t 2\n";
    let path = "/proc/driver/nvidia/gpus/0000:01:00.0/information";
    // group 2 is the other GPU's
    let bed = changed("overinuse", |tree| tree.file(path, minor));
    let ran = run(&bed, "2").expect(2).one_line("IOMMU group 2 or the GPU of /dev/nvidia2");
    assert_eq!(ran.records[0]["commands"], json!([["gpu-iommu-groups", "group:2"]]));
    assert_eq!(run(&bed, "group:2").expect(0).values("pci-device", "address"), ["0000:00:02.0"]);
    assert_eq!(run(&bed, "1").expect(0).records.len(), 3);
    let ran = bed.tool("gpu-vfio-bind").args("bind group:2 -n --force display").run().expect(0);
    assert_eq!(ran.values("change", "target"), ["0000:00:02.0"]);
}

#[test]
fn a_switch_s_own_management_function_stays_with_the_host() {
    // a Microchip Switchtec: its management endpoint is function 1 of the upstream port
    let bed = changed("plx", |tree| {
        let group = "/sys/kernel/iommu_groups/30";
        let dir = "/sys/devices/pci0000:17/0000:17:00.0/0000:18:00.1";
        for (name, text) in [
            ("class", "0x058000\n"),
            ("vendor", "0x11f8\n"),
            ("device", "0x8536\n"),
            ("modalias", "pci:v000011F8d00008536sv00000000sd00000000bc05sc80i00\n"),
        ] {
            tree.file(format!("{dir}/{name}"), text);
        }
        let device = "/sys/bus/pci/devices/0000:18:00.1";
        tree.link(device, "../../../devices/pci0000:17/0000:17:00.0/0000:18:00.1");
        tree.link(format!("{dir}/iommu_group"), "../../../../kernel/iommu_groups/30");
        tree.link(
            format!("{group}/devices/0000:18:00.1"),
            "../../../../devices/pci0000:17/0000:17:00.0/0000:18:00.1",
        );
    });
    let ran = bed.tool("gpu-vfio-bind").args("bind 1b:00 --group -n").run().expect(0);
    let targets = ran.values("change", "target");
    assert_eq!(targets.len(), 4, "{targets:?}");
    assert!(!targets.contains(&json!("0000:18:00.1")), "{targets:?}");
    let switch = run(&bed, "18:00.1").expect(0);
    assert_eq!(switch.records[0]["passthrough"], Value::Null);
}

#[test]
fn a_vendor_vf_without_a_profile_is_not_ready() {
    let bed = Bed::new("pve9-l40s-vgpu");
    let ran = run(&bed, "--check --vendor 10de");
    for check in ran.of_type("check") {
        let subject = check["subject"].as_str().unwrap();
        let path = format!("/sys/bus/pci/devices/{subject}/nvidia/current_vgpu_type");
        if subject == "0000:41:00" {
            assert!(check["actual"].as_str().unwrap().contains("has 32 virtual functions enabled"));
            continue;
        }
        let none = bed.read(&path).trim() == "0";
        let status = if none { "drift" } else { "ok" };
        assert_eq!(check["status"], status, "{check}");
    }
}

#[test]
fn without_pci_ids_a_gpu_still_has_a_name() {
    let bed = changed("dummy", |tree| {
        tree.entries.retain(|path, _| !path.ends_with("/pci.ids"));
    });
    let ran = run(&bed, "07:00.0").expect(0);
    assert_eq!(ran.records[0]["name"], "NVIDIA Corporation VGA compatible controller");
    assert_eq!(ran.records[0]["device_name"], Value::Null);
}
