//! Proxmox VE's containers: their configuration files, read and written as
//! Proxmox VE itself does, where they are in the cluster, and their root file
//! systems.

mod conf;
mod guest;
mod hostpci;
mod ids;
mod keys;
mod reservations;
mod rootfs;
mod start;
mod storage;

pub use conf::{Conf, Fate, Line, Section, boolean};
pub use guest::{
    Guest, MOST, all_guests, ctid, guest_nodes, has_dev, has_driver_keep, has_hotplug,
    is_unprivileged, pve_container_version, require_cluster, require_quorum, require_unlocked,
};
pub use host::{Package, PackageState, Packages};
pub use hostpci::{HostPci, HostPciId, HostPciMode, PciMappings, Vm, Vms};
pub use ids::{IdMap, id_maps, root_ids};
pub use keys::{is_known_to_lxc, is_permitted_lxc_key};
pub use reservations::{Reservation, Reservations, ReservedUntil};
pub use rootfs::{RootFs, init_pid, is_running, root_file_system, running_root};
pub use start::{
    ContainerStart, DevValue, DeviceList, FaultKind, GivenDevice, GivenPath, Giver, GiverKind,
    InvalidRule, LxcLine, LxcLines, MountLine, Opening, OtherHost, Outcome, StartFault, StartHost,
    dev_number, is_valid_rule, normal,
};
