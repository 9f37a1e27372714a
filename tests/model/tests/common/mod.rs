//! A machine with two GPUs, each one of four functions in a group, and short
//! names for its files.

#![allow(dead_code)]

use modelkernel::{ModelKernel, WriteOutcome};
use testbed::tree::{Entry, Tree};

pub const GPU: &str = "0000:2b:00.0";
pub const AUDIO: &str = "0000:2b:00.1";
pub const USB: &str = "0000:2b:00.2";
pub const UCSI: &str = "0000:2b:00.3";
pub const OTHER: &str = "0000:2c:00.0";
pub const BRIDGE: &str = "0000:00:03.1";
pub const GROUP: u32 = 28;
pub const PROBE: &str = "/sys/bus/pci/drivers_probe";

pub struct Bench(pub ModelKernel);

pub type Answer = Result<WriteOutcome, i32>;
pub const DONE: Answer = Ok(WriteOutcome::Done);

pub fn device(address: &str, name: &str) -> String {
    format!("/sys/bus/pci/devices/{address}/{name}")
}

pub fn driver(driver: &str, name: &str) -> String {
    format!("/sys/bus/pci/drivers/{driver}/{name}")
}

pub fn two_gpus() -> Bench {
    of("pve9-two-gpus")
}

pub fn of(machine: &str) -> Bench {
    Bench(ModelKernel::from_tree(&testbed::machine::tree(machine).unwrap()))
}

/// The two GPUs' machine with something changed beforehand.
pub fn changed(change: impl FnOnce(&mut Tree)) -> Bench {
    let mut tree = testbed::machine::tree("pve9-two-gpus").unwrap();
    change(&mut tree);
    Bench(ModelKernel::from_tree(&tree))
}

pub fn is_blocked(answer: Answer) -> bool {
    matches!(answer, Ok(WriteOutcome::Blocked(_)))
}

impl Bench {
    pub fn write(&self, path: &str, value: &str) -> Answer {
        self.0.write(path, value.as_bytes())
    }

    pub fn set(&self, address: &str, name: &str, value: &str) -> Answer {
        self.write(&device(address, name), value)
    }

    pub fn read(&self, address: &str, name: &str) -> String {
        String::from_utf8(self.0.read(&device(address, name)).unwrap()).unwrap()
    }

    pub fn bind(&self, name: &str, address: &str) -> Answer {
        self.write(&driver(name, "bind"), address)
    }

    pub fn unbind(&self, name: &str, address: &str) -> Answer {
        self.write(&driver(name, "unbind"), address)
    }

    pub fn driver_of(&self, address: &str) -> String {
        self.0.driver_of(address).unwrap_or_default()
    }

    pub fn has(&self, path: &str) -> bool {
        self.0.lookup(path, true).is_ok()
    }

    pub fn has_node(&self, path: &str) -> bool {
        matches!(self.0.to_tree().entries.get(path), Some(Entry::Node(..)))
    }

    /// From its driver to vfio-pci.
    pub fn to_vfio(&self, address: &str) {
        assert_eq!(self.set(address, "driver_override", "vfio-pci"), DONE);
        let old = self.driver_of(address);
        if !old.is_empty() {
            assert_eq!(self.unbind(&old, address), DONE);
        }
        assert_eq!(self.write(PROBE, address), DONE);
        assert_eq!(self.driver_of(address), "vfio-pci");
    }
}
