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

use std::process::ExitCode;

use ::cli::{Exit, Say, fail};
use anyhow::Context;
use pci::{Depth, PciIds, System};
use record::{Record, RecordWriter};

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
    let selection = Selection::of(&system, options)?;
    if !system.iommu.is_on() {
        say.note(&format!("the IOMMU is off: {}", system.iommu.advice()));
    } else if system.iommu.acs_override {
        say.note("the ACS override (pcie_acs_override=) is active: groups do not prove isolation");
    }
    if options.check {
        return check::run(&system, &selection, say, writer, options.output == Format::Tree);
    }
    let functions: Vec<_> = selection.functions(&system).cloned().collect();
    let named: Vec<_> = if options.groups { all_of(&system) } else { functions.clone() };
    let ids = PciIds::load(&machine, &named);
    if options.output == Format::Tree {
        record::print_text(&tree::draw(&system, &selection, &ids)).context("standard output")?;
        return Ok(Exit::Done);
    }
    let maker = RecordMaker::new(&machine, &system, ids, &functions, say);
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

fn all_of(system: &System) -> Vec<pci::Function> {
    system.functions.values().cloned().collect()
}
