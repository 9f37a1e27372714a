//! From a recorded machine to state.

use std::collections::{BTreeMap, BTreeSet};

use record::Address;
use testbed::tree::Tree;

use crate::driver::{Driver, Id, Ids};
use crate::files::{Files, Node, split};
use crate::state::{Counters, DEVICES, DRIVERS, Function, GPUS, Saved, Sriov, State};

impl State {
    pub fn from_tree(tree: &Tree) -> State {
        let files = Files::from_tree(tree);
        let mut functions = BTreeMap::new();
        for name in files.names(DEVICES) {
            let Some(address) = Address::from_sysfs(&name) else { continue };
            if let Some(function) = function(&files, address) {
                functions.insert(address, function);
            }
        }
        let autoprobe = files.text("/sys/bus/pci/drivers_autoprobe").as_deref() != Some("0");
        let vgpu_host = functions.values().any(|function: &Function| {
            function.pf.is_some() && function.driver.as_deref() == Some("nvidia")
        });
        let mut state = State {
            files,
            functions,
            drivers: Vec::new(),
            autoprobe,
            taken: BTreeSet::new(),
            old_locking: false,
            strict_probe: false,
            vfio_sriov: false,
            vgpu_host,
            vgpu_refused: BTreeMap::new(),
            cards: BTreeMap::new(),
            truncates: false,
            pending: Vec::new(),
            finished: BTreeMap::new(),
            next_ticket: 1,
            faults: Vec::new(),
            dead: false,
            counters: Counters::default(),
        };
        state.add_control_files();
        state.register_drivers();
        state.load_vgpu();
        let addresses: Vec<Address> = state.functions.keys().copied().collect();
        for address in addresses {
            if state.on_vfio(&state.functions[&address]) {
                state.add_vfio(address);
            }
            let function = &state.functions[&address];
            let drm = state.files.node(&format!("{}/drm", function.dir)).is_some();
            let driver = function.driver.as_deref().and_then(|name| state.driver(name));
            let none = driver.is_some_and(|driver| driver.drm) && !drm;
            state.function_mut(address).no_drm = none;
        }
        state
    }

    /// Files that do something rather than say something: a recording of a
    /// machine need not have them.
    fn add_control_files(&mut self) {
        let mut missing: Vec<(String, &[u8])> = vec![
            ("/sys/bus/pci/drivers_probe".to_string(), b""),
            ("/sys/bus/pci/drivers_autoprobe".to_string(), b"1\n"),
        ];
        for gpu in self.files.names(GPUS) {
            missing.push((format!("{GPUS}/{gpu}/unbindLock"), b"0\n"));
        }
        for (path, bytes) in missing {
            if self.files.node(&path).is_none() {
                self.files.put(&path, Node::File(bytes.to_vec()));
            }
        }
    }

    /// Drivers that the tree shows, and those of modules that are loaded.
    fn register_drivers(&mut self) {
        for name in self.files.names(DRIVERS) {
            self.register(Driver::new(&name));
        }
        for module in self.files.names("/sys/module") {
            if let Some(driver) = Driver::of_module(&module) {
                self.register(driver);
            }
        }
        let bound: Vec<(String, Ids, bool)> = self
            .functions
            .values()
            .filter_map(|f| Some((f.driver.clone()?, f.ids, f.driver_override.is_some())))
            .collect();
        for (name, ids, overridden) in bound {
            // what bound without an override must have matched
            let exact = Id::exact(ids.vendor, ids.device);
            if let Some(driver) = self.driver_mut(&name) {
                if !overridden && !driver.matches(&ids, None) {
                    // PVE and vfio-pci.ids= give VFIO drivers ids at run time
                    let rows =
                        if driver.override_only { &mut driver.dynamic } else { &mut driver.ids };
                    rows.push(exact);
                }
            }
        }
    }

    /// Adds a driver and its directory.
    pub fn register(&mut self, driver: Driver) {
        if self.driver(&driver.name).is_some() {
            return;
        }
        let dir = format!("{DRIVERS}/{}", driver.name);
        for name in ["bind", "unbind", "new_id", "remove_id"] {
            let path = format!("{dir}/{name}");
            if self.files.node(&path).is_none() {
                self.files.put(&path, Node::File(Vec::new()));
            }
        }
        self.drivers.push(driver);
    }
}

/// Last component of a link.
fn link_name(files: &Files, path: &str) -> Option<String> {
    match files.node(path) {
        Some(Node::Link(target)) => Some(split(target).1.to_string()),
        _ => None,
    }
}

pub(crate) fn function(files: &Files, address: Address) -> Option<Function> {
    let dir = files.resolve(&format!("{DEVICES}/{address}"), true).ok()?;
    let attr = |name: &str| files.text(&format!("{dir}/{name}"));
    let number = |name: &str| attr(name).and_then(|text| text.parse::<u32>().ok());
    let ids = Ids::from_modalias(&attr("modalias")?)?;
    let header = files.bytes(&format!("{dir}/config")).and_then(|bytes| bytes.get(14).copied());
    let unset = |text: &String| !text.is_empty() && text != "(null)";
    let mut vfs = Vec::new();
    while let Some(vf) = link_name(files, &format!("{dir}/virtfn{}", vfs.len())) {
        vfs.push(Address::from_sysfs(&vf)?);
    }
    let sriov = number("sriov_totalvfs").map(|total| Sriov {
        total,
        offset: number("sriov_offset").unwrap_or(1),
        stride: number("sriov_stride").unwrap_or(1),
        vf_device: attr("sriov_vf_device")
            .and_then(|text| u32::from_str_radix(&text, 16).ok())
            .unwrap_or(ids.device),
        autoprobe: attr("sriov_drivers_autoprobe").as_deref() != Some("0"),
        vfs,
    });
    Some(Function {
        address,
        bridge: header.is_some_and(|byte| byte & 0x7f != 0) || ids.class >> 8 == 0x0604,
        driver: link_name(files, &format!("{dir}/driver")),
        driver_override: attr("driver_override").filter(unset),
        group: link_name(files, &format!("{dir}/iommu_group")).and_then(|id| id.parse().ok()),
        pf: link_name(files, &format!("{dir}/physfn")).and_then(|pf| Address::from_sysfs(&pf)),
        sriov,
        ids,
        dir,
        usage: 0,
        late: false,
        drm: Saved::default(),
        no_drm: false,
        gpu: Vec::new(),
        vgpu: None,
        mdevs: BTreeMap::new(),
    })
}
