//! `hook`: what Proxmox VE's hookscript calls. Silent and exit 0 when all is
//! well; one line and an exit when the container could not work.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::*;
use testbed::{Bed, Ran};

fn hook(bed: &Bed, args: &str) -> Ran {
    run(bed, &format!("hook {args}"))
}

fn silent(ran: Ran) {
    let ran = ran.expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

/// Fails with one message, and changes nothing but nodes.
fn fails(bed: &Bed, code: i32, what: &str) {
    let before = bed.read(&conf(910));
    let ran = hook(bed, "910 pre-start").expect(code);
    let ran = ran.one_line(what);
    assert!(ran.records.iter().all(|record| record["type"] == "error"), "{}", ran.stdout);
    assert_eq!(bed.read(&conf(910)), before);
    let ran = hook(bed, "910 pre-start --warn-only").expect(0);
    assert!(ran.stderr.contains(what), "--warn-only says it too: {}", ran.stderr);
    assert!(ran.records.is_empty());
}

#[test]
fn all_is_well() {
    for text in [GOOD, BY_HAND] {
        let bed = host(text);
        let before = bed.contents();
        silent(hook(&bed, "910 pre-start"));
        assert!(bed.contents() == before, "nothing is written");
    }
    silent(hook(&Bed::new(A100), "101 pre-start"));
    silent(hook(&Bed::new("desktop-one-group"), "101 pre-start"));
}

#[test]
fn other_phases_and_guests_are_ignored() {
    let bed = host(&GOOD.replace("nvidia0", "nvidia7"));
    fails(&bed, 3, "no GPU of this host that is bound to nvidia has /dev/nvidia7");
    for phase in ["pre-stop", "post-stop", "post-start"] {
        silent(bed.tool(TOOL).args("hook 910").arg(phase).run());
    }
    // what Proxmox VE never calls is an error in the script
    for phase in ["pre-migrate", "", "PRE-START"] {
        let ran = bed.tool(TOOL).args("hook 910").arg(phase).run();
        assert_eq!(ran.stdout, "", "a task's log has both outputs");
        ran.expect(2).one_line("is not a phase");
    }
    // a VM with the same script, a container without a GPU
    silent(hook(&bed, "100 pre-start"));
    silent(hook(&bed, "901 pre-start"));
    bed.write(&conf(911), "#nvidia\narch: amd64\n");
    silent(hook(&bed, "911 pre-start"));
    hook(&bed, "999 pre-start").expect(2).one_line("container 999 does not exist");
    for args in ["", "910", "abc pre-start", "910 pre-start more"] {
        hook(&bed, args).expect(2).one_line("");
    }
    fs::remove_file(bed.at("/etc/pve/local")).unwrap();
    hook(&bed, "910 pre-start").expect(3).one_line("is not Proxmox VE's cluster file system");
}

#[test]
fn a_missing_or_stale_node_is_created() {
    let bed = host(BY_HAND);
    bed.drop_node("/dev/nvidia-uvm");
    bed.drop_node("/dev/nvidiactl");
    bed.write("/dev/nvidiactl", "");
    let ran = hook(&bed, "910 pre-start").expect(0);
    assert!(
        ran.stderr.contains("created /dev/nvidia-uvm")
            && ran.stderr.contains("created /dev/nvidiactl")
    );
    assert_eq!(node(&bed, "/dev/nvidia-uvm"), Some((511, 0, 0o666, 0, 0)));
    silent(hook(&bed, "910 pre-start"));
    // of a card that is not here none is made
    let bed = host(&GOOD.replace("nvidia0", "nvidia7"));
    fails(&bed, 3, "/dev/nvidia7");
    assert!(!bed.at("/dev/nvidia7").exists());
}

#[test]
fn what_cannot_be_had_keeps_it_from_starting() {
    // a directory in a node's place
    let bed = host(GOOD);
    bed.drop_node("/dev/nvidia-uvm");
    bed.write("/dev/nvidia-uvm/x", "");
    fails(&bed, 3, "/dev/nvidia-uvm cannot be created: ");
    // no driver behind it
    let bed = host(GOOD);
    bed.write("/proc/devices", bed.read("/proc/devices").replace("511 nvidia-uvm\n", ""));
    fails(&bed, 3, "needs the driver 'nvidia-uvm', which is not loaded");
    let bed = host(&GOOD.replace("dev2: /dev/nvidia-uvm,mode=0666\n", ""));
    fails(&bed, 3, "/dev/nvidia-uvm is not given");
    let bed = host(&format!(
        "{GOOD}lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n"
    ));
    fails(&bed, 3, "given by dev0 and by a mount entry");
    let bed = host(&BY_HAND.replace("c 511:*", "c 509:*"));
    fails(&bed, 3, "no device rule lets the container open /dev/nvidia-uvm (511:0)");
    let bed = host(&OWN_PAIR.replace("c 511:", "c 509:"));
    fails(&bed, 3, "stale device rule 'c 509:0 rw': nvidia-uvm now has major 511");
    let bed = host("arch: amd64\nostype: debian\nunprivileged: 1\n");
    run(&bed, "add 910 --gpu 0").expect(0);
    swap_cards(&bed);
    fails(&bed, 3, "now has /dev/nvidia1");
    // what is only untidy does not
    let bed = host(&format!("{GOOD}lxc.cgroup.devices.allow: c 195:* rwm\n"));
    silent(hook(&bed, "910 pre-start"));
    let bed = host(&format!("{GOOD}dev3: /dev/nvidia-vgpuctl\n"));
    fails(&bed, 3, "/dev/nvidia-vgpuctl does not exist on the host: the container cannot start");
}

/// Container 910 with a library inside, the link as `link` makes it.
fn with_library(dir: &str, version: &str) -> (Bed, String) {
    let bed = host(GOOD);
    let root = root_file_system(&bed);
    bed.write(&format!("{root}{dir}/libnvidia-ml.so.{version}"), "ELF");
    bed.link(&format!("{root}{dir}/libnvidia-ml.so.1"), &format!("libnvidia-ml.so.{version}"));
    (bed, root)
}

#[test]
fn another_version_inside_is_reported_before_programs_fail() {
    for dir in ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"] {
        let (bed, _) = with_library(dir, "550.163.01");
        silent(hook(&bed, "910 pre-start"));
        let (bed, _) = with_library(dir, "550.163.02");
        fails(
            &bed,
            4,
            "driver libraries 550.163.02, but the kernel module of the host is 550.163.01",
        );
    }
    // as Debian has it: absolute links, inside
    let (bed, root) = with_library("/usr/lib/x86_64-linux-gnu/nvidia/current", "535.1");
    bed.link(&format!("{root}/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"), "/etc/alternatives/ml");
    bed.link(
        &format!("{root}/etc/alternatives/ml"),
        "/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1",
    );
    fails(&bed, 4, "driver libraries 535.1");
    // dir storages have a directory for it too
    let (bed, _) = with_library("/usr/lib64", "1.1");
    bed.write("/etc/pve/storage.cfg", "dir: tank\n\tpath /srv\n");
    bed.write(&conf(910), GOOD.replace("subvol-910-disk-0", "910/subvol-910-disk-0.subvol"));
    fs::create_dir_all(bed.at("/srv/images/910")).unwrap();
    let from = bed.at("/tank/subvol-910-disk-0");
    fs::rename(from, bed.at("/srv/images/910/subvol-910-disk-0.subvol")).unwrap();
    fails(&bed, 4, "driver libraries 1.1");
}

