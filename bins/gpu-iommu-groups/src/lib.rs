//! Which GPUs are there, in which IOMMU group, and may they be passed through?
//!
//! Reads sysfs ([`pci::scan`]), selects ([`select`]) and prints records
//! ([`records`]), a tree ([`tree`]) or checks ([`check`]). Changes nothing.

mod check;
pub mod cli;
mod records;
mod select;
mod tree;

use std::process::ExitCode;

use ::cli::{Exit, Say, fail};
use anyhow::Context;
use pci::{Depth, PciIds, System};
use record::{Record, RecordWriter};

use crate::cli::{Format, Options};
use crate::records::Describer;
use crate::select::Selection;

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
    let system = pci::scan(&machine, depth)
        .map_err(|error| fail(Exit::System, error.to_string()).hint("is this a PCI machine?"))?;
    for warning in &system.warnings {
        say.warn(warning);
    }
    let selection = Selection::of(&system, options)?;
    if !system.iommu.is_on() {
        say.note(&format!("the IOMMU is off: {}", system.iommu.advice()));
    } else if system.iommu.acs_override {
        say.note(
            "the ACS override (pcie_acs_override=) is active: groups prove nothing about isolation",
        );
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
    let describer = Describer::new(&machine, &system, ids, &functions, say);
    if options.groups {
        for group in selection.groups(&system) {
            writer.put(Record::IommuGroup(describer.group(group)))?;
        }
    } else {
        for function in &functions {
            writer.put(Record::PciDevice(Box::new(describer.function(function))))?;
        }
    }
    if functions.is_empty() {
        say.note("nothing selected; --all shows every function");
    }
    Ok(Exit::Done)
}

fn all_of(system: &System) -> Vec<pci::Function> {
    system.functions.values().cloned().collect()
}
