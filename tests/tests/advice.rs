//! What hints advise can be run: every command line of shared/advice that names
//! one of our tools is one that the tool's own definition parses.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use advice::gpu_vfio_bind::{BindOptions, PersistOptions, ReleaseOptions};
use advice::lxc_gpu_conf::{AddOptions, RemoveOptions};
use advice::{
    gpu_iommu_groups, gpu_vfio_bind, lxc_gpu_conf, nv_runfile, nv_version_check, vgpu_profile_set,
};
use record::{Address, CommandLine, Slot};

/// Calls of functions, each with the name that it has in the source.
macro_rules! samples {
    ($($module:ident::$function:ident($($argument:expr),*);)*) => {
        vec![$((concat!(stringify!($module), "::", stringify!($function)),
                $module::$function($($argument),*))),*]
    };
}

fn samples() -> Vec<(&'static str, CommandLine)> {
    let slot: Slot = "0000:41:00".parse().unwrap();
    let function: Address = "0000:41:00.0".parse().unwrap();
    let version = "550.163.01";
    let file = Path::new("/etc/vgpu-profiles");
    let operands = vec!["0000:41:00".to_string(), "0000:42:00.0".to_string()];
    let added = AddOptions {
        gpus: vec!["0000:41:00.0".into()],
        mig: vec!["1/0".into()],
        mig_monitor: true,
        style: Some("dev"),
        uid: Some(0),
        gid: Some(44),
        mode: Some("0660".into()),
        restart: true,
        wait: Some(30),
        ..AddOptions::default()
    };
    let removed = RemoveOptions {
        gpus: vec!["0000:41:00.0".into()],
        restart: true,
        wait: Some(30),
        ..RemoveOptions::default()
    };
    samples! {
        gpu_iommu_groups::group(28);
        gpu_iommu_groups::groups();
        gpu_iommu_groups::list("0000:41:00.0");
        gpu_iommu_groups::list_all();
        gpu_iommu_groups::of_vendor("10de");
        gpu_vfio_bind::bind(slot);
        gpu_vfio_bind::bind_with(&operands, &BindOptions {
            group: true,
            driver: Some("vfio-pci".into()),
            stop_persistenced: true,
            timeout: Some(30),
            force: vec!["display".into(), "container".into()],
        });
        gpu_vfio_bind::persist(&operands, &PersistOptions {
            by_id: true,
            group: true,
            driver: Some("auto".into()),
            cmdline: true,
            blacklist: true,
            force: vec!["network".into()],
        });
        gpu_vfio_bind::release(slot);
        gpu_vfio_bind::release_with(&operands, &ReleaseOptions {
            to: Some("nvidia".into()),
            timeout: Some(30),
            force: vec!["display".into()],
        });
        gpu_vfio_bind::reset(&operands);
        gpu_vfio_bind::unpersist(&operands);
        gpu_vfio_bind::unpersist_all();
        lxc_gpu_conf::add(901, &AddOptions { gpus: vec!["all".into()], ..AddOptions::default() });
        lxc_gpu_conf::add(901, &added);
        lxc_gpu_conf::check(901);
        lxc_gpu_conf::check_all();
        lxc_gpu_conf::nodes();
        lxc_gpu_conf::remove(901, &removed);
        lxc_gpu_conf::show(901);
        lxc_gpu_conf::sync(901);
        nv_runfile::extract("cuda.run", "cuda");
        nv_runfile::fetch(version);
        nv_runfile::fetch_unverified(version);
        nv_runfile::install_in_container(version, 901);
        nv_runfile::install_in_container_forced(version, 901);
        nv_runfile::install_on_host(version);
        nv_runfile::install_on_host_for(version, "6.14.11-5-pve");
        nv_runfile::install_on_host_purging(version);
        nv_runfile::install_shared(version, "/srv/nvidia");
        nv_runfile::list("NVIDIA-Linux-x86_64-550.163.01.run");
        nv_runfile::prune("/var/cache/pve-gpu-tools/runfiles", 2);
        nv_runfile::toolkit(901, "12-9");
        nv_runfile::uninstall(901);
        nv_runfile::verify("NVIDIA-Linux-x86_64-550.163.01.run");
        nv_version_check::check_container(901);
        vgpu_profile_set::apply(file, Some("default"), true);
        vgpu_profile_set::clear(function);
        vgpu_profile_set::list();
        vgpu_profile_set::list_all_types();
        vgpu_profile_set::list_types(function);
    }
}

/// `module::function` of everything in shared/advice that makes command lines of
/// our tools.
fn functions() -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/advice/src");
    let mut found = BTreeSet::new();
    for tool in testbed::TOOLS {
        let module = tool.replace('-', "_");
        let text = fs::read_to_string(dir.join(format!("{module}.rs"))).unwrap();
        for item in syn::parse_file(&text).unwrap().items {
            let syn::Item::Fn(function) = item else { continue };
            let syn::ReturnType::Type(_, made) = &function.sig.output else { continue };
            let public = matches!(function.vis, syn::Visibility::Public(_));
            let words = text_of(made);
            if public && words.iter().any(|word| word == "CommandLine") {
                found.insert(format!("{module}::{}", function.sig.ident));
            }
        }
    }
    found
}

/// The names in a type, such as `Vec<CommandLine>`.
fn text_of(made: &syn::Type) -> Vec<String> {
    struct Names(Vec<String>);
    impl<'a> syn::visit::Visit<'a> for Names {
        fn visit_ident(&mut self, name: &'a syn::Ident) {
            self.0.push(name.to_string());
        }
    }
    let mut names = Names(Vec::new());
    syn::visit::Visit::visit_type(&mut names, made);
    names.0
}

#[test]
fn every_advised_command_line_is_parsed_by_its_tool() {
    let samples = samples();
    for (function, words) in &samples {
        let page = tools::tools().into_iter().find(|page| page.command.get_name() == words[0]);
        let page =
            page.unwrap_or_else(|| panic!("{function}: {} is not one of our tools", words[0]));
        let parsed = page.command.try_get_matches_from(words);
        assert!(parsed.is_ok(), "{function} makes {words:?}: {}", parsed.unwrap_err());
    }
    let called: BTreeSet<String> = samples.iter().map(|(name, _)| (*name).to_string()).collect();
    assert_eq!(called, functions(), "each function of shared/advice is called above");
}
