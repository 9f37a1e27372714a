//! What is measured.

pub mod bind;
pub mod containers;
pub mod lister;
pub mod roots;
pub mod runfile;
pub mod tools;
pub mod vgpu;
