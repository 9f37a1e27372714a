//! Real LXC containers on a recorded Proxmox VE host.
//!
//! A [`Host`] is a set of private namespaces in which the recorded machine is
//! the machine: its `/etc/pve`, `/proc`, `/sys` and device nodes are where a
//! tool without `--root` looks for them. A [`Container`] on it is run by the
//! real `lxc-start` from a configuration that the `pct` of this crate makes of
//! `/etc/pve/lxc/<CTID>.conf` the way Proxmox VE does. A node with a driver's
//! number but no driver behind it answers open(2) with ENXIO where the device
//! cgroup allows it and with EPERM where it does not: so a generated
//! configuration is judged by the kernel, without a GPU.
//!
//! Needs root, and the packages lxc, uidmap, busybox-static, debootstrap, gcc and
//! libc6-dev.

#![allow(missing_docs, clippy::disallowed_methods)]

pub mod conf;
mod container;
pub mod debian;
mod host;
pub mod repository;
mod rootfs;
pub mod snapshot;

/// Where a host keeps the root file systems of its containers.
pub const VOLUMES: &str = "/run/lxcbed/volumes";

pub use container::{Container, OpenOutcome, Seen};
pub use host::Host;
