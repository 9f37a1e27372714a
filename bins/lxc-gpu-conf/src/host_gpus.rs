//! The GPUs of this host that a container can share, and which of them are
//! asked for.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use nvidia::{CharDevices, GpuInfo};
use pci::{Depth, Function, NVIDIA, System};
use record::{Address, PciDevice, Role};

/// What this host has.
pub struct HostGpus {
    /// All PCI functions.
    pub system: System,
    /// The GPUs that NVIDIA's driver owns.
    pub gpus: BTreeMap<Address, GpuInfo>,
    /// /proc/devices.
    pub majors: CharDevices,
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

impl HostGpus {
    /// Reads it. Errors: no PCI bus in sysfs, or no /proc/devices.
    pub fn read(machine: &Machine, say: &Say) -> Result<HostGpus, Failure> {
        let system = pci::scan(machine, Depth::Verdict)?;
        for warning in &system.warnings {
            say.warn(warning);
        }
        let (gpus, warnings) = nvidia::read_gpus(machine);
        for warning in &warnings {
            say.warn(warning);
        }
        Ok(HostGpus { system, gpus, majors: CharDevices::read(machine)? })
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
                return Err(fail(
                    Exit::Usage,
                    format!(
                        "'{name}' is neither an address (41:00.0), nor a UUID (GPU-...), nor a minor, nor 'all'"
                    ),
                ));
            }
        };
        match gpu {
            Some(gpu) => self.usable(gpu.address),
            None => {
                let what = if minor.is_some() { "GPU with minor" } else { "GPU" };
                Err(fail(Exit::Usage, format!("no {what} {name} on this host"))
                    .hint("see 'gpu-iommu-groups --vendor 10de'"))
            }
        }
    }

    /// The GPUs among some records. Functions that only accompany a GPU are
    /// not asked for; GPUs of other vendors and VFs are passed over. Errors: as
    /// [`HostGpus::named`], and none of them is a GPU.
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
        self.system.functions.get(&address).ok_or_else(|| {
            fail(Exit::Usage, format!("no function {address} on this host"))
                .hint("see 'gpu-iommu-groups'")
        })
    }

    /// A container shares a GPU that the host's nvidia driver owns: nothing
    /// else will do.
    fn usable(&self, address: Address) -> Result<Wanted, Failure> {
        let refuse = |why: String| fail(Exit::Refused, format!("{address} {why}"));
        let driver = self.system.functions.get(&address).and_then(|f| f.driver.as_deref());
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
