//! The recorded L40S with 32 virtual functions, nothing set, without Proxmox
//! VE's VMs: as a model of the kernel, mounted for the tool.

#![allow(dead_code, clippy::disallowed_methods)]

use std::sync::Arc;

use modelkernel::ModelKernel;
pub use modelkernel::machines::l40s as tree;
use modelkernel::mount::{Mounted, possible};
use testbed::tree::Tree;
use testbed::{Ran, Tool};

pub const PF: &str = "0000:41:00.0";

pub fn vf(index: usize) -> String {
    format!("0000:41:{:02x}.{}", (index + 4) / 8, (index + 4) % 8)
}

pub struct Host {
    pub model: Arc<ModelKernel>,
    pub mounted: Mounted,
}

impl Host {
    pub fn new() -> Host {
        Host::of(&tree())
    }

    pub fn of(tree: &Tree) -> Host {
        assert!(possible(), "these tests need root and /dev/fuse");
        let model = Arc::new(ModelKernel::from_tree(tree));
        let mut mounted = Mounted::new(Arc::clone(&model)).unwrap();
        mounted.scratch("/run").unwrap();
        Host { model, mounted }
    }

    pub fn tool(&self, args: &str) -> Tool {
        Tool::new("vgpu-profile-set").arg("--root").arg(self.mounted.path()).args(args)
    }

    pub fn run(&self, args: &str, input: &str, code: i32) -> Ran {
        self.tool(args).input(input).run().expect(code)
    }

    pub fn set(&self) -> Vec<u32> {
        (0..32).map(|index| self.model.vgpu_of(&vf(index))).collect()
    }
}
