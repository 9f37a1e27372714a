//! Virtual functions whose profile Proxmox VE sets when a VM starts and clears
//! when it stops: `hostpciN: 0000:41:00.4,mdev=nvidia-1155`, also through a
//! resource mapping.

use std::collections::{BTreeMap, BTreeSet};

use host::KernelFiles;
use pve::{Conf, Section};
use record::{Address, Slot};

/// Which VMs name which functions with `mdev=`.
#[derive(Default)]
pub struct PveManaged {
    functions: BTreeMap<Address, BTreeSet<u32>>,
    slots: BTreeMap<Slot, BTreeSet<u32>>,
}

impl PveManaged {
    /// Reads the VMs of this node.
    pub fn read(files: &dyn KernelFiles) -> PveManaged {
        const DIR: &str = "/etc/pve/qemu-server";
        let mut managed = PveManaged::default();
        let names = files.list(DIR).unwrap_or_default();
        let mut mapping = None;
        for name in names {
            let Some(id) = name.strip_suffix(".conf").and_then(|id| id.parse().ok()) else {
                continue;
            };
            let Ok(text) = files.read_attr(&format!("{DIR}/{name}")) else { continue };
            let conf = Conf::parse(format!("{text}\n").as_bytes());
            for (key, value) in conf.keys(&Section::Main) {
                if key.starts_with("hostpci")
                    && value.split(',').any(|p| p.trim().starts_with("mdev="))
                {
                    for path in
                        paths(value, &mut || mapping.get_or_insert_with(|| mappings(files)).clone())
                    {
                        managed.add(&path, id);
                    }
                }
            }
        }
        managed
    }

    fn add(&mut self, path: &str, vm: u32) {
        if let Ok(address) = path.parse::<Address>() {
            self.functions.entry(address).or_default().insert(vm);
        } else if let Ok(slot) = path.parse::<Slot>() {
            self.slots.entry(slot).or_default().insert(vm);
        }
    }

    /// The VMs that name a function.
    pub fn of(&self, address: Address) -> Vec<u32> {
        let own = self.functions.get(&address).into_iter().flatten();
        let slot = self.slots.get(&address.slot()).into_iter().flatten();
        let all: BTreeSet<u32> = own.chain(slot).copied().collect();
        all.into_iter().collect()
    }
}

/// What a `hostpciN` value names: addresses, slots, or a mapping's.
fn paths(value: &str, mappings: &mut dyn FnMut() -> BTreeMap<String, Vec<String>>) -> Vec<String> {
    let split = |list: &str| list.split(';').map(|p| p.trim().to_string()).collect();
    for part in value.split(',') {
        match part.trim().split_once('=') {
            None => return split(part),
            Some(("host", host)) => return split(host),
            Some(("mapping", name)) => return mappings().remove(name).unwrap_or_default(),
            Some(_) => {}
        }
    }
    Vec::new()
}

/// /etc/pve/mapping/pci.cfg: a name at the margin, below it one line for each
/// path, `map id=10de:26b9,node=host1,path=0000:41:00.4`. This node's only.
fn mappings(files: &dyn KernelFiles) -> BTreeMap<String, Vec<String>> {
    let text = files.read_attr("/etc/pve/mapping/pci.cfg").unwrap_or_default();
    let local = files.read_link("/etc/pve/local").unwrap_or_default();
    let local = local.rsplit('/').next().unwrap_or_default().to_string();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            name = line.trim().trim_end_matches(':').to_string();
            continue;
        }
        let Some(map) = line.trim().strip_prefix("map ") else { continue };
        let field = |key: &str| {
            map.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='))
        };
        if field("node").is_some_and(|node| node == local) {
            let paths = field("path").unwrap_or_default().split(';').map(str::to_string);
            found.entry(name.clone()).or_default().extend(paths);
        }
    }
    found
}
