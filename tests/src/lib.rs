//! What the tests stand on: recorded machines, made into directory trees for
//! `--root`, and a harness that runs the real binaries on them.
//!
//! Every line that any test makes a tool print goes through the JSON Schemas
//! here (see [`schema`]); a test cannot forget it.

#![allow(missing_docs, clippy::disallowed_methods)]

pub mod bed;
pub mod completion;
pub mod debian;
pub mod doc;
pub mod driver;
pub mod generate;
pub mod machine;
pub mod pages;
pub mod pipelines;
pub mod reported;
pub mod runfile;
pub mod schema;
pub mod session;
pub mod strace;
pub mod tree;

pub use bed::{Bed, Ran, Tool};

/// The six tools.
pub const TOOLS: [&str; 6] = [
    "gpu-iommu-groups",
    "gpu-vfio-bind",
    "lxc-gpu-conf",
    "nv-runfile",
    "nv-version-check",
    "vgpu-profile-set",
];
