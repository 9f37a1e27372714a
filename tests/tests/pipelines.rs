//! The tools together, as a person types them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::process::{Command, Output};

use testbed::runfile::{self, NvidiaRun, Pack};
use testbed::session::commands;
use testbed::{Bed, machine, schema};

fn bash(bed: &Bed, script: &str) -> Output {
    let tools = commands(bed.path());
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", script])
        .env("PATH", path)
        .current_dir(bed.path())
        .output()
        .expect("bash");
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|l| l.starts_with('{')) {
        schema::check_line(line);
    }
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_main_job_is_one_pipeline_and_idempotent() {
    let bed = Bed::new("pve9-two-gpus");
    let pipeline = "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901";
    let before = bed.read("/etc/pve/lxc/901.conf");
    let first = bash(&bed, pipeline);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let after = bed.read("/etc/pve/lxc/901.conf");
    assert_eq!(after.lines().count(), before.lines().count() + 6);
    let second = bash(&bed, &format!("{pipeline} | jq -r .status | sort -u"));
    assert_eq!(text(&second.stdout), "unchanged\n");
    assert_eq!(text(&second.stderr), "");
    assert_eq!(bed.read("/etc/pve/lxc/901.conf"), after);
}

#[test]
fn the_examples_of_the_manual_pages_run() {
    let examples = gpu_iommu_groups::man::EXAMPLES
        .iter()
        .chain(gpu_vfio_bind::man::EXAMPLES)
        .chain(lxc_gpu_conf::cli::EXAMPLES)
        .chain(nv_runfile::cli::EXAMPLES)
        .chain(nv_version_check::cli::EXAMPLES)
        .map(|example| (example, "pve9-two-gpus"));
    let vgpu = vgpu_profile_set::cli::EXAMPLES.iter().map(|example| (example, "pve9-l40s-vgpu"));
    for (example, machine) in examples.chain(vgpu) {
        let bed = Bed::new(machine);
        if machine == "pve9-l40s-vgpu" {
            // there Proxmox VE sets the profile of the function that the examples name
            bed.remove("/etc/pve/qemu-server/200.conf");
            bed.remove("/run/qemu-server/pci-id-reservations");
        }
        runfile::driver_tree(&bed.at("unpacked"), "550.163.01");
        let run = NvidiaRun::new("550.163.01", Pack::Zstd);
        run.write(&bed.at("unpacked"), bed.path());
        if example.command.starts_with("nv-runfile") {
            container_of_files(&bed);
        }
        let output = bash(&bed, &format!("set -o pipefail; {}", example.command));
        // a check may well answer no
        let no = output.status.code() == Some(1) && example.command.contains("check");
        let done = output.status.success();
        assert!(done || no, "{}: {}", example.command, text(&output.stderr));
    }
}

