//! Store functions of the attributes that can be written.

use record::Address;

use crate::attr::{Attr, Flow, Waiting};
use crate::driver::{Id, Ids};
use crate::files::split;
use crate::state::{DRIVERS, GPUS, State};

/// sysfs hands a store at most a page (kernfs_fop_write_iter).
const PAGE: usize = 4096;

impl State {
    /// The attribute at a canonical path.
    pub fn attribute(&self, path: &str) -> Option<Attr> {
        match path {
            "/sys/bus/pci/drivers_probe" => return Some(Attr::DriversProbe),
            "/sys/bus/pci/drivers_autoprobe" => return Some(Attr::DriversAutoprobe),
            _ => {}
        }
        let (parent, name) = split(path);
        let (above, last) = split(parent);
        if above == DRIVERS {
            let driver = self.driver(last)?.name.clone();
            return match name {
                "bind" => Some(Attr::Bind(driver)),
                "unbind" => Some(Attr::Unbind(driver)),
                "new_id" => Some(Attr::NewId(driver)),
                "remove_id" => Some(Attr::RemoveId(driver)),
                _ => None,
            };
        }
        if above == GPUS && name == "unbindLock" {
            return Address::from_sysfs(last).map(Attr::UnbindLock);
        }
        if let Some(attr) = self.vgpu_attribute(path) {
            return Some(attr);
        }
        let address = self.function_at(parent)?.address;
        match name {
            "driver_override" => Some(Attr::Override(address)),
            "reset" => Some(Attr::Reset(address)),
            "sriov_numvfs" => Some(Attr::NumVfs(address)),
            "sriov_drivers_autoprobe" => Some(Attr::VfAutoprobe(address)),
            _ => None,
        }
    }

    /// Runs a store. `resumed`: it waited for a lock before. Errors: its error number.
    pub fn store(&mut self, attr: &Attr, bytes: &[u8], resumed: bool) -> Result<Flow, i32> {
        let bytes = &bytes[..bytes.len().min(PAGE)];
        let text = String::from_utf8_lossy(bytes).into_owned();
        // a VF may have gone while somebody waited for it
        if attr.subject().is_some_and(|address| !self.functions.contains_key(&address)) {
            return Err(libc::ENODEV);
        }
        match attr {
            Attr::Bind(driver) => {
                let address = self.named(&text)?;
                if !resumed && !self.matches(driver, address) {
                    return Err(libc::ENODEV);
                }
                if self.locked(address) {
                    return Ok(Flow::Blocked(Waiting::Lock(address)));
                }
                // device_driver_attach(), since 5.14
                if self.functions[&address].driver.is_some() {
                    return Err(libc::EBUSY);
                }
                self.probe(address, driver).map_err(|refusal| refusal.errno())?;
            }
            Attr::Unbind(driver) => {
                let address = self.named(&text)?;
                let bound = self.functions[&address].driver.as_deref() == Some(driver);
                if self.locked(address) && bound {
                    return Ok(Flow::Blocked(Waiting::Lock(address)));
                }
                match (bound, resumed) {
                    (true, _) => return Ok(self.detach(address)),
                    // who waited for the lock finds the work done
                    (false, true) => {}
                    (false, false) => return Err(libc::ENODEV),
                }
            }
            Attr::DriversProbe => {
                let address = self.named(&text)?;
                if self.functions[&address].driver.is_none() {
                    if self.locked(address) {
                        return Ok(Flow::Blocked(Waiting::Lock(address)));
                    }
                    self.probe_any(address)?;
                }
            }
            Attr::DriversAutoprobe => {
                self.autoprobe = bytes[0] != b'0';
                let shown = u8::from(self.autoprobe);
                self.files.attr("/sys/bus/pci/drivers_autoprobe", shown);
            }
            Attr::NewId(driver) => return self.new_id(driver, &text, resumed),
            Attr::RemoveId(driver) => self.remove_id(driver, &text)?,
            Attr::Override(address) => return self.set_override(*address, bytes),
            Attr::Reset(address) => {
                // reset_store()
                if number(&text) != Some(1) {
                    return Err(libc::EINVAL);
                }
                if self.locked(*address) {
                    return Ok(Flow::Blocked(Waiting::Lock(*address)));
                }
            }
            Attr::NumVfs(address) => return self.set_numvfs(*address, &text),
            Attr::VfAutoprobe(address) => {
                let on = match text.trim_end_matches('\n') {
                    "1" | "y" | "Y" | "on" => true,
                    "0" | "n" | "N" | "off" => false,
                    _ => return Err(libc::EINVAL),
                };
                let function = self.function_mut(*address);
                if let Some(sriov) = &mut function.sriov {
                    sriov.autoprobe = on;
                }
                let path = format!("{}/sriov_drivers_autoprobe", function.dir);
                self.files.attr(&path, u8::from(on));
            }
            Attr::VgpuType(address) => self.set_vgpu_type(*address, &text)?,
            Attr::MdevCreate(address, of) => self.create_mdev(*address, of, &text)?,
            Attr::MdevRemove(address, uuid) => self.remove_mdev(*address, uuid, &text)?,
            Attr::UnbindLock(address) => {
                let wanted = match text.trim_end_matches('\n') {
                    "0" => false,
                    "1" => true,
                    _ => return Err(libc::EINVAL),
                };
                let granted = wanted && self.functions.get(address).is_some_and(|f| f.usage == 0);
                self.files.attr(&format!("{GPUS}/{address}/unbindLock"), u8::from(granted));
            }
        }
        Ok(Flow::Done)
    }

