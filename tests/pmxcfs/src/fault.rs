//! Faults to inject, and the log of what reached the file system.

/// What was asked for. An open(2) that truncates is an [`Op::OpenWrite`] and an
/// [`Op::Truncate`], as libfuse 2 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Lookup,
    Getattr,
    Readlink,
    Readdir,
    /// open(2) to read only.
    OpenRead,
    /// open(2) of what exists, to write.
    OpenWrite,
    Read,
    /// One request: 128 KiB at most, so a larger write(2) is several.
    Write,
    /// The last close(2).
    Release,
    /// open(2) of what does not exist.
    Create,
    Truncate,
    Chmod,
    Chown,
    Utimens,
    Mkdir,
    Rmdir,
    Unlink,
    Rename,
    Link,
    Symlink,
}

impl Op {
    /// Whether it goes to the other nodes as a message, which takes quorum
    /// (dcdb.c, dcdb_send_fuse_message()). Opening to write does not, nor do
    /// chmod and chown, which change nothing.
    pub fn changes(self) -> bool {
        use Op::{Create, Mkdir, Rename, Rmdir, Truncate, Unlink, Utimens, Write};
        matches!(self, Write | Create | Truncate | Utimens | Mkdir | Rmdir | Unlink | Rename)
    }
}

/// One request that reached the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub op: Op,
    /// Below the mount point, links resolved: `nodes/pve1/lxc/901.conf`.
    pub path: String,
    /// The new path, of a rename.
    pub to: Option<String>,
    /// 0 where it succeeded.
    pub errno: i32,
    /// Who asked; 0 for the kernel itself.
    pub pid: u32,
}

/// What the store's database does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Errors {
    #[default]
    None,
    /// An error of the database has been seen: no change any more until a
    /// restart, EIO; reading goes on (memdb.c, `errors`).
    Changes,
    /// Everything is EIO.
    All,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// This one request fails.
    Fail(i32),
    /// This one and those of its kind that follow fail.
    FailFrom(i32),
    /// Quorum is lost when the request comes in, and stays lost.
    LoseQuorum,
}

#[derive(Debug)]
struct Fault {
    op: Op,
    /// How many of them are let through first.
    before: usize,
    effect: Effect,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    pending: Vec<Fault>,
}

impl Faults {
    pub fn add(&mut self, op: Op, nth: usize, effect: Effect) {
        assert!(nth > 0, "counted from 1");
        self.pending.push(Fault { op, before: nth - 1, effect });
    }

    pub fn clear(&mut self) -> usize {
        std::mem::take(&mut self.pending).len()
    }

    /// What is to happen to this request.
    pub fn next(&mut self, op: Op) -> Option<Effect> {
        let due = self.pending.iter().position(|fault| fault.op == op && fault.before == 0);
        for fault in self.pending.iter_mut().filter(|fault| fault.op == op) {
            fault.before = fault.before.saturating_sub(1);
        }
        match self.pending.get(due?)?.effect {
            lasting @ Effect::FailFrom(_) => Some(lasting),
            _ => Some(self.pending.remove(due?).effect),
        }
    }
}
