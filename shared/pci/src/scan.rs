//! Reading a machine's PCI functions and IOMMU groups.
//!
//! All reads of kernel attributes happen in child processes with a deadline
//! (see [`host::probe`]): beside a stuck unbind some of them never return.

use std::collections::BTreeMap;
use std::io;
use std::thread::available_parallelism;
use std::time::Duration;

use host::probe::{Probed, Sink, probe};
use host::{Dir, FileError, Machine};
use record::{Address, Link};

use crate::alias::Modalias;
use crate::group::{Group, OtherMember, reserved_regions};
use crate::{Function, Iommu};

/// A function that sleeps in D3cold needs up to a second to answer.
const DEADLINE: Duration = Duration::from_secs(3);

const DEVICES: &str = "/sys/bus/pci/devices";
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// What is there.
#[derive(Debug)]
pub struct System {
    /// All PCI functions by address.
    pub functions: BTreeMap<Address, Function>,
    /// All IOMMU groups by number.
    pub groups: BTreeMap<u32, Group>,
    /// Its IOMMU.
    pub iommu: Iommu,
    /// What could not be read and why, for people.
    pub warnings: Vec<String>,
}

impl System {
    /// Whether a GPU sits in a function's slot.
    pub fn gpu_in_slot(&self, of: &Function) -> bool {
        self.slot(of).any(Function::is_gpu)
    }

    /// The functions that go together with `of`, itself included.
    pub fn slot<'a>(&'a self, of: &'a Function) -> impl Iterator<Item = &'a Function> {
        let slot = of.address.slot();
        let first = Address { function: 0, ..of.address };
        self.functions
            .range(first..)
            .take_while(move |(address, _)| address.slot() == slot)
            .map(|(_, function)| function)
            .filter(move |function| function.is_companion(of))
    }

    /// The functions of a group.
    pub fn members<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Function> {
        group.members.iter().filter_map(|address| self.functions.get(address))
    }
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What a verdict needs: of functions neither links nor reset methods nor
    /// NUMA nodes, which are half of all attributes.
    Verdict,
    /// All of the functions, of groups what a verdict needs.
    Functions,
    /// Everything.
    Full,
}

