//! What pmxcfs answers to system calls on a file, as measured on pmxcfs 9.1.6:
//! one test for each row of that table.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use common::{CONF, Host, LXC};
use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, AtFlags, FlockArg, OFlag, RenameFlags};
use nix::sys::stat::{self, FchmodatFlags, FileStat, Mode};
use nix::sys::time::TimeVal;
use nix::unistd::{self, Gid, LinkatFlags, Uid};
use pmxcfs::Op;

fn open(path: &Path, flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
    fcntl::open(path, flags, Mode::from_bits_truncate(mode))
}

fn mode(stat: FileStat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

fn chmod(path: &Path, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(mode);
    stat::fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)
}

fn chown(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    unistd::chown(path, uid.map(Uid::from_raw), gid.map(Gid::from_raw))
}

const NEW: OFlag = OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_EXCL);

#[test]
fn stat_says_0640_root_www_data_whatever_open_asked_for() {
    let host = Host::new();
    assert_eq!(mode(stat::stat(&host.at(CONF)).unwrap()), (0o100640, 0, 33));
    for asked in [0o600, 0o644, 0o777, 0] {
        let path = host.at(&format!("{LXC}/new{asked}"));
        let fd = open(&path, NEW, asked).unwrap();
        assert_eq!(mode(stat::fstat(&fd).unwrap()), (0o100640, 0, 33), "{asked:o}");
    }
    assert_eq!(mode(stat::stat(&host.at(LXC)).unwrap()), (0o040755, 0, 33));
    unistd::mkdir(&host.at("nodes/pve1/d"), Mode::from_bits_truncate(0o700)).unwrap();
    assert_eq!(mode(stat::stat(&host.at("nodes/pve1/d")).unwrap()), (0o040755, 0, 33));
}

#[test]
fn what_is_private_is_so_for_root_only() {
    let host = Host::new();
    for dir in ["priv", "nodes/pve1/priv"] {
        assert_eq!(mode(stat::stat(&host.at(dir)).unwrap()), (0o040700, 0, 33), "{dir}");
        let path = host.at(&format!("{dir}/key"));
        drop(open(&path, NEW, 0o640).unwrap());
        assert_eq!(mode(stat::stat(&path).unwrap()), (0o100600, 0, 33), "{dir}");
        assert_eq!(chmod(&path, 0o600), Ok(()));
        assert_eq!(chmod(&path, 0o640), Err(Errno::EPERM));
    }
    // not by the name alone
    host.pve.put("privy", "x");
    assert_eq!(stat::stat(&host.at("privy")).unwrap().st_mode, 0o100640);
}

#[test]
fn chmod_allows_the_mode_that_is_there_and_no_other() {
    let host = Host::new();
    assert_eq!(chmod(&host.at(CONF), 0o640), Ok(()));
    for other in [0o600, 0o644, 0o660, 0o4640, 0] {
        assert_eq!(chmod(&host.at(CONF), other), Err(Errno::EPERM), "{other:o}");
    }
    let fd = open(&host.at(CONF), OFlag::O_RDONLY, 0).unwrap();
    assert_eq!(stat::fchmod(&fd, Mode::from_bits_truncate(0o600)), Err(Errno::EPERM));
}

#[test]
fn chown_allows_root_and_www_data_and_nobody_else() {
    let host = Host::new();
    let path = host.at(CONF);
    for (uid, gid) in [(Some(0), Some(33)), (Some(0), None), (None, Some(33))] {
        assert_eq!(chown(&path, uid, gid), Ok(()), "{uid:?} {gid:?}");
    }
    for (uid, gid) in [(Some(0), Some(0)), (Some(33), Some(33)), (None, Some(0)), (Some(1), None)] {
        assert_eq!(chown(&path, uid, gid), Err(Errno::EPERM), "{uid:?} {gid:?}");
    }
}

#[test]
fn fsync_of_a_file_and_of_a_directory_is_ok() {
    let host = Host::new();
    let file = open(&host.at(CONF), OFlag::O_RDWR, 0).unwrap();
    let dir = open(&host.at(LXC), OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0).unwrap();
    for _ in 0..2 {
        assert_eq!(unistd::fsync(&file), Ok(()));
        assert_eq!(unistd::fdatasync(&file), Ok(()));
        assert_eq!(unistd::fsync(&dir), Ok(()));
    }
}

