//! Inside a running container: may a process there open a device?
//!
//! The question can only be answered from within: the device rules hang on the
//! container's cgroup, the nodes on its mount namespace, and whether a mode
//! lets its root in on its user namespace. A forked copy of this process joins
//! all three and opens; nothing of the container's is executed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat};

use crate::child_read::read_in_child;
use crate::error::{errno_error, reason};
use crate::machine::DIR;
use crate::{Dir, FileError, Machine};

/// Where cgroup v2 is mounted: the unified hierarchy, or beside v1.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// What came of opening one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// A driver answered: it is a character device and open(2) succeeded.
    Ok {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// There is something else: the empty file that a failed bind mount leaves.
    NoDevice,
    /// The error number of open(2): ENOENT (it does not exist), EPERM (no device rule
    /// allows it), EACCES (its mode does not), ENXIO or ENODEV (no driver).
    Failed(i32),
    /// open(2) did not come back in time.
    Blocked,
}

impl OpenOutcome {
    /// The outcome for a message, after the path.
    pub fn words(&self) -> String {
        match self {
            OpenOutcome::Ok { major, minor } => format!("opens ({major}:{minor})"),
            OpenOutcome::NoDevice => {
                "is not a device node (a failed mount left an empty file)".into()
            }
            OpenOutcome::Failed(libc::ENOENT) => "does not exist".into(),
            OpenOutcome::Failed(libc::EPERM) => "cannot be opened (device rules)".into(),
            OpenOutcome::Failed(libc::EACCES) => "cannot be opened (its mode)".into(),
            OpenOutcome::Failed(libc::ENXIO | libc::ENODEV) => "has no driver behind it".into(),
            OpenOutcome::Failed(libc::EIO) => {
                "cannot be opened: the driver cannot initialise the GPU (EIO, see 'dmesg')".into()
            }
            OpenOutcome::Failed(errno) => {
                format!("cannot be opened: {}", reason(&io::Error::from_raw_os_error(*errno)))
            }
            OpenOutcome::Blocked => "blocks in the kernel when opened".into(),
        }
    }
}

/// Opens paths inside the container whose first process is `init`, as its root
/// would: each with whether it is opened for writing too. Gives one answer a
/// path. Errors: the container cannot be entered (it has ended).
pub fn open_in_container(
    init: i32,
    paths: &[(String, bool)],
    deadline: Duration,
) -> io::Result<Vec<OpenOutcome>> {
    const ENTERED: u8 = 0;
    // several children: a path that hangs in the kernel must not hold up the rest
    let answers = read_in_child(paths.len(), 4, deadline, &|at, pipe| {
        let mut entered = false;
        pipe.put(ENTERED, || {
            enter(init)?;
            entered = true;
            Ok(Vec::new())
        });
        if entered {
            let (path, write) = &paths[at];
            pipe.put(1, || open(path, *write));
        }
    })?;
    answers
        .iter()
        .map(|answer| {
            if let Some(errno) = answer.errno(ENTERED) {
                return Err(io::Error::from_raw_os_error(errno));
            }
            Ok(match (answer.bytes(1), answer.errno(1)) {
                (Some(bytes), _) => opened(bytes),
                (None, Some(errno)) => OpenOutcome::Failed(errno),
                (None, None) => OpenOutcome::Blocked,
            })
        })
        .collect()
}

impl Machine {
    /// What a process sees as its root, as [`Machine::container_root`]. Its directory of
    /// /proc is opened once, and `is_it` is asked about that open directory: a process id
    /// that by then belongs to another process cannot lead elsewhere, since what is
    /// opened through the directory of a process that has ended is an error (ESRCH).
    /// Errors: the kernel's; it is another process; it has changed its root directory, so
    /// that it does not see the root of its mount namespace.
    pub fn process_root(
        &self,
        pid: i32,
        is_it: &dyn Fn(&Dir<'_>) -> bool,
    ) -> Result<Machine, FileError> {
        let path = format!("/proc/{pid}");
        let shown = format!("{path}/root");
        let error = |source| self.error("open", &shown, source);
        let process = self.dir(&path)?;
        if !is_it(&process) {
            return Err(error(io::Error::from_raw_os_error(libc::ESRCH)));
        }
        let root = if self.is_host() {
            let root = nix::fcntl::openat(process.fd.as_fd(), "root", DIR, Mode::empty());
            let root = root.map_err(|errno| error(errno_error(errno)))?;
            require_namespace_root(&process.fd, &root).map_err(error)?;
            root
        } else {
            self.open(&shown, DIR, Mode::empty()).map_err(error)?
        };
        Ok(Machine::of_container(root, self.shown(&shown).into()))
    }
}

/// Whether a process sees the root of its mount namespace, where a container's own file
/// system is. With chroot(2) its first process could show us a directory of the host that
/// is mounted in the container. Both descriptors belong to the same process: its directory
/// of /proc, and what is its root. Errors: it sees another directory; or the kernel's.
fn require_namespace_root(process: &OwnedFd, root: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mounts = nix::fcntl::openat(process.as_fd(), "ns/mnt", flags, Mode::empty());
    let mounts = mounts.map_err(errno_error)?;
    let answers = read_in_child(1, 1, Duration::from_secs(10), &|_, pipe| {
        pipe.put(1, || {
            setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS).map_err(errno_error)?;
            let top = std::fs::metadata("/")?;
            Ok([top.dev().to_le_bytes(), top.ino().to_le_bytes()].concat())
        });
    })?;
    let seen = fstat(root.as_fd()).map_err(errno_error)?;
    let seen = [seen.st_dev.to_le_bytes(), seen.st_ino.to_le_bytes()].concat();
    let answer = answers.first();
    match (answer.and_then(|one| one.bytes(1)), answer.and_then(|one| one.errno(1))) {
        (Some(top), _) if top == seen => Ok(()),
        (Some(_), _) => {
            Err(io::Error::other("the container's first process has changed its root directory"))
        }
        (None, Some(errno)) => Err(io::Error::from_raw_os_error(errno)),
        (None, None) => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
    }
}

