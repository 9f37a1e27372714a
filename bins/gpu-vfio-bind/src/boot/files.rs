//! What each file says that binds functions to VFIO at boot. Pure.
//!
//! By address: a script in the initramfs sets driver_override before udev loads
//! a native driver, and only where the function at that address is still the
//! one that was meant. By id: vfio-pci takes every function with these ids.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::list::{BootEntry, HEAD, LIST, MatchBy, format_list};

/// Options and softdeps of modprobe.
pub const MODPROBE: &str = "/etc/modprobe.d/gpu-vfio-bind.conf";
/// Modules that are loaded in the real root, for hosts without the script in
/// their initramfs.
pub const MODULES_LOAD: &str = "/etc/modules-load.d/gpu-vfio-bind.conf";

const HOOK_PATH: &str = "/etc/initramfs-tools/hooks/gpu-vfio-bind";
const SCRIPT_PATH: &str = "/etc/initramfs-tools/scripts/init-top/gpu-vfio-bind";
const DRACUT_SETUP: &str = "/usr/lib/dracut/modules.d/90gpu-vfio-bind/module-setup.sh";
const DRACUT_SCRIPT: &str = "/usr/lib/dracut/modules.d/90gpu-vfio-bind/gpu-vfio-bind.sh";
const DRACUT_CONF: &str = "/etc/dracut.conf.d/gpu-vfio-bind.conf";

/// The first lines that initramfs-tools requires of every script.
const INITRAMFS_TOOLS: &str = include_str!("scripts/initramfs-tools-head.sh");
/// Runs in the initramfs, before udev, under busybox or dash.
const SCRIPT: &str = include_str!("scripts/init-top.sh");
/// What initramfs-tools puts into the image.
const HOOK: &str = include_str!("scripts/initramfs-tools-hook.sh");
/// What dracut puts into the image.
const DRACUT_MODULE: &str = include_str!("scripts/dracut-module-setup.sh");

/// The generator of the initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initramfs {
    /// Debian's, and so Proxmox VE's.
    InitramfsTools,
    /// dracut.
    Dracut,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    pub path: &'static str,
    /// `None`: the file is removed.
    pub text: Option<String>,
    pub mode: u32,
}

/// The files that a generator takes part in.
pub fn paths(initramfs: Initramfs) -> Vec<&'static str> {
    let mut paths = vec![LIST, MODPROBE, MODULES_LOAD];
    match initramfs {
        Initramfs::InitramfsTools => paths.extend([HOOK_PATH, SCRIPT_PATH]),
        Initramfs::Dracut => paths.extend([DRACUT_SETUP, DRACUT_SCRIPT, DRACUT_CONF]),
    }
    paths
}

/// All files for a list. An empty list needs none of them. `modules` are the
/// native modules that claim the functions; `blacklist` are those that are not
/// loaded for any GPU.
pub fn files(
    entries: &[BootEntry],
    modules: &BTreeSet<String>,
    blacklist: &BTreeSet<String>,
    initramfs: Initramfs,
) -> Vec<BootFile> {
    let wanted = !entries.is_empty();
    let file = |path, text: String, mode| BootFile { path, text: wanted.then_some(text), mode };
    let drivers: BTreeSet<&str> = entries.iter().map(|e| e.driver.as_str()).collect();
    let drivers: Vec<&str> = drivers.into_iter().collect();
    let mut files = vec![
        file(LIST, format_list(entries), 0o644),
        file(MODPROBE, modprobe(entries, modules, blacklist), 0o644),
        file(MODULES_LOAD, format!("{HEAD}{}\n", drivers.join("\n")), 0o644),
    ];
    let underscored: Vec<String> = drivers.iter().map(|d| d.replace('-', "_")).collect();
    match initramfs {
        Initramfs::InitramfsTools => {
            let hook = HOOK.replace("@DRIVERS@", &underscored.join(" "));
            files.push(file(HOOK_PATH, hook, 0o755));
            let script = format!("{INITRAMFS_TOOLS}{SCRIPT}");
            files.push(file(SCRIPT_PATH, script, 0o755));
        }
        Initramfs::Dracut => {
            let module = DRACUT_MODULE.replace("@DRIVERS@", &underscored.join(" "));
            files.push(file(DRACUT_SETUP, module, 0o755));
            files.push(file(DRACUT_SCRIPT, format!("#!/bin/sh\n{SCRIPT}"), 0o755));
            let conf = format!("{HEAD}add_dracutmodules+=\" gpu-vfio-bind \"\n");
            files.push(file(DRACUT_CONF, conf, 0o644));
        }
    }
    files
}

fn modprobe(
    entries: &[BootEntry],
    modules: &BTreeSet<String>,
    blacklist: &BTreeSet<String>,
) -> String {
    let mut text = String::from(HEAD);
    let ids: BTreeSet<String> =
        entries.iter().filter(|e| e.by == MatchBy::Id).map(BootEntry::short_ids).collect();
    if !ids.is_empty() {
        // no spaces: what follows one is ignored
        let ids: Vec<String> = ids.into_iter().collect();
        let _ = writeln!(text, "options vfio-pci ids={}", ids.join(","));
    }
    // a softdep orders modprobe only; the override is what decides
    for module in modules {
        let _ = writeln!(text, "softdep {module} pre: vfio-pci");
    }
    for module in blacklist {
        let _ = writeln!(text, "blacklist {module}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::list::example;

    fn entry(address: &str, device: &str, by: MatchBy) -> BootEntry {
        BootEntry { by, ..example(address, device) }
    }

    #[test]
    fn ids_are_written_without_spaces_and_once() {
        let entries = [
            entry("0000:2b:00.0", "0x1e07", MatchBy::Id),
            entry("0000:2c:00.0", "0x1e07", MatchBy::Id),
            entry("0000:2b:00.1", "0x10f7", MatchBy::Id),
            entry("0000:2d:00.1", "0xffff", MatchBy::Address),
        ];
        let modules = BTreeSet::from(["nvidia".to_string(), "nouveau".to_string()]);
        let blacklist = BTreeSet::from(["nouveau".to_string()]);
        let text = modprobe(&entries, &modules, &blacklist);
        assert!(text.contains("options vfio-pci ids=10de:10f7,10de:1e07\n"), "{text}");
        assert!(text.contains("softdep nvidia pre: vfio-pci\n"));
        assert!(text.ends_with("blacklist nouveau\n"));
        let text = modprobe(&entries[3..], &modules, &BTreeSet::new());
        assert!(!text.contains("ids=") && !text.contains("blacklist"));
    }

    #[test]
    fn an_empty_list_leaves_no_file() {
        for initramfs in [Initramfs::InitramfsTools, Initramfs::Dracut] {
            let files = files(&[], &BTreeSet::new(), &BTreeSet::new(), initramfs);
            assert!(files.len() >= 5 && files.iter().all(|f| f.text.is_none()));
        }
    }
}