#[test]
fn what_cannot_be_looked_at_before_the_start_is_not_judged() {
    let (bed, _) = with_library("/usr/lib64", "1.1");
    for storage in [
        "lvmthin: tank\n\tvgname pve\n",
        "zfspool: other\n\tpool tank\n",
        "zfspool: tank\n",
        "zfspool: tank\n\tpool nowhere\n",
        "",
        "\u{0}\n: :\n\t\n",
    ] {
        bed.write("/etc/pve/storage.cfg", storage);
        silent(hook(&bed, "910 pre-start"));
    }
    fs::remove_file(bed.at("/etc/pve/storage.cfg")).unwrap();
    silent(hook(&bed, "910 pre-start"));
    let bed = host(&GOOD.replace("tank:subvol-910-disk-0", "tank:../../etc"));
    root_file_system(&bed);
    silent(hook(&bed, "910 pre-start"));
}

/// The container's own file system is its own to fill: nothing in it is
/// followed out of it, waited for, or executed.
#[test]
fn a_hostile_root_file_system_is_never_followed_out() {
    let at = |root: &str| format!("{root}/usr/lib64/libnvidia-ml.so.1");
    let bed = host(GOOD);
    let root = root_file_system(&bed);
    // outside is a library of another version that must not be seen
    bed.write("/outside/libnvidia-ml.so.9.9", "ELF");
    bed.write("/etc/shadow", "root:secret");
    for target in [
        "/etc/shadow",
        "../../../../etc/shadow",
        "/outside/libnvidia-ml.so.9.9",
        "../../../../outside/libnvidia-ml.so.9.9",
        "../../../../../../../../../outside/libnvidia-ml.so.9.9",
        "libnvidia-ml.so.1",
        "/proc/self/root/outside/libnvidia-ml.so.9.9",
        "",
    ] {
        let _ = fs::remove_file(bed.at(&at(&root)));
        match target {
            "" => {
                fs::create_dir_all(bed.at(&at(&root))).unwrap();
            }
            _ => bed.link(&at(&root), target),
        }
        silent(hook(&bed, "910 pre-start"));
    }
    fs::remove_dir(bed.at(&at(&root))).unwrap();
    let fifo = Command::new("mkfifo").arg(bed.at(&at(&root))).status().unwrap();
    assert!(fifo.success());
    silent(hook(&bed, "910 pre-start"));
    // a link chain without an end, a directory that leads out
    fs::remove_file(bed.at(&at(&root))).unwrap();
    bed.link(&at(&root), "a");
    bed.link(&format!("{root}/usr/lib64/a"), "b");
    bed.link(&format!("{root}/usr/lib64/b"), "a");
    silent(hook(&bed, "910 pre-start"));
    fs::remove_dir_all(bed.at(&format!("{root}/usr"))).unwrap();
    bed.link(&format!("{root}/usr"), "/outside/usr");
    bed.write("/outside/usr/lib64/libnvidia-ml.so.1.1", "ELF");
    bed.link("/outside/usr/lib64/libnvidia-ml.so.1", "libnvidia-ml.so.1.1");
    silent(hook(&bed, "910 pre-start"));
    // inside it is found
    bed.write(&format!("{root}/outside/usr/lib64/libnvidia-ml.so.1.1"), "ELF");
    bed.link(&format!("{root}/outside/usr/lib64/libnvidia-ml.so.1"), "libnvidia-ml.so.1.1");
    fails(&bed, 4, "driver libraries 1.1");
}

