//! The command lines that hints name: one function for each verb that a hint
//! of any tool may advise, so that no tool writes another's options as text.
//!
//! These are plain argument vectors: this crate knows no tool's types. The
//! workspace's tests parse what each function makes with the clap definition
//! of the tool that it names.

pub mod external;
pub mod gpu_iommu_groups;
pub mod gpu_vfio_bind;
pub mod lxc_gpu_conf;
pub mod nv_runfile;
pub mod nv_version_check;
pub mod vgpu_profile_set;

use record::CommandLine;

/// An argument vector of these words.
fn command(words: &[&str]) -> CommandLine {
    words.iter().map(|word| (*word).to_string()).collect()
}