/// Reads everything. A function or attribute that cannot be read is left out
/// with a warning. Errors: there is no PCI bus in sysfs at all.
pub fn scan(machine: &Machine, depth: Depth) -> Result<System, FileError> {
    let devices = machine.dir(DEVICES)?;
    let mut addresses: Vec<Address> =
        devices.list()?.iter().filter_map(|name| Address::from_sysfs(name)).collect();
    addresses.sort_unstable();
    let mut warnings = Vec::new();
    let mut ids: Vec<u32> = match machine.list(GROUPS) {
        Ok(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
        Err(error) => {
            warnings.push(error.to_string());
            Vec::new()
        }
    };
    ids.sort_unstable();
    // functions first, then groups, in one go: starting children costs as much
    // as reading a hundred attributes
    let count = addresses.len();
    let read = |at: usize, sink: &mut Sink| match addresses.get(at) {
        Some(address) => read_function(machine, &devices, *address, depth, sink),
        None => read_group(machine, ids[at - count], depth, sink),
    };
    let probed = run(count + ids.len(), &read, &mut warnings);
    let functions: BTreeMap<Address, Function> = addresses
        .iter()
        .zip(&probed)
        .map(|(address, probed)| (*address, function(*address, probed)))
        .collect();
    for function in functions.values() {
        let named = |what: &String| format!("{}: {what}", function.address);
        warnings.extend(function.warnings.iter().map(named));
    }
    let groups = groups(&ids, &probed[count..], &functions, &mut warnings);
    let iommu = Iommu::read(machine);
    Ok(System { functions, groups, iommu, warnings })
}

/// Probes with as many children as the work is worth.
fn run(items: usize, read: &dyn Fn(usize, &mut Sink), warnings: &mut Vec<String>) -> Vec<Probed> {
    let processors = available_parallelism().map_or(1, usize::from);
    let workers = processors.min(8).min(items.div_ceil(48)).max(1);
    match probe(items, workers, DEADLINE, read) {
        Ok(answers) => answers,
        Err(error) => {
            warnings.push(format!("cannot start a reader: {error}"));
            vec![Probed::default(); items]
        }
    }
}

/// What one read is of. The order is about that of reading: what may block on
/// some kernel comes last.
mod tag {
    pub const LINK: u8 = 1;
    pub const DIR: u8 = 2;
    pub const MODALIAS: u8 = 3;
    pub const VENDOR: u8 = 4;
    pub const DEVICE: u8 = 5;
    pub const SUBVENDOR: u8 = 6;
    pub const SUBDEVICE: u8 = 7;
    pub const CLASS: u8 = 8;
    pub const REVISION: u8 = 9;
    pub const DRIVER: u8 = 10;
    pub const GROUP: u8 = 11;
    pub const PHYSFN: u8 = 12;
    pub const BUS: u8 = 13;
    pub const VGPU: u8 = 14;
    pub const MDEV: u8 = 15;
    pub const VFIO: u8 = 16;
    pub const DRM: u8 = 17;
    pub const BOOT_VGA: u8 = 18;
    pub const NUMA: u8 = 19;
    pub const RESET: u8 = 20;
    pub const SPEED: u8 = 21;
    pub const WIDTH: u8 = 22;
    pub const MAX_SPEED: u8 = 23;
    pub const MAX_WIDTH: u8 = 24;
    pub const TOTALVFS: u8 = 25;
    pub const VFS: u8 = 26;
    pub const NUMVFS: u8 = 27;
    pub const OVERRIDE: u8 = 28;

    /// The attribute's name, for messages.
    pub fn name(tag: u8) -> &'static str {
        match tag {
            LINK | DIR => "its directory",
            MODALIAS => "modalias",
            VENDOR => "vendor",
            DEVICE => "device",
            SUBVENDOR => "subsystem_vendor",
            SUBDEVICE => "subsystem_device",
            CLASS => "class",
            REVISION => "revision",
            DRIVER => "driver",
            GROUP => "iommu_group",
            PHYSFN => "physfn",
            BUS => "pci_bus",
            VGPU => "nvidia",
            MDEV => "mdev_supported_types",
            VFS => "virtfn*",
            VFIO => "vfio-dev",
            DRM => "drm",
            BOOT_VGA => "boot_vga",
            NUMA => "numa_node",
            RESET => "reset_method",
            SPEED => "current_link_speed",
            WIDTH => "current_link_width",
            MAX_SPEED => "max_link_speed",
            MAX_WIDTH => "max_link_width",
            TOTALVFS => "sriov_totalvfs",
            NUMVFS => "sriov_numvfs",
            OVERRIDE => "driver_override",
            _ => "an attribute",
        }
    }
}

/// Runs in a child: passes the bytes on. It asks for each attribute by name
/// rather than listing the directory, and not for those that a function of this
/// class cannot have: on a machine with hundreds of functions that is what
/// costs. One that is not there is passed over silently.
fn read_function(
    machine: &Machine,
    devices: &Dir<'_>,
    address: Address,
    depth: Depth,
    sink: &mut Sink,
) {
    let name = address.to_string();
    sink.put(tag::LINK, || devices.read_link(&name).map(String::into_bytes));
    let mut dir = None;
    sink.put(tag::DIR, || {
        dir = Some(machine.dir(&format!("{DEVICES}/{name}")).map_err(|error| error.source)?);
        Ok(Vec::new())
    });
    let Some(dir) = dir else { return };
    let class = read_ids(&dir, sink);
    // a class that is not known may be any
    let base = class.map(|class| (class >> 16) as u8);
    let may_be = |bases: &[u8]| base.is_none_or(|base| bases.contains(&base));
    let driver = read_link(&dir, tag::DRIVER, sink);
    read_link(&dir, tag::GROUP, sink);
    let vf = read_link(&dir, tag::PHYSFN, sink);
    let mut mark = |tag: u8| {
        if dir.has(tag::name(tag)) {
            sink.put(tag, || Ok(Vec::new()));
        }
    };
    if may_be(&[BRIDGE]) {
        mark(tag::BUS);
    }
    if vf {
        mark(tag::VGPU);
    }
    if driver {
        mark(tag::MDEV);
        read_names(&dir, tag::VFIO, sink);
        if may_be(&[DISPLAY, PROCESSOR, ACCELERATOR]) {
            read_names(&dir, tag::DRM, sink);
        }
    }
    if class.is_none_or(|class| class >> 8 == 0x0300) {
        attr(&dir, tag::BOOT_VGA, sink);
    }
    if depth != Depth::Verdict {
        attr(&dir, tag::NUMA, sink);
        attr(&dir, tag::RESET, sink);
        if attr(&dir, tag::SPEED, sink) {
            for tag in [tag::WIDTH, tag::MAX_SPEED, tag::MAX_WIDTH] {
                attr(&dir, tag, sink);
            }
        }
    }
    if !vf && attr(&dir, tag::TOTALVFS, sink) {
        sink.put(tag::VFS, || read_vfs(&dir));
        attr(&dir, tag::NUMVFS, sink);
    }
    attr(&dir, tag::OVERRIDE, sink);
}

