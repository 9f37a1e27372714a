//! What is read, in children: bytes, passed on as they are.

use std::io;

use host::child_read::ChildPipe;
use host::{Dir, Machine};
use record::Address;

use crate::alias::Modalias;
use crate::scan::attributes::{DEVICES, Depth, GROUPS, group_tag, parent, tag};

/// Reads functions and groups.
pub struct Reader<'a> {
    machine: &'a Machine,
    devices: Dir<'a>,
    groups: Option<Dir<'a>>,
    sysfs: Option<Dir<'a>>,
    depth: Depth,
    /// All functions of the machine, sorted.
    addresses: &'a [Address],
    /// Whether to list, with each function, who is in its group.
    pub list_groups: bool,
}

impl<'a> Reader<'a> {
    /// One that reads as much as `depth` asks for.
    pub fn new(
        machine: &'a Machine,
        devices: Dir<'a>,
        groups: Option<Dir<'a>>,
        depth: Depth,
        addresses: &'a [Address],
    ) -> Reader<'a> {
        let sysfs = machine.dir("/sys").ok();
        Reader { machine, devices, groups, sysfs, depth, addresses, list_groups: false }
    }

    /// Asks for each attribute by name rather than listing the directory, and
    /// not for those that a function of this class cannot have: on a machine
    /// with hundreds of functions that is what costs. One that does not exist is
    /// passed over silently.
    pub fn function(&self, address: Address, pipe: &mut ChildPipe) {
        let name = address.to_string();
        let mut target = String::new();
        pipe.put(tag::LINK, || {
            target = self.devices.read_link(&name)?;
            Ok(target.clone().into_bytes())
        });
        let mut dir = None;
        pipe.put(tag::DIR, || {
            dir = Some(self.open(&name, &target)?);
            Ok(Vec::new())
        });
        let Some(dir) = dir else { return };
        let class = read_ids(&dir, pipe);
        // a class that is not known may be any
        let base = class.map(|class| (class >> 16) as u8);
        let may_be = |bases: &[u8]| base.is_none_or(|base| bases.contains(&base));
        let endpoint = class.is_none_or(|class| class >> 8 != PCI_BRIDGE);
        let driver = read_link(&dir, tag::DRIVER, pipe).is_some();
        let group = read_link(&dir, tag::GROUP, pipe);
        let vf = endpoint && read_link(&dir, tag::PHYSFN, pipe).is_some();
        if may_be(&[BRIDGE]) && dir.has(tag::name(tag::BUS)) {
            pipe.put(tag::BUS, || Ok(Vec::new()));
        }
        if vf && dir.has(tag::name(tag::VGPU)) {
            // an empty answer: it has the directory, and which profile is unknown
            let profile = dir.attr("nvidia/current_vgpu_type").unwrap_or_default();
            pipe.put(tag::VGPU, || Ok(profile));
        }
        if driver && endpoint {
            if dir.has(tag::name(tag::MDEV)) {
                pipe.put(tag::MDEV, || Ok(Vec::new()));
            }
            read_names(&dir, tag::VFIO, pipe);
            if may_be(&[DISPLAY, PROCESSOR, ACCELERATOR]) {
                read_names(&dir, tag::DRM, pipe);
            }
        }
        if class.is_none_or(|class| class >> 8 == 0x0300) {
            attr(&dir, tag::BOOT_VGA, pipe);
        }
        if may_be(&[DISPLAY]) {
            attr(&dir, tag::BOOT_DISPLAY, pipe);
        }
        if self.depth != Depth::Verdict || may_be(&[DISPLAY]) {
            attr(&dir, tag::RESET, pipe);
        }
        if self.depth != Depth::Verdict {
            attr(&dir, tag::NUMA, pipe);
            if endpoint && !vf && self.shares_link(address, &target) {
                pipe.put(tag::SHARED_LINK, || Ok(Vec::new()));
            } else if attr(&dir, tag::SPEED, pipe) {
                for tag in [tag::WIDTH, tag::MAX_SPEED, tag::MAX_WIDTH] {
                    attr(&dir, tag, pipe);
                }
            }
        }
        if !vf && attr(&dir, tag::TOTALVFS, pipe) {
            pipe.put(tag::VFS, || read_vfs(&dir));
            attr(&dir, tag::NUMVFS, pipe);
        }
        if let (true, Some(group), Some(groups)) = (self.list_groups, group, &self.groups) {
            pipe.put(tag::GROUP_MEMBERS, || {
                let names = groups.below(&format!("{group}/devices"))?.list();
                Ok(names.map_err(|error| error.source)?.join("\n").into_bytes())
            });
        }
        attr(&dir, tag::OVERRIDE, pipe);
    }

    /// Opens a function's directory: where the link leads, no other link is on
    /// the way, so that it needs no walk from the root of the machine.
    fn open(&self, name: &str, target: &str) -> io::Result<Dir<'_>> {
        if let (Some(sysfs), Some(path)) = (&self.sysfs, target.strip_prefix("../../../")) {
            if let Ok(dir) = sysfs.below(path) {
                return Ok(dir);
            }
        }
        self.machine.dir(&format!("{DEVICES}/{name}")).map_err(|error| error.source)
    }

    /// Whether a function below a bridge has the link of the slot's function 0:
    /// a device has one, whatever number of functions it has. Those on a root
    /// bus may each be a port.
    fn shares_link(&self, address: Address, target: &str) -> bool {
        let first = Address { function: 0, ..address };
        address != first && parent(target).is_some() && self.addresses.binary_search(&first).is_ok()
    }

    /// A group.
    pub fn group(&self, id: u32, pipe: &mut ChildPipe) {
        let Some(groups) = &self.groups else { return };
        pipe.put(group_tag::MEMBERS, || {
            let names = groups.below(&format!("{id}/devices"))?.list();
            let names = names.map_err(|error| error.source)?;
            let others = names.iter().filter(|name| Address::from_sysfs(name).is_none());
            let lines: Vec<String> = others
                .map(|name| {
                    let link = format!("{GROUPS}/{id}/devices/{name}/driver");
                    let driver = self.machine.read_link(&link).unwrap_or_default();
                    format!("{name}\t{}", driver.rsplit('/').next().unwrap_or(""))
                })
                .collect();
            Ok(lines.join("\n").into_bytes())
        });
        let mut attr = |tag: u8, name: &str| pipe.put(tag, || groups.attr(&format!("{id}/{name}")));
        attr(group_tag::RESERVED, "reserved_regions");
        if self.depth == Depth::Full {
            attr(group_tag::NAME, "name");
            attr(group_tag::TYPE, "type");
        }
    }
}

