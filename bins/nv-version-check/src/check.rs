//! Compares what was collected with the baseline. Pure: no file is read here.

mod cdi;
mod container_engine;
mod cuda;
mod finding;
mod gpus;
mod hints;
mod host;
mod kernel;
mod libraries;
mod root;
mod signature;
mod xid;

pub use cuda::findings as cuda;
pub use finding::Finding;
pub use host::{HostScope, findings as host};
pub use root::{findings as root, unreadable};
pub use xid::findings as xid;
