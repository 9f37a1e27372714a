//! A stand-in for pmxcfs, the cluster file system that Proxmox VE mounts at
//! /etc/pve: its permissions, its refusals and its odd answers, over FUSE. For
//! tests only.
//!
//! What it answers was measured on pmxcfs 9.1.6, or is what that version's
//! source and libfuse 2 say (pve-cluster 7091d92: pmxcfs.c, memdb.c,
//! cfs-plug-memdb.c, cfs-plug-func.c, dcdb.c). Where it is simpler: there is one
//! node that serves requests one after the other, and what other nodes do is
//! done with [`Mounted::put`] and [`Mounted::remove`].

#![allow(missing_docs, clippy::disallowed_methods)]

mod attributes;
mod fault;
mod fuse;
mod guests;
mod mount;
mod reports;
mod state;
mod store;

pub use fault::{Errors, Logged, Op};
pub use mount::{Mounted, Pmxcfs, possible};
