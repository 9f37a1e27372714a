//! Which functions the command line selects.

use std::collections::BTreeSet;

use ::cli::{Exit, Failure, fail};
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
    /// Errors: an operand names no function of this host.
    pub fn of(system: &System, options: &Options) -> Result<Selection, Failure> {
        let mut addresses = if options.all {
            system.functions.keys().copied().collect()
        } else if options.operands.is_empty() {
            around_gpus(system)
        } else {
            let mut addresses = BTreeSet::new();
            for operand in &options.operands {
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
