//! A real Debian in a container, and a real driver in an installer. Both are
//! made once and kept below the build directory.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use testbed::bed::program;
use testbed::runfile::{NvidiaRun, Pack};

use crate::rootfs::{INIT, PROBE, probe};

pub use testbed::debian::DRIVER as VERSION;

/// Below the build directory: `target/lxcbed`.
fn cache() -> PathBuf {
    let target = program("lxcbed");
    let dir = target.ancestors().nth(2).expect("target/<profile>").join("lxcbed");
    fs::create_dir_all(&dir).expect("cache");
    dir
}

/// Makes something once, however many tests want it at a time.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let (cache, done) = (cache(), format!("{name}.done"));
    let file = File::create(cache.join(format!("{name}.lock"))).expect("lock");
    let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("flock");
    let path = cache.join(name);
    if !cache.join(&done).exists() {
        let _ = fs::remove_dir_all(&path);
        make(&path);
        fs::write(cache.join(done), "").expect("done");
    }
    path
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program that the tests need");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Debian 12 as debootstrap makes it, without what no test reads.
fn bookworm() -> PathBuf {
    once("bookworm", |dir| {
        let mirror = testbed::debian::mirror();
        run(Command::new("debootstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(dir)
            .arg(mirror));
        for unread in ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt"] {
            fs::remove_dir_all(dir.join(unread)).expect(unread);
        }
        run(Command::new("find")
            .arg(dir.join("var/lib/apt/lists"))
            .args(["-type", "f", "-delete"]));
        for (path, bytes) in [("sbin/init", INIT.as_bytes()), (PROBE, probe())] {
            let path = dir.join(path.trim_start_matches('/'));
            fs::write(&path, bytes).expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
    })
}

/// The same with dnf, rpm and a repository of signed packages, which says that
/// it is of the RHEL family.
fn with_dnf() -> PathBuf {
    once("bookworm-dnf", |dir| {
        fs::create_dir(dir).expect("directory");
        run(Command::new("cp").arg("-a").arg(bookworm().join(".")).arg(dir));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dnf-container");
        run(Command::new(script).arg(dir));
    })
}

/// Puts a copy of that into a directory that is there.
pub(crate) fn fill_with_dnf(dir: &Path, shift: u32) {
    copy(&with_dnf(), dir, shift);
}

/// Puts a copy of it at `dir`, owned by what the container's root is on the host.
pub(crate) fn make(dir: &Path, shift: u32) {
    fs::create_dir(dir).expect("volume");
    fill(dir, shift);
}

/// The same into a directory that is there.
pub fn fill(dir: &Path, shift: u32) {
    copy(&bookworm(), dir, shift);
}

fn copy(from: &Path, dir: &Path, shift: u32) {
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(dir));
    if shift == 0 {
        return;
    }
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.expect("walk");
        let meta = entry.metadata().expect("stat");
        lchown(entry.path(), Some(meta.uid() + shift), Some(meta.gid() + shift)).expect("chown");
        if !meta.is_symlink() {
            // chown(2) takes set-id bits away
            fs::set_permissions(entry.path(), meta.permissions()).expect("chmod");
        }
    }
}

/// An installer in NVIDIA's dialect that holds the real libraries and
/// nvidia-smi, with a manifest of NVIDIA's kind.
pub fn installer() -> PathBuf {
    pack("installer", VERSION, None)
}

/// The same libraries under the name of any version, with a stand-in for
/// nvidia-smi that finds a GPU: there is no driver behind the nodes.
pub fn installer_that_finds_a_gpu(version: &str) -> PathBuf {
    let smi = format!("#!/bin/sh\necho 'GPU 0: stand-in (driver {version})'\n");
    pack(&format!("installer-{version}"), version, Some(&smi))
}

