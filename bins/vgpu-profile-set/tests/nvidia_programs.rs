//! NVIDIA's programs, played by ones that act on the model kernel: virtual
//! functions that come or do not; heterogeneous mode.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use host::FileError;
use host::command::{Ending, Ran};
use modelkernel::{ModelKernel, VgpuCard};
use testbed::machine;
use testbed::tree::Entry;
use vgpu_profile_set::nvidia_programs::{NvidiaPrograms, RunProgram};
use vgpu_profile_set::observe::model::ReadDepth;
use vgpu_profile_set::observe::observe;

const PF: &str = "0000:41:00.0";

/// An L40S whose virtual functions are off, with NVIDIA's programs installed.
fn model() -> ModelKernel {
    let mut tree = machine::tree("pve9-l40s-vgpu").unwrap();
    let vf =
        |path: &str| (4..36).any(|n| path.contains(&format!("/0000:41:{:02x}.{}", n / 8, n % 8)));
    tree.entries.retain(|path, _| !vf(path) && !path.contains("/virtfn"));
    for (path, entry) in &mut tree.entries {
        if path.ends_with("/sriov_numvfs") {
            *entry = Entry::File(b"0\n".to_vec());
        }
    }
    tree.file("/usr/lib/nvidia/sriov-manage", "");
    tree.file("/usr/bin/nvidia-smi", "");
    let model = ModelKernel::from_tree(&tree);
    model.vgpu_card(PF, VgpuCard::l40s());
    model.load_module("pci-pf-stub");
    model
}

/// ProfileChange sriov-manage does at its nth call.
enum Act {
    Nothing,
    /// Ends with status 0 and says that a write failed.
    NoMemory,
    Fail,
    /// Unbinds the GPU, then fails.
    Unbind,
    Work,
}

struct Played<'a> {
    model: &'a ModelKernel,
    acts: RefCell<VecDeque<Act>>,
    heterogeneous: RefCell<bool>,
    calls: RefCell<Vec<String>>,
}

impl Played<'_> {
    fn vfs(&self, count: &str) {
        for (path, value) in [
            ("drivers/nvidia/unbind", PF),
            ("drivers/pci-pf-stub/new_id", "10de 26b9"),
            (&format!("devices/{PF}/sriov_numvfs"), count),
            ("drivers/pci-pf-stub/unbind", PF),
            ("drivers/pci-pf-stub/remove_id", "10de 26b9"),
            ("drivers/nvidia/bind", PF),
        ] {
            self.model.write(&format!("/sys/bus/pci/{path}"), value.as_bytes()).unwrap();
        }
    }
}

fn ran(code: i32, stdout: &str, stderr: &str) -> Result<Option<Ran>, FileError> {
    Ok(Some(Ran { ending: Ending::Exited(code), stdout: stdout.into(), stderr: stderr.into() }))
}

impl RunProgram for Played<'_> {
    fn run(&self, argv: &[&str], _: Duration) -> Result<Option<Ran>, FileError> {
        self.calls.borrow_mut().push(argv.join(" "));
        match argv {
            ["/usr/lib/nvidia/sriov-manage", "-e", PF] => {
                let act = self.acts.borrow_mut().pop_front();
                match act.unwrap_or(Act::Nothing) {
                    Act::Nothing => ran(0, "", ""),
                    Act::NoMemory => ran(
                        0,
                        "Enabling VFs on 0000:41:00.0\n",
                        "sriov-manage: line 182: echo: write error: Cannot allocate memory\n",
                    ),
                    Act::Unbind => {
                        let path = "/sys/bus/pci/drivers/nvidia/unbind";
                        self.model.write(path, PF.as_bytes()).unwrap();
                        ran(1, "", "Cannot bind 0000:41:00.0 to nvidia\n")
                    }
                    Act::Fail => ran(1, "", "Cannot obtain unbindLock for 0000:41:00.0\n"),
                    Act::Work => {
                        self.vfs("32");
                        ran(0, "Enabling VFs on 0000:41:00.0\n", "")
                    }
                }
            }
            ["/usr/lib/nvidia/sriov-manage", "-d", PF] => {
                self.vfs("0");
                ran(0, "", "")
            }
            ["/usr/bin/nvidia-smi", "-q", "-i", PF] => {
                let on = if *self.heterogeneous.borrow() { "Enabled" } else { "Disabled" };
                ran(0, &format!("        vGPU Heterogeneous Mode           : {on}\n"), "")
            }
            ["/usr/bin/nvidia-smi", "vgpu", "-shm", value, "-i", PF] => {
                let on = *value == "1";
                if self.model.set_heterogeneous(PF, on).is_err() {
                    return ran(
                        19,
                        "Unable to set vGPU heterogeneous mode: In use by another client\n",
                        "",
                    );
                }
                *self.heterogeneous.borrow_mut() = on;
                ran(0, "", "")
            }
            _ => ran(127, "", "unknown"),
        }
    }

    fn sleep(&self, _: Duration) {}
}

