//! POSIX cksum(1): CRC-32/CKSUM over the data and then over the data's length,
//! least significant byte first and without leading zeros. zlib's crc32 is a
//! different checksum.

use crc::{CRC_32_CKSUM, Crc, Digest, Table};

/// Sixteen tables: the bytes of a driver are taken at memory speed.
static CKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_CKSUM);

/// A checksum of bytes that come in parts.
#[derive(Clone)]
pub struct Cksum {
    crc: Digest<'static, u32, Table<16>>,
    length: u64,
}

impl Default for Cksum {
    fn default() -> Cksum {
        Cksum { crc: CKSUM.digest(), length: 0 }
    }
}

impl Cksum {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.crc.update(bytes);
    }

    /// The checksum, as `cksum` prints it.
    pub fn finish(mut self) -> u32 {
        let length = self.length.to_le_bytes();
        let significant = 8 - self.length.leading_zeros() as usize / 8;
        self.crc.update(&length[..significant]);
        self.crc.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cksum(bytes: &[u8]) -> u32 {
        let mut cksum = Cksum::default();
        cksum.update(bytes);
        cksum.finish()
    }

    #[test]
    fn values_are_those_of_cksum() {
        // printf '' | cksum; printf 123456789 | cksum; head -c 100000 /dev/zero | cksum
        assert_eq!(cksum(b""), 4_294_967_295);
        assert_eq!(cksum(b"123456789"), 930_766_865);
        assert_eq!(cksum(&[0; 100_000]), ZEROS);
    }

    const ZEROS: u32 = 1_260_869_142;

    #[test]
    fn it_does_not_matter_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n * n % 251) as u8).collect();
        let whole = cksum(&bytes);
        for size in [1, 3, 16, 17, 4096] {
            let mut parts = Cksum::default();
            bytes.chunks(size).for_each(|chunk| parts.update(chunk));
            assert_eq!(parts.finish(), whole, "{size}");
        }
    }
}
