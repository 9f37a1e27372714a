//! `nodes`: creates or fixes this host's NVIDIA device nodes.

use ::cli::{Exit, Say, catch_signals};
use host::Machine;
use pve::Guest;
use record::RecordWriter;

use crate::apply::device_nodes::ensure;
use crate::cli::{Nodes, Options};

/// Runs `nodes`.
pub fn run(
    options: &Options,
    nodes: &Nodes,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    if !nodes.change.only_look() {
        catch_signals();
    }
    let guests = local_guests(&machine, say);
    Ok(ensure(&machine, &guests, &nodes.change, say, writer)?.exit)
}

/// Containers of this host, where it runs Proxmox VE at all. The nodes of the GPUs
/// do not depend on them.
fn local_guests(machine: &Machine, say: &Say) -> Vec<Guest> {
    let mut guests = pve::all_guests(machine).unwrap_or_else(|failure| {
        say.warn(&format!("{}: nodes that only containers need are not checked", failure.message));
        Vec::new()
    });
    guests.retain(|guest| guest.local);
    guests
}
