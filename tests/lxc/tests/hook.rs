//! `hook`, named as a hookscript of a container: what it lets start, what it
//! mends before a start, and what it says after one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use lxcbed::{Container, Host, OpenOutcome};

const HOST: &str = "pve9-two-gpus";
const KINDS: [(u32, bool, &str); 4] =
    [(950, true, "dev"), (951, true, "mount"), (952, false, "dev"), (953, false, "mount")];

/// The package's own script, as `make install` and its text have it.
fn install(host: &Host) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bins/lxc-gpu-conf/package");
    let text = std::fs::read_to_string(package.join("hookscript")).unwrap();
    let text = text.replace("/usr/bin/", "/usr/sbin/");
    host.script("/var/lib/vz/snippets/gpu", text.strip_prefix("#!/bin/sh\n").unwrap());
}

/// A stopped container with the GPU and the hookscript.
fn create<'a>(host: &'a Host, ctid: u32, unprivileged: bool, style: &str) -> Container<'a> {
    let container = host.create(ctid, unprivileged);
    let args = format!("add {ctid} -g 0 --style {style}");
    host.tool("lxc-gpu-conf").args(&args).run().expect(0);
    host.pct(&format!("set {ctid} --hookscript local:snippets/gpu")).expect(0);
    container
}

/// What pct said of a start that went through.
fn start(container: &Container, host: &Host) -> String {
    let begin = Instant::now();
    let ran = host.pct(&format!("start {}", container.ctid)).expect(0);
    // neither for the lock, which pct holds, nor for a driver that is not there
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    ran.stderr
}

fn move_uvm(host: &Host) {
    let devices = host.bed().read("/proc/devices");
    let moved = devices.replace("511 nvidia-uvm\n", "498 nvidia-uvm\n");
    std::fs::write(host.bed().at("/proc/devices"), moved).unwrap();
}

/// The lines of a text without the hints that belong to them.
fn messages(said: &str) -> Vec<&str> {
    said.lines().filter(|line| !line.starts_with("  hint: ")).collect()
}

#[test]
fn a_start_goes_through_and_post_start_says_what_does_not_open() {
    let host = Host::new(HOST);
    install(&host);
    for (ctid, unprivileged, style) in KINDS {
        let container = create(&host, ctid, unprivileged, style);
        let said = start(&container, &host);
        let lines = messages(&said);
        assert_eq!(lines.len(), 2, "one line of the tool's, one of pct's: {said}");
        let expected = format!("ct {ctid}: /dev/nvidia-uvm has no driver behind it inside");
        assert!(lines[0].contains(&expected), "{said}");
        assert!(lines[1].contains("hookscript error for") && lines[1].contains("post-start"));
        assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
        container.stop();
    }
}

#[test]
fn a_mounted_node_that_is_missing_is_made_before_the_start() {
    let host = Host::new(HOST);
    install(&host);
    for (ctid, unprivileged) in [(951, true), (953, false)] {
        let container = create(&host, ctid, unprivileged, "mount");
        host.remove("/dev/nvidia-uvm");
        // an empty file, as a failed mount leaves it
        host.remove("/dev/nvidiactl");
        host.write("/dev/nvidiactl", "");
        let said = start(&container, &host);
        for path in ["/dev/nvidia-uvm", "/dev/nvidiactl"] {
            assert!(said.contains(&format!("created {path}\n")), "{said}");
            assert_eq!(container.open(path), OpenOutcome::NoDriver, "{path}");
        }
        container.stop();
    }
    // the card's own node is none that the driver could not have
    let container = create(&host, 950, true, "mount");
    host.remove("/dev/nvidia0");
    start(&container, &host);
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
}

