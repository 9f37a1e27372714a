//! NVIDIA's own programs: sriov-manage enables virtual functions, nvidia-smi
//! switches heterogeneous mode and knows the names of all profiles.

use std::time::Duration;

use host::command::Ran;
use host::{FileError, KernelFiles, Machine, Written};
use nvidia::VgpuOffer;
use record::Address;

use crate::sysfs::{function_path, link_name, virtual_functions};

/// Where NVIDIA's vGPU host driver installs it.
pub const SRIOV_MANAGE: &str = "/usr/lib/nvidia/sriov-manage";
const NVIDIA_SMI: [&str; 2] = ["/usr/bin/nvidia-smi", "/usr/local/bin/nvidia-smi"];

/// Why a step that needs a program is skipped.
pub const NO_COMMANDS: &str = "no command is run with --root";

/// How long sriov-manage may run.
const SRIOV_DEADLINE: Duration = Duration::from_secs(120);

/// Runs programs; the tests have an implementation of their own.
pub trait RunProgram {
    /// As [`Machine::run`]: `None` where no program is run.
    fn run(&self, argv: &[&str], deadline: Duration) -> Result<Option<Ran>, FileError>;

    /// Whether it runs any.
    fn runs(&self) -> bool {
        true
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl RunProgram for Machine {
    fn run(&self, argv: &[&str], deadline: Duration) -> Result<Option<Ran>, FileError> {
        Machine::run(self, argv, deadline)
    }

    fn runs(&self) -> bool {
        self.is_host()
    }
}

/// A profile as nvidia-smi describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportedProfile {
    pub offer: VgpuOffer,
    /// How many of it an empty GPU takes.
    pub max_instances: Option<u32>,
}

/// NVIDIA's programs on one host.
pub struct NvidiaPrograms<'a> {
    /// sysfs, and which programs are installed.
    pub files: &'a dyn KernelFiles,
    pub runner: &'a dyn RunProgram,
    /// Whether a signal has arrived.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl NvidiaPrograms<'_> {
    /// Enables all virtual functions of a GPU and checks the result:
    /// sriov-manage exits with 0 on GPUs for which it does nothing, and fails
    /// while any process has the GPU open.
    pub fn enable_vfs(&self, pf: Address, total: u32) -> Result<(), String> {
        let why = match self.files.exists(SRIOV_MANAGE) {
            true => self.sriov_manage_enable(pf)?,
            false => {
                self.write_numvfs(pf, total)?;
                "the kernel made none".into()
            }
        };
        // the driver makes the files of a VF a moment after the VF
        for _ in 0..50 {
            let vfs = virtual_functions(self.files, pf);
            if !vfs.is_empty() && vfs.iter().all(|(_, vf)| self.has_vgpu_files(*vf)) {
                return Ok(());
            }
            if vfs.is_empty() || (self.interrupted)() {
                break;
            }
            self.runner.sleep(Duration::from_millis(200));
        }
        if virtual_functions(self.files, pf).is_empty() {
            let driver = link_name(self.files, pf, "driver");
            let left = if driver.is_none() { "; the GPU is left without a driver" } else { "" };
            return Err(format!("the GPU still has no virtual functions: {why}{left}"));
        }
        Err("the virtual functions have no vGPU files: is this the vGPU host driver?".into())
    }

    /// Runs sriov-manage once: it unbinds the GPU before it fails, so that a second run
    /// finds less than the first. Gives what it did.
    fn sriov_manage_enable(&self, pf: Address) -> Result<String, String> {
        if (self.interrupted)() {
            return Err("interrupted".into());
        }
        let ran = self.run(&[SRIOV_MANAGE, "-e", &pf.to_string()], SRIOV_DEADLINE)?;
        Ok(match (ran.success(), last_words(&ran)) {
            (true, None) => "sriov-manage did nothing".into(),
            // it ends with status 0 also where a write of it failed
            (true, Some(words)) => format!("sriov-manage: exit status 0: {words}"),
            (false, _) => format!("sriov-manage: {}", ran.reason()),
        })
    }

    fn has_vgpu_files(&self, vf: Address) -> bool {
        let exists = |name: &str| self.files.exists(&function_path(vf, name));
        exists("nvidia/current_vgpu_type") || exists("mdev_supported_types")
    }

    fn write_numvfs(&self, pf: Address, count: u32) -> Result<(), String> {
        let path = function_path(pf, "sriov_numvfs");
        match self.files.write_attr_within(&path, &count.to_string(), Duration::from_secs(60)) {
            Ok(Written::Done) => Ok(()),
            Ok(Written::TimedOut { .. }) => {
                Err("the write to sriov_numvfs did not finish within 60 s".into())
            }
            Err(error) => Err(format!(
                "{error}: the nvidia driver refuses this write; the vGPU host driver installs \
                 {SRIOV_MANAGE}, which does not exist on this host"
            )),
        }
    }

    /// Rolls [`NvidiaPrograms::enable_vfs`] back.
    pub fn disable_vfs(&self, pf: Address) -> Result<(), String> {
        if !self.files.exists(SRIOV_MANAGE) {
            return self.write_numvfs(pf, 0);
        }
        let ran = self.run(&[SRIOV_MANAGE, "-d", &pf.to_string()], SRIOV_DEADLINE)?;
        if ran.success() { Ok(()) } else { Err(format!("sriov-manage: {}", ran.reason())) }
    }

