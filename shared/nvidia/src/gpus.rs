//! The GPUs that NVIDIA's driver owns, from /proc/driver/nvidia/gpus.

use std::collections::BTreeMap;
use std::time::Duration;

use host::Machine;
use host::child_read::read_in_child;
use record::{Address, NvidiaGpu};

use crate::version::is_version;

const GPUS: &str = "/proc/driver/nvidia/gpus";

/// The driver answers at once, except in the middle of a removal.
const DEADLINE: Duration = Duration::from_secs(3);

/// One GPU of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its address.
    pub address: Address,
    /// Minor of /dev/nvidia<minor>; very old drivers do not say it.
    pub minor: Option<u32>,
    /// `GPU-` and a UUID; unknown until the GPU was first used.
    pub uuid: Option<String>,
    /// Product name.
    pub model: Option<String>,
}

impl GpuInfo {
    /// Parses its `information`: `Model: \t\t NVIDIA GeForce RTX 3090`, `GPU UUID: \t GPU-...`,
    /// `Device Minor: \t 0` (nv-procfs.c).
    pub fn parse(address: Address, text: &str) -> GpuInfo {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .map(str::to_string)
        };
        GpuInfo {
            address,
            minor: field("Device Minor").and_then(|n| n.parse().ok()),
            uuid: field("GPU UUID").filter(|uuid| is_uuid(uuid)),
            model: field("Model").filter(|model| model != "Unknown"),
        }
    }

    /// The same, as in records.
    pub fn to_record(&self) -> NvidiaGpu {
        NvidiaGpu { minor: self.minor, uuid: self.uuid.clone(), model: self.model.clone() }
    }
}

/// All GPUs of the driver by address, and warnings, for people, about what could
/// not be read. Empty where the driver is not loaded.
pub fn read_gpus(machine: &Machine) -> (BTreeMap<Address, GpuInfo>, Vec<String>) {
    let mut warnings = Vec::new();
    let addresses: Vec<Address> = match machine.list(GPUS) {
        // the driver writes lower case and four-digit domains as sysfs does
        Ok(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
        Err(error) => {
            warnings.push(error.to_string());
            Vec::new()
        }
    };
    if addresses.is_empty() {
        return (BTreeMap::new(), warnings);
    }
    let answers = read_in_child(addresses.len(), 1, DEADLINE, &|at, pipe| {
        pipe.put(1, || {
            let path = format!("{GPUS}/{}/information", addresses[at]);
            machine.attr(&path).map(String::into_bytes).map_err(|error| error.source)
        });
    });
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            warnings.push(format!("cannot start a reader: {error}"));
            return (BTreeMap::new(), warnings);
        }
    };
    let mut gpus = BTreeMap::new();
    for (address, answer) in addresses.iter().zip(answers) {
        let text = answer.bytes(1).map(|b| String::from_utf8_lossy(b).into_owned());
        if text.is_none() {
            let how = if answer.stuck_at.is_some() { "blocks in the kernel" } else { "failed" };
            warnings.push(format!("{address}: reading {GPUS}/{address}/information {how}"));
        }
        gpus.insert(*address, GpuInfo::parse(*address, &text.unwrap_or_default()));
    }
    (gpus, warnings)
}

/// Until the GPU is first initialised the driver prints `GPU-????????-...`.
fn is_uuid(text: &str) -> bool {
    text.strip_prefix("GPU-").is_some_and(|id| {
        id.len() == 36
            && id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Version of the loaded kernel module, `None` where none is loaded.
///
/// /sys/module has the bare version. The fallback, /proc/driver/nvidia/version,
/// has a sentence with one of two wordings ("Kernel Module  V", "Open Kernel
/// Module for x86_64  V").
pub fn module_version(machine: &Machine) -> Option<String> {
    let loaded = machine.attr("/sys/module/nvidia/version").unwrap_or_default();
    if is_version(loaded.trim()) {
        return Some(loaded.trim().to_string());
    }
    version_of_line(&machine.attr("/proc/driver/nvidia/version").ok()?)
}

fn version_of_line(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:"))?;
    let (_, rest) = line.split_once("Kernel Module")?;
    let rest = match rest.strip_prefix(" for ") {
        Some(rest) => rest.split_once(' ')?.1,
        None => rest,
    };
    let word = rest.split_ascii_whitespace().next()?;
    is_version(word).then(|| word.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_wordings_of_the_version_are_read() {
        for (line, version) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025",
                Some("550.163.01"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (a@b)",
                Some("580.95.05"),
            ),
            (
                "NVRM version: NVIDIA UNIX aarch64 Kernel Module  550.120  Fri Sep 13",
                Some("550.120"),
            ),
            ("GCC version:  gcc version 12.2.0", None),
            ("NVRM version: NVIDIA UNIX x86_64 Kernel Module", None),
        ] {
            assert_eq!(version_of_line(line).as_deref(), version, "{line}");
        }
    }

    #[test]
    fn what_the_driver_does_not_know_yet_is_unknown() {
        let gpu = GpuInfo::parse(
            "41:00.0".parse().unwrap(),
            "Model: \t\t Unknown\nIRQ:   \t\t 101\nGPU UUID: \t GPU-????????-????-????-????-????????????\n\
             Device Minor: \t 3\n",
        );
        assert_eq!((gpu.minor, gpu.uuid, gpu.model), (Some(3), None, None));
    }
}
