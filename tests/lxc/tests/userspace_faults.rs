//! `nv-runfile install --ct` killed, failing and on a full disk: all or nothing,
//! and the next run puts right what is left.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lxcbed::debian::{installer, small_installer};
use lxcbed::snapshot::difference;
use lxcbed::{Container, Host};
use testbed::Ran;

const HOST: &str = "pve9-two-gpus";

/// All files but ldconfig's private notes, in an order that changes.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut all = lxcbed::snapshot::quick_tree(root);
    all.remove("var/cache/ldconfig/aux-cache");
    all
}

fn settled<'a>(host: &'a Host, running: bool) -> Container<'a> {
    let container = host.create_debian(950, true);
    container.start();
    container.exec(&["/sbin/ldconfig", "-X"]).expect(0);
    if !running {
        container.stop();
        // the cache as the host's own ldconfig writes it
        host.run(&format!("nv-runfile install {} --ct 950 --set compute,utility", run_file()))
            .expect(0);
        host.run("nv-runfile uninstall --ct 950").expect(0);
    }
    container
}

/// A small one: the campaigns run it some hundred times.
fn run_file() -> String {
    small_installer().display().to_string()
}

fn with(host: &Host, inject: &str, verb: &str) -> Ran {
    let file = if verb == "install" { run_file() } else { String::new() };
    let set = if verb == "install" { "--set compute,utility" } else { "" };
    host.run(&format!(
        "strace -qq -f -o /dev/null -e inject={inject} /usr/sbin/nv-runfile {verb} {file} --ct 950 {set}"
    ))
}

fn whole(container: &Container<'_>) {
    let all = tree(&container.at("/"));
    for name in ["libnvidia-ml.so.1", "libcuda.so"] {
        assert!(all.contains_key(&format!("usr/lib/x86_64-linux-gnu/{name}")), "{name}");
    }
    assert!(all.contains_key("usr/bin/nvidia-smi"));
    let odd: Vec<&String> = all
        .keys()
        .filter(|p| p.contains(".nv-runfile-") || p.contains("nv-runfile.next"))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// Kills it at the N-th of each of the calls that change something, for all N.
fn killed(running: bool) -> usize {
    let host = Host::new(HOST);
    let container = settled(&host, running);
    let before = tree(&container.at("/"));
    let mut kills = 0;
    for verb in ["install", "uninstall"] {
        for call in ["renameat", "symlinkat", "mkdirat", "syncfs", "unlinkat", "fchmod"] {
            for when in 1.. {
                if verb == "uninstall" {
                    host.run(&format!(
                        "nv-runfile install {} --ct 950 --set compute,utility",
                        run_file()
                    ))
                    .expect(0);
                }
                let ran = with(&host, &format!("{call}:signal=KILL:when={when}"), verb);
                let survived = ran.status.success();
                kills += usize::from(!survived);
                // the next run is the same or the opposite
                if when % 2 == 0 {
                    let next =
                        format!("nv-runfile install {} --ct 950 --set compute,utility", run_file());
                    let next = host.run(&next);
                    assert!(next.status.success(), "{verb} {call} {when}: {next:?}");
                    whole(&container);
                }
                let next = host.run("nv-runfile uninstall --ct 950");
                assert!(next.status.success(), "{verb} {call} {when}: {next:?}");
                let left = difference(&before, &tree(&container.at("/")));
                assert_eq!(left, Vec::<String>::new(), "{verb} {call} {when}");
                assert!(!container.conf().contains("lock"), "{verb} {call} {when}");
                if survived {
                    break;
                }
            }
        }
    }
    kills
}

#[test]
fn a_killed_run_on_a_running_container_is_put_right_by_the_next() {
    let kills = killed(true);
    assert!(kills > 60, "{kills}");
}

#[test]
fn a_killed_run_on_a_stopped_container_is_put_right_by_the_next() {
    let kills = killed(false);
    assert!(kills > 60, "{kills}");
}

#[test]
fn a_call_that_fails_leaves_everything_as_it_was() {
    let host = Host::new(HOST);
    let container = settled(&host, true);
    let before = tree(&container.at("/"));
    let mut failures = 0;
    for (call, error) in [
        ("renameat", "EIO"),
        ("symlinkat", "ENOSPC"),
        ("mkdirat", "EROFS"),
        ("syncfs", "EIO"),
        ("fchmod", "EPERM"),
        ("fchown", "EPERM"),
        ("fsync", "EIO"),
    ] {
        for when in 1.. {
            let ran = with(&host, &format!("{call}:error={error}:when={when}"), "install");
            // it counts, and what is left goes with the next run
            let untidy = ran.stderr.contains("the next run cleans up");
            if ran.status.success() && !untidy {
                whole(&container);
                host.run("nv-runfile uninstall --ct 950").expect(0);
                break;
            }
            failures += 1;
            let said = format!("{call} {when}: {ran:?}");
            assert!(untidy || [3, 4].contains(&ran.code()), "{said}");
            // what was written down as done is done, and told
            if !container.at("/var/lib/pve-gpu-tools").exists() {
                let left = difference(&before, &tree(&container.at("/")));
                assert_eq!(left, Vec::<String>::new(), "{said}");
            }
            host.run("nv-runfile uninstall --ct 950").expect(0);
            let left = difference(&before, &tree(&container.at("/")));
            assert_eq!(left, Vec::<String>::new(), "{said}");
        }
    }
    assert!(failures > 20, "{failures}");
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let host = Host::new(HOST);
    let volume = "/run/lxcbed/volumes/950";
    let container = host.create(950, true);
    host.run(&format!("rm -rf {volume} && mkdir {volume}")).expect(0);
    host.run(&format!("mount -t tmpfs -o size=300m tmpfs {volume}")).expect(0);
    lxcbed::debian::fill(&container.at("/"), 100_000);
    container.start();
    container.exec(&["/sbin/ldconfig", "-X"]).expect(0);
    for free in [20u64, 1, 0] {
        let room = host.run(&format!("df -k --output=avail {volume} | tail -1")).expect(0);
        let room: u64 = room.stdout.trim().parse().unwrap();
        let filler = container.at("/root/filler");
        fs::write(&filler, vec![7; ((room - free * 1024) * 1024) as usize]).unwrap();
        let before = tree(&container.at("/"));
        let ran = host.tool("nv-runfile").arg("install").arg(installer()).args("--ct 950").run();
        let ran = ran.expect(3);
        assert!(ran.stderr.to_lowercase().contains("no space left"), "{}", ran.stderr);
        assert_eq!(difference(&before, &tree(&container.at("/"))), Vec::<String>::new());
        fs::remove_file(filler).unwrap();
    }
    host.tool("nv-runfile").arg("install").arg(installer()).args("--ct 950").run().expect(0);
}
