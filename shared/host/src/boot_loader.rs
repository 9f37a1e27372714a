//! What the boot loader's configuration says: GRUB's default files, the kernel
//! command line for systemd-boot, proxmox-boot-tool's pins.

use crate::{FileError, Machine};

const MOST: usize = 1 << 20;
const GRUB: &str = "/etc/default/grub";
const GRUB_DIR: &str = "/etc/default/grub.d";
const COMMAND_LINE: &str = "/etc/kernel/cmdline";
/// The ESPs that proxmox-boot-tool keeps, one UUID a line.
const ESPS: &str = "/etc/kernel/proxmox-boot-uuids";

/// systemd's vendor GUID for variables of boot loaders (the Boot Loader
/// Interface). systemd-boot writes its name and version there; so does GRUB's
/// module bli, since 2.12.
const LOADER_INFO: &str =
    "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// What takes the kernel command line of the next boot from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLoader {
    /// GRUB_CMDLINE_LINUX_DEFAULT in GRUB's default files, then update-grub.
    Grub,
    /// One line in /etc/kernel/cmdline, then proxmox-boot-tool refresh.
    SystemdBoot,
}

/// A file with its new text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFileEdit {
    /// The file.
    pub path: String,
    /// Its text now.
    pub before: String,
    /// The text with the option; the same where the option was in force.
    pub after: String,
}

impl BootLoader {
    /// Which one booted this host. The running system says it: the boot loader's
    /// own EFI variable, else the kernel command line, to which GRUB adds
    /// `BOOT_IMAGE=` and systemd-boot an `initrd=` with backslashes. A host
    /// without EFI has GRUB. `None` where nothing says it: which files exist
    /// proves nothing, Proxmox VE has those of both.
    pub fn booted(machine: &Machine) -> Option<BootLoader> {
        let variable = machine.read(LOADER_INFO, 4096).unwrap_or_default();
        // four bytes of flags, then UTF-16
        let name: String =
            variable.iter().skip(4).step_by(2).map(|byte| char::from(*byte)).collect();
        if name.starts_with("systemd-boot") {
            return Some(BootLoader::SystemdBoot);
        }
        if name.starts_with("GRUB") {
            return Some(BootLoader::Grub);
        }
        let line = machine.attr("/proc/cmdline").unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        if words.clone().any(|word| word.starts_with("BOOT_IMAGE=")) {
            return Some(BootLoader::Grub);
        }
        if words.any(|word| word.starts_with("initrd=\\")) {
            return Some(BootLoader::SystemdBoot);
        }
        let has_grub = !machine.exists("/sys/firmware/efi") && machine.exists(GRUB);
        has_grub.then_some(BootLoader::Grub)
    }

    /// The file in which an administrator looks for the command line.
    pub fn path(self) -> &'static str {
        match self {
            BootLoader::Grub => GRUB,
            BootLoader::SystemdBoot => COMMAND_LINE,
        }
    }

    /// The commands that make the loader use a changed file. Where
    /// proxmox-boot-tool keeps ESPs, GRUB reads its menu from there, and only
    /// `refresh` writes that. Empty where no command of this host is known:
    /// systemd-boot without proxmox-boot-tool.
    pub fn update_commands(self, machine: &Machine) -> Vec<&'static [&'static str]> {
        const UPDATE_GRUB: &[&str] = &["update-grub"];
        const REFRESH: &[&str] = &["proxmox-boot-tool", "refresh"];
        match (self, uses_proxmox_boot_tool(machine)) {
            (BootLoader::Grub, false) => vec![UPDATE_GRUB],
            (BootLoader::Grub, true) => vec![UPDATE_GRUB, REFRESH],
            (BootLoader::SystemdBoot, true) => vec![REFRESH],
            (BootLoader::SystemdBoot, false) => Vec::new(),
        }
    }

    /// How an option gets into the command line of the next boot: the file that
    /// is in force, rewritten. `None` where the file has no such line, or one
    /// that only a shell can read. Errors: a file cannot be read.
    pub fn with_option(
        self,
        machine: &Machine,
        option: &str,
    ) -> Result<Option<BootFileEdit>, FileError> {
        match self {
            BootLoader::Grub => {
                let files = GrubDefaults::read(machine)?;
                Ok(files.with_option("GRUB_CMDLINE_LINUX_DEFAULT", option))
            }
            BootLoader::SystemdBoot => {
                let before = machine.read_text(COMMAND_LINE, MOST)?;
                let after = line_with(&before, option);
                let path = COMMAND_LINE.to_string();
                Ok(after.map(|after| BootFileEdit { path, before, after }))
            }
        }
    }
}

