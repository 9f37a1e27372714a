//! What is read: facts about the host, and those of each root file system. No
//! program is run and nothing is changed.

pub mod cdi;
pub mod checked_root;
pub mod container_engine;
pub mod cuda;
pub mod dkms;
pub mod driver_messages;
pub mod gpus;
pub mod host_facts;
pub mod kernel_modules;
pub mod libraries;
pub mod modinfo;
pub mod root_facts;
pub mod roots;
pub mod secure_boot;
pub mod xid;
