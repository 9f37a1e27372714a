//! `nv-runfile install --ct`: the real libraries of a driver into a real Debian.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use lxcbed::debian::{VERSION, installer};
use lxcbed::snapshot::{difference, tree};
use lxcbed::{Container, Host};
use testbed::Ran;

const HOST: &str = "pve9-two-gpus";
const LIB: &str = "/usr/lib/x86_64-linux-gnu";

fn install(host: &Host, words: &str) -> Ran {
    host.tool("nv-runfile").arg("install").arg(installer()).args(words).run()
}

fn uninstall(host: &Host, words: &str) -> Ran {
    host.tool("nv-runfile").arg("uninstall").args(words).run()
}

fn statuses(ran: &Ran) -> Vec<&str> {
    let changes = ran.records.iter().filter(|record| record["type"] == "change");
    let mut all: Vec<&str> = changes.map(|record| record["status"].as_str().unwrap()).collect();
    all.sort();
    all.dedup();
    all
}

fn check<'a>(ran: &'a Ran, property: &str) -> &'a serde_json::Value {
    let found = ran.records.iter().find(|r| r["type"] == "check" && r["property"] == property);
    found.unwrap_or_else(|| panic!("no check of {property}: {ran:?}"))
}

/// ldconfig of this Debian, before anything is compared with its cache.
fn settle(container: &Container<'_>) {
    container.start();
    container.exec(&["/sbin/ldconfig", "-X"]).expect(0);
    container.stop();
}

fn works_inside(container: &Container<'_>) {
    let cache = container.exec(&["/sbin/ldconfig", "-p"]).expect(0).stdout;
    for name in ["libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-cfg.so.1", "libnvcuvid.so.1"] {
        let line = cache.lines().find(|line| line.trim().starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name} is not listed:\n{cache}"));
        assert!(line.ends_with(&format!("=> /lib/x86_64-linux-gnu/{name}")), "{line}");
        let file = container.exec(&["readlink", "-f", &format!("{LIB}/{name}")]).expect(0).stdout;
        assert!(file.trim().ends_with(&format!(".so.{VERSION}")), "{name}: {file}");
    }
    let smi = container.exec(&["nvidia-smi"]);
    assert_ne!(smi.code(), 0);
    // the second where the container's root may make nodes: no driver is behind them
    let says = ["NVIDIA-SMI has failed", "Failed to initialize NVML"];
    assert!(says.iter().any(|words| smi.stdout.contains(words)), "{smi:?}");
    let owner = container.exec(&["stat", "-c", "%u:%g %a", "/usr/bin/nvidia-smi"]).expect(0);
    assert_eq!(owner.stdout, "0:0 755\n");
}

#[test]
fn a_running_debian_gets_the_driver_and_loses_it_again() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    settle(&container);
    container.start();
    let before = tree(&container.at("/"));
    let ran = install(&host, "--ct 950").expect(0);
    assert_eq!(statuses(&ran), ["changed"], "{ran:?}");
    assert_eq!(check(&ran, "libraries")["status"], "ok");
    assert_eq!(check(&ran, "libraries")["actual"], VERSION);
    assert_eq!(check(&ran, "nvidia-smi")["status"], "unknown");
    works_inside(&container);
    let after = tree(&container.at("/"));
    for never in ["gsp_", "nvidia-modprobe", "nv.c", "nvidia-installer", ".nv-runfile-"] {
        let new = after.keys().filter(|path| !before.contains_key(*path));
        assert!(!new.into_iter().any(|path| path.contains(never)), "{never}");
    }
    let again = install(&host, "--ct 950").expect(0);
    assert_eq!(statuses(&again), ["unchanged"], "{again:?}");
    install(&host, "--ct 950 --check").expect(0);
    let ran = uninstall(&host, "--ct 950").expect(0);
    assert_eq!(statuses(&ran), ["changed"]);
    assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
    assert_eq!(statuses(&uninstall(&host, "--ct 950").expect(0)), ["unchanged"]);
}

