//! `add` on recorded Proxmox hosts: what changes, what does not, what is refused.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;

use common::{BY_HAND, HOST, TOOL, commands, conf, host, make_node, run};
use serde_json::json;
use testbed::{Bed, Ran};

fn add(bed: &Bed, args: &str) -> Ran {
    bed.tool(TOOL).arg("add").args(args).run()
}

/// Lines that `after` has and `before` has not, provided that nothing is gone
/// and nothing has moved.
fn added(before: &str, after: &str) -> Vec<String> {
    let mut rest = before.split_inclusive('\n').peekable();
    let mut added = Vec::new();
    for line in after.split_inclusive('\n') {
        if rest.peek() == Some(&line) {
            rest.next();
        } else {
            added.push(line.trim_end().to_string());
        }
    }
    assert_eq!(rest.next(), None, "a line is gone or has moved:\n{after}");
    added
}

fn pci(address: &str) -> String {
    format!("{{\"type\":\"pci-device\",\"address\":\"{address}\"}}\n")
}

#[test]
fn only_the_main_section_changes_and_free_indices_are_used() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(901));
    let ran = bed.tool(TOOL).args("add 901").input(pci("0000:2b:00.0") + &pci("2c:00.0")).run();
    let ran = ran.expect(0).one_line("the change takes effect the next time the container starts");
    let after = bed.read(&conf(901));
    assert_eq!(
        added(&before, &after),
        [
            "dev1: /dev/nvidia0,mode=0666",
            "dev2: /dev/nvidia1,mode=0666",
            "dev4: /dev/nvidiactl,mode=0666",
            "dev5: /dev/nvidia-uvm,mode=0666",
            "dev6: /dev/nvidia-uvm-tools,mode=0666",
            "dev7: /dev/nvidia-modeset,mode=0666",
        ]
    );
    let main_end = after.find("\n[").unwrap();
    assert!(after.rfind("nvidia").unwrap() < main_end, "only in the main section");
    assert!(ran.values("change", "status").iter().all(|s| s == "changed"));
    let again = bed.tool(TOOL).args("add 901").input(pci("2c:00.0") + &pci("2b:00.0")).run();
    let again = again.expect(0);
    assert_eq!(again.values("change", "status"), vec![json!("unchanged"); 6]);
    assert_eq!(again.stderr, "");
    assert_eq!(bed.read(&conf(901)), after);
}

#[test]
fn the_second_gpu_joins_the_first() {
    let bed = Bed::new(HOST);
    add(&bed, "904 --gpu 0").expect(0);
    let before = bed.read(&conf(904));
    let ran = add(&bed, "904 --gpu GPU-00000000-0000-0000-0000-000000000002").expect(0);
    assert_eq!(added(&before, &bed.read(&conf(904))), ["dev5: /dev/nvidia1,mode=0666"]);
    assert_eq!(ran.values("change", "status").iter().filter(|s| *s == "unchanged").count(), 4);
}

#[test]
fn a_gpu_is_named_by_address_uuid_minor_or_all() {
    for names in [
        "--gpu 2b:00.0",
        "--gpu 0000:2B:00.0",
        "--gpu 00000000:2b:00.0",
        "-g 0",
        "--gpu GPU-00000000-0000-0000-0000-000000000001",
        "--gpu gpu-00000000-0000-0000-0000-000000000001",
        "-g 0,2b:00.0",
        "-g 0 -g 0",
    ] {
        let bed = Bed::new(HOST);
        add(&bed, &format!("904 {names}")).expect(0);
        let text = bed.read(&conf(904));
        assert!(text.contains("/dev/nvidia0,") && !text.contains("/dev/nvidia1,"), "{names}");
    }
    let bed = Bed::new(HOST);
    add(&bed, "904 -g all").expect(0);
    assert!(bed.read(&conf(904)).contains("/dev/nvidia1,"));
}

#[test]
fn nothing_is_written_by_a_dry_run_or_a_check() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(901));
    let ran = add(&bed, "901 -g 0 --dry-run").expect(0);
    assert_eq!(ran.values("change", "status"), vec![json!("planned"); 5]);
    let ran = add(&bed, "901 -g 0 --check").expect(1);
    assert_eq!(ran.values("check", "status"), vec![json!("drift"); 5]);
    assert_eq!(ran.records[0]["expected"], "/dev/nvidia0,mode=0666");
    assert_eq!(bed.read(&conf(901)), before);
    assert!(!bed.at("/run").exists(), "not even a lock file");
    add(&bed, "901 -g 0").expect(0);
    let ran = add(&bed, "901 -g 0 --check").expect(0);
    assert_eq!(ran.values("check", "status"), vec![json!("ok"); 5]);
}