/// Whether proxmox-boot-tool keeps the kernels on ESPs of its own.
pub fn uses_proxmox_boot_tool(machine: &Machine) -> bool {
    machine.exists(ESPS)
}

/// The kernel that proxmox-boot-tool is set to boot, and the file that says so:
/// the pin for the next boot only comes before the lasting one. Errors: a file
/// exists and cannot be read.
pub fn pinned_kernel(machine: &Machine) -> Result<Option<(String, &'static str)>, FileError> {
    for pin in ["/etc/kernel/next-boot-pin", "/etc/kernel/proxmox-boot-pin"] {
        let text = match machine.read_text(pin, MOST) {
            Err(error) if error.is_not_found() => continue,
            text => text?,
        };
        let release = text.lines().next().unwrap_or_default().trim();
        if !release.is_empty() {
            return Ok(Some((release.to_string(), pin)));
        }
    }
    Ok(None)
}

/// A variable of GRUB's environment block, as grub-reboot and grub-set-default
/// leave it; `None` where it is empty. Errors: the block exists and cannot be
/// read.
pub fn grub_variable(machine: &Machine, name: &str) -> Result<Option<String>, FileError> {
    let text = match machine.read_text("/boot/grub/grubenv", MOST) {
        Err(error) if error.is_not_found() => return Ok(None),
        text => text?,
    };
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Ok(value.map(str::trim).filter(|value| !value.is_empty()).map(str::to_string))
}

/// GRUB's default files as grub-mkconfig reads them, one after the other:
/// /etc/default/grub, then /etc/default/grub.d/*.cfg by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrubDefaults {
    /// Paths and texts.
    files: Vec<(String, String)>,
}

