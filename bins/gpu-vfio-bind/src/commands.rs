//! One file a verb of the command line.

pub mod bind;
pub mod hook;
pub mod persist;
pub mod release;
pub mod reset;
pub mod status;
pub mod unpersist;