#[test]
fn stopped_containers_get_it_through_pct_mount() {
    let host = Host::new(HOST);
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create_debian(ctid, unprivileged);
        settle(&container);
        let before = tree(&container.at("/"));
        install(&host, &format!("--ct {ctid} --check --set utility")).expect(3);
        assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
        let ran = install(&host, &format!("--ct {ctid}")).expect(0);
        assert_eq!(statuses(&ran), ["changed"], "{ran:?}");
        assert!(!container.conf().contains("lock"), "it is unmounted again");
        container.start();
        works_inside(&container);
        container.stop();
        uninstall(&host, &format!("--ct {ctid}")).expect(0);
        assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
        fs::remove_dir_all(container.at("/usr")).unwrap();
    }
}

#[test]
fn sets_are_taken_and_given_up() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    settle(&container);
    container.start();
    install(&host, "--ct 950 --set utility").expect(0);
    let there = |name: &str| container.at(&format!("{LIB}/{name}")).exists();
    assert!(there("libnvidia-ml.so.1") && !there("libcuda.so.1"));
    install(&host, "--ct 950 --set compute").expect(0);
    assert!(!there("libnvidia-ml.so.1") && there("libcuda.so.1"));
    assert!(!container.at("/usr/bin/nvidia-smi").exists());
}

#[test]
fn what_is_not_ours_is_never_replaced_or_removed() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    container.start();
    let other = container.at(&format!("{LIB}/libcuda.so.1"));
    symlink("/etc/alternatives/libcuda", &other).unwrap();
    let before = tree(&container.at("/"));
    let ran = install(&host, "--ct 950").expect(4);
    assert!(ran.stderr.contains("libcuda.so.1' is a link to /etc/alternatives"), "{}", ran.stderr);
    assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
    fs::remove_file(&other).unwrap();

    let status = container.at("/var/lib/dpkg/status");
    let text = fs::read_to_string(&status).unwrap();
    let package = "\nPackage: libcuda1\nStatus: install ok installed\nVersion: 550\n";
    fs::write(&status, text.clone() + package).unwrap();
    let ran = install(&host, "--ct 950").expect(4);
    assert!(
        ran.stderr.contains("hint: pct exec 950 -- apt-get purge libcuda1\n"),
        "{}",
        ran.stderr
    );
    fs::write(&status, text).unwrap();

    install(&host, "--ct 950").expect(0);
    let smi = container.at("/usr/bin/nvidia-smi");
    fs::write(&smi, "mine now\n").unwrap();
    assert!(install(&host, "--ct 950").expect(4).stderr.contains("was modified"));
    let ran = uninstall(&host, "--ct 950").expect(0);
    assert_eq!(statuses(&ran), ["changed", "skipped"]);
    assert_eq!(fs::read_to_string(&smi).unwrap(), "mine now\n");
    assert!(!container.at(&format!("{LIB}/libcuda.so.1")).exists());
}

#[test]
fn another_version_than_the_kernel_modules_is_refused() {
    let host = Host::new(HOST);
    host.create_debian(950, true);
    let line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.261.03  Tue Apr  8\n";
    fs::write(host.bed().at("/proc/driver/nvidia/version"), line).unwrap();
    fs::write(host.bed().at("/sys/module/nvidia/version"), "535.261.03\n").unwrap();
    let ran = install(&host, "--ct 950").expect(4);
    assert!(ran.stderr.contains("the loaded kernel module is 535.261.03"), "{}", ran.stderr);
    let ran = install(&host, "--ct 950 --force").expect(0);
    assert!(ran.stderr.contains("warning: the loaded kernel module is 535.261.03"));
}

