//! Command lines of `vgpu-profile-set`.
