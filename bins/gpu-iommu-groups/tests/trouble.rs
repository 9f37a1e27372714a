//! Reads that fail, hang or vanish; output that cannot be written.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::bed::program;
use testbed::{Bed, Tool};

const TOOL: &str = "gpu-iommu-groups";
const GPU: &str = "/sys/bus/pci/devices/0000:2b:00.0";

fn fifo(bed: &Bed, path: &str) {
    let _ = fs::remove_file(bed.at(path));
    let status = Command::new("mkfifo").arg(bed.at(path)).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_read_that_blocks_costs_its_function_what_follows_and_nobody_else_anything() {
    let bed = Bed::new("pve9-two-gpus");
    // a FIFO that nobody writes to blocks open(2) as a held device lock does
    fifo(&bed, &format!("{GPU}/driver_override"));
    let start = Instant::now();
    let ran = bed.tool(TOOL).arg("--all").run().expect(0);
    // two deadlines of 3 s: the second look finds out which read it is
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let ran = ran.one_line("0000:2b:00.0: reading driver_override blocks in the kernel");
    let stuck = ran.one("pci-device", "address", "0000:2b:00.0");
    assert_eq!(stuck["driver"], "nvidia");
    assert_eq!(stuck["vendor"], "0x10de");
    assert_eq!(stuck["driver_override"], Value::Null);
    let other = ran.one("pci-device", "address", "0000:2c:00.0");
    assert_eq!(other["nvidia"]["minor"], 1);
    assert_eq!(ran.records.len(), 55);
}

#[test]
fn the_driver_answering_no_more_is_a_warning() {
    let bed = Bed::new("pve9-two-gpus");
    fifo(&bed, "/proc/driver/nvidia/gpus/0000:2b:00.0/information");
    let ran = bed.tool(TOOL).arg("2b:00.0").run().expect(0).one_line("information blocks");
    assert_eq!(ran.records[0]["nvidia"]["minor"], Value::Null);
    assert_eq!(ran.records[0]["driver"], "nvidia");
}

#[test]
fn a_function_that_disappears_is_a_record_of_nulls_and_a_warning() {
    let bed = Bed::new("pve9-two-gpus");
    fs::remove_file(bed.at(GPU)).unwrap();
    symlink("../../../devices/pci0000:00/gone/0000:2b:00.0", bed.at(GPU)).unwrap();
    let ran = bed.tool(TOOL).arg("--all").run().expect(0);
    let ran = ran.one_line("0000:2b:00.0: disappeared while it was read");
    let gone = ran.one("pci-device", "address", "0000:2b:00.0");
    assert_eq!((&gone["vendor"], &gone["group"]), (&Value::Null, &Value::Null));
}

#[test]
fn attributes_that_fail_or_make_no_sense_are_null() {
    let bed = Bed::new("pve9-two-gpus");
    // as unreadable as an attribute that answers EIO: a directory in its place
    fs::remove_file(bed.at(&format!("{GPU}/numa_node"))).unwrap();
    fs::create_dir(bed.at(&format!("{GPU}/numa_node"))).unwrap();
    for (name, text) in [
        ("modalias", "pci:nonsense\n"),
        ("class", "\n"),
        ("vendor", "0xzz\n"),
        ("revision", ""),
        ("max_link_width", "255\n"),
        ("current_link_speed", "Unknown\n"),
        ("boot_vga", "\u{0}\u{1}"),
        ("driver_override", "\n"),
        ("reset_method", "\n"),
    ] {
        bed.write(&format!("{GPU}/{name}"), text);
    }
    let ran = bed.tool(TOOL).arg("2b:00.0").run().expect(0);
    let ran = ran.one_line("0000:2b:00.0: cannot read numa_node: is a directory");
    let gpu = &ran.records[0];
    for key in ["numa_node", "class", "vendor", "revision", "boot_vga", "driver_override"] {
        assert_eq!(gpu[key], Value::Null, "{key}");
    }
    assert_eq!(gpu["link"]["max_width"], Value::Null);
    assert_eq!(gpu["link"]["max_speed_gts"], 8.0);
    assert_eq!(gpu["reset_methods"], serde_json::json!([]));
}

#[test]
fn a_machine_without_modalias_or_alias_files_still_has_ids() {
    let bed = Bed::new("pve9-two-gpus");
    fs::remove_file(bed.at(&format!("{GPU}/modalias"))).unwrap();
    fs::remove_file(bed.at("/usr/share/misc/pci.ids")).unwrap();
    fs::remove_dir_all(bed.at("/lib/modules")).unwrap();
    let ran = bed.tool(TOOL).arg("2b:00.0").run().expect(0);
    let gpu = &ran.records[0];
    assert_eq!((&gpu["vendor"], &gpu["class"]), (&"0x10de".into(), &"0x030000".into()));
    assert_eq!(gpu["device_name"], Value::Null);
    assert_eq!(gpu["modules"], serde_json::json!([]));
    assert_eq!(ran.stderr, "");
}

#[test]
fn no_pci_bus_is_a_failure_of_the_system() {
    let bed = Bed::empty();
    let ran = bed.tool(TOOL).run().expect(3).one_line("/sys/bus/pci/devices'");
    assert_eq!(ran.records[0]["exit"], 3);
    let missing = bed.at("/none");
    Tool::new(TOOL).arg("--root").arg(missing).run().expect(2).one_line("cannot open");
}

#[test]
fn links_of_a_hostile_tree_lead_nowhere() {
    let bed = Bed::new("pve9-two-gpus");
    for name in ["vendor", "modalias", "numa_node", "driver_override"] {
        fs::remove_file(bed.at(&format!("{GPU}/{name}"))).unwrap();
        symlink("/etc/passwd", bed.at(&format!("{GPU}/{name}"))).unwrap();
    }
    fs::remove_file(bed.at("/usr/share/misc/pci.ids")).unwrap();
    symlink("/proc/self/environ", bed.at("/usr/share/misc/pci.ids")).unwrap();
    let ran = bed.tool(TOOL).arg("2b:00.0").run().expect(0);
    assert!(!ran.stdout.contains("root:"), "{}", ran.stdout);
    assert_eq!(ran.records[0]["driver_override"], Value::Null);
}

#[test]
fn a_closed_pipe_ends_it_quietly_and_a_full_disk_does_not() {
    let bed = Bed::new("pve9-l40s-vgpu");
    let mut child = Command::new(program(TOOL))
        .arg("--root")
        .arg(bed.path())
        .arg("--all")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(program(TOOL))
        .arg("--root")
        .arg(bed.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot write to standard output"), "{stderr}");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (args, what) in [("--help", "Usage:"), ("-h", "Usage:"), ("--version", "gpu-iommu-groups ")]
    {
        let ran = Tool::new(TOOL).args(args).text().run().expect(0);
        assert!(ran.stdout.contains(what), "{args}");
        assert_eq!(ran.stderr, "");
    }
    Tool::new(TOOL).args("--no-such").run().expect(2).one_line("unknown option '--no-such'");
}

#[test]
fn quiet_says_nothing_and_verbose_more() {
    let bed = Bed::new("iommu-off");
    assert_eq!(bed.tool(TOOL).arg("-q").run().expect(0).stderr, "");
    fs::remove_dir_all(bed.at("/lib/modules")).unwrap();
    assert!(bed.tool(TOOL).arg("-v").run().expect(0).stderr.contains("modules.alias"));
}
