//! One file a verb of the command line.

pub mod bind;
pub mod persist;
pub mod release;
pub mod status;
pub mod unpersist;
