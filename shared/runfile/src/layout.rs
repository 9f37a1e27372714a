//! How a `.run` file is put together: who wrote it, and where its archives are.

/// Whose makeself wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// NVIDIA's fork, "1.6.0-nv...": `skip=N` is unquoted and the payload
    /// begins at line N.
    Nvidia,
    /// Upstream: the payload begins after line N, which stands in a quoted
    /// `skip="N"` since 2.4.2 and in an `offset=` command before.
    Makeself,
}

impl Dialect {
    /// The word used in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Nvidia => "nvidia",
            Dialect::Makeself => "makeself",
        }
    }
}

/// A compressed tar archive in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First byte in the file.
    pub start: u64,
    /// Behind its last byte.
    pub end: u64,
}
