//! Records of functions and groups.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ::apply::Objection;
use ::cli::Say;
use host::Machine;
use nvidia::GpuInfo;
use passthrough::{Judge, ObjectionKind, TakenWhen};
use pci::{Function, Group, Modalias, ModuleAliases, PciIds, System, group_verdict};
use record::{Address, GroupMember, IommuGroup, Passthrough, PciDevice, Sriov, VgpuInterface};
use usage::Users;

/// modules.alias of a distribution kernel has 1.5 MB.
const MODULES_ALIAS_MOST: usize = 64 << 20;

/// What [`Judge::assign`] says, by the first function of what goes together.
type Objections = Rc<Vec<Objection<ObjectionKind>>>;

pub struct RecordMaker<'a> {
    system: &'a System,
    users: &'a Users<'a>,
    ids: PciIds,
    aliases: ModuleAliases,
    gpus: BTreeMap<Address, GpuInfo>,
    objections: RefCell<BTreeMap<Address, Objections>>,
}

impl<'a> RecordMaker<'a> {
    /// Reads what the records of `functions` need besides sysfs; `names` and
    /// NVIDIA's GPUs are known.
    pub fn new(
        machine: &Machine,
        system: &'a System,
        users: &'a Users<'a>,
        (ids, gpus): (PciIds, BTreeMap<Address, GpuInfo>),
        functions: &[Function],
        say: &Say,
    ) -> RecordMaker<'a> {
        let aliases = aliases(machine, system, functions, say);
        let objections = RefCell::default();
        RecordMaker { system, users, ids, aliases, gpus, objections }
    }

    /// What a function is called.
    pub fn name(&self, f: &Function) -> Option<String> {
        let model = self.gpus.get(&f.address).and_then(|gpu| gpu.model.as_deref());
        self.ids.names(f).of_function(f, model)
    }

    /// Whether a function may be passed through.
    pub fn verdict(&self, f: &Function) -> Passthrough {
        // the commands of hints are not in records of functions
        let retry = |_| Vec::new();
        let (system, users) = (self.system, self.users);
        let judge = Judge { system, users, retry: &retry, when: TakenWhen::Now };
        let first = system.slot(f).next().map_or(f.address, |f| f.address);
        let known = self.objections.borrow().get(&first).cloned();
        let objections = known.unwrap_or_else(|| {
            let found = Rc::new(judge.assign(f));
            self.objections.borrow_mut().insert(first, found.clone());
            found
        });
        judge.verdict(f, &objections)
    }

    pub fn function(&self, f: &Function) -> PciDevice {
        let names = self.ids.names(f);
        let hex4 = |id: Option<u16>| id.map(|id| format!("0x{id:04x}"));
        let mut device = PciDevice::bare(f.address);
        device.parent = f.parent;
        device.siblings = self
            .system
            .slot(f)
            .map(|sibling| sibling.address)
            .filter(|address| *address != f.address)
            .collect();
        device.group = f.group;
        device.role = Some(f.role(self.system.gpu_in_slot(f)));
        device.class = f.class.map(|class| format!("0x{class:06x}"));
        device.vendor = hex4(f.vendor);
        device.device = hex4(f.device);
        device.subsystem_vendor = hex4(f.subsystem_vendor);
        device.subsystem_device = hex4(f.subsystem_device);
        device.revision = f.revision.map(|revision| format!("0x{revision:02x}"));
        device.name = self.name(f);
        device.class_name = names.class;
        device.vendor_name = names.vendor;
        device.device_name = names.device;
        device.subsystem_name = names.subsystem;
        device.driver = f.driver.clone();
        device.driver_override = f.driver_override.clone();
        device.modules = f.modalias().map(|of| self.aliases.modules(&of)).unwrap_or_default();
        device.boot_vga = f.boot_vga;
        device.boot_display = f.boot_display;
        device.numa_node = f.numa_node;
        device.reset_methods = f.reset_methods.clone();
        device.link = f.link.clone();
        device.sriov = sriov(f);
        device.vfio_device = f.vfio_device.clone();
        device.drm_nodes = f.drm.iter().map(|name| format!("/dev/dri/{name}")).collect();
        device.nvidia = self.gpus.get(&f.address).map(GpuInfo::to_record);
        device.vgpu_interface = if f.vgpu_vendor {
            Some(VgpuInterface::Vendor)
        } else {
            f.mdev.then_some(VgpuInterface::Mdev)
        };
        let stays = self.system.stays_with_host(f);
        device.passthrough = (!stays).then(|| self.verdict(f));
        device.usage = (!f.is_bridge()).then(|| self.users.of(f).to_record());
        device
    }

    pub fn group(&self, group: &Group) -> IommuGroup {
        let (viable, isolated, blockers) = group_verdict(self.system, group);
        let members = self
            .system
            .members(group)
            .map(|f| GroupMember {
                address: f.address,
                role: f.role(self.system.gpu_in_slot(f)),
                class: f.class.map(|class| format!("0x{class:06x}")),
                vendor: f.vendor.map(|id| format!("0x{id:04x}")),
                device: f.device.map(|id| format!("0x{id:04x}")),
                device_name: self.ids.names(f).device,
                driver: f.driver.clone(),
            })
            .collect();
        IommuGroup {
            group: group.id,
            domain_type: group.domain_type.clone(),
            name: group.name.clone(),
            members,
            other_members: group.others.iter().map(|other| other.name.clone()).collect(),
            reserved_regions: group.reserved.clone(),
            rule: self.system.iommu.rule,
            viable,
            isolated,
            acs_override: self.system.iommu.acs_override,
            blockers,
        }
    }
}

/// Which modules claim the functions: from the index that depmod makes of
/// modules.alias, else from that.
fn aliases(machine: &Machine, system: &System, functions: &[Function], say: &Say) -> ModuleAliases {
    let Some(release) = &system.iommu.release else { return ModuleAliases::default() };
    let path = format!("/lib/modules/{release}/modules.alias");
    if let Ok(index) = machine.table(&format!("{path}.bin"), MODULES_ALIAS_MOST) {
        let of: Vec<Modalias> = functions.iter().filter_map(Function::modalias).collect();
        if let Some(aliases) = ModuleAliases::of_index(&index, &of) {
            return aliases;
        }
    }
    let mut vendors: Vec<u16> = functions.iter().filter_map(|f| f.vendor).collect();
    vendors.sort_unstable();
    vendors.dedup();
    match machine.table(&path, MODULES_ALIAS_MOST) {
        Ok(text) => ModuleAliases::parse(&text, &vendors),
        Err(error) => {
            say.detail(&format!("{error}: the records name no modules"));
            ModuleAliases::default()
        }
    }
}

fn sriov(f: &Function) -> Option<Sriov> {
    if f.pf.is_some() {
        return Some(Sriov::Vf { pf: f.pf });
    }
    f.sriov_total.map(|total| Sriov::Pf {
        total: Some(total),
        enabled: f.sriov_enabled,
        vfs: f.vfs.clone(),
    })
}
