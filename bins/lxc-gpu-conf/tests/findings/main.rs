//! Every finding of `check`, by name: what produces it, what is said of it, and
//! that what the hint advises repairs it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod cases;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;

use cases::CASES;
use common::*;
use serde_json::Value;
use testbed::Bed;

const MACHINES: [&str; 6] =
    [A100, HOST, "desktop-one-group", "iommu-off", "nouveau-bound", "pve9-l40s-vgpu"];

#[test]
fn each_cause_is_found_and_repaired_by_its_hint() {
    for case in CASES {
        let (bed, ctid) = (case.bed)();
        let before = bed.contents();
        let ran = run(&bed, &format!("check {ctid}"));
        assert!(bed.contents() == before, "{}: check wrote something", case.cause);
        let what = format!("{} of {}: {}", case.cause, case.property, ran.stdout);
        assert_eq!(ran.code(), 1, "{what}");
        let found = ran
            .of_type("check")
            .find(|check| check["cause"] == case.cause && check["property"] == case.property);
        let found = found.unwrap_or_else(|| panic!("not found: {what}"));
        let text = |key: &str| found[key].as_str();
        assert_eq!((text("expected"), text("actual")), (case.expected, case.actual), "{what}");
        assert_eq!(text("subject"), Some(format!("ct {ctid}").as_str()));
        assert_eq!(text("status"), Some("drift"));
        assert!(matches!(text("severity"), Some("error" | "warning")), "{what}");
        assert!(!text("reason").unwrap().is_empty());
        let commands = commands(found);
        let hint = format!("{} {}", text("hint").unwrap_or_default(), commands.join(" && "));
        assert!(hint.contains(case.hint), "{hint}: {what}");
        match case.by_hand {
            Some(repair) => {
                let ours = |command: &String| command.starts_with("lxc-gpu-conf ");
                assert!(!commands.iter().any(ours), "{commands:?} is not run here: {what}");
                repair(&bed);
            }
            None => {
                assert!(!commands.is_empty(), "no command: {what}");
                for command in &commands {
                    let args = command.strip_prefix("lxc-gpu-conf ").expect("a command of ours");
                    let ran = run(&bed, args);
                    assert_eq!(ran.code(), 0, "{args}: {}{}\n{what}", ran.stdout, ran.stderr);
                }
            }
        }
        let now = causes(&bed, ctid);
        assert!(
            !now.contains(case.cause),
            "still {now:?} after '{hint}'\n{}",
            bed.read(&conf(ctid))
        );
    }
}

/// Runs the commands of every finding on a host of its own: the finding is gone
/// then. Commands of other tools are not run, and for those of a container that
/// Proxmox VE has locked there is nothing to see.
fn each_finding_ends(made: &dyn Fn() -> Bed, ctid: u32) {
    let key = |found: &Value| ["cause", "property", "actual"].map(|key| found[key].clone());
    let found = |bed: &Bed| -> Vec<Value> {
        let ran = run(bed, &format!("check {ctid}"));
        ran.of_type("check").filter(|check| check["status"] == "drift").cloned().collect()
    };
    for finding in found(&made()) {
        let commands = commands(&finding);
        let is_ours = |command: &String| command.starts_with("lxc-gpu-conf ");
        if commands.is_empty() || !commands.iter().all(is_ours) {
            continue;
        }
        let bed = made();
        for command in &commands {
            let ran = run(&bed, &command["lxc-gpu-conf ".len()..]);
            assert_eq!(ran.code(), 0, "{finding}: {}{}", ran.stdout, ran.stderr);
        }
        let after: Vec<_> = found(&bed).iter().map(key).collect();
        let text = bed.read(&conf(ctid));
        assert!(!after.contains(&key(&finding)), "still there: {finding}\n{text}");
    }
}

#[test]
fn every_finding_of_a_case_is_gone_after_its_commands() {
    for case in CASES {
        each_finding_ends(&|| (case.bed)().0, (case.bed)().1);
    }
}

#[test]
fn every_finding_of_a_recorded_host_is_gone_after_its_commands() {
    let mut found = 0;
    for machine in MACHINES {
        let ran = run(&Bed::new(machine), "check --all");
        let subjects: BTreeSet<u32> = ran
            .of_type("check")
            .filter(|check| check["status"] == "drift")
            .filter_map(|check| check["subject"].as_str()?.strip_prefix("ct ")?.parse().ok())
            .collect();
        found += subjects.len();
        subjects.into_iter().for_each(|ctid| each_finding_ends(&|| Bed::new(machine), ctid));
    }
    assert!(found > 0);
    // what the README shows: one command, and the check is content
    let bed = Bed::new(HOST);
    run(&bed, "check 902").expect(1);
    run(&bed, "sync 902").expect(0);
    run(&bed, "check 902").expect(0);
}

/// A hint gives no more than is remembered or configured.
#[test]
fn no_command_of_a_finding_gives_all_gpus() {
    let hosts = MACHINES.iter().map(|machine| Bed::new(machine));
    for bed in CASES.iter().map(|case| (case.bed)().0).chain(hosts) {
        let ran = run(&bed, "check --all");
        for found in ran.of_type("check") {
            let ctid = found["subject"].as_str().unwrap().trim_start_matches("ct ");
            let shown = run(&bed, &format!("show {ctid}")).values("lxc-gpu", "gpu");
            let configured: Vec<&str> = shown.iter().filter_map(Value::as_str).collect();
            for command in commands(found).iter().filter(|c| c.starts_with("lxc-gpu-conf add")) {
                assert!(!command.contains("--gpu all"), "{command}: {configured:?}");
                // by minor or address, only what the container has or its snapshot names
                let named = command.split("--gpu ").nth(1).and_then(|rest| rest.split(' ').next());
                let named = named.map_or(0, |names| names.split(',').count());
                let few = found["cause"] == "snapshot-only" || named <= configured.len().max(1);
                assert!(few, "{command}: {configured:?}");
            }
        }
    }
}

