//! Decides which lines of a configuration change. Nothing here reads or writes.

pub mod add_nodes;
mod convert;
pub mod model;
pub mod mount_libraries;
#[cfg(test)]
mod property_tests;
pub mod remove_nodes;
pub mod repair;
#[cfg(test)]
mod tests;
