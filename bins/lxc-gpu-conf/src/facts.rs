//! What this host has: GPUs, majors, MIG instances, device nodes. Read once,
//! and only what is asked for.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, Say, fail};
use host::{Machine, Node, NodeKind};
use nvidia::{CharDevices, GPU_MAJOR, GpuInfo, Mig, NodeClass};
use pci::{Depth, Function, NVIDIA, System};
use record::{Address, PciDevice, Role};

use crate::state::{self, State};

/// Major of DRM nodes (include/drm/drm.h, Documentation/admin-guide/devices.txt).
const DRM_MAJOR: u32 = 226;

/// What this host has.
pub struct Facts<'a> {
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
    nodes: RefCell<BTreeMap<String, Option<Node>>>,
    links: RefCell<BTreeMap<String, bool>>,
    running: OnceCell<BTreeSet<String>>,
    remembered: OnceCell<BTreeSet<String>>,
}

/// One GPU that a container is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its address.
    pub address: Address,
    /// Minor of /dev/nvidia<minor>.
    pub minor: u32,
}

/// A GPU among others that a container cannot have, and why that is no failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its address.
    pub address: Address,
    /// Why.
    pub why: String,
}

impl<'a> Facts<'a> {
    /// Begins to read. Errors: no /proc/devices.
    pub fn read(machine: &'a Machine, say: &'a Say) -> Result<Facts<'a>, Failure> {
        let (gpus, warnings) = nvidia::read_gpus(machine);
        for warning in &warnings {
            say.warn(warning);
        }
        Ok(Facts {
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
            remembered: OnceCell::new(),
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

    /// Version of the installed pve-container. Errors: it cannot be found out,
    /// and what a container is given depends on it.
    pub fn pve_container(&self) -> Result<Option<&[u32]>, Failure> {
        if let Some(version) = self.pve_container.get() {
            return Ok(version.as_deref());
        }
        let version = pve::pve_container_version(self.machine)?;
        Ok(self.pve_container.get_or_init(|| version).as_deref())
    }

    /// What is at a path in /dev.
    pub fn node(&self, path: &str) -> Option<Node> {
        if let Some(node) = self.nodes.borrow().get(path) {
            return *node;
        }
        let node = self.machine.node(path).unwrap_or_else(|error| {
            self.say.warn(&error.to_string());
            None
        });
        self.nodes.borrow_mut().insert(path.into(), node);
        node
    }

    /// Whether a path in /dev is a link.
    pub fn is_link(&self, path: &str) -> bool {
        if let Some(link) = self.links.borrow().get(path) {
            return *link;
        }
        let link = self.machine.is_link(path);
        self.links.borrow_mut().insert(path.into(), link);
        link
    }

    /// First process of a running container. One look at the directory of
    /// control groups spares a thousand stopped containers one each.
    pub fn init_pid(&self, ctid: u32) -> Option<i32> {
        let running = self.running.get_or_init(|| self.names("/sys/fs/cgroup/lxc"));
        let runs = running.contains(&ctid.to_string());
        if runs { pve::init_pid(self.machine, ctid) } else { None }
    }

    /// What is remembered of a container, looked for in the same way.
    pub fn state(&self, ctid: u32) -> Option<State> {
        let remembered = self.remembered.get_or_init(|| self.names(state::DIR));
        let there = remembered.contains(&format!("{ctid}.json"));
        if there { state::load(self.machine, ctid).ok().flatten() } else { None }
    }

    fn names(&self, dir: &str) -> BTreeSet<String> {
        self.machine.list(dir).unwrap_or_default().into_iter().collect()
    }

    /// Takes a node for made.
    pub fn assume_node(&self, path: String, (major, minor): (u32, u32)) {
        let kind = NodeKind::Char;
        let node = Node { kind, major, minor, mode: 0o666, uid: 0, gid: 0 };
        self.nodes.borrow_mut().insert(path, Some(node));
    }

    /// Forgets what was seen in /dev: something was made there.
    pub fn forget_nodes(&self) {
        self.nodes.borrow_mut().clear();
    }

    /// The major that a class of nodes has now; `None` where its driver is not
    /// loaded, or the class says nothing of it.
    pub fn major(&self, class: NodeClass) -> Option<u32> {
        match class.driver() {
            Some(driver) => self.majors.major(driver),
            None if class == NodeClass::Other => None,
            None => Some(GPU_MAJOR),
        }
    }

    /// Numbers that a class of nodes has now, where they can be known.
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

    /// The DRM node that a path in /dev/dri means: itself, or where a link in
    /// /dev/dri/by-path leads, which its minor says (drm_drv.c: cards from 0,
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

    /// The GPU that was this one: by its UUID where both know it, since a card
    /// may have moved to another slot, else by its address.
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

    /// What `--gpu` names, each value an address, a UUID, a minor or `all`.
    /// Errors: a name that is no GPU of this host (exit 2), or a GPU that a
    /// container cannot have now (exit 4).
    pub fn named(&self, names: &[String]) -> Result<Vec<Wanted>, Failure> {
        let mut wanted = BTreeMap::new();
        for name in names {
            let found = if name == "all" { self.all()? } else { vec![self.one(name)?] };
            wanted.extend(found.into_iter().map(|w| (w.address, w)));
        }
        Ok(wanted.into_values().collect())
    }

    fn all(&self) -> Result<Vec<Wanted>, Failure> {
        if self.gpus.is_empty() {
            return Err(fail(Exit::Usage, "NVIDIA's driver owns no GPU on this host")
                .hint("see 'gpu-iommu-groups --vendor 10de'"));
        }
        self.gpus.keys().map(|address| self.usable(*address)).collect()
    }

    fn one(&self, name: &str) -> Result<Wanted, Failure> {
        if let Ok(address) = name.parse::<Address>() {
            let function = self.function(address)?;
            if !function.is_gpu() {
                return Err(fail(Exit::Usage, format!("{address} is no GPU")));
            }
            if function.vendor != Some(NVIDIA) {
                let message = format!("{address} is not an NVIDIA GPU");
                return Err(fail(Exit::Usage, message).hint("only those can be shared this way"));
            }
            return self.usable(address);
        }
        let by_uuid = || {
            self.gpus
                .values()
                .find(|gpu| gpu.uuid.as_deref().is_some_and(|u| u.eq_ignore_ascii_case(name)))
        };
        let minor = name.parse::<u32>().ok().filter(|_| name.bytes().all(|b| b.is_ascii_digit()));
        let gpu = match minor {
            Some(minor) => self.by_minor(minor),
            None if name.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("GPU-")) => by_uuid(),
            None => {
                let message = format!(
                    "'{name}' is neither an address (41:00.0), nor a UUID (GPU-...), nor a minor, \
                     nor 'all'"
                );
                return Err(fail(Exit::Usage, message).hint(self.meant(name)));
            }
        };
        match gpu {
            Some(gpu) => self.usable(gpu.address),
            None => {
                let what = if minor.is_some() { "GPU with minor" } else { "GPU" };
                let gpus = match self.minors() {
                    gpus if gpus.is_empty() => "NVIDIA's driver owns none".into(),
                    gpus => format!("there are {gpus} (a minor is not nvidia-smi's index)"),
                };
                Err(fail(Exit::Usage, format!("no {what} {name} on this machine")).hint(gpus))
            }
        }
    }

    /// What to do next for whom named a GPU in no known form.
    fn meant(&self, name: &str) -> String {
        let minor = name.rsplit('/').next().and_then(|tail| tail.strip_prefix("nvidia"));
        if let Some(minor) = minor.filter(|minor| minor.parse::<u32>().is_ok()) {
            return format!("did you mean --gpu {minor}?");
        }
        if let Some(hint) = record::address_hint(name) {
            return hint;
        }
        if let Ok(slot) = name.parse::<record::Slot>() {
            return format!("{slot} is a slot: did you mean {slot}.0?");
        }
        match self.minors() {
            gpus if gpus.is_empty() => "NVIDIA's driver owns no GPU on this machine".into(),
            gpus => format!("there are {gpus}"),
        }
    }

    /// `0000:2b:00.0 (minor 0), 0000:2c:00.0 (minor 1)`.
    fn minors(&self) -> String {
        let gpus = self
            .gpus
            .values()
            .filter_map(|gpu| gpu.minor.map(|minor| format!("{} (minor {minor})", gpu.address)));
        gpus.collect::<Vec<_>>().join(", ")
    }

    /// The GPUs among some records. Functions that only accompany a GPU are
    /// not asked for; GPUs of other vendors and VFs are passed over. Errors: as
    /// [`Facts::named`], and none of them is a GPU.
    pub fn of_records(
        &self,
        records: &[PciDevice],
    ) -> Result<(Vec<Wanted>, Vec<PassedOver>), Failure> {
        let mut wanted = Vec::new();
        let mut over = Vec::new();
        let mut seen = BTreeSet::new();
        for record in records.iter().filter(|r| r.role.is_none_or(|role| role == Role::Gpu)) {
            if !seen.insert(record.address) {
                continue;
            }
            let function = self.function(record.address)?;
            let why = if !function.is_gpu() {
                continue;
            } else if function.vendor != Some(NVIDIA) {
                "not an NVIDIA GPU"
            } else if function.pf.is_some() {
                "a virtual function: those are for VMs"
            } else {
                wanted.push(self.usable(record.address)?);
                continue;
            };
            over.push(PassedOver { address: record.address, why: why.into() });
        }
        if wanted.is_empty() {
            return Err(fail(Exit::Usage, "no record on standard input is an NVIDIA GPU")
                .hint("try 'gpu-iommu-groups --vendor 10de'"));
        }
        Ok((wanted, over))
    }

    fn function(&self, address: Address) -> Result<&Function, Failure> {
        self.system()?.functions.get(&address).ok_or_else(|| {
            let gpus = self.system().map(pci::System::gpus).unwrap_or_default();
            fail(Exit::Usage, format!("no function {address} on this machine"))
                .hint(pci::gpus_hint(&gpus))
        })
    }

    /// A container shares a GPU that the host's nvidia driver owns: nothing
    /// else will do.
    pub fn usable(&self, address: Address) -> Result<Wanted, Failure> {
        let refuse = |why: String| fail(Exit::Refused, format!("{address} {why}"));
        let system = self.system()?;
        let driver = system.functions.get(&address).and_then(|f| f.driver.as_deref());
        match driver {
            Some("nvidia") => {}
            Some("nouveau" | "nova" | "nova_core" | "NovaCore") => {
                return Err(refuse(format!(
                    "is bound to {}: a container needs NVIDIA's own driver on the host",
                    driver.unwrap_or_default()
                ))
                .hint("install it and blacklist nouveau"));
            }
            Some(driver) => {
                return Err(refuse(format!(
                    "is bound to {driver} (for a VM): a container shares a GPU of the host's \
                     nvidia driver"
                ))
                .hint(format!("'gpu-vfio-bind release {address}' gives it back to the host")));
            }
            None => {
                return Err(refuse(
                    "is bound to no driver: a container shares a GPU of the host's nvidia driver"
                        .into(),
                )
                .hint("load the nvidia module ('modprobe nvidia')"));
            }
        }
        match self.gpus.get(&address).and_then(|gpu| gpu.minor) {
            Some(minor) => Ok(Wanted { address, minor }),
            None => Err(refuse(
                "has no device minor: NVIDIA's driver did not accept it, or did not say".into(),
            )
            .hint("see the kernel log ('dmesg | grep NVRM')")),
        }
    }
}
