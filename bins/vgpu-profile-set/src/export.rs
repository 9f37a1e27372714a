//! What other programs need to know of the vGPUs that are set, in their own
//! configuration formats.

use std::collections::{BTreeMap, BTreeSet};

use host::Machine;
use nvidia::short_name;
use record::{Address, shell_words};

use crate::observe::model::{Gpu, VgpuFunction};
use crate::sysfs::{function_path, link_name, node_name};

/// The part of KubeVirt's custom resource that permits the profiles that are set.
pub(crate) fn kubevirt(machine: &Machine, gpus: &[Gpu]) -> String {
    let mut functions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut mediated: BTreeSet<String> = BTreeSet::new();
    for gpu in gpus {
        for function in &gpu.functions {
            if let Some(name) = gpu.name_of(function.current) {
                let selector = selector(machine, function.address);
                functions.entry(selector).or_default().insert(name.into());
            }
            for mdev in &function.mdevs {
                mediated.extend(function.mdev_type(&mdev.dir).map(|of| of.name.clone()));
            }
        }
    }
    let mut text = String::from("spec:\n  configuration:\n    permittedHostDevices:\n");
    let nameless = nameless(gpus);
    for (address, id) in &nameless {
        text.push_str(&format!(
            "      # {address} has the profile with id {id}, whose name is unknown: it is left out\n"
        ));
    }
    if functions.is_empty() && mediated.is_empty() && !nameless.is_empty() {
        text.push_str("      pciHostDevices: []\n");
    } else if functions.is_empty() && mediated.is_empty() {
        text.push_str("      # no profile is set on this host\n      pciHostDevices: []\n");
    }
    if !functions.is_empty() {
        text.push_str("      pciHostDevices:\n");
    }
    for (selector, names) in &functions {
        for other in whole_gpus(machine, gpus, selector) {
            text.push_str(&format!(
                "        # the selector also matches {other}, a whole GPU that is bound to vfio-pci: KubeVirt gives \
                 it to VMs as this profile\n"
            ));
        }
        if names.len() > 1 {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            text.push_str(&format!(
                "        # {} share one selector, for which KubeVirt takes one name only\n",
                names.join(", ")
            ));
        }
        let name = names.iter().next().map_or("", String::as_str);
        text.push_str(&format!(
            "        - pciVendorSelector: \"{selector}\"\n          resourceName: nvidia.com/{name}\n"
        ));
    }
    if !mediated.is_empty() {
        text.push_str("      mediatedDevices:\n");
    }
    for name in &mediated {
        text.push_str(&format!(
            "        - mdevNameSelector: \"{name}\"\n          resourceName: nvidia.com/{}\n",
            name.replace(' ', "_")
        ));
    }
    text
}

/// Whole GPUs for VMs with the ids of a selector: KubeVirt takes each function with them
/// that is bound to vfio-pci.
fn whole_gpus(machine: &Machine, gpus: &[Gpu], selector: &str) -> Vec<Address> {
    let same = |gpu: &&Gpu| {
        gpu.driver.as_deref() == Some("vfio-pci")
            && self::selector(machine, gpu.address) == selector
    };
    gpus.iter().filter(same).map(|gpu| gpu.address).collect()
}

/// Functions with a profile whose name is unknown, and its id.
fn nameless(gpus: &[Gpu]) -> Vec<(Address, u32)> {
    let of = |gpu: &Gpu| {
        let set = gpu.functions.iter().filter(|function| function.current != 0);
        let unnamed = set.filter(|function| gpu.name_of(function.current).is_none());
        unnamed.map(|function| (function.address, function.current)).collect::<Vec<_>>()
    };
    gpus.iter().flat_map(of).collect()
}

/// The text of an id file of a function, without `0x`.
fn id(machine: &Machine, address: Address, name: &str) -> String {
    let text = machine.attr(&function_path(address, name)).unwrap_or_default();
    text.trim().trim_start_matches("0x").to_string()
}

/// `10DE:26B9` of a function.
fn selector(machine: &Machine, address: Address) -> String {
    let id = |name: &str| id(machine, address, name).to_uppercase();
    format!("{}:{}", id("vendor"), id("device"))
}

/// Sections for /etc/pve/mapping/pci.cfg: one for each GPU, with all its virtual
/// functions on this cluster node.
pub(crate) fn pve_mapping(machine: &Machine, gpus: &[Gpu]) -> String {
    let node = node_name(machine);
    let mut text = String::new();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for gpu in gpus.iter().filter(|gpu| gpu.interface().is_some()) {
        let model = gpu.model.as_deref().map_or("gpu", short_name);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let mut name: String = format!("vgpu-{model}").chars().map(plain).collect();
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            name = format!("{name}-{times}");
        }
        text.push_str(&format!("{name}\n"));
        // a VF that is not bound to the vGPU host driver has no vGPU types
        for function in gpu.functions.iter().filter(|function| function.interface.is_some()) {
            text.push_str(&mapping_line(machine, &node, function));
        }
        text.push_str("\tmdev 1\n\n");
    }
    text
}

fn mapping_line(machine: &Machine, node: &str, function: &VgpuFunction) -> String {
    let id = |name: &str| id(machine, function.address, name);
    let group = link_name(machine, function.address, "iommu_group");
    let group = group.map_or(String::new(), |group| format!("iommugroup={group},"));
    format!(
        "\tmap id={}:{},{group}node={node},path={},subsystem-id={}:{}\n",
        id("vendor"),
        id("device"),
        function.address,
        id("subsystem_vendor"),
        id("subsystem_device"),
    )
}

/// `qm set` lines for functions with a profile. `keep_known`: whether this Proxmox VE
/// knows `driver=keep`.
pub(crate) fn qm(gpus: &[Gpu], keep_known: Option<bool>) -> String {
    let mut text = String::from(
        "# One line gives a VM one function. Replace VMID, and hostpci0 where the VM has one.\n",
    );
    for gpu in gpus {
        let set = gpu.functions.iter().filter(|function| function.current != 0);
        for function in set {
            let (address, id) = (function.address, function.current);
            let name = gpu.name_of(id).map_or_else(|| format!("id {id}"), str::to_string);
            let property = match keep_known {
                // the VM needs the same type, which Proxmox VE sets at each start
                Some(false) => format!("mdev=nvidia-{id}"),
                _ => "driver=keep".into(),
            };
            let own = function.vms.first();
            let (vm, key, value) = match own {
                Some(of) => {
                    let value = of.hostpci.value_with(&property);
                    (of.vm.to_string(), of.hostpci.key.clone(), value)
                }
                None => ("VMID".into(), "hostpci0".into(), format!("{address},{property}")),
            };
            let words = ["qm", "set", &vm, &format!("--{key}"), &value].map(str::to_string);
            text.push_str(&format!("# {address}: {name}\n{}\n", shell_words(&words)));
        }
    }
    text
}
