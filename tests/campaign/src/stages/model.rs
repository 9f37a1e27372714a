//! A tool on the mounted model kernel.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use modelkernel::ModelKernel;
use modelkernel::mount::{Mounted, possible};
use testbed::bed::program;
use testbed::tree::Tree;
use testbed::{Ran, Tool};

use crate::saved::{Look, Saved};
use crate::stage::Stage;

/// The stage. Each reset is a new kernel.
pub struct OnModel {
    tool: &'static str,
    args: &'static str,
    input: &'static str,
    tree: Tree,
    modules: &'static [&'static str],
    /// Command lines and their input that make what it works on.
    before: &'static [(&'static str, &'static str)],
    memory: &'static str,
    pub model: Arc<ModelKernel>,
    mounted: Option<Mounted>,
}

pub struct Setting {
    pub tool: &'static str,
    pub args: &'static str,
    pub input: &'static str,
    pub modules: &'static [&'static str],
    pub before: &'static [(&'static str, &'static str)],
    /// What the tool writes down below /run.
    pub memory: &'static str,
}

impl OnModel {
    pub fn new(tree: Tree, setting: Setting) -> OnModel {
        assert!(possible(), "the campaigns need root and /dev/fuse");
        let model = Arc::new(ModelKernel::from_tree(&tree));
        let Setting { tool, args, input, modules, before, memory } = setting;
        let mounted = None;
        OnModel { tool, args, input, tree, modules, before, memory, model, mounted }
    }

    pub fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().expect("reset comes first")
    }

    pub fn run(&self, args: &str, input: &str) -> Ran {
        Tool::new(self.tool).arg("--root").arg(self.mounted().path()).args(args).input(input).run()
    }
}

impl Stage for OnModel {
    fn name(&self) -> String {
        format!("{} {}", self.tool, self.args)
    }

    fn reset(&mut self) {
        drop(self.mounted.take());
        self.model = Arc::new(ModelKernel::from_tree(&self.tree));
        for module in self.modules {
            assert!(self.model.load_module(module));
        }
        let mut mounted = Mounted::new(Arc::clone(&self.model)).unwrap();
        mounted.scratch("/run").unwrap();
        self.mounted = Some(mounted);
        for (args, input) in self.before {
            self.run(args, input).expect(0);
        }
        self.model.reset_counters();
    }

    fn command(&self) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![program(self.tool).into(), "--root".into()];
        command.push(self.mounted().path().into());
        command.extend(self.args.split_ascii_whitespace().map(OsString::from));
        command
    }

    fn input(&self) -> Vec<u8> {
        self.input.into()
    }

    /// Each function, each module's ids, and what the tool wrote down.
    fn look(&self) -> Look {
        let shown = self.model.snapshot();
        let functions = shown.functions.iter().map(|(a, f)| (a.to_string(), format!("{f:?}")));
        let mut look: Look = functions.collect();
        look.insert("dynamic ids".into(), format!("{:?}", shown.dynamic_ids));
        look.insert("drivers_autoprobe".into(), shown.drivers_autoprobe.to_string());
        let run = Saved::of(self.mounted().path(), &[self.memory]).look();
        // names of profiles, as many as a run could read: only made use of where the
        // driver tells none
        let names = |item: &str| item.starts_with("run/vgpu-profile-set/types-");
        let kept = run.into_iter().filter(|(item, _)| !item.ends_with(".lock") && !names(item));
        look.extend(kept);
        look
    }

    fn log(&self) -> (PathBuf, PathBuf) {
        let path = super::bed::log();
        (path.clone(), path)
    }

    /// A function has no driver while it goes from one to the other.
    fn is_atomic(&self) -> bool {
        false
    }

    /// Memory of what is under way is there for the next run.
    fn may_stay(&self, item: &str) -> bool {
        item.starts_with(self.memory)
    }
}
