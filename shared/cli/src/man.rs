//! What a manual page says beyond the command line's own definition.

/// A command that a manual page shows; the tests run each on a recorded machine.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// What it is for, one sentence.
    pub says: &'static str,
    /// The command line.
    pub command: &'static str,
}
