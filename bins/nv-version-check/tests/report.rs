//! What comes out, and with which exit code: tables, metrics, pins, selections;
//! and Debian's own packages.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Host, KERNEL, TOOL, V, advice, check, drifts, text};
use testbed::driver::{LIB, RootFs};
use testbed::{Bed, Tool};

#[test]
fn a_machine_without_the_driver_says_so_in_one_line() {
    let bed = Bed::empty();
    bed.write("/proc/sys/kernel/osrelease", "6.1.0-35-amd64\n");
    bed.write(
        "/lib/modules/6.1.0-35-amd64/modules.dep",
        "kernel/drivers/video/fbdev/nvidia/nvidiafb.ko:\n",
    );
    let ran = bed.tool(TOOL).run().expect(0).one_line("this host has no NVIDIA driver");
    assert_eq!(ran.stdout, "");
    let ran = bed.tool(TOOL).args("--pin 550.163.01").run().expect(1);
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.values("check", "cause"), ["nothing-installed"]);
}

#[test]
fn this_machine_is_read_without_a_driver_or_with() {
    let ran = Tool::new(TOOL).run();
    let driver = std::path::Path::new("/sys/module/nvidia/version").exists();
    match driver {
        true => assert!(ran.code() < 2, "{}", ran.stderr),
        false => {
            let ran = ran.expect(0).one_line("no NVIDIA driver");
            assert_eq!(ran.stdout, "");
            Tool::new(TOOL).args("--pin 550.163.01").run().expect(1);
        }
    }
}

#[test]
fn debians_own_packages_are_read_through_their_alternatives() {
    let host = Host::debian();
    host.give(901);
    let root = host.volume(901);
    root.debian_packages().ldconfig();
    let ran = host.run("--all-cts --problems").expect(0);
    assert_eq!(ran.stdout, "");
    let seen = check(&host.run("--all-cts").expect(0), "ct 901", "userspace").clone();
    assert_eq!((&seen["expected"], &seen["actual"]), (&V.into(), &V.into()));
    // a host that went on
    host.load("580.95.05", false);
    let ran = host.run("--ct 901").expect(1);
    let behind = check(&ran, "ct 901", "userspace");
    assert_eq!(behind["cause"], "container-behind");
    let path = format!("{LIB}/nvidia/current/libnvidia-ml.so.550.163.01");
    assert!(text(&behind["reason"]).starts_with(&path), "{behind}");
    // without a cache the directories tell the same
    std::fs::remove_file(root.at("/etc/ld.so.cache")).unwrap();
    assert_eq!(check(&host.run("--ct 901"), "ct 901", "userspace")["actual"], V);
    // a soname that leads to another file
    let ml = format!("{LIB}/nvidia/current/libnvidia-ml.so");
    std::fs::rename(root.at(&format!("{ml}.{V}")), root.at(&format!("{ml}.535.247.01"))).unwrap();
    root.link(&format!("{ml}.1"), "libnvidia-ml.so.535.247.01");
    let torn = drifts(&host.run("--ct 901").expect(1));
    assert!(torn.contains(&("ct 901".into(), "two-userspaces".into())), "{torn:?}");
}

