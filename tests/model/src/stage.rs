//! The machine on which documents show the tools at work: a recorded host as a
//! directory that can be changed, with the model's /sys, /proc and device nodes
//! in it, and the software that the recording does not carry.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use testbed::driver::{LIB, RootFs};
use testbed::runfile::{NvidiaRun, Pack, driver_tree};
use testbed::session::{HOME, Typed, commands, terminal};
use testbed::tree::Entry;
use testbed::{Bed, machine};

use crate::ModelKernel;
use crate::mount::{Mounted, detach, possible};

/// The driver of the recorded host.
const DRIVER: &str = "550.163.01";
/// What it is to be updated to.
const NEWER: &str = "580.95.05";

/// One such machine; it goes away with its owner.
pub struct Stage {
    mounts: Vec<PathBuf>,
    mounted: Mounted,
    commands: Bed,
    bed: Bed,
}

impl Stage {
    /// Builds it; takes root and /dev/fuse.
    pub fn new(name: &str) -> Stage {
        assert!(
            possible(),
            "documents are tried on a mounted model: that takes root and /dev/fuse"
        );
        let bed = Bed::new(name);
        let mut tree = machine::tree(name).expect(name);
        let shown = ["/sys/", "/proc/", "/dev/"];
        tree.entries.retain(|path, _| shown.iter().any(|top| path.starts_with(top)));
        for (path, entry) in &mut tree.entries {
            // profiles are shown as they are after a boot: none
            if path.ends_with("/nvidia/current_vgpu_type") {
                *entry = Entry::File(b"0\n".to_vec());
            }
        }
        let model = Arc::new(ModelKernel::from_tree(&tree));
        assert!(model.load_module("vfio-pci"));
        let mounted = Mounted::new(model).expect("mount(2)");
        let commands = commands(bed.path());
        fs::create_dir_all(bed.at(HOME)).expect(HOME);
        let mut stage = Stage { mounts: Vec::new(), mounted, commands, bed };
        for path in ["/sys", "/proc", "/dev.list"] {
            stage.show(path);
        }
        if name == "pve9-two-gpus" {
            stage.software();
        }
        if name == "pve9-l40s-vgpu" {
            // there Proxmox VE sets the profile of the first function itself
            stage.bed.remove("/etc/pve/qemu-server/200.conf");
            stage.bed.remove("/run/qemu-server/pci-id-reservations");
        }
        stage.package();
        stage
    }

    /// Types a command there.
    pub fn run(&self, command: &str) -> Typed {
        terminal(self.bed.path(), &self.commands, command)
    }

    /// What the model has at a path, in place of what was recorded.
    fn show(&mut self, path: &str) {
        let at = self.bed.at(path);
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        let (from, to) = (text(&self.mounted.at(path)), text(&at));
        let null = std::ptr::null();
        // SAFETY: both strings end in NUL; a bind mount takes no type and no data.
        let failed =
            unsafe { libc::mount(from.as_ptr(), to.as_ptr(), null, libc::MS_BIND, null.cast()) };
        assert_eq!(failed, 0, "{path}: {}", std::io::Error::last_os_error());
        self.mounts.push(at);
    }

    /// The driver on host and in a container, a kernel that boots next without
    /// it, containers' volumes, and installers.
    fn software(&self) {
        let storage = "zfspool: local-zfs\n\tpool rpool/data\n\tmountpoint /rpool/data\n\tcontent images,rootdir\n";
        self.bed.write("/etc/pve/storage.cfg", storage);
        let host = RootFs::new(self.bed.path());
        host.run_install(LIB, DRIVER).ldconfig();
        host.kernel("6.14.11-4-pve", Some(("updates/dkms/nvidia.ko", DRIVER)));
        host.kernel("6.17.13-2-pve", None);
        host.dkms("nvidia", DRIVER, &["6.14.11-4-pve"]);
        for name in ["gsp_ga10x.bin", "gsp_tu10x.bin"] {
            host.file(&format!("/lib/firmware/nvidia/{DRIVER}/{name}"), "firmware");
        }
        for (ctid, id, version, driver) in [
            (901, "debian", "12", None),
            (902, "ubuntu", "24.04", Some("550.54.14")),
            (904, "debian", "12", None),
        ] {
            let path = format!("/rpool/data/subvol-{ctid}-disk-0");
            let inside = RootFs::new(self.bed.at(&path));
            inside.file("/etc/hostname", format!("ct{ctid}\n"));
            inside.file("/etc/os-release", format!("ID={id}\nVERSION_ID=\"{version}\"\n"));
            inside.file("/lib64/ld-linux-x86-64.so.2", "");
            for dir in ["usr/bin", "usr/lib/x86_64-linux-gnu", "var/lib"] {
                fs::create_dir_all(inside.at(dir)).expect(dir);
            }
            if let Some(version) = driver {
                inside.run_install(LIB, version);
            }
            inside.ldconfig();
        }
        self.installers();
    }

    /// Installers in NVIDIA's dialect, in root's home. Not in the cache: the
    /// digests that are known of these versions are those of NVIDIA's own files.
    fn installers(&self) {
        for version in [DRIVER, NEWER] {
            let work = Bed::empty();
            driver_tree(work.path(), version);
            let mut run = NvidiaRun::new(version, Pack::Zstd);
            // since 545 and 550
            let since = ["--allow-installation-with-running-driver", "--skip-module-load"];
            run.options.extend(since.map(str::to_string));
            run.write(work.path(), &self.bed.at(HOME));
        }
    }

    /// The package's units, and the Makefile of the phases.
    fn package(&self) {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for entry in fs::read_dir(project.join("shared/pipelines")).into_iter().flatten() {
            let path = entry.expect("pipelines").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let name = if name.ends_with(".mk") { "Makefile" } else { &name };
            let there = self.bed.at(&format!("/usr/share/pve-gpu-tools/{name}"));
            fs::create_dir_all(there.parent().expect("a parent")).expect(name);
            fs::copy(&path, there).expect(name);
        }
        for tool in fs::read_dir(project.join("bins")).expect("bins") {
            let package = tool.expect("bins").path().join("package");
            for entry in fs::read_dir(package).into_iter().flatten() {
                let path = entry.expect("package").path();
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                if name.ends_with(".service") || name.ends_with(".timer") {
                    let text = fs::read_to_string(&path).expect("a unit");
                    self.bed.write(&format!("/usr/lib/systemd/system/{name}"), text);
                }
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for at in self.mounts.drain(..).rev() {
            detach(&at);
        }
    }
}
