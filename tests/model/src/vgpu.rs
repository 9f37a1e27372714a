//! NVIDIA's vGPU files: `nvidia/` of a virtual function (the kernel part of the
//! vGPU host driver), and mediated device types (drivers/vfio/mdev).

use std::collections::BTreeMap;

use record::Address;

use crate::attr::Attr;
use crate::files::{Node, split};
use crate::state::{Function, State};
use crate::vgpu_card::{Current, Others, VgpuCard, size};
use crate::{ModelKernel, known};

impl State {
    /// Cards and what their VFs have, from a recorded machine.
    pub fn load_vgpu(&mut self) {
        for (address, pf, dir, device) in self
            .functions
            .values()
            .map(|f| (f.address, f.pf, f.dir.clone(), f.ids.device))
            .collect::<Vec<_>>()
        {
            self.load_mdevs(address, &dir);
            let (Some(pf), Some(text)) =
                (pf, self.files.text(&format!("{dir}/nvidia/current_vgpu_type")))
            else {
                continue;
            };
            let id = text.parse().unwrap_or(0);
            self.function_mut(address).vgpu = Some(Current { id, instance: None });
            let listed = self.files.text(&format!("{dir}/nvidia/creatable_vgpu_types"));
            let card = self.cards.entry(pf).or_insert_with(|| match device {
                0x26b9 => VgpuCard::l40s(),
                _ => VgpuCard::default(),
            });
            for line in listed.unwrap_or_default().lines() {
                let Some((id, name)) = line.split_once(" : ") else { continue };
                let Ok(id) = id.trim().parse() else { continue };
                if card.name(id).is_none() {
                    card.types.push((id, name.to_string()));
                }
                card.mib = card.mib.max(size(name).0);
            }
            self.vgpu_dir(address);
        }
    }

    /// The files of a VF's `nvidia/`; what they say is made when it is read.
    fn vgpu_dir(&mut self, address: Address) {
        let dir = self.functions[&address].dir.clone();
        for name in [
            "creatable_vgpu_types",
            "current_vgpu_type",
            "gpu_instance_id",
            "placement_id",
            "vgpu_params",
        ] {
            let path = format!("{dir}/nvidia/{name}");
            if self.files.node(&path).is_none() {
                self.files.put(&path, Node::File(Vec::new()));
            }
        }
    }

    /// nvidia has taken a function: as vGPU host driver it makes a VF's files.
    pub fn add_vgpu(&mut self, address: Address) {
        let pf = self.functions[&address].pf;
        if pf.is_some_and(|pf| self.cards.contains_key(&pf)) {
            self.function_mut(address).vgpu = Some(Current::default());
            self.vgpu_dir(address);
        }
    }

    /// It has let it go: what was set is lost.
    pub fn remove_vgpu(&mut self, address: Address) {
        if self.function_mut(address).vgpu.take().is_some() {
            let dir = self.functions[&address].dir.clone();
            self.files.remove(&format!("{dir}/nvidia"));
        }
    }

    /// Card of a VF, and what the other VFs have.
    fn siblings(&self, address: Address) -> Option<(&VgpuCard, Others)> {
        let pf = self.functions.get(&address)?.pf?;
        let vfs = &self.functions[&pf].sriov.as_ref()?.vfs;
        let card = self.cards.get(&pf)?;
        let sizes: BTreeMap<u32, u64> =
            card.types.iter().map(|(id, name)| (*id, size(name).0)).collect();
        let mut others = Others::default();
        for vf in vfs.iter().filter(|vf| **vf != address) {
            let Some(vgpu) = self.functions.get(vf).and_then(|f| f.vgpu) else { continue };
            let mib = sizes.get(&vgpu.id).copied().unwrap_or(512);
            match (vgpu.id, vgpu.instance) {
                (0, _) => {}
                (_, Some(at)) => others.instances.push((at, mib)),
                (_, None) => *others.sizes.entry(mib).or_default() += 1,
            }
        }
        Some((card, others))
    }

