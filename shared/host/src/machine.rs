//! Rooted access to files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::error::errno_error;
use crate::rights::Rights;
use crate::{FileError, Owner};

/// The running host, or a tree that represents one.
///
/// All paths are absolute as on the host (`/sys/bus/pci/devices`); below a tree
/// they are resolved inside it by openat2(2) with RESOLVE_IN_ROOT, so that
/// neither `..` nor a link nor a race leads out of it.
pub struct Machine {
    root: OwnedFd,
    below: Option<PathBuf>,
    /// Its device nodes may be listed in a file (see [`crate::node`]).
    pub(crate) listed: bool,
    /// No path may lead over a mount point.
    pub(crate) one_mount: bool,
    /// Whose rights every access has; `None`: this process's own.
    pub(crate) rights_of: Option<Owner>,
}

/// What stat(2) says, reduced to what the tools ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Kind of file.
    pub kind: FileKind,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Device number of a device node.
    pub rdev: u64,
    /// Inode number.
    pub inode: u64,
}

/// Kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Link,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// FIFO or socket.
    Other,
}

impl From<FileStat> for Stat {
    fn from(stat: FileStat) -> Stat {
        let kind = match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
            SFlag::S_IFREG => FileKind::File,
            SFlag::S_IFDIR => FileKind::Dir,
            SFlag::S_IFLNK => FileKind::Link,
            SFlag::S_IFCHR => FileKind::Char,
            SFlag::S_IFBLK => FileKind::Block,
            _ => FileKind::Other,
        };
        Stat {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size.max(0) as u64,
            rdev: stat.st_rdev,
            inode: stat.st_ino,
        }
    }
}

/// How often a path is resolved again when others move things about.
const RETRIES: u32 = 10_000;

pub(crate) const DIR: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

impl Machine {
    /// The running host for `None`, the tree below a directory otherwise.
    /// Errors: the directory cannot be opened.
    pub fn new(root: Option<&Path>) -> Result<Machine, FileError> {
        let path = root.unwrap_or_else(|| Path::new("/"));
        let fd = nix::fcntl::open(path, DIR, Mode::empty()).map_err(|errno| FileError {
            action: "open",
            path: path.display().to_string(),
            source: errno_error(errno),
        })?;
        let below = root.map(Path::to_path_buf);
        Ok(Machine { root: fd, below, listed: root.is_some(), one_mount: false, rights_of: None })
    }

    /// The root file system of a container, given by its directory on this
    /// machine. It may be hostile: as below `--root`, every path is resolved
    /// inside it and no command is run; a list of device nodes counts for
    /// nothing. Errors: the directory cannot be opened.
    pub fn container_root(&self, path: &str) -> Result<Machine, FileError> {
        let root = self.open(path, DIR, Mode::empty());
        let root = root.map_err(|source| self.error("open", path, source))?;
        Ok(Machine::of_container(root, self.shown(path).into()))
    }

    /// The same of an open directory; messages show it as `below`.
    pub(crate) fn of_container(root: OwnedFd, below: PathBuf) -> Machine {
        Machine { root, below: Some(below), listed: false, one_mount: false, rights_of: None }
    }

    /// Whether this is the running host itself: only then commands may be run.
    pub fn is_host(&self) -> bool {
        self.below.is_none()
    }

    /// Whether this process may read everything.
    pub fn is_root_user(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    /// A path as a person finds it: with `--root`'s directory in front.
    pub fn shown(&self, path: &str) -> String {
        match &self.below {
            None => path.to_string(),
            Some(root) => format!("{}{path}", root.display().to_string().trim_end_matches('/')),
        }
    }

    pub(crate) fn error(&self, action: &'static str, path: &str, source: io::Error) -> FileError {
        FileError { action, path: self.shown(path), source }
    }

    pub(crate) fn open(&self, path: &str, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC;
        let _rights = self.rights()?;
        let opened = if self.is_host() {
            openat(self.root.as_fd(), path, flags, mode)
        } else {
            let how = self.how(flags, mode);
            // EAGAIN: somewhere on the machine something was mounted or renamed
            // while a ".." was resolved, so the kernel cannot vouch that it did
            // not lead out (openat2(2)). The same path is asked for again.
            let mut tries = 0;
            loop {
                match openat2(self.root.as_fd(), path, how) {
                    Err(nix::errno::Errno::EAGAIN) if tries < RETRIES => {
                        tries += 1;
                        std::thread::yield_now();
                    }
                    other => break other,
                }
            }
        };
        opened.map_err(errno_error)
    }

    /// Reads a regular file of at most `cap` bytes. A larger one, and one that
    /// is not a regular file, is an error: what is read may be hostile, so a FIFO
    /// must not block us nor a sparse giant fill memory; and below a tree a
    /// device is not even opened, since some act when they are (watchdogs,
    /// tapes).
    pub fn read(&self, path: &str, cap: usize) -> Result<Vec<u8>, FileError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let read = || -> io::Result<Vec<u8>> {
            let _rights = self.rights()?;
            if self.is_host() {
                return read_capped(self.open(path, flags, Mode::empty())?, cap);
            }
            let found = self.open(path, OFlag::O_PATH, Mode::empty())?;
            let stat: Stat = fstat(found.as_fd()).map_err(errno_error)?.into();
            if stat.kind != FileKind::File {
                return Err(crate::error::irregular());
            }
            // the same file again, whatever its name leads to by now
            let name = format!("/proc/self/fd/{}", found.as_raw_fd());
            let fd = nix::fcntl::open(name.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty());
            read_capped(fd.map_err(errno_error)?, cap)
        };
        read().map_err(|error| self.error("read", path, error))
    }

