//! Command lines of `nv-version-check`.
