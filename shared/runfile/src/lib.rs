//! NVIDIA's `.run` installers (and CUDA's) as files: what their headers say,
//! the digests that they carry, what is packed in them. Nothing is executed,
//! and nothing here touches the file system: everything is read from bytes or
//! from a [`std::io::Read`].
//!
//! A `.run` file is a shell stub with a compressed tar archive behind it. There
//! are two dialects with opposite meanings of the same words: NVIDIA's own
//! fork of makeself 1.6.0 for drivers, upstream makeself for CUDA. [`Header`]
//! knows both. All input is taken to be hostile: every length has a cap, and
//! no parser panics.

mod cksum;
mod compression;
mod digest;
mod gpus;
mod header;
mod known;
mod manifest;
mod name;
mod pass;
#[cfg(test)]
mod properties;
mod stub;
mod tarball;

pub use cksum::Cksum;
pub use compression::Compression;
pub use digest::{Algorithm, Covers, Digested, Stated};
pub use gpus::{Chip, ModuleTypes, SupportedGpus};
pub use header::{Dialect, Header, HeaderError, Part};
pub use known::{KNOWN, KnownFile, known_files, sha256_sums};
pub use manifest::{Manifest, ManifestEntry};
pub use name::{Arch, Flavour, Name, is_version};
pub use pass::{PassError, Passed, Plain, Source, digest, unpack};
pub use stub::{Stub, Understands};
pub use tarball::{Kind, Limits, Member, Tar, TarError};