#[test]
fn times_are_set_in_whole_seconds() {
    let host = Host::new();
    let time = TimeVal::new(1_700_000_000, 250_000);
    assert_eq!(stat::utimes(&host.at(CONF), &time, &time), Ok(()));
    let now = stat::stat(&host.at(CONF)).unwrap();
    assert_eq!((now.st_mtime, now.st_mtime_nsec), (1_700_000_000, 0));
}

#[test]
fn ftruncate_is_ok_and_an_open_that_truncates_is_two_steps() {
    let host = Host::new();
    host.pve.put(CONF, "0123456789");
    let fd = open(&host.at(CONF), OFlag::O_RDWR, 0).unwrap();
    assert_eq!(unistd::ftruncate(&fd, 4), Ok(()));
    assert_eq!(host.pve.get(CONF).unwrap(), b"0123");
    assert_eq!(unistd::ftruncate(&fd, 6), Ok(()));
    assert_eq!(host.pve.get(CONF).unwrap(), b"0123\0\0");
    host.pve.clear_log();
    drop(open(&host.at(CONF), OFlag::O_WRONLY | OFlag::O_TRUNC, 0).unwrap());
    assert_eq!(host.pve.get(CONF).unwrap(), b"");
    let changes: Vec<Op> = host.changes_of(CONF).iter().map(|l| l.op).collect();
    assert_eq!(changes, [Op::OpenWrite, Op::Truncate]);
}

#[test]
#[allow(deprecated)]
fn flock_and_fcntl_locks_work_and_exclude() {
    let host = Host::new();
    let [one, two] = [(); 2].map(|()| open(&host.at(CONF), OFlag::O_RDWR, 0).unwrap());
    let flock = |fd: &OwnedFd, arg| fcntl::flock(fd.as_raw_fd(), arg);
    assert_eq!(flock(&one, FlockArg::LockExclusiveNonblock), Ok(()));
    assert_eq!(flock(&two, FlockArg::LockExclusiveNonblock), Err(Errno::EWOULDBLOCK));
    assert_eq!(flock(&one, FlockArg::Unlock), Ok(()));
    // of the open file, not of the process, so that one process can tell
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    assert_eq!(fcntl::fcntl(&one, fcntl::FcntlArg::F_OFD_SETLK(&lock)), Ok(0));
    assert_eq!(fcntl::fcntl(&two, fcntl::FcntlArg::F_OFD_SETLK(&lock)), Err(Errno::EAGAIN));
    drop(one);
    assert_eq!(fcntl::fcntl(&two, fcntl::FcntlArg::F_SETLK(&lock)), Ok(0));
}

#[test]
fn copy_file_range_is_ok() {
    let host = Host::new();
    let from = open(&host.at(CONF), OFlag::O_RDONLY, 0).unwrap();
    let to = open(&host.at(&format!("{LXC}/copy")), NEW, 0).unwrap();
    let bytes = host.pve.get(CONF).unwrap();
    assert_eq!(fcntl::copy_file_range(&from, None, &to, None, 1 << 20), Ok(bytes.len()));
    assert_eq!(host.pve.get(&format!("{LXC}/copy")).unwrap(), bytes);
}

#[test]
fn a_temporary_file_without_a_name_is_not_supported() {
    let host = Host::new();
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR;
    assert_eq!(open(&host.at(LXC), flags, 0o600).unwrap_err(), Errno::EOPNOTSUPP);
}

#[test]
fn a_temporary_file_with_a_name_is_renamed_over_the_file() {
    let host = Host::new();
    let temporary = host.at(&format!("{CONF}.tmp.7"));
    let fd = open(&temporary, NEW, 0o600).unwrap();
    assert_eq!(unistd::write(&fd, b"new\n"), Ok(4));
    drop(fd);
    assert_eq!(open(&temporary, NEW, 0o600).unwrap_err(), Errno::EEXIST);
    fs::rename(&temporary, host.at(CONF)).unwrap();
    assert_eq!(fs::read(host.at(CONF)).unwrap(), b"new\n");
    assert_eq!(fs::read(host.at("lxc/901.conf")).unwrap(), b"new\n");
    assert!(!host.pve.names(LXC).iter().any(|name| name.contains("tmp")));
    let made: Vec<Op> = host.changes_of(CONF).iter().map(|l| l.op).collect();
    assert_eq!(made, [Op::Rename]);
}

