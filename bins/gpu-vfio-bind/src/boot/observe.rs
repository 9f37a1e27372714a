//! What the next boot depends on, as it is now. Reads only.

use std::collections::BTreeMap;

use ::cli::{Exit, Failure, Say, fail};
use host::boot_loader::{BootFileEdit, BootLoader};
use host::{FileError, Machine};
use pci::System;

use super::files::{Initramfs, MODPROBE, paths};
use super::list::{BootEntry, LIST, parse_list};
use super::modprobe::modprobe_files;
use crate::vfio_driver::modules_alias;

const MOST: usize = 1 << 20;

pub struct BootFacts {
    pub initramfs: Initramfs,
    /// Texts of the files that a plan may write, those that exist.
    pub texts: BTreeMap<&'static str, String>,
    /// Other files of modprobe that set ids= for vfio-pci.
    pub foreign_ids: Vec<String>,
    /// The word of the running kernel's command line that sets them.
    pub booted_ids: Option<String>,
    pub modules_alias: Vec<u8>,
    /// How the boot loader gets an option, where one is asked for and the
    /// loader is known.
    pub loader: Option<LoaderFacts>,
}

/// What an option on the kernel command line of the next boot takes.
pub struct LoaderFacts {
    pub loader: BootLoader,
    pub option: &'static str,
    /// `None`: the loader's file has a form that is not edited.
    pub edit: Option<BootFileEdit>,
    /// What makes the loader use the changed file.
    pub commands: Vec<&'static [&'static str]>,
}

impl BootFacts {
    /// Errors: a file exists and cannot be read, or this host has no generator
    /// of an initramfs.
    pub fn read(
        machine: &Machine,
        system: &System,
        with_loader: bool,
        say: &Say,
    ) -> Result<BootFacts, Failure> {
        let initramfs = initramfs(machine)?;
        let mut texts = BTreeMap::new();
        for path in paths(initramfs) {
            texts.extend(read_existing(machine, path)?.map(|text| (path, text)));
        }
        let option = system.iommu.needed_option().filter(|_| with_loader);
        let loader = match (option, BootLoader::booted(machine)) {
            (Some(option), Some(loader)) => Some(LoaderFacts {
                loader,
                option,
                edit: loader.with_option(machine, option)?,
                commands: loader.update_commands(machine),
            }),
            _ => None,
        };
        let cmdline = machine.attr("/proc/cmdline").unwrap_or_default();
        let sets_ids =
            |word: &&str| word.starts_with("vfio-pci.ids=") || word.starts_with("vfio_pci.ids=");
        Ok(BootFacts {
            initramfs,
            texts,
            foreign_ids: foreign_ids(machine)?,
            booted_ids: cmdline.split_ascii_whitespace().find(sets_ids).map(str::to_string),
            modules_alias: modules_alias(machine, system).unwrap_or_else(|error| {
                say.detail(&format!("{error}: no softdep is written"));
                Vec::new()
            }),
            loader,
        })
    }

    pub fn entries(&self) -> Vec<BootEntry> {
        self.texts.get(LIST).map(|text| parse_list(text)).unwrap_or_default()
    }
}

/// The list as it is. Errors: it exists and cannot be read, which is not the
/// same as an empty one.
pub fn read_list(machine: &Machine) -> Result<Vec<BootEntry>, FileError> {
    let text = read_existing(machine, LIST)?;
    Ok(text.map(|text| parse_list(&text)).unwrap_or_default())
}

/// A file's text, `None` where it does not exist.
pub fn read_existing(machine: &Machine, path: &str) -> Result<Option<String>, FileError> {
    match machine.read_text(path, MOST) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which generator this host has.
fn initramfs(machine: &Machine) -> Result<Initramfs, Failure> {
    let has_dracut = machine.exists("/usr/bin/dracut") || machine.exists("/usr/sbin/dracut");
    // Debian's dracut has an update-initramfs of its own
    let is_wrapper = has_dracut && !machine.exists("/usr/share/initramfs-tools/hook-functions");
    if machine.exists("/usr/sbin/update-initramfs") && !is_wrapper {
        return Ok(Initramfs::InitramfsTools);
    }
    if has_dracut {
        return Ok(Initramfs::Dracut);
    }
    Err(fail(Exit::System, "neither update-initramfs nor dracut is installed")
        .hint("install one of them: without an initramfs native drivers are loaded first"))
}

/// modprobe joins the options of all files, and the last ids= wins.
fn foreign_ids(machine: &Machine) -> Result<Vec<String>, FileError> {
    let files = modprobe_files(machine)?.into_iter();
    let foreign = files.filter(|(path, text)| path != MODPROBE && text.lines().any(sets_ids));
    Ok(foreign.map(|(path, _)| path).collect())
}

/// `options vfio-pci ids=...`, in either spelling of the module.
fn sets_ids(line: &str) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    matches!(words[..], ["options", "vfio-pci" | "vfio_pci", ..])
        && words[2..].iter().any(|word| word.starts_with("ids="))
}