/// Base classes.
const DISPLAY: u8 = 0x03;
const BRIDGE: u8 = 0x06;
const PROCESSOR: u8 = 0x0b;
const ACCELERATOR: u8 = 0x12;

/// Ids and class: all in one attribute, or each in its own. Gives the class.
fn read_ids(dir: &Dir<'_>, sink: &mut Sink) -> Option<u32> {
    let mut class = None;
    let mut modalias = false;
    sink.put(tag::MODALIAS, || {
        let bytes = dir.attr("modalias")?;
        modalias = true;
        class = Modalias::parse(String::from_utf8_lossy(&bytes).trim_end()).map(|m| m.class);
        Ok(bytes)
    });
    if !modalias {
        for tag in [tag::VENDOR, tag::DEVICE, tag::SUBVENDOR, tag::SUBDEVICE, tag::CLASS] {
            attr(dir, tag, sink);
        }
    }
    attr(dir, tag::REVISION, sink);
    class
}

/// Passes on what `read` gives, or its failure, unless there is no such thing.
/// True: it was there and could be read.
fn unless_absent(tag: u8, sink: &mut Sink, read: impl FnOnce() -> io::Result<Vec<u8>>) -> bool {
    let mut there = false;
    sink.put_some(tag, || match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => {
            there = other.is_ok();
            Some(other)
        }
    });
    there
}

fn attr(dir: &Dir<'_>, tag: u8, sink: &mut Sink) -> bool {
    unless_absent(tag, sink, || dir.attr(tag::name(tag)))
}

fn read_link(dir: &Dir<'_>, tag: u8, sink: &mut Sink) -> bool {
    unless_absent(tag, sink, || dir.link_name(tag::name(tag)).map(String::into_bytes))
}

fn read_names(dir: &Dir<'_>, tag: u8, sink: &mut Sink) {
    unless_absent(tag, sink, || {
        let names = dir.list_below(tag::name(tag)).map_err(|error| error.source)?;
        Ok(names.join("\n").into_bytes())
    });
}

