//! What `persist` and `unpersist` do for the next boot: [`observe`] reads what is
//! there, [`plan`] decides what is written, [`files`] makes the texts, [`apply`]
//! writes them, [`images`] rebuilds the initramfs. [`claims`] knows what else moves
//! functions at boot.

pub mod apply;
pub mod claims;
pub mod files;
pub mod images;
pub mod list;
mod modprobe;
pub mod observe;
pub mod plan;
pub mod run;