impl GrubDefaults {
    /// Reads them. Errors: one exists and cannot be read.
    pub fn read(machine: &Machine) -> Result<GrubDefaults, FileError> {
        let names = machine.list(GRUB_DIR)?;
        let names = names.iter().filter(|name| name.ends_with(".cfg"));
        let paths =
            std::iter::once(GRUB.to_string()).chain(names.map(|name| format!("{GRUB_DIR}/{name}")));
        let mut files = Vec::new();
        for path in paths {
            match machine.read_text(&path, MOST) {
                Ok(text) => files.push((path, text)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(GrubDefaults { files })
    }

    /// The value in force of a variable: the last assignment wins, as for the
    /// shell that reads the files. `None` where there is none, or where only a
    /// shell can tell the value.
    pub fn value(&self, name: &str) -> Option<String> {
        let (_, _, assignment) = self.assignments(name).last()?;
        let assignment = assignment?;
        let is_plain = !assignment.value.contains(SHELL);
        is_plain.then(|| assignment.value.to_string())
    }

    /// The file that decides a variable, with `option` added to its words.
    /// Assignments that only add to the value before them (`"$NAME more"`) are
    /// passed over. `None` where there is no other, or only a shell can read it.
    pub fn with_option(&self, name: &str, option: &str) -> Option<BootFileEdit> {
        let own = [format!("${name}"), format!("${{{name}}}")];
        let mut assignments: Vec<_> = self.assignments(name).collect();
        while let Some((file, line, assignment)) = assignments.pop() {
            let assignment = assignment.filter(|assignment| assignment.rest.is_empty())?;
            let has_option = has(assignment.value, option);
            if own.iter().any(|own| has(assignment.value, own))
                && !has_option
                && !assignments.is_empty()
            {
                continue;
            }
            let (path, before) = &self.files[file];
            let mut edit =
                BootFileEdit { path: path.clone(), before: before.clone(), after: before.clone() };
            if !has_option {
                edit.after = assignment.with(before, line, option)?;
            }
            return Some(edit);
        }
        None
    }

    /// All assignments of a variable in order: index of the file, index of the
    /// line, and the assignment, where it can be read without a shell.
    fn assignments<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (usize, usize, Option<Assignment<'a>>)> {
        self.files.iter().enumerate().flat_map(move |(file, (_, text))| {
            text.lines().enumerate().filter_map(move |(line, text)| {
                let value = text.trim_start().strip_prefix(name)?.strip_prefix('=')?;
                Some((file, line, Assignment::parse(text, value)))
            })
        })
    }
}

/// What a shell would expand.
const SHELL: [char; 3] = ['$', '`', '\\'];

/// `NAME=value`, `NAME="value"` or `NAME='value'`.
struct Assignment<'a> {
    /// What precedes the value: `NAME=`.
    start: &'a str,
    quote: Option<char>,
    value: &'a str,
    /// What follows the value, without white space: nothing or a comment.
    rest: &'a str,
}

impl<'a> Assignment<'a> {
    fn parse(line: &'a str, value: &'a str) -> Option<Assignment<'a>> {
        let start = &line[..line.len() - value.len()];
        let value = value.trim_end();
        let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
        let (value, rest) = match quote {
            Some(quote) => value[1..].split_once(quote)?,
            None => value.split_at(value.find([' ', '\t']).unwrap_or(value.len())),
        };
        let rest = rest.trim_start();
        // a second word would be a command, a second quote joins on
        let is_comment = rest.is_empty() || rest.starts_with('#');
        is_comment.then_some(Assignment { start, quote, value, rest })
    }

    /// The text with the option in this line; `None` where a shell would expand
    /// the value.
    fn with(&self, text: &str, line: usize, option: &str) -> Option<String> {
        if self.value.contains(SHELL) || (self.quote.is_none() && self.value.contains('#')) {
            return None;
        }
        let quote = self.quote.unwrap_or('"');
        let joined = [self.value, option].join(" ");
        let joined = joined.trim_start();
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_string).collect();
        let end = if lines[line].ends_with('\n') { "\n" } else { "" };
        lines[line] = format!("{}{quote}{joined}{quote}{end}", self.start);
        Some(lines.concat())
    }
}

fn has(line: &str, option: &str) -> bool {
    line.split_ascii_whitespace().any(|word| word == option)
}

