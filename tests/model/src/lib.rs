//! A model of the Linux kernel as a tool sees it that reads and writes sysfs
//! and procfs to move PCI functions between drivers: the PCI driver core, IOMMU
//! groups, SR-IOV, VFIO and NVIDIA's driver, with their error numbers, their
//! hangs and their silences. For tests only.
//!
//! In process it is a [`host::KernelFiles`]; [`mount::Mounted`] makes it a file
//! system for programs that take `--root`.

#![allow(missing_docs, clippy::disallowed_methods)]

mod attr;
mod bind;
mod blocked;
mod caller;
mod driver;
mod fault;
mod files;
mod fuse;
mod inodes;
mod kernel_files;
mod later;
mod load;
pub mod machines;
pub mod mount;
mod nodes;
pub mod scenario;
mod sriov;
pub mod stage;
mod state;
mod stores;
mod vgpu;
mod vgpu_card;

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use record::Address;
use testbed::tree::{Entry, Tree};

pub use blocked::WriteOutcome;
pub use driver::{Id, Probe};
pub use fault::{Effect, Fault};
pub use state::Counters;
pub use vgpu_card::VgpuCard;

use crate::attr::Attr;
use crate::files::Node;
use crate::state::State;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeView {
    /// Names in it, sorted.
    Dir(Vec<String>),
    File,
    Link(String),
}

/// What of a machine a tool that changes drivers can change, to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub functions: BTreeMap<Address, FunctionState>,
    /// Dynamic ids by driver; drivers without any are left out.
    pub dynamic_ids: BTreeMap<String, Vec<Id>>,
    pub drivers_autoprobe: bool,
    /// Writes that have not come back.
    pub blocked: usize,
    /// Paths of device nodes.
    pub nodes: Vec<String>,
    /// GPUs whose unbindLock is granted.
    pub unbind_locks: Vec<Address>,
}

/// One function of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionState {
    pub driver: Option<String>,
    pub driver_override: Option<String>,
    pub group: Option<u32>,
    pub vfs: Vec<Address>,
    pub vf_autoprobe: Option<bool>,
    /// `current_vgpu_type`, where there is such a file.
    pub vgpu: Option<u32>,
    /// Mediated devices: UUID and type.
    pub mdevs: BTreeMap<String, String>,
}

/// The kernel. Shared by reference: all methods take `&self`.
#[derive(Debug)]
pub struct ModelKernel {
    state: Mutex<State>,
    changed: Condvar,
}

impl ModelKernel {
    /// The kernel of a recorded machine.
    pub fn from_tree(tree: &Tree) -> ModelKernel {
        ModelKernel { state: Mutex::new(State::from_tree(tree)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // a test that panics must still be able to unmount
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and lets go on whoever waited for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.settle();
        self.changed.notify_all();
        result
    }

    /// What is at a path; a link at its end is followed only where `follow` says
    /// so. Errors: ENOENT, ENOTDIR, ELOOP.
    pub fn lookup(&self, path: &str, follow: bool) -> Result<NodeView, i32> {
        let state = self.lock();
        let path = state.files.resolve(path, follow)?;
        match state.files.node(&path) {
            Some(Node::Dir(names)) => Ok(NodeView::Dir(names.iter().cloned().collect())),
            Some(Node::File(_)) => Ok(NodeView::File),
            Some(Node::Link(target)) => Ok(NodeView::Link(target.clone())),
            None => Err(libc::ENOENT),
        }
    }

    /// All of a file. Errors: EISDIR, EACCES for what cannot be read, and
    /// ETIMEDOUT for a read that blocks.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, i32> {
        let read = self.try_read(path)?;
        if read.is_none() {
            self.lock().counters.blocked_reads += 1;
        }
        read.ok_or(libc::ETIMEDOUT)
    }

    /// The same; `None` is a read that blocks.
    fn try_read(&self, path: &str) -> Result<Option<Vec<u8>>, i32> {
        let mut state = self.lock();
        let path = state.files.resolve(path, true)?;
        let bytes = match state.files.node(&path) {
            Some(Node::File(bytes)) => bytes.clone(),
            Some(Node::Dir(_)) => return Err(libc::EISDIR),
            _ => return Err(libc::ENOENT),
        };
        if let Some(shown) = state.vgpu_show(&path) {
            state.counters.reads += 1;
            return shown.map(Some);
        }
        let attr = state.attribute(&path);
        if attr.as_ref().is_some_and(Attr::write_only) {
            return Err(libc::EACCES);
        }
        use Attr::{NumVfs, Override};
        let locks = match attr {
            Some(Override(address) | NumVfs(address)) => Some(address),
            _ => state.uevent_of(&path),
        };
        if locks.is_some_and(|address| state.old_locking && state.locked(address)) {
            return Ok(None);
        }
        state.counters.reads += 1;
        Ok(Some(bytes))
    }

    /// One write(2). Errors: the store's, EACCES for what cannot be written.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<WriteOutcome, i32> {
        self.change(|state| state.write(path, bytes))
    }

