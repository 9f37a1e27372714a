//! Recorded machines as a test of the model begins with them.

use testbed::machine;
use testbed::tree::{Entry, Tree};

/// The recorded L40S with 32 virtual functions, nothing set, without Proxmox
/// VE's VMs.
pub fn l40s() -> Tree {
    let mut tree = machine::tree("pve9-l40s-vgpu").expect("pve9-l40s-vgpu");
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
