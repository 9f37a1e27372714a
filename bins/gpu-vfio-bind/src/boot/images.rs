//! The initramfs images: rebuilt, and looked into.

use std::time::Duration;

use host::Machine;
use record::CommandLine;

use super::files::Initramfs;

/// Building the images of all kernels of a slow host takes minutes.
pub const PATIENCE: Duration = Duration::from_secs(1800);

/// Rebuilds the images and checks that they contain the list where they have to.
/// With --root nothing is run.
pub fn rebuild(machine: &Machine, initramfs: Initramfs, with_list: bool) -> Result<(), String> {
    let run = |argv: &[&str]| match machine.run(argv, PATIENCE) {
        Ok(None) => Ok(None),
        Ok(Some(ran)) if ran.success() => Ok(Some(ran.stdout)),
        Ok(Some(ran)) => Err(format!("{} failed: {}", argv.join(" "), ran.reason())),
        Err(error) => Err(error.to_string()),
    };
    if run(rebuild_words(initramfs))?.is_none() {
        return Ok(());
    }
    if machine.exists("/etc/kernel/proxmox-boot-uuids") {
        run(&["proxmox-boot-tool", "refresh"])?;
    }
    if !with_list {
        return Ok(());
    }
    let (prefix, lister) = match initramfs {
        Initramfs::InitramfsTools => ("initrd.img-", "lsinitramfs"),
        Initramfs::Dracut => ("initramfs-", "lsinitrd"),
    };
    let names = machine.list("/boot").map_err(|error| error.to_string())?;
    for name in names.iter().filter(|name| name.starts_with(prefix)) {
        let image = format!("/boot/{name}");
        let listing = run(&[lister, &image])?.unwrap_or_default();
        let listing = String::from_utf8_lossy(&listing);
        for part in ["gpu-vfio-bind.list", "vfio-pci.ko"] {
            if !listing.contains(part) {
                return Err(format!("'{image}' does not contain {part}"));
            }
        }
    }
    Ok(())
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
