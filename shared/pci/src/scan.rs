//! Reading a machine's PCI functions and IOMMU groups.
//!
//! All reads of kernel attributes happen in child processes with a deadline
//! (see [`host::child_read`]): beside a stuck unbind some of them never return.

mod attributes;
mod parse;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::available_parallelism;
use std::time::Duration;

use host::child_read::{ChildPipe, ChildRead, read_in_child};
use host::{Dir, FileError, Machine};
use record::{Address, Slot};

use crate::group::Group;
use crate::{Function, Iommu};
use attributes::{DEVICES, GROUPS};
use read::Reader;

pub use attributes::Depth;

/// A function that sleeps in D3cold needs up to a second to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// The PCI functions and IOMMU groups of a host.
#[derive(Debug)]
pub struct System {
    /// PCI functions by address: all of the machine, or those of some slots and
    /// who shares their groups.
    pub functions: BTreeMap<Address, Function>,
    /// It has all functions of the host: what is not in it is not there.
    pub is_whole: bool,
    /// IOMMU groups by number; the same.
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

    /// The functions that go to a VM together with `of`, itself included.
    ///
    /// A card is a GPU, the functions of its slot that share its IOMMU group,
    /// and those that have its vendor and a class that cards have. The slot of
    /// an APU also has the board's USB and audio and a security processor, in
    /// groups of their own: each of these goes alone. Where a slot has no GPU,
    /// the functions of one group go together; where no group is known, all do.
    /// A virtual function goes alone, though it may share its PF's slot.
    pub fn slot<'a>(&'a self, of: &'a Function) -> impl Iterator<Item = &'a Function> {
        let alone = of.pf.is_some();
        let functions: Vec<&Function> = match alone {
            true => vec![of],
            false => self.physical_slot(of).filter(|f| f.pf.is_none()).collect(),
        };
        let gpus: Vec<&Function> = functions.iter().copied().filter(|f| f.is_gpu()).collect();
        let same_group = |a: &Function, b: &Function| a.group.is_some() && a.group == b.group;
        let on_card = move |f: &Function| {
            let belongs = |gpu: &&Function| {
                let part = f.is_card_class() && f.vendor == gpu.vendor;
                f.is_gpu() || same_group(f, gpu) || part
            };
            gpus.iter().any(belongs)
        };
        let has_gpu = functions.iter().any(|f| f.is_gpu());
        let of_card = on_card(of);
        functions.into_iter().filter(move |f| {
            f.address == of.address
                || match of_card {
                    true => on_card(f),
                    false if on_card(f) => false,
                    false => same_group(f, of) || (!has_gpu && f.group.is_none()),
                }
        })
    }

    /// Whether a function stays with the host whatever it shares: a bridge, or the
    /// management function of a PCI Express switch, which sits in the slot of the
    /// switch's upstream port.
    pub fn stays_with_host(&self, function: &Function) -> bool {
        let first = Address { function: 0, ..function.address };
        let of_port = || self.functions.get(&first).is_some_and(Function::is_bridge);
        // memory controllers, other bridges and base system peripherals: a chipset
        // has its USB and SATA controllers beside a bridge, too
        let manages = matches!(function.class16(), Some(0x0500..=0x05ff | 0x0680 | 0x0880));
        function.stays_with_host() || (manages && function.parent.is_some() && of_port())
    }

    /// All functions at the slot of `of`, its virtual functions as well.
    pub fn physical_slot<'a>(&'a self, of: &'a Function) -> impl Iterator<Item = &'a Function> {
        let slot = of.address.slot();
        let first = Address { function: 0, ..of.address };
        let from_first = self.functions.range(first..);
        from_first.take_while(move |(address, _)| address.slot() == slot).map(|(_, f)| f)
    }

    /// The functions of a group.
    pub fn members<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Function> {
        group.members.iter().filter_map(|address| self.functions.get(address))
    }
}

/// Reads everything. A function or attribute that cannot be read is left out
/// with a warning. Errors: there is no PCI bus in sysfs at all.
pub fn scan(machine: &Machine, depth: Depth) -> Result<System, FileError> {
    let devices = machine.dir(DEVICES)?;
    let addresses = addresses(&devices)?;
    let mut warnings = Vec::new();
    let groups = open_groups(machine, &mut warnings);
    let mut ids: Vec<u32> = match groups.as_ref().map(Dir::list) {
        Some(Ok(names)) => names.iter().filter_map(|name| name.parse().ok()).collect(),
        Some(Err(error)) => {
            warnings.push(error.to_string());
            Vec::new()
        }
        None => Vec::new(),
    };
    ids.sort_unstable();
    let reader = Reader::new(machine, devices, groups, depth, &addresses);
    let mut scanned = PartialScan::default();
    scanned.read(&reader, &addresses, &ids, &mut warnings);
    Ok(scanned.system(machine, true, warnings))
}