    /// bus_find_device_by_name() with sysfs_streq(): the whole name, a newline
    /// behind it allowed.
    fn named(&self, text: &str) -> Result<Address, i32> {
        let name = text.strip_suffix('\n').unwrap_or(text);
        let address = Address::from_sysfs(name).ok_or(libc::ENODEV)?;
        self.functions.contains_key(&address).then_some(address).ok_or(libc::ENODEV)
    }

    /// Starts an unbind, and ends it where nothing holds it up.
    fn detach(&mut self, address: Address) -> Flow {
        self.detach_begin(address);
        let function = self.function_mut(address);
        if function.driver.as_deref() == Some("nvidia") && std::mem::take(&mut function.late) {
            function.usage += 1;
        }
        if self.held_up(address) {
            return Flow::Blocked(Waiting::Remove(address));
        }
        self.detach_end(address);
        Flow::Done
    }

    /// driver_set_override().
    fn set_override(&mut self, address: Address, bytes: &[u8]) -> Result<Flow, i32> {
        if bytes.len() >= PAGE - 1 {
            return Err(libc::EINVAL);
        }
        if self.old_locking && self.locked(address) {
            return Ok(Flow::Blocked(Waiting::Lock(address)));
        }
        let end = bytes.iter().position(|byte| matches!(byte, b'\n' | 0)).unwrap_or(bytes.len());
        let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let wanted = Some(name).filter(|name| !name.is_empty());
        let path = format!("{}/driver_override", self.functions[&address].dir);
        self.files.attr(&path, wanted.as_deref().unwrap_or("(null)"));
        self.function_mut(address).driver_override = wanted;
        Ok(Flow::Done)
    }

    /// new_id_store() in drivers/pci/pci-driver.c.
    fn new_id(&mut self, driver: &str, text: &str, resumed: bool) -> Result<Flow, i32> {
        let fields = fields(text);
        let id = dynamic_id(&fields)?;
        let known = self.driver_mut(driver).ok_or(libc::ENODEV)?;
        if !resumed {
            // a device with these ids, and PCI_ANY_ID where none are given
            const ANY: u32 = u32::MAX;
            let device = Ids {
                vendor: id.vendor.unwrap_or(ANY),
                device: id.device.unwrap_or(ANY),
                subvendor: id.subvendor.unwrap_or(ANY),
                subdevice: id.subdevice.unwrap_or(ANY),
                class: id.class,
            };
            if fields.len() != 7 && known.matches(&device, None) {
                return Err(libc::EEXIST);
            }
            // "Only accept driver_data values that match an existing id_table entry"
            if !known.ids.is_empty() && fields.get(6).is_some_and(|data| *data != 0) {
                return Err(libc::EINVAL);
            }
            known.dynamic.push(id);
        }
        match self.offer_all(driver) {
            Ok(()) => Ok(Flow::Done),
            Err(address) => Ok(Flow::Blocked(Waiting::Lock(address))),
        }
    }

