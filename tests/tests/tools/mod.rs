//! The six tools as their definitions say.

#![allow(dead_code, unused_imports)]

use clap::{Command, CommandFactory};
pub use testbed::TOOLS;
use testbed::pages::ToolPages;

/// Definition and manual of each.
pub fn tools() -> Vec<ToolPages> {
    let page = |command, text| ToolPages { command, text };
    vec![
        page(gpu_iommu_groups::cli::Options::command(), gpu_iommu_groups::man::MAN),
        page(gpu_vfio_bind::cli::Options::command(), gpu_vfio_bind::man::MAN),
        page(lxc_gpu_conf::cli::Options::command(), lxc_gpu_conf::cli::MAN),
        page(nv_runfile::cli::Options::command(), nv_runfile::cli::MAN),
        page(nv_version_check::cli::Options::command(), nv_version_check::cli::MAN),
        page(vgpu_profile_set::cli::Options::command(), vgpu_profile_set::cli::MAN),
    ]
}

/// Every command of every tool: the tool, the command's name (empty for the
/// tool itself), its definition.
pub fn commands() -> Vec<(String, String, Command)> {
    let mut all = Vec::new();
    for tool in tools() {
        let name = tool.command.get_name().to_string();
        all.push((name.clone(), String::new(), tool.command.clone()));
        for verb in tool.command.get_subcommands() {
            all.push((name.clone(), verb.get_name().to_string(), verb.clone()));
        }
    }
    all
}
