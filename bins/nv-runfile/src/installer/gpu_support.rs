//! `info --for`: whether an installer supports GPUs of this host.

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::Machine;
use pci::{Depth, Function, NVIDIA};
use record::{Check, CheckStatus, Record, Severity};
use runfile::Chip;

use crate::installer::Installer;
use crate::installer::content::Content;

/// The GPUs that are asked about.
pub struct SelectedGpus {
    functions: Vec<Function>,
}

impl SelectedGpus {
    /// Looks up functions by name; `-` means the records on standard input.
    pub fn find(machine: &Machine, names: &[String], say: &Say) -> Result<SelectedGpus, Failure> {
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
            fail(Exit::System, error.to_string()).hint("this host seems to have no PCI bus")
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
        Ok(SelectedGpus { functions })
    }

    /// Two comparisons for each GPU, or one if the GPU is not supported.
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
            driver.reason = Some(format!("the installer's list of GPUs cannot be read: {why}"));
            return vec![driver];
        }
        None => {
            driver.reason =
                Some("the installer has no list of GPUs (drivers before 450 have none)".into());
            return vec![driver];
        }
    };
    let Some(chip) = function.device.and_then(|device| list.find(device, board)) else {
        driver.reason = Some("the GPU is not in the installer's list".into());
        driver.hint = Some("use a newer driver".into());
        return vec![driver];
    };
    if let Some(branch) = &chip.legacybranch {
        driver.actual = Some(branch.clone());
        (driver.status, driver.severity) = (CheckStatus::Drift, Severity::Error);
        driver.reason = Some(format!("branch {branch} is the last that supports this GPU"));
        let branch = branch.split('.').next().unwrap_or_default();
        driver.commands = vec![advice::nv_runfile::fetch(branch)];
        return vec![driver];
    }
    driver.actual = Some(version.into());
    (driver.status, driver.severity) = (CheckStatus::Ok, Severity::Info);
    let modules = kernel_module(&driver.subject, chip, content);
    vec![driver, modules]
}

/// The types of kernel modules that support a GPU, compared with those that the
/// installer has.
fn kernel_module(subject: &str, chip: &Chip, content: &Content) -> Check {
    let needed = chip.modules().names();
    let has = content.manifest.as_ref().map(|manifest| manifest.module_types());
    let fits = has.as_ref().map(|has| needed.iter().any(|name| has.contains(name)));
    let (status, severity) = match fits {
        Some(true) => (CheckStatus::Ok, Severity::Info),
        Some(false) => (CheckStatus::Drift, Severity::Error),
        None => (CheckStatus::Unknown, Severity::Warning),
    };
    let reason = match (fits, needed) {
        (Some(true), ["open"]) => Some("the GPU needs the open kernel modules".into()),
        (Some(true), ["proprietary"]) => {
            Some("the GPU needs the proprietary kernel modules".into())
        }
        (Some(false), _) => Some("the installer has no kernel modules for this GPU".into()),
        _ => None,
    };
    Check {
        commands: Vec::new(),
        subject: subject.into(),
        property: "kernel_module".into(),
        expected: Some(needed.join(" or ")),
        actual: has.map(|has| has.join(" or ")),
        status,
        severity,
        cause: None,
        reason,
        hint: None,
    }
}