/// Reads, for a verdict on some slots: their functions, the groups of these, and
/// who else is in the groups. The rest of the machine, where some function may
/// be stuck or asleep, is left alone.
pub fn scan_slots(machine: &Machine, slots: &BTreeSet<Slot>) -> Result<System, FileError> {
    let devices = machine.dir(DEVICES)?;
    let addresses = addresses(&devices)?;
    let chosen: Vec<Address> =
        addresses.iter().filter(|a| slots.contains(&a.slot())).copied().collect();
    let mut warnings = Vec::new();
    let groups = open_groups(machine, &mut warnings);
    let mut reader = Reader::new(machine, devices, groups, Depth::Verdict, &addresses);
    reader.list_groups = true;
    let mut scanned = PartialScan::default();
    scanned.read(&reader, &chosen, &[], &mut warnings);
    // a list without the very function whose group it is proves nothing
    let listed = |f: &Function| {
        scanned.listed_members.get(&f.address).is_some_and(|m| m.contains(&f.address))
    };
    if scanned.functions.values().any(|f| f.group.is_some() && !listed(f)) {
        return scan(machine, Depth::Verdict);
    }
    let ids: BTreeSet<u32> = scanned.functions.values().filter_map(|f| f.group).collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    let mut others: Vec<Address> = scanned.listed_members.values().flatten().copied().collect();
    // what a member is may depend on the first function of its slot
    let first: Vec<Address> = others.iter().map(|a| Address { function: 0, ..*a }).collect();
    others.extend(first.into_iter().filter(|first| addresses.binary_search(first).is_ok()));
    others.sort_unstable();
    others.dedup();
    others.retain(|address| !scanned.functions.contains_key(address));
    reader.list_groups = false;
    scanned.read(&reader, &others, &ids, &mut warnings);
    Ok(scanned.system(machine, false, warnings))
}

fn addresses(devices: &Dir<'_>) -> Result<Vec<Address>, FileError> {
    let mut addresses: Vec<Address> =
        devices.list()?.iter().filter_map(|name| Address::from_sysfs(name)).collect();
    addresses.sort_unstable();
    Ok(addresses)
}

/// A kernel without IOMMU support has no such directory.
fn open_groups<'a>(machine: &'a Machine, warnings: &mut Vec<String>) -> Option<Dir<'a>> {
    match machine.dir(GROUPS) {
        Ok(dir) => Some(dir),
        Err(error) if error.is_not_found() => None,
        Err(error) => {
            warnings.push(error.to_string());
            None
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct PartialScan {
    functions: BTreeMap<Address, Function>,
    groups: BTreeMap<u32, Group>,
    /// By function, whom the list of its group names.
    listed_members: BTreeMap<Address, Vec<Address>>,
}

impl PartialScan {
    /// Reads functions, then groups, in one go: starting children costs as much
    /// as reading a hundred attributes.
    fn read(
        &mut self,
        reader: &Reader<'_>,
        addresses: &[Address],
        ids: &[u32],
        warnings: &mut Vec<String>,
    ) {
        let count = addresses.len();
        let one = |at: usize, pipe: &mut ChildPipe| match addresses.get(at) {
            Some(address) => reader.function(*address, pipe),
            None => reader.group(ids[at - count], pipe),
        };
        let answer = run(count + ids.len(), &one, warnings);
        let mut shared = Vec::new();
        for (address, answer) in addresses.iter().zip(&answer) {
            let function = parse::function(*address, answer);
            let named = |what: &String| format!("{address}: {what}");
            warnings.extend(function.warnings.iter().map(named));
            if parse::shares_link(answer) {
                shared.push(*address);
            }
            self.listed_members.insert(*address, parse::listed_members(answer));
            self.functions.insert(*address, function);
        }
        for address in shared {
            let first = self.functions.get(&Address { function: 0, ..address });
            let link = first.and_then(|first| first.link.clone());
            if let Some(function) = self.functions.get_mut(&address) {
                function.link = link;
            }
        }
        for (id, answer) in ids.iter().zip(&answer[count..]) {
            if answer.stuck_at.is_some() {
                warnings.push(format!("group {id}: reading it blocks in the kernel"));
            }
            self.groups.insert(*id, parse::group(*id, answer));
        }
    }

    fn system(mut self, machine: &Machine, is_whole: bool, warnings: Vec<String>) -> System {
        // The functions' own links are the truth about who is in a group; the
        // group's list adds members that are not PCI functions.
        for function in self.functions.values() {
            if let Some(id) = function.group {
                let group = self.groups.entry(id).or_insert_with(|| Group::bare(id));
                group.members.push(function.address);
            }
        }
        let iommu = Iommu::read(machine);
        let (functions, groups) = (self.functions, self.groups);
        System { functions, is_whole, groups, iommu, warnings }
    }
}

/// Probes with as many children as the work is worth.
fn run(
    items: usize,
    read: &dyn Fn(usize, &mut ChildPipe),
    warnings: &mut Vec<String>,
) -> Vec<ChildRead> {
    let processors = available_parallelism().map_or(1, usize::from);
    let workers = processors.min(8).min(items.div_ceil(48)).max(1);
    match read_in_child(items, workers, DEADLINE, read) {
        Ok(answers) => answers,
        Err(error) => {
            warnings.push(format!("cannot start a reader: {error}"));
            vec![ChildRead::default(); items]
        }
    }
}
