//! Who uses what on hosts from public reports, and on hosts of their kinds.

// clippy knows the tests alone, not what they call
#![allow(clippy::unwrap_used)]

use host::Machine;
use testbed::tree::Tree;
use testbed::{Bed, reported};
use usage::Users;

/// The users of functions, a line each.
fn users(tree: &Tree, addresses: &[&str]) -> Vec<String> {
    let bed = Bed::of(tree);
    let machine = Machine::new(Some(bed.path())).unwrap();
    let system = pci::scan(&machine, pci::Depth::Verdict).unwrap();
    let users = Users::new(&machine);
    let mut lines = Vec::new();
    for address in addresses {
        let usage = users.of(&system.functions[&address.parse().unwrap()]);
        let user = |user: &usage::User| format!("{address} {} {}", user.name, user.what);
        lines.extend(usage.users.iter().map(user));
        lines.extend(usage.unknown.iter().map(|what| format!("{address} unknown: {what}")));
    }
    lines
}

fn host(name: &str) -> Tree {
    reported::tree(name).unwrap()
}

/// A link of sysfs, and the directory that it leads to.
fn link(tree: &mut Tree, path: &str, to: &str) {
    tree.dir(to);
    tree.link_to(path, to);
}

const SATA: &str = "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda";

#[test]
fn the_disk_of_an_imported_pool_is_never_free() {
    for (name, address, disk) in [("msa2", "08:00.0", "nvme0n1"), ("scyto", "c2:00.0", "nvme1n1")] {
        let unknown = format!(
            "{address} unknown: whether /dev/{disk} belongs to the imported ZFS pool rpool"
        );
        assert_eq!(users(&host(name), &[address]), [unknown], "{name}");
    }
}

#[test]
fn zfs_s_cache_file_names_the_members_of_a_pool() {
    let mut tree = host("scyto");
    tree.file(
        "/etc/zfs/zpool.cache",
        b"\0\0\0\x04path\0\0\0\x14/dev/disk/by-id/nvme-A-part3\0\0\0",
    );
    let part = "/sys/devices/pci0000:c0/0000:c0:01.1/0000:c1:00.0/nvme/nvme0/nvme0n1/nvme0n1p3";
    tree.attr(format!("{part}/dev"), "259:3");
    let nodes = "b /dev/nvme0n1p3 259:3 0660 0:6\nl /dev/disk/by-id/nvme-A-part3 ../../nvme0n1p3\n";
    tree.file("/dev.list", nodes);
    let member = "c1:00.0 /dev/nvme0n1p3 is a member of the ZFS pool rpool";
    assert_eq!(users(&tree, &["c1:00.0", "c2:00.0"]), [member]);
}

#[test]
fn a_volume_group_is_found_through_the_partition_s_holder() {
    let tree = host("msa2lvm");
    assert_eq!(users(&tree, &["08:00.0"]), ["08:00.0 /dev/nvme0n1p3 is part of dm-0"]);
    // with the name that device mapper gives, what is mounted from it is known
    let mut tree = host("msa2lvmefi");
    tree.attr("/sys/devices/virtual/block/dm-0/dm/name", "pve-root");
    assert_eq!(
        users(&tree, &["08:00.0"]),
        [
            "08:00.0 /dev/nvme0n1p2 is mounted on /boot/efi",
            "08:00.0 /dev/nvme0n1p3 is part of dm-0, which is mounted on /"
        ]
    );
}

#[test]
fn disks_are_found_below_any_controller() {
    let mut tree = host("coop");
    let mounted = "00:17.0 /dev/sda2 is mounted on /boot/efi";
    assert_eq!(users(&tree, &["00:17.0"]), [mounted]);
    // swap, an array and a crypt device on it
    tree.file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda1 partition 1 0 -2\n");
    link(&mut tree, &format!("{SATA}/sda3/holders/md0"), "/sys/devices/virtual/block/md0");
    link(&mut tree, "/sys/class/block/md0", "/sys/devices/virtual/block/md0");
    link(
        &mut tree,
        "/sys/devices/virtual/block/md0/holders/dm-3",
        "/sys/devices/virtual/block/dm-3",
    );
    link(&mut tree, "/sys/class/block/dm-3", "/sys/devices/virtual/block/dm-3");
    tree.attr("/sys/devices/virtual/block/dm-3/dm/name", "vault");
    tree.file("/proc/mounts", "/dev/mapper/vault /mnt/a\\040b ext4 rw 0 0\n");
    assert_eq!(
        users(&tree, &["00:17.0"]),
        [
            "00:17.0 /dev/sda1 is swap space",
            "00:17.0 /dev/sda3 is part of md0, which is part of dm-3, which is mounted on /mnt/a b"
        ]
    );
}