#[test]
fn a_hostile_root_file_system_leads_nowhere() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    let outside = host.at("/run/outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("shadow"), "root:x\n").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let look = || {
        let shadow = host.run("cat /etc/shadow /run/outside/shadow; ls -lA /run/outside; stat -c '%F %a %u:%g %h %s %Y' /run/outside").expect(0);
        shadow.stdout
    };
    let before = look();
    let at = |path: &str| container.at(path);
    let lib = at(LIB);
    let spoil = |what: &str| match what {
        "library directory" => {
            fs::rename(&lib, at("/usr/lib/was")).unwrap();
            symlink("/run/outside", &lib).unwrap();
        }
        "proc" => symlink("/proc/1/root/run/outside", at("/var/lib/pve-gpu-tools")).unwrap(),
        "fifo" => {
            fs::create_dir(at("/var/lib/pve-gpu-tools")).unwrap();
            let fifo = at("/var/lib/pve-gpu-tools/nv-runfile.json");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        "ledger" => {
            fs::create_dir(at("/var/lib/pve-gpu-tools")).unwrap();
            symlink("/etc/shadow", at("/var/lib/pve-gpu-tools/nv-runfile.json")).unwrap();
        }
        "climbing" => {
            fs::create_dir(at("/var/lib/pve-gpu-tools")).unwrap();
            let text = r#"{"format":1,"run":"x","version":"1.2","sets":[],"installer":"","dirs":[],
                "entries":[{"path":"/../../run/outside/shadow","kind":"link","target":"x"}]}"#;
            fs::write(at("/var/lib/pve-gpu-tools/nv-runfile.json"), text).unwrap();
        }
        "file" => symlink("/etc/shadow", at("/usr/bin/nvidia-smi")).unwrap(),
        "temporary" => symlink("/etc/shadow", at("/usr/bin/.nvidia-smi.nv-runfile-new")).unwrap(),
        "dpkg" => {
            fs::remove_file(at("/var/lib/dpkg/status")).unwrap();
            nix::unistd::mkfifo(&at("/var/lib/dpkg/status"), nix::sys::stat::Mode::S_IRWXU)
                .unwrap();
        }
        other => panic!("{other}"),
    };
    let mend = |what: &str| match what {
        "library directory" => {
            fs::remove_file(&lib).unwrap();
            fs::rename(at("/usr/lib/was"), &lib).unwrap();
        }
        "proc" => fs::remove_file(at("/var/lib/pve-gpu-tools")).unwrap(),
        "fifo" | "ledger" | "climbing" => {
            fs::remove_dir_all(at("/var/lib/pve-gpu-tools")).unwrap();
        }
        "file" => fs::remove_file(at("/usr/bin/nvidia-smi")).unwrap(),
        "dpkg" => fs::remove_file(at("/var/lib/dpkg/status")).unwrap(),
        "temporary" => {}
        other => panic!("{other}"),
    };
    // the name of a temporary file is the tool's own: it removes what has that name
    let harmless = ["temporary"];
    let tricks = ["library directory", "proc", "fifo", "ledger", "climbing", "file", "dpkg"];
    for what in tricks.into_iter().chain(harmless) {
        spoil(what);
        let ran = install(&host, "--ct 950");
        let code = ran.code();
        assert_eq!(code == 0, harmless.contains(&what), "{what}: {ran:?}");
        if code == 0 {
            uninstall(&host, "--ct 950").expect(0);
        } else {
            let code = uninstall(&host, "--ct 950").code();
            assert!([0, 3, 4].contains(&code), "{what}: {code}");
        }
        assert_eq!(look(), before, "{what}");
        assert!(!container.conf().contains("lock"), "{what}");
        mend(what);
    }
}

/// A second version, small, from the host's own files.
fn other_version(host: &Host, version: &str) -> String {
    let bed = testbed::Bed::empty();
    testbed::runfile::driver_tree(&bed.at("tree"), version);
    let run = testbed::runfile::NvidiaRun::new(version, testbed::runfile::Pack::Gzip);
    let path = run.write(&bed.at("tree"), bed.path());
    host.write("/run/other.run", fs::read(path).unwrap());
    "/run/other.run".into()
}

