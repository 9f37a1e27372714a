//! What is printed of the selected functions: records, or a tree for people.

pub mod records;
pub mod tree;