    /// The first `most` bytes of a file of procfs: the kernel makes only what is
    /// read, and the rest may be megabytes.
    pub fn read_start(&self, path: &str, most: usize) -> Result<Vec<u8>, FileError> {
        let read = || -> io::Result<Vec<u8>> {
            let fd = self.open(path, OFlag::O_RDONLY | OFlag::O_NOCTTY, Mode::empty())?;
            let mut bytes = Vec::new();
            File::from(fd).take(most as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| self.error("read", path, error))
    }

    /// [`Machine::read`] as text; bytes that are not UTF-8 become U+FFFD.
    pub fn read_text(&self, path: &str, cap: usize) -> Result<String, FileError> {
        Ok(String::from_utf8_lossy(&self.read(path, cap)?).into_owned())
    }

    /// Reads a kernel attribute: the text without its final newline. Such a
    /// read may block as long as the kernel likes; see [`crate::probe`].
    pub fn attr(&self, path: &str) -> Result<String, FileError> {
        let read = || -> io::Result<String> {
            text_of(self.open(path, OFlag::O_RDONLY | OFlag::O_NOCTTY, Mode::empty())?)
        };
        read().map_err(|error| self.error("read", path, error))
    }

    /// Where a link points, unresolved.
    pub fn read_link(&self, path: &str) -> Result<String, FileError> {
        let read = |dir: BorrowedFd<'_>, name: &OsStr| {
            let target = readlinkat(dir, name).map_err(errno_error)?;
            Ok(target.to_string_lossy().into_owned())
        };
        // thousands are read where all processes are looked at, and on the host the
        // kernel's own walk leads to the same link
        match self.is_host() {
            true => read(AT_FDCWD, OsStr::new(path)),
            false => self.at(path, read),
        }
        .map_err(|error| self.error("read link", path, error))
    }

    /// stat(2) of what a path leads to.
    pub fn stat(&self, path: &str) -> Result<Stat, FileError> {
        let stat = || -> io::Result<Stat> {
            let fd = self.open(path, OFlag::O_PATH, Mode::empty())?;
            Ok(fstat(fd.as_fd()).map_err(errno_error)?.into())
        };
        stat().map_err(|error| self.error("stat", path, error))
    }

    /// lstat(2): a link is not followed. Where no path may lead over a mount point
    /// neither may the last component: a file system of the container's own may answer
    /// for it, or never answer.
    pub fn lstat(&self, path: &str) -> Result<Stat, FileError> {
        let stat = || -> io::Result<Stat> {
            if self.one_mount {
                let fd = self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())?;
                return Ok(fstat(fd.as_fd()).map_err(errno_error)?.into());
            }
            self.at(path, |dir, name| {
                let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(errno_error)?;
                Ok(stat.into())
            })
        };
        stat().map_err(|error| self.error("stat", path, error))
    }

    /// Whether a path leads to anything.
    pub fn exists(&self, path: &str) -> bool {
        self.open(path, OFlag::O_PATH, Mode::empty()).is_ok()
    }

    /// Whether a path is known to lead to nothing. What cannot be looked at is not
    /// known to be absent.
    pub fn is_absent(&self, path: &str) -> bool {
        let looked = self.open(path, OFlag::O_PATH, Mode::empty());
        looked.is_err_and(|error| self.error("open", path, error).is_not_found())
    }

    /// Calls `f` with the directory that holds the last component of `path`
    /// and that component.
    pub(crate) fn at<T>(
        &self,
        path: &str,
        f: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>,
    ) -> io::Result<T> {
        let (parent, name) = split(path);
        let parent = self.open(parent, DIR | OFlag::O_PATH, Mode::empty())?;
        let _rights = self.rights()?;
        f(parent.as_fd(), OsStr::new(name))
    }

    /// The rights that accesses have, until it is dropped.
    pub(crate) fn rights(&self) -> io::Result<Rights> {
        Rights::take(self.rights_of)
    }

    /// Release of the running kernel, `6.14.11-4-pve`.
    pub fn kernel_release(&self) -> Option<String> {
        self.attr("/proc/sys/kernel/osrelease").ok().filter(|text| !text.is_empty())
    }
}