#[test]
fn an_upgrade_leaves_nothing_of_the_old_version() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    settle(&container);
    container.start();
    let before = tree(&container.at("/"));
    install(&host, "--ct 950").expect(0);
    let other = other_version(&host, "570.211.01");
    let tool = || host.tool("nv-runfile");
    tool().args(&format!("install {other} --ct 950")).run().expect(4);
    let ran = tool().args(&format!("install {other} --ct 950 --force")).run().expect(0);
    let summary = ran.records.iter().find(|r| r["property"] == "userspace").unwrap();
    assert_eq!((&summary["from"], &summary["to"]), (&VERSION.into(), &"570.211.01".into()));
    let after = tree(&container.at("/"));
    assert!(!after.keys().any(|path| path.contains(VERSION)), "of the old version");
    assert!(after.contains_key("usr/lib/x86_64-linux-gnu/libcuda.so.570.211.01"));
    // and back
    install(&host, "--ct 950").expect(0);
    works_inside(&container);
    uninstall(&host, "--ct 950").expect(0);
    assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
}

#[test]
fn a_hostile_running_container_cannot_have_its_mounts_written_to() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, false);
    container.start();
    // its root may mount: something of the host's in the place of its libraries
    container.exec(&["mkdir", "/root/trap"]).expect(0);
    container.exec(&["mount", "-t", "tmpfs", "trap", "/usr/bin"]);
    let mounted = container.exec(&["grep", "-c", "/usr/bin", "/proc/mounts"]).stdout;
    if mounted.trim() == "0" {
        // where it may not, the host does what a nested container's would be
        let pid = host.run("lxc-info -n 950 -p -H").expect(0).stdout.trim().to_string();
        host.run(&format!("nsenter -t {pid} -m mount -t tmpfs trap /usr/bin")).expect(0);
    }
    let before = tree(&container.at("/"));
    let ran = install(&host, "--ct 950").expect(4);
    assert!(ran.stderr.contains("'/usr/bin/nvidia-smi' is on another file system"), "{ran:?}");
    assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
}

#[test]
fn a_run_that_is_told_to_end_undoes_what_it_did() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    settle(&container);
    let before = tree(&container.at("/"));
    let file = installer();
    // at the third new name
    let ran = host.run(&format!(
        "strace -qq -f -o /dev/null -e inject=renameat:signal=TERM:when=5 \
         /usr/sbin/nv-runfile install {} --ct 950",
        file.display()
    ));
    assert_eq!(ran.code(), 3, "{ran:?}");
    assert!(ran.stderr.contains("interrupted"), "{ran:?}");
    let mut after = tree(&container.at("/"));
    let mut before = before;
    for path in ["var/cache/ldconfig/aux-cache", "etc/ld.so.cache"] {
        // made anew by the host's own ldconfig
        assert!(before.remove(path).is_some() && after.remove(path).is_some());
    }
    assert_eq!(difference(&before, &after), Vec::<String>::new());
    assert!(!container.conf().contains("lock"));
}

#[test]
fn a_damaged_installer_touches_nothing() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    container.start();
    let before = tree(&container.at("/"));
    let mut bytes = fs::read(installer()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    host.write("/run/damaged.run", bytes);
    let ran = host.tool("nv-runfile").args("install /run/damaged.run --ct 950").run().expect(4);
    assert!(ran.stderr.contains("is damaged: "), "{}", ran.stderr);
    let wrong = "0".repeat(64);
    install(&host, &format!("--ct 950 --sha256 {wrong}")).expect(4);
    assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
}

#[test]
fn two_runs_at_once_take_turns() {
    let host = Host::new(HOST);
    let container = host.create_debian(950, true);
    let file = installer().display().to_string();
    let ran = host.run(&format!(
        "nv-runfile install {file} --ct 950 >/run/one & one=$!
         nv-runfile install {file} --ct 950 >/run/two & two=$!
         wait $one && wait $two"
    ));
    assert_eq!(ran.code(), 0, "{ran:?}");
    let both = [host.read("/run/one"), host.read("/run/two")];
    let changed = both.iter().filter(|out| out.contains(r#""status":"changed""#)).count();
    let unchanged = both.iter().filter(|out| out.contains(r#""status":"unchanged""#)).count();
    assert_eq!((changed, unchanged), (1, 1), "{both:?}");
    container.start();
    works_inside(&container);
}
