//! What NVIDIA's module said in the kernel log since it was loaded: why it does
//! not take a GPU.

use host::Machine;

/// Why the module does not drive a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedGpu {
    /// The GPU needs the open kernel modules: its PCI address.
    NeedsOpen(String),
    /// The GPU is driven by an older branch: its name, and the branch.
    Legacy {
        /// `NVIDIA GeForce GT 1030`
        gpu: String,
        /// `580`
        branch: String,
    },
    /// Another driver has the GPU: its address, and the driver as the log names it.
    Bound {
        /// The PCI address.
        gpu: String,
        /// `nouveau`, `NovaCore`
        driver: String,
    },
}

/// Reads this boot's kernel log. Empty where it may not be read.
pub fn read(machine: &Machine) -> Vec<RefusedGpu> {
    machine.kernel_log().map_or_else(|_| Vec::new(), |log| refused(&log))
}

/// The messages since the module was loaded last. Each is several lines, which
/// all begin with `NVRM:` (nv-pci.c, nv.c of NVIDIA's open kernel modules).
fn refused(log: &str) -> Vec<RefusedGpu> {
    let start = log.rfind("NVRM: loading NVIDIA").unwrap_or(0);
    let lines = log[start..].lines().filter_map(|line| Some(line.split_once("NVRM:")?.1.trim()));
    let mut found = Vec::new();
    let mut before = String::new();
    for line in lines {
        let two = format!("{before} {line}");
        let one = needs_open(&two).or_else(|| legacy(&two)).or_else(|| bound(&two));
        if let Some(one) = one {
            if !found.contains(&one) {
                found.push(one);
            }
        }
        before = line.to_string();
    }
    found
}

/// `The NVIDIA GPU 0000:02:00.0 (PCI ID: 10de:2c58)` / `installed in this system
/// requires use of the NVIDIA open kernel modules.`
fn needs_open(text: &str) -> Option<RefusedGpu> {
    let (before, _) = text.split_once("requires use of the NVIDIA open kernel modules")?;
    let (_, rest) = before.rsplit_once("The NVIDIA GPU ")?;
    Some(RefusedGpu::NeedsOpen(rest.split_ascii_whitespace().next()?.to_string()))
}

/// `The NVIDIA GeForce GT 1030 GPU installed in this system is` / `supported
/// through the NVIDIA 580.xx Legacy drivers. Please`
fn legacy(text: &str) -> Option<RefusedGpu> {
    let (before, rest) = text.split_once("supported through the NVIDIA ")?;
    let branch = rest.split_once(" Legacy drivers")?.0.split('.').next()?;
    let (_, gpu) = before.rsplit_once("The ")?;
    let gpu = gpu.split_once(" GPU installed")?.0;
    let plain = branch.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| RefusedGpu::Legacy { gpu: gpu.to_string(), branch: branch.to_string() })
}

/// `GPU 0000:01:00.0 is already bound to nouveau.`
fn bound(text: &str) -> Option<RefusedGpu> {
    let (before, rest) = text.split_once(" is already bound to ")?;
    let gpu = before.split_ascii_whitespace().next_back()?;
    let driver = rest.split_ascii_whitespace().next()?.trim_end_matches('.');
    // a GPU for VMs is on vfio-pci by intent
    (driver != "vfio-pci")
        .then(|| RefusedGpu::Bound { gpu: gpu.to_string(), driver: driver.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The logs are those of public reports: an RTX 5090 Laptop on 580.105.08, a
    /// GT 1030 on 610.43.02; and of the module's own format strings.
    #[test]
    fn the_modules_own_words_name_the_gpu_and_the_reason() {
        let log = "[    5.1] NVRM: The NVIDIA GPU 0000:09:00.0 (PCI ID: 10de:2c58)\n\
            [    5.1] NVRM: installed in this system requires use of the NVIDIA open kernel modules.\n\
            [    5.4] NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.105.08  Wed Oct 29 23:15:11 UTC 2025\n\
            [    5.5] NVRM: The NVIDIA GPU 0000:02:00.0 (PCI ID: 10de:2c58)\n                   \
            NVRM: installed in this system requires use of the NVIDIA open kernel modules.\n\
            [    5.5] NVRM: GPU 0000:02:00.0: RmInitAdapter failed! (0x22:0x56:884)\n\
            [    5.6] NVRM: The NVIDIA GeForce GT 1030 GPU installed in this system is\n\
            [    5.6] NVRM:  supported through the NVIDIA 580.xx Legacy drivers. Please\n\
            [    5.6] NVRM:  visit http://www.nvidia.com/object/unix.html for more\n\
            [    5.7] NVRM: GPU 0000:03:00.0 is already bound to vfio-pci.\n\
            [    5.7] NVRM: GPU 0000:04:00.0 is already bound to nouveau.\n\
            [    8.4] NVRM: The NVIDIA GPU 0000:02:00.0 (PCI ID: 10de:2c58)\n\
            [    8.4] NVRM: installed in this system requires use of the NVIDIA open kernel modules.\n";
        let legacy =
            RefusedGpu::Legacy { gpu: "NVIDIA GeForce GT 1030".into(), branch: "580".into() };
        let bound = RefusedGpu::Bound { gpu: "0000:04:00.0".into(), driver: "nouveau".into() };
        assert_eq!(refused(log), [RefusedGpu::NeedsOpen("0000:02:00.0".into()), legacy, bound]);
        assert_eq!(refused("NVRM: No NVIDIA GPU found.\n"), []);
    }
}
