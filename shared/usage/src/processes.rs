//! Processes that have a node of a function open.

use std::collections::BTreeSet;

use host::{Machine, OpenNode, OpenNodes};

use crate::nodes::FunctionNode;
use crate::{Usage, User, UserKind};

/// Scans all processes for device nodes. Pseudo-terminals and memory devices
/// belong to no PCI function, and are most of what is open.
pub(crate) fn scan(machine: &Machine) -> OpenNodes {
    OpenNodes::scan(machine, &|open: &OpenNode| {
        let everyday = open
            .device
            .is_some_and(|d| !d.is_block && (d.major == 1 || d.major == 5 || d.major == 136));
        !everyday && (open.device.is_some() || open.path.starts_with("/dev/"))
    })
}

/// Adds the processes that have one of these nodes open.
pub(crate) fn of(open: &OpenNodes, nodes: &BTreeSet<FunctionNode>, usage: &mut Usage) {
    if nodes.is_empty() {
        return;
    }
    usage.unknown.extend(open.unread.iter().map(ToString::to_string));
    for holder in &open.holders {
        let held =
            holder.nodes.iter().find_map(|open| nodes.iter().find(|node| is_same(open, node)));
        let Some(node) = held else { continue };
        usage.users.push(User {
            kind: UserKind::Process {
                pid: holder.pid,
                vm: holder.vm,
                ctid: holder.ctid(),
                // the kernel cuts the name at 15 bytes
                is_persistenced: holder.name.starts_with("nvidia-persiste"),
            },
            name: holder.describe(),
            what: format!("has {} open", node.path),
        });
    }
}

/// By number where both are known: a node may be anywhere under any name, and a
/// regular file may be called like one.
fn is_same(open: &OpenNode, node: &FunctionNode) -> bool {
    match (open.device, node.device) {
        (Some(open), Some(node)) => open == node,
        _ => open.path == node.path,
    }
}
