//! What `persist` and `unpersist` do for the next boot: [`observe`] reads what is
//! there, [`plan`] decides what is written, [`files`] makes the texts, [`apply`]
//! writes them, [`images`] rebuilds the initramfs.

pub mod apply;
pub mod files;
pub mod images;
pub mod list;
pub mod observe;
pub mod plan;
pub mod run;