#[test]
fn renameat2_knows_no_flags() {
    let host = Host::new();
    let path = |name: &str| host.at(&format!("{LXC}/{name}"));
    host.pve.put(&format!("{LXC}/a"), "a");
    host.pve.put(&format!("{LXC}/b"), "b");
    let rename = |from: &str, to: &str, flags| {
        fcntl::renameat2(AT_FDCWD, &path(from), AT_FDCWD, &path(to), flags)
    };
    assert_eq!(rename("a", "b", RenameFlags::RENAME_EXCHANGE), Err(Errno::EINVAL));
    assert_eq!(rename("a", "b", RenameFlags::RENAME_NOREPLACE), Err(Errno::EEXIST));
    assert_eq!(rename("a", "c", RenameFlags::RENAME_NOREPLACE), Err(Errno::EINVAL));
    assert_eq!(rename("a", "b", RenameFlags::empty()), Ok(()));
    assert_eq!(host.pve.get(&format!("{LXC}/b")).unwrap(), b"a");
}

#[test]
fn links_cannot_be_made() {
    let host = Host::new();
    let at = host.at(&format!("{LXC}/link"));
    let hard = unistd::linkat(AT_FDCWD, &host.at(CONF), AT_FDCWD, &at, LinkatFlags::empty());
    assert_eq!(hard, Err(Errno::EPERM));
    assert_eq!(unistd::symlinkat("901.conf", AT_FDCWD, &at), Err(Errno::ENOSYS));
    let fifo = unistd::mkfifo(&at, Mode::from_bits_truncate(0o600));
    assert_eq!(fifo, Err(Errno::ENOSYS));
}

#[test]
fn extended_attributes_are_not_supported() {
    let host = Host::new();
    let path = std::ffi::CString::new(host.at(CONF).as_os_str().as_bytes()).unwrap();
    let name = c"user.x".as_ptr();
    // SAFETY: strings end in NUL, the value has the length that is given.
    let set = unsafe { libc::setxattr(path.as_ptr(), name, c"y".as_ptr().cast(), 1, 0) };
    assert_eq!((set, Errno::last()), (-1, Errno::EOPNOTSUPP));
    // SAFETY: as above; a size of 0 asks for the length only.
    let get = unsafe { libc::getxattr(path.as_ptr(), name, std::ptr::null_mut(), 0) };
    assert_eq!((get, Errno::last()), (-1, Errno::EOPNOTSUPP));
}

