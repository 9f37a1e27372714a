//! A disk that is full, for real: a small tmpfs with so many pages or inodes
//! left.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::judge::{Done, RULES, after, base};
use crate::stage::{Stage, play};
use crate::{Effort, Tally};

/// A tmpfs over a directory; unmounted with its owner.
pub struct Small {
    at: PathBuf,
}

const SIZE: u64 = 64 << 20;

fn tmpfs(at: &Path, flags: libc::c_ulong, options: &str) {
    let path = CString::new(at.as_os_str().as_bytes()).unwrap();
    let options = CString::new(options).unwrap();
    let (kind, data) = (c"tmpfs".as_ptr(), options.as_ptr().cast());
    // SAFETY: all are zero-terminated strings that outlive the call.
    let failed = unsafe { libc::mount(kind, path.as_ptr(), kind, flags, data) };
    assert_eq!(failed, 0, "mount {at:?}: {}", std::io::Error::last_os_error());
}

impl Small {
    pub fn over(at: &Path) -> Small {
        tmpfs(at, 0, &format!("size={SIZE},nr_inodes=20000"));
        Small { at: at.into() }
    }

    fn stat(&self) -> libc::statfs {
        let path = CString::new(self.at.as_os_str().as_bytes()).unwrap();
        let mut stat = std::mem::MaybeUninit::zeroed();
        // SAFETY: a zero-terminated string and a place of the right type.
        unsafe {
            assert_eq!(libc::statfs(path.as_ptr(), stat.as_mut_ptr()), 0);
            stat.assume_init()
        }
    }

    /// So many pages are left from now on.
    fn leave_pages(&self, pages: u64) {
        let stat = self.stat();
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_bsize as u64;
        tmpfs(&self.at, libc::MS_REMOUNT, &format!("size={}", used + pages * 4096));
    }

    fn leave_inodes(&self, inodes: u64) {
        let stat = self.stat();
        let used = stat.f_files - stat.f_ffree;
        tmpfs(&self.at, libc::MS_REMOUNT, &format!("nr_inodes={}", used + inodes));
    }

    fn roomy(&self) {
        tmpfs(&self.at, libc::MS_REMOUNT, &format!("size={SIZE},nr_inodes=20000"));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let path = CString::new(self.at.as_os_str().as_bytes()).unwrap();
        // SAFETY: a zero-terminated string.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_dir(&self.at);
    }
}

/// Fills the disk that a stage lives on, to each number of pages and of inodes
/// that may matter.
pub fn full(stage: &mut dyn Stage, small: &Small, effort: Effort) -> Tally {
    let base = base(stage);
    let mut tally = Tally::new(stage.name(), "the disk is full but for n pages or inodes", RULES);
    // from none left on: what is roomy enough says nothing
    let all = (0..30).flat_map(|n| [(true, n), (false, n)]);
    let mut refused = 0;
    for (pages, left) in all.take(effort.most) {
        stage.reset();
        if pages {
            small.leave_pages(left)
        } else {
            small.leave_inodes(left)
        }
        let outcome = play(stage, &[]);
        small.roomy();
        refused += usize::from(outcome.code != Some(0));
        let what = if pages { "pages" } else { "inodes" };
        tally.trial(format!("{left} {what}"), after(stage, &base, &outcome, Done::Refused));
    }
    if refused == 0 {
        tally.fault += "; it needs none";
    }
    tally
}
