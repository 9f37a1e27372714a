//! The operator's Makefile: what it shows, what it refuses, and what a dry run
//! of each pipeline explains on a recorded host.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use testbed::pipelines::{make, makefile};
use testbed::{Bed, Ran, Tool};

const CT_GPU: &str = "CTID=901 GPU=0000:2b:00.0 VERSION=550.163.01";

/// make without a machine.
fn said(words: &str) -> Ran {
    let line = format!("cd / && make -f {} {words}", makefile().display());
    Tool::through(&["sh".as_ref()], "-c").arg(line).text().run()
}

#[test]
fn on_its_own_it_lists_what_it_can_do() {
    let help = said("").expect(0).stdout;
    assert_eq!(help, said("help").expect(0).stdout);
    let jobs = ["host-vfio", "host-driver", "ct-gpu", "ct-remove", "vgpu", "support-bundle"];
    for target in jobs.iter().chain(&["status", "doctor", "drift"]) {
        assert!(help.lines().any(|line| line.trim_start().starts_with(target)), "{target}: {help}");
    }
    assert!(help.lines().all(|line| line.len() < 80), "{help}");
    // in the sources the first target is still the build
    let top = makefile();
    let top = top.parent().unwrap().join("../..");
    let line = format!("make -n -C {} help", top.display());
    let ran = Tool::through(&["sh".as_ref()], "-c").arg(line).text().run().expect(0);
    assert!(ran.stdout.contains("ct-gpu"), "{ran:?}");
}

#[test]
fn several_containers_are_set_up_one_after_the_other() {
    let words = "-n ct-gpu CTID='901 902' GPU=2b:00.0";
    let steps = |words: &str, of: &str| {
        let shown = said(words).expect(0).stdout;
        shown.lines().filter(|line| line.contains(of)).map(str::to_string).collect::<Vec<_>>()
    };
    let version = format!("{words} VERSION=550.163.01 INSTALL_EXTRA=--graphics");
    assert_eq!(
        steps(&version, "nv-runfile"),
        ["901", "902"].map(|id| format!(
            "nv-runfile fetch 550.163.01 | nv-runfile install --ct {id} --graphics"
        ))
    );
    assert_eq!(
        steps(&version, "lxc-gpu-conf check"),
        ["lxc-gpu-conf check 901", "lxc-gpu-conf check 902"]
    );
    // the host's own libraries: nothing is installed
    let libs = format!("{words} LIBS=1");
    assert_eq!(steps(&libs, "nv-runfile"), [""; 0]);
    assert!(steps(&libs, "lxc-gpu-conf add").iter().all(|line| line.ends_with(" --libs")));
    let removed = steps("-n ct-remove CTID='901 902'", "lxc-gpu-conf remove");
    assert_eq!(removed.len(), 2);
    let typo = said("-n ct-remove CTID='901 9x'").expect(2).stderr;
    assert!(typo.contains("CTID=9x is not a number"), "{typo}");
}

#[test]
fn without_a_version_containers_get_that_of_the_loaded_module() {
    let bed = Bed::new("pve9-two-gpus");
    let shown = make(bed.path(), "-n ct-gpu CTID=904 GPU=2b:00.0").ran.expect(0).stdout;
    assert!(shown.contains("nv-runfile fetch 550.163.01 "), "{shown}");
    // what that file holds is data, not a part of the command
    bed.write("/sys/module/nvidia/version", "1.2;reboot\n");
    let refused = make(bed.path(), "-n ct-gpu CTID=904 GPU=2b:00.0").ran.expect(2).stderr;
    assert!(refused.contains("VERSION= contains '1.2;reboot'"), "{refused}");
    bed.remove("/sys/module/nvidia/version");
    let refused = make(bed.path(), "-n ct-gpu CTID=904 GPU=2b:00.0").ran.expect(2).stderr;
    assert!(refused.contains("VERSION= is missing"), "{refused}");
}

