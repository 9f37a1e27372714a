//! The kernel command line of the next boot: which file says it, and how an
//! option gets into it. Pure, but for finding the file.

use host::Machine;

/// Where the command line of the next boot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, then update-grub.
    Grub,
    /// One line in /etc/kernel/cmdline, then proxmox-boot-tool refresh.
    SystemdBoot,
}

impl Loader {
    /// Which one this host uses; `None` where neither file is there.
    ///
    /// Proxmox VE boots by systemd-boot where it has EFI, a /etc/kernel/cmdline
    /// and partitions of its own boot tool; everywhere else by GRUB.
    pub fn find(machine: &Machine) -> Option<Loader> {
        let systemd = machine.exists("/sys/firmware/efi")
            && machine.exists("/etc/kernel/proxmox-boot-uuids")
            && machine.exists("/etc/kernel/cmdline");
        if systemd {
            return Some(Loader::SystemdBoot);
        }
        machine.exists("/etc/default/grub").then_some(Loader::Grub)
    }

    /// The file.
    pub fn path(self) -> &'static str {
        match self {
            Loader::Grub => "/etc/default/grub",
            Loader::SystemdBoot => "/etc/kernel/cmdline",
        }
    }

    /// What makes the loader take it up.
    pub fn command(self) -> &'static [&'static str] {
        match self {
            Loader::Grub => &["update-grub"],
            Loader::SystemdBoot => &["proxmox-boot-tool", "refresh"],
        }
    }

    /// The file with `option` added; `None` where it cannot be found a place.
    /// An option that is there already changes nothing.
    pub fn add(self, text: &str, option: &str) -> Option<String> {
        match self {
            Loader::Grub => add_to_grub(text, option),
            Loader::SystemdBoot => add_to_line(text, option),
        }
    }
}

fn has(line: &str, option: &str) -> bool {
    line.split_ascii_whitespace().any(|word| word == option)
}

/// The first line that is not empty is the command line.
fn add_to_line(text: &str, option: &str) -> Option<String> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    if has(line, option) {
        return Some(text.to_string());
    }
    Some(text.replacen(line, &format!("{} {option}", line.trim_end()), 1))
}

/// The last assignment wins, as for the shell that reads the file.
fn add_to_grub(text: &str, option: &str) -> Option<String> {
    const KEY: &str = "GRUB_CMDLINE_LINUX_DEFAULT=";
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_string).collect();
    let at = lines.iter().rposition(|line| line.starts_with(KEY))?;
    let line = lines[at].trim_end().to_string();
    let value = &line[KEY.len()..];
    let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
    let inner = match quote {
        // anything behind the closing quote, or a quote inside, is a shell
        // construct that we do not rewrite
        Some(quote) => value[1..].strip_suffix(quote).filter(|v| !v.contains(quote))?,
        None => value,
    };
    if inner.contains(['$', '`', '\\']) || (quote.is_none() && inner.contains([' ', '#'])) {
        return None;
    }
    if has(inner, option) {
        return Some(text.to_string());
    }
    let quote = quote.unwrap_or('"');
    let joined = if inner.is_empty() { option.to_string() } else { format!("{inner} {option}") };
    let end = if lines[at].ends_with('\n') { "\n" } else { "" };
    lines[at] = format!("{KEY}{quote}{joined}{quote}{end}");
    Some(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grubs_line_gets_the_option_once() {
        let grub = |text: &str| Loader::Grub.add(text, "intel_iommu=on");
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
        for odd in ["\"$X quiet\"", "\"a\" # b", "\"a\\\" b\"", "a b"] {
            assert_eq!(grub(&file(odd)), None, "{odd}");
        }
        assert_eq!(grub("GRUB_TIMEOUT=5\n"), None);
    }

    #[test]
    fn the_single_line_gets_the_option_once() {
        let add = |text: &str| Loader::SystemdBoot.add(text, "intel_iommu=on");
        assert_eq!(add("root=ZFS=rpool quiet\n").unwrap(), "root=ZFS=rpool quiet intel_iommu=on\n");
        assert_eq!(add("a intel_iommu=on b").unwrap(), "a intel_iommu=on b");
        assert_eq!(add("\n"), None);
    }
}
