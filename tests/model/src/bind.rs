//! Binding and unbinding, as drivers/base/dd.c does it.

use record::Address;

use crate::driver::Probe;
use crate::state::{DRIVERS, State};

/// Why a function was not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Before the driver was asked: a negative return of really_probe().
    Before(i32),
    /// By the driver's probe: a positive one, which __device_attach_driver()
    /// passes over "so that the next driver can try its luck".
    ByProbe(i32),
}

impl Refusal {
    pub fn errno(self) -> i32 {
        match self {
            Refusal::Before(errno) | Refusal::ByProbe(errno) => errno,
        }
    }
}

impl State {
    pub fn matches(&self, driver: &str, address: Address) -> bool {
        match (self.driver(driver), self.functions.get(&address)) {
            (Some(driver), Some(function)) => {
                driver.matches(&function.ids, function.driver_override.as_deref())
            }
            _ => false,
        }
    }

    /// really_probe(): binds a driverless function to a driver that matches.
    pub fn probe(&mut self, address: Address, name: &str) -> Result<(), Refusal> {
        let function = &self.functions[&address];
        let driver = self.driver(name).expect("a registered driver");
        // iommu_device_use_default_domain(): a VM owns the group
        let taken = function.group.is_some_and(|group| self.taken.contains(&group));
        if taken && !driver.managed_dma {
            return Err(Refusal::Before(libc::EBUSY));
        }
        // pci_device_can_probe()
        let pf = function.pf.and_then(|pf| self.functions.get(&pf)?.sriov.as_ref());
        if pf.is_some_and(|sriov| !sriov.autoprobe) && function.driver_override.is_none() {
            return Err(Refusal::ByProbe(libc::ENODEV));
        }
        match driver.probe {
            Probe::Binds => {}
            Probe::Defers => return Err(Refusal::ByProbe(libc::EAGAIN)),
            Probe::Fails(errno) => return Err(Refusal::ByProbe(errno)),
        }
        // vfio_pci_core_register_device(): normal headers in a group only
        if driver.vfio && (function.bridge || function.group.is_none()) {
            return Err(Refusal::ByProbe(libc::EINVAL));
        }
        // nv_pci_probe(): "Ignoring probe for VF", return -1
        if name == "nvidia" && function.pf.is_some() && !self.vgpu_host {
            return Err(Refusal::ByProbe(libc::EPERM));
        }
        self.attach(address, name);
        Ok(())
    }

    /// device_attach(): asks the drivers in turn. Errors: as drivers_probe
    /// reports them.
    pub fn probe_any(&mut self, address: Address) -> Result<(), i32> {
        let names: Vec<String> = self.drivers.iter().map(|driver| driver.name.clone()).collect();
        for name in names {
            if !self.matches(&name, address) {
                continue;
            }
            match self.probe(address, &name) {
                Ok(()) => return Ok(()),
                Err(Refusal::Before(_)) => return Err(libc::EINVAL),
                Err(Refusal::ByProbe(_)) if self.strict_probe => return Err(libc::EINVAL),
                Err(Refusal::ByProbe(_)) => {}
            }
        }
        Ok(())
    }

    /// driver_attach(): offers a driver all that is unbound and matches.
    /// Gives a function whose lock somebody holds, where there is one.
    pub fn offer_all(&mut self, name: &str) -> Result<(), Address> {
        let matching: Vec<Address> =
            self.functions.keys().copied().filter(|address| self.matches(name, *address)).collect();
        for address in matching {
            if self.locked(address) {
                return Err(address);
            }
            if self.functions[&address].driver.is_none() {
                let _ = self.probe(address, name);
            }
        }
        Ok(())
    }

    fn attach(&mut self, address: Address, name: &str) {
        let function = self.function_mut(address);
        function.driver = Some(name.to_string());
        let dir = function.dir.clone();
        let driver_dir = format!("{DRIVERS}/{name}");
        self.files.link_to(&format!("{dir}/driver"), &driver_dir);
        self.files.link_to(&format!("{driver_dir}/{address}"), &dir);
        self.enabled(&dir, true);
        self.uevent(&dir, Some(name));
        let driver = self.driver(name).expect("a registered driver");
        let (vfio, drm) = (driver.vfio, driver.drm);
        if vfio {
            self.add_vfio(address);
        }
        if name == "nvidia" {
            match self.functions[&address].pf {
                None => self.add_gpu(address),
                Some(_) => self.add_vgpu(address),
            }
        }
        if drm {
            self.add_drm(address, name);
        }
    }

