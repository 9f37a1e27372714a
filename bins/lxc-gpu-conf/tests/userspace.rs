//! Mounted userspace and graphics: which files, under which names, with whose
//! groups.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::*;
use testbed::Bed;

const VERSION: &str = "550.163.01";
const DIR: &str = "/usr/lib/x86_64-linux-gnu";

/// The host with its driver's userspace, and container 910.
fn installed(text: &str) -> Bed {
    let bed = host(text);
    install_userspace(&bed, VERSION);
    bed
}

/// Source and target of each mounted file.
fn mounts(bed: &Bed) -> BTreeSet<(String, String)> {
    let text = bed.read(&conf(910));
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("lxc.mount.entry: ")?
                .strip_suffix(" none bind,ro,optional,create=file")
        })
        .map(|line| line.split_once(' ').unwrap())
        .map(|(source, target)| (source.to_string(), format!("/{target}")))
        .collect()
}

fn expected(version: &str, dir: &str, stems: &[&str], smi: bool) -> BTreeSet<(String, String)> {
    let mut set = BTreeSet::new();
    for stem in stems {
        let source = format!("{DIR}/nvidia/current/{stem}.so.{version}");
        for name in [format!("{stem}.so.{version}"), format!("{stem}.so.1")] {
            set.insert((source.clone(), format!("{dir}/{name}")));
        }
    }
    if smi {
        set.insert(("/usr/lib/nvidia/current/nvidia-smi".into(), "/usr/bin/nvidia-smi".into()));
    }
    set
}

const ALL: [&str; 4] = ["libnvidia-ml", "libcuda", "libnvidia-ptxjitcompiler", "libnvidia-encode"];

#[test]
fn exactly_the_files_of_the_sets_are_mounted_under_every_name() {
    for (sets, stems, smi) in [
        ("--libs", &ALL[..], true),
        ("--libs=utility", &ALL[..1], true),
        ("--libs=utility,compute", &ALL[..3], true),
        ("--libs=compute", &ALL[1..3], false),
        ("--libs=graphics,utility", &ALL[..1], true),
    ] {
        let bed = installed(GOOD);
        let ran = run(&bed, &format!("add 910 --gpu 0 {sets}")).expect(0);
        assert_eq!(mounts(&bed), expected(VERSION, DIR, stems, smi), "{sets}");
        assert!(ran.stderr.contains("do not exist: omitted"), "{}", ran.stderr);
        assert_eq!(causes(&bed, 910), none());
        let again = run(&bed, &format!("add 910 --gpu 0 {sets}")).expect(0);
        assert_eq!(statuses(&again), only("unchanged"));
        assert_eq!(statuses(&run(&bed, "sync 910").expect(0)), only("unchanged"));
        // only they go, and sync leaves it so
        run(&bed, "remove 910 --libs").expect(0);
        assert!(mounts(&bed).is_empty());
        assert!(bed.read(&conf(910)).contains("/dev/nvidia0,"));
        run(&bed, "sync 910").expect(0);
        assert!(mounts(&bed).is_empty());
    }
}

#[test]
fn the_library_directory_is_the_distributions() {
    for (os, dir) in [
        ("debian", DIR),
        ("ubuntu", DIR),
        ("devuan", DIR),
        ("unmanaged", DIR),
        ("fedora", "/usr/lib64"),
        ("centos", "/usr/lib64"),
        ("opensuse", "/usr/lib64"),
        ("gentoo", "/usr/lib64"),
        ("archlinux", "/usr/lib"),
    ] {
        let bed = installed(&GOOD.replace("ostype: debian", &format!("ostype: {os}")));
        run(&bed, "add 910 --gpu 0 --libs").expect(0);
        assert_eq!(mounts(&bed), expected(VERSION, dir, &ALL, true), "{os}");
        assert_eq!(causes(&bed, 910), none(), "{os}");
    }
    let bed = installed(&GOOD.replace("ostype: debian", "ostype: alpine"));
    let before = bed.read(&conf(910));
    run(&bed, "add 910 --gpu 0 --libs").expect(4).one_line("it uses musl");
    assert_eq!(bed.read(&conf(910)), before);
}

#[test]
fn a_userspace_of_another_version_than_the_modules_is_refused() {
    let bed = installed(GOOD);
    let before = bed.read(&conf(910));
    set_module(&bed, "550.163.02");
    run(&bed, "add 910 --gpu 0 --libs").expect(4).one_line("no driver libraries of 550.163.02");
    fs::remove_file(bed.at("/sys/module/nvidia/version")).unwrap();
    fs::remove_file(bed.at("/proc/driver/nvidia/version")).unwrap();
    run(&bed, "add 910 --gpu 0 --libs").expect(4).one_line("the nvidia module is not loaded");
    for args in ["--libs=all", "--libs=", "--share-driver", "--share-driver relative/dir"] {
        run(&bed, &format!("add 910 --gpu 0 {args}")).expect(2).one_line("");
    }
    run(&bed, "add 910 --gpu 0 --share-driver /none").expect(4);
    assert_eq!(bed.read(&conf(910)), before);
}

#[test]
fn a_driver_update_replaces_every_mount() {
    let bed = installed(GOOD);
    run(&bed, "add 910 --gpu 0 --libs=utility,compute").expect(0);
    let new = "580.95.05";
    install_userspace(&bed, new);
    // not before the module is of it too
    assert_eq!(statuses(&run(&bed, "sync 910").expect(0)), only("unchanged"));
    set_module(&bed, new);
    assert!(causes(&bed, 910).contains("library-version"));
    uninstall_userspace(&bed, VERSION);
    assert!(causes(&bed, 910).contains("library-missing"));
    run(&bed, "sync 910").expect(0);
    assert_eq!(mounts(&bed), expected(new, DIR, &ALL[..3], true));
    assert_eq!(causes(&bed, 910), none());
    assert!(!bed.read(&conf(910)).contains(VERSION));
}

