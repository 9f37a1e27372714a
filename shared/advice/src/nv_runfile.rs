//! Command lines of `nv-runfile`.
