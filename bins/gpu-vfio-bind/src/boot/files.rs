//! The files that move functions to VFIO at boot. Pure: what each of them says.
//!
//! By address: a script in the initramfs sets driver_override before udev loads
//! any native driver, and only where the function at that address is still the
//! one that was meant. By id: vfio-pci takes every function with these ids.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pci::Function;
use record::Address;

/// The list that everything else is made from.
pub const LIST: &str = "/etc/gpu-vfio-bind.list";
/// modprobe's part.
pub const MODPROBE: &str = "/etc/modprobe.d/gpu-vfio-bind.conf";
/// Loaded in the real root, for hosts whose initramfs has none of it.
pub const MODULES_LOAD: &str = "/etc/modules-load.d/gpu-vfio-bind.conf";

/// How a function is recognised at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// By its address, if its ids are still the same.
    Address,
    /// By its ids, wherever it is.
    Id,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            By::Address => "address",
            By::Id => "id",
        }
    }
}

/// One function of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Where it is.
    pub address: Address,
    /// Vendor, device, subsystem vendor and subsystem device, as sysfs prints them.
    pub ids: [String; 4],
    /// The VFIO driver that it is to have.
    pub driver: String,
    /// How it is recognised.
    pub by: By,
}

impl Entry {
    /// The entry of a function; `None` where its ids are unknown.
    pub fn of(function: &Function, driver: &str, by: By) -> Option<Entry> {
        let hex = |id: u16| format!("0x{id:04x}");
        Some(Entry {
            address: function.address,
            ids: [
                hex(function.vendor?),
                hex(function.device?),
                hex(function.subsystem_vendor.unwrap_or(0)),
                hex(function.subsystem_device.unwrap_or(0)),
            ],
            driver: driver.to_string(),
            by,
        })
    }

    /// Whether a function is the one that was meant.
    pub fn is(&self, function: &Function) -> bool {
        Entry::of(function, &self.driver, self.by).is_some_and(|now| match self.by {
            By::Address => now.address == self.address && now.ids == self.ids,
            By::Id => now.ids[..2] == self.ids[..2],
        })
    }

    /// `10de:1e07`, as modprobe options have it.
    fn short(&self) -> String {
        let short = |id: &str| id.trim_start_matches("0x").to_string();
        format!("{}:{}", short(&self.ids[0]), short(&self.ids[1]))
    }
}

const HEAD: &str =
    "# Written by gpu-vfio-bind; 'gpu-vfio-bind unpersist' takes entries out again.\n";

/// Reads the list. Lines that make no sense are left out: the script does so too.
pub fn parse_list(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [address, vendor, device, subvendor, subdevice, driver, by] = words[..] else {
                return None;
            };
            let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            Some(Entry {
                address: Address::from_sysfs(address)?,
                ids: [vendor, device, subvendor, subdevice].map(str::to_string),
                driver: driver.bytes().all(name).then(|| driver.to_string())?,
                by: match by {
                    "address" => By::Address,
                    "id" => By::Id,
                    _ => return None,
                },
            })
        })
        .collect();
    entries.sort();
    entries
}

/// Writes the list.
pub fn format_list(entries: &[Entry]) -> String {
    let mut text = String::from(HEAD);
    text.push_str("# address vendor device subsystem_vendor subsystem_device driver by\n");
    for entry in entries {
        let ids = entry.ids.join(" ");
        let (driver, by) = (&entry.driver, entry.by.as_str());
        let _ = writeln!(text, "{} {ids} {driver} {by}", entry.address);
    }
    text
}

/// The generator of the initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initramfs {
    /// Debian's, and so Proxmox VE's.
    InitramfsTools,
    /// dracut.
    Dracut,
}

/// One file: path, content (`None`: it is to be gone), mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// Absolute path.
    pub path: &'static str,
    /// What it is to say.
    pub text: Option<String>,
    /// Permission bits.
    pub mode: u32,
}

/// All files for a list. An empty list needs none of them. `modules` are the
/// native modules that claim the functions; `blacklist` those that are not to
/// be loaded for any card.
pub fn files(
    entries: &[Entry],
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
            files.push(file("/etc/initramfs-tools/hooks/gpu-vfio-bind", hook, 0o755));
            let script = format!("{INITRAMFS_TOOLS}{SCRIPT}");
            files.push(file("/etc/initramfs-tools/scripts/init-top/gpu-vfio-bind", script, 0o755));
        }
        Initramfs::Dracut => {
            let module = DRACUT_MODULE.replace("@DRIVERS@", &underscored.join(" "));
            let dir = ["module-setup.sh", "gpu-vfio-bind.sh"];
            let paths = [
                "/usr/lib/dracut/modules.d/90gpu-vfio-bind/module-setup.sh",
                "/usr/lib/dracut/modules.d/90gpu-vfio-bind/gpu-vfio-bind.sh",
            ];
            debug_assert!(paths.iter().zip(dir).all(|(path, name)| path.ends_with(name)));
            files.push(file(paths[0], module, 0o755));
            files.push(file(paths[1], format!("#!/bin/sh\n{SCRIPT}"), 0o755));
            let conf = format!("{HEAD}add_dracutmodules+=\" gpu-vfio-bind \"\n");
            files.push(file("/etc/dracut.conf.d/gpu-vfio-bind.conf", conf, 0o644));
        }
    }
    files
}

