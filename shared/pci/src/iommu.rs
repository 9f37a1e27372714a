//! Whether there is an IOMMU, and what to switch on where there is none.

use host::Machine;
use record::ViabilityRule;

/// What the machine says of its IOMMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iommu {
    /// Names of the units (`dmar0`, `ivhd0`, ...). Empty means off: this, not
    /// the kernel command line, is the truth.
    pub units: Vec<String>,
    /// An ACS override is active on the command line: groups prove nothing.
    pub acs_override: bool,
    /// VFIO may be used without an IOMMU; groups named vfio-noiommu protect nothing.
    pub noiommu: bool,
    /// Kernel release.
    pub release: Option<String>,
    /// How the kernel decides whether a group may be handed out.
    pub rule: ViabilityRule,
    cmdline: String,
    cpu: Cpu,
    intel_default_on: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cpu {
    Intel,
    Amd,
    Other,
}

impl Iommu {
    /// Reads it.
    pub fn read(machine: &Machine) -> Iommu {
        let units = machine.list("/sys/class/iommu").unwrap_or_default();
        let cmdline = machine.attr("/proc/cmdline").unwrap_or_default();
        let release = machine.kernel_release();
        let noiommu = machine
            .attr("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
            .is_ok_and(|value| matches!(value.trim(), "Y" | "y" | "1"));
        let mut iommu = Iommu {
            units,
            acs_override: acs_override(&cmdline),
            noiommu,
            rule: viability_rule(release.as_deref()),
            release,
            cmdline,
            cpu: Cpu::Other,
            intel_default_on: None,
        };
        if !iommu.is_on() {
            // only then do we have to explain
            iommu.cpu = cpu(machine);
            iommu.intel_default_on = iommu.kernel_default(machine);
        }
        iommu
    }

    /// Whether devices are translated at all.
    pub fn is_on(&self) -> bool {
        !self.units.is_empty()
    }

    /// Whether the running kernel switches Intel's IOMMU on by itself, from its
    /// configuration, else from its release (Proxmox VE: since 6.8).
    fn kernel_default(&self, machine: &Machine) -> Option<bool> {
        let release = self.release.as_deref()?;
        if let Ok(config) = machine.read_text(&format!("/boot/config-{release}"), 4 << 20) {
            return Some(config.lines().any(|l| l == "CONFIG_INTEL_IOMMU_DEFAULT_ON=y"));
        }
        if release.ends_with("-pve") {
            return version(release).map(|v| v >= (6, 8));
        }
        None
    }

    /// The option that the kernel command line lacks for the IOMMU to come on:
    /// only Intel's, and only where the kernel does not switch it on by itself.
    /// AMD's is on by default in every kernel; amd_iommu=on is not such an option.
    pub fn needed_option(&self) -> Option<&'static str> {
        let asked = self
            .cmdline
            .split_ascii_whitespace()
            .any(|word| word.starts_with("intel_iommu=") && word.contains("on"));
        let needed = !self.is_on()
            && !asked
            && self.cpu == Cpu::Intel
            && self.intel_default_on != Some(true);
        needed.then_some("intel_iommu=on")
    }

    /// The word of the kernel command line that switches the IOMMU off.
    pub fn off_option(&self) -> Option<&str> {
        let is_off =
            |word: &&str| matches!(*word, "intel_iommu=off" | "amd_iommu=off" | "iommu=off");
        self.cmdline.split_ascii_whitespace().find(is_off)
    }

    /// What to do where it is off: one sentence.
    pub fn advice(&self) -> String {
        let firmware = match self.cpu {
            Cpu::Intel => "VT-d",
            Cpu::Amd => "AMD-Vi (IOMMU)",
            Cpu::Other => "VT-d or AMD-Vi (IOMMU)",
        };
        if let Some(off) = self.off_option() {
            return format!("remove '{off}' from the kernel command line and reboot");
        }
        let needs_option = self.needed_option().is_some();
        let mut text = format!("enable {firmware} in the firmware setup");
        if needs_option {
            text.push_str(" and add 'intel_iommu=on' to the kernel command line");
        }
        text + " and reboot"
    }
}

/// Proxmox's ACS override patch listens to `pcie_acs_override=`, whatever its
/// own documentation says.
fn acs_override(cmdline: &str) -> bool {
    cmdline
        .split_ascii_whitespace()
        .any(|word| word.strip_prefix("pcie_acs_override=").is_some_and(|value| !value.is_empty()))
}

fn cpu(machine: &Machine) -> Cpu {
    let text = machine.read_text("/proc/cpuinfo", 8 << 20).unwrap_or_default();
    let vendor = text.lines().find(|line| line.starts_with("vendor_id"));
    match vendor.and_then(|line| line.split(':').nth(1)).map(str::trim) {
        Some("GenuineIntel") => Cpu::Intel,
        Some("AuthenticAMD" | "HygonGenuine") => Cpu::Amd,
        _ => Cpu::Other,
    }
}

/// The rule of a kernel release; an unknown one is taken for a new one.
pub fn viability_rule(release: Option<&str>) -> ViabilityRule {
    match release.and_then(version) {
        Some(version) if version < (5, 19) => ViabilityRule::Driver,
        _ => ViabilityRule::DmaOwner,
    }
}

/// First two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(cpu: Cpu, cmdline: &str, intel_default_on: Option<bool>) -> String {
        Iommu {
            units: Vec::new(),
            acs_override: false,
            noiommu: false,
            release: None,
            rule: ViabilityRule::DmaOwner,
            cmdline: cmdline.into(),
            cpu,
            intel_default_on,
        }
        .advice()
    }

    #[test]
    fn the_command_line_is_named_only_where_the_kernel_needs_it() {
        assert!(off(Cpu::Intel, "quiet", Some(false)).contains("VT-d"));
        assert!(off(Cpu::Intel, "quiet", Some(false)).contains("intel_iommu=on"));
        assert!(off(Cpu::Intel, "quiet", None).contains("intel_iommu=on"));
        assert!(!off(Cpu::Intel, "quiet", Some(true)).contains("intel_iommu"));
        assert!(!off(Cpu::Intel, "intel_iommu=on iommu=pt", Some(false)).contains("command line"));
        assert!(!off(Cpu::Amd, "quiet", None).contains("command line"));
        assert!(off(Cpu::Amd, "quiet", None).contains("AMD-Vi"));
        assert!(
            off(Cpu::Intel, "intel_iommu=off", Some(true)).starts_with("remove 'intel_iommu=off'")
        );
    }

    #[test]
    fn the_rule_changed_with_5_19() {
        assert_eq!(viability_rule(Some("5.15.158-2-pve")), ViabilityRule::Driver);
        assert_eq!(viability_rule(Some("5.19.0")), ViabilityRule::DmaOwner);
        assert_eq!(viability_rule(Some("6.14.11-4-pve")), ViabilityRule::DmaOwner);
        assert_eq!(viability_rule(None), ViabilityRule::DmaOwner);
    }

    #[test]
    fn the_acs_override_is_seen_as_the_kernel_sees_it() {
        assert!(acs_override("quiet pcie_acs_override=downstream,multifunction"));
        assert!(!acs_override("quiet pci_acs_override=downstream"));
        assert!(!acs_override("quiet pcie_acs_override="));
    }
}