    /// The VF to whose `nvidia/` a path belongs, and the file's name.
    fn vgpu_file<'a>(&self, path: &'a str) -> Option<(Address, Current, &'a str)> {
        let (parent, name) = split(path);
        let (dir, last) = split(parent);
        let function = (last == "nvidia").then(|| self.function_at(dir))??;
        Some((function.address, function.vgpu?, name))
    }

    /// What reading one of the files gives.
    pub fn vgpu_show(&self, path: &str) -> Option<Result<Vec<u8>, i32>> {
        let (address, current, name) = self.vgpu_file(path)?;
        let id = |shown: u32| match current.id {
            0 => Err(libc::ENXIO),
            _ => Ok(format!("{shown}\n").into_bytes()),
        };
        Some(match name {
            "current_vgpu_type" => Ok(format!("{}\n", current.id).into_bytes()),
            "creatable_vgpu_types" => Ok(self.creatable(address, current).into_bytes()),
            "gpu_instance_id" => id(current.instance.map_or(u32::MAX, |at| at as u32 + 1)),
            "placement_id" => id(0),
            _ => return None,
        })
    }

    fn creatable(&self, address: Address, current: Current) -> String {
        let mut text = String::new();
        let Some((card, others)) = self.siblings(address).filter(|_| current.id == 0) else {
            return text;
        };
        text.push_str("ID    : vGPU Name\n");
        for (id, name) in &card.types {
            if card.place(*id, &others).is_some() {
                text.push_str(&format!("{id:<5} : {name}\n"));
            }
        }
        text
    }

    /// Puts into the tree what reading would give.
    pub fn vgpu_write_files(&mut self) {
        let dirs: Vec<String> =
            self.functions.values().filter(|f| f.vgpu.is_some()).map(|f| f.dir.clone()).collect();
        for dir in dirs {
            for name in self.files.names(&format!("{dir}/nvidia")) {
                let path = format!("{dir}/nvidia/{name}");
                match self.vgpu_show(&path) {
                    Some(Ok(bytes)) => self.files.put(&path, Node::File(bytes)),
                    Some(Err(_)) => drop(self.files.remove(&path)),
                    None => {}
                }
            }
        }
    }

    /// The attribute at a path, where it is one of a vGPU.
    pub fn vgpu_attribute(&self, path: &str) -> Option<Attr> {
        if let Some((address, _, name)) = self.vgpu_file(path) {
            return (name == "current_vgpu_type").then_some(Attr::VgpuType(address));
        }
        let (parent, name) = split(path);
        let (above, last) = split(parent);
        match name {
            "remove" => {
                let function = self.function_at(above)?;
                let known = function.mdevs.contains_key(last);
                known.then(|| Attr::MdevRemove(function.address, last.to_string()))
            }
            "create" => {
                let (dir, types) = split(above);
                let function =
                    (types == "mdev_supported_types").then(|| self.function_at(dir))??;
                Some(Attr::MdevCreate(function.address, last.to_string()))
            }
            _ => None,
        }
    }

    /// current_vgpu_type's store: kstrtol(), 0 removes, all else creates.
    pub fn set_vgpu_type(&mut self, address: Address, text: &str) -> Result<(), i32> {
        let digits = text.strip_suffix('\n').unwrap_or(text);
        let plain = digits.strip_prefix(['-', '+']).unwrap_or(digits);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
            return Err(libc::EINVAL);
        }
        let wanted: i64 = digits.parse().map_err(|_| libc::ERANGE)?;
        let function = &self.functions[&address];
        let (held, current) = (function.usage > 0, function.vgpu.ok_or(libc::EINVAL)?);
        let set = if wanted == 0 {
            if current.id == 0 {
                return Err(libc::EPERM);
            }
            if held {
                return Err(libc::EBUSY);
            }
            Current::default()
        } else {
            if current.id != 0 {
                return Err(libc::EPERM);
            }
            if let Some(errno) = self.vgpu_refused.get(&address) {
                return Err(*errno);
            }
            let id = u32::try_from(wanted).map_err(|_| libc::EIO)?;
            let (card, others) = self.siblings(address).ok_or(libc::EIO)?;
            // NVRM: Failed to add vgpu create request: 0x38
            Current { id, instance: card.place(id, &others).ok_or(libc::EIO)? }
        };
        self.function_mut(address).vgpu = Some(set);
        Ok(())
    }

    fn load_mdevs(&mut self, address: Address, dir: &str) {
        let types = format!("{dir}/mdev_supported_types");
        for of in self.files.names(&types) {
            for uuid in self.files.names(&format!("{types}/{of}/devices")) {
                self.function_mut(address).mdevs.insert(uuid, of.clone());
            }
        }
    }

    /// create_store() of drivers/vfio/mdev/mdev_sysfs.c.
    pub fn create_mdev(&mut self, address: Address, of: &str, text: &str) -> Result<(), i32> {
        let uuid = text.strip_suffix('\n').unwrap_or(text);
        let shape = |(at, b): (usize, u8)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        };
        if uuid.len() != 36 || !uuid.bytes().enumerate().all(shape) {
            return Err(libc::EINVAL);
        }
        let uuid = uuid.to_ascii_lowercase();
        if self.functions.values().any(|function| function.mdevs.contains_key(&uuid)) {
            return Err(libc::EEXIST);
        }
        let dir = self.functions[&address].dir.clone();
        let type_dir = format!("{dir}/mdev_supported_types/{of}");
        let left = self.files.text(&format!("{type_dir}/available_instances"));
        if left.is_none_or(|left| left == "0") {
            return Err(libc::ENOSPC);
        }
        let path = format!("{dir}/{uuid}");
        self.files.put(&format!("{path}/remove"), Node::File(Vec::new()));
        self.files.link_to(&format!("{path}/mdev_type"), &type_dir);
        self.files.link_to(&format!("{type_dir}/devices/{uuid}"), &path);
        self.files.link_to(&format!("/sys/bus/mdev/devices/{uuid}"), &path);
        self.function_mut(address).mdevs.insert(uuid, of.to_string());
        self.count_mdevs(address);
        Ok(())
    }

    /// remove_store(): a VM that has it open keeps it.
    pub fn remove_mdev(&mut self, address: Address, uuid: &str, text: &str) -> Result<(), i32> {
        if text.trim_end_matches('\n') != "1" {
            return Err(libc::EINVAL);
        }
        if self.functions[&address].usage > 0 {
            return Err(libc::EBUSY);
        }
        let Some(of) = self.function_mut(address).mdevs.remove(uuid) else {
            return Err(libc::ENODEV);
        };
        let dir = self.functions[&address].dir.clone();
        self.files.remove(&format!("{dir}/mdev_supported_types/{of}/devices/{uuid}"));
        self.files.remove(&format!("/sys/bus/mdev/devices/{uuid}"));
        self.files.remove(&format!("{dir}/{uuid}"));
        self.count_mdevs(address);
        Ok(())
    }

    /// `available_instances`: one type at a time, and of that as many as its
    /// description says.
    fn count_mdevs(&mut self, address: Address) {
        let function = &self.functions[&address];
        let (dir, mdevs) =
            (format!("{}/mdev_supported_types", function.dir), function.mdevs.clone());
        let mut used: BTreeMap<&String, u32> = BTreeMap::new();
        for of in mdevs.values() {
            *used.entry(of).or_default() += 1;
        }
        for of in self.files.names(&dir) {
            let text = self.files.text(&format!("{dir}/{of}/description")).unwrap_or_default();
            let most = text.split("max_instance=").nth(1).and_then(|n| n.trim().parse().ok());
            let left = match (used.get(&of), used.is_empty()) {
                (_, true) => most.unwrap_or(1),
                (Some(taken), _) => most.unwrap_or(1u32).saturating_sub(*taken),
                (None, false) => 0,
            };
            self.files.attr(&format!("{dir}/{of}/available_instances"), left);
        }
    }
}

