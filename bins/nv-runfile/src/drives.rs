//! `info --for`: does an installer drive the GPUs of this machine?

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::Machine;
use pci::{Depth, Function, NVIDIA};
use record::{Check, CheckStatus, Record, Severity};
use runfile::Chip;

use crate::content::Content;
use crate::installer::Installer;

/// The functions that are asked for.
pub struct Gpus {
    functions: Vec<Function>,
}

impl Gpus {
    /// Looks up what is named; `-` stands for records on standard input.
    pub fn of(machine: &Machine, names: &[String], say: &Say) -> Result<Gpus, Failure> {
        let mut asked: Vec<String> = Vec::new();
        for name in names {
            if name != "-" {
                asked.push(name.clone());
                continue;
            }
            for record in records_from_stdin(say, &["pci-device"], "pci-device records")? {
                if let Record::PciDevice(device) = record {
                    asked.push(device.address.to_string());
                }
            }
        }
        let system = pci::scan(machine, Depth::Functions).map_err(|error| {
            fail(Exit::System, error.to_string()).hint("is this a PCI machine?")
        })?;
        let mut functions: Vec<Function> = Vec::new();
        for name in &asked {
            let found = system.named(name);
            for address in found.map_err(|error| fail(Exit::Usage, error.to_string()))? {
                let known = functions.iter().any(|function| function.address == address);
                let function = system.functions.get(&address).filter(|f| f.is_gpu() && !known);
                functions.extend(function.cloned());
            }
        }
        if functions.is_empty() {
            return Err(fail(Exit::Usage, "none of the functions is a GPU"));
        }
        Ok(Gpus { functions })
    }

    /// Two comparisons for each GPU, one where it is not driven.
    pub fn checks(&self, installer: &Installer, content: &Content) -> Vec<Check> {
        self.functions.iter().flat_map(|function| checks(function, installer, content)).collect()
    }
}

fn checks(function: &Function, installer: &Installer, content: &Content) -> Vec<Check> {
    let version = installer.header.version().unwrap_or("of unknown version");
    let mut driver = Check {
        commands: Vec::new(),
        subject: function.address.to_string(),
        property: "driver".into(),
        expected: Some(version.into()),
        actual: None,
        status: CheckStatus::Unknown,
        severity: Severity::Warning,
        cause: None,
        reason: None,
        hint: None,
    };
    if function.vendor != Some(NVIDIA) {
        driver.actual = Some("a GPU of another vendor".into());
        (driver.status, driver.severity) = (CheckStatus::Drift, Severity::Error);
        return vec![driver];
    }
    let board = function.subsystem_vendor.zip(function.subsystem_device);
    let list = match &content.gpus {
        Some(Ok(list)) => list,
        Some(Err(why)) => {
            driver.hint = Some(format!("the installer's list of GPUs cannot be read: {why}"));
            return vec![driver];
        }
        None => {
            driver.hint = Some("the installer has no list of GPUs (before 450 none had)".into());
            return vec![driver];
        }
    };
    let Some(chip) = function.device.and_then(|device| list.find(device, board)) else {
        driver.hint = Some("it is not in the installer's list: newer than the driver?".into());
        return vec![driver];
    };
    if let Some(branch) = &chip.legacybranch {
        driver.actual = Some(branch.clone());
        (driver.status, driver.severity) = (CheckStatus::Drift, Severity::Error);
        driver.hint = Some(format!("the last drivers for it are those of branch {branch}"));
        return vec![driver];
    }
    driver.actual = Some(version.into());
    (driver.status, driver.severity) = (CheckStatus::Ok, Severity::Info);
    let modules = kernel_module(&driver.subject, chip, content);
    vec![driver, modules]
}

/// Which types of kernel modules drive it, against those that the installer has.
fn kernel_module(subject: &str, chip: &Chip, content: &Content) -> Check {
    let wanted = chip.modules().names();
    let has = content.manifest.as_ref().map(|manifest| manifest.module_types());
    let fits = has.as_ref().map(|has| wanted.iter().any(|name| has.contains(name)));
    let (status, severity) = match fits {
        Some(true) => (CheckStatus::Ok, Severity::Info),
        Some(false) => (CheckStatus::Drift, Severity::Error),
        None => (CheckStatus::Unknown, Severity::Warning),
    };
    let hint = match (fits, wanted) {
        (Some(true), ["open"]) => Some("it needs the open kernel modules".into()),
        (Some(true), ["proprietary"]) => Some("it needs the proprietary kernel modules".into()),
        (Some(false), _) => Some("this installer has no kernel modules for it".into()),
        _ => None,
    };
    Check {
        commands: Vec::new(),
        subject: subject.into(),
        property: "kernel_module".into(),
        expected: Some(wanted.join(" or ")),
        actual: has.map(|has| has.join(" or ")),
        status,
        severity,
        cause: None,
        reason: None,
        hint,
    }
}
