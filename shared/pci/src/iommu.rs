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
    /// Interrupts of devices are remapped. `None`: not an x86 host, or not known.
    /// Without, VFIO refuses a device with EPERM (vfio_iommu_type1.c,
    /// vfio_iommu_type1_attach_group()).
    pub interrupt_remapping: Option<bool>,
    /// VFIO was told to do without interrupt remapping.
    pub unsafe_interrupts: bool,
    cmdline: String,
    cpu: Cpu,
    intel_default_on: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cpu {
    Intel,
    Amd,
    Arm,
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
            interrupt_remapping: None,
            unsafe_interrupts: false,
            cmdline,
            cpu: Cpu::Other,
            intel_default_on: None,
        };
        if iommu.is_on() {
            iommu.interrupt_remapping = interrupt_remapping(machine);
            let is_missing = iommu.interrupt_remapping == Some(false);
            iommu.unsafe_interrupts = is_missing && unsafe_interrupts(machine, &iommu.cmdline);
        } else {
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
        let asked = self.values_of("intel_iommu").any(|(_, value)| value == "on");
        let needed = !self.is_on()
            && !asked
            && self.cpu == Cpu::Intel
            && self.intel_default_on != Some(true);
        needed.then_some("intel_iommu=on")
    }

    /// The word of the kernel command line that switches it off. Of intel_iommu=
    /// the last value counts (intel_iommu_setup()), amd_iommu=off and iommu=off
    /// stay (parse_amd_iommu_options(), iommu_setup()).
    pub fn off_option(&self) -> Option<&str> {
        let is_off = |(_, value): &(&str, &str)| *value == "off";
        let intel = self.values_of("intel_iommu").filter(|(_, v)| matches!(*v, "on" | "off"));
        let of_intel = intel.last().filter(|found| self.cpu != Cpu::Amd && is_off(found));
        let of_amd =
            || self.values_of("amd_iommu").find(|found| self.cpu != Cpu::Intel && is_off(found));
        let of_both = || self.values_of("iommu").find(is_off);
        of_intel.or_else(of_amd).or_else(of_both).map(|(word, _)| word)
    }

    /// The word of the kernel command line that leaves Intel's graphics
    /// untranslated, so that they have no group.
    pub fn graphics_left_out_by(&self) -> Option<&str> {
        self.values_of("intel_iommu").find(|(_, value)| *value == "igfx_off").map(|(word, _)| word)
    }

    /// The values of an option that takes a list, each with the word that it is in.
    fn values_of<'a>(&'a self, option: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let words = self.cmdline.split_ascii_whitespace().filter_map(move |word| {
            let list = word.strip_prefix(option)?.strip_prefix('=')?;
            Some((word, list))
        });
        words.flat_map(|(word, list)| list.split(',').map(move |value| (word, value)))
    }

    /// What to do where it is off: one sentence.
    pub fn advice(&self) -> String {
        let firmware = match self.cpu {
            Cpu::Intel => "VT-d",
            Cpu::Amd => "AMD-Vi (IOMMU)",
            Cpu::Arm => "the IOMMU (SMMU)",
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
        // its kernel names no vendor in words
        None if text.contains("CPU implementer") => Cpu::Arm,
        _ => Cpu::Other,
    }
}

/// Whether the kernel remaps interrupts: the names of its interrupt controllers
/// begin with `IR-` then (arch/x86/kernel/apic/io_apic.c, ioapic_ir_chip; the
/// interrupt remapping domains of drivers/iommu/*/irq_remapping.c). The timer and
/// other lines of the I/O APIC come first.
fn interrupt_remapping(machine: &Machine) -> Option<bool> {
    let start = machine.read_start("/proc/interrupts", 64 << 10).ok()?;
    let text = String::from_utf8_lossy(&start);
    let mut words = text.split_ascii_whitespace();
    match words.clone().any(|word| word.starts_with("IR-")) {
        true => Some(true),
        false => words.any(|word| word == "IO-APIC").then_some(false),
    }
}

/// Whether `allow_unsafe_interrupts` is set: of the loaded module, else for when
/// it is loaded.
fn unsafe_interrupts(machine: &Machine, cmdline: &str) -> bool {
    const MODULE: &str = "vfio_iommu_type1";
    const PARAMETER: &str = "allow_unsafe_interrupts";
    let is_yes = |value: &str| matches!(value.trim(), "Y" | "y" | "1");
    if let Ok(value) = machine.attr(&format!("/sys/module/{MODULE}/parameters/{PARAMETER}")) {
        return is_yes(&value);
    }
    let set = |word: &str| {
        let value = word.strip_prefix(PARAMETER).and_then(|rest| rest.strip_prefix('='));
        value.is_some_and(is_yes)
    };
    let words = cmdline.split_ascii_whitespace().filter_map(|word| word.split_once('.'));
    let of_module = words.filter(|(module, _)| *module == MODULE);
    of_module.map(|(_, word)| word).any(set) || {
        let names = machine.list("/etc/modprobe.d").unwrap_or_default();
        names.iter().filter(|name| name.ends_with(".conf")).any(|name| {
            let text = machine.read_text(&format!("/etc/modprobe.d/{name}"), 1 << 20);
            text.unwrap_or_default().lines().any(|line| {
                let mut words = line.split_ascii_whitespace();
                words.next() == Some("options")
                    && words.next().is_some_and(|module| module.replace('-', "_") == MODULE)
                    && words.any(set)
            })
        })
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
            interrupt_remapping: None,
            unsafe_interrupts: false,
            cmdline: cmdline.into(),
            cpu,
            intel_default_on,
        }
        .advice()
    }

    #[test]
    fn the_word_that_switches_it_off_is_the_one_that_the_kernel_obeys() {
        let removed = |cpu, cmdline: &str| off(cpu, cmdline, Some(true));
        for (cpu, cmdline, word) in [
            (Cpu::Amd, "quiet amd_iommu=off", "amd_iommu=off"),
            (Cpu::Amd, "iommu=pt iommu=off", "iommu=off"),
            (Cpu::Intel, "intel_iommu=on intel_iommu=sm_on,off", "intel_iommu=sm_on,off"),
        ] {
            let advice = removed(cpu, cmdline);
            assert!(advice.starts_with(&format!("remove '{word}'")), "{cmdline}: {advice}");
        }
        assert!(removed(Cpu::Intel, "intel_iommu=off intel_iommu=on").contains("VT-d"));
        assert!(removed(Cpu::Amd, "intel_iommu=off").contains("AMD-Vi"));
        assert!(removed(Cpu::Arm, "quiet").contains("SMMU"));
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