/// Makes container 901's volume a directory with what a Debian has at least.
fn container_of_files(bed: &Bed) {
    let path = "/etc/pve/nodes/pve1/lxc/901.conf";
    let conf = bed.read(path);
    let rootfs = conf.lines().find(|line| line.starts_with("rootfs: ")).unwrap();
    bed.write(path, conf.replace(rootfs, "rootfs: /volumes/901,size=8G"));
    bed.write("/volumes/901/etc/hostname", "ct901\n");
    bed.write("/volumes/901/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    bed.write("/volumes/901/lib64/ld-linux-x86-64.so.2", "");
    for dir in ["usr/bin", "usr/lib/x86_64-linux-gnu", "var/lib"] {
        fs::create_dir_all(bed.at("/volumes/901").join(dir)).unwrap();
    }
}

#[test]
fn a_pipeline_fails_closed_without_pipefail() {
    let bed = Bed::new("pve9-two-gpus");
    let before = bed.read("/etc/pve/lxc/901.conf");
    for (pipeline, code) in [
        ("gpu-iommu-groups 99:00.0 | lxc-gpu-conf add 901", 3),
        ("gpu-iommu-groups --bogus | lxc-gpu-conf add 901", 3),
        ("gpu-iommu-groups --vendor 1234 | lxc-gpu-conf add 901", 2),
        ("false | lxc-gpu-conf add 901", 2),
        ("gpu-iommu-groups --vendor 10de | head -c 700 | lxc-gpu-conf add 901", 2),
        ("gpu-iommu-groups --groups | lxc-gpu-conf add 901", 2),
        ("lxc-gpu-conf add 999 --gpu 0 | lxc-gpu-conf add 901", 3),
    ] {
        let output = bash(&bed, pipeline);
        assert_eq!(output.status.code(), Some(code), "{pipeline}: {}", text(&output.stderr));
        assert_eq!(bed.read("/etc/pve/lxc/901.conf"), before, "{pipeline}");
    }
}

/// `(lister | head -4; kill -9) | lxc-gpu-conf add` planned the first GPU only, with exit
/// status 0.
#[test]
fn a_list_that_was_cut_off_changes_nothing() {
    let bed = Bed::new("pve9-two-gpus");
    let before = bed.contents();
    for script in [
        "(gpu-iommu-groups --vendor 10de | head -4; kill -9 $BASHPID) | lxc-gpu-conf add 901",
        "gpu-iommu-groups --vendor 10de | head -2 | lxc-gpu-conf add 901 -n",
        "gpu-iommu-groups | sed '$d' | gpu-vfio-bind bind -n",
    ] {
        let output = bash(&bed, script);
        assert_eq!(output.status.code(), Some(3), "{script}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("are cut off"), "{}", text(&output.stderr));
    }
    assert_eq!(bed.contents(), before);
    // what a filter passes on is made by hand
    let filter = "jq -c 'select(.role == \"gpu\")'";
    let script = format!("gpu-iommu-groups --vendor 10de | {filter} | lxc-gpu-conf add 901 -n");
    let output = bash(&bed, &script);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn records_of_another_host_are_checked_against_this_one() {
    let other = Bed::new("a100-mig");
    let here = Bed::new("pve9-two-gpus");
    let before = here.read("/etc/pve/lxc/901.conf");
    let records = other.tool("gpu-iommu-groups").args("--vendor 10de").run().expect(0).stdout;
    let ran = here.tool("lxc-gpu-conf").args("add 901").input(records).run();
    ran.expect(2).one_line("no function 0000:41:00.0");
    assert_eq!(here.read("/etc/pve/lxc/901.conf"), before);
}

#[test]
fn what_this_machine_records_is_what_the_tool_sees_on_it() {
    let script = machine::machines_dir().parent().unwrap().join("record-machine");
    let recorded = Command::new("sh").arg(script).output().unwrap();
    assert!(recorded.status.success(), "{}", text(&recorded.stderr));
    let tree = testbed::tree::Tree::parse(&text(&recorded.stdout)).unwrap();
    let bed = Bed::of(&tree);
    // names come from a file that the recording does not carry
    let strip = |mut record: serde_json::Value| {
        for key in ["class_name", "vendor_name", "device_name", "subsystem_name"] {
            record[key] = serde_json::Value::Null;
        }
        record
    };
    let here = testbed::Tool::new("gpu-iommu-groups").args("--all -q").run().expect(0);
    let there = bed.tool("gpu-iommu-groups").args("--all -q").run().expect(0);
    assert!(!here.records.is_empty());
    assert_eq!(there.records.len(), here.records.len());
    // a recording has no mounts and no processes: who uses a function, and what follows from it, is seen here only
    let used = |record: &serde_json::Value| record["usage"]["users"] != serde_json::json!([]);
    for (mut there, mut here) in there.records.into_iter().zip(here.records) {
        if used(&here) {
            for record in [&mut there, &mut here] {
                record["usage"] = serde_json::Value::Null;
                record["passthrough"] = serde_json::Value::Null;
            }
        }
        assert_eq!(strip(there), strip(here));
    }
}

#[test]
fn recorded_machines_name_their_sources() {
    for name in machine::names() {
        let machine = machine::load(&name).unwrap();
        assert!(!machine.title.is_empty() && !machine.source.is_empty(), "{name}");
        assert!(machine.notes.contains("uoted") && machine.notes.contains("omplete"), "{name}");
    }
    assert!(machine::names().len() >= 6);
}

#[test]
fn a_machine_of_five_hundred_functions_is_read_whole() {
    let mut tree = testbed::tree::Tree::default();
    testbed::generate::large(500).build(&mut tree);
    let bed = Bed::of(&tree);
    let ran = bed.tool("gpu-iommu-groups").args("--all").run().expect(0);
    assert_eq!(ran.records.len(), 500);
    assert_eq!(ran.stderr, "");
}