/// The first line that is not empty is the command line.
fn line_with(text: &str, option: &str) -> Option<String> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    if has(line, option) {
        return Some(text.to_string());
    }
    Some(text.replacen(line, &format!("{} {option}", line.trim_end()), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "GRUB_CMDLINE_LINUX_DEFAULT";

    fn defaults(files: &[(&str, &str)]) -> GrubDefaults {
        let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string()));
        GrubDefaults { files: files.collect() }
    }

    #[test]
    fn grubs_line_gets_the_option_once() {
        let grub = |text: &str| {
            let edit = defaults(&[(GRUB, text)]).with_option(KEY, "intel_iommu=on");
            edit.map(|edit| edit.after)
        };
        let file = |value: &str| {
            format!(
                "# x\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT={value}\nGRUB_CMDLINE_LINUX=\"\"\n"
            )
        };
        for (before, after) in [
            ("\"quiet\"", "\"quiet intel_iommu=on\""),
            ("\"\"", "\"intel_iommu=on\""),
            ("'quiet splash'", "'quiet splash intel_iommu=on'"),
            ("quiet", "\"quiet intel_iommu=on\""),
            ("\"quiet intel_iommu=on\"", "\"quiet intel_iommu=on\""),
        ] {
            assert_eq!(grub(&file(before)), Some(file(after)), "{before}");
        }
        for odd in ["\"$X quiet\"", "\"a\" # b", "\"a\\\" b\"", "a b", "\"a\"$X", "\"a"] {
            assert_eq!(grub(&file(odd)), None, "{odd}");
        }
        assert_eq!(grub("GRUB_TIMEOUT=5\n"), None);
    }

    #[test]
    fn what_booted_is_read_from_the_running_system() {
        let root = std::env::temp_dir().join(format!("host-loader-{}", std::process::id()));
        let put = |path: &str, bytes: &[u8]| {
            let path = root.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        // Proxmox VE 8 on ZFS, installed with Secure Boot: the files of both
        put(GRUB, b"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n");
        put(COMMAND_LINE, b"root=ZFS=rpool/ROOT/pve-1 boot=zfs\n");
        put(ESPS, b"1234-ABCD\n");
        put("/sys/firmware/efi/fw_platform_size", b"64\n");
        let machine = Machine::new(Some(&root)).unwrap();
        assert_eq!(BootLoader::booted(&machine), None);
        put("/proc/cmdline", b"BOOT_IMAGE=/vmlinuz-6.2.16-20-pve root=ZFS=rpool/ROOT/pve-1 ro\n");
        assert_eq!(BootLoader::booted(&machine), Some(BootLoader::Grub));
        let commands = BootLoader::Grub.update_commands(&machine);
        assert_eq!(commands, [&["update-grub"][..], &["proxmox-boot-tool", "refresh"]]);
        put(
            "/proc/cmdline",
            b"initrd=\\EFI\\proxmox\\6.8.12-4-pve\\initrd.img-6.8.12-4-pve root=ZFS=rpool/ROOT/pve-1\n",
        );
        assert_eq!(BootLoader::booted(&machine), Some(BootLoader::SystemdBoot));
        let mut info = vec![6, 0, 0, 0];
        info.extend("GRUB 2.12".bytes().flat_map(|byte| [byte, 0]));
        put(LOADER_INFO, &info);
        assert_eq!(BootLoader::booted(&machine), Some(BootLoader::Grub));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_last_file_that_decides_is_changed() {
        let grub = (GRUB, "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n");
        let cloud = "/etc/default/grub.d/50-cloud.cfg";
        let files = defaults(&[grub, (cloud, "GRUB_CMDLINE_LINUX_DEFAULT='console=ttyS0'")]);
        let edit = files.with_option(KEY, "x=1").unwrap();
        assert_eq!(edit.path, cloud);
        assert_eq!(edit.after, "GRUB_CMDLINE_LINUX_DEFAULT='console=ttyS0 x=1'");
        assert_eq!(files.value(KEY).as_deref(), Some("console=ttyS0"));
        let more = format!("{KEY}=\"${KEY} y=2\"\n");
        let files = defaults(&[grub, (cloud, more.as_str())]);
        let edit = files.with_option(KEY, "x=1").unwrap();
        assert_eq!((edit.path.as_str(), files.value(KEY)), (GRUB, None));
        assert!(edit.after.ends_with("\"quiet x=1\"\n"), "{}", edit.after);
        let there = files.with_option(KEY, "y=2").unwrap();
        assert_eq!(there.before, there.after);
        let odd = (cloud, "GRUB_CMDLINE_LINUX_DEFAULT=\"$(hostname)\"\n");
        assert_eq!(defaults(&[grub, odd]).with_option(KEY, "x=1"), None);
        let value = |line: &str| defaults(&[(GRUB, line)]).value("GRUB_DEFAULT");
        for line in ["GRUB_DEFAULT=saved", "GRUB_DEFAULT='saved' # x", "  GRUB_DEFAULT=\"saved\" "]
        {
            assert_eq!(value(line).as_deref(), Some("saved"), "{line}");
        }
        assert_eq!(value("#GRUB_DEFAULT=1\nGRUB_DEFAULTS=2"), None);
    }

    #[test]
    fn the_single_line_gets_the_option_once() {
        let add = |text: &str| line_with(text, "intel_iommu=on");
        assert_eq!(add("root=ZFS=rpool quiet\n").unwrap(), "root=ZFS=rpool quiet intel_iommu=on\n");
        assert_eq!(add("a intel_iommu=on b").unwrap(), "a intel_iommu=on b");
        assert_eq!(add("\n"), None);
    }
}
