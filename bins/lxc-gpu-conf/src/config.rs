//! What a container's configuration says, and what it means on this host.

pub mod access;
pub(crate) mod assignment;
pub(crate) mod configured;
mod container_groups;
pub(crate) mod device_numbers;
pub mod device_rules;
pub(crate) mod given_nodes;
mod libraries;
pub mod node_entries;
pub(crate) mod node_requests;
pub(crate) mod resolve;
pub(crate) mod stale_rules;