#[test]
fn an_old_proxmox_gets_mount_entries() {
    let bed = Bed::new("iommu-off");
    let before = bed.read(&conf(101));
    add(&bed, "101 -g all").expect(0);
    let nodes = ["nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];
    let expected = nodes.map(|node| {
        format!("lxc.mount.entry: /dev/{node} dev/{node} none bind,optional,create=file")
    });
    assert_eq!(added(&before, &bed.read(&conf(101))), expected);
}

#[test]
fn a_privileged_container_with_mounts_gets_the_rules_it_lacks() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(902));
    add(&bed, "902 -g 0").expect(0);
    assert_eq!(
        added(&before, &bed.read(&conf(902))),
        ["lxc.cgroup2.devices.allow: c 511:0 rw", "lxc.cgroup2.devices.allow: c 511:1 rw"]
    );
    let ran = bed.tool(TOOL).args("show 902").run().expect(0);
    assert_eq!(ran.records[0]["problems"], json!([]));
    // one target given twice would keep it from starting
    let ran = add(&bed, "902 -g 0 --style dev").expect(4);
    assert_eq!(ran.records[0]["status"], "refused");
    assert_eq!(commands(&ran.records[0]), ["lxc-gpu-conf add 902 --gpu 0 --convert"]);
    assert!(ran.records[0]["hint"].as_str().unwrap().contains("--style mount"));
}

#[test]
fn bad_input_is_exit_2_and_leaves_the_file_alone() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(901));
    for (input, what) in [
        ("", "standard input is empty"),
        ("\n\n", "standard input is empty"),
        ("{\"type\":\"pci-device\",\"address\":\"0000:2b:", "line 1: cut off"),
        ("0000:2b:00.0\n", "an address, not a record"),
        ("{\"type\":\"pci-device\",\"address\":\"0000:99:00.0\"}", "no function 0000:99:00.0"),
        ("{\"type\":\"pci-device\",\"address\":\"0000:2b:00.1\"}", "no record on standard input"),
        ("{\"type\":\"pci-device\",\"address\":\"0000:29:00.0\"}", "is an NVIDIA GPU"),
    ] {
        let ran = bed.tool(TOOL).args("add 901").input(input).run().expect(2).one_line(what);
        assert_eq!(ran.records.last().unwrap()["exit"], 2, "{input}");
    }
    let good_then_bad = pci("2b:00.0") + "{\"type\":\n";
    bed.tool(TOOL).args("add 901").input(good_then_bad).run().expect(2).one_line("line 2: cut off");
    for (args, what) in [
        ("901 -g 7", "no GPU with minor 7"),
        ("901 -g GPU-00000000-0000-0000-0000-00000000000f", "no GPU GPU-"),
        ("901 -g 99:00.0", "no function 0000:99:00.0"),
        ("901 -g 2b:00.1", "is not a GPU"),
        ("901 -g 29:00.0", "is not an NVIDIA GPU"),
        ("901 -g card0", "is not an address"),
        ("999 -g 0", "container 999 does not exist"),
        ("100 -g 0", "100 is a VM"),
        ("99 -g 0", "a container is named by its CTID"),
        ("abc -g 0", "a container is named by its CTID"),
    ] {
        add(&bed, args).expect(2).one_line(what);
    }
    assert_eq!(bed.read(&conf(901)), before);
}

#[test]
fn a_stream_that_holds_nothing_of_use_is_told_by_type() {
    let bed = Bed::new(HOST);
    let weather = "{\"type\":\"weather\"}\n{\"type\":\"weather\"}\n";
    let ran = bed.tool(TOOL).args("add 901").input(weather).run().expect(2);
    assert!(ran.stderr.contains("ignored 2 records of type 'weather'"), "{}", ran.stderr);
    let ran = bed.tool(TOOL).args("add 901").input(weather.to_string() + &pci("2b:00.0")).run();
    assert!(ran.expect(0).stderr.contains("ignored 2 records"));
}

#[test]
fn a_failure_upstream_stops_it_before_any_change() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(901));
    let error =
        "{\"type\":\"error\",\"tool\":\"gpu-iommu-groups\",\"message\":\"no sysfs\",\"exit\":3}\n";
    let ran = bed.tool(TOOL).args("add 901").input(pci("2b:00.0") + error).run().expect(3);
    let ran = ran.one_line("gpu-iommu-groups failed earlier in the pipeline: no sysfs");
    assert_eq!(
        ran.records,
        [json!({"type": "error", "tool": "gpu-iommu-groups", "message": "no sysfs", "exit": 3,
            "hint": null, "commands": []})]
    );
    assert_eq!(bed.read(&conf(901)), before);
}