#[test]
fn the_table_shows_commands_whole() {
    let host = Host::debian();
    host.give(901);
    host.volume(901).run_install(LIB, "535.247.01").ldconfig();
    let ran = host.tool("--all-cts --problems -o table").text().run().expect(1);
    let expected = "\
STATUS  SUBJECT  PROPERTY   EXPECTED    ACTUAL
DRIFT   ct 901   userspace  550.163.01  535.247.01
                                        /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.535.247.01: older than the loaded module
    pct start 901
    pct exec 901 -- nvidia-uninstall --silent
    nv-runfile fetch 550.163.01
    nv-runfile install /var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-550.163.01.run --ct 901
";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn promtool_accepts_the_metrics() {
    let host = Host::debian();
    host.give(901);
    host.volume(901).debian(V).ldconfig();
    let file = host.bed.at("/metrics/nvidia.prom");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let run = |args: &str| host.tool(args).arg("--prometheus-file").arg(&file).text().run();
    let ran = run("--all-cts --format prometheus").expect(0);
    assert_eq!(ran.stdout, "");
    let good = std::fs::read_to_string(&file).unwrap();
    promtool(&good);
    assert!(good.contains("nvidia_version_drifts 0\n"), "{good}");
    assert!(good.contains("nvidia_version_check_last_good_age_seconds 0\n"), "{good}");
    let series =
        "nvidia_version_info{subject=\"ct 901\",property=\"userspace\",version=\"550.163.01\"} 1";
    assert!(good.lines().any(|line| line == series), "{good}");
    // drift: the time of the last good run stays
    let stamp = "nvidia_version_check_last_good_timestamp_seconds ";
    let aged: String =
        good.lines()
            .map(|line| {
                if line.starts_with(stamp) { format!("{stamp}1000\n") } else { format!("{line}\n") }
            })
            .collect();
    std::fs::write(&file, aged).unwrap();
    host.load("550.144.03", false);
    let records = host.tool("--all-cts").arg("--prometheus-file").arg(&file).run().expect(1);
    assert!(!records.records.is_empty());
    let bad = std::fs::read_to_string(&file).unwrap();
    promtool(&bad);
    assert!(bad.contains(&format!("{stamp}1000\n")), "{bad}");
    let drift =
        "nvidia_version_drift{subject=\"host\",property=\"module\",cause=\"host-not-rebooted\"} 1";
    assert!(bad.lines().any(|line| line == drift), "{bad}");
    // nothing but the file itself is left in its directory
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    // to standard output
    let ran = host.tool("--all-cts --format prometheus").text().run().expect(1);
    promtool(&ran.stdout);
    // a subject with everything that a label must escape
    let odd = host.bed.at("/a\"b\\c\nd");
    RootFs::new(&odd).debian(V);
    let ran = host.tool("--format prometheus --rootfs").arg(&odd).text().run();
    promtool(&ran.stdout);
    let device = host.bed.at("/metrics/null");
    assert!(Command::new("mknod").arg(&device).args(["c", "1", "3"]).status().unwrap().success());
    let ran = host.tool("").arg("--prometheus-file").arg(&device).run();
    assert!(ran.expect(2).stderr.contains("is not a regular file"));
    let nowhere = host.bed.at("/none/x.prom/y");
    host.bed.write("/none/x.prom", "");
    let ran = host.tool("").arg("--prometheus-file").arg(nowhere).run().expect(3);
    assert!(ran.stderr.contains("x.prom"), "{}", ran.stderr);
}

/// The package's alert rules, on the metrics that the tool prints of a host with a
/// container that is behind; and the metrics that the dashboard asks for exist.
#[test]
fn the_alert_rules_fire_on_the_metrics_and_the_dashboard_asks_for_existing_ones() {
    let host = Host::debian();
    host.give(901);
    host.volume(901).run_install(LIB, "535.247.01").ldconfig();
    let metrics = host.tool("--all-cts --format prometheus").text().run().expect(1).stdout;
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("package/monitoring");
    let rules = package.join("nvidia-version.rules.yml");
    let drift: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("nvidia_version_drift{")).collect();
    let series: String = drift
        .iter()
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            format!("      - series: '{series}'\n        values: '{value}+0x30'\n")
        })
        .collect();
    let text = format!(
        "rule_files: [{}]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n\
         {series}    alert_rule_test:\n      - eval_time: 20m\n        alertname: NvidiaVersionProblem\n        \
         exp_alerts:\n          - exp_labels: {{severity: warning, subject: ct 901, property: userspace, cause: container-behind}}\n            \
         exp_annotations:\n              summary: 'ct 901: container-behind'\n              \
         description: \"'nv-version-check --all-cts --problems' on the host prints the reason and the commands that repair it; pve-gpu-causes(7) explains container-behind.\"\n",
        rules.display()
    );
    host.bed.write("/rules-test.yml", text);
    for args in [["check", "rules"], ["test", "rules"]] {
        let file = if args[0] == "check" { rules.clone() } else { host.bed.at("/rules-test.yml") };
        let output = Command::new("promtool").args(args).arg(file).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
    }
    let dashboard = std::fs::read_to_string(package.join("nvidia-version.dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let expression = panel["targets"][0]["expr"].as_str().unwrap();
        let at = expression.find("nvidia_").unwrap();
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        let name: String = expression[at..].chars().take_while(|c| word(*c)).collect();
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name}");
    }
}

