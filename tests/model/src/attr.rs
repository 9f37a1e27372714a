//! Attributes that can be written, and what a write to one waits for.

use record::Address;

/// An attribute with a store function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attr {
    Bind(String),
    Unbind(String),
    NewId(String),
    RemoveId(String),
    DriversProbe,
    DriversAutoprobe,
    Override(Address),
    Reset(Address),
    NumVfs(Address),
    VfAutoprobe(Address),
    UnbindLock(Address),
    VgpuType(Address),
    /// Of this type.
    MdevCreate(Address, String),
    /// Of this UUID.
    MdevRemove(Address, String),
}

impl Attr {
    /// Whether it has no show function.
    pub fn write_only(&self) -> bool {
        use Attr::{Bind, DriversProbe, MdevCreate, MdevRemove, NewId, RemoveId, Reset, Unbind};
        matches!(
            self,
            Bind(_)
                | Unbind(_)
                | NewId(_)
                | RemoveId(_)
                | DriversProbe
                | Reset(_)
                | MdevCreate(..)
                | MdevRemove(..)
        )
    }

    /// The function whose own attribute this is.
    pub fn subject(&self) -> Option<Address> {
        use Attr::{
            MdevCreate, MdevRemove, NumVfs, Override, Reset, UnbindLock, VfAutoprobe, VgpuType,
        };
        match self {
            Override(address)
            | Reset(address)
            | NumVfs(address)
            | VfAutoprobe(address)
            | UnbindLock(address)
            | VgpuType(address)
            | MdevCreate(address, _)
            | MdevRemove(address, _) => Some(*address),
            _ => None,
        }
    }
}

/// How far a store got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Done,
    Blocked(Waiting),
}

/// What a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The device lock, before it can begin.
    Lock(Address),
    /// The users of a function whose driver is being removed; holds its lock.
    Remove(Address),
    /// The users of a function's VFs; holds its lock.
    Vfs(Address),
    /// The test, by [`crate::Fault::Block`].
    Test(Option<Address>),
}

/// A write that has not come back.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub ticket: u64,
    pub attr: Attr,
    pub bytes: Vec<u8>,
    pub waiting: Waiting,
}

impl Pending {
    /// The function whose device lock it holds.
    pub fn holds(&self) -> Option<Address> {
        match self.waiting {
            Waiting::Lock(_) => None,
            Waiting::Remove(address) | Waiting::Vfs(address) => Some(address),
            Waiting::Test(address) => address,
        }
    }
}
