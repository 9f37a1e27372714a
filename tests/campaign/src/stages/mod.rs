//! The command lines that campaigns work on.

pub mod bed;
pub mod bind;
pub mod cluster;
pub mod container;
pub mod installer;
pub mod lxc;
pub mod metrics;
pub mod model;
pub mod vgpu;