impl ModelKernel {
    /// Makes a PF a card that can have vGPUs, or changes what it offers. Its VFs
    /// get their files when nvidia takes them.
    pub fn vgpu_card(&self, pf: &str, card: VgpuCard) {
        self.change(|state| {
            state.vgpu_host = true;
            state.cards.insert(known(pf), card)
        });
    }

    /// Makes a function with SR-IOV look like an L40S on nvidia, with the profiles
    /// of the kernel lab's stand-in module.
    pub fn disguise(&self, pf: &str) {
        let types = [1145, 1147, 1148, 1150, 1155, 1156];
        let mut card = VgpuCard::l40s();
        card.types.retain(|(id, _)| types.contains(id));
        self.vgpu_card(pf, card);
        self.change(|state| {
            let address = known(pf);
            let function = state.function_mut(address);
            (function.ids.vendor, function.ids.device) = (0x10de, 0x26b9);
            function.ids.class = 0x030200;
            if let Some(sriov) = &mut function.sriov {
                sriov.vf_device = 0x26b9;
            }
            let (ids, dir) = (function.ids, function.dir.clone());
            state.files.attr(&format!("{dir}/vendor"), "0x10de");
            state.files.attr(&format!("{dir}/device"), "0x26b9");
            state.files.attr(&format!("{dir}/class"), "0x030200");
            state.files.attr(&format!("{dir}/modalias"), ids.modalias());
            state.load_module("pci-pf-stub");
            let _ = state.probe_any(address);
        });
    }

    /// `nvidia-smi vgpu -shm`: refused (EBUSY) once a profile is set.
    pub fn set_heterogeneous(&self, pf: &str, on: bool) -> Result<(), i32> {
        let pf = known(pf);
        self.change(|state| {
            let set = |f: &Function| f.pf == Some(pf) && f.vgpu.is_some_and(|vgpu| vgpu.id != 0);
            if state.functions.values().any(set) {
                return Err(libc::EBUSY);
            }
            state.cards.get_mut(&pf).ok_or(libc::ENODEV)?.heterogeneous = on;
            Ok(())
        })
    }

    /// What a VF has; 0 where nothing is set.
    pub fn vgpu_of(&self, vf: &str) -> u32 {
        let state = self.lock();
        state.functions.get(&known(vf)).and_then(|f| f.vgpu).map_or(0, |vgpu| vgpu.id)
    }

    /// From now on a VF answers each profile with this errno, or no longer. EIO is what the
    /// loader's users report, with 0x38 in the kernel log.
    pub fn vgpu_refuse(&self, vf: &str, errno: Option<i32>) {
        self.change(|state| match errno {
            Some(errno) => _ = state.vgpu_refused.insert(known(vf), errno),
            None => _ = state.vgpu_refused.remove(&known(vf)),
        });
    }

    /// The host starts again: nothing is set any more.
    pub fn vgpu_reboot(&self) {
        self.change(|state| {
            for function in state.functions.values_mut() {
                if let Some(vgpu) = &mut function.vgpu {
                    *vgpu = Current::default();
                }
                function.usage = 0;
            }
        });
    }

    /// Sets a VF's profile behind everybody's back, whatever fits.
    pub fn vgpu_force(&self, vf: &str, id: u32) {
        self.change(|state| {
            let function = state.function_mut(known(vf));
            function.vgpu = Some(Current { id, instance: None });
        });
    }
}
