//! Who uses what on hosts from public reports, and on hosts of their kinds.

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
