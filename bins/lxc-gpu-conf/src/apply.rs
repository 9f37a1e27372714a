//! Changes configurations, device nodes and running containers.

pub mod device_nodes;
mod diff;
pub mod edit;
mod hotplug;
pub mod open_nodes;
pub mod restart;
