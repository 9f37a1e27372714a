//! The verbs of the command line, one file each.

pub mod apply;
pub mod check;
pub mod clear;
pub mod cloud_init;
pub mod hook;
pub mod list;
pub mod plan;
pub mod watch;