/// Parent and last component; the parent of a bare name is `/`.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

/// All of a regular file, or an error where it is none or larger than `cap`.
pub(crate) fn read_capped(fd: OwnedFd, cap: usize) -> io::Result<Vec<u8>> {
    let stat: Stat = fstat(fd.as_fd()).map_err(errno_error)?.into();
    if stat.kind != FileKind::File {
        return Err(crate::error::irregular());
    }
    if stat.size > cap as u64 {
        return Err(io::Error::other(format!("larger than {cap} bytes")));
    }
    let mut bytes = Vec::with_capacity((stat.size as usize + 1).min(cap + 1));
    // procfs and sysfs files have size 0 or a page: what counts is what is read
    File::from(fd).take(cap as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > cap {
        return Err(io::Error::other(format!("larger than {cap} bytes")));
    }
    Ok(bytes)
}

fn text_of(fd: OwnedFd) -> io::Result<String> {
    // room for a page: most are read in one call, and the one that finds the end
    let mut bytes = Vec::with_capacity(4096);
    File::from(fd).take(1 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(trim_newline(&bytes)).into_owned())
}

/// Without one trailing newline.
pub(crate) fn trim_newline(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").unwrap_or(bytes)
}

/// `fd` made non-inheritable is the default everywhere here; this checks it in tests.
#[cfg(test)]
pub(crate) fn is_cloexec(fd: BorrowedFd<'_>) -> bool {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).is_ok_and(|f| f & libc::FD_CLOEXEC != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> PathBuf {
        let dir = std::env::temp_dir().join(format!(
            "host-machine-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("etc/real")).unwrap();
        std::fs::write(dir.join("etc/real/file"), "inside\n").unwrap();
        dir
    }

    #[test]
    fn links_and_dots_do_not_lead_out_of_the_tree() {
        let dir = tree();
        symlink("/etc/real/file", dir.join("absolute")).unwrap();
        symlink("../../../../../../etc/real/file", dir.join("dots")).unwrap();
        symlink("/etc/passwd", dir.join("passwd")).unwrap();
        symlink("/proc/self/root/etc/passwd", dir.join("magic")).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        assert_eq!(machine.read_text("/absolute", 100).unwrap(), "inside\n");
        assert_eq!(machine.read_text("/dots", 100).unwrap(), "inside\n");
        assert_eq!(machine.read_text("/../../etc/real/file", 100).unwrap(), "inside\n");
        assert!(machine.read_text("/passwd", 1 << 20).unwrap_err().is_not_found());
        assert!(machine.read_text("/magic", 1 << 20).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn renames_elsewhere_do_not_disturb_a_path_with_dots() {
        let dir = tree();
        symlink("../etc/real/../real/file", dir.join("etc/dots")).unwrap();
        std::fs::create_dir_all(dir.join("deep/a")).unwrap();
        symlink("../etc/../etc/real/file", dir.join("deep/link")).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (flag, moving) = (stop.clone(), dir.clone());
        let mover = std::thread::spawn(move || {
            let mut turn = 0u32;
            while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                let name = |n: u32| moving.join(format!("deep/{}", ["a", "b"][n as usize % 2]));
                std::fs::rename(name(turn), name(turn + 1)).unwrap();
                turn += 1;
            }
        });
        for _ in 0..20_000 {
            assert_eq!(machine.read_text("/deep/link", 100).unwrap(), "inside\n");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        mover.join().unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let dir = tree();
        nix::unistd::mkfifo(&dir.join("fifo"), Mode::from_bits_truncate(0o644)).unwrap();
        let giant = File::create(dir.join("giant")).unwrap();
        giant.set_len(10 << 30).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        assert!(machine.read("/fifo", 100).unwrap_err().to_string().contains("not a regular file"));
        assert!(machine.read("/giant", 100).unwrap_err().to_string().contains("larger than 100"));
        assert!(machine.read("/etc", 100).is_err());
        assert_eq!(machine.read("/etc/real/file", 7).unwrap().len(), 7);
        assert!(machine.read("/etc/real/file", 6).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn nothing_we_open_is_inherited() {
        let machine = Machine::new(None).unwrap();
        assert!(is_cloexec(machine.root.as_fd()));
        assert!(is_cloexec(machine.dir("/proc").unwrap().fd.as_fd()));
    }

    #[test]
    fn errors_name_action_path_and_reason() {
        let dir = tree();
        let machine = Machine::new(Some(&dir)).unwrap();
        let text = machine.read("/etc/none", 10).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("cannot read '{}/etc/none': no such file or directory", dir.display())
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
