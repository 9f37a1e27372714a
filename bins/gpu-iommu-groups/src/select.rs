//! Which functions the command line selects.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, fail};
use nvidia::GpuInfo;
use pci::{Function, Group, System};
use record::{Address, Slot};

use crate::cli::Options;

pub struct Selection {
    addresses: BTreeSet<Address>,
    /// By operands, and not by their properties.
    pub named: bool,
    /// Nothing narrows the selection: it includes groups without PCI functions.
    everything: bool,
}

impl Selection {
    /// Errors: an operand names no function of this host, or may name two.
    pub fn of(
        system: &System,
        gpus: &BTreeMap<Address, GpuInfo>,
        options: &Options,
    ) -> Result<Selection, Failure> {
        let mut addresses = if options.all {
            system.functions.keys().copied().collect()
        } else if options.operands.is_empty() {
            around_gpus(system)
        } else {
            let mut addresses = BTreeSet::new();
            for operand in &options.operands {
                one_meaning(system, gpus, operand)?;
                let named = system.named(operand);
                addresses.extend(named.map_err(|error| fail(Exit::Usage, error.to_string()))?);
            }
            addresses
        };
        addresses.retain(|address| {
            system.functions.get(address).is_some_and(|function| passes(function, options))
        });
        let narrowed =
            options.vendor.is_some() || options.class.is_some() || options.driver.is_some();
        Ok(Selection {
            addresses,
            named: !options.operands.is_empty(),
            everything: options.all && !narrowed,
        })
    }

    pub fn functions<'a>(&'a self, system: &'a System) -> impl Iterator<Item = &'a Function> {
        self.addresses.iter().filter_map(|address| system.functions.get(address))
    }

    pub fn groups<'a>(&self, system: &'a System) -> Vec<&'a Group> {
        if self.everything {
            return system.groups.values().collect();
        }
        let ids: BTreeSet<u32> = self.functions(system).filter_map(|f| f.group).collect();
        ids.iter().filter_map(|id| system.groups.get(id)).collect()
    }

    pub fn holds(&self, address: Address) -> bool {
        self.addresses.contains(&address)
    }
}

/// A bare number is an IOMMU group, unless it could as well be the minor number
/// of one of NVIDIA's GPUs in another group, which other tools take for a GPU.
fn one_meaning(
    system: &System,
    gpus: &BTreeMap<Address, GpuInfo>,
    operand: &str,
) -> Result<(), Failure> {
    let Ok(number) = operand.parse::<u32>() else { return Ok(()) };
    let Some(gpu) = gpus.values().find(|gpu| gpu.minor == Some(number)) else { return Ok(()) };
    let function = system.functions.get(&gpu.address);
    if function.is_some_and(|f| f.group == Some(number)) {
        return Ok(());
    }
    let slot = gpu.address.slot();
    let Some(group) = system.groups.get(&number) else {
        let message =
            format!("no IOMMU group {number} on this host; /dev/nvidia{number} is {slot}");
        return Err(fail(Exit::Usage, message)
            .run(advice::gpu_iommu_groups::list(&gpu.address.to_string())));
    };
    let message = format!(
        "'{number}' may be IOMMU group {} or the GPU of /dev/nvidia{number} ({slot})",
        group.id
    );
    Err(fail(Exit::Usage, message)
        .hint(format!("name the GPU by its slot ({slot}), or the group as group:{number}"))
        .run(advice::gpu_iommu_groups::list(&format!("group:{number}"))))
}

/// Everything that shares a slot or a group with a display-class function.
fn around_gpus(system: &System) -> BTreeSet<Address> {
    let gpus = || system.functions.values().filter(|f| f.is_gpu());
    let slots: BTreeSet<Slot> = gpus().map(|f| f.address.slot()).collect();
    let groups: BTreeSet<u32> = gpus().filter_map(|f| f.group).collect();
    system
        .functions
        .values()
        .filter(|f| {
            slots.contains(&f.address.slot()) || f.group.is_some_and(|g| groups.contains(&g))
        })
        .map(|f| f.address)
        .collect()
}

fn passes(function: &Function, options: &Options) -> bool {
    let vendor = options.vendor.is_none_or(|vendor| function.vendor == Some(vendor));
    let class = options.class.as_deref().is_none_or(|prefix| {
        function.class.is_some_and(|class| format!("{class:06x}").starts_with(prefix))
    });
    let driver = options.driver.as_deref().is_none_or(|name| match name {
        "none" => function.driver.is_none(),
        name => function.driver.as_deref() == Some(name),
    });
    vendor && class && driver
}
