//! The machine as files: the only crate that touches the file system, starts
//! processes or takes locks.
//!
//! A [`Machine`] is the running host, or a tree below a directory that is
//! treated as one (`--root DIR`). In the second case every path is resolved
//! inside the tree, whatever links it holds, and no command is run.

// This crate is where the calls that clippy.toml forbids elsewhere are made.
#![allow(clippy::disallowed_methods)]

mod atomic_dir;
mod attribute_writer;
pub mod boot_loader;
pub mod child_read;
mod claimed;
pub mod command;
mod container_open;
mod dir;
mod dpkg;
mod error;
mod exclusive;
mod input;
mod journal;
mod kernel_files;
mod kernel_log;
mod lock;
mod machine;
mod node;
mod open_nodes;
mod private_dir;
mod replace;
mod rights;
mod service;
mod table;
mod untrusted_root;

pub use atomic_dir::{AtomicDir, Attributes, NewFile};
pub use attribute_writer::PendingWriter;
pub use claimed::Claim;
pub use container_open::{OpenOutcome, open_in_container};
pub use dir::Dir;
pub use dpkg::{Package, PackageState, Packages};
pub use error::FileError;
pub use exclusive::Exclusive;
pub use input::InputFile;
pub use journal::{Journal, Undone};
pub use kernel_files::{KernelFiles, Written};
pub use lock::{FileLock, GUEST_LOCK_WAIT, LockError};
pub use machine::{FileKind, Machine, Stat};
pub use node::{DeviceNumber, Node, NodeKind};
pub use open_nodes::{NodeHolder, OpenNode, OpenNodes};
pub use private_dir::{PartialFile, PrivateDir, PrivateDirError, PrivateFile};
pub use replace::ReplaceError;
pub use rights::Owner;
pub use service::{FileWatch, WakeReason, notify_service_manager};
pub use table::TableFile;
