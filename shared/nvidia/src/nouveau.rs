//! nouveau, the kernel's own driver: where it has a GPU, NVIDIA's cannot take it.

use host::Machine;
use record::Hint;

const MODULE: &str = "nouveau";
/// Directories of modprobe.d(5).
const DIRS: [&str; 4] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/lib/modprobe.d"];

/// What a host does with nouveau.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nouveau {
    /// The module is loaded.
    pub loaded: bool,
    /// modprobe's configuration keeps the module from being loaded for a device.
    pub blacklisted: bool,
}

impl Nouveau {
    /// Reads both from /sys/module, modprobe's configuration and the kernel's command
    /// line. A file that
    /// cannot be read blacklists nothing.
    pub fn read(machine: &Machine) -> Nouveau {
        Nouveau {
            loaded: machine.exists(&format!("/sys/module/{MODULE}")),
            blacklisted: DIRS.iter().any(|dir| is_blacklisted_in(machine, dir))
                || machine.attr("/proc/cmdline").is_ok_and(|line| is_blacklisted_by(&line)),
        }
    }

    /// What to do so that nouveau is not loaded at the next boot. Where it is
    /// loaded already, the words ask for the reboot.
    pub fn hint(self) -> Hint {
        let update = advice::external::update_initramfs();
        let hint = match self.blacklisted {
            // loaded although blacklisted: the initramfs is older than the configuration
            true => Hint::command(update),
            false => Hint::commands([advice::external::blacklist(MODULE), update]),
        };
        hint.because(match (self.loaded, self.blacklisted) {
            (true, true) => "rebuild the initramfs, then reboot the host",
            (true, false) => "keep nouveau from being loaded, then reboot the host",
            (false, _) => "keep nouveau from being loaded at the next boot",
        })
    }
}

fn is_blacklisted_in(machine: &Machine, dir: &str) -> bool {
    let names = machine.list(dir).unwrap_or_default();
    names.iter().filter(|name| name.ends_with(".conf")).any(|name| {
        let text = machine.read_text(&format!("{dir}/{name}"), 1 << 20).unwrap_or_default();
        text.lines().any(blacklists)
    })
}

/// Whether the kernel's command line keeps the module from being loaded:
/// `modprobe.blacklist=` is read by modprobe, `module_blacklist=` by the kernel.
fn is_blacklisted_by(command_line: &str) -> bool {
    command_line.split_ascii_whitespace().any(|option| {
        let names = ["modprobe.blacklist=", "module_blacklist="]
            .iter()
            .find_map(|option_name| option.strip_prefix(option_name));
        names.is_some_and(|names| names.split(',').any(|name| name == MODULE))
    })
}

/// Whether a line of modprobe.d(5) keeps the module from being loaded.
fn blacklists(line: &str) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words[..] {
        ["blacklist", name, ..] => name == MODULE,
        ["install", name, "/bin/false" | "/bin/true" | "/usr/bin/false" | "/usr/bin/true", ..] => {
            name == MODULE
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modprobes_own_lines_blacklist_it() {
        for (line, expected) in [
            ("blacklist nouveau", true),
            ("  install nouveau /bin/false", true),
            ("install nouveau /usr/bin/true # x", true),
            ("# blacklist nouveau", false),
            ("blacklist nouveaufb", false),
            ("install nouveau /sbin/modprobe nvidia", false),
            ("options nouveau modeset=0", false),
        ] {
            assert_eq!(blacklists(line), expected, "{line}");
        }
    }

    #[test]
    fn the_kernels_command_line_blacklists_it_too() {
        for (line, expected) in [
            ("quiet modprobe.blacklist=nouveau", true),
            ("modprobe.blacklist=radeon,nouveau iommu=pt", true),
            ("module_blacklist=nouveau", true),
            ("nouveau.modeset=0 modprobe.blacklist=nouveaufb", false),
        ] {
            assert_eq!(is_blacklisted_by(line), expected, "{line}");
        }
    }

    #[test]
    fn the_hint_names_what_is_missing_alone() {
        let hint = |loaded, blacklisted| Nouveau { loaded, blacklisted }.hint();
        assert_eq!(hint(true, false).commands.len(), 2);
        assert_eq!(hint(true, true).commands, [advice::external::update_initramfs()]);
        assert!(hint(true, true).words.is_some_and(|words| words.contains("reboot")));
        assert!(hint(false, false).words.is_some_and(|words| words.contains("next boot")));
    }
}