    /// How a blocked write ended; `None` while it has not.
    pub fn outcome(&self, ticket: u64) -> Option<Result<(), i32>> {
        self.lock().finished.get(&ticket).copied()
    }

    /// [`ModelKernel::outcome`] after waiting for it.
    pub fn wait(&self, ticket: u64, limit: Duration) -> Option<Result<(), i32>> {
        let waits = |state: &mut State| !state.finished.contains_key(&ticket);
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, waits)
            .unwrap_or_else(PoisonError::into_inner);
        state.finished.get(&ticket).copied()
    }

    /// Opens `count` more handles of a GPU: nvidia's usage count.
    pub fn hold(&self, address: &str, count: u32) {
        self.change(|state| state.function_mut(known(address)).usage += count);
    }

    /// Ends all users of a GPU.
    pub fn release_holders(&self, address: &str) {
        self.change(|state| {
            let function = state.function_mut(known(address));
            (function.usage, function.late) = (0, false);
        });
    }

    /// Somebody opens a GPU after all checks said that it is idle, just before
    /// its driver's ->remove looks.
    pub fn hold_late(&self, address: &str) {
        self.change(|state| state.function_mut(known(address)).late = true);
    }

    /// The GPU whose node is /dev/nvidia`minor`.
    pub fn gpu_of_minor(&self, minor: u32) -> Option<String> {
        let state = self.lock();
        let gpus = state.files.names(state::GPUS);
        gpus.into_iter().find(|gpu| state.gpu_minor(gpu) == Some(minor))
    }

    /// Shows a process in /proc that has files open.
    pub fn add_process(&self, pid: u32, comm: &str, open: &[&str]) {
        self.change(|state| {
            let dir = format!("/proc/{pid}");
            state.files.attr(&format!("{dir}/comm"), comm);
            for (fd, target) in open.iter().enumerate() {
                let path = format!("{dir}/fd/{}", fd + 3);
                state.files.put(&path, Node::Link((*target).to_string()));
            }
        });
    }

    /// That process has ended.
    pub fn remove_process(&self, pid: u32) {
        self.change(|state| state.files.remove(&format!("/proc/{pid}")));
    }

    /// Whether VFIO lets a VM have a group.
    pub fn group_viable(&self, group: u32) -> bool {
        self.lock().viable(group)
    }

    /// A VM starts with a group. Errors: ENOENT without its node, EBUSY where
    /// another has it, EPERM where it is not viable (VFIO_GROUP_SET_CONTAINER).
    pub fn vm_take(&self, group: u32) -> Result<(), i32> {
        self.change(|state| {
            if !state.files.devices().contains_key(&format!("/dev/vfio/{group}")) {
                return Err(libc::ENOENT);
            }
            if !state.viable(group) {
                return Err(libc::EPERM);
            }
            state.taken.insert(group).then_some(()).ok_or(libc::EBUSY)
        })
    }

    /// The VM ends.
    pub fn vm_drop(&self, group: u32) {
        self.change(|state| state.taken.remove(&group));
    }

    /// modprobe; gives whether there is such a module.
    pub fn load_module(&self, name: &str) -> bool {
        self.change(|state| state.load_module(name))
    }

    /// rmmod; false where it is not loaded or in use. Its dynamic ids go with it.
    pub fn unload_module(&self, name: &str) -> bool {
        self.change(|state| state.unload_module(name))
    }

    /// What a driver's probe answers from now on; gives whether it is loaded.
    pub fn set_probe(&self, driver: &str, probe: Probe) -> bool {
        self.change(|state| state.driver_mut(driver).map(|driver| driver.probe = probe).is_some())
    }

    /// Kernels before 2026: driver_override, sriov_numvfs and uevent take the
    /// device lock even to be read.
    pub fn old_locking(&self, on: bool) {
        self.change(|state| state.old_locking = on);
    }

    /// Whether drivers_probe answers EINVAL when a driver's probe fails. The
    /// kernel does not: it passes over such errors, and the write succeeds.
    pub fn strict_drivers_probe(&self, on: bool) {
        self.change(|state| state.strict_probe = on);
    }

    /// vfio-pci's parameter enable_sriov, off by default: without it a PF on
    /// vfio-pci makes no VFs (ENOENT).
    pub fn vfio_enable_sriov(&self, on: bool) {
        self.change(|state| state.vfio_sriov = on);
    }

    /// NVIDIA's vGPU host driver: it takes VFs, the usual one refuses them.
    pub fn vgpu_host(&self, on: bool) {
        self.change(|state| state.vgpu_host = on);
    }

    /// Truncating a file through a mount is refused, so that a test notices a
    /// tool that does it; with this it does nothing, as in sysfs, for programs
    /// that know no better.
    pub fn allow_truncate(&self, on: bool) {
        self.change(|state| state.truncates = on);
    }

    /// Adds a fault; several may be set.
    pub fn inject(&self, fault: Fault) {
        self.change(|state| state.faults.push(fault));
    }

    /// Drops the faults that have not happened.
    pub fn clear_faults(&self) {
        self.change(|state| state.faults.clear());
    }

    /// Lets writes go on that [`Fault::Block`] holds.
    pub fn release_blocked(&self) {
        self.change(State::release_tests);
    }

    /// Whether [`Fault::Die`] has ended the process; every access through
    /// [`host::KernelFiles`] fails from then on.
    pub fn dead(&self) -> bool {
        self.lock().dead
    }

    /// The next process, which finds what the dead one left.
    pub fn revive(&self) {
        self.change(|state| state.dead = false);
    }

    pub fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }

    /// Counts from zero again; faults count with it.
    pub fn reset_counters(&self) {
        self.change(|state| state.counters = Counters::default());
    }

    /// The driver that holds a function, though its link may be gone already.
    pub fn driver_of(&self, address: &str) -> Option<String> {
        self.lock().functions.get(&known(address))?.driver.clone()
    }

    /// What the machine is like, to compare.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let functions = state.functions.values().map(|function| {
            let sriov = function.sriov.as_ref();
            let shown = FunctionState {
                driver: function.driver.clone(),
                driver_override: function.driver_override.clone(),
                group: function.group,
                vfs: sriov.map_or_else(Vec::new, |sriov| sriov.vfs.clone()),
                vf_autoprobe: sriov.map(|sriov| sriov.autoprobe),
                vgpu: function.vgpu.map(|vgpu| vgpu.id),
                mdevs: function.mdevs.clone(),
            };
            (function.address, shown)
        });
        let dynamic = state.drivers.iter().filter(|driver| !driver.dynamic.is_empty());
        let nodes = state.files.devices().iter();
        let granted = |address: &&Address| {
            let path = format!("{}/{address}/unbindLock", state::GPUS);
            state.files.text(&path).as_deref() == Some("1")
        };
        Snapshot {
            dynamic_ids: dynamic.map(|d| (d.name.clone(), d.dynamic.clone())).collect(),
            drivers_autoprobe: state.autoprobe,
            blocked: state.pending.len(),
            nodes: nodes
                .filter(|(_, entry)| matches!(entry, Entry::Node(..)))
                .map(|(path, _)| path.clone())
                .collect(),
            unbind_locks: state.functions.keys().filter(granted).copied().collect(),
            functions: functions.collect(),
        }
    }

    /// The machine as it is now, to write to a directory.
    pub fn to_tree(&self) -> Tree {
        let mut state = self.lock();
        state.vgpu_write_files();
        state.files.to_tree()
    }
}

/// An address that a test names.
fn known(address: &str) -> Address {
    Address::from_sysfs(address).unwrap_or_else(|| panic!("no address: {address}"))
}
