//! Which block devices another holds exclusively.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use crate::Machine;
use crate::child_read::{ChildRead, read_in_child};
use crate::error::reason;

/// A disk that sleeps needs some seconds to answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// Whether a block device can be opened exclusively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It can, or there is nothing to open.
    Free,
    /// Another holds it.
    Held,
    /// The kernel did not say: why not.
    Unknown(String),
}

impl Machine {
    /// Whether another holds each of these block devices: mounted file systems,
    /// swap space, arrays, volumes and pools hold theirs exclusively, and a whole
    /// disk is held when one of its partitions is (block/bdev.c,
    /// bd_may_claim()). `None` below `--root`, where there is nothing to ask.
    pub fn claims(&self, paths: &[String]) -> Option<Vec<Claim>> {
        if !self.is_host() {
            return None;
        }
        let open = |path: &str| {
            let flags = libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC;
            OpenOptions::new().read(true).custom_flags(flags).open(path)
        };
        let answers = read_in_child(paths.len(), 4, DEADLINE, &|at, pipe| {
            pipe.put(0, || open(&paths[at]).map(|_| Vec::new()));
        });
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => return Some(vec![Claim::Unknown(error.to_string()); paths.len()]),
        };
        Some(answers.iter().map(claim).collect())
    }
}

fn claim(answer: &ChildRead) -> Claim {
    const ABSENT: [i32; 4] = [libc::ENOENT, libc::ENXIO, libc::ENODEV, libc::ENOMEDIUM];
    match (answer.bytes(0), answer.errno(0)) {
        (Some(_), _) => Claim::Free,
        (None, Some(libc::EBUSY)) => Claim::Held,
        (None, Some(errno)) if ABSENT.contains(&errno) => Claim::Free,
        (None, Some(errno)) => Claim::Unknown(reason(&std::io::Error::from_raw_os_error(errno))),
        (None, None) => Claim::Unknown("it does not answer".into()),
    }
}