#[test]
fn a_shared_mapping_is_not_possible() {
    let host = Host::new();
    let fd = open(&host.at(CONF), OFlag::O_RDWR, 0).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let null = std::ptr::null_mut();
    // SAFETY: a new mapping wherever the kernel likes, of a descriptor that is open.
    let map = unsafe { libc::mmap(null, 1, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    assert_eq!((map, Errno::last()), (libc::MAP_FAILED, Errno::ENODEV));
}

#[test]
fn a_file_of_more_than_1_mib_is_too_big() {
    let host = Host::new();
    let path = host.at(&format!("{LXC}/big"));
    fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
    let fd = open(&path, OFlag::O_WRONLY | OFlag::O_APPEND, 0).unwrap();
    assert_eq!(unistd::write(&fd, b"x"), Err(Errno::EFBIG));
    assert_eq!(unistd::ftruncate(&fd, (1 << 20) + 1), Err(Errno::EFBIG));
    assert_eq!(stat::fstat(&fd).unwrap().st_size, 1 << 20);
}

#[test]
fn a_large_write_is_several_requests() {
    let host = Host::new();
    host.pve.clear_log();
    fs::write(host.at(&format!("{LXC}/big")), vec![b'x'; 300 << 10]).unwrap();
    assert_eq!(host.pve.log().iter().filter(|l| l.op == Op::Write).count(), 3);
}

#[test]
fn a_file_that_is_open_leaves_a_hidden_one_when_it_is_removed_or_replaced() {
    let host = Host::new();
    let hidden = || {
        let names = fs::read_dir(host.at(LXC)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".fuse_hidden")).count()
    };
    let read = |fd: &OwnedFd| {
        let mut bytes = [0; 16];
        let length = unistd::read(fd, &mut bytes).unwrap();
        bytes[..length].to_vec()
    };
    // the kernel tells of the last close when it has the time
    let closed = || {
        for _ in 0..1000 {
            if host.pve.log().iter().any(|l| l.op == Op::Release && l.path.contains(".fuse_hidden"))
            {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("no close");
    };
    host.pve.put(CONF, "old\n");
    let fd = open(&host.at(CONF), OFlag::O_RDONLY, 0).unwrap();
    unistd::unlink(&host.at(CONF)).unwrap();
    assert_eq!(hidden(), 1);
    assert!(!host.pve.names(LXC).contains(&"901.conf".to_string()));
    assert_eq!(read(&fd), b"old\n");
    drop(fd);
    closed();
    assert_eq!(hidden(), 0);
    host.pve.clear_log();

    host.pve.put(CONF, "old\n");
    host.pve.put(&format!("{LXC}/new"), "new\n");
    let fd = open(&host.at(CONF), OFlag::O_RDONLY, 0).unwrap();
    fs::rename(host.at(&format!("{LXC}/new")), host.at(CONF)).unwrap();
    assert_eq!(hidden(), 1);
    assert_eq!(
        (read(&fd), fs::read(host.at(CONF)).unwrap()),
        (b"old\n".to_vec(), b"new\n".to_vec())
    );
    // without quorum nobody can tidy up
    host.pve.quorum(false);
    drop(fd);
    closed();
    assert_eq!(hidden(), 1);
}

/// The kernel looks a name up and then opens what it found: a rename that comes
/// in between makes the file that is there all the time seem gone.
#[test]
fn a_file_that_is_replaced_between_lookup_and_open_is_not_found() {
    let host = Host::new();
    host.pve.put(&format!("{LXC}/new"), "new\n");
    let found = open(&host.at(CONF), OFlag::O_PATH, 0).unwrap();
    fs::rename(host.at(&format!("{LXC}/new")), host.at(CONF)).unwrap();
    let found = format!("/proc/self/fd/{}", found.as_raw_fd());
    assert_eq!(open(Path::new(&found), OFlag::O_RDONLY, 0).unwrap_err(), Errno::ENOENT);
    assert!(open(&host.at(CONF), OFlag::O_RDONLY, 0).is_ok());
}

#[test]
fn the_nodes_own_directories_are_links() {
    let host = Host::new();
    for (link, target) in [
        ("local", "nodes/pve1"),
        ("lxc", "nodes/pve1/lxc"),
        ("qemu-server", "nodes/pve1/qemu-server"),
        ("openvz", "nodes/pve1/openvz"),
    ] {
        let at = host.at(link);
        assert_eq!(fs::read_link(&at).unwrap(), Path::new(target));
        assert_eq!(mode(stat::lstat(&at).unwrap()), (0o120755, 0, 33), "{link}");
        assert_eq!(unistd::unlink(&at), Err(Errno::EACCES), "{link}");
        let renamed = fcntl::renameat(AT_FDCWD, &at, AT_FDCWD, &host.at("other"));
        assert_eq!(renamed, Err(Errno::EACCES), "{link}");
    }
    assert!(fs::symlink_metadata(host.at("lxc/901.conf")).unwrap().is_file());
    assert_eq!(
        stat::fstatat(AT_FDCWD, &host.at("openvz"), AtFlags::empty()).unwrap_err(),
        Errno::ENOENT
    );
}

#[test]
fn directories_are_made_and_only_empty_ones_go_away_or_move() {
    let host = Host::new();
    let at = |path: &str| host.at(path);
    let any = Mode::from_bits_truncate(0o755);
    assert_eq!(unistd::mkdir(&at("nodes/pve2"), any), Ok(()));
    assert_eq!(unistd::mkdir(&at("nodes/pve2"), any), Err(Errno::EEXIST));
    assert_eq!(unistd::mkdir(&at("nodes/pve3/lxc"), any), Err(Errno::ENOENT));
    assert_eq!(unistd::mkdir(&at("nodes/pve2/lxc"), any), Ok(()));
    let rmdir =
        |path: &str| unistd::unlinkat(AT_FDCWD, &at(path), unistd::UnlinkatFlags::RemoveDir);
    assert_eq!(rmdir("nodes/pve2"), Err(Errno::ENOTEMPTY));
    let rename = fcntl::renameat(AT_FDCWD, &at("nodes/pve2"), AT_FDCWD, &at("nodes/pve3"));
    assert_eq!(rename, Err(Errno::ENOTEMPTY));
    assert_eq!(rmdir("nodes/pve2/lxc"), Ok(()));
    let rename = fcntl::renameat(AT_FDCWD, &at("nodes/pve2"), AT_FDCWD, &at("nodes/pve3"));
    assert_eq!(rename, Ok(()));
    assert_eq!(rmdir("nodes/pve3"), Ok(()));
}
