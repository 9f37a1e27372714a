//! The rights of a container's root user, for one access at a time.
//!
//! The host's root may do in a container's file system what no process in the container
//! may: write through a read-only owner, follow what was bind-mounted there, give
//! away what belongs to the host. With the file system ids of the container's root
//! (setfsuid(2)) the kernel judges each access as if the container had made it: it
//! takes the capabilities over files away while they are not 0.

use std::io;
use std::sync::OnceLock;

use crate::error::errno_error;

/// User and group as the host sees them.
pub type Owner = (u32, u32);

/// While it lives the calling thread has a container's rights to files.
pub(crate) struct Rights {
    taken: bool,
}

impl Rights {
    /// Takes the rights of `owner`; `None` and the host's root leave the thread as it
    /// is. Errors: the kernel does not give them, so nothing may be accessed.
    pub(crate) fn take(owner: Option<Owner>) -> io::Result<Rights> {
        let other = owner.filter(|(uid, _)| *uid != 0 && nix::unistd::geteuid().is_root());
        let Some((uid, gid)) = other else { return Ok(Rights { taken: false }) };
        if current() == (uid, gid) {
            // this access is part of one that has them, and gives them back
            return Ok(Rights { taken: false });
        }
        // known before anything is taken, so that it can be given back
        own_groups();
        let rights = Rights { taken: true };
        set_groups(&[])?;
        // SAFETY: both only change ids of the calling thread, and cannot fail
        // otherwise than by leaving them.
        unsafe {
            libc::setfsgid(gid);
            libc::setfsuid(uid);
        }
        match current() == (uid, gid) {
            true => Ok(rights),
            false => Err(io::Error::from_raw_os_error(libc::EPERM)),
        }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if self.taken {
            // SAFETY: as in `take`; the process's own ids are always permitted.
            unsafe {
                libc::setfsuid(libc::geteuid());
                libc::setfsgid(libc::getegid());
            }
            // without its groups this thread has fewer rights, never more
            let _ = set_groups(own_groups());
        }
    }
}

/// The ids that accesses of the calling thread have.
fn current() -> Owner {
    // an id that no user can have changes nothing: the answer is the current one
    // SAFETY: as in `Rights::take`.
    let (uid, gid) = unsafe { (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX)) };
    (uid as u32, gid as u32)
}

/// The supplementary groups of this process.
fn own_groups() -> &'static [libc::gid_t] {
    static GROUPS: OnceLock<Vec<libc::gid_t>> = OnceLock::new();
    GROUPS.get_or_init(|| {
        let groups = nix::unistd::getgroups().unwrap_or_default();
        groups.into_iter().map(nix::unistd::Gid::as_raw).collect()
    })
}

/// setgroups(2) of the calling thread alone: glibc's function sets them in all.
fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: a pointer to as many ids as are named; the kernel only reads them.
    let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    match set {
        0 => Ok(()),
        _ => Err(errno_error(nix::errno::Errno::last())),
    }
}

#[cfg(test)]
mod tests {
    use crate::Machine;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    /// A container whose root is user 100000, with a directory of the host's in it.
    #[test]
    fn in_a_containers_tree_the_hosts_root_may_do_what_the_containers_root_may() {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let dir = std::env::temp_dir().join(format!("host-rights-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for (path, owner) in [("lib", 100_000), ("of-host", 0)] {
            std::fs::create_dir_all(dir.join(path)).unwrap();
            chown(dir.join(path), Some(owner), Some(owner)).unwrap();
        }
        chown(&dir, Some(100_000), Some(100_000)).unwrap();
        std::fs::write(dir.join("of-host/file"), "x").unwrap();
        std::fs::write(dir.join("of-host/secret"), "x").unwrap();
        let only_root = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.join("of-host/secret"), only_root).unwrap();
        let host = Machine::new(None).unwrap();
        let owner = (100_000, 100_000);
        let root = host.container_root(dir.to_str().unwrap()).unwrap().with_rights_of(owner);
        assert!(root.make_dir_as("/lib/new", 0o755, owner).unwrap());
        root.put_as("/lib/new/file", b"x", 0o644, owner).unwrap();
        root.new_link("/lib/link", "new/file", owner).unwrap();
        for made in ["lib/new", "lib/new/file", "lib/link"] {
            assert_eq!(std::fs::symlink_metadata(dir.join(made)).unwrap().uid(), 100_000, "{made}");
        }
        // what belongs to the host is neither written, nor removed, nor given away
        let denied = |errno: i32| [libc::EACCES, libc::EPERM].contains(&errno);
        assert!(denied(root.put_as("/of-host/x", b"x", 0o644, owner).unwrap_err().errno()));
        assert!(denied(root.remove("/of-host/file").unwrap_err().errno()));
        assert!(denied(root.rename_beside("/of-host/file", "y").unwrap_err().errno()));
        assert!(denied(root.make_dir_as("/of-host/d", 0o755, owner).unwrap_err().errno()));
        assert!(denied(root.read("/of-host/secret", 10).unwrap_err().errno()));
        assert_eq!(root.read("/of-host/file", 10).unwrap(), b"x");
        // and afterwards this process is itself again
        assert_eq!(std::fs::read(dir.join("of-host/secret")).unwrap(), b"x");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
