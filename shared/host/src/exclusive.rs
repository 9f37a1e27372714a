//! Whether only root, or the user who runs the tool, can change what a path leads to.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::FileError;

/// A path as it is without links, and who else could change what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusive {
    /// The path without links.
    pub path: PathBuf,
    /// The file or directory that others can change, with how. `None`: only root and the
    /// caller's own user can, so that what was checked at this path is still there.
    pub open_to_others: Option<(PathBuf, &'static str)>,
}

impl Exclusive {
    /// Looks at a path and at each directory above it. Who may write in a directory may
    /// put another file at a name in it; in one with the sticky bit (/tmp) only at names
    /// that are his own. Errors: something on the way cannot be looked at.
    pub fn of(path: &Path) -> Result<Exclusive, FileError> {
        let error = |action, path: &Path, source| FileError {
            action,
            path: path.display().to_string(),
            source,
        };
        let real = fs::canonicalize(path).map_err(|source| error("resolve", path, source))?;
        let mut found = None;
        let mut below: Option<Metadata> = None;
        for part in real.ancestors() {
            let meta = fs::symlink_metadata(part).map_err(|source| error("stat", part, source))?;
            let sticky = meta.mode() & libc::S_ISVTX != 0 && meta.is_dir();
            let keeps = sticky && below.as_ref().is_some_and(|below| own_user(below.uid()));
            if let Some(why) = open_to_others(part, &meta).filter(|_| !keeps) {
                // the one nearest to the root decides about all below it
                found = Some((part.to_path_buf(), why));
            }
            below = Some(meta);
        }
        Ok(Exclusive { path: real, open_to_others: found })
    }
}

fn own_user(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// How other users can write to a file or directory. With an access control list the
/// group's bits are its mask: the most that any user or group that it names may do
/// (acl(5)).
fn open_to_others(path: &Path, meta: &Metadata) -> Option<&'static str> {
    if !own_user(meta.uid()) {
        return Some("belongs to another user");
    }
    let own_group = meta.gid() == 0 || meta.gid() == nix::unistd::getegid().as_raw();
    let by_group = meta.mode() & 0o020 != 0 && (!own_group || has_acl(path));
    (meta.mode() & 0o002 != 0 || by_group).then_some("is writable by other users")
}

/// Whether a path has an access control list. One that cannot be asked for counts as a
/// list, except where the file system has none.
fn has_acl(path: &Path) -> bool {
    let Ok(name) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return true };
    // SAFETY: two strings that end with a zero; a size of 0 asks for the length alone.
    let length = unsafe {
        libc::lgetxattr(name.as_ptr(), c"system.posix_acl_access".as_ptr(), std::ptr::null_mut(), 0)
    };
    let errno = std::io::Error::last_os_error().raw_os_error();
    length >= 0 || ![Some(libc::ENODATA), Some(libc::EOPNOTSUPP)].contains(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn whoever_can_write_in_a_directory_above_a_file_can_change_it() {
        let dir = std::env::temp_dir().join(format!("host-exclusive-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("a/b")).unwrap();
        let file = dir.join("a/b/x.run");
        fs::write(&file, "x").unwrap();
        let open = || Exclusive::of(&file).unwrap().open_to_others.map(|(path, _)| path);
        // /tmp itself is sticky, and what is ours in it stays
        assert_eq!(open(), None);
        for (path, bits) in [("a", 0o777), ("a/b", 0o757), ("a/b/x.run", 0o666)] {
            mode(&dir.join(path), bits);
            assert_eq!(open(), Some(dir.join(path)), "{path}");
            mode(&dir.join(path), 0o755);
        }
        std::os::unix::fs::symlink(dir.join("a/b"), dir.join("link")).unwrap();
        assert_eq!(Exclusive::of(&dir.join("link/x.run")).unwrap().path, file);
        if nix::unistd::geteuid().is_root() {
            chown(dir.join("a"), Some(1000), None).unwrap();
            assert_eq!(open(), Some(dir.join("a")));
            chown(dir.join("a"), Some(0), Some(1000)).unwrap();
            assert_eq!(open(), None, "its group cannot write");
            mode(&dir.join("a"), 0o775);
            assert_eq!(open(), Some(dir.join("a")));
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
