//! Whatever is written in whatever order, the machine stays one that a kernel
//! could show.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use modelkernel::Snapshot;
use proptest::prelude::*;
use testbed::tree::Entry;

#[derive(Clone, Debug)]
enum Step {
    Write(String, String),
    Hold(String),
    Release(String),
    VmTake(u32),
    VmDrop(u32),
    Module(&'static str, bool),
}

const PF: &str = "0000:01:00.0";
const DRIVERS: &[&str] = &["nvidia", "vfio-pci", "nouveau", "pci-pf-stub", "snd_hda_intel", "x"];

fn address() -> impl Strategy<Value = &'static str> {
    // both machines' cards, VFs that may be there, a bridge, nonsense
    prop::sample::select(vec![
        GPU,
        AUDIO,
        USB,
        OTHER,
        PF,
        "0000:01:00.4",
        "0000:41:00.0",
        "0000:c1:00.0",
        BRIDGE,
        "2b:00.0",
    ])
}

fn step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(DRIVERS);
    let group = || prop::sample::select(vec![28u32, 66, 104, 136, 137]);
    let write = |path: String, value: &str| Step::Write(path, value.to_string());
    prop_oneof![
        4 => (name(), address()).prop_map(move |(d, a)| write(driver(d, "bind"), a)),
        6 => (name(), address()).prop_map(move |(d, a)| write(driver(d, "unbind"), a)),
        4 => address().prop_map(move |a| write(PROBE.to_string(), a)),
        6 => (address(), prop::sample::select(vec!["vfio-pci", "nvidia", "pci-pf-stub", "\n"]))
            .prop_map(move |(a, d)| write(device(a, "driver_override"), d)),
        3 => (address(), prop::sample::select(vec!["0", "1", "2", "4", "99"]))
            .prop_map(move |(a, n)| write(device(a, "sriov_numvfs"), n)),
        1 => (name(), prop::sample::select(vec!["new_id", "remove_id"]))
            .prop_map(move |(d, f)| write(driver(d, f), "10de 1e07")),
        1 => address().prop_map(move |a| write(device(a, "sriov_drivers_autoprobe"), "0")),
        1 => prop::sample::select(vec![GPU, OTHER, PF]).prop_map(|a| Step::Hold(a.to_string())),
        2 => prop::sample::select(vec![GPU, OTHER, PF]).prop_map(|a| Step::Release(a.to_string())),
        1 => group().prop_map(Step::VmTake),
        2 => group().prop_map(Step::VmDrop),
        1 => (prop::sample::select(vec!["vfio_pci", "pci_pf_stub", "nouveau", "nvidia"]), any::<bool>())
            .prop_map(|(m, on)| Step::Module(m, on)),
    ]
}

fn take(k: &Bench, step: &Step) {
    let there = |address: &String| k.0.snapshot().functions.contains_key(&address.parse().unwrap());
    match step {
        Step::Write(path, value) => drop(k.write(path, value)),
        Step::Hold(address) if there(address) => k.0.hold(address, 1),
        Step::Release(address) if there(address) => k.0.release_holders(address),
        Step::Hold(_) | Step::Release(_) => {}
        Step::VmTake(group) => drop(k.0.vm_take(*group)),
        Step::VmDrop(group) => k.0.vm_drop(*group),
        Step::Module(name, true) => drop(k.0.load_module(name)),
        Step::Module(name, false) => drop(k.0.unload_module(name)),
    }
}

fn last(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or(link)
}

/// Holds the tree against the state.
fn check(k: &Bench, snapshot: &Snapshot) {
    let tree = k.0.to_tree();
    let link = |path: &str| match tree.entries.get(path) {
        Some(Entry::Link(target)) => Some(last(target).to_string()),
        _ => None,
    };
    // links of functions and of drivers agree, and each function has one driver
    let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in tree.entries.keys() {
        let Some(rest) = path.strip_prefix("/sys/bus/pci/drivers/") else { continue };
        if let Some((driver, name)) = rest.split_once('/') {
            if name.contains(':') {
                held.entry(name.to_string()).or_default().insert(driver.to_string());
            }
        }
    }
    let mut shown = BTreeSet::new();
    let mut groups: BTreeMap<u32, bool> = BTreeMap::new();
    for (address, function) in &snapshot.functions {
        let address = address.to_string();
        let Some(Entry::Link(dir)) = tree.entries.get(&format!("/sys/bus/pci/devices/{address}"))
        else {
            panic!("{address} is not shown");
        };
        let dir = dir.replacen("../../../", "/sys/", 1);
        shown.insert(dir.clone());
        let driver = link(&format!("{dir}/driver"));
        let holders = held.remove(&address).unwrap_or_default();
        assert_eq!(holders, driver.iter().cloned().collect(), "{address}");
        // a function may lack its links while ->remove blocks, never have others
        assert!(driver.is_none() || driver == function.driver, "{address}");
        assert!(snapshot.blocked > 0 || driver == function.driver, "{address}");
        let group = link(&format!("{dir}/iommu_group")).and_then(|id| id.parse().ok());
        assert_eq!(group, function.group, "{address}");
        let text = String::from_utf8(k.0.read(&format!("{dir}/driver_override")).unwrap()).unwrap();
        let expected = function.driver_override.as_deref().unwrap_or("(null)");
        assert_eq!(text.trim_end(), expected, "{address}");
        let vfio = function.driver.as_deref() == Some("vfio-pci");
        let nodes = k.0.lookup(&format!("{dir}/vfio-dev"), true).is_ok();
        assert_eq!(nodes, vfio, "{address}");
        if let Some(group) = function.group {
            *groups.entry(group).or_default() |= vfio;
            assert!(link(&format!("/sys/kernel/iommu_groups/{group}/devices/{address}")).is_some());
        }
        let gpu = format!("/proc/driver/nvidia/gpus/{address}/information");
        assert_eq!(k.has(&gpu), function.driver.as_deref() == Some("nvidia"), "{address}");
        for (index, vf) in function.vfs.iter().enumerate() {
            assert!(snapshot.functions.contains_key(vf), "{address} {vf}");
            assert_eq!(link(&format!("{dir}/virtfn{index}")), Some(vf.to_string()));
        }
    }
    assert!(held.is_empty(), "drivers hold functions that are not there: {held:?}");
    for (group, vfio) in groups {
        let node = tree.entries.contains_key(&format!("/dev/vfio/{group}"));
        assert_eq!(node, vfio, "group {group}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn links_nodes_and_drivers_agree_after_any_writes(
        machine in prop::sample::select(vec!["pve9-two-gpus", "a100-mig"]),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        // the rest of the tree costs time and says nothing
        let mut tree = testbed::machine::tree(machine).unwrap();
        let kept = ["/sys/bus/", "/sys/devices/", "/sys/kernel/", "/proc/driver/", "/dev/"];
        let modules = ["/sys/module/vfio_pci", "/sys/module/nvidia_drm"];
        tree.entries.retain(|path, _| {
            kept.iter().any(|k| path.starts_with(k)) || modules.contains(&path.as_str())
        });
        let k = Bench(modelkernel::ModelKernel::from_tree(&tree));
        for step in &steps {
            take(&k, step);
            check(&k, &k.0.snapshot());
        }
        // and when all that holds things up is gone, nothing is left waiting
        for address in [GPU, OTHER, PF] {
            take(&k, &Step::Release(address.to_string()));
        }
        for group in 0..200 {
            k.0.vm_drop(group);
        }
        let snapshot = k.0.snapshot();
        prop_assert_eq!(snapshot.blocked, 0);
        check(&k, &snapshot);
    }
}
