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

mod assignments;
mod cksum;
mod compression;
mod decompress;
mod digest;
mod header;
mod installer_name;
mod known_files;
mod layout;
mod manifest;
#[cfg(test)]
mod properties;
mod stub;
mod supported_gpus;
mod tarball;
mod unpack;

pub use cksum::Cksum;
pub use compression::Compression;
pub use decompress::Decompressed;
pub use digest::{Algorithm, DigestResult, DigestScope, DigestSpec};
pub use header::{Header, HeaderError};
pub use installer_name::{Arch, Flavour, InstallerName, is_version};
pub use known_files::{KNOWN, KnownFile, known_files, lone_sha256, sha256_sums};
pub use layout::{Dialect, Part};
pub use manifest::{Manifest, ManifestEntry};
pub use stub::{OptionSupport, Stub};
pub use supported_gpus::{Chip, ModuleTypes, SupportedGpus};
pub use tarball::{ArchiveLimits, Member, MemberKind, TarError, TarReader};
pub use unpack::{InstallerInput, ReadError, Unpacked, digest, unpack};