    /// Whether programs are run at all: not with `--root`.
    pub fn may_run(&self) -> bool {
        self.runner.runs()
    }

    fn run(&self, argv: &[&str], deadline: Duration) -> Result<Ran, String> {
        let ran = self.runner.run(argv, deadline).map_err(|error| error.to_string())?;
        ran.ok_or_else(|| NO_COMMANDS.into())
    }

    /// Runs nvidia-smi. Errors: it is not installed, or cannot be run.
    pub fn nvidia_smi(&self, arguments: &[&str]) -> Result<Ran, String> {
        let program = NVIDIA_SMI.iter().find(|path| self.files.exists(path));
        let program = program.ok_or("nvidia-smi is not installed")?;
        let argv: Vec<&str> = [*program].into_iter().chain(arguments.iter().copied()).collect();
        self.run(&argv, Duration::from_secs(30))
    }

    /// Whether a GPU takes different framebuffer sizes at once; `None`: unknown.
    pub fn heterogeneous(&self, pf: Address) -> Option<bool> {
        let ran = self.nvidia_smi(&["-q", "-i", &pf.to_string()]).ok().filter(Ran::success)?;
        heterogeneous_of(&String::from_utf8_lossy(&ran.stdout))
    }

    /// Switches heterogeneous mode and reads it back. It can be switched after
    /// the virtual functions are enabled and before a profile is set.
    pub fn set_heterogeneous(&self, pf: Address, on: bool) -> Result<(), String> {
        let value = if on { "1" } else { "0" };
        let ran = self
            .nvidia_smi(&["vgpu", "-shm", value, "-i", &pf.to_string()])
            .map_err(|why| format!("cannot switch heterogeneous mode: {why}"))?;
        if !ran.success() {
            // nvidia-smi prints its errors on standard output
            let stdout = String::from_utf8_lossy(&ran.stdout);
            let message = match stdout.trim().lines().next_back() {
                Some(line) if !line.is_empty() => format!(" ({line})"),
                _ => String::new(),
            };
            return Err(format!("nvidia-smi vgpu -shm {value}: {}{message}", ran.reason()));
        }
        match self.heterogeneous(pf) {
            Some(now) if now == on => Ok(()),
            _ => Err("nvidia-smi -q does not show the new heterogeneous mode".into()),
        }
    }

    /// All profiles of a GPU, also of one that is too full to list them.
    pub fn supported(&self, pf: Address) -> Vec<SupportedProfile> {
        match self.nvidia_smi(&["vgpu", "-s", "-v", "-i", &pf.to_string()]) {
            Ok(ran) if ran.success() => supported_of(&String::from_utf8_lossy(&ran.stdout)),
            _ => Vec::new(),
        }
    }
}

/// The last line that a program printed, standard error first.
pub fn last_words(ran: &Ran) -> Option<String> {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        line.map(str::to_string)
    };
    last(&ran.stderr).or_else(|| last(&ran.stdout))
}

/// The value of a line `Key   : value` of nvidia-smi. The whole key is compared,
/// because some begin like others.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (name, value) = line.split_once(':')?;
    (name.trim() == key).then(|| value.trim())
}

fn heterogeneous_of(text: &str) -> Option<bool> {
    match text.lines().find_map(|line| field(line, "vGPU Heterogeneous Mode"))? {
        "Enabled" => Some(true),
        "Disabled" => Some(false),
        _ => None,
    }
}

/// `vGPU Type ID : 0x479`, below it `Name : NVIDIA L40S-1B`. Hexadecimal here,
/// decimal in sysfs.
fn supported_of(text: &str) -> Vec<SupportedProfile> {
    let mut profiles: Vec<SupportedProfile> = Vec::new();
    let mut id = None;
    for line in text.lines() {
        if let Some(value) = field(line, "vGPU Type ID") {
            id = value.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        } else if let (Some(name), Some(known)) = (field(line, "Name"), id) {
            let offer = VgpuOffer { id: known, name: name.to_string() };
            profiles.push(SupportedProfile { offer, max_instances: None });
            id = None;
        } else if let (Some(most), Some(of)) = (field(line, "Max Instances"), profiles.last_mut()) {
            of.max_instances = of.max_instances.or(most.parse().ok());
        }
    }
    profiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_nvidia_smi_is_read() {
        let text = "    GPU Virtualization Mode\n        Host VGPU Mode                    : SR-IOV\n        \
            Heterogenous Multi-vGPU : Supported\n        vGPU Heterogeneous Mode           : Enabled\n";
        assert_eq!(heterogeneous_of(text), Some(true));
        assert_eq!(heterogeneous_of(&text.replace("Enabled", "Disabled")), Some(false));
        assert_eq!(heterogeneous_of(&text.replace("Enabled", "N/A")), None);
        assert_eq!(heterogeneous_of(""), None);
        let text = "GPU 00000000:3D:00.0\n    vGPU Type ID                      : 0x479\n        \
            Name                          : NVIDIA L40S-1B\n        Class                         : NVS\n        \
            GPU Instance Profile ID       : N/A\n    vGPU Type ID                      : 0x483\n        \
            Name                          : NVIDIA L40S-24Q\n        Max Instances                 : 2\n";
        let found = supported_of(text);
        assert_eq!(found.len(), 2);
        let second = &found[1].offer;
        assert_eq!((second.id, second.name.as_str()), (1155, "NVIDIA L40S-24Q"));
        assert_eq!((found[0].max_instances, found[1].max_instances), (None, Some(2)));
    }
}
