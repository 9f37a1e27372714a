//! `show`: what a container has and what is wrong with it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use serde_json::{Value, json};
use testbed::{Bed, Ran};

const TOOL: &str = "lxc-gpu-conf";
const HOST: &str = "pve9-two-gpus";

fn show(bed: &Bed, ctid: u32) -> Ran {
    bed.tool(TOOL).args(&format!("show {ctid}")).run().expect(0)
}

/// Problems of a container with this configuration.
fn problems(text: &str) -> Vec<String> {
    let bed = Bed::new(HOST);
    bed.write("/etc/pve/lxc/910.conf", text);
    let ran = show(&bed, 910);
    ran.records[0]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap().to_string())
        .collect()
}

const GOOD: &str = "arch: amd64\ndev0: /dev/nvidia0,mode=0666\ndev1: /dev/nvidiactl,mode=0666\n\
                    dev2: /dev/nvidia-uvm,mode=0666\nunprivileged: 1\n";

#[test]
fn a_container_without_a_gpu_has_no_records() {
    let ran = show(&Bed::new(HOST), 901).one_line("ct 901 has no GPU");
    assert!(ran.records.is_empty());
}

#[test]
fn one_record_a_gpu_with_the_nodes_that_all_share() {
    let bed = Bed::new(HOST);
    bed.tool(TOOL).args("add 901 -g all").run().expect(0);
    let ran = show(&bed, 901);
    assert_eq!(ran.values("lxc-gpu", "gpu"), ["0000:2b:00.0", "0000:2c:00.0"]);
    let second = &ran.records[1];
    assert_eq!(
        (&second["minor"], &second["style"], &second["unprivileged"], &second["node"]),
        (&json!(1), &json!("dev"), &json!(true), &json!("pve1"))
    );
    assert_eq!(second["problems"], json!([]));
    let nodes = second["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 5);
    let uvm = nodes.iter().find(|n| n["path"] == "/dev/nvidia-uvm").unwrap();
    assert_eq!(
        uvm,
        &json!({"path": "/dev/nvidia-uvm", "key": "dev5", "major": 511, "minor": 0,
                "mode": "0666", "present": true})
    );
}

#[test]
fn a_hand_made_block_with_a_stale_major_is_seen_through() {
    let ran = show(&Bed::new(HOST), 902);
    let gpu = &ran.records[0];
    assert_eq!((&gpu["style"], &gpu["unprivileged"]), (&json!("mount"), &json!(false)));
    let problems = gpu["problems"].to_string();
    assert!(problems.contains("no device rule lets the container open /dev/nvidia-uvm (511:0)"));
}

#[test]
fn every_problem_has_words_of_its_own() {
    assert!(problems(GOOD).is_empty());
    let has = |text: &str, what: &str| {
        let found = problems(text);
        assert!(found.iter().any(|p| p.contains(what)), "'{what}' is not in {found:?}");
    };
    let with = |line: &str| format!("{GOOD}{line}\n");
    has(&with("dev9: /dev/nvidia-none"), "does not exist on the host: the container cannot start");
    has(&with("lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,create=file"), "given by");
    has(&with("dev9: /dev/nvidia-caps/nvidia-cap1"), "create and destroy the MIG instances");
    has(&with("lxc.cgroup.devices.allow: c 195:* rwm"), "has no effect");
    has(&with("lxc.cgroup2.devices.allow: c 195:* rw # nvidia"), "invalid device rule");
    has(&with("lxc.cgroup2.devices.deny: a"), "open every device of the host");
    let denied = with("lxc.cgroup2.devices.deny: a\nlxc.cgroup2.devices.allow: c 1:3 rw");
    has(&denied, "discards the rules");
    has(
        &GOOD.replace("nvidia0", "nvidia7"),
        "no GPU of this host that is bound to nvidia has /dev/nvidia7",
    );
    has(&GOOD.replace("dev2: /dev/nvidia-uvm,mode=0666\n", ""), "/dev/nvidia-uvm is not given");
    has(&GOOD.replace("dev0: /dev/nvidia0,mode=0666\n", ""), "but no GPU");
    has(
        "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n",
        "no device rule lets the container open /dev/nvidia0 (195:0)",
    );
}

#[test]
fn lines_in_a_snapshot_have_no_effect_and_are_told() {
    let bed = Bed::new(HOST);
    let appended = bed.read("/etc/pve/lxc/901.conf") + "dev9: /dev/nvidia0\n";
    bed.write("/etc/pve/lxc/901.conf", appended);
    show(&bed, 901).one_line("only in the section of snapshot 'clean'");
}

#[test]
fn a_mounted_directory_is_looked_into() {
    let ran = show(&Bed::new("a100-mig"), 102);
    let paths: Vec<Value> =
        ran.records[0]["nodes"].as_array().unwrap().iter().map(|n| n["path"].clone()).collect();
    assert!(paths.contains(&json!("/dev/nvidia-caps/nvidia-cap1")), "{paths:?}");
    assert!(
        ran.records[0]["problems"].to_string().contains("create and destroy the MIG instances")
    );
}

#[test]
fn a_gpu_that_went_to_a_vm_is_missed() {
    let bed = Bed::new("nouveau-bound");
    let text = GOOD.replace("arch: amd64\n", "arch: amd64\nhostname: x\n");
    bed.write("/etc/pve/lxc/910.conf", text);
    let ran = show(&bed, 910);
    let gpu = &ran.records[0];
    assert_eq!((&gpu["gpu"], &gpu["minor"]), (&Value::Null, &json!(0)));
    assert!(gpu["problems"].to_string().contains("bound to VFIO: 0000:0b:00.0"));
}

#[test]
fn a_selection_of_nothing_is_told_what_to_name() {
    let bed = Bed::new(HOST);
    for verb in ["show", "check", "sync"] {
        bed.tool(TOOL).arg(verb).run().expect(2).one_line("give CTIDs, or --all");
        bed.tool(TOOL).args(&format!("{verb} 901 --all")).run().expect(2);
    }
}