    /// remove_id_store(): the first that fits.
    fn remove_id(&mut self, driver: &str, text: &str) -> Result<(), i32> {
        let wanted = dynamic_id(&fields(text))?;
        let driver = self.driver_mut(driver).ok_or(libc::ENODEV)?;
        let same = |id: &Id| {
            (id.vendor, id.device) == (wanted.vendor, wanted.device)
                && (wanted.subvendor.is_none() || id.subvendor == wanted.subvendor)
                && (wanted.subdevice.is_none() || id.subdevice == wanted.subdevice)
                && (id.class ^ wanted.class) & wanted.mask == 0
        };
        let at = driver.dynamic.iter().position(same).ok_or(libc::ENODEV)?;
        driver.dynamic.remove(at);
        Ok(())
    }

    /// sriov_numvfs_store() in drivers/pci/iov.c.
    fn set_numvfs(&mut self, address: Address, text: &str) -> Result<Flow, i32> {
        let wanted = number(text).filter(|n| *n <= 0xffff).ok_or(libc::EINVAL)? as u32;
        let function = &self.functions[&address];
        let sriov = function.sriov.as_ref().ok_or(libc::ENOENT)?;
        if wanted > sriov.total {
            return Err(libc::ERANGE);
        }
        if self.locked(address) {
            return Ok(Flow::Blocked(Waiting::Lock(address)));
        }
        if wanted as usize == sriov.vfs.len() {
            return Ok(Flow::Done);
        }
        // no driver, or one without ->sriov_configure, as nvidia's
        let name = function.driver.as_deref().ok_or(libc::ENOENT)?;
        let able = self.driver(name).is_some_and(|driver| driver.sriov);
        // vfio_pci.c asks its parameter enable_sriov first
        if !able || name == "vfio-pci" && !self.vfio_sriov {
            return Err(libc::ENOENT);
        }
        if wanted == 0 {
            return Ok(self.drop_vfs(address));
        }
        if !sriov.vfs.is_empty() {
            return Err(libc::EBUSY);
        }
        self.add_vfs(address, wanted);
        Ok(Flow::Done)
    }

    fn drop_vfs(&mut self, pf: Address) -> Flow {
        if self.vfs_in_use(pf) {
            return Flow::Blocked(Waiting::Vfs(pf));
        }
        self.remove_vfs(pf);
        Flow::Done
    }

    /// Whether ->remove of a function's driver has to wait: for its own users,
    /// or for those of the VFs that it takes with it.
    pub fn held_up(&self, address: Address) -> bool {
        let function = self.functions.get(&address);
        let driver = function.and_then(|f| self.driver(f.driver.as_deref()?));
        self.in_use(address) || driver.is_some_and(|d| d.drops_vfs) && self.vfs_in_use(address)
    }

    /// Whether a VM, or another write, holds one of a function's VFs.
    pub fn vfs_in_use(&self, pf: Address) -> bool {
        let sriov = self.functions.get(&pf).and_then(|function| function.sriov.as_ref());
        sriov.is_some_and(|s| s.vfs.iter().any(|vf| self.in_use(*vf) || self.locked(*vf)))
    }
}

/// The numbers that sscanf("%x %x %x %x %x %x %lx") finds.
fn fields(text: &str) -> Vec<u64> {
    let words = text.split(|c: char| c == '\0' || c.is_ascii_whitespace());
    let words = words.filter(|word| !word.is_empty()).take(7);
    let number = |word: &str| {
        let word = word.strip_prefix("0x").unwrap_or(word);
        let end = word.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(word.len());
        u64::from_str_radix(&word[..end], 16).ok()
    };
    words.map_while(number).collect()
}

fn dynamic_id(fields: &[u64]) -> Result<Id, i32> {
    if fields.len() < 2 {
        return Err(libc::EINVAL);
    }
    let field = |at: usize| fields.get(at).map(|value| *value as u32).filter(|v| *v != u32::MAX);
    Ok(Id {
        vendor: field(0),
        device: field(1),
        subvendor: field(2),
        subdevice: field(3),
        class: field(4).unwrap_or(0),
        mask: field(5).unwrap_or(0),
    })
}

/// kstrtoul() with base 0, one newline behind it allowed.
fn number(text: &str) -> Option<u64> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
