//! Faults on demand.

/// Whether a write that ends its process still did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The kernel did it, and then the process died.
    Happened,
    /// The process died before.
    None,
}

/// What happens at the n-th write that reaches a store function, counting from
/// 1 since the start or [`crate::ModelKernel::reset_counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error number and changes nothing.
    Errno(u64, i32),
    /// It blocks until [`crate::ModelKernel::release_blocked`], and happens then.
    Block(u64),
    /// The process dies at it.
    Die(u64, Effect),
}

impl Fault {
    pub(crate) fn nth(self) -> u64 {
        match self {
            Fault::Errno(nth, _) | Fault::Block(nth) | Fault::Die(nth, _) => nth,
        }
    }
}
