//! How a payload is compressed. Only its first bytes decide: versions do not (a
//! repacked installer is gzip whatever the original was).

use std::io::{self, BufRead, Read};

/// Memory that a decoder may ask for: `xz -9` wants 65 MiB, nothing sane more.
const XZ_MEMORY: u64 = 256 << 20;
/// What the zstd program allows by default: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz, often without its own integrity check.
    Xz,
    /// zstd.
    Zstd,
    /// lz4.
    Lz4,
    /// Something else: encrypted, base64, lzop, or no archive at all.
    Unknown,
}

impl Compression {
    /// The word used in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
            Compression::Unknown => "unknown",
        }
    }

    fn magic(self) -> &'static [u8] {
        match self {
            Compression::Gzip => b"\x1f\x8b",
            Compression::Bzip2 => b"BZh",
            Compression::Xz => b"\xfd7zXZ\0",
            Compression::Zstd => b"\x28\xb5\x2f\xfd",
            Compression::Lz4 => b"\x04\x22\x4d\x18",
            Compression::None | Compression::Unknown => b"",
        }
    }

    /// The compression by the first 512 bytes.
    pub fn sniff(bytes: &[u8]) -> Compression {
        const KNOWN: [Compression; 5] = [
            Compression::Gzip,
            Compression::Bzip2,
            Compression::Xz,
            Compression::Zstd,
            Compression::Lz4,
        ];
        let known = KNOWN.into_iter().find(|kind| bytes.starts_with(kind.magic()));
        let tar = || bytes.get(..512).is_some_and(crate::tarball::is_header);
        known.unwrap_or_else(|| if tar() { Compression::None } else { Compression::Unknown })
    }

    /// Whether `bytes` begin another stream of this kind, which belongs to the
    /// one before (parallel compressors write many).
    pub(crate) fn continues_with(self, bytes: &[u8]) -> bool {
        !self.magic().is_empty() && bytes.starts_with(self.magic())
    }

    /// A decoder of one stream; it takes no byte that follows it.
    pub(crate) fn decoder<'a, R: BufRead>(
        self,
        input: &'a mut R,
    ) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(input)),
            Compression::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(input)),
            Compression::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input)),
            Compression::Unknown => {
                return Err(io::Error::other("its compression is not known"));
            }
        })
    }
}