#[test]
fn a_gpu_that_the_hosts_nvidia_driver_does_not_own_is_refused() {
    let bed = Bed::new("nouveau-bound");
    let before = bed.read(&conf(101));
    for (gpu, what) in [("0b:00.0", "is bound to vfio-pci"), ("0c:00.0", "is bound to nouveau")] {
        add(&bed, &format!("101 --gpu {gpu}")).expect(4).one_line(what);
        let ran = bed.tool(TOOL).args("add 101").input(pci(gpu)).run().expect(4).one_line(what);
        assert_eq!(ran.records[0]["exit"], 4);
    }
    let bed = Bed::new(HOST);
    fs::remove_file(bed.at("/sys/bus/pci/devices/0000:2b:00.0/driver")).unwrap();
    add(&bed, "901 --gpu 2b:00.0").expect(4).one_line("is not bound to a driver");
    let bed = Bed::new(HOST);
    fs::remove_dir_all(bed.at("/proc/driver/nvidia/gpus/0000:2b:00.0")).unwrap();
    add(&bed, "901 --gpu 2b:00.0").expect(4).one_line("has no device minor");
    // one of two is enough to refuse both
    let both = pci("2c:00.0") + &pci("2b:00.0");
    bed.tool(TOOL).args("add 901").input(both).run().expect(4);
    assert_eq!(Bed::new("nouveau-bound").read(&conf(101)), before);
}

#[test]
fn a_locked_container_is_refused() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(903));
    let ran = add(&bed, "903 -g 0").expect(4).one_line("lock: backup");
    assert_eq!(ran.records[0]["exit"], 4);
    add(&bed, "903 -g 0 -n").expect(4);
    // looking is allowed
    add(&bed, "903 -g 0 --check").expect(1);
    assert_eq!(bed.read(&conf(903)), before);
    // a lock that only a snapshot remembers is none
    bed.write(&conf(905), "arch: amd64\nunprivileged: 1\n\n[snap]\narch: amd64\nlock: backup\n");
    add(&bed, "905 -g 0").expect(0);
}

#[test]
fn other_gpus_in_the_stream_are_passed_over_and_said_so() {
    let bed = Bed::new(HOST);
    let records = pci("29:00.0") + &pci("2b:00.0") + &pci("2b:00.1");
    let ran = bed.tool(TOOL).args("add 901").input(records).run().expect(0);
    let skipped = ran.one("change", "status", "skipped");
    assert_eq!(skipped["to"], "0000:29:00.0");
    assert_eq!(skipped["reason"], "not an NVIDIA GPU");
    let bed = Bed::new("pve9-l40s-vgpu");
    let ran = bed.tool(TOOL).args("add 101").input(pci("41:00.4")).run();
    ran.expect(2).one_line("no record on standard input is an NVIDIA GPU");
}

#[test]
fn nodes_that_are_missing_or_stale_are_refused_with_the_command_that_repairs_them() {
    let missing = |path: &str| {
        let bed = Bed::new(HOST);
        bed.drop_node(path);
        bed
    };
    let ran = add(&missing("/dev/nvidia-uvm"), "901 -g 0").expect(4).one_line("does not exist");
    assert_eq!(commands(&ran.records[0]), ["lxc-gpu-conf nodes"]);
    add(&missing("/dev/nvidia0"), "901 -g 0").expect(4).one_line("/dev/nvidia0 does not exist");
    // these two serve profilers and displays only
    let bed = missing("/dev/nvidia-modeset");
    bed.drop_node("/dev/nvidia-uvm-tools");
    assert_eq!(add(&bed, "901 -g 0").expect(0).records.len(), 3);

    let bed = missing("/dev/nvidia-uvm");
    bed.add_nodes("c /dev/nvidia-uvm 509:0 0666 0:0\n");
    add(&bed, "901 -g 0").expect(4).one_line("is 509:0, but the driver uses 511:0");
    let bed = missing("/dev/nvidia1");
    bed.write("/dev/nvidia1", "");
    add(&bed, "901 -g 1").expect(4).one_line("/dev/nvidia1 is not a character device");
    // the driver's major is looked up by its whole name
    let bed = Bed::new(HOST);
    let devices = bed.read("/proc/devices").replace("511 nvidia-uvm", "511 my-nvidia-uvm");
    bed.write("/proc/devices", devices);
    add(&bed, "901 -g 0").expect(4).one_line("needs the driver 'nvidia-uvm', which is not loaded");
}

