//! One file for each verb, and the selection of containers that several share.

pub mod add;
pub mod check;
pub mod hook;
pub mod nodes;
pub mod remove;
pub mod selection;
pub mod show;
pub mod sync;