#[test]
fn every_cause_has_a_case() {
    let shown: BTreeSet<&str> = CASES.iter().map(|case| case.cause).collect();
    let all: BTreeSet<&str> = lxc_gpu_conf::CAUSES.iter().map(|(name, _)| *name).collect();
    assert_eq!(shown, all);
    assert_eq!(all.len(), lxc_gpu_conf::CAUSES.len(), "a name is in the list twice");
}

#[test]
fn what_is_right_has_no_finding() {
    let rules = "lxc.cgroup2.devices.allow: /dev/nvidia-uvm rwm\n";
    let by_path = BY_HAND.replace("lxc.cgroup2.devices.allow: c 511:* rwm\n", rules);
    let unprivileged = BY_HAND.replace("lxc.cgroup2", "#lxc.cgroup2") + "unprivileged: 1\n";
    let snapshot = GOOD.to_string() + "\n[clean]\narch: amd64\ndev0: /dev/nvidia0\n";
    let elsewhere = GOOD.to_string() + "lxc.cgroup2.devices.allow: c 226:* rwm\n";
    for text in [GOOD, BY_HAND, &by_path, &unprivileged, &snapshot, &elsewhere] {
        assert_eq!(causes(&host(text), 910), none(), "{text}");
    }
    for (machine, ctid) in [(A100, 101), ("desktop-one-group", 101)] {
        let ran = run(&Bed::new(machine), &format!("check {ctid}")).expect(0);
        assert_eq!(ran.values("check", "status"), ["ok"], "{machine}");
        assert_eq!(ran.stderr, "");
    }
    // whatever add makes of a container is right
    for (machine, ctid) in
        [(HOST, 901), (HOST, 904), (A100, 101), ("iommu-off", 101), ("desktop-one-group", 101)]
    {
        for style in ["dev", "mount"] {
            let bed = Bed::new(machine);
            let old = machine == "iommu-off" && style == "dev";
            run(&bed, &format!("remove {ctid}")).expect(0);
            let ran = run(&bed, &format!("add {ctid} --gpu all --style {style} --graphics"));
            ran.expect(if old || machine == A100 { 4 } else { 0 });
            // a mounted DRM node keeps the host's mode, of which add speaks
            let mut found = causes(&bed, ctid);
            if style == "mount" {
                found.remove("no-access");
            }
            assert_eq!(found, none(), "{machine} {style}");
        }
    }
}

#[test]
fn a_running_container_that_has_what_it_is_given_is_right() {
    let bed = host(GOOD);
    start(&bed, 910, &[("nvidia0", 195, 0), ("nvidiactl", 195, 255), ("nvidia-uvm", 511, 0)]);
    assert_eq!(causes(&bed, 910), none());
    fs::remove_file(bed.at(&format!("/proc/{PID}/root/dev/nvidia0"))).unwrap();
    let ran = run(&bed, "check 910").expect(1);
    let found = ran.one("check", "cause", "not-restarted");
    assert_eq!((&found["property"], &found["actual"]), (&"/dev/nvidia0".into(), &Value::Null));
    // what its processes put there leads nowhere else
    make_node(&bed.at("/proc/outside"), 195, 0);
    bed.link(&format!("/proc/{PID}/root/dev/nvidia0"), "../../../outside");
    assert_eq!(causes(&bed, 910), BTreeSet::from(["not-restarted".to_string()]));
}

#[test]
fn all_containers_are_checked_and_one_that_cannot_be_read_does_not_hide_the_others() {
    let bed = host(&GOOD.replace("nvidia0", "nvidia7"));
    bed.write("/etc/pve/nodes/pve2/lxc/777.conf", GOOD);
    fs::create_dir(bed.at(&conf(905))).unwrap();
    let ran = run(&bed, "check --all").expect(3);
    assert!(ran.stderr.contains("905.conf"), "{}", ran.stderr);
    ran.one("check", "cause", "no-gpu");
    let away = ran.one("check", "subject", "ct 777");
    assert_eq!((&away["status"], &away["property"]), (&"unknown".into(), &"host".into()));
    assert_eq!(away["hint"], "run the check on cluster node pve2");
    assert_eq!(commands(away), ["lxc-gpu-conf check 777"]);
    // what needs no host is found of containers elsewhere too
    fs::remove_dir(bed.at(&conf(905))).unwrap();
    let text = GOOD.to_string() + "dev7: /dev/nvidia0\n";
    bed.write("/etc/pve/nodes/pve2/lxc/777.conf", text);
    let ran = run(&bed, "check 777").expect(1);
    assert_eq!(ran.values("check", "cause")[0], "given-twice");
    run(&bed, "show 777").expect(0);
    for verb in ["add 777 --gpu 0", "remove 777", "sync 777"] {
        run(&bed, verb).expect(2).one_line("container 777 is on cluster node pve2");
    }
    assert!(run(&bed, "sync --all").stderr.find("777").is_none());
}
