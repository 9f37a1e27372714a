//! The `.modinfo` section of a kernel module's file, which may be compressed.
//! modinfo(8) is not run.

use std::io::{self, Read};

use host::Machine;
use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};

/// Bytes of a module file; nvidia.ko with symbols has about 100 MB.
const MOST_FILE: usize = 512 << 20;
/// Bytes of a decompressed module file.
const MOST_UNPACKED: u64 = 1 << 30;
/// Bytes of memory that a decompressor may use; kernels' own decoders allow far less.
const MOST_MEMORY: u64 = 256 << 20;

/// The fields of `.modinfo` that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModInfo {
    /// `version=550.163.01`
    pub version: Option<String>,
    /// `license=NVIDIA`, or `Dual MIT/GPL` of the open modules.
    pub license: Option<String>,
    /// `vermagic=6.14.11-4-pve SMP preempt mod_unload modversions`: the kernel
    /// that it was built for is the first word.
    pub vermagic: Option<String>,
    /// A signature follows the module (module_signature.h).
    #[serde(default)]
    pub signed: bool,
}

impl ModInfo {
    /// Whether it is an open kernel module; `None`: its licence is unknown.
    pub fn is_open(&self) -> Option<bool> {
        self.license.as_deref().map(|license| license.contains("MIT"))
    }

    /// Release of the kernel that it was built for.
    pub fn built_for(&self) -> Option<&str> {
        self.vermagic.as_deref()?.split_ascii_whitespace().next()
    }
}

/// Reads it from a `.ko`, `.ko.xz`, `.ko.zst` or `.ko.gz`; the content decides,
/// not the name. Errors: the file cannot be read or is not a module.
pub fn read(machine: &Machine, path: &str) -> Result<ModInfo, String> {
    let bytes = machine.read(path, MOST_FILE).map_err(|error| error.to_string())?;
    of_bytes(&bytes).map_err(|why| format!("'{path}' {why}"))
}

/// Reads it from the content of such a file.
pub fn of_bytes(bytes: &[u8]) -> Result<ModInfo, String> {
    let unpacked = match bytes {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::stream::read::Decoder::new(bytes).and_then(take),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            liblzma::stream::Stream::new_stream_decoder(MOST_MEMORY, 0)
                .map_err(io::Error::other)
                .and_then(|stream| take(liblzma::read::XzDecoder::new_stream(bytes, stream)))
        }
        [0x1f, 0x8b, ..] => take(flate2::read::MultiGzDecoder::new(bytes)),
        _ => return of_module(bytes),
    };
    of_module(&unpacked.map_err(|error| format!("cannot be decompressed: {error}"))?)
}

/// The last bytes of a module with a signature.
const SIGNED: &[u8] = b"~Module signature appended~\n";

fn of_module(bytes: &[u8]) -> Result<ModInfo, String> {
    let info = parse(&section(bytes)?);
    Ok(ModInfo { signed: bytes.ends_with(SIGNED), ..info })
}

fn take(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MOST_UNPACKED + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_UNPACKED {
        return Err(io::Error::other(format!("more than {MOST_UNPACKED} bytes")));
    }
    Ok(bytes)
}

fn section(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let file = object::File::parse(bytes).map_err(|_| "is not a kernel module".to_string())?;
    let section = file.section_by_name(".modinfo").ok_or("has no .modinfo")?;
    section.data().map(<[u8]>::to_vec).map_err(|_| "has a damaged .modinfo".to_string())
}

/// `key=value` strings, each ended by a zero byte; of a repeated key the first
/// counts.
fn parse(section: &[u8]) -> ModInfo {
    let field = |key: &str| {
        section.split(|b| *b == 0).find_map(|entry| {
            let value = entry.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).trim().to_string())
        })
    };
    ModInfo {
        version: field("version"),
        license: field("license"),
        vermagic: field("vermagic"),
        signed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn garbage_in_any_wrapping_is_an_error_and_no_panic() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"no module").unwrap();
        let gzip = gzip.finish().unwrap();
        let zst = zstd::stream::encode_all(&b"no module"[..], 1).unwrap();
        for bytes in [&b""[..], b"\x7fELF", &gzip, &zst, &gzip[..12], &zst[..6], b"\xfd7zXZ\0"] {
            assert!(of_bytes(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_first_of_a_key_counts() {
        let info = parse(b"version=550.163.01\0license=NVIDIA\0versionx=1\0version=2\0alias=x\0");
        assert_eq!(info.version.as_deref(), Some("550.163.01"));
        assert_eq!((info.is_open(), info.vermagic), (Some(false), None));
        assert_eq!(parse(b"license=Dual MIT/GPL").is_open(), Some(true));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = of_bytes(&bytes);
            let _ = parse(&bytes);
        }
    }
}
