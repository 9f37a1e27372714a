//! Lists GPUs with their IOMMU groups, and whether they can be passed through.
//!
//! Reads sysfs ([`pci::scan`]), selects ([`select`]) and prints records or a
//! tree ([`views`]) or checks ([`check`]). Changes nothing.

#![allow(missing_docs)] // required in shared/ only

mod check;
pub mod cli;
pub mod man;
mod select;
mod views;

use std::collections::BTreeMap;
use std::process::ExitCode;

use ::cli::{Exit, Say, fail};
use anyhow::Context;
use host::Machine;
use nvidia::GpuInfo;
use pci::{Depth, NVIDIA, PciIds, System};
use record::{Address, Record, RecordWriter};
use usage::Users;

use crate::cli::{Format, Options};
use crate::select::Selection;
use crate::views::records::RecordMaker;
use crate::views::tree;

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let depth = match (options.groups, options.check) {
        (true, _) => Depth::Full,
        (false, true) => Depth::Verdict,
        (false, false) => Depth::Functions,
    };
    let system = pci::scan(&machine, depth).map_err(|error| {
        fail(Exit::System, error.to_string())
            .hint("this host has no PCI bus, or sysfs is not mounted on /sys")
    })?;
    for warning in &system.warnings {
        say.warn(warning);
    }
    let (gpus, unread) = nvidia_gpus(&machine, &system);
    unread.iter().for_each(|warning| say.warn(warning));
    let selection = Selection::of(&system, &gpus, options)?;
    if !system.iommu.is_on() {
        say.note(&format!("the IOMMU is off: {}", system.iommu.advice()));
    } else if system.iommu.acs_override {
        say.note("the ACS override (pcie_acs_override=) is active: groups do not prove isolation");
    }
    let users = Users::with_gpus(&machine, gpus.clone(), unread);
    if options.check {
        let text = options.output == Format::Tree;
        return check::run(&system, &users, &selection, say, writer, text);
    }
    let functions: Vec<_> = selection.functions(&system).cloned().collect();
    let named: Vec<_> = if options.groups { all_of(&system) } else { functions.clone() };
    let ids = PciIds::load(&machine, &named);
    let maker = RecordMaker::new(&machine, &system, &users, (ids, gpus), &functions, say);
    if options.output == Format::Tree {
        let tree = tree::draw(&system, &selection, &maker);
        record::print_text(&tree).context("standard output")?;
        return Ok(Exit::Done);
    }
    if options.groups {
        for group in selection.groups(&system) {
            writer.put(Record::IommuGroup(maker.group(group)))?;
        }
    } else {
        for function in &functions {
            writer.put(Record::PciDevice(Box::new(maker.function(function))))?;
        }
    }
    if functions.is_empty() {
        say.note("no function is selected; --all shows every function");
    }
    Ok(Exit::Done)
}

/// The GPUs of NVIDIA's driver, and what of them could not be read.
fn nvidia_gpus(machine: &Machine, system: &System) -> (BTreeMap<Address, GpuInfo>, Vec<String>) {
    match system.functions.values().any(|f| f.vendor == Some(NVIDIA)) {
        true => nvidia::read_gpus(machine),
        false => (BTreeMap::new(), Vec::new()),
    }
}

fn all_of(system: &System) -> Vec<pci::Function> {
    system.functions.values().cloned().collect()
}
