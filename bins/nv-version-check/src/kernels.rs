//! The host's kernels: which are installed, which boots next, and which driver
//! module each has on disk.

use std::io;
use std::time::Duration;

use host::probe::probe;
use host::{FileKind, Machine};
use nvidia::numbers;
use serde::{Deserialize, Serialize};

use crate::modinfo::{self, ModInfo};

/// modules.dep of a distribution kernel has 600 KB.
const MOST_DEP: usize = 64 << 20;
/// Unpacking one module takes a second where it is xz.
const DEADLINE: Duration = Duration::from_secs(60);
/// Modules at once; each may take half a gigabyte of memory.
const WORKERS: usize = 4;

/// A driver module on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its file.
    pub path: String,
    /// What it says of itself.
    pub info: ModInfo,
}

/// One installed kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its release: `6.14.11-4-pve`.
    pub release: String,
    /// Its driver module; `Err`: there is one that cannot be read.
    pub module: Result<Option<Module>, String>,
}

impl Kernel {
    /// Version of its driver module.
    pub fn version(&self) -> Option<&str> {
        self.module.as_ref().ok()?.as_ref()?.info.version.as_deref()
    }
}

/// The installed kernels, oldest first: those with an image in /boot, or where
/// there is none those with modules; and always the running one.
pub fn installed(machine: &Machine, running: Option<&str>) -> Vec<Kernel> {
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
    let modules = modules(machine, &releases);
    releases.into_iter().zip(modules).map(|(release, module)| Kernel { release, module }).collect()
}

/// The modules of all kernels, read side by side.
fn modules(machine: &Machine, releases: &[String]) -> Vec<Result<Option<Module>, String>> {
    let answers = probe(releases.len(), WORKERS, DEADLINE, &|at, sink| {
        sink.put(1, || {
            let found = module(machine, &releases[at]);
            serde_json::to_vec(&found).map_err(io::Error::other)
        });
    });
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            let why = format!("cannot start a reader: {error}");
            return releases.iter().map(|_| Err(why.clone())).collect();
        }
    };
    let taken = |bytes: Option<&[u8]>| match bytes.map(serde_json::from_slice) {
        Some(Ok(found)) => found,
        _ => Err("reading its modules does not come to an end".to_string()),
    };
    answers.iter().map(|answer| taken(answer.bytes(1))).collect()
}

fn images(machine: &Machine) -> Vec<String> {
    let names = machine.list("/boot").unwrap_or_default();
    names.iter().filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_string)).collect()
}

/// File names of the driver's main module: Debian's DKMS packages build it
/// under their own names and install an alias.
fn is_main_module(name: &str) -> bool {
    let Some((stem, end)) = name.split_once(".ko") else { return false };
    let flavour = stem.strip_prefix("nvidia").is_some_and(|rest| {
        rest.is_empty()
            || rest == "-current"
            || rest == "-current-open"
            || rest.starts_with("-tesla")
            || rest.starts_with("-legacy")
    });
    let part = ["-drm", "-modeset", "-uvm", "-peermem"].iter().any(|part| stem.ends_with(part));
    flavour && !part && matches!(end, "" | ".xz" | ".zst" | ".gz")
}

/// The driver module of a kernel: the one that depmod knows, else the first in
/// the directories where it may be.
fn module(machine: &Machine, release: &str) -> Result<Option<Module>, String> {
    let top = format!("/lib/modules/{release}");
    let dep = machine.read_text(&format!("{top}/modules.dep"), MOST_DEP).unwrap_or_default();
    let listed = dep.lines().filter_map(|line| {
        let (path, _) = line.split_once(':')?;
        is_main_module(path.rsplit('/').next()?).then(|| format!("{top}/{path}"))
    });
    let dirs = ["updates/dkms", "updates", "extra", "weak-updates", "kernel/drivers/video", "misc"];
    let found = dirs.iter().flat_map(|dir| {
        let dir = format!("{top}/{dir}");
        let names = machine.list(&dir).unwrap_or_default();
        let mine = names.into_iter().filter(|name| is_main_module(name));
        mine.map(move |name| format!("{dir}/{name}")).collect::<Vec<_>>()
    });
    for path in listed.chain(found) {
        // what a link of weak-updates leads to may be gone
        if machine.stat(&path).is_ok_and(|stat| stat.kind == FileKind::File) {
            return modinfo::read(machine, &path).map(|info| Some(Module { path, info }));
        }
    }
    Ok(None)
}

/// Which kernel boots next, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBoot {
    /// Its release.
    pub release: String,
    /// The file or rule that says so.
    pub by: String,
}

