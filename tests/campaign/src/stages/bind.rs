//! `gpu-vfio-bind`: a slot to vfio-pci and back, now and for the next boot.

use testbed::machine;
use testbed::tree::Entry;

use super::bed::{OnBed, Place};
use super::model::{OnModel, Setting};

const TOOL: &str = "gpu-vfio-bind";

fn tree() -> testbed::tree::Tree {
    let mut tree = machine::tree("pve9-two-gpus").unwrap();
    let read = ["/sys/", "/proc/", "/dev/", "/etc/pve/"];
    tree.entries.retain(|path, entry| {
        read.iter().any(|dir| path.starts_with(dir))
            && !matches!(entry, Entry::File(bytes) if bytes.len() > 4096)
    });
    tree
}

fn on_model(args: &'static str, before: &'static [(&'static str, &'static str)]) -> OnModel {
    let (input, modules, memory) = ("", &["vfio-pci"][..], "run/gpu-vfio-bind");
    OnModel::new(tree(), Setting { tool: TOOL, args, input, modules, before, memory })
}

/// Now, on the model kernel.
pub fn now() -> Vec<OnModel> {
    vec![
        on_model("bind 2c:00 --timeout 1", &[]),
        on_model("release 2c:00 --timeout 1", &[("bind 2c:00", "")]),
    ]
}

const DIRS: [&str; 2] = ["etc", "usr/lib"];

/// For the next boot, on a recorded host.
pub fn boot(place: fn() -> Place) -> Vec<OnBed> {
    ["persist 2c:00", "unpersist --all"]
        .into_iter()
        .map(|args| {
            let mut tree = machine::tree("pve9-two-gpus").unwrap();
            // the tables of all modules are long and say nothing here
            tree.entries.retain(|_, entry| !matches!(entry, Entry::File(b) if b.len() > 200_000));
            let place = place().with(&tree);
            if args != "persist 2c:00" {
                place.bed.tool(TOOL).args("persist 2c:00").run().expect(0);
            }
            OnBed::rooted(place, TOOL, args, &DIRS)
        })
        .collect()
}