#[test]
fn what_hangs_on_usb_belongs_to_the_controller() {
    let found = users(&host("um890"), &["c5:00.0", "c5:00.3", "c5:00.4"]);
    assert_eq!(
        found,
        [
            "c5:00.0 boot display is on it",
            "c5:00.3 enxa0cec8000001 carries the default route",
            "c5:00.4 /dev/sda1 is mounted on /mnt/backup"
        ]
    );
}

#[test]
fn ports_of_a_bond_and_what_is_built_on_an_interface_count() {
    let mut tree = host("scyto");
    let net = "/sys/devices/pci0000:a8/0000:a8:01.1/0000:a9:00.1/net/enp169s0f1";
    link(
        &mut tree,
        &format!("{net}/upper_enp169s0f1.20"),
        "/sys/devices/virtual/net/enp169s0f1.20",
    );
    assert_eq!(
        users(&tree, &["a9:00.0", "a9:00.1"]),
        ["a9:00.0 enp169s0f0 is a port of bond0", "a9:00.1 enp169s0f1 carries enp169s0f1.20"]
    );
}

#[test]
fn a_namespace_with_multipath_belongs_to_its_controllers() {
    let mut tree = host("um890");
    let subsystem = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    let controller = "/sys/devices/pci0000:00/0000:00:02.1/0000:01:00.0/nvme/nvme0";
    let disk = format!("{subsystem}/nvme0n1");
    tree.entries
        .retain(|path, _| !path.contains("/block/nvme0n1") && !path.contains("nvme0/nvme0n1"));
    tree.dir(controller);
    tree.link_to(&format!("{subsystem}/nvme0"), controller);
    tree.dir(format!("{disk}/holders"));
    tree.link_to("/sys/class/block/nvme0n1", &disk);
    tree.file("/proc/mounts", "/dev/nvme0n1 /srv xfs rw 0 0\n");
    assert_eq!(users(&tree, &["01:00.0"]), ["01:00.0 /dev/nvme0n1 is mounted on /srv"]);
}

#[test]
fn the_firmware_s_frame_buffer_names_the_function_whose_memory_it_is_in() {
    assert_eq!(
        users(&host("strix"), &["c3:00.0"]),
        ["c3:00.0 firmware frame buffer lies in its memory"]
    );
}

#[test]
fn a_disk_that_nothing_uses_is_free() {
    let mut tree = host("coop");
    tree.file("/proc/mounts", "/dev/nvme9n1p1 / ext4 rw 0 0\n");
    assert_eq!(users(&tree, &["00:17.0"]), [""; 0]);
}

#[test]
fn vms_are_found_by_address_and_by_mapping() {
    for (name, user) in [
        ("vmdirect", "VM 100 has it as hostpci0"),
        ("vmmap", "VM 100 has it as hostpci0 (mapping gpu1)"),
    ] {
        assert_eq!(users(&host(name), &["01:00.0"]), [format!("01:00.0 {user}")], "{name}");
    }
}

#[test]
fn a_container_s_gpu_and_the_process_in_it_are_both_users() {
    assert_eq!(
        users(&host("overinuse"), &["01:00.0"]),
        [
            "01:00.0 process 777 (ollama) has /dev/nvidia0 open",
            "01:00.0 container 101 is given /dev/nvidia0 (dev0)"
        ]
    );
}

/// What is said of the GPU of `vmdirect` when container 101 has these lines.
fn container(lines: &str, more: &[(&str, &str)]) -> Vec<String> {
    let mut tree = host("vmdirect");
    tree.entries.remove("/etc/pve/nodes/pve/qemu-server/100.conf");
    tree.file("/etc/pve/nodes/pve/lxc/101.conf", format!("arch: amd64\n{lines}"));
    tree.link("/etc/pve/lxc", "nodes/pve/lxc");
    let drm = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/drm/card1";
    tree.attr(format!("{drm}/dev"), "226:1");
    let nodes = "c /dev/dri/card1 226:1 0660 0:44\nl /dev/dri/by-path/x-card ../card1\n";
    tree.file("/dev.list", nodes);
    more.iter().for_each(|(path, text)| tree.file(*path, text));
    users(&tree, &["01:00.0"])
}