/// Finds it as Proxmox VE and GRUB do. Errors: in words.
///
/// proxmox-boot-tool's pins come first: for the next boot only, then for all.
/// With GRUB, `grub-reboot` and `grub-set-default` leave an entry in grubenv;
/// otherwise GRUB_DEFAULT names an entry, and the first is the newest kernel.
pub fn next_boot(machine: &Machine, kernels: &[Kernel]) -> Result<NextBoot, String> {
    let known = |text: &str| kernel_in(text, kernels);
    for pin in ["/etc/kernel/next-boot-pin", "/etc/kernel/proxmox-boot-pin"] {
        let Ok(text) = machine.read_text(pin, 4096) else { continue };
        let release = text.lines().next().unwrap_or_default().trim();
        if release.is_empty() {
            continue;
        }
        if !kernels.iter().any(|kernel| kernel.release == release) {
            return Err(format!("{pin} pins {release}, which is not installed"));
        }
        return Ok(NextBoot { release: release.into(), by: pin.into() });
    }
    let newest = || {
        // the running one may have been removed since
        let image = |k: &&Kernel| machine.exists(&format!("/boot/vmlinuz-{}", k.release));
        let last = kernels.iter().rev().find(image).or(kernels.last());
        let last = last.ok_or("no kernel is installed in /boot".to_string())?;
        Ok(NextBoot { release: last.release.clone(), by: "the newest in /boot".into() })
    };
    // on ESPs that proxmox-boot-tool keeps, the newest kernel is first
    if machine.exists("/etc/kernel/proxmox-boot-uuids") {
        return newest();
    }
    let env = machine.read_text("/boot/grub/grubenv", 64 << 10).unwrap_or_default();
    let variable = |name: &str| {
        let line = env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(str::trim).filter(|value| !value.is_empty())
    };
    let default = grub_default(machine);
    let entry = match variable("next_entry") {
        Some(entry) => Some(("next_entry of /boot/grub/grubenv", entry.to_string())),
        None if default.as_deref() == Some("saved") => variable("saved_entry")
            .map(|entry| ("saved_entry of /boot/grub/grubenv", entry.to_string())),
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

/// GRUB_DEFAULT as update-grub reads it: the files of grub.d come later.
fn grub_default(machine: &Machine) -> Option<String> {
    let names = machine.list("/etc/default/grub.d").unwrap_or_default();
    let files = names.iter().filter(|name| name.ends_with(".cfg"));
    let files = std::iter::once("/etc/default/grub".to_string())
        .chain(files.map(|name| format!("/etc/default/grub.d/{name}")));
    let mut value = None;
    for file in files {
        let text = machine.read_text(&file, 1 << 20).unwrap_or_default();
        for line in text.lines() {
            if let Some(text) = line.trim().strip_prefix("GRUB_DEFAULT=") {
                value = Some(text.trim_matches(['"', '\'']).to_string());
            }
        }
    }
    value
}

/// The installed kernel that a menu entry's title or id names: the longest
/// release that stands in it as a whole.
fn kernel_in(text: &str, kernels: &[Kernel]) -> Option<String> {
    let whole = |release: &str| {
        text.match_indices(release).any(|(at, _)| {
            let inside = |c: char| c.is_ascii_alphanumeric() || c == '.';
            let before = text[..at].chars().next_back().is_none_or(|c| !inside(c));
            let after = text[at + release.len()..].chars().next().is_none_or(|c| !inside(c));
            before && after
        })
    };
    let mut named: Vec<&str> =
        kernels.iter().map(|kernel| kernel.release.as_str()).filter(|r| whole(r)).collect();
    named.sort_by_key(|release| release.len());
    named.pop().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_module_is_told_from_its_family() {
        for name in ["nvidia.ko", "nvidia.ko.zst", "nvidia-current.ko.xz", "nvidia-tesla-470.ko"] {
            assert!(is_main_module(name), "{name}");
        }
        for name in [
            "nvidia-drm.ko",
            "nvidia-current-uvm.ko",
            "nvidia-tesla-470-modeset.ko",
            "nvidiafb.ko",
            "nvidia.ko.bak",
            "nvidia-uvm.ko.zst",
            "nvidia-cspmu.ko",
        ] {
            assert!(!is_main_module(name), "{name}");
        }
    }

    #[test]
    fn a_menu_entry_names_the_longest_release_in_it() {
        let kernel = |release: &str| Kernel { release: release.into(), module: Ok(None) };
        let kernels = [kernel("6.8.12-4-pve"), kernel("6.8.12-43-pve"), kernel("6.8.12")];
        let named = |text: &str| kernel_in(text, &kernels);
        let id = "gnulinux-advanced-f768d6b7>gnulinux-6.8.12-43-pve-advanced-f768d6b7";
        assert_eq!(named(id).as_deref(), Some("6.8.12-43-pve"));
        let title = "Advanced options for Proxmox VE>Proxmox VE GNU/Linux, with Linux 6.8.12-4-pve";
        assert_eq!(named(title).as_deref(), Some("6.8.12-4-pve"));
        assert_eq!(named("1>2"), None);
    }
}