#[test]
fn one_look_shows_the_gpus_and_the_problems_with_their_commands() {
    let bed = Bed::new("pve9-two-gpus");
    let status = make(bed.path(), "status").ran.expect(0).stdout;
    assert!(status.contains("TU102 [GeForce RTX 2080 Ti Rev. A]"), "{status}");
    let doctor = make(bed.path(), "doctor").ran;
    // each check runs, also after one that found something
    assert_eq!(doctor.code(), 2, "{doctor:?}");
    assert!(doctor.stdout.contains("running and next-boot kernel"), "{doctor:?}");
    assert!(doctor.stdout.contains("\n    lxc-gpu-conf sync 902"), "{doctor:?}");
    assert!(!doctor.stdout.lines().any(|line| line.starts_with("ok ")), "{doctor:?}");
}

#[test]
fn a_pipeline_is_shown_as_a_person_would_type_it() {
    let shown = said(&format!("-n ct-gpu {CT_GPU} CUDA=12-4")).expect(0).stdout;
    let commands: Vec<&str> = shown.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        commands,
        [
            "gpu-iommu-groups 0000:2b:00.0 | lxc-gpu-conf add 901 --restart --start",
            "nv-runfile fetch 550.163.01 | nv-runfile install --ct 901",
            "nv-runfile toolkit --ct 901 --cuda 12-4",
            "lxc-gpu-conf check 901",
            "nv-version-check --ct 901 --no-host --cuda",
        ]
    );
    // a URL is an operand of fetch; nv-version-check does not accept it as a pin
    let url = "https://mirror.example/NVIDIA-Linux-x86_64-550.163.01.run";
    let from_url = said(&format!("-n host-driver VERSION={url}")).expect(0).stdout;
    assert!(from_url.contains(&format!("nv-runfile fetch {url} |")), "{from_url}");
    assert!(from_url.ends_with("nv-version-check --next-boot\n"), "{from_url}");
    let two = said("-n host-vfio GPU='01:00 02:00' NOW=0").expect(0).stdout;
    assert!(two.contains("\ngpu-iommu-groups 01:00 02:00 | gpu-vfio-bind persist"), "{two}");
    let forced = said("-n host-vfio GPU=01:00 FORCE=display,container").expect(0).stdout;
    let options = "--force display,container";
    for verb in ["persist", "bind"] {
        let line = forced.lines().find(|line| line.contains(&format!("gpu-vfio-bind {verb}")));
        assert!(line.is_some_and(|line| line.contains(options)), "{forced}");
    }
    let dry = said(&format!("-n ct-gpu {CT_GPU} DRY=1")).expect(0).stdout;
    for line in dry.lines().filter(|line| !line.starts_with('#')) {
        let last = line.rsplit('|').next().unwrap();
        assert!(last.ends_with(" --dry-run"), "{line}");
    }
}

