//! The host's kernels, each of which needs a driver module of its own: which are
//! installed, and which boots next.

use host::Machine;
use host::boot_loader::{GrubDefaults, grub_variable, pinned_kernel, uses_proxmox_boot_tool};

use crate::numbers;

/// Releases of the installed kernels, oldest first: those with an image in
/// /boot, or where there is none those with modules; and always the running one.
pub fn installed_kernels(machine: &Machine, running: Option<&str>) -> Vec<String> {
    let mut releases: Vec<String> = images(machine);
    if releases.is_empty() {
        releases = machine.list("/lib/modules").unwrap_or_default();
        releases.retain(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    }
    if let Some(running) = running {
        if !releases.iter().any(|release| release == running) {
            releases.push(running.to_string());
        }
    }
    releases.sort_by(|a, b| numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b)));
    releases
}

/// Whether a module can be built for a kernel: its headers are those that
/// NVIDIA's installer looks for, in `build` or `source` of its modules or in the
/// directory of their package.
pub fn has_kernel_headers(machine: &Machine, release: &str) -> bool {
    let names = ["linux-headers", "proxmox-headers", "pve-headers"];
    let named = names.iter().map(|name| format!("/usr/src/{name}-{release}"));
    let linked = ["build", "source"].map(|link| format!("/lib/modules/{release}/{link}"));
    let dirs: Vec<String> = linked.into_iter().chain(named).collect();
    let has = |file: &str| dirs.iter().any(|dir| machine.exists(&format!("{dir}/{file}")));
    let version = ["include/generated/uapi/linux/version.h", "include/linux/version.h"];
    has("Makefile") && has("include/linux/kernel.h") && version.into_iter().any(has)
}

fn images(machine: &Machine) -> Vec<String> {
    let names = machine.list("/boot").unwrap_or_default();
    names.iter().filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_string)).collect()
}

/// Which kernel boots next, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBoot {
    /// Its release.
    pub release: String,
    /// The file or rule that chooses it, for people.
    pub by: String,
}

/// Finds the next-boot kernel as Proxmox VE and GRUB do. Errors: a pin or a menu
/// entry names no installed kernel, none is installed, or a file cannot be read; the
/// text is for people.
///
/// proxmox-boot-tool's pins come first: for the next boot only, then for all.
/// With GRUB, `grub-reboot` and `grub-set-default` leave an entry in grubenv;
/// otherwise GRUB_DEFAULT names an entry, and the first is the newest kernel.
pub fn next_boot(machine: &Machine, kernels: &[String]) -> Result<NextBoot, String> {
    let known = |text: &str| kernel_in(text, kernels);
    let unread = |error: host::FileError| error.to_string();
    if let Some((release, pin)) = pinned_kernel(machine).map_err(unread)? {
        if !kernels.contains(&release) {
            return Err(format!("{pin} pins {release}, which is not installed"));
        }
        return Ok(NextBoot { release, by: pin.into() });
    }
    let newest = || {
        // the running kernel may have been removed since
        let image = |k: &&String| machine.exists(&format!("/boot/vmlinuz-{k}"));
        let last = kernels.iter().rev().find(image).or(kernels.last());
        let last = last.ok_or("no kernel is installed in /boot".to_string())?;
        Ok(NextBoot { release: last.clone(), by: "the newest in /boot".into() })
    };
    // on ESPs that proxmox-boot-tool manages, the newest kernel is first
    if uses_proxmox_boot_tool(machine) {
        return newest();
    }
    let variable = |name: &str| grub_variable(machine, name).map_err(unread);
    let default = GrubDefaults::read(machine).map_err(unread)?.value("GRUB_DEFAULT");
    let entry = match variable("next_entry")? {
        Some(entry) => Some(("next_entry of /boot/grub/grubenv", entry)),
        None if default.as_deref() == Some("saved") => {
            variable("saved_entry")?.map(|entry| ("saved_entry of /boot/grub/grubenv", entry))
        }
        None => default.map(|entry| ("GRUB_DEFAULT", entry)),
    };
    match entry {
        None => newest(),
        Some((_, entry)) if entry == "0" => newest(),
        Some((by, entry)) => match known(&entry) {
            Some(release) => Ok(NextBoot { release, by: by.into() }),
            None => Err(format!("{by} is '{entry}', which names no installed kernel")),
        },
    }
}

/// The installed kernel that a menu entry's title or id names: the longest
/// release that it contains as a whole word.
fn kernel_in(text: &str, kernels: &[String]) -> Option<String> {
    let whole = |release: &str| {
        text.match_indices(release).any(|(at, _)| {
            let inside = |c: char| c.is_ascii_alphanumeric() || c == '.';
            let before = text[..at].chars().next_back().is_none_or(|c| !inside(c));
            let after = text[at + release.len()..].chars().next().is_none_or(|c| !inside(c));
            before && after
        })
    };
    let mut named: Vec<&str> = kernels.iter().map(String::as_str).filter(|r| whole(r)).collect();
    named.sort_by_key(|release| release.len());
    named.pop().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_menu_entry_names_the_longest_release_in_it() {
        let kernels = ["6.8.12-4-pve", "6.8.12-43-pve", "6.8.12"].map(String::from);
        let named = |text: &str| kernel_in(text, &kernels);
        let id = "gnulinux-advanced-f768d6b7>gnulinux-6.8.12-43-pve-advanced-f768d6b7";
        assert_eq!(named(id).as_deref(), Some("6.8.12-43-pve"));
        let title = "Advanced options for Proxmox VE>Proxmox VE GNU/Linux, with Linux 6.8.12-4-pve";
        assert_eq!(named(title).as_deref(), Some("6.8.12-4-pve"));
        assert_eq!(named("1>2"), None);
    }
}
