//! What this host has: GPUs, major numbers, MIG instances, device nodes. Each is
//! read once, when it is first needed.

pub mod gpu_selection;
pub mod mig;
pub mod required_nodes;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Failure, Say};
use host::{Machine, Node, NodeKind};
use nvidia::{CharDevices, GPU_MAJOR, GpuInfo, Mig, NodeClass};
use pci::{Depth, System};
use pve::StartHost;
use record::Address;

/// Major of DRM nodes (include/drm/drm.h, Documentation/admin-guide/devices.txt).
const DRM_MAJOR: u32 = 226;

/// What this host has.
pub struct HostFacts<'a> {
    /// The host.
    pub machine: &'a Machine,
    say: &'a Say,
    /// The GPUs that NVIDIA's driver owns.
    pub gpus: BTreeMap<Address, GpuInfo>,
    /// /proc/devices.
    pub majors: CharDevices,
    system: OnceCell<System>,
    mig: OnceCell<Mig>,
    module: OnceCell<Option<String>>,
    pve_container: OnceCell<Option<Vec<u32>>>,
    nodes: RefCell<BTreeMap<String, Result<Option<Node>, String>>>,
    links: RefCell<BTreeMap<String, bool>>,
    running: OnceCell<BTreeSet<String>>,
}

impl<'a> HostFacts<'a> {
    /// Reads GPUs and majors. Errors: /proc/devices cannot be read.
    pub fn read(machine: &'a Machine, say: &'a Say) -> Result<HostFacts<'a>, Failure> {
        let (gpus, warnings) = nvidia::read_gpus(machine);
        for warning in &warnings {
            say.warn(warning);
        }
        Ok(HostFacts {
            machine,
            say,
            gpus,
            majors: CharDevices::read(machine)?,
            system: OnceCell::new(),
            mig: OnceCell::new(),
            module: OnceCell::new(),
            pve_container: OnceCell::new(),
            nodes: RefCell::default(),
            links: RefCell::default(),
            running: OnceCell::new(),
        })
    }

    /// All PCI functions. Errors: no PCI bus in sysfs.
    pub fn system(&self) -> Result<&System, Failure> {
        if let Some(system) = self.system.get() {
            return Ok(system);
        }
        let system = pci::scan(self.machine, Depth::Verdict)?;
        for warning in &system.warnings {
            self.say.warn(warning);
        }
        Ok(self.system.get_or_init(|| system))
    }

    /// MIG instances and capabilities.
    pub fn mig(&self) -> &Mig {
        self.mig.get_or_init(|| Mig::read(self.machine))
    }

    /// Version of the loaded kernel module.
    pub fn module_version(&self) -> Option<&str> {
        self.module.get_or_init(|| nvidia::module_version(self.machine)).as_deref()
    }

    /// Version of the installed pve-container. Errors: dpkg's status cannot be
    /// read, and the style depends on the version.
    pub fn pve_container(&self) -> Result<Option<&[u32]>, Failure> {
        if let Some(version) = self.pve_container.get() {
            return Ok(version.as_deref());
        }
        let version = pve::pve_container_version(self.machine)?;
        Ok(self.pve_container.get_or_init(|| version).as_deref())
    }

    /// What a path of the host leads to. Errors: it cannot be looked at.
    pub fn look(&self, path: &str) -> Result<Option<Node>, String> {
        if let Some(node) = self.nodes.borrow().get(path) {
            return node.clone();
        }
        let node = self.machine.node(path).map_err(|error| error.to_string());
        if let Err(error) = &node {
            self.say.warn(error);
        }
        self.nodes.borrow_mut().insert(path.into(), node.clone());
        node
    }

    /// What exists at a path in /dev, as far as it can be looked at.
    pub fn node(&self, path: &str) -> Option<Node> {
        self.look(path).ok().flatten()
    }

    /// Whether a path in /dev is a symbolic link.
    pub fn is_link(&self, path: &str) -> bool {
        if let Some(link) = self.links.borrow().get(path) {
            return *link;
        }
        let link = self.machine.is_link(path);
        self.links.borrow_mut().insert(path.into(), link);
        link
    }

    /// First process of a running container. The directory of control groups is
    /// listed once, which saves a look-up for each stopped container.
    pub fn init_pid(&self, ctid: u32) -> Option<i32> {
        let running = self.running.get_or_init(|| {
            let names = self.machine.list("/sys/fs/cgroup/lxc").unwrap_or_default();
            names.into_iter().collect()
        });
        let runs = running.contains(&ctid.to_string());
        if runs { pve::init_pid(self.machine, ctid) } else { None }
    }

    /// Treats a planned node as existing.
    pub fn assume_node(&self, path: String, (major, minor): (u32, u32)) {
        let kind = NodeKind::Char;
        let node = Node { kind, major, minor, mode: 0o666, uid: 0, gid: 0 };
        self.nodes.borrow_mut().insert(path, Ok(Some(node)));
    }

    /// Discards what was read of /dev, after a node was created there.
    pub fn forget_nodes(&self) {
        self.nodes.borrow_mut().clear();
    }

    /// The major of a class of nodes; `None` where its driver is not loaded or the
    /// class has no driver.
    pub fn major(&self, class: NodeClass) -> Option<u32> {
        match class.driver() {
            Some(driver) => self.majors.major(driver),
            None if class == NodeClass::Other => None,
            None => Some(GPU_MAJOR),
        }
    }

    /// Major and minor of a class of nodes, where both are known.
    pub fn numbers(&self, class: NodeClass) -> Option<(u32, u32)> {
        Some((self.major(class)?, class.minor()?))
    }

    /// DRM nodes of a GPU: `card1`, `renderD128`.
    pub fn drm(&self, gpu: Address) -> Vec<String> {
        let function = self.system().ok().and_then(|system| system.functions.get(&gpu));
        function.map(|function| function.drm.clone()).unwrap_or_default()
    }

    /// The GPU of NVIDIA's driver that a path in /dev/dri belongs to.
    pub fn of_drm(&self, path: &str) -> Option<&GpuInfo> {
        let path = self.drm_path(path)?;
        let name = path.strip_prefix("/dev/dri/")?;
        self.gpus.values().find(|gpu| self.drm(gpu.address).iter().any(|n| n == name))
    }

    /// The DRM node that a path in /dev/dri names: itself, or the node to which a
    /// link in /dev/dri/by-path leads, found by its minor (drm_drv.c: cards from 0,
    /// render nodes from 128).
    pub fn drm_path(&self, path: &str) -> Option<String> {
        let name = path.strip_prefix("/dev/dri/")?;
        if !name.contains('/') {
            return Some(path.into());
        }
        let node = self.node(path).filter(|node| node.is_char() && node.major == DRM_MAJOR)?;
        let kind = if node.minor < 128 { "card" } else { "renderD" };
        Some(format!("/dev/dri/{kind}{}", node.minor))
    }

    /// The GPU with this identity: by its UUID where both are known, because a GPU
    /// may be in another slot now, else by its address.
    pub fn same_gpu(&self, uuid: Option<&str>, address: Address) -> Option<&GpuInfo> {
        let by_uuid =
            uuid.and_then(|uuid| self.gpus.values().find(|gpu| gpu.uuid.as_deref() == Some(uuid)));
        by_uuid.or_else(|| {
            let gpu = self.gpus.get(&address)?;
            let another = uuid.is_some() && gpu.uuid.is_some() && gpu.uuid.as_deref() != uuid;
            (!another).then_some(gpu)
        })
    }

    /// The GPU with a minor.
    pub fn by_minor(&self, minor: u32) -> Option<&GpuInfo> {
        self.gpus.values().find(|gpu| gpu.minor == Some(minor))
    }
}

impl StartHost for HostFacts<'_> {
    fn node(&self, path: &str) -> Result<Option<Node>, String> {
        self.look(path)
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, String> {
        StartHost::names(self.machine, dir)
    }

    fn text(&self, path: &str) -> Result<Option<String>, String> {
        StartHost::text(self.machine, path)
    }
}

/// Compares the numbers of a node with those of its driver. The error is a
/// predicate whose subject is the node.
pub fn check_numbers(
    class: NodeClass,
    major: u32,
    minor: u32,
    driver_major: Option<u32>,
) -> Result<(), String> {
    let expected = match class {
        NodeClass::Other => return Ok(()),
        class => match class.driver() {
            None => GPU_MAJOR,
            Some(driver) => match driver_major {
                Some(major) => major,
                None => return Err(format!("needs the driver '{driver}', which is not loaded")),
            },
        },
    };
    let expected_minor = class.minor().unwrap_or(minor);
    if (major, minor) == (expected, expected_minor) {
        return Ok(());
    }
    Err(format!("is {major}:{minor}, but the driver uses {expected}:{expected_minor}"))
}