#[test]
fn a_node_with_an_old_number_is_made_anew_and_the_start_goes_on_where_it_can() {
    let host = Host::new(HOST);
    install(&host);
    let containers =
        KINDS.map(|(ctid, unprivileged, style)| create(&host, ctid, unprivileged, style));
    move_uvm(&host);
    let old = "rm /dev/nvidia-uvm; mknod -m 666 /dev/nvidia-uvm c 511 0";
    for (container, (_, unprivileged, style)) in containers.iter().zip(KINDS) {
        host.run(old).expect(0);
        if unprivileged {
            assert!(start(container, &host).contains("created /dev/nvidia-uvm\n"));
            assert_eq!(container.stat("/dev/nvidia-uvm").unwrap().major, 498);
            assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
            continue;
        }
        // the rules for this start were made before the script ran
        let said = container.start_fails();
        assert!(said.contains("hookscript error") && said.contains("pre-start"), "{said}");
        if style == "dev" {
            assert!(said.contains("/dev/nvidia-uvm was created again"), "{said}");
            assert!(said.contains("pct start 952"), "what to do: {said}");
        } else {
            assert!(said.contains("511") && said.contains("498"), "{said}");
            assert!(said.contains("lxc-gpu-conf sync 953"), "what to do: {said}");
            host.tool("lxc-gpu-conf").args("sync 953").run().expect(0);
        }
        start(container, &host);
        assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
    }
}

/// Gives it libraries of a version, where the host can read them before the start.
fn userspace(host: &Host, container: &Container, version: &str) {
    let conf = container.conf();
    let volume = format!("rootfs: {}/{}\n", lxcbed::VOLUMES, container.ctid);
    let lines = conf.lines().map(|line| match line.starts_with("rootfs:") {
        true => volume.clone(),
        false => format!("{line}\n"),
    });
    host.write(&container.conf_path(), lines.collect::<String>());
    let dir = "/usr/lib/x86_64-linux-gnu";
    std::fs::create_dir_all(container.at(dir)).unwrap();
    let link = container.at(&format!("{dir}/libnvidia-ml.so.1"));
    let _ = std::fs::remove_file(&link);
    std::fs::write(container.at(&format!("{dir}/libnvidia-ml.so.{version}")), "ELF").unwrap();
    std::os::unix::fs::symlink(format!("libnvidia-ml.so.{version}"), link).unwrap();
}

#[test]
fn another_version_of_the_userspace_keeps_it_from_starting() {
    let host = Host::new(HOST);
    install(&host);
    let module = host.tool("lxc-gpu-conf").args("hook 950 post-stop").run().expect(0);
    assert_eq!((module.stdout.as_str(), module.stderr.as_str()), ("", ""));
    let text = host.read("/proc/driver/nvidia/version");
    let of_module = text.split_whitespace().find(|word| word.split('.').count() >= 2);
    let module = of_module.unwrap().to_string();
    for (ctid, unprivileged, style) in KINDS {
        let container = create(&host, ctid, unprivileged, style);
        userspace(&host, &container, "550.54.14");
        let said = container.start_fails();
        let lines = messages(&said);
        assert_eq!(lines.len(), 2, "{said}");
        let expected = format!(
            "ct {ctid} has NVIDIA driver libraries 550.54.14, but the kernel module of the host is \
             {module}"
        );
        assert!(lines[0].contains(&expected), "{said}");
        assert!(lines[1].contains("exit code 4"), "{said}");
        userspace(&host, &container, &module);
        start(&container, &host);
        assert!(container.running());
    }
    // with a script that only warns it starts
    let container = create(&host, 954, true, "dev");
    userspace(&host, &container, "550.54.14");
    host.script("/var/lib/vz/snippets/gpu", "exec lxc-gpu-conf hook --warn-only \"$1\" \"$2\"\n");
    let said = start(&container, &host);
    assert!(said.contains("ct 954 has NVIDIA driver libraries 550.54.14"), "{said}");
    assert!(!said.contains("hookscript error"), "{said}");
}