#[test]
fn a_container_is_given_a_gpu_in_many_ways() {
    for (lines, by) in [
        ("dev0: /dev/dri/card1,gid=44\n", "is given /dev/dri/card1 (dev0)"),
        ("dev3: gid=44,path=/dev/dri/by-path/x-card\n", "is given /dev/dri/card1 (dev3)"),
        ("dev0: /dev/dri/card1,\n", "is given /dev/dri/card1 (dev0)"),
        (
            "lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir\n",
            "is given /dev/dri/card1 (mount entry)",
        ),
        ("lxc.hook.mount: /usr/share/lxc/hooks/nvidia\n", "has NVIDIA's hook (lxc.hook.mount)"),
        ("[pve:pending]\ndev0: /dev/dri/card1\n", "is given /dev/dri/card1 (dev0)"),
        (
            "[pve:pending]\nlxc.mount.entry: /dev/dri dev/dri none bind\n",
            "is given /dev/dri/card1 (mount entry)",
        ),
    ] {
        assert_eq!(container(lines, &[]), [format!("01:00.0 container 101 {by}")], "{lines}");
    }
    for lines in [
        "dev0: /dev/dri/card10\n",
        "#/dev/dri/card1\n",
        "[snap]\ndev0: /dev/dri/card1\n",
        "lxc.cgroup2.devices.allow: c 226:* rwm\n",
    ] {
        assert_eq!(container(lines, &[]), [""; 0], "{lines}");
    }
}

#[test]
fn an_include_is_read_or_said_to_be_unknown() {
    let text = "lxc.mount.entry = /dev/dri dev/dri none bind\n";
    let lines = "lxc.include: /etc/lxc/gpu.conf\n";
    let given = "01:00.0 container 101 is given /dev/dri/card1 (mount entry)";
    assert_eq!(container(lines, &[("/etc/lxc/gpu.conf", text)]), [given]);
    let unknown = container(lines, &[]);
    assert!(
        unknown[0].starts_with("01:00.0 unknown: whether container 101 has it: "),
        "{unknown:?}"
    );
}

#[test]
fn guests_are_unknown_where_the_cluster_file_system_is_not_mounted() {
    let mut tree = host("override");
    let status = "Package: pve-manager\nStatus: install ok installed\nVersion: 9.0.3\n\n";
    tree.file("/var/lib/dpkg/status", status);
    let unknown = "01:00.0 unknown: which containers and VMs have it: /etc/pve is not mounted (is pve-cluster running?)";
    assert_eq!(users(&tree, &["01:00.0"]), [unknown]);
    assert_eq!(users(&host("override"), &["01:00.0"]), [""; 0], "plain Debian");
}

#[test]
fn mediated_devices_and_stale_reservations() {
    let mut tree = host("override");
    let mdev =
        "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/00000000-0000-0000-0000-000000000100";
    link(&mut tree, "/sys/bus/mdev/devices/00000000-0000-0000-0000-000000000100", mdev);
    let reservations = "0000:01:00.0 102 time:1000\n0000:01:00.0 103 pid:99999\n";
    tree.file("/run/qemu-server/pci-id-reservations", reservations);
    let user = "mediated device 00000000-0000-0000-0000-000000000100 is on it, made for VM 100";
    assert_eq!(users(&tree, &["01:00.0"]), [format!("01:00.0 {user}")]);
    tree.file("/proc/99999/comm", "kvm\n");
    assert_eq!(users(&tree, &["01:00.0"])[0], "01:00.0 VM 103 has reserved 0000:01:00.0");
}

#[test]
fn a_gpu_that_nvidia_drm_holds_inside_the_kernel_has_a_user() {
    let mut tree = host("overinuse");
    let modeset = "/sys/module/nvidia_drm/parameters/modeset";
    let held = "01:00.0 kernel module nvidia_drm holds it (modeset=1)".to_string();
    let all = |tree: &Tree| users(tree, &["01:00.0"]);
    assert!(!all(&tree).contains(&held));
    tree.attr(modeset, "Y");
    assert!(all(&tree).contains(&held));
    tree.attr(modeset, "N");
    assert!(!all(&tree).contains(&held));
    // loaded, and its parameter cannot be read
    let mut tree = host("overinuse");
    tree.dir("/sys/module/nvidia_drm/parameters");
    let unknown = |line: &String| line.contains("unknown: whether nvidia_drm holds it");
    assert!(all(&tree).iter().any(unknown));
}