/// Base classes.
const DISPLAY: u8 = 0x03;
const BRIDGE: u8 = 0x06;
/// Class and subclass of a bridge between PCI buses. Its header is of another
/// type than that of what goes to a VM: it has neither VFs nor mediated devices,
/// is no VF, and VFIO does not take it.
const PCI_BRIDGE: u32 = 0x0604;
const PROCESSOR: u8 = 0x0b;
const ACCELERATOR: u8 = 0x12;

/// Ids and class: all in one attribute, or each in its own. Gives the class.
fn read_ids(dir: &Dir<'_>, pipe: &mut ChildPipe) -> Option<u32> {
    let mut class = None;
    let mut modalias = false;
    pipe.put(tag::MODALIAS, || {
        let bytes = dir.attr("modalias")?;
        modalias = true;
        class = Modalias::parse(String::from_utf8_lossy(&bytes).trim_end()).map(|m| m.class);
        Ok(bytes)
    });
    if !modalias {
        for tag in [tag::VENDOR, tag::DEVICE, tag::SUBVENDOR, tag::SUBDEVICE, tag::CLASS] {
            attr(dir, tag, pipe);
        }
    }
    attr(dir, tag::REVISION, pipe);
    class
}

/// Passes on what `read` gives, or its failure, unless there is no such thing.
/// True: it was there and could be read.
fn unless_absent(
    tag: u8,
    pipe: &mut ChildPipe,
    read: impl FnOnce() -> io::Result<Vec<u8>>,
) -> bool {
    let mut there = false;
    pipe.put_some(tag, || match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => {
            there = other.is_ok();
            Some(other)
        }
    });
    there
}

fn attr(dir: &Dir<'_>, tag: u8, pipe: &mut ChildPipe) -> bool {
    unless_absent(tag, pipe, || dir.attr(tag::name(tag)))
}

/// Passes on the last component of a link, and gives it.
fn read_link(dir: &Dir<'_>, tag: u8, pipe: &mut ChildPipe) -> Option<String> {
    let mut name = None;
    unless_absent(tag, pipe, || {
        let read = dir.link_name(tag::name(tag))?;
        name = Some(read.clone());
        Ok(read.into_bytes())
    });
    name
}

fn read_names(dir: &Dir<'_>, tag: u8, pipe: &mut ChildPipe) {
    unless_absent(tag, pipe, || {
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