/// The VFs in VF order; their addresses need not count up by one.
fn read_vfs(dir: &Dir<'_>) -> io::Result<Vec<u8>> {
    let mut vfs = Vec::new();
    loop {
        match dir.link_name(&format!("virtfn{}", vfs.len())) {
            Ok(name) => vfs.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(vfs.join("\n").into_bytes())
}

/// Understands what was read.
fn function(address: Address, probed: &Probed) -> Function {
    let mut f = Function::bare(address);
    let text = |tag: u8| {
        probed.bytes(tag).map(|b| String::from_utf8_lossy(b).trim_end_matches('\n').to_string())
    };
    let number = |tag: u8| text(tag).and_then(|t| t.trim().parse::<i64>().ok());
    let hex = |tag: u8| {
        text(tag).and_then(|t| u32::from_str_radix(t.trim().trim_start_matches("0x"), 16).ok())
    };
    f.parent = text(tag::LINK).and_then(|target| {
        let mut parts = target.rsplit('/');
        parts.nth(1).and_then(Address::from_sysfs)
    });
    if let Some(of) = text(tag::MODALIAS).as_deref().and_then(Modalias::parse) {
        f.vendor = Some(of.vendor);
        f.device = Some(of.device);
        f.subsystem_vendor = Some(of.subsystem_vendor);
        f.subsystem_device = Some(of.subsystem_device);
        f.class = Some(of.class);
    } else {
        f.vendor = hex(tag::VENDOR).map(|n| n as u16);
        f.device = hex(tag::DEVICE).map(|n| n as u16);
        f.subsystem_vendor = hex(tag::SUBVENDOR).map(|n| n as u16);
        f.subsystem_device = hex(tag::SUBDEVICE).map(|n| n as u16);
        f.class = hex(tag::CLASS);
    }
    f.revision = hex(tag::REVISION).map(|n| n as u8);
    f.driver = text(tag::DRIVER);
    f.group = text(tag::GROUP).and_then(|t| t.parse().ok());
    f.pf = text(tag::PHYSFN).as_deref().and_then(Address::from_sysfs);
    let marked = |tag: u8| probed.bytes(tag).is_some();
    (f.bridge, f.vgpu_vendor, f.mdev) = (marked(tag::BUS), marked(tag::VGPU), marked(tag::MDEV));
    f.vfs = list(text(tag::VFS)).iter().filter_map(|n| Address::from_sysfs(n)).collect();
    f.vfio_device = list(text(tag::VFIO)).into_iter().find(|n| n.starts_with("vfio"));
    f.drm = list(text(tag::DRM))
        .into_iter()
        .filter(|n| n.starts_with("renderD") || is_card(n))
        .collect();
    f.boot_vga = number(tag::BOOT_VGA).map(|n| n != 0);
    f.numa_node = number(tag::NUMA).and_then(|n| u32::try_from(n).ok());
    f.reset_methods = text(tag::RESET)
        .map(|t| t.split_ascii_whitespace().map(str::to_string).collect())
        .unwrap_or_default();
    f.link = link(text(tag::SPEED), text(tag::WIDTH), text(tag::MAX_SPEED), text(tag::MAX_WIDTH));
    f.sriov_total = number(tag::TOTALVFS).and_then(|n| u32::try_from(n).ok());
    f.sriov_enabled = number(tag::NUMVFS).and_then(|n| u32::try_from(n).ok());
    f.driver_override = text(tag::OVERRIDE).filter(|t| !t.is_empty() && t != "(null)");
    f.warnings = warnings(probed);
    f
}

fn list(text: Option<String>) -> Vec<String> {
    text.map(|t| t.split('\n').filter(|n| !n.is_empty()).map(str::to_string).collect())
        .unwrap_or_default()
}

/// `card1`, but not its connectors (`card1-DP-1`).
fn is_card(name: &str) -> bool {
    name.strip_prefix("card")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The kernel prints `16.0 GT/s PCIe` (older: `8 GT/s`) and `Unknown`, and 0 or
/// 255 lanes where there is no link.
fn link(
    speed: Option<String>,
    width: Option<String>,
    max_speed: Option<String>,
    max_width: Option<String>,
) -> Option<Link> {
    let gts = |text: Option<String>| {
        text.and_then(|t| t.split(' ').next().and_then(|n| n.parse::<f64>().ok()))
            .filter(|n| n.is_finite() && *n > 0.0)
    };
    let lanes = |text: Option<String>| {
        text.and_then(|t| t.trim().parse::<u32>().ok()).filter(|n| (1..=64).contains(n))
    };
    let link = Link {
        speed_gts: gts(speed),
        width: lanes(width),
        max_speed_gts: gts(max_speed),
        max_width: lanes(max_width),
    };
    let known = link.speed_gts.is_some()
        || link.width.is_some()
        || link.max_speed_gts.is_some()
        || link.max_width.is_some();
    known.then_some(link)
}

/// What a person should know of reads that failed. An attribute that is not
/// there, or not for this function, is no failure.
fn warnings(probed: &Probed) -> Vec<String> {
    if let Some(stuck) = probed.stuck_at {
        return vec![format!(
            "reading {} blocks in the kernel (is its driver stuck in unbind?); the rest is unknown",
            tag::name(stuck)
        )];
    }
    if probed.values.is_empty() {
        return vec!["could not be read".into()];
    }
    if probed.errno(tag::DIR).is_some() {
        return vec!["disappeared while it was read".into()];
    }
    probed
        .values
        .iter()
        .filter_map(|(tag, value)| Some((*tag, *value.as_ref().err()?)))
        .filter(|(tag, errno)| *tag != tag::MODALIAS || *errno != 2)
        .map(|(tag, errno)| {
            let reason = io::Error::from_raw_os_error(errno).to_string();
            let reason = reason.split(" (os error").next().unwrap_or("").to_lowercase();
            format!("cannot read {}: {reason}", tag::name(tag))
        })
        .collect()
}

mod group_tag {
    pub const MEMBERS: u8 = 1;
    pub const RESERVED: u8 = 2;
    pub const NAME: u8 = 3;
    pub const TYPE: u8 = 4;
}

fn groups(
    ids: &[u32],
    probed: &[Probed],
    functions: &BTreeMap<Address, Function>,
    warnings: &mut Vec<String>,
) -> BTreeMap<u32, Group> {
    let mut groups = BTreeMap::new();
    for (id, probed) in ids.iter().zip(probed) {
        if probed.stuck_at.is_some() {
            warnings.push(format!("group {id}: reading it blocks in the kernel"));
        }
        groups.insert(*id, group(*id, probed));
    }
    // The functions' own links are the truth about who is in a group; the
    // group's list tells of members that are no functions.
    for function in functions.values() {
        if let Some(id) = function.group {
            groups.entry(id).or_insert_with(|| Group::bare(id)).members.push(function.address);
        }
    }
    groups
}

fn read_group(machine: &Machine, id: u32, depth: Depth, sink: &mut Sink) {
    sink.put(group_tag::MEMBERS, || {
        let dir = machine.dir(&format!("{GROUPS}/{id}/devices")).map_err(|error| error.source)?;
        let names = dir.list().map_err(|error| error.source)?;
        let others = names.iter().filter(|name| Address::from_sysfs(name).is_none());
        let lines: Vec<String> = others
            .map(|name| {
                let link = format!("{GROUPS}/{id}/devices/{name}/driver");
                let driver = machine.read_link(&link).unwrap_or_default();
                format!("{name}\t{}", driver.rsplit('/').next().unwrap_or(""))
            })
            .collect();
        Ok(lines.join("\n").into_bytes())
    });
    let mut attr = |tag: u8, name: &str| {
        sink.put(tag, || {
            let text = machine.attr(&format!("{GROUPS}/{id}/{name}"));
            text.map(String::into_bytes).map_err(|error| error.source)
        });
    };
    attr(group_tag::RESERVED, "reserved_regions");
    if depth == Depth::Full {
        attr(group_tag::NAME, "name");
        attr(group_tag::TYPE, "type");
    }
}

fn group(id: u32, probed: &Probed) -> Group {
    let text = |tag: u8| {
        probed.bytes(tag).map(|b| String::from_utf8_lossy(b).trim_end_matches('\n').to_string())
    };
    let mut group = Group::bare(id);
    group.name = text(group_tag::NAME);
    group.domain_type = text(group_tag::TYPE);
    group.reserved = reserved_regions(&text(group_tag::RESERVED).unwrap_or_default());
    group.others = list(text(group_tag::MEMBERS))
        .iter()
        .map(|line| {
            let (name, driver) = line.split_once('\t').unwrap_or((line, ""));
            OtherMember {
                name: name.to_string(),
                driver: (!driver.is_empty()).then(|| driver.to_string()),
            }
        })
        .collect();
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_numbers_or_nothing() {
        let some = |t: &str| Some(t.to_string());
        let link4 = |s, w, ms, mw| link(some(s), some(w), some(ms), some(mw));
        let known = link4("2.5 GT/s PCIe", "16", "16.0 GT/s PCIe", "16").unwrap();
        assert_eq!((known.speed_gts, known.max_speed_gts), (Some(2.5), Some(16.0)));
        let old = link4("8 GT/s", "8", "8 GT/s", "16").unwrap();
        assert_eq!((old.speed_gts, old.width), (Some(8.0), Some(8)));
        assert!(link4("Unknown", "0", "Unknown", "255").is_none());
        assert!(link(None, None, None, None).is_none());
    }

    #[test]
    fn connectors_are_no_drm_nodes() {
        assert!(is_card("card0") && is_card("card12"));
        assert!(!is_card("card0-DP-1") && !is_card("card") && !is_card("version"));
    }
}
