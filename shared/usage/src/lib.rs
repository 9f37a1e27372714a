//! Who uses a PCI function? One answer for all tools: what hangs below it in
//! sysfs at any depth, looked up from the class directories, and what uses
//! that.
//!
//! What could not be looked at is part of the answer: a check for safety takes
//! it for a user, not for nobody.

mod disks;
mod display;
mod network;
mod sysfs;

use std::cell::OnceCell;

use host::Machine;
use pci::Function;

use disks::Disks;
use network::Interfaces;
use sysfs::Subtree;

/// What kind of user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserKind {
    /// A block device that is mounted, swapped to, part of another or held.
    Disk,
    /// A network interface with a route, or that others are built on.
    Network,
    /// The boot display, the text console, the firmware's frame buffer.
    Display,
}

/// One user of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What kind of user.
    pub kind: UserKind,
    /// Its name: `/dev/sda1`, `eno1`.
    pub name: String,
    /// What it does with the function, in words that follow the name.
    pub what: String,
}

/// Who uses one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its users.
    pub users: Vec<User>,
    /// What could not be found out, in words.
    pub unknown: Vec<String>,
}

/// Asks a machine about its functions. Each of its tables is read once, when a
/// function needs it.
pub struct Users<'a> {
    machine: &'a Machine,
    disks: OnceCell<Disks>,
    interfaces: OnceCell<Interfaces>,
}

impl<'a> Users<'a> {
    /// Nothing is read yet.
    pub fn new(machine: &'a Machine) -> Users<'a> {
        Users { machine, disks: OnceCell::new(), interfaces: OnceCell::new() }
    }

    /// Who uses a function.
    pub fn of(&self, function: &Function) -> Usage {
        let mut usage = Usage::default();
        let below = Subtree::of(self.machine, function.address, &function.vfs);
        let disks = self.disks.get_or_init(|| Disks::read(self.machine));
        disks.below(self.machine, &below, &mut usage);
        let interfaces = self.interfaces.get_or_init(|| Interfaces::read(self.machine));
        interfaces.below(self.machine, &below, &mut usage);
        display::below(self.machine, function.address, function.boot_vga, &below, &mut usage);
        usage
    }
}