fn play(model: &ModelKernel, acts: Vec<Act>) -> Played<'_> {
    let (heterogeneous, calls) = (RefCell::new(false), RefCell::new(Vec::new()));
    Played { model, acts: RefCell::new(acts.into()), heterogeneous, calls }
}

#[test]
fn virtual_functions_come_with_one_call() {
    let model = model();
    let played = play(&model, vec![Act::Work]);
    let programs = NvidiaPrograms { files: &model, runner: &played, interrupted: &|| false };
    programs.enable_vfs(PF.parse().unwrap(), 32).unwrap();
    assert_eq!(played.calls.borrow().len(), 1);
    let gpus = observe(&model, ReadDepth::Plan).unwrap();
    assert_eq!((gpus[0].functions.len(), gpus[0].types.len()), (32, 21));
    programs.disable_vfs(PF.parse().unwrap()).unwrap();
    assert!(observe(&model, ReadDepth::Plan).unwrap()[0].functions.is_empty());
}

/// NVIDIA/gpu-driver-container issue 29 (the write error with exit status 0), and a
/// script that unbinds the GPU before it fails (stackhpc's role linux, issue 37).
#[test]
fn sriov_manage_is_called_once_and_quoted_and_what_it_leaves_is_named() {
    let words = [
        (Act::Nothing, "sriov-manage did nothing", false),
        (Act::NoMemory, "exit status 0: sriov-manage: line 182: echo: write error: Cannot", false),
        (Act::Fail, "exit status 1: Cannot obtain unbindLock for 0000:41:00.0", false),
        (Act::Unbind, "exit status 1: Cannot bind 0000:41:00.0 to nvidia", true),
    ];
    for (act, words, unbound) in words {
        let model = model();
        let played = play(&model, vec![act]);
        let programs = NvidiaPrograms { files: &model, runner: &played, interrupted: &|| false };
        let why = programs.enable_vfs(PF.parse().unwrap(), 32).unwrap_err();
        assert!(why.starts_with("the GPU still has no virtual functions: "), "{why}");
        assert!(why.contains(words), "{why}");
        assert_eq!(why.ends_with("; the GPU is left without a driver"), unbound, "{why}");
        assert_eq!(played.calls.borrow().len(), 1);
        let programs = NvidiaPrograms { files: &model, runner: &played, interrupted: &|| true };
        assert_eq!(programs.enable_vfs(PF.parse().unwrap(), 32).unwrap_err(), "interrupted");
    }
}

#[test]
fn heterogeneous_mode_is_read_back_and_its_refusal_is_reported() {
    let model = model();
    let played = play(&model, vec![Act::Work]);
    let programs = NvidiaPrograms { files: &model, runner: &played, interrupted: &|| false };
    let pf = PF.parse().unwrap();
    programs.enable_vfs(pf, 32).unwrap();
    assert_eq!(programs.heterogeneous(pf), Some(false));
    programs.set_heterogeneous(pf, true).unwrap();
    assert_eq!(programs.heterogeneous(pf), Some(true));
    model.write("/sys/bus/pci/devices/0000:41:00.4/nvidia/current_vgpu_type", b"1155").unwrap();
    let why = programs.set_heterogeneous(pf, false).unwrap_err();
    assert!(why.contains("exit status 19") && why.contains("In use by another client"), "{why}");
    // programs that are not installed
    let bare = ModelKernel::from_tree(&machine::tree("pve9-two-gpus").unwrap());
    let programs = NvidiaPrograms { files: &bare, runner: &played, interrupted: &|| false };
    assert_eq!(programs.heterogeneous(pf), None);
    assert!(
        programs.set_heterogeneous(pf, true).unwrap_err().contains("nvidia-smi is not installed")
    );
}