#[test]
fn a_mode_that_shuts_the_container_out_keeps_it_from_starting() {
    let host = Host::new(HOST);
    install(&host);
    let container = create(&host, 951, true, "mount");
    host.run("chmod 0660 /dev/nvidia0").expect(0);
    let said = container.start_fails();
    assert!(said.contains("/dev/nvidia0 has mode 0660 on the host"), "{said}");
    // what CUDA does without does not
    host.run("chmod 0666 /dev/nvidia0; chmod 0660 /dev/nvidia-modeset").expect(0);
    assert!(start(&container, &host).contains("/dev/nvidia-modeset has mode 0660"));
}

#[test]
fn post_start_says_that_a_rule_is_missing() {
    let host = Host::new(HOST);
    host.script(
        "/var/lib/vz/snippets/gpu",
        "[ \"$2\" = post-start ] || exit 0\nexec lxc-gpu-conf hook \"$1\" \"$2\"\n",
    );
    let container = create(&host, 953, false, "mount");
    let rules = |line: &&str| !line.contains("devices.allow: c 511:0 ");
    let conf: String = container.conf().lines().filter(rules).map(|l| format!("{l}\n")).collect();
    host.write(&container.conf_path(), conf);
    let said = start(&container, &host);
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::Denied);
    let expected = "ct 953: /dev/nvidia-uvm cannot be opened (device rules) inside";
    assert!(said.lines().next().unwrap().contains(expected), "{said}");
    assert!(said.contains("exit code 3"), "{said}");
    // and pre-start would have known
    let ran = host.tool("lxc-gpu-conf").args("hook 953 pre-start").run().expect(3);
    ran.one_line("no device rule lets the container open /dev/nvidia-uvm (511:0)");
}

#[test]
fn what_is_no_business_of_the_hooks_is_left_alone() {
    let host = Host::new(HOST);
    let plain = host.create(950, true);
    for args in
        ["950 pre-start", "950 post-start", "100 pre-start", "902 pre-stop", "902 post-stop"]
    {
        let ran = host.tool("lxc-gpu-conf").args(&format!("hook {args}")).run().expect(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{args}");
    }
    plain.start();
    host.tool("lxc-gpu-conf").args("hook 950 post-start").run().expect(0);
    host.tool("lxc-gpu-conf").args("hook 999 pre-start").run().expect(2);
}

#[test]
fn the_lock_of_the_configuration_is_not_waited_for() {
    let host = Host::new(HOST);
    create(&host, 950, true, "dev");
    host.run("mkdir -p /run/lock/lxc").expect(0);
    let begin = Instant::now();
    let lock = "/run/lock/lxc/pve-config-950.lock";
    host.run(&format!("flock {lock} lxc-gpu-conf hook 950 pre-start")).expect(0);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// Milliseconds that a command takes, fifty-one times, sorted.
fn times(host: &Host, command: &str) -> Vec<f64> {
    let script = format!(
        "i=0; while [ $i -lt 51 ]; do s=$(date +%s%N); {command} || exit 1; e=$(date +%s%N); \
         echo $((e-s)); i=$((i+1)); done"
    );
    let ran = host.run(&script).expect(0);
    let mut times: Vec<f64> =
        ran.stdout.lines().map(|line| line.parse::<f64>().unwrap() / 1e6).collect();
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn how_long_pre_start_takes_when_all_is_well() {
    let host = Host::new(HOST);
    let floor = times(&host, "/bin/true");
    for (ctid, unprivileged, style) in KINDS {
        let container = create(&host, ctid, unprivileged, style);
        let text = host.read("/proc/driver/nvidia/version");
        let version = text.split_whitespace().find(|word| word.split('.').count() >= 2);
        userspace(&host, &container, version.unwrap());
        let took = times(&host, &format!("lxc-gpu-conf hook {ctid} pre-start"));
        println!(
            "hook pre-start, {style}, unprivileged {unprivileged}: median {:.1} ms, most {:.1} ms \
             (/bin/true: {:.1} ms)",
            took[25], took[50], floor[25]
        );
    }
}