fn modprobe(entries: &[Entry], modules: &BTreeSet<String>, blacklist: &BTreeSet<String>) -> String {
    let mut text = String::from(HEAD);
    let ids: BTreeSet<String> =
        entries.iter().filter(|e| e.by == By::Id).map(Entry::short).collect();
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

/// initramfs-tools: what every script must begin with.
const INITRAMFS_TOOLS: &str = "#!/bin/sh
PREREQ=\"\"
prereqs() { echo \"$PREREQ\"; }
case $1 in
prereqs)
	prereqs
	exit 0
	;;
esac

";

/// Runs in the initramfs, before udev, under busybox or dash.
const SCRIPT: &str =
    "# Written by gpu-vfio-bind: sets driver_override before native drivers are loaded.

say() { echo \"gpu-vfio-bind: $*\" >/dev/kmsg 2>/dev/null || echo \"gpu-vfio-bind: $*\"; }

drivers=
moved=
while read -r address vendor device subvendor subdevice driver by rest; do
	case $address in '' | '#'*) continue ;; esac
	case \" $drivers \" in *\" $driver \"*) ;; *) drivers=\"$drivers $driver\" ;; esac
	[ \"$by\" = address ] || continue
	dir=/sys/bus/pci/devices/$address
	if [ ! -e \"$dir/driver_override\" ]; then
		say \"$address: no such function, nothing is bound\"
		continue
	fi
	read -r v <\"$dir/vendor\"
	read -r d <\"$dir/device\"
	read -r sv <\"$dir/subsystem_vendor\"
	read -r sd <\"$dir/subsystem_device\"
	if [ \"$v $d $sv $sd\" != \"$vendor $device $subvendor $subdevice\" ]; then
		say \"$address: left alone: it is $v $d $sv $sd, not $vendor $device $subvendor $subdevice\"
		continue
	fi
	echo \"$driver\" >\"$dir/driver_override\"
	# a driver that is built into the kernel may have it already
	if [ -e \"$dir/driver\" ]; then
		echo \"$address\" >\"$dir/driver/unbind\"
	fi
	moved=\"$moved $address\"
done </etc/gpu-vfio-bind.list
for driver in $drivers; do
	modprobe \"$driver\" || say \"cannot load $driver\"
done
# loading probes them; where the driver was there before, nothing does
for address in $moved; do
	[ -e \"/sys/bus/pci/devices/$address/driver\" ] || echo \"$address\" >/sys/bus/pci/drivers_probe
done
";

/// initramfs-tools: what goes into the image.
const HOOK: &str = "#!/bin/sh
PREREQ=\"\"
prereqs() { echo \"$PREREQ\"; }
case $1 in
prereqs)
	prereqs
	exit 0
	;;
esac

# Written by gpu-vfio-bind.
. /usr/share/initramfs-tools/hook-functions
manual_add_modules vfio vfio_iommu_type1 @DRIVERS@
copy_file config /etc/gpu-vfio-bind.list
";

/// dracut: the same as a module.
const DRACUT_MODULE: &str = "#!/bin/bash
# Written by gpu-vfio-bind.

check() {
	return 0
}

installkernel() {
	hostonly='' instmods vfio vfio_iommu_type1 @DRIVERS@
}

install() {
	inst_simple /etc/gpu-vfio-bind.list
	inst_hook pre-udev 10 \"$moddir/gpu-vfio-bind.sh\"
}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str, device: &str, by: By) -> Entry {
        Entry {
            address: address.parse().unwrap(),
            ids: ["0x10de", device, "0x1458", "0x37a9"].map(str::to_string),
            driver: "vfio-pci".into(),
            by,
        }
    }

    #[test]
    fn the_list_is_read_as_it_is_written() {
        let entries = [
            entry("0000:2b:00.0", "0x1e07", By::Address),
            entry("10000:2c:00.0", "0x10f7", By::Id),
        ];
        assert_eq!(parse_list(&format_list(&entries)), entries);
        let junk = "x\n0000:2b:00.0 a b c d vfio-pci maybe\n0000:2b:00.0 a b c d $(reboot) id\n";
        assert!(parse_list(junk).is_empty());
    }

    #[test]
    fn ids_are_written_without_spaces_and_once() {
        let entries = [
            entry("0000:2b:00.0", "0x1e07", By::Id),
            entry("0000:2c:00.0", "0x1e07", By::Id),
            entry("0000:2b:00.1", "0x10f7", By::Id),
            entry("0000:2d:00.1", "0xffff", By::Address),
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

    #[test]
    fn an_entry_knows_its_function_by_address_and_ids() {
        let mut f = Function::bare("2b:00.0".parse().unwrap());
        f.vendor = Some(0x10de);
        f.device = Some(0x1e07);
        f.subsystem_vendor = Some(0x1458);
        f.subsystem_device = Some(0x37a9);
        let by_address = Entry::of(&f, "vfio-pci", By::Address).unwrap();
        let by_id = Entry::of(&f, "vfio-pci", By::Id).unwrap();
        assert!(by_address.is(&f) && by_id.is(&f));
        let mut elsewhere = f.clone();
        elsewhere.address = "2c:00.0".parse().unwrap();
        assert!(!by_address.is(&elsewhere) && by_id.is(&elsewhere));
        let mut other = f.clone();
        other.subsystem_device = Some(1);
        assert!(!by_address.is(&other) && by_id.is(&other));
    }
}