#[test]
fn an_unpacked_installer_is_shared() {
    let bed = host(GOOD);
    let dir = "/srv/NVIDIA-Linux-x86_64 550";
    for stem in ALL {
        bed.write(&format!("{dir}/{stem}.so.{VERSION}"), "64");
        // 32-bit libraries stand beside, in a directory of their own
        bed.write(&format!("{dir}/32/{stem}.so.{VERSION}"), "32");
    }
    bed.link(&format!("{dir}/libcuda.so.1"), &format!("libcuda.so.{VERSION}"));
    bed.write(&format!("{dir}/nvidia-smi"), "");
    bed.write(&format!("{dir}/kernel/nvidia.ko"), "");
    bed.tool(TOOL).args("add 910 --gpu 0 --share-driver").arg(dir).run().expect(0);
    let text = bed.read(&conf(910));
    // white space as fstab(5) has it
    let source = format!("/srv/NVIDIA-Linux-x86_64\\040550/libcuda.so.{VERSION}");
    let line = format!("lxc.mount.entry: {source} usr/lib/x86_64-linux-gnu/libcuda.so.1 none");
    assert!(text.contains(&line), "{text}");
    assert_eq!(mounts(&bed).len(), 4 + 1 + 1, "{text}");
    assert!(!text.contains("/32/") && !text.contains("nvidia.ko"), "{text}");
    assert_eq!(causes(&bed, 910), none());
    assert_eq!(statuses(&run(&bed, "sync 910").expect(0)), only("unchanged"));
    // a second container takes the same
    bed.write(&conf(911), GOOD);
    bed.tool(TOOL).args("add 911 --gpu 0 --share-driver").arg(dir).run().expect(0);
    // it went away: told, and nothing is taken from the container
    fs::remove_dir_all(bed.at(dir)).unwrap();
    assert!(causes(&bed, 910).contains("library-missing"));
    let ran = run(&bed, "sync 910");
    assert!(matches!(ran.code(), 3 | 4), "{}", ran.stderr);
    assert_eq!(bed.read(&conf(910)), text);
}

#[test]
fn graphics_has_the_containers_own_groups() {
    let bed = host(GOOD);
    let root = root_file_system(&bed);
    bed.write(&format!("{root}/etc/group"), "root:x:0:\nvideo:x:44:\nrender:x:993:plex\n");
    let ran = run(&bed, "add 910 --gpu 0 --graphics").expect(0);
    let text = bed.read(&conf(910));
    assert!(text.contains("/dev/dri/card1,gid=44,mode=0660\n"), "{text}");
    assert!(text.contains("/dev/dri/renderD128,gid=993,mode=0660\n"), "{text}");
    assert!(!ran.stderr.contains("groups are not known"), "{}", ran.stderr);
    assert!(!text.contains("card0") && !text.contains("card2"), "the GPU's own only: {text}");
    assert_eq!(causes(&bed, 910), none());
    // a running container's are what its processes see
    let bed = host(GOOD);
    root_file_system(&bed);
    start(&bed, 910, &[]);
    bed.write(&format!("/proc/{PID}/root/etc/group"), "video:x:27:\nrender:x:105:\n");
    run(&bed, "add 910 --gpu 0 --graphics").expect(0);
    let text = bed.read(&conf(910));
    assert!(text.contains("card1,gid=27,") && text.contains("renderD128,gid=105,"), "{text}");
}

#[test]
fn groups_that_are_not_known_leave_the_nodes_open_and_are_told() {
    // its volume is no directory
    let bed = host(GOOD);
    let ran = run(&bed, "add 910 --gpu 0 --graphics").expect(0);
    assert!(ran.stderr.contains("the groups of the container are not known"), "{}", ran.stderr);
    let text = bed.read(&conf(910));
    assert!(text.contains("/dev/dri/card1,mode=0666\n"), "{text}");
    // it has no group render, or hides the file behind a link out of it
    for (group, link) in [("video:x:44:\n", None), ("", Some("/outside")), ("", Some("group"))] {
        let bed = host(GOOD);
        let root = root_file_system(&bed);
        bed.write("/outside", "render:x:666:\nvideo:x:666:\n");
        match link {
            None => bed.write(&format!("{root}/etc/group"), group),
            Some(target) => bed.link(&format!("{root}/etc/group"), target),
        }
        run(&bed, "add 910 --gpu 0 --graphics").expect(0);
        let text = bed.read(&conf(910));
        assert!(
            text.contains("/dev/dri/renderD128,mode=0666\n") && !text.contains("666,"),
            "{text}"
        );
    }
    // a group that is asked for needs none
    let bed = host(GOOD);
    let ran = run(&bed, "add 910 --gpu 0 --graphics --gid 104").expect(0);
    assert!(!ran.stderr.contains("groups are not known"), "{}", ran.stderr);
    assert!(bed.read(&conf(910)).contains("/dev/dri/card1,gid=104,mode=0660\n"));
}

#[test]
fn a_gpu_without_drm_nodes_or_modeset_is_told() {
    let bed = Bed::new(A100);
    let before = bed.read(&conf(101));
    run(&bed, "add 101 --gpu 2 --graphics")
        .expect(4)
        .one_line("/dev/nvidia-modeset does not exist");
    assert_eq!(bed.read(&conf(101)), before);
}
