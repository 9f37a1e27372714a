//! The initramfs images: rebuilt, and looked into.

use std::collections::BTreeSet;
use std::time::Duration;

use host::Machine;
use record::CommandLine;

use super::files::Initramfs;
use super::list::{BootEntry, LIST};

/// Building the images of all kernels of a slow host takes minutes.
const PATIENCE: Duration = Duration::from_secs(1800);
const MOST: usize = 16 << 20;

/// What an image has to contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageContents {
    /// The list of functions, and the modules of their drivers with
    /// underscores; none for an empty list.
    modules: Option<BTreeSet<String>>,
}

impl ImageContents {
    pub fn of(entries: &[BootEntry]) -> ImageContents {
        let modules = entries.iter().map(|entry| entry.driver.replace('-', "_")).collect();
        ImageContents { modules: (!entries.is_empty()).then_some(modules) }
    }
}

/// Starts programs; `None`: with --root nothing is run.
pub type Runner<'a> = dyn Fn(&[&str]) -> Result<Option<Vec<u8>>, String> + 'a;

/// The runner of a host. The error says which command failed, and how.
pub fn runner(machine: &Machine) -> impl Fn(&[&str]) -> Result<Option<Vec<u8>>, String> {
    |argv: &[&str]| match machine.run(argv, PATIENCE) {
        Ok(None) => Ok(None),
        Ok(Some(ran)) if ran.success() => Ok(Some(ran.stdout)),
        Ok(Some(ran)) => Err(format!("{} failed: {}", argv.join(" "), ran.reason())),
        Err(error) => Err(error.to_string()),
    }
}

/// Rebuilds the images and checks that those of the installed kernels contain
/// what they have to.
pub fn rebuild(
    machine: &Machine,
    run: &Runner<'_>,
    initramfs: Initramfs,
    contents: &ImageContents,
) -> Result<(), String> {
    if run(rebuild_words(initramfs))?.is_none() {
        return Ok(());
    }
    if host::boot_loader::uses_proxmox_boot_tool(machine) {
        run(&["proxmox-boot-tool", "refresh"])?;
    }
    let Some(modules) = &contents.modules else { return Ok(()) };
    let lister = match initramfs {
        Initramfs::InitramfsTools => "lsinitramfs",
        Initramfs::Dracut => "lsinitrd",
    };
    let images = images(machine);
    if images.is_empty() {
        return Err("whether the images contain the list is unknown: /boot has no image of an \
                    installed kernel"
            .into());
    }
    for (release, image) in images {
        let listing = run(&[lister, &image])?.unwrap_or_default();
        let listing = String::from_utf8_lossy(&listing).replace('-', "_");
        let lacks = |file: &str| !listing.contains(&file.replace('-', "_"));
        if lacks(LIST.trim_start_matches("/etc/")) {
            return Err(format!("'{image}' does not contain {LIST}"));
        }
        let built_in = built_in(machine, &release);
        for module in modules.iter().filter(|module| !built_in.contains(*module)) {
            if lacks(&format!("{module}.ko")) {
                return Err(format!("'{image}' does not contain the module {module}"));
            }
        }
    }
    Ok(())
}

/// Releases and images of the installed kernels. Other files in /boot that are
/// called like an image are copies that nothing boots (`.old-dkms`); Debian
/// calls the images of dracut as those of initramfs-tools.
fn images(machine: &Machine) -> Vec<(String, String)> {
    let modules: BTreeSet<String> =
        machine.list("/lib/modules").unwrap_or_default().into_iter().collect();
    let kernels = nvidia::installed_kernels(machine, None);
    let image = |release: String| {
        let names =
            [format!("/boot/initrd.img-{release}"), format!("/boot/initramfs-{release}.img")];
        let image = names.into_iter().find(|path| machine.exists(path))?;
        Some((release, image))
    };
    kernels.into_iter().filter(|release| modules.contains(release)).filter_map(image).collect()
}

/// Modules that are part of a kernel, with underscores.
fn built_in(machine: &Machine, release: &str) -> BTreeSet<String> {
    let path = format!("/lib/modules/{release}/modules.builtin");
    let text = machine.read_text(&path, MOST).unwrap_or_default();
    let name = |line: &str| Some(line.rsplit('/').next()?.strip_suffix(".ko")?.replace('-', "_"));
    text.lines().filter_map(name).collect()
}

/// The command that rebuilds the images of all kernels.
pub fn rebuild_command(initramfs: Initramfs) -> CommandLine {
    rebuild_words(initramfs).iter().map(|word| (*word).to_string()).collect()
}

fn rebuild_words(initramfs: Initramfs) -> &'static [&'static str] {
    match initramfs {
        Initramfs::InitramfsTools => &["update-initramfs", "-u", "-k", "all"],
        Initramfs::Dracut => &["dracut", "--force", "--regenerate-all"],
    }
}