#[test]
fn what_is_missing_or_odd_is_refused_before_the_first_step() {
    for (words, what) in [
        ("ct-gpu", "CTID= is missing: for example, make ct-gpu CTID=901"),
        ("ct-gpu CTID=901", "GPU= is missing: for example, make ct-gpu CTID=901 GPU="),
        ("ct-gpu CTID=901 GPU=01:00.0", "VERSION= is missing"),
        ("ct-gpu CTID=9o1 GPU=01:00.0 VERSION=1.2", "CTID=9o1 is not a number"),
        ("ct-remove", "CTID= is missing"),
        ("vgpu", "PROFILES= is missing"),
        ("host-vfio", "GPU= is missing"),
        ("host-driver", "VERSION= is missing"),
        ("host-vfio GPU='01:00.0; touch made'", "GPU= contains"),
        ("host-vfio GPU='$(shell touch made)'", "GPU= contains"),
        ("host-vfio GPU='`touch made`'", "GPU= contains"),
        ("host-driver VERSION='5 50'", "VERSION= contains"),
        ("vgpu PROFILES=\"it's\"", "PROFILES= contains"),
        ("host-vfio GPU=01:00.0 EXTRA='--force | touch made'", "EXTRA= contains"),
        // a misspelt DRY=1 would be a real run
        ("host-vfio GPU=01:00.0 DYR=1", "unknown variable DYR="),
        ("host-vfio GPU=01:00.0 DRY=yes", "DRY= must be 1 or 0"),
    ] {
        let bed = Bed::empty();
        let line =
            format!("cd {} && make -f {} {words}", bed.path().display(), makefile().display());
        let ran = Tool::through(&["sh".as_ref()], "-c").arg(line).text().run().expect(2);
        assert_eq!(ran.stderr.lines().count(), 1, "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains(what), "{words}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{words}");
        assert!(!bed.at("/made").exists(), "{words}");
    }
    // what a shell exports by chance does not count, but for DRY
    let line = format!(
        "GROUP=users EXTRA='; false' DRY=1 make -f {} -n host-vfio GPU=01:00.0",
        makefile().display()
    );
    let ran = Tool::through(&["sh".as_ref()], "-c").arg(line).text().run().expect(0);
    assert!(ran.stdout.contains("gpu-vfio-bind bind --dry-run\n"), "{ran:?}");
}

#[test]
fn a_dry_run_explains_each_pipeline_on_a_recorded_host_and_changes_nothing() {
    let bed = Bed::new("pve9-two-gpus");
    bed.write("/profiles", "");
    let before = bed.contents();
    let made = make(bed.path(), &format!("ct-gpu {CT_GPU} CUDA=12-4 DRY=1")).done();
    assert_eq!(made.statuses(), ["planned"]);
    assert_eq!(made.about("dev1")["to"], "/dev/nvidia0,mode=0666");
    assert_eq!(made.about("running")["to"], "started");
    assert_eq!(made.about("userspace")["to"], "550.163.01");
    assert_eq!(made.about("toolkit")["to"], "12.4");
    assert!(made.ran.stdout.contains("# not in a dry run: nv-version-check --ct 901"));
    for words in
        ["host-vfio GPU=0000:2c:00.0 DRY=1", "ct-remove CTID=902 DRY=1", "ct-remove CTID=901 DRY=1"]
    {
        make(bed.path(), words).done();
    }
    // what the real run would refuse, the dry run refuses: this host has no headers, and Debian's driver
    let host = make(bed.path(), "host-driver VERSION=570.211.01 DRY=1");
    host.stopped_at("nv-runfile install --host", "the host is not ready: headers");
    // another version than the module's is refused as it would be then
    let other = "ct-gpu CTID=901 GPU=0000:2b:00.0 VERSION=570.211.01 DRY=1";
    make(bed.path(), other).stopped_at("nv-runfile install", "the loaded kernel module is");
    assert_eq!(bed.contents(), before);
}

#[test]
fn a_step_that_fails_is_named_with_the_way_on_and_none_comes_after_it() {
    let bed = Bed::new("pve9-two-gpus");
    let locked = "ct-gpu CTID=903 GPU=0000:2b:00.0 VERSION=550.163.01";
    let made = make(bed.path(), locked);
    made.stopped_at("lxc-gpu-conf add 903", "see the hint above");
    assert!(made.ran.stderr.contains("ct-gpu: this step failed (exit 4): gpu-iommu-groups"));
    assert!(!made.ran.stdout.contains("nv-runfile"), "{made:?}");
    // without pipefail the first program of a pipeline would go unheard
    let gone = make(bed.path(), "host-vfio GPU=0000:99:00.0");
    gone.stopped_at("gpu-iommu-groups 0000:99:00.0", "no function 0000:99:00.0");
    // a program that is not there
    let line =
        format!("PATH=/nonexistent /usr/bin/make -f {} drift-versions", makefile().display());
    let ran = Tool::through(&["/bin/sh".as_ref()], "-c").arg(line).text().run().expect(2);
    assert!(ran.stderr.contains("a program is missing"), "{ran:?}");
}
