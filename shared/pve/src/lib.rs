//! Proxmox VE's guest configuration files, as Proxmox VE itself reads and
//! writes them.

mod conf;

pub use conf::{Conf, Line, Section};
