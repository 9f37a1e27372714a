//! `vgpu-profile-set`: profiles onto the virtual functions of a recorded L40S.

use testbed::machine;
use testbed::tree::{Entry, Tree};

use super::model::{OnModel, Setting};

const TOOL: &str = "vgpu-profile-set";
const WISH: &str = "0000:41:00.4=L40S-12Q\n0000:41:00.5=L40S-12Q\n0000:41:00.6=L40S-12Q\n";
const OTHER: &str = "0000:41:00.4=L40S-24Q\n0000:41:00.5=L40S-24Q\n0000:41:00.6=none\n";

/// The recorded L40S with 32 virtual functions, nothing set.
pub fn tree() -> Tree {
    let mut tree = machine::tree("pve9-l40s-vgpu").unwrap();
    tree.entries.retain(|path, entry| {
        (path.starts_with("/sys/") || path.starts_with("/proc/") || path.starts_with("/dev/"))
            && !matches!(entry, Entry::File(bytes) if bytes.len() > 4096)
    });
    for (path, entry) in &mut tree.entries {
        if path.ends_with("/0000:41:00.4/nvidia/current_vgpu_type") {
            *entry = Entry::File(b"0\n".to_vec());
        }
    }
    tree
}

/// `input` onto an empty card, onto one that has other profiles, and off it.
pub fn all() -> Vec<OnModel> {
    let stage = |args, input, before| {
        let (modules, memory) = (&[][..], "run/vgpu-profile-set");
        OnModel::new(tree(), Setting { tool: TOOL, args, input, modules, before, memory })
    };
    vec![
        stage("apply", WISH, &[]),
        stage("apply -q", OTHER, &[("apply -q", WISH)]),
        stage("clear --all", "", &[("apply -q", WISH)]),
    ]
}