#[test]
fn without_the_cluster_file_system_nothing_is_touched() {
    let bed = Bed::new(HOST);
    fs::remove_file(bed.at("/etc/pve/local")).unwrap();
    add(&bed, "901 -g 0").expect(3).one_line("is not Proxmox VE's cluster file system");
    bed.tool(TOOL).args("show 901").run().expect(3);
}

#[test]
fn a_container_of_another_node_is_said_to_be_there() {
    let bed = Bed::new(HOST);
    bed.write("/etc/pve/nodes/pve2/lxc/907.conf", "arch: amd64\n");
    add(&bed, "907 -g 0").expect(2).one_line("container 907 is on cluster node pve2");
}

#[test]
fn notes_crlf_and_junk_are_kept() {
    let bed = Bed::new(HOST);
    let odd = "#note\r\n   # indented\narch: amd64\r\n\n\nfoo-bar: x\nunprivileged: 1\nlxc.cap.drop:\n\
               \u{e4}\u{0}\nhostname: x\n[special:x]\nswap: 1\n[snap-1]\ndev0: /dev/nvidia0\n#end";
    bed.write(&conf(906), odd);
    add(&bed, "906 -g 0").expect(0);
    let after = bed.read(&conf(906));
    assert_eq!(added(odd, &after).len(), 5);
    assert!(after.find("dev4: ").unwrap() < after.find("[snap-1]").unwrap());
}

#[test]
fn a_dry_run_on_a_terminal_is_a_diff() {
    let bed = Bed::new(HOST);
    let tool = testbed::bed::program(TOOL);
    let command = format!("{} --root {} add 901 -g 0 -n", tool.display(), bed.path().display());
    let output = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .output()
        .expect("script (bsdutils)");
    let text = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    let diff: Vec<&str> = text.lines().filter(|l| l.starts_with(['+', '-', '@'])).collect();
    assert_eq!(diff.len(), 2 + 1 + 5, "{text}");
    assert!(diff.contains(&"+dev1: /dev/nvidia0,mode=0666"), "{text}");
    assert!(!text.contains("{\"type\""), "{text}");
}

#[test]
fn a_terminal_as_input_is_told_what_to_pipe() {
    let bed = Bed::new(HOST);
    let tool = testbed::bed::program(TOOL);
    let command = format!("{} --root {} add 901", tool.display(), bed.path().display());
    let output = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("script (bsdutils)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("pipe pci-device records"), "{text}");
}

#[test]
fn a_package_list_that_cannot_be_read_is_not_taken_for_an_old_one() {
    let bed = Bed::new(HOST);
    let (before, status) = (bed.read(&conf(904)), bed.at("/var/lib/dpkg/status"));
    fs::remove_file(&status).unwrap();
    fs::create_dir(&status).unwrap();
    let ran = add(&bed, "904 --gpu 0").expect(3);
    assert!(ran.stderr.contains("var/lib/dpkg/status"), "{}", ran.stderr);
    assert_eq!(bed.read(&conf(904)), before);
}

#[test]
fn an_entry_that_gives_another_device_is_not_converted() {
    for (source, target) in [
        ("/dev/nvidia1", "nvidia0"),
        ("/dev/null", "nvidia-modeset"),
        ("/opt/nvidia/fake", "nvidia-uvm-tools"),
    ] {
        let entry = format!("lxc.mount.entry: {source} dev/{target} none bind,optional\n");
        let text = BY_HAND.replace("lxc.mount.entry: /dev/nvidia0 dev/nvidia0", "#") + &entry;
        let bed = host(&text);
        make_node(&bed.at("/dev/null"), 1, 3);
        bed.write("/opt/nvidia/fake", "mine");
        let ran = add(&bed, "910 --convert").expect(4).one_line("under another name");
        assert_eq!(bed.read(&conf(910)), text);
        let hint = commands(&ran.records[0]);
        assert_eq!(hint, [format!("lxc-gpu-conf remove 910 --node /dev/{target}")]);
        run(&bed, hint[0].strip_prefix("lxc-gpu-conf ").unwrap()).expect(0);
        assert!(!bed.read(&conf(910)).contains(&format!(" dev/{target} ")));
    }
    // the same GPU by a node of the administrator's own is
    let bed = host(&BY_HAND.replace("entry: /dev/nvidia0 ", "entry: /srv/nvidia0 "));
    fs::create_dir_all(bed.at("/srv")).unwrap();
    make_node(&bed.at("/srv/nvidia0"), 195, 0);
    add(&bed, "910 --convert").expect(0);
    assert!(bed.read(&conf(910)).contains(": /dev/nvidia0,mode=0666\n"));
}
