//! Records about `.run` installers.

use serde::{Deserialize, Serialize};

/// One installer. As input only `path` is required: a tool looks the rest up in
/// the file, never in the record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runfile {
    /// Where it lies.
    pub path: String,
    /// `nvidia` or `makeself`.
    #[serde(default)]
    pub dialect: Option<String>,
    /// Version of makeself.
    #[serde(default)]
    pub makeself: Option<String>,
    /// One line about the content.
    #[serde(default)]
    pub label: Option<String>,
    /// Version of the driver, or of CUDA.
    #[serde(default)]
    pub version: Option<String>,
    /// `driver`, `grid`, `vgpu-kvm`, `cuda`, `other`.
    #[serde(default)]
    pub flavour: Option<String>,
    /// Other words of its name.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Architecture.
    #[serde(default)]
    pub arch: Option<String>,
    /// Of a CUDA installer: the driver in it.
    #[serde(default)]
    pub bundled_driver: Option<String>,
    /// Bytes of the file.
    #[serde(default)]
    pub size: Option<u64>,
    /// Where the payload begins.
    #[serde(default)]
    pub payload_offset: Option<u64>,
    /// Compressed bytes.
    #[serde(default)]
    pub payload_size: Option<u64>,
    /// Bytes that it takes when unpacked, as it says.
    #[serde(default)]
    pub unpacked_size: Option<u64>,
    /// Of the payload.
    #[serde(default)]
    pub compression: Option<String>,
    /// The program in it that decompresses the payload.
    #[serde(default)]
    pub decompressor: Option<RunfileRange>,
    /// When it was packed.
    #[serde(default)]
    pub packaged: Option<String>,
    /// Options that the installer understands.
    #[serde(default)]
    pub options: Option<Vec<String>>,
    /// Digests, with what they are where that was computed.
    #[serde(default)]
    pub digests: Vec<RunfileDigest>,
    /// What is known of the file's bytes.
    #[serde(default)]
    pub verified: Verified,
    /// Of the whole file, where it was computed.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Who stated the SHA-256 that it was held against: `user`, `pin`, `table`,
    /// `vendor`, `mirror`; `installer` where only its own digests were.
    #[serde(default)]
    pub vouched_by: Option<String>,
    /// Where it was downloaded from, where that is known.
    #[serde(default)]
    pub url: Option<String>,
    /// What is in it, where that was looked at.
    #[serde(default)]
    pub content: Option<RunfileContent>,
    /// What is wrong, in words.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// Bytes of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunfileRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
}

/// One digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunfileDigest {
    /// `size`, `cksum`, `md5` or `sha256`.
    pub algorithm: String,
    /// `after-line-3`, `part`, `payload` or `file`.
    pub covers: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
    /// Who stated it: `installer`, or as in [`Runfile::vouched_by`].
    pub stated_by: Option<String>,
    /// What it should be.
    pub expected: Option<String>,
    /// What it is.
    pub actual: Option<String>,
    /// Outcome.
    pub status: DigestStatus,
}

/// Outcome of one digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestStatus {
    /// As stated.
    Ok,
    /// Not as stated.
    Mismatch,
    /// Not computed.
    Unchecked,
    /// Computed, and nobody stated one.
    Computed,
}

/// What is known of a file's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verified {
    /// Nothing: no digest was computed.
    #[default]
    Unchecked,
    /// A digest differs.
    Mismatch,
    /// There is no digest to check.
    Undigested,
    /// They are what the file says of itself. Whoever can change the file can
    /// change that, too.
    Intact,
    /// They are what somebody else says of the file, with SHA-256.
    Pinned,
}

impl Verified {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Verified::Unchecked => "unchecked",
            Verified::Mismatch => "MISMATCH",
            Verified::Undigested => "undigested",
            Verified::Intact => "intact",
            Verified::Pinned => "pinned",
        }
    }
}

/// What is in an installer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunfileContent {
    /// Version of its manifest.
    pub version: Option<String>,
    /// Rows of its manifest.
    pub manifest_entries: Option<u64>,
    /// Names of the kernel modules.
    pub kernel_modules: Vec<String>,
    /// Types of kernel modules that it can build: `proprietary`, `open`.
    pub kernel_module_types: Option<Vec<String>>,
    /// GPUs of its list that it drives.
    pub supported_gpus: Option<u64>,
    /// GPUs of its list that it leaves to older drivers.
    pub legacy_gpus: Option<u64>,
    /// Installers in it.
    pub nested: Vec<NestedRunfile>,
}

/// An installer in an installer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NestedRunfile {
    /// Its path in the archive.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Version of the driver, as its name says.
    pub version: Option<String>,
    /// Flavour, as its name says.
    pub flavour: String,
    /// Architecture, as its name says.
    pub arch: Option<String>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Another name of a file.
    Hardlink,
    /// Anything else.
    Other,
}

impl EntryKind {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            EntryKind::File => "file",
            EntryKind::Dir => "dir",
            EntryKind::Symlink => "symlink",
            EntryKind::Hardlink => "hardlink",
            EntryKind::Other => "other",
        }
    }
}

/// One thing that an installer holds, or that its manifest wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunfileEntry {
    /// The installer.
    pub runfile: String,
    /// Path below the directory that it unpacks to.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of content.
    pub size: u64,
    /// Octal permissions with set-id and sticky bits.
    pub mode: String,
    /// Owner in the archive.
    pub uid: Option<u64>,
    /// Group in the archive.
    pub gid: Option<u64>,
    /// Seconds since 1970.
    pub mtime: Option<u64>,
    /// Where a link points.
    pub target: Option<String>,
    /// The archive holds it; a link that only the manifest knows is not packed.
    pub packed: bool,
    /// Its row of the driver's manifest.
    pub manifest: Option<ManifestRow>,
    /// Why extract would refuse it.
    pub problem: Option<String>,
}

/// One row of a driver's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestRow {
    /// NVIDIA's word for what it is: `CUDA_LIB`, `FIRMWARE`.
    pub kind: String,
    /// Octal permissions when installed.
    pub mode: String,
    /// `NATIVE` or `COMPAT32`.
    pub arch: Option<String>,
    /// Directory below the one that the type goes to.
    pub path: Option<String>,
    /// Part of the driver.
    pub module: Option<String>,
}
