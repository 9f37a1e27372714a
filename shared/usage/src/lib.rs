//! Who uses a PCI function? One answer for all tools: what hangs below it in
//! sysfs at any depth, looked up from the class directories, and what uses
//! that.
//!
//! What could not be looked at is part of the answer: a check for safety takes
//! it for a user, not for nobody.

mod disks;
mod display;
mod guests;
mod kernel_modules;
mod mediated;
mod network;
mod nodes;
mod processes;
mod removal;
mod sysfs;
mod user;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use host::{Machine, OpenNodes, PendingWriter};
use nvidia::GpuInfo;
use pci::Function;
use record::Address;

use disks::Disks;
use display::Displays;
use guests::Guests;
use network::Interfaces;
use nodes::NodeTable;
use sysfs::{ClassDevice, Subtree};

pub use nodes::FunctionNode;
pub use user::{Usage, User, UserKind};

/// Asks a machine about its functions. Each of its tables is read once, when a
/// function needs it.
pub struct Users<'a> {
    machine: &'a Machine,
    disks: OnceCell<Disks>,
    interfaces: OnceCell<Interfaces>,
    displays: OnceCell<Displays>,
    nodes: OnceCell<NodeTable>,
    open: OnceCell<OpenNodes>,
    guests: OnceCell<Guests>,
    mediated: OnceCell<Result<Vec<ClassDevice>, String>>,
    writers: OnceCell<Result<Vec<PendingWriter>, String>>,
    answers: RefCell<BTreeMap<Address, Usage>>,
}

impl<'a> Users<'a> {
    /// Nothing is read yet.
    pub fn new(machine: &'a Machine) -> Users<'a> {
        Users {
            machine,
            disks: OnceCell::new(),
            interfaces: OnceCell::new(),
            displays: OnceCell::new(),
            nodes: OnceCell::new(),
            open: OnceCell::new(),
            guests: OnceCell::new(),
            mediated: OnceCell::new(),
            writers: OnceCell::new(),
            answers: RefCell::default(),
        }
    }

    /// Whether the running kernel answers, and answers everything: below `--root`
    /// there are files only, and some of them are for root.
    pub fn can_ask_the_kernel(&self) -> bool {
        self.machine.is_host() && self.machine.is_root_user()
    }

    /// The same, for who has read NVIDIA's GPUs already: each read of them may
    /// have to be given up after seconds.
    pub fn with_gpus(
        machine: &'a Machine,
        gpus: BTreeMap<Address, GpuInfo>,
        unread: Vec<String>,
    ) -> Users<'a> {
        let users = Users::new(machine);
        let _ = users.nodes.set(NodeTable::new(machine, gpus, unread));
        users
    }

    /// Who uses a function. It is looked up once.
    pub fn of(&self, function: &Function) -> Usage {
        if let Some(known) = self.answers.borrow().get(&function.address) {
            return known.clone();
        }
        let usage = self.look_up(function);
        self.answers.borrow_mut().insert(function.address, usage.clone());
        usage
    }

    fn look_up(&self, function: &Function) -> Usage {
        let machine = self.machine;
        let mut usage = Usage::default();
        self.removal_of(function, &mut usage);
        let below = Subtree::of(machine, function.address, &function.vfs);
        usage.unknown.extend(below.unknown().iter().cloned());
        let disks = self.disks.get_or_init(|| Disks::read(machine));
        disks.below(machine, &below, &mut usage);
        let interfaces = self.interfaces.get_or_init(|| Interfaces::read(machine));
        interfaces.below(machine, &below, &mut usage);
        // what VFIO has draws nothing for the host
        let is_boot_display = !function.on_vfio()
            && (function.boot_vga == Some(true) || function.boot_display == Some(true));
        let displays = self.displays.get_or_init(|| Displays::read(machine));
        displays.below(function.address, is_boot_display, &below, &mut usage);
        let nodes = self.nodes_below(function, &below);
        usage.unknown.extend(self.node_table().unknown().iter().cloned());
        // without a node there is nothing that a process could have open
        if !nodes.is_empty() {
            processes::of(self.open(), &nodes, &mut usage);
        }
        kernel_modules::of(machine, function, &nodes, &mut usage);
        let guests = self.guests.get_or_init(|| Guests::read(machine));
        guests.of(machine, function, &nodes, &mut usage);
        mediated::of(self.mediated.get_or_init(|| mediated::read(machine)), &below, &mut usage);
        usage
    }

    /// Adds what waits to take the function from its driver.
    fn removal_of(&self, function: &Function, usage: &mut Usage) {
        let writers = self
            .writers
            .get_or_init(|| self.machine.pending_writers().map_err(|error| error.to_string()));
        removal::of(self.machine, writers, function, usage);
    }

    /// Whether a driver is in the middle of its removal from a function; reads
    /// nothing else.
    pub fn removal(&self, function: &Function) -> Usage {
        let mut usage = Usage::default();
        self.removal_of(function, &mut usage);
        usage
    }

    /// The nodes through which a function is used: a driver in the middle of its
    /// removal no longer says them, so ask before.
    pub fn nodes_of(&self, function: &Function) -> BTreeSet<FunctionNode> {
        let below = Subtree::of(self.machine, function.address, &function.vfs);
        self.nodes_below(function, &below)
    }

    /// Processes that have one of these nodes open now, whatever was seen before.
    pub fn holders_now(&self, nodes: &BTreeSet<FunctionNode>) -> Usage {
        let mut usage = Usage::default();
        processes::of(&processes::scan(self.machine), nodes, &mut usage);
        usage
    }

    fn nodes_below(&self, function: &Function, below: &Subtree) -> BTreeSet<FunctionNode> {
        self.node_table().of(self.machine, function, below)
    }

    fn node_table(&self) -> &NodeTable {
        self.nodes.get_or_init(|| NodeTable::read(self.machine))
    }

    fn open(&self) -> &OpenNodes {
        self.open.get_or_init(|| processes::scan(self.machine))
    }
}