fn promtool(metrics: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: install prometheus");
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}\n{metrics}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn a_pin_comes_from_a_runfile_record_or_a_line() {
    let host = Host::debian();
    let record = r#"{"type":"runfile","path":"/x.run","version":"550.163.01"}"#;
    let other = r#"{"type":"change","tool":"nv-runfile"}"#;
    for input in [record, V, &format!("{other}\n{record}\n")] {
        let ran = host.tool("--pin -").input(input).run().expect(0);
        assert_eq!(check(&ran, "host", "pin")["actual"], V, "{input}");
    }
    for (input, code, words) in [
        ("", 2, "no runfile record and no version"),
        ("nonsense\n", 2, "line 1"),
        ("550.163.01\n580.95.05\n", 2, "two versions"),
        (r#"{"type":"runfile","version":"latest"}"#, 2, "line 1"),
        (
            r#"{"type":"error","tool":"nv-runfile","message":"no such file","exit":3}"#,
            3,
            "no such file",
        ),
    ] {
        let ran = host.tool("--pin -").input(input).run().expect(code);
        assert!(ran.stderr.contains(words), "{input}: {}", ran.stderr);
    }
    host.run("--pin 550").expect(2);
    host.run("--pin latest").expect(2).one_line("looks like 550.163.01");
}

#[test]
fn what_was_asked_for_and_cannot_be_read_exits_with_3() {
    let host = Host::debian();
    host.give(901);
    // a stopped container on a block device: not a fault
    let path = "/etc/pve/nodes/pve1/lxc/901.conf";
    host.bed.write(
        path,
        host.bed.read(path).replace("local-zfs:subvol-901-disk-0", "lvm:vm-901-disk-0"),
    );
    host.bed.write(
        "/etc/pve/storage.cfg",
        host.bed.read("/etc/pve/storage.cfg") + "\nlvmthin: lvm\n\tthinpool data\n\tvgname pve\n",
    );
    let ran = host.run("--all-cts").expect(0);
    let unknown = check(&ran, "ct 901", "userspace");
    assert_eq!((&unknown["status"], &unknown["severity"]), (&"unknown".into(), &"info".into()));
    assert!(text(&unknown["reason"]).contains("is not a directory on the host"), "{unknown}");
    assert!(
        advice(unknown).starts_with("pct mount 901; nv-version-check --ct 901; pct unmount 901")
    );
    assert_eq!(host.run("--all-cts --problems").expect(0).stdout, "");
    host.run("--ct 901").expect(3);
    // what pct mount has put somewhere is looked at
    let root = RootFs::new(host.bed.at("/var/lib/lxc/901/rootfs"));
    root.debian("535.247.01");
    assert_eq!(
        drifts(&host.run("--all-cts").expect(1)),
        [("ct 901".to_string(), "container-behind".to_string())]
    );
    // drift and something unreadable: the highest wins
    std::fs::remove_dir_all(root.path()).unwrap();
    host.load("550.144.03", false);
    host.run("--ct 901").expect(3);
    host.run("--ct 999").expect(2).one_line("container 999 does not exist");
    host.run("--ct 100").expect(2).one_line("is a VM");
    host.run("--ct nine").expect(2);
    Host::bare().bed.tool(TOOL).args("--ct 901 --ct 901").run().expect(3);
}

#[test]
fn mounted_libraries_are_those_of_the_configuration() {
    let host = Host::debian();
    let path = "/etc/pve/nodes/pve1/lxc/901.conf";
    let mount = |version: &str| {
        format!(
            "lxc.mount.entry: {LIB}/nvidia/current/libnvidia-ml.so.{version} \
             usr/lib/libnvidia-ml.so.1 none bind,ro,create=file\n"
        )
    };
    let conf = host.bed.read(path);
    let (main, rest) = conf.split_once("\n[").unwrap();
    host.bed.write(path, format!("{main}\n{}\n[{rest}", mount("535.247.01")));
    // the mount points of a stopped container are empty files
    host.volume(901).file(&format!("{LIB}/libnvidia-ml.so.1"), "");
    let ran = host.run("--ct 901").expect(1);
    let behind = check(&ran, "ct 901", "userspace");
    assert_eq!(behind["actual"], "535.247.01");
    assert_eq!(advice(behind), "lxc-gpu-conf sync 901");
    host.bed.write(path, format!("{main}\n{}\n[{rest}", mount(V)));
    assert_eq!(check(&host.run("--ct 901").expect(0), "ct 901", "userspace")["actual"], V);
}

#[test]
fn nothing_is_written_and_containers_of_other_nodes_are_not_looked_for() {
    let host = Host::debian();
    host.give(901);
    host.volume(901).debian(V).ldconfig();
    host.bed.write("/etc/pve/nodes/pve2/lxc/950.conf", "arch: amd64\ndev0: /dev/nvidia0\n");
    let before = host.bed.contents();
    let ran = host.run("--all-cts --cuda --next-boot -v").expect(0);
    assert!(ran.stderr.contains("1 containers are on other cluster nodes"), "{}", ran.stderr);
    assert!(!ran.stdout.contains("950"));
    assert_eq!(host.bed.contents(), before);
    host.run("--ct 950").expect(2).one_line("is on cluster node pve2");
    host.bed.remove("/etc/pve/local");
    host.run("--all-cts").expect(3).one_line("cluster file system");
    // the host alone does not need it
    let ran = host.run("").expect(0);
    assert_eq!(check(&ran, &format!("kernel {KERNEL}"), "module")["actual"], V);
}

#[test]
fn a_module_that_cannot_be_read_is_not_taken_for_none() {
    let host = Host::debian();
    for path in ["/sys/module/nvidia/version", "/proc/driver/nvidia/version"] {
        host.bed.remove(path);
        std::fs::create_dir(host.bed.at(path)).unwrap();
    }
    let ran = host.run("").expect(3);
    let module = check(&ran, "host", "module");
    assert_eq!((&module["status"], &module["cause"]), (&"unknown".into(), &"unreadable".into()));
    assert!(text(&module["reason"]).contains("cannot determine the loaded module"), "{module}");
}

#[test]
fn the_units_and_the_cron_line_print_only_problems() {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("package");
    let service = std::fs::read_to_string(package.join("nv-version-check.service")).unwrap();
    let cron = std::fs::read_to_string(package.join("cron")).unwrap();
    let line = |text: &str| -> String {
        let line = text.lines().find(|l| l.contains("/usr/bin/nv-version-check")).unwrap();
        line.rsplit_once("/usr/bin/nv-version-check").unwrap().1.to_string()
    };
    assert_eq!(line(&service), line(&cron));
    let host = Host::debian();
    let quiet = host.tool(&line(&cron)).text().run().expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    host.load("550.144.03", false);
    let loud = host.tool(&line(&cron)).text().run().expect(1);
    assert!(loud.stdout.contains("reboot the host"), "{}", loud.stdout);
}

#[test]
fn a_recording_of_a_host_gives_the_same_records_as_the_host() {
    let host = Host::debian();
    host.root().kernel(common::NEWER, None).debian("535.247.01");
    host.bed.write("/etc/kernel/proxmox-boot-pin", format!("{KERNEL}\n"));
    // a module's file and the loader's cache are not recorded
    let script =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/record-machine");
    let recorded =
        Command::new("sh").arg(script).env("RECORD_ROOT", host.bed.path()).output().unwrap();
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let tree = testbed::tree::Tree::parse(&String::from_utf8_lossy(&recorded.stdout)).unwrap();
    let there = Bed::of(&tree);
    std::fs::remove_file(host.bed.at("/etc/ld.so.cache")).unwrap();
    std::fs::remove_dir_all(host.bed.at(&format!("/lib/modules/{KERNEL}/updates"))).unwrap();
    let here = host.run("").expect(1);
    assert!(!here.records.is_empty());
    assert_eq!(there.tool(TOOL).run().expect(1).records, here.records);
}
