//! Against lspci (package pciutils): ids, class and driver of every function,
//! on this machine and on the recorded ones.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use testbed::{Bed, Ran, Tool, machine};

/// `lspci -Dnnmmk`-like facts of one function, numbers only.
type Facts = BTreeMap<String, String>;

fn lspci(extra: &[&str]) -> BTreeMap<String, Facts> {
    let output = Command::new("lspci")
        .args(["-D", "-n", "-vmmk"])
        .args(extra)
        .output()
        .expect("lspci is needed: install pciutils");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("\n\n")
        .filter(|block| !block.trim().is_empty())
        .map(|block| {
            let facts: Facts = block
                .lines()
                .filter_map(|line| line.split_once(":\t"))
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect();
            (facts["Slot"].clone(), facts)
        })
        .collect()
}

fn compare(ran: &Ran, lspci: &BTreeMap<String, Facts>) {
    assert_eq!(ran.records.len(), lspci.len());
    for record in &ran.records {
        let address = record["address"].as_str().unwrap();
        let facts = lspci.get(address).unwrap_or_else(|| panic!("lspci has no {address}"));
        let id =
            |key: &str| record[key].as_str().unwrap_or("").trim_start_matches("0x").to_string();
        assert_eq!(id("vendor"), facts["Vendor"], "{address}");
        assert_eq!(id("device"), facts["Device"], "{address}");
        assert_eq!(id("class")[..4], facts["Class"], "{address}");
        assert_eq!(record["driver"].as_str(), facts.get("Driver").map(String::as_str), "{address}");
        // lspci leaves out a revision of zero and the subsystem of a bridge
        let revision = facts.get("Rev").map_or("00", String::as_str);
        assert_eq!(id("revision"), revision, "{address}");
        if let (Some(vendor), Some(device)) = (facts.get("SVendor"), facts.get("SDevice")) {
            assert_eq!(&id("subsystem_vendor"), vendor, "{address}");
            assert_eq!(&id("subsystem_device"), device, "{address}");
        }
        let group = facts.get("IOMMUGroup").map(|g| g.parse::<u64>().unwrap());
        assert_eq!(record["group"], group.map_or(Value::Null, Value::from), "{address}");
    }
}

#[test]
fn this_machine_is_seen_as_lspci_sees_it() {
    let ran = Tool::new("gpu-iommu-groups").arg("--all").run().expect(0);
    compare(&ran, &lspci(&[]));
}

#[test]
fn recorded_machines_are_seen_as_lspci_sees_them() {
    for name in machine::names() {
        let bed = Bed::new(&name);
        let ran = bed.tool("gpu-iommu-groups").arg("--all").run().expect(0);
        let path = format!("sysfs.path={}", bed.at("/sys/bus/pci").display());
        compare(&ran, &lspci(&["-A", "linux-sysfs", "-O", &path]));
    }
}
