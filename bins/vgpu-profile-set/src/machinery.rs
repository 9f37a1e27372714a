//! What takes NVIDIA's own programs: switching virtual functions on
//! (sriov-manage), heterogeneous mode and names of profiles (nvidia-smi).

use std::time::Duration;

use host::command::Ran;
use host::{FileError, KernelFiles, Machine, Written};
use nvidia::VgpuOffer;
use record::Address;

use crate::observe::{DEVICES, virtual_functions};

/// Where NVIDIA's vGPU host driver installs it.
pub const SRIOV_MANAGE: &str = "/usr/lib/nvidia/sriov-manage";
const NVIDIA_SMI: [&str; 2] = ["/usr/bin/nvidia-smi", "/usr/local/bin/nvidia-smi"];

/// Runs programs; the tests put another in its place.
pub trait Programs {
    /// As [`Machine::run`]: `None` where no program is run.
    fn run(&self, argv: &[&str], deadline: Duration) -> Result<Option<Ran>, FileError>;
    /// Waits.
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl Programs for Machine {
    fn run(&self, argv: &[&str], deadline: Duration) -> Result<Option<Ran>, FileError> {
        Machine::run(self, argv, deadline)
    }
}

/// The machine's files and programs.
pub struct Machinery<'a> {
    /// sysfs and what programs are installed.
    pub files: &'a dyn KernelFiles,
    /// Runs them.
    pub programs: &'a dyn Programs,
    /// A signal came in.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Machinery<'_> {
    /// Switches a GPU's virtual functions on, all of them, and looks whether
    /// they are there: sriov-manage exits with 0 on GPUs that it does nothing
    /// for, and fails for a moment while anybody has the GPU open.
    pub fn enable_vfs(&self, pf: Address, total: u32) -> Result<(), String> {
        let mut why = String::new();
        if !self.files.exists(SRIOV_MANAGE) {
            self.plain(pf, total)?;
        } else {
            for attempt in 0..5 {
                if attempt > 0 {
                    self.programs.sleep(Duration::from_secs(1));
                }
                if (self.interrupted)() {
                    return Err("interrupted".into());
                }
                let argv = [SRIOV_MANAGE, "-e", &pf.to_string()];
                match self.programs.run(&argv, Duration::from_secs(120)) {
                    Err(error) => return Err(error.to_string()),
                    Ok(None) => return Err("no command is run below --root".into()),
                    Ok(Some(ran)) if ran.success() => why = "sriov-manage did nothing".into(),
                    Ok(Some(ran)) => why = format!("sriov-manage: {}", ran.reason()),
                }
                if !virtual_functions(self.files, pf).is_empty() {
                    break;
                }
            }
        }
        // the driver makes a VF's files a moment after the VF
        for _ in 0..50 {
            let vfs = virtual_functions(self.files, pf);
            if !vfs.is_empty() && vfs.iter().all(|(_, vf)| self.ready(*vf)) {
                return Ok(());
            }
            if vfs.is_empty() || (self.interrupted)() {
                break;
            }
            self.programs.sleep(Duration::from_millis(200));
        }
        if virtual_functions(self.files, pf).is_empty() {
            return Err(format!("no virtual function is there afterwards: {why}"));
        }
        Err("its virtual functions have no vGPU files: is this the vGPU host driver?".into())
    }

    fn ready(&self, vf: Address) -> bool {
        let there = |name: &str| self.files.exists(&format!("{DEVICES}/{vf}/{name}"));
        there("nvidia/current_vgpu_type") || there("mdev_supported_types")
    }

    fn plain(&self, pf: Address, count: u32) -> Result<(), String> {
        let path = format!("{DEVICES}/{pf}/sriov_numvfs");
        match self.files.write_attr_within(&path, &count.to_string(), Duration::from_secs(60)) {
            Ok(Written::Done) => Ok(()),
            Ok(Written::TimedOut { .. }) => {
                Err("sriov_numvfs did not come back within 60 s".into())
            }
            Err(error) => Err(format!(
                "{error}: nvidia takes no plain write; its vGPU host driver brings {SRIOV_MANAGE}, \
                 which is not here"
            )),
        }
    }

    /// Takes [`Machinery::enable_vfs`] back.
    pub fn disable_vfs(&self, pf: Address) -> Result<(), String> {
        if !self.files.exists(SRIOV_MANAGE) {
            return self.plain(pf, 0);
        }
        let argv = [SRIOV_MANAGE, "-d", &pf.to_string()];
        match self.programs.run(&argv, Duration::from_secs(120)) {
            Ok(Some(ran)) if ran.success() => Ok(()),
            Ok(Some(ran)) => Err(format!("sriov-manage: {}", ran.reason())),
            Ok(None) => Err("no command is run below --root".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn smi(&self, arguments: &[&str]) -> Result<Ran, String> {
        let program = NVIDIA_SMI.iter().find(|path| self.files.exists(path));
        let program = program.ok_or("nvidia-smi is not installed")?;
        let argv: Vec<&str> = [*program].into_iter().chain(arguments.iter().copied()).collect();
        match self.programs.run(&argv, Duration::from_secs(30)) {
            Ok(Some(ran)) => Ok(ran),
            Ok(None) => Err("no command is run below --root".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether a GPU takes different sizes at once; `None`: nobody says.
    pub fn heterogeneous(&self, pf: Address) -> Option<bool> {
        let ran = self.smi(&["-q", "-i", &pf.to_string()]).ok().filter(Ran::success)?;
        heterogeneous_of(&String::from_utf8_lossy(&ran.stdout))
    }

    /// Switches heterogeneous mode and looks whether it is so: to be done after
    /// the virtual functions are on and before any profile is set.
    pub fn set_heterogeneous(&self, pf: Address, on: bool) -> Result<(), String> {
        let value = if on { "1" } else { "0" };
        let ran = self
            .smi(&["vgpu", "-shm", value, "-i", &pf.to_string()])
            .map_err(|why| format!("heterogeneous mode cannot be switched: {why}"))?;
        if !ran.success() {
            // nvidia-smi speaks on standard output
            let said =
                String::from_utf8_lossy(&ran.stdout).trim().lines().next_back().map(str::to_string);
            let said = said
                .filter(|said| !said.is_empty())
                .map_or(String::new(), |said| format!(" ({said})"));
            return Err(format!("nvidia-smi vgpu -shm {value}: {}{said}", ran.reason()));
        }
        match self.heterogeneous(pf) {
            Some(now) if now == on => Ok(()),
            _ => Err("heterogeneous mode does not read back from nvidia-smi -q".into()),
        }
    }

    /// All profiles of a GPU, also of one that is too full to list them.
    pub fn supported(&self, pf: Address) -> Vec<VgpuOffer> {
        match self.smi(&["vgpu", "-s", "-v", "-i", &pf.to_string()]) {
            Ok(ran) if ran.success() => supported_of(&String::from_utf8_lossy(&ran.stdout)),
            _ => Vec::new(),
        }
    }
}

/// A field `Key   : value` of nvidia-smi's: the key whole, since one may begin
/// like another.
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
fn supported_of(text: &str) -> Vec<VgpuOffer> {
    let mut offers = Vec::new();
    let mut id = None;
    for line in text.lines() {
        if let Some(value) = field(line, "vGPU Type ID") {
            id = value.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        } else if let (Some(name), Some(known)) = (field(line, "Name"), id) {
            offers.push(VgpuOffer { id: known, name: name.to_string() });
            id = None;
        }
    }
    offers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvidia_smis_words_are_read() {
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
        assert_eq!((found[1].id, found[1].name.as_str()), (1155, "NVIDIA L40S-24Q"));
    }
}