fn opened(bytes: &[u8]) -> OpenOutcome {
    match <[u8; 8]>::try_from(bytes) {
        Ok(numbers) => {
            let rdev = u64::from_le_bytes(numbers);
            OpenOutcome::Ok { major: libc::major(rdev), minor: libc::minor(rdev) }
        }
        Err(_) => OpenOutcome::NoDevice,
    }
}

/// Opens as a program does, without following a link. With O_NONBLOCK NVIDIA's driver
/// answers before it has initialised the GPU, and a program then gets EIO (measured with
/// 550.163.01); what waits is ended by the deadline.
fn open(path: &str, write: bool) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // what is not a device is not opened: it could be anything
    let there = std::fs::symlink_metadata(path)?;
    if !there.file_type().is_char_device() {
        return Ok(Vec::new());
    }
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(write).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let device = meta.file_type().is_char_device();
    Ok(if device { meta.rdev().to_le_bytes().to_vec() } else { Vec::new() })
}

/// Joins cgroup, user namespace and mount namespace of a process, as its root.
/// The caller is a forked child with one thread. A child enters once; for its
/// further paths it has entered already.
fn enter(init: i32) -> io::Result<()> {
    thread_local! {
        static THERE: std::cell::Cell<i32> = const { std::cell::Cell::new(0) };
    }
    if THERE.get() == init {
        return Ok(());
    }
    let proc_file = |name: &str| -> io::Result<File> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).open(format!("/proc/{init}/{name}"))
    };
    // all of it is opened before anything is joined: /proc is another one inside
    let mut cgroup = String::new();
    proc_file("cgroup")?.take(64 << 10).read_to_string(&mut cgroup)?;
    let user = proc_file("ns/user")?;
    let same_user = same_namespace(&user)?;
    let mounts = proc_file("ns/mnt")?;
    join_cgroup(&cgroup)?;
    if !same_user {
        setns(user.as_fd(), CloneFlags::CLONE_NEWUSER).map_err(errno_error)?;
    }
    setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS).map_err(errno_error)?;
    if !same_user {
        // SAFETY: a null list of length 0 drops all supplementary groups.
        unsafe { libc::setgroups(0, std::ptr::null()) };
        nix::unistd::setgid(nix::unistd::Gid::from_raw(0)).map_err(errno_error)?;
        nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).map_err(errno_error)?;
    }
    THERE.set(init);
    Ok(())
}

fn same_namespace(theirs: &File) -> io::Result<bool> {
    let mut options = std::fs::OpenOptions::new();
    let own = options.read(true).open("/proc/self/ns/user")?.metadata()?;
    let theirs = theirs.metadata()?;
    Ok((own.dev(), own.ino()) == (theirs.dev(), theirs.ino()))
}

/// Moves this process into the cgroup of `/proc/PID/cgroup`'s line of version 2,
/// whose device rules then hold for it.
fn join_cgroup(text: &str) -> io::Result<()> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let missing = || io::Error::from_raw_os_error(libc::ENOENT);
    let path = path.filter(|path| path.starts_with('/')).ok_or_else(missing)?;
    let mut last = missing();
    for top in CGROUPS {
        let mut options = std::fs::OpenOptions::new();
        match options.write(true).open(format!("{top}{path}/cgroup.procs")) {
            Ok(mut file) => return file.write_all(b"0"),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{ForkResult, fork};

    /// A process in a mount namespace of its own, in another root directory.
    fn process(root: Option<&std::ffi::CStr>) -> nix::unistd::Pid {
        // SAFETY: the child only makes system calls until it is killed.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            // SAFETY: as above.
            ForkResult::Child => unsafe {
                libc::unshare(libc::CLONE_NEWNS);
                if let Some(root) = root {
                    libc::chroot(root.as_ptr());
                }
                loop {
                    libc::pause();
                }
            },
        }
    }

    fn end(pid: nix::unistd::Pid) {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        nix::sys::wait::waitpid(pid, None).unwrap();
    }

    #[test]
    fn a_first_process_that_changed_its_root_directory_is_not_followed() {
        let host = Machine::new(None).unwrap();
        for (root, refused) in [(None, false), (Some(c"/tmp"), true)] {
            let pid = process(root);
            std::thread::sleep(Duration::from_millis(200));
            let opened = host.process_root(pid.as_raw(), &|_| true);
            assert_eq!(opened.is_err(), refused, "{root:?}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("changed its root directory"), "{error}");
            }
            end(pid);
        }
    }

    /// The number of a process that ended belongs to another one.
    #[test]
    fn a_process_is_what_its_open_directory_says() {
        let host = Machine::new(None).unwrap();
        let pid = process(None);
        let comm = |dir: &Dir<'_>| dir.attr("comm").is_ok();
        assert!(host.process_root(pid.as_raw(), &comm).is_ok());
        assert!(host.process_root(pid.as_raw(), &|_| false).is_err());
        // it ends after it was looked at, and before its root is opened
        let opened = host.process_root(pid.as_raw(), &|dir| {
            end(pid);
            let _ = comm(dir);
            true
        });
        assert!(opened.is_err());
    }
}