fn entry(source: &str, target: &str) -> String {
    format!("lxc.mount.entry: {source} {target} none bind,optional,create=file\n")
}

/// A container of the guides, with entries that give something else under a name
/// of NVIDIA's: /dev/null to hide a node, the second GPU as the first, a file.
#[test]
fn what_a_container_has_under_an_nvidia_name_is_not_made_into_that_node() {
    let bed = host(&format!(
        "{BY_HAND}{}{}",
        entry("/dev/null", "dev/nvidia-modeset"),
        entry("/opt/nvidia/fake", "dev/nvidia-uvm-tools")
    ));
    make_node(&bed.at("/dev/null"), 1, 3);
    bed.write("/opt/nvidia/fake", "mine");
    hook(&bed, "910 pre-start").expect(0);
    assert_eq!(node(&bed, "/dev/null").map(|n| (n.0, n.1)), Some((1, 3)));
    assert_eq!(bed.read("/opt/nvidia/fake"), "mine");

    let bed = host(&BY_HAND.replace("/dev/nvidia0 dev", "/dev/nvidia1 dev"));
    bed.drop_node("/dev/nvidia1");
    make_node(&bed.at("/dev/nvidia1"), 195, 1);
    hook(&bed, "910 pre-start");
    assert_eq!(node(&bed, "/dev/nvidia1").map(|n| (n.0, n.1)), Some((195, 1)));
}

/// blakeblackshear/frigate#8652: nodes that the administrator made in a directory
/// of his own, with the owner that the container's root is on the host.
#[test]
fn nodes_that_the_administrator_made_elsewhere_are_his() {
    let bed = host(&BY_HAND.replace("entry: /dev/", "entry: /srv/gpu/"));
    fs::create_dir_all(bed.at("/srv/gpu")).unwrap();
    // nvidia-uvm had this major when they were made
    for (name, major, minor) in
        [("nvidia0", 195, 0), ("nvidiactl", 195, 255), ("nvidia-uvm", 509, 0)]
    {
        let path = bed.at(&format!("/srv/gpu/{name}"));
        make_node(&path, major, minor);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&path, Some(100_000), Some(100_000)).unwrap();
    }
    hook(&bed, "910 pre-start");
    run(&bed, "sync 910");
    assert_eq!(node(&bed, "/srv/gpu/nvidia-uvm"), Some((509, 0, 0o640, 100_000, 100_000)));
    assert_eq!(node(&bed, "/srv/gpu/nvidia0"), Some((195, 0, 0o640, 100_000, 100_000)));
}

#[test]
fn the_right_to_reconfigure_mig_is_never_made() {
    let path = "/dev/nvidia-caps/nvidia-cap1";
    let text = format!("{BY_HAND}{}", entry(path, &path[1..]));
    let bed = host(&text);
    let devices = bed.read("/proc/devices");
    bed.write(
        "/proc/devices",
        devices.replace("511 nvidia-uvm", "236 nvidia-caps\n511 nvidia-uvm"),
    );
    // an optional entry without its node: the container starts, and CUDA works
    hook(&bed, "910 pre-start").expect(0);
    assert!(!bed.at(path).exists());
    run(&bed, "nodes").expect(0);
    run(&bed, "sync 910").expect(0);
    assert!(!bed.at(path).exists());
}