    /// What __device_release_driver() does before ->remove: the `driver` links
    /// go first (driver_sysfs_remove), so while ->remove hangs the function
    /// looks driverless and is not. nvidia lets go of DRM before it waits
    /// (nvidia_modeset_remove).
    pub fn detach_begin(&mut self, address: Address) {
        let function = &self.functions[&address];
        let (dir, driver) = (function.dir.clone(), function.driver.clone().unwrap_or_default());
        self.files.remove(&format!("{dir}/driver"));
        self.files.remove(&format!("{DRIVERS}/{driver}/{address}"));
        self.remove_drm(address);
    }

    /// The rest, once ->remove is through.
    pub fn detach_end(&mut self, address: Address) {
        let function = self.function_mut(address);
        let driver = function.driver.take().unwrap_or_default();
        let dir = function.dir.clone();
        self.enabled(&dir, false);
        self.uevent(&dir, None);
        self.remove_vfio(address);
        if driver == "nvidia" {
            self.remove_gpu(address);
            self.remove_vgpu(address);
        }
        if self.driver(&driver).is_some_and(|driver| driver.drops_vfs) {
            self.remove_vfs(address);
        }
    }

    fn enabled(&mut self, dir: &str, enabled: bool) {
        let path = format!("{dir}/enable");
        if self.files.node(&path).is_some() {
            self.files.attr(&path, u8::from(enabled));
        }
    }

    /// dev_uevent(): the driver's line is the first.
    fn uevent(&mut self, dir: &str, driver: Option<&str>) {
        let path = format!("{dir}/uevent");
        let Some(text) = self.files.text(&path) else { return };
        let driver = driver.map(|name| format!("DRIVER={name}"));
        let others = text.lines().filter(|line| !line.starts_with("DRIVER=")).map(String::from);
        let lines: Vec<String> = driver.into_iter().chain(others).collect();
        self.files.attr(&path, lines.join("\n"));
    }

    /// modprobe: registers the module's driver and offers it all devices.
    /// Gives whether the model knows the module.
    pub fn load_module(&mut self, name: &str) -> bool {
        let module = name.replace('-', "_");
        let Some(driver) = crate::driver::Driver::of_module(&module) else { return false };
        self.files.dir(&format!("/sys/module/{module}"));
        let path = "/proc/modules";
        let mut modules = self.files.bytes(path).unwrap_or_default().to_vec();
        let line = format!("{module} ");
        if !String::from_utf8_lossy(&modules).lines().any(|known| known.starts_with(&line)) {
            modules.extend(format!("{module} 16384 0 - Live 0x0000000000000000\n").bytes());
            self.files.put(path, crate::files::Node::File(modules));
        }
        let name = driver.name.clone();
        // drivers/base/module.c, module_add_driver()
        let link = format!("/sys/module/{module}/drivers/pci:{name}");
        self.files.link_to(&link, &format!("{DRIVERS}/{name}"));
        if self.driver(&name).is_none() {
            self.register(driver);
            if self.autoprobe {
                let _ = self.offer_all(&name);
            }
        }
        true
    }

    /// rmmod: false where a function of it is in use.
    pub fn unload_module(&mut self, name: &str) -> bool {
        let module = name.replace('-', "_");
        let Some(driver) = self.drivers.iter().find(|driver| driver.module == module).cloned()
        else {
            return false;
        };
        let bound: Vec<Address> = self
            .functions
            .values()
            .filter(|function| function.driver.as_deref() == Some(driver.name.as_str()))
            .map(|function| function.address)
            .collect();
        if bound.iter().any(|address| self.in_use(*address) || self.locked(*address)) {
            return false;
        }
        for address in bound {
            self.detach_begin(address);
            self.detach_end(address);
        }
        self.drivers.retain(|known| known.name != driver.name);
        self.files.remove(&format!("{DRIVERS}/{}", driver.name));
        self.files.remove(&format!("/sys/module/{module}"));
        let modules = self.files.bytes("/proc/modules").unwrap_or_default();
        let modules = String::from_utf8_lossy(modules);
        let line = format!("{module} ");
        let kept = modules.lines().filter(|known| !known.starts_with(&line));
        let kept: String = kept.map(|known| format!("{known}\n")).collect();
        self.files.put("/proc/modules", crate::files::Node::File(kept.into_bytes()));
        true
    }
}
