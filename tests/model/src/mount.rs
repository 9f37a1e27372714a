//! The model as a file system, for programs that take `--root`.
//!
//! As in sysfs, every write(2) is one store; nothing can be created or
//! truncated. A write that blocks keeps its caller until the model lets it go,
//! or somebody kills the caller: then the caller ends, and the write stays with
//! the model, as it stays with the kernel.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use fuser::{BackgroundSession, Config, MountOption};

use crate::ModelKernel;
use crate::fuse::ModelFs;

/// How mounts of ours are called in /proc/self/mounts.
const NAME: &str = "modelkernel";

/// A mounted model; unmounted when it goes away, by a panic too.
pub struct Mounted {
    model: Arc<ModelKernel>,
    dir: PathBuf,
    scratch: Vec<PathBuf>,
    stop: Arc<AtomicBool>,
    uninterruptible: Arc<AtomicBool>,
    session: Option<BackgroundSession>,
}

/// Whether a model can be mounted here: as root, where there is /dev/fuse.
pub fn possible() -> bool {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    root && fs::File::options().read(true).write(true).open("/dev/fuse").is_ok()
}

impl Mounted {
    /// Mounts the model at a directory of its own. Errors: mount(2)'s.
    pub fn new(model: Arc<ModelKernel>) -> io::Result<Mounted> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        clear_stale();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME}-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir)?;
        let stop = Arc::new(AtomicBool::new(false));
        let uninterruptible = Arc::new(AtomicBool::new(false));
        let fs = ModelFs::new(model.clone(), stop.clone(), uninterruptible.clone());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(NAME.to_string())];
        let session = fuser::spawn_mount(fs, &dir, &config);
        let session = session.inspect_err(|_| drop(fs::remove_dir(&dir)))?;
        let session = Some(session);
        Ok(Mounted { model, dir, scratch: Vec::new(), stop, uninterruptible, session })
    }

    /// The directory, for `--root`.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A path of the machine below it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    pub fn model(&self) -> &ModelKernel {
        &self.model
    }

    /// Whether a blocked caller stays where it is when it is killed, as one that
    /// waits in the kernel does, until the model lets it go or the mount ends.
    pub fn uninterruptible(&self, on: bool) {
        self.uninterruptible.store(on, Ordering::SeqCst);
    }

    /// Puts an empty file system that can be written at a directory of the
    /// machine, such as /run: what was there is hidden. Errors: mount(2)'s.
    pub fn scratch(&mut self, path: &str) -> io::Result<()> {
        self.model.change(|state| state.files.dir(path));
        let at = self.at(path);
        let target = CString::new(at.as_os_str().as_bytes())?;
        let null = std::ptr::null();
        // SAFETY: all strings end in NUL; tmpfs takes no data.
        let failed =
            unsafe { libc::mount(c"none".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, null) };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        self.scratch.push(at);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.model.changed.notify_all();
        for at in self.scratch.drain(..).rev() {
            detach(&at);
        }
        // lazily: a child of the test that hangs must not keep it
        detach(&self.dir);
        drop(self.session.take());
        let _ = fs::remove_dir(&self.dir);
    }
}

pub(crate) fn detach(path: &Path) {
    unmount(path, libc::MNT_DETACH);
}

fn unmount(path: &Path, flags: i32) {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return };
    // SAFETY: the string ends in NUL.
    unsafe { libc::umount2(path.as_ptr(), flags) };
}

/// Whether a process is gone, or killed and not yet buried.
pub(crate) fn ended(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Unmounts what test processes left that were killed.
fn clear_stale() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(NAME), Some(path)) = (words.next(), words.next()) else { continue };
        let pid = path.rsplit('/').next().and_then(|name| name.split('-').nth(1));
        if pid.is_some_and(ended) {
            let path = Path::new(path);
            // aborts the connection: threads of a killed server may wait for itself
            unmount(path, libc::MNT_FORCE);
            detach(path);
            let _ = fs::remove_dir(path);
        }
    }
}