fn pack(name: &str, version: &str, smi: Option<&str>) -> PathBuf {
    let real = testbed::debian::unpacked();
    let dir = once(name, |dir| {
        let tree = dir.join("tree");
        fs::create_dir_all(&tree).expect("directory");
        testbed::runfile::driver_tree(&tree, version);
        let mut manifest = format!(
            "NVIDIA Accelerated Graphics Driver for Linux-x86_64\n{version}\n \n\
             nvidia nvidia-uvm nvidia-modeset nvidia-drm \n \n \n \n \n"
        );
        let libraries = real.join("usr/lib/x86_64-linux-gnu/nvidia/current");
        for (stem, kind) in [
            ("libcuda", "CUDA_LIB NATIVE / MODULE:gpgpu"),
            ("libnvidia-ml", "CUDA_LIB NATIVE / MODULE:nvml"),
            ("libnvidia-cfg", "UTILITY_LIB NATIVE MODULE:utils"),
            ("libnvidia-ptxjitcompiler", "CUDA_LIB NATIVE / MODULE:gpgpu"),
            ("libnvcuvid", "NVCUVID_LIB NATIVE MODULE:nvcuvid"),
            ("libnvidia-encode", "ENCODEAPI_LIB NATIVE MODULE:encodeapi"),
        ] {
            let name = format!("{stem}.so.{version}");
            let library = libraries.join(format!("{stem}.so.{VERSION}"));
            fs::copy(library, tree.join(&name)).expect("library");
            manifest += &format!("{name} 0755 {kind}\n");
        }
        match smi {
            Some(script) => fs::write(tree.join("nvidia-smi"), script).expect("nvidia-smi"),
            None => {
                let smi = real.join("usr/lib/nvidia/current/nvidia-smi");
                fs::copy(smi, tree.join("nvidia-smi")).expect("nvidia-smi");
            }
        }
        let v = version;
        // libnvidia-cfg.so.1 and libnvidia-ptxjitcompiler.so.1 are left to the libraries themselves
        manifest += &format!(
            "nvidia-smi 0755 UTILITY_BINARY MODULE:nvml\n\
             nvidia-modprobe 04755 NVIDIA_MODPROBE /usr/bin/ MODULE:installer\n\
             32/libcuda.so.{v} 0755 CUDA_LIB COMPAT32 / MODULE:gpgpu\n\
             firmware/gsp_ga10x.bin 0444 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:gsp\n\
             kernel/nvidia/nv.c 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:resman\n\
             libcuda.so.1 0000 CUDA_SYMLINK NATIVE / libcuda.so.{v} MODULE:gpgpu\n\
             libcuda.so 0000 CUDA_SYMLINK NATIVE / libcuda.so.1 MODULE:gpgpu\n\
             libnvidia-ml.so.1 0000 CUDA_SYMLINK NATIVE / libnvidia-ml.so.{v} MODULE:nvml\n\
             libnvcuvid.so.1 0000 NVCUVID_LIB_SYMLINK NATIVE libnvcuvid.so.{v} MODULE:nvcuvid\n\
             libnvidia-encode.so.1 0000 ENCODEAPI_LIB_SYMLINK NATIVE libnvidia-encode.so.{v} MODULE:encodeapi\n\n"
        );
        fs::write(tree.join(".manifest"), manifest).expect("manifest");
        NvidiaRun::new(version, Pack::Zstd).write(&tree, dir);
        fs::remove_dir_all(tree).expect("tree");
    });
    dir.join(NvidiaRun::new(version, Pack::Zstd).file_name())
}

/// One whose libraries are small and only look like some.
pub fn small_installer() -> PathBuf {
    let dir = once("small-installer", |dir| {
        let tree = dir.join("tree");
        fs::create_dir_all(&tree).expect("directory");
        testbed::runfile::driver_tree(&tree, VERSION);
        NvidiaRun::new(VERSION, Pack::Gzip).write(&tree, dir);
        fs::remove_dir_all(tree).expect("tree");
    });
    dir.join(NvidiaRun::new(VERSION, Pack::Gzip).file_name())
}
